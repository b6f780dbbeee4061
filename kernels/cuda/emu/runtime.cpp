#include "runtime.h"
#include "counts.h"
#include "fiber.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>

using namespace emu;

// ---- errors ----

const char *cudaGetErrorName(cudaError_t e) {
  switch (e) {
#define EMU_ERROR(name, value) \
  case name:                   \
    return #name;
    EMU_ERRORS(EMU_ERROR)
#undef EMU_ERROR
  }
  return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t e) {
  switch (e) {
  case cudaSuccess:
    return "no error";
  case cudaErrorMemoryAllocation:
    return "out of memory";
  case cudaErrorInvalidValue:
    return "invalid argument";
  case cudaErrorLaunchFailure:
    return "unspecified launch failure";
  default:
    return cudaGetErrorName(e);
  }
}

cudaError_t cudaGetLastError() {
  Call call;
  cudaError_t e = call.error ? call.error : last;
  last = cudaSuccess;
  return e;
}

cudaError_t cudaPeekAtLastError() {
  Call call;
  return call.error ? call.error : last;
}

// ---- devices ----

static bool no_device(int i) {
  return i < 0 || i >= device_count();
}

cudaError_t cudaGetDeviceCount(int *n) {
  *n = device_count();
  return *n ? cudaSuccess : fail(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int i) {
  Call call;
  if (no_device(i))
    return fail(cudaErrorInvalidDevice);
  current_device = i;
  return call.error;
}

cudaError_t cudaGetDevice(int *i) {
  *i = current_device;
  return Call().error;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int i) {
  Call call;
  if (no_device(i))
    return fail(cudaErrorInvalidDevice);
  *p = {};
  strcpy(p->name, "emulated device");
  p->totalGlobalMem = device(i).limit;
  p->sharedMemPerBlock = 48 << 10;
  p->sharedMemPerBlockOptin = 227 << 10;
  p->sharedMemPerMultiprocessor = 228 << 10;
  p->major = 9;
  p->multiProcessorCount = 4;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  p->l2CacheSize = 1 << 20;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 0x7fffffff;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  return call.error;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int i) {
  cudaDeviceProp p;
  if (cudaError_t e = cudaGetDeviceProperties(&p, i))
    return e;
  switch (attribute) {
  case cudaDevAttrMaxThreadsPerBlock:
    return *value = p.maxThreadsPerBlock, cudaSuccess;
  case cudaDevAttrMaxGridDimX:
    return *value = p.maxGridSize[0], cudaSuccess;
  case cudaDevAttrMaxGridDimY:
    return *value = p.maxGridSize[1], cudaSuccess;
  case cudaDevAttrMaxSharedMemoryPerBlock:
    return *value = (int)p.sharedMemPerBlock, cudaSuccess;
  case cudaDevAttrWarpSize:
    return *value = p.warpSize, cudaSuccess;
  case cudaDevAttrMultiProcessorCount:
    return *value = p.multiProcessorCount, cudaSuccess;
  case cudaDevAttrL2CacheSize:
    return *value = p.l2CacheSize, cudaSuccess;
  case cudaDevAttrMaxThreadsPerMultiProcessor:
    return *value = p.maxThreadsPerMultiProcessor, cudaSuccess;
  case cudaDevAttrComputeCapabilityMajor:
    return *value = p.major, cudaSuccess;
  case cudaDevAttrComputeCapabilityMinor:
    return *value = p.minor, cudaSuccess;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
    return *value = (int)p.sharedMemPerMultiprocessor, cudaSuccess;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    return *value = (int)p.sharedMemPerBlockOptin, cudaSuccess;
  case cudaDevAttrMemoryPoolsSupported:
    return *value = 1, cudaSuccess;
  }
  return fail(cudaErrorInvalidValue);
}

cudaError_t cudaDriverGetVersion(int *version) {
  return *version = CUDART_VERSION, cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  return *version = CUDART_VERSION, cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  Call call;
  const Device &d = device(current_device);
  *total = d.limit;
  *free = d.limit - std::min(d.limit, d.plain + d.pool.reserved);
  return call.error;
}

// ---- pools ----

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int i) {
  Call call;
  if (no_device(i))
    return fail(cudaErrorInvalidDevice);
  *pool = &device(i).pool;
  return call.error;
}

