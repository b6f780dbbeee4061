/* Device memory from the stream-ordered pool, pinned host memory, copies. */
#include "memory.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEVICES = 64 };

static struct usage { int64_t in_use, peak; } usage[MAX_DEVICES];

static ms_status pool_of(ms_stream *s, cudaMemPool_t *pool) {
  return ms_cuda_check(s, cudaDeviceGetDefaultMemPool(pool, s->device), "the pool of a device");
}

extern "C" ms_status ms_cuda_pool_open(ms_stream *s) {
  cudaMemPool_t pool;
  uint64_t keep = UINT64_MAX;
  if (s->device >= MAX_DEVICES) {
    snprintf(s->error, MS_WHY, "device %d: at most %d are supported", s->device, MAX_DEVICES);
    return MS_EDEVICE;
  }
  MS_TRY(pool_of(s, &pool));
  return ms_cuda_check(s, cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep),
                       "the pool of a device");
}

/* ---- pinned host memory ----
** A step must not ask the driver for it: blocks that are given back wait in a list, each until the last copy that uses
** it is done. */

typedef struct pinned {
  struct pinned *next;
  char *p;
  size_t bytes;
  int taken;
  cudaEvent_t done; /* of the last copy */
  int device;
} pinned;

static const size_t smallest = 4096, piece = (size_t)4 << 20;
enum { PIECES = 8 };

static pthread_mutex_t pinned_lock = PTHREAD_MUTEX_INITIALIZER;
static pinned *pinned_list; /* the oldest first */

static int idle(const pinned *b) {
  return !b->taken && (!b->done || cudaEventQuery(b->done) == cudaSuccess);
}

/* A power of two, so that sizes that differ a little share blocks. */
static size_t rounded(size_t bytes) {
  size_t n = smallest;
  while (n < bytes)
    n *= 2;
  return n;
}

static pinned *fresh_pinned(size_t bytes) {
  pinned *b = (pinned *)calloc(1, sizeof *b), **end = &pinned_list;
  if (!b)
    return NULL;
  if (cudaHostAlloc((void **)&b->p, bytes, cudaHostAllocPortable) != cudaSuccess) {
    cudaGetLastError();
    free(b);
    return NULL;
  }
  b->bytes = bytes;
  while (*end)
    end = &(*end)->next;
  *end = b;
  return b;
}

/* Blocks that nobody uses go back to the system. */
static void drop_idle_pinned() {
  for (pinned **at = &pinned_list; *at;) {
    pinned *b = *at;
    if (!idle(b)) {
      at = &b->next;
      continue;
    }
    *at = b->next;
    if (b->done)
      cudaEventDestroy(b->done);
    cudaFreeHost(b->p);
    free(b);
  }
  cudaGetLastError(); /* an event that is not done yet is no failure */
}

/* With the lock held. With `most` blocks of this size in flight it waits for the oldest. */
static pinned *take_pinned(size_t bytes, int most) {
  size_t want = rounded(bytes);
  int busy = 0;
  pinned *oldest = NULL, *b;
  for (b = pinned_list; b; b = b->next) {
    if (b->bytes != want || b->taken)
      continue;
    if (idle(b))
      break;
    busy++;
    oldest = oldest ? oldest : b;
  }
  cudaGetLastError();
  if (!b && busy >= most) {
    cudaEventSynchronize(oldest->done);
    b = oldest;
  }
  if (!b)
    b = fresh_pinned(want);
  if (!b) {
    drop_idle_pinned();
    b = fresh_pinned(want);
  }
  if (b)
    b->taken = 1;
  return b;
}

/* The block that holds p, or NULL. */
static pinned *pinned_of(const void *p) {
  for (pinned *b = pinned_list; b; b = b->next)
    if (b->taken && (const char *)p >= b->p && (const char *)p < b->p + b->bytes)
      return b;
  return NULL;
}

/* The block is not used again before what the stream holds now is done. */
static ms_status guard(ms_stream *s, pinned *b) {
  if (b->done && b->device != s->device) {
    cudaEventDestroy(b->done);
    b->done = NULL;
  }
  if (!b->done)
    MS_TRY(ms_cuda_check(s, cudaEventCreateWithFlags(&b->done, cudaEventDisableTiming), "a copy's event"));
  b->device = s->device;
  return ms_cuda_check(s, cudaEventRecord(b->done, s->id), "a copy's event");
}

