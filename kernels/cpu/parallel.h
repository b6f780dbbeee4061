/* How CPU rows use threads and wide vectors.
**
** Work is cut into pieces by shape alone, and each piece writes its own outputs or its own partial result; partial
** results are added in the order of the pieces. So the number of threads never changes a result.
**
**   ms_parallel_for(i, n, cost) body;     iterations 0..n of about `cost` elements each; serial when that is little
**
** The body of a parallel loop calls a static function marked MS_HOT: gcc compiles those for AVX-512, AVX2 and plain
** x86-64 and picks at load time. Floating-point contraction is off, so that all three give the same bits. */
#ifndef MS_PARALLEL_H
#define MS_PARALLEL_H

#include "../kernels.h"

/* Levels, not processor names: gcc takes arch=haswell to mean that one processor, and a newer one would get "default".
** Under a sanitizer the resolver would run before the sanitizer's own start. */
#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(MS_NO_CLONES)
#define MS_HOT __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MS_HOT
#endif

/* Micro kernels have one body for each level and are chosen through a pointer by ms_cpu_isa() when a row starts. */
typedef enum ms_isa { MS_ISA_BASE, MS_ISA_AVX2, MS_ISA_AVX512 } ms_isa;

#if defined(__x86_64__) && !defined(MS_NO_CLONES)
#define MS_ISA_LEVELS 1 /* the two below exist */
#define MS_TARGET_AVX2 __attribute__((target("avx2,fma,bmi,bmi2,popcnt")))
#define MS_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi,bmi2,popcnt")))
#endif

/* The highest level that this machine has, unless forced. Forcing takes "base", "avx2", "avx512", or NULL for as
** usual; MS_EINVAL when the name is unknown or the machine lacks the level. Not while rows run. */
ms_isa ms_cpu_isa(void);
ms_status ms_cpu_isa_force(const char *name);

/* -O2 of gcc vectorises little by itself. */
#define MS_PRAGMA(text) _Pragma(#text)
#define MS_SIMD _Pragma("omp simd")
#define MS_SIMD_SUM(sum) MS_PRAGMA(omp simd reduction(+ : sum))
#define MS_SIMD_SUMS(a, b) MS_PRAGMA(omp simd reduction(+ : a, b))

/* Below this many elements starting threads costs more than it saves. */
#define MS_PARALLEL_MIN 32768

#define MS_WORTH(n, cost) ((n) > 1 && (n) * (cost) >= MS_PARALLEL_MIN)

#define ms_parallel_for(i, n, cost)                                                                 \
  MS_PRAGMA(omp parallel for schedule(static) num_threads(ms_cpu_threads()) if (MS_WORTH(n, cost))) \
  for (int64_t i = 0; i < (n); i++)

/* Threads that rows use: at first what OpenMP would take (OMP_NUM_THREADS, else all cores). n below 1 restores that. */
int ms_cpu_threads(void);
void ms_cpu_set_threads(int n);

/* At least `bytes` of 64-byte aligned memory of the calling thread, in one of four slots; contents are lost by the
** next call for the same slot. NULL when out of memory. Freed when the thread ends. Slot 0 belongs to rows, slots 1
** to 3 to what rows call. */
void *ms_cpu_scratch(int slot, size_t bytes);

static inline int64_t ms_ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
static inline int64_t ms_min64(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t ms_max64(int64_t a, int64_t b) {
  return a > b ? a : b;
}

#endif
