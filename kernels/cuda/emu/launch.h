// LAUNCH, SHARED and SHARED_DYN as the emulation means them.
#pragma once
#include "fiber.h"
#include "stream.h"
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

// Checks a launch and counts it; where it must not go on the error is the last one.
bool begin_launch(Stream *s, const char *name, const void *kernel, dim3 grid, dim3 block, size_t bytes);
// A pointer handed to a kernel, when it is launched and when it runs.
void check_pointer(const char *name, int device, const void *p);

template <class T> void check_argument(const char *name, int device, const T &v) {
  if constexpr (std::is_pointer_v<T>)
    check_pointer(name, device, (const void *)v);
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
  auto check = [=] { std::apply([&](const P &...p) { (check_argument(name, device, p), ...); }, args); };
  check();
  cudaError_t e = enqueue(s, [=] {
    kernel = name;
    check();
    auto body = [&] { std::apply(k, args); };
    run_grid(
        grid, block, bytes, [](const void *f) { (*(decltype(body) *)f)(); }, &body);
  });
  if (e)
    fail(e);
}

} // namespace emu

#pragma GCC visibility pop