extern "C" ms_status ms_cuda_alloc_host(void **out, size_t bytes) {
  pthread_mutex_lock(&pinned_lock);
  pinned *b = bytes <= SIZE_MAX / 2 ? take_pinned(bytes, 1 << 30) : NULL;
  pthread_mutex_unlock(&pinned_lock);
  *out = b ? b->p : NULL;
  return b ? MS_OK : MS_EMEM;
}

extern "C" void ms_cuda_free_host(void *p, size_t bytes) {
  (void)bytes;
  pthread_mutex_lock(&pinned_lock);
  pinned *b = p ? pinned_of(p) : NULL;
  if (b)
    b->taken = 0;
  pthread_mutex_unlock(&pinned_lock);
}

/* ---- device memory ---- */

static ms_status no_memory(ms_stream *s, size_t bytes) {
  ms_memory_info info;
  if (ms_cuda_memory(s, &info))
    return MS_EMEM;
  snprintf(s->error, MS_WHY,
           "%zu bytes wanted, %lld in use, %lld reserved, %lld free on the device; a smaller batch needs less", bytes,
           (long long)info.in_use, (long long)info.reserved, (long long)info.free);
  return MS_EMEM;
}

static cudaError_t take_device(ms_stream *s, void **out, size_t bytes) {
  cudaError_t e = cudaMallocAsync(out, bytes, s->id);
  if (e != cudaSuccess) {
    *out = NULL;
    cudaGetLastError();
  }
  return e;
}

extern "C" ms_status ms_cuda_alloc(ms_stream *s, void **out, size_t bytes) {
  *out = NULL;
  MS_TRY(ms_cuda_enter(s));
  if (ms_cuda_capturing(s)) {
    snprintf(s->error, MS_WHY, "%zu bytes wanted while a step is captured; nothing can be allocated then", bytes);
    return MS_EBACKEND;
  }
  cudaError_t e = take_device(s, out, bytes ? bytes : 1);
  if (e == cudaErrorMemoryAllocation) {
    ms_cuda_trim(s);
    e = take_device(s, out, bytes ? bytes : 1);
  }
  if (e == cudaErrorMemoryAllocation)
    return no_memory(s, bytes);
  MS_TRY(ms_cuda_check(s, e, "an allocation"));
  struct usage *u = &usage[s->device];
  u->in_use += (int64_t)bytes;
  u->peak = u->in_use > u->peak ? u->in_use : u->peak;
  return MS_OK;
}

extern "C" void ms_cuda_free(ms_stream *s, void *p, size_t bytes) {
  if (!p || ms_cuda_enter(s))
    return;
  usage[s->device].in_use -= (int64_t)bytes;
  ms_cuda_check(s, cudaFreeAsync(p, s->id), "a free");
}

extern "C" void ms_cuda_trim(ms_stream *s) {
  cudaMemPool_t pool;
  if (ms_cuda_enter(s) || ms_cuda_capturing(s))
    return;
  if (!ms_cuda_wait(s) && !pool_of(s, &pool))
    ms_cuda_check(s, cudaMemPoolTrimTo(pool, 0), "a trim");
  pthread_mutex_lock(&pinned_lock);
  drop_idle_pinned();
  pthread_mutex_unlock(&pinned_lock);
}

extern "C" ms_status ms_cuda_memory(ms_stream *s, ms_memory_info *out) {
  cudaMemPool_t pool;
  uint64_t reserved = 0;
  size_t free = 0, total = 0;
  *out = ms_memory_info();
  MS_TRY(ms_cuda_enter(s));
  MS_TRY(pool_of(s, &pool));
  MS_TRY(ms_cuda_check(s, cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved),
                       "the pool of a device"));
  MS_TRY(ms_cuda_check(s, cudaMemGetInfo(&free, &total), "free memory"));
  out->in_use = usage[s->device].in_use;
  out->peak = usage[s->device].peak;
  out->reserved = (int64_t)reserved;
  out->free = (int64_t)free;
  return MS_OK;
}

/* ---- scratch ---- */

typedef struct outgrown {
  struct outgrown *next;
  void *p;
  size_t bytes;
} outgrown;

extern "C" void ms_cuda_outgrown_free(ms_stream *s) {
  for (outgrown *o = (outgrown *)s->outgrown, *next; o; o = next) {
    next = o->next;
    ms_cuda_free(s, o->p, o->bytes);
    free(o);
  }
  s->outgrown = NULL;
}

