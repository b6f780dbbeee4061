#include "launch.h"
#include "asan.h"
#include "counts.h"
#include "runtime.h"
#include <cstdio>
#include <cstring>
#include <map>

namespace emu {

enum { SHARED_DEFAULT = 48 << 10, SHARED_MOST = 227 << 10 };

static std::map<const void *, int> dynamic_limits; // cudaFuncAttributeMaxDynamicSharedMemorySize

static bool wrong(const char *name, dim3 g, dim3 b, size_t bytes, cudaError_t e, const char *why) {
  fprintf(stderr, "emu: %s<<<(%u,%u,%u),(%u,%u,%u),%zu>>>: %s\n", name, g.x, g.y, g.z, b.x, b.y, b.z, bytes, why);
  fail(e);
  return false;
}

// EMU_THREADS: a thread costs about 20 ns here, so that a test with large launches has the wrong size.
static void check_size(const char *name, dim3 g, dim3 b) {
  static const unsigned long long most = env("EMU_THREADS", 0);
  double threads = (double)g.x * g.y * g.z * b.x * b.y * b.z;
  if (most && threads > (double)most) {
    kernel = name;
    die("a launch of %.0f threads, at most %llu are wanted (EMU_THREADS)", threads, most);
  }
}

bool begin_launch(Stream *s, const char *name, const void *k, dim3 g, dim3 b, size_t bytes) {
  if (sticky)
    return false;
  counts[LAUNCHES]++;
  if (due(FAIL_LAUNCH)) {
    if (sticky_launch)
      sticky = cudaErrorLaunchFailure;
    fail(cudaErrorLaunchFailure);
    return false;
  }
  if (s->device != current_device)
    return wrong(name, g, b, bytes, cudaErrorInvalidResourceHandle, "the stream belongs to another device");
  if (!g.x || !g.y || !g.z || !b.x || !b.y || !b.z)
    return wrong(name, g, b, bytes, cudaErrorInvalidConfiguration, "an empty grid or block");
  if (b.x > 1024 || b.y > 1024 || b.z > 64 || (uint64_t)b.x * b.y * b.z > 1024)
    return wrong(name, g, b, bytes, cudaErrorInvalidConfiguration, "too many threads");
  if (g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
    return wrong(name, g, b, bytes, cudaErrorInvalidConfiguration, "too many blocks");
  auto limit = dynamic_limits.find(k);
  if (bytes > (size_t)(limit == dynamic_limits.end() ? (int)SHARED_DEFAULT : limit->second))
    return wrong(name, g, b, bytes, cudaErrorInvalidValue,
                 "more dynamic shared memory than cudaFuncSetAttribute allowed");
  check_size(name, g, b);
  return true;
}

uint64_t check_pointer(const char *name, int on, const void *p, bool launching) {
  if (!p)
    return 0;
  const Block *b = block_of(p);
  // one past the end is a pointer too: of an empty tensor behind another one
  if (!b)
    b = block_of((const char *)p - 1);
  kernel = name;
  if (!b)
    die("an argument, %p, is not a device pointer, or its block was freed", p);
  if (launching && b->leaving)
    die("an argument, %p, lies in a block that was freed before the launch", p);
  if (b->device != on)
    die("an argument, %p, lies on device %d, the stream on device %d", p, b->device, on);
  return b->serial;
}

void check_words(const char *name, const void *p, size_t bytes) {
  static const bool wanted = env("EMU_ARGS", 0);
  for (size_t i = 0; wanted && i + sizeof(void *) <= bytes; i += sizeof(void *)) {
    void *word;
    memcpy(&word, (const char *)p + i, sizeof word);
    bool heap = false;
    EMU_ASAN(heap = !on_device(word) && !pinned(word) && __sanitizer_get_ownership(word));
    char *here = (char *)__builtin_frame_address(0);
    if (heap || ((char *)word > here && (char *)word < here + (1 << 20))) {
      kernel = name;
      die("byte %zu of a structure, %p, points to memory of the host", i, word);
    }
  }
}

cudaError_t set_dynamic_limit(const void *k, int attribute, int value) {
  Call call;
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value < 0 || value > SHARED_MOST)
      return fail(cudaErrorInvalidValue, "more dynamic shared memory than a block can have");
    dynamic_limits[k] = value;
  }
  return call.error;
}

cudaError_t occupancy(int *blocks, const void *, int threads, size_t bytes) {
  Call call;
  if (threads <= 0 || threads > 1024 || bytes > SHARED_MOST)
    return fail(cudaErrorInvalidValue);
  int by_threads = 2048 / threads, by_shared = (int)((SHARED_MOST + 1024) / (bytes + 1024));
  *blocks = by_threads < by_shared ? by_threads : by_shared;
  return call.error;
}

} // namespace emu
