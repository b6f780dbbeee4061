// Built-in functions of device code. Approximate intrinsics are missing on purpose, and so are atomics on floats, whose
// order would decide the sum.
#pragma once
#include "fiber.h"
#include <cmath>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define warpSize 32

#pragma GCC visibility push(hidden)

// ---- barriers and warps: the line tells barriers apart, see fiber.h ----

inline void __syncthreads(int line = __builtin_LINE()) {
  emu::block_wait(line);
}
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
  emu::warp_wait(mask, line);
}

namespace emu {

int count_block(int predicate, int line);

template <class T> T shuffle(unsigned mask, T v, int source, int line) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a shuffle moves at most 8 bytes");
  uint64_t word = 0, *lanes = warp_lanes();
  memcpy(&word, &v, sizeof v);
  lanes[lane_index % 32] = word;
  warp_wait(mask, line);
  // a lane that does not exist gives an undefined value: NaN, or an index far outside
  word = source < warp_threads() ? lanes[source] : ~0ull;
  warp_wait(mask, -line);
  memcpy(&v, &word, sizeof v);
  return v;
}

inline unsigned ballot(unsigned mask, bool predicate, int line) {
  uint64_t *lanes = warp_lanes();
  lanes[lane_index % 32] = predicate;
  warp_wait(mask, line);
  unsigned bits = 0;
  for (int i = 0; i < warp_threads(); i++)
    bits |= (unsigned)lanes[i] << i;
  warp_wait(mask, -line);
  return bits;
}

// The first lane of the running one's group of `width`.
inline int group(int width) {
  if (width < 1 || width > 32 || (width & (width - 1)))
    die("a shuffle of width %d", width);
  return lane_index % 32 & -width;
}

} // namespace emu