static ms_status keep_outgrown(ms_stream *s) {
  outgrown *o = s->scratch ? (outgrown *)malloc(sizeof *o) : NULL;
  if (!s->scratch)
    return MS_OK;
  if (!o)
    return MS_EMEM;
  *o = {(outgrown *)s->outgrown, s->scratch, s->scratch_bytes};
  s->outgrown = o;
  s->scratch = NULL;
  s->scratch_bytes = 0;
  return MS_OK;
}

extern "C" void ms_cuda_scratch_free(ms_stream *s) {
  ms_cuda_free(s, s->scratch, s->scratch_bytes);
  s->scratch = NULL;
  s->scratch_bytes = 0;
}

ms_status ms_cuda_scratch(ms_stream *s, size_t bytes, void **out) {
  if (bytes > s->scratch_bytes) {
    size_t grown = (bytes + 255) / 256 * 256;
    MS_TRY(ms_cuda_enter(s));
    if (ms_cuda_capturing(s)) {
      snprintf(s->error, MS_WHY, "%zu bytes of scratch wanted while a step is captured; run the step once before",
               bytes);
      return MS_EBACKEND;
    }
    if (s->graphs > 0)
      MS_TRY(keep_outgrown(s));
    else
      ms_cuda_scratch_free(s);
    MS_TRY(ms_cuda_alloc(s, &s->scratch, grown));
    s->scratch_bytes = grown;
  }
  *out = s->scratch;
  return MS_OK;
}

/* ---- copies ---- */

/* From memory that may be changed or freed as soon as this returns: through pinned pieces. */
static ms_status copy_staged(ms_stream *s, char *dst, const char *src, size_t bytes) {
  if (ms_cuda_capturing(s)) {
    snprintf(s->error, MS_WHY, "a copy from host memory that is not pinned cannot be captured");
    return MS_EBACKEND;
  }
  while (bytes > 0) {
    size_t n = bytes < piece ? bytes : piece;
    pinned *b = take_pinned(n, PIECES);
    if (!b) {
      snprintf(s->error, MS_WHY, "no pinned host memory for a copy: %zu bytes wanted", rounded(n));
      return MS_EMEM;
    }
    memcpy(b->p, src, n);
    ms_status status =
        ms_cuda_check(s, cudaMemcpyAsync(dst, b->p, n, cudaMemcpyHostToDevice, s->id), "a copy to the device");
    if (!status)
      status = guard(s, b);
    b->taken = 0;
    if (status)
      return status;
    dst += n;
    src += n;
    bytes -= n;
  }
  return MS_OK;
}

/* Pinned memory of ours is copied where it lies: its owner leaves it alone until the stream has passed. */
static ms_status copy_to_device(ms_stream *s, void *dst, const void *src, size_t bytes) {
  pthread_mutex_lock(&pinned_lock);
  pinned *b = pinned_of(src);
  ms_status status;
  if (b) {
    status = ms_cuda_check(s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, s->id), "a copy to the device");
    if (!status && !ms_cuda_capturing(s))
      status = guard(s, b);
  } else {
    status = copy_staged(s, (char *)dst, (const char *)src, bytes);
  }
  pthread_mutex_unlock(&pinned_lock);
  return status;
}

/* What comes from the device is complete after the next synchronize. The lock is open meanwhile: a copy to memory that is
** not pinned waits for the stream. */
static ms_status copy_to_host(ms_stream *s, void *dst, const void *src, size_t bytes) {
  pthread_mutex_lock(&pinned_lock);
  pinned *b = pinned_of(dst);
  pthread_mutex_unlock(&pinned_lock);
  MS_TRY(ms_cuda_check(s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, s->id), "a copy to the host"));
  if (!b || ms_cuda_capturing(s))
    return MS_OK;
  pthread_mutex_lock(&pinned_lock);
  ms_status status = guard(s, b);
  pthread_mutex_unlock(&pinned_lock);
  return status;
}

extern "C" ms_status ms_cuda_copy_bytes(ms_stream *s, void *dst, const void *src, size_t bytes, ms_copy_kind kind) {
  if (bytes == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  switch (kind) {
  case MS_COPY_HOST_TO_DEVICE:
    return copy_to_device(s, dst, src, bytes);
  case MS_COPY_DEVICE_TO_HOST:
    return copy_to_host(s, dst, src, bytes);
  default:
    return ms_cuda_check(s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, s->id), "a copy");
  }
}