cudaError_t cudaDeviceGetMemPool(cudaMemPool_t *pool, int i) {
  return cudaDeviceGetDefaultMemPool(pool, i);
}

static uint64_t *pool_value(cudaMemPool_t pool, cudaMemPoolAttr attribute) {
  static_assert(sizeof(size_t) == sizeof(uint64_t), "");
  switch (attribute) {
  case cudaMemPoolAttrReleaseThreshold:
    return &pool->threshold;
  case cudaMemPoolAttrReservedMemCurrent:
    return &pool->reserved;
  case cudaMemPoolAttrReservedMemHigh:
    return &pool->reserved_high;
  case cudaMemPoolAttrUsedMemCurrent:
    return &pool->used;
  case cudaMemPoolAttrUsedMemHigh:
    return &pool->used_high;
  default:
    return nullptr;
  }
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value) {
  Call call;
  switch (attribute) {
  case cudaMemPoolAttrReleaseThreshold:
    pool->threshold = *(uint64_t *)value;
    return call.error;
  case cudaMemPoolAttrReservedMemHigh:
  case cudaMemPoolAttrUsedMemHigh:
    if (*(uint64_t *)value != 0)
      return fail(cudaErrorInvalidValue, "a high-water mark of a pool can only be set to 0");
    *pool_value(pool, attribute) =
        attribute == cudaMemPoolAttrUsedMemHigh ? pool->used : pool->reserved; // it starts from what there is
    return call.error;
  case cudaMemPoolReuseFollowEventDependencies:
  case cudaMemPoolReuseAllowOpportunistic:
  case cudaMemPoolReuseAllowInternalDependencies:
    return call.error;
  default:
    return fail(cudaErrorInvalidValue);
  }
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value) {
  Call call;
  const uint64_t *p = pool_value(pool, attribute);
  if (!p)
    return fail(cudaErrorInvalidValue);
  *(uint64_t *)value = *p;
  return call.error;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t keep) {
  Call call;
  for (int i = 0; i < device_count(); i++)
    if (pool == &device(i).pool)
      give_back(device(i), keep);
  return call.error;
}

// ---- memory ----

cudaError_t cudaMalloc(void **p, size_t n) {
  Call call;
  *p = nullptr;
  if (call.error || !n)
    return call.error;
  if (device_count() == 0)
    return fail(cudaErrorNoDevice);
  if (cudaError_t e = not_capturing("allocation while a stream captures"))
    return e;
  counts[ALLOCS]++;
  cudaError_t e = due(FAIL_ALLOC) ? cudaErrorMemoryAllocation : take(p, n, current_device, false, true);
  return e ? fail(e) : e;
}

cudaError_t cudaMallocAsync(void **p, size_t n, cudaStream_t s) {
  Call call;
  *p = nullptr;
  if (call.error || !n)
    return call.error;
  if (cudaError_t e = not_capturing("allocation while a stream captures"))
    return e;
  counts[ALLOCS]++;
  if (due(FAIL_ALLOC))
    return fail(cudaErrorMemoryAllocation);
  s = stream_of(s);
  cudaError_t e = take(p, n, s->device, true, false);
  if (e) {
    // blocks whose free is still in a queue are memory all the same: the device waits for its streams
    drain_all();
    e = take(p, n, s->device, true, false);
  }
  if (e)
    return fail(e);
  void *block = *p;
  return enqueue(s, [=] { make_live(block); });
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t s) {
  Call call;
  if (!p)
    return call.error;
  if (cudaError_t e = not_capturing("free while a stream captures: a replay would use the block"))
    return e;
  leave(p);
  return enqueue(s, [=] { release(p); });
}

