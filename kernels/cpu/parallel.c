#include "parallel.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

static int wanted_threads;

int ms_cpu_threads(void) {
#ifdef _OPENMP
  return wanted_threads > 0 ? wanted_threads : omp_get_max_threads();
#else
  return 1;
#endif
}

void ms_cpu_set_threads(int n) {
  wanted_threads = n > 0 ? n : 0;
}

static int forced_isa = -1;

static ms_isa best_isa(void) {
#ifdef MS_ISA_LEVELS
  int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
             __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
    return MS_ISA_AVX512;
  if (avx2)
    return MS_ISA_AVX2;
#endif
  return MS_ISA_BASE;
}

ms_isa ms_cpu_isa(void) {
  return forced_isa < 0 ? best_isa() : (ms_isa)forced_isa;
}

ms_status ms_cpu_isa_force(const char *name) {
  static const char *const names[] = {"base", "avx2", "avx512"};
  int found = -1;
  for (int i = 0; name && i <= (int)best_isa(); i++)
    if (strcmp(name, names[i]) == 0)
      found = i;
  if (name && found < 0)
    return MS_EINVAL;
  forced_isa = found;
  return MS_OK;
}

enum { SLOTS = 4 };

typedef struct scratch {
  void *p[SLOTS];
  size_t size[SLOTS];
} scratch;

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static int scratch_ready;
static _Thread_local scratch *own_scratch;

static void scratch_free(void *p) {
  scratch *s = p;
  for (int i = 0; i < SLOTS; i++)
    free(s->p[i]);
  free(s);
}

static void scratch_start(void) {
  scratch_ready = pthread_key_create(&scratch_key, scratch_free) == 0;
}

static scratch *scratch_own(void) {
  if (own_scratch)
    return own_scratch;
  pthread_once(&scratch_once, scratch_start);
  scratch *s = scratch_ready ? calloc(1, sizeof *s) : NULL;
  if (s && pthread_setspecific(scratch_key, s) != 0) {
    free(s);
    s = NULL;
  }
  return own_scratch = s;
}

void *ms_cpu_scratch(int slot, size_t bytes) {
  scratch *s = scratch_own();
  if (!s)
    return NULL;
  if (s->size[slot] < bytes || !s->p[slot]) {
    size_t size = (bytes + bytes / 4 + 4096) / 4096 * 4096;
    void *p = size > bytes ? aligned_alloc(64, size) : NULL;
    if (!p)
      return NULL;
    free(s->p[slot]);
    s->p[slot] = p;
    s->size[slot] = size;
  }
  return s->p[slot];
}
