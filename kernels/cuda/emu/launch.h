// LAUNCH, SHARED and SHARED_DYN as the emulation means them.
#pragma once
#include "fiber.h"
#include "stream.h"
#include <array>
#include <tuple>
#include <type_traits>

#define LAUNCH(kernel, grid, block, bytes, stream, ...) \
  emu::launch(stream, #kernel, kernel, grid, block, bytes, __VA_ARGS__)
#define SHARED(type, name, dims) \
  typedef type name##_type dims; \
  static emu::Slot name##_slot;  \
  name##_type &name = *(name##_type *)emu::shared(name##_slot, sizeof(name##_type), alignof(name##_type))
#define SHARED_DYN(type, name) type *name = (type *)emu::dynamic_shared

#pragma GCC visibility push(hidden)

namespace emu {

// Checks a launch and counts it; where it must not go on the error is the last one. EMU_THREADS=n ends the program at a
// launch of more threads.
bool begin_launch(Stream *s, const char *name, const void *kernel, dim3 grid, dim3 block, size_t bytes);
// A pointer handed to a kernel, when it is launched and when it runs (a graph may run long after). Returns the number of
// its block.
uint64_t check_pointer(const char *name, int device, const void *p, bool launching);
// Words of a structure handed to a kernel: EMU_ARGS=1 reports those that point into the host's heap or stack.
void check_words(const char *name, const void *p, size_t bytes);

template <class T> uint64_t check_argument(const char *name, int device, const T &v, bool launching) {
  if constexpr (std::is_pointer_v<T>)
    return check_pointer(name, device, (const void *)v, launching);
  else if constexpr (std::is_class_v<T>)
    return launching ? (check_words(name, &v, sizeof v), 0) : 0;
  else
    return 0;
}

template <class... P, class... A>
void launch(Stream *stream, const char *name, void (*k)(P...), dim3 grid, dim3 block, size_t bytes, A... a) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "parameters of a kernel are copied as bytes");
  static_assert(sizeof...(P) == sizeof...(A), "a kernel has no default arguments");
  Call call;
  Stream *s = stream_of(stream);
  if (!begin_launch(s, name, (const void *)k, grid, block, bytes))
    return;
  // by value at launch time, as the hardware takes them
  std::tuple<P...> args(static_cast<P>(a)...);
  int device = s->device;
  auto check = [=](bool launching) {
    return std::apply(
        [&](const P &...p) {
          return std::array<uint64_t, sizeof...(P)>{check_argument(name, device, p, launching)...};
        },
        args);
  };
  auto blocks = check(true);
  cudaError_t e = enqueue(s, [=] {
    kernel = name;
    if (check(false) != blocks)
      die("the block of an argument was freed, and its memory given to another, since the launch was recorded");
    auto body = [&] { std::apply(k, args); };
    run_grid(
        grid, block, bytes, [](const void *f) { (*(decltype(body) *)f)(); }, &body);
    kernel = "";
  });
  if (e)
    fail(e);
}

} // namespace emu

#pragma GCC visibility pop