template <class T> T __shfl_sync(unsigned mask, T v, int lane, int width = 32, int line = __builtin_LINE()) {
  return emu::shuffle(mask, v, emu::group(width) + (lane & (width - 1)), line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, int line = __builtin_LINE()) {
  int own = emu::lane_index % 32, from = own ^ bits;
  return emu::shuffle(mask, v, from < emu::group(width) + width ? from : own, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, int line = __builtin_LINE()) {
  int own = emu::lane_index % 32, from = own + (int)by;
  return emu::shuffle(mask, v, from < emu::group(width) + width ? from : own, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, int line = __builtin_LINE()) {
  int own = emu::lane_index % 32, from = own - (int)by;
  return emu::shuffle(mask, v, from >= emu::group(width) ? from : own, line);
}
inline unsigned __ballot_sync(unsigned mask, int p, int line = __builtin_LINE()) {
  return emu::ballot(mask, p, line);
}
inline int __any_sync(unsigned mask, int p, int line = __builtin_LINE()) {
  return emu::ballot(mask, p, line) != 0;
}
inline int __all_sync(unsigned mask, int p, int line = __builtin_LINE()) {
  return emu::ballot(mask, !p, line) == 0;
}
inline int __syncthreads_count(int p, int line = __builtin_LINE()) {
  return emu::count_block(p != 0, line);
}
inline int __syncthreads_or(int p, int line = __builtin_LINE()) {
  return emu::count_block(p != 0, line) != 0;
}
inline int __syncthreads_and(int p, int line = __builtin_LINE()) {
  return emu::count_block(p == 0, line) == 0;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- atomics ----

namespace emu {

template <class T>
using Integer = std::enable_if_t<std::is_same_v<T, int> || std::is_same_v<T, unsigned> ||
                                     std::is_same_v<T, unsigned long long> || std::is_same_v<T, long long>,
                                 T>;
template <class T> struct Same {
  typedef T type; // keeps a second argument from taking part in deduction
};

template <class T, class F> T update(T *p, F f) {
  T old = *p;
  *p = f(old);
  return old;
}

} // namespace emu

#define EMU_ATOMIC(name, value)                                                  \
  template <class T> emu::Integer<T> name(T *p, typename emu::Same<T>::type v) { \
    return emu::update(p, [=](T old) { return (T)(value); });                    \
  }
EMU_ATOMIC(atomicAdd, (std::make_unsigned_t<T>)old + (std::make_unsigned_t<T>)v)
EMU_ATOMIC(atomicSub, (std::make_unsigned_t<T>)old - (std::make_unsigned_t<T>)v)
EMU_ATOMIC(atomicMax, old > v ? old : v)
EMU_ATOMIC(atomicMin, old < v ? old : v)
EMU_ATOMIC(atomicOr, old | v)
EMU_ATOMIC(atomicAnd, old &v)
EMU_ATOMIC(atomicXor, old ^ v)
#undef EMU_ATOMIC
template <class T> emu::Integer<T> atomicExch(T *p, typename emu::Same<T>::type v) {
  return emu::update(p, [=](T) { return v; });
}
template <class T> emu::Integer<T> atomicCAS(T *p, typename emu::Same<T>::type want, typename emu::Same<T>::type v) {
  return emu::update(p, [=](T old) { return old == want ? v : old; });
}
template <class T, class V> std::enable_if_t<std::is_floating_point_v<T>, T> atomicAdd(T *, V) = delete;

// ---- memory and bits ----

template <class T> T __ldg(const T *p) {
  return *p;
}
template <class T> T __ldcs(const T *p) {
  return *p;
}
template <class T> T __ldcg(const T *p) {
  return *p;
}
template <class T> void __stcs(T *p, typename emu::Same<T>::type v) {
  *p = v;
}
template <class T> void __stcg(T *p, typename emu::Same<T>::type v) {
  *p = v;
}

inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x) {
  return __builtin_popcountll(x);
}
inline int __clz(int x) {
  return x ? __builtin_clz((unsigned)x) : 32;
}
inline int __clzll(long long x) {
  return x ? __builtin_clzll((unsigned long long)x) : 64;
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __ffsll(long long x) {
  return __builtin_ffsll(x);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)((uint64_t)a * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ typedef unsigned __int128 wide;
  return (unsigned long long)((wide)a * b >> 64);
}
inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++)
    r |= (x >> i & 1) << (31 - i);
  return r;
}
// byte i of the result is byte (selector >> 4 i & 7) of b:a; the sign-replicating forms are not used
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  uint64_t both = (uint64_t)b << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; i++)
    r |= (unsigned)(both >> ((selector >> (4 * i) & 7) * 8) & 0xff) << (8 * i);
  return r;
}

namespace emu {
template <class To, class From> To bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "");
  To r;
  memcpy(&r, &v, sizeof r);
  return r;
}
} // namespace emu

inline int __float_as_int(float x) {
  return emu::bits<int>(x);
}
inline unsigned __float_as_uint(float x) {
  return emu::bits<unsigned>(x);
}
inline float __int_as_float(int x) {
  return emu::bits<float>(x);
}
inline float __uint_as_float(unsigned x) {
  return emu::bits<float>(x);
}
inline long long __double_as_longlong(double x) {
  return emu::bits<long long>(x);
}
inline double __longlong_as_double(long long x) {
  return emu::bits<double>(x);
}

// ---- arithmetic: only what is correctly rounded on a GPU too ----

inline float __fmaf_rn(float a, float b, float c) {
  return fmaf(a, b, c);
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  return a - b;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __frcp_rn(float a) {
  return 1.0f / a;
}
inline float __fsqrt_rn(float a) {
  return sqrtf(a);
}
inline int __float2int_rn(float x) {
  return (int)rintf(x);
}
inline int __float2int_rz(float x) {
  return (int)x;
}
inline float rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}
inline double rsqrt(double x) {
  return 1.0 / sqrt(x);
}

// As in CUDA a NaN loses against a number, and mixed integers take the unsigned type.
template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
  typedef std::common_type_t<A, B> T;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmin((T)a, (T)b);
  else
    return (T)b < (T)a ? (T)b : (T)a;
}
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
  typedef std::common_type_t<A, B> T;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmax((T)a, (T)b);
  else
    return (T)a < (T)b ? (T)b : (T)a;
}

#pragma GCC visibility pop