cudaError_t cudaFree(void *p) {
  Call call;
  if (!p)
    return call.error; // the usual way to make the runtime start
  if (cudaError_t e = not_capturing("free while a stream captures"))
    return e;
  drain_all();
  counts[SYNCS]++;
  leave(p);
  release(p);
  return call.error;
}

static std::set<const void *> pinned_blocks;

namespace emu {
bool pinned(const void *p) {
  return pinned_blocks.count(p);
}
} // namespace emu

cudaError_t cudaHostAlloc(void **p, size_t n, unsigned) {
  Call call;
  *p = nullptr;
  if (call.error || !n)
    return call.error;
  if (cudaError_t e = not_capturing("allocation of pinned memory while a stream captures"))
    return e;
  if (due(FAIL_ALLOC_HOST) || posix_memalign(p, 64, n))
    return *p = nullptr, fail(cudaErrorMemoryAllocation);
  pinned_blocks.insert(*p);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t n) {
  return cudaHostAlloc(p, n, 0);
}

cudaError_t cudaFreeHost(void *p) {
  Call call;
  if (!p)
    return call.error;
  if (cudaError_t e = not_capturing("free of pinned memory while a stream captures"))
    return e;
  if (on_device(p))
    die("cudaFreeHost of device memory");
  drain_all();
  pinned_blocks.erase(p);
  free(p);
  return call.error;
}

cudaError_t cudaDeviceReset() {
  return cudaDeviceSynchronize();
}

// ---- copies ----

// A range must lie inside one device block, or outside all.
static bool wrong_side(const void *p, size_t n, bool device_side) {
  const Block *b = block_of(p, n);
  return device_side ? !b || b->leaving : on_device(p) || (n && on_device((const char *)p + n - 1));
}

static cudaError_t check_copy(const void *to, const void *from, size_t n, cudaMemcpyKind kind) {
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault) {
    to_device = on_device(to);
    from_device = on_device(from);
  }
  if (wrong_side(to, n, to_device) || wrong_side(from, n, from_device))
    return fail(cudaErrorInvalidValue, "copy: an address is on the wrong side, or the range leaves its block");
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t s) {
  Call call;
  if (call.error || !n)
    return call.error;
  if (cudaError_t e = check_copy(to, from, n, kind))
    return e;
  counts[COPIES]++;
  return enqueue(s, [=] { memmove(to, from, n); });
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t n, cudaStream_t s) {
  Call call;
  const Block *t = block_of(to, n), *f = block_of(from, n);
  if (n && (!t || !f || t->device != to_device || f->device != from_device))
    return fail(cudaErrorInvalidValue, "peer copy: a range is not on the device that was named");
  return cudaMemcpyAsync(to, from, n, cudaMemcpyDeviceToDevice, s);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind) {
  Call call;
  if (cudaError_t e = not_capturing("blocking copy while a stream captures"))
    return e;
  counts[SYNCS]++;
  cudaError_t e = cudaMemcpyAsync(to, from, n, kind, nullptr);
  drain(stream_of(nullptr));
  return e;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t s) {
  Call call;
  if (call.error || !width || !height)
    return call.error;
  if (to_pitch < width || from_pitch < width)
    return fail(cudaErrorInvalidValue, "copy: a row is longer than its pitch");
  for (size_t y = 0; y < height; y++)
    if (cudaError_t e = check_copy((char *)to + y * to_pitch, (const char *)from + y * from_pitch, width, kind))
      return e;
  counts[COPIES]++;
  return enqueue(s, [=] {
    for (size_t y = 0; y < height; y++)
      memmove((char *)to + y * to_pitch, (const char *)from + y * from_pitch, width);
  });
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t s) {
  Call call;
  if (call.error || !n)
    return call.error;
  if (wrong_side(p, n, true))
    return fail(cudaErrorInvalidValue, "memset: not device memory");
  counts[MEMSETS]++;
  return enqueue(s, [=] { memset(p, value, n); });
}

cudaError_t cudaMemset(void *p, int value, size_t n) {
  Call call;
  if (cudaError_t e = not_capturing("blocking memset while a stream captures"))
    return e;
  return cudaMemsetAsync(p, value, n, nullptr);
}
