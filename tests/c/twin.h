/* Tests of the CUDA rows beside the CPU rows: the plugin's table, arrays on the device. The plugin is the one that
** $MOONSPIKE_PLUGIN names (a file, or its folder), else the emulation beside the tests; without one the tests are
** skipped. Device memory cannot be read here: fetch it. */
#ifndef MS_TWIN_H
#define MS_TWIN_H

#include "rowtest.h"
#include <dlfcn.h>
#include <libgen.h>
#include <sys/stat.h>
#include <unistd.h>

static const ms_backend *gpu;
static void *gpu_library;
static ms_stream *gpu_stream;

static struct {
  void *p;
  size_t bytes;
} twin_blocks[4096];
static int twin_count;

static inline int twin_setup(void **state) {
  (void)state;
  char path[4200], self[4000];
  const char *named = getenv("MOONSPIKE_PLUGIN");
  struct stat st;
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  assert_true(n > 0);
  self[n] = 0;
  if (named && *named && stat(named, &st) == 0)
    snprintf(path, sizeof path, S_ISDIR(st.st_mode) ? "%s/libmoonspike_cuda.so" : "%s", named);
  else
    snprintf(path, sizeof path, "%s/../emu/libmoonspike_cuda.so", dirname(self));
  if (access(path, F_OK))
    return 0;
  void *library = gpu_library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return -1;
  }
  ms_backend_get_fn get;
  uint32_t abi;
  char why[MS_WHY] = "";
  *(void **)&get = dlsym(library, "ms_backend_get");
  assert_non_null(get);
  gpu = get(MS_ABI, (uint32_t)sizeof *gpu, &abi);
  assert_non_null(gpu);
  if (gpu->open(why) != MS_OK || gpu->stream_create(0, &gpu_stream) != MS_OK) {
    fprintf(stderr, "%s: %s\n", path, why);
    return -1;
  }
  return 0;
}

#define TWIN_NEEDED() \
  do {                \
    if (!gpu)         \
      skip();         \
  } while (0)

#define TWIN_OK(call)                                                                  \
  do {                                                                                 \
    ms_status status_ = (call);                                                        \
    if (status_ != MS_OK)                                                              \
      fail_msg("%s: status %d, %s", #call, (int)status_, gpu->error_text(gpu_stream)); \
  } while (0)

/* Exactly `bytes` on the device, every bit set. Freed by twin_release. */
static inline void *on_device(size_t bytes) {
  void *p = NULL;
  assert_true(twin_count < (int)(sizeof twin_blocks / sizeof *twin_blocks));
  TWIN_OK(gpu->alloc(gpu_stream, &p, bytes ? bytes : 1));
  twin_blocks[twin_count].p = p;
  twin_blocks[twin_count++].bytes = bytes ? bytes : 1;
  char *ones = malloc(bytes ? bytes : 1);
  memset(ones, 0xff, bytes ? bytes : 1);
  TWIN_OK(gpu->copy_bytes(gpu_stream, p, ones, bytes ? bytes : 1, MS_COPY_HOST_TO_DEVICE));
  TWIN_OK(gpu->synchronize(gpu_stream));
  free(ones);
  return p;
}

/* A copy of a host array; NULL stays NULL. */
static inline void *to_device(const void *host, size_t bytes) {
  if (!host)
    return NULL;
  void *p = on_device(bytes);
  if (bytes)
    TWIN_OK(gpu->copy_bytes(gpu_stream, p, host, bytes, MS_COPY_HOST_TO_DEVICE));
  TWIN_OK(gpu->synchronize(gpu_stream));
  return p;
}

static inline size_t twin_bytes(ms_dtype t, int64_t n) {
  return t == MS_BITS ? MS_BITS_BYTES(n) : (size_t)n * row_width(t);
}

/* The same for n typed elements. */
static inline ms_data data_to_device(ms_data x, int64_t n) {
  x.p = to_device(x.p, twin_bytes(x.dtype, n));
  return x;
}

static inline void fetch(void *host, const void *device, size_t bytes) {
  if (!bytes)
    return;
  TWIN_OK(gpu->copy_bytes(gpu_stream, host, device, bytes, MS_COPY_DEVICE_TO_HOST));
  TWIN_OK(gpu->synchronize(gpu_stream));
}

/* n elements of a device array as a new host array (free it). */
static inline ms_data fetched(ms_data x, int64_t n) {
  size_t bytes = twin_bytes(x.dtype, n);
  void *p = malloc(bytes ? bytes : 1);
  assert_non_null(p);
  fetch(p, x.p, bytes);
  x.p = p;
  return x;
}

static inline int twin_release(void **state) {
  (void)state;
  while (twin_count > 0) {
    twin_count--;
    gpu->free(gpu_stream, twin_blocks[twin_count].p, twin_blocks[twin_count].bytes);
  }
  return 0;
}

static inline int twin_teardown(void **state) {
  (void)state;
  if (gpu)
    gpu->stream_destroy(gpu_stream);
  return 0;
}

/* Launches since the plugin was loaded; skips the test where the plugin does not count. */
static inline int64_t twin_launches(void) {
  long long counts[8];
  void (*counts_of)(long long[8]);
  *(void **)&counts_of = dlsym(gpu_library, "ms_emu_counts");
  if (!counts_of)
    skip();
  counts_of(counts);
  return counts[0];
}

/* Relative to the largest magnitude of either side's neighbourhood `size`: for sums of many terms. */
static inline void twin_close(const char *what, ms_data got, ms_data want, int64_t n, double size, double tolerance) {
  for (int64_t i = 0; i < n; i++) {
    double g = row_get(got, i), w = row_get(want, i);
    if (!(fabs(g - w) <= tolerance * (size > fabs(w) ? size : fabs(w))) && !(g != g && w != w))
      fail_msg("%s: element %lld of %lld: CUDA %.9g, CPU %.9g", what, (long long)i, (long long)n, g, w);
  }
}

#endif
