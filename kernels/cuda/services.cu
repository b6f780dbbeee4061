/* The device, streams, events, graphs and errors. */
#include "blas.h"
#include "memory.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ms_event {
  cudaEvent_t id; /* made by the first record, on its stream's device */
  int device;
};

struct ms_graph {
  cudaGraphExec_t id;
  ms_stream *stream;
};

static int ndevices, wait_always;
static thread_local char error_of_none[MS_WHY]; /* of calls without a stream */

/* Only what was compiled for this architecture can be asked for its attributes. */
__global__ void ms_probe_kernel() {}

/* ---- errors ---- */

static char *text_of(ms_stream *s) {
  return s ? s->error : error_of_none;
}

/* A fault inside a kernel ends the context: from then on every call gives the same error. */
static int device_lost() {
  size_t free, total;
  cudaError_t e = cudaMemGetInfo(&free, &total);
  cudaGetLastError();
  return e != cudaSuccess;
}

const char *ms_cuda_state(void) {
  return device_lost() ? "; the device is lost to this program: start it again" : "; the device is usable again";
}

ms_status ms_cuda_check(ms_stream *s, cudaError_t e, const char *what) {
  if (e == cudaSuccess)
    return MS_OK;
  cudaGetLastError(); /* the next call is not to be blamed */
  snprintf(text_of(s), MS_WHY, "%s: %s (%s)%s", what, cudaGetErrorString(e), cudaGetErrorName(e), ms_cuda_state());
  return e == cudaErrorMemoryAllocation ? MS_EMEM : MS_EBACKEND;
}

ms_status ms_cuda_enter(ms_stream *s) {
  return ms_cuda_check(s, cudaSetDevice(s->device), "the choice of a device");
}

extern "C" int ms_cuda_capturing(ms_stream *s) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(s->id, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone;
}

ms_status ms_cuda_launched(ms_stream *s, const char *kernel) {
  cudaError_t e = cudaGetLastError();
  if (e == cudaSuccess && wait_always && !ms_cuda_capturing(s))
    e = cudaStreamSynchronize(s->id);
  return ms_cuda_check(s, e, kernel);
}

extern "C" const char *ms_cuda_error_text(ms_stream *s) {
  return text_of(s);
}

/* ---- devices ---- */

#ifdef __CUDACC__

/* The runtime's own errors do not tell a missing driver from an old one, so the driver is asked first. */
static ms_status probe_driver(char *why) {
  int version = 0;
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) {
    const char *reason = dlerror();
    snprintf(why, MS_WHY, "no NVIDIA driver: %s", reason ? reason : "libcuda.so.1 cannot be loaded");
    return MS_EDEVICE;
  }
  int (*get_version)(int *), (*init)(unsigned), (*text)(int, const char **);
  *(void **)&get_version = dlsym(driver, "cuDriverGetVersion");
  *(void **)&init = dlsym(driver, "cuInit");
  *(void **)&text = dlsym(driver, "cuGetErrorString");
  if (!get_version || !init || get_version(&version)) {
    snprintf(why, MS_WHY, "the NVIDIA driver is damaged: libcuda.so.1 does not tell its version");
    return MS_EDEVICE;
  }
  if (version / 1000 < CUDART_VERSION / 1000) {
    snprintf(why, MS_WHY, "the NVIDIA driver is too old: it runs CUDA %d.%d, this file needs CUDA %d", version / 1000,
             version % 1000 / 10, CUDART_VERSION / 1000);
    return MS_EDEVICE;
  }
  int code = init(0);
  const char *reason = NULL;
  if (code && text)
    text(code, &reason);
  if (code) {
    snprintf(why, MS_WHY, "the NVIDIA driver does not start: %s (cuInit: %d)", reason ? reason : "no reason given",
             code);
    return MS_EDEVICE;
  }
  return MS_OK;
}

static ms_status probe_code(int device, char *why) {
  cudaDeviceProp p;
  cudaFuncAttributes attributes;
  cudaError_t e = cudaGetDeviceProperties(&p, device);
  if (e == cudaSuccess && p.major < 8) {
    snprintf(why, MS_WHY, "%s has compute capability %d.%d, this file has code for 8.0 and later", p.name, p.major,
             p.minor);
    return MS_EDEVICE;
  }
  if (e == cudaSuccess)
    e = cudaSetDevice(device);
  if (e == cudaSuccess)
    e = cudaFuncGetAttributes(&attributes, (const void *)ms_probe_kernel);
  cudaGetLastError();
  if (e == cudaSuccess)
    return MS_OK;
  snprintf(why, MS_WHY, "device %d: %s (%s)", device, cudaGetErrorString(e), cudaGetErrorName(e));
  return MS_EDEVICE;
}

#else

static ms_status probe_driver(char *why) {
  (void)why;
  return MS_OK;
}

static ms_status probe_code(int device, char *why) {
  (void)device, (void)why;
  return MS_OK;
}

#endif

extern "C" ms_status ms_cuda_open(char why[MS_WHY]) {
  const char *sync = getenv("MOONSPIKE_SYNC");
  int usable = 0, n = 0;
  why[0] = 0;
  wait_always = sync && *sync && strcmp(sync, "0") != 0;
  MS_TRY(probe_driver(why));
  cudaError_t e = cudaGetDeviceCount(&n);
  if (e != cudaSuccess || n == 0) {
    cudaGetLastError();
    snprintf(why, MS_WHY, "no usable NVIDIA device: %s", e == cudaSuccess ? "there is none" : cudaGetErrorString(e));
    return MS_EDEVICE;
  }
  for (int i = 0; i < n; i++)
    usable += probe_code(i, why) == MS_OK;
  if (!usable)
    return MS_EDEVICE;
  const char *missing = ms_cuda_blas_open();
  snprintf(why, MS_WHY, "%s", missing ? missing : "");
  if (missing)
    return MS_EDEVICE;
  ndevices = n;
  return MS_OK;
}

extern "C" int ms_cuda_device_count(void) {
  return ndevices;
}

extern "C" ms_status ms_cuda_properties(int device, ms_device_props *out) {
  cudaDeviceProp p;
  *out = ms_device_props();
  MS_TRY(ms_cuda_check(NULL, cudaGetDeviceProperties(&p, device), "the properties of a device"));
  snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1, p.name);
  out->memory = (int64_t)p.totalGlobalMem;
  out->cores = p.multiProcessorCount;
#ifdef __CUDACC__
  out->major = p.major;
  out->minor = p.minor;
  out->bf16 = p.major >= 8;
#endif
  return MS_OK;
}

/* ---- streams ---- */

extern "C" ms_status ms_cuda_stream_create(int device, ms_stream **out) {
  *out = NULL;
  if (probe_code(device, error_of_none))
    return MS_EDEVICE;
  ms_stream *s = (ms_stream *)calloc(1, sizeof *s);
  if (!s)
    return MS_EMEM;
  s->device = device;
  ms_status status = ms_cuda_enter(s);
  if (!status)
    status = ms_cuda_check(s, cudaStreamCreateWithFlags(&s->id, cudaStreamNonBlocking), "a new stream");
  if (!status)
    status = ms_cuda_pool_open(s);
  if (!status)
    status = ms_cuda_alloc(s, (void **)&s->counter, MS_COUNTERS * sizeof *s->counter);
  if (!status)
    status = ms_cuda_check(s, cudaHostAlloc((void **)&s->classes, sizeof *s->classes, cudaHostAllocPortable),
                           "a new stream");
  if (!status)
    status = ms_cuda_check(s, cudaMemsetAsync(s->counter, 0, MS_COUNTERS * sizeof *s->counter, s->id), "a new stream");
  if (!status) {
    *s->classes = 0;
    *out = s;
    return MS_OK;
  }
  memcpy(error_of_none, s->error, sizeof error_of_none);
  ms_cuda_free(s, s->counter, MS_COUNTERS * sizeof *s->counter);
  cudaFreeHost(s->classes);
  if (s->id)
    cudaStreamDestroy(s->id);
  free(s);
  return status;
}

extern "C" void ms_cuda_stream_destroy(ms_stream *s) {
  if (!s || ms_cuda_enter(s))
    return;
  cudaStreamSynchronize(s->id);
  ms_cuda_blas_close(s);
  ms_cuda_dnn_close(s);
  ms_cuda_scratch_free(s);
  ms_cuda_outgrown_free(s);
  ms_cuda_free(s, s->counter, MS_COUNTERS * sizeof *s->counter);
  cudaStreamSynchronize(s->id);
  cudaStreamDestroy(s->id);
  cudaFreeHost(s->classes);
  cudaGetLastError();
  free(s);
}

ms_status ms_cuda_wait(ms_stream *s) {
  MS_TRY(ms_cuda_enter(s));
  return ms_cuda_check(s, cudaStreamSynchronize(s->id),
                       wait_always ? "wait" : "wait (MOONSPIKE_SYNC=1 names the kernel that fails)");
}

extern "C" ms_status ms_cuda_synchronize(ms_stream *s) {
  MS_TRY(ms_cuda_wait(s));
  long long classes = *s->classes;
  *s->classes = 0;
  if (classes == 0)
    return MS_OK;
  char what[80] = "targets: expected finite shares >= 0";
  if (classes > 0)
    snprintf(what, sizeof what, "labels: expected values in [0, %lld]", classes - 1);
  snprintf(s->error, MS_WHY, "classification_loss: %s, a loss since the last wait was given others", what);
  return MS_ERANGE;
}

/* ---- events ---- */

extern "C" ms_status ms_cuda_event_create(ms_event **out) {
  *out = (ms_event *)calloc(1, sizeof **out);
  return *out ? MS_OK : MS_EMEM;
}

extern "C" void ms_cuda_event_destroy(ms_event *e) {
  if (e && e->id)
    cudaEventDestroy(e->id);
  free(e);
}

extern "C" ms_status ms_cuda_event_record(ms_stream *s, ms_event *e) {
  MS_TRY(ms_cuda_enter(s));
  if (e->id && e->device != s->device) {
    cudaEventDestroy(e->id);
    e->id = NULL;
  }
  if (!e->id)
    MS_TRY(ms_cuda_check(s, cudaEventCreateWithFlags(&e->id, cudaEventDisableTiming), "a new event"));
  e->device = s->device;
  return ms_cuda_check(s, cudaEventRecord(e->id, s->id), "an event's record");
}

extern "C" ms_status ms_cuda_event_wait(ms_stream *s, ms_event *e) {
  if (!e->id)
    return MS_OK; /* nothing was recorded: nothing to wait for */
  MS_TRY(ms_cuda_enter(s));
  return ms_cuda_check(s, cudaStreamWaitEvent(s->id, e->id, 0), "a wait for an event");
}

/* Most are past by the time that anybody asks. */
extern "C" ms_status ms_cuda_event_synchronize(ms_stream *s, ms_event *e) {
  if (!e->id || cudaEventQuery(e->id) == cudaSuccess)
    return MS_OK;
  cudaGetLastError();
  MS_TRY(ms_cuda_enter(s));
  return ms_cuda_check(s, cudaEventSynchronize(e->id), "the end of a copy");
}

/* ---- graphs ---- */

extern "C" ms_status ms_cuda_capture_begin(ms_stream *s) {
  MS_TRY(ms_cuda_enter(s));
  s->error[0] = 0; /* what is found there at the end happened in between */
  return ms_cuda_check(s, cudaStreamBeginCapture(s->id, cudaStreamCaptureModeThreadLocal), "the start of a capture");
}

extern "C" ms_status ms_cuda_capture_end(ms_stream *s, ms_graph **out) {
  cudaGraph_t graph = NULL;
  *out = NULL;
  MS_TRY(ms_cuda_enter(s));
  cudaError_t e = cudaStreamEndCapture(s->id, &graph);
  if (e != cudaSuccess && s->error[0]) {
    /* the operation that spoiled it says more than the end */
    char first[MS_WHY];
    memcpy(first, s->error, sizeof first);
    ms_status status = ms_cuda_check(s, e, "the end of a capture");
    size_t n = strlen(s->error);
    snprintf(s->error + n, MS_WHY - n, "; before it: %s", first);
    return status;
  }
  MS_TRY(ms_cuda_check(s, e, "the end of a capture"));
  ms_graph *g = (ms_graph *)calloc(1, sizeof *g);
  ms_status status = g ? ms_cuda_check(s, cudaGraphInstantiate(&g->id, graph, 0), "a captured graph") : MS_EMEM;
  cudaGraphDestroy(graph);
  if (status) {
    free(g);
    return status;
  }
  g->stream = s;
  s->graphs++;
  *out = g;
  return MS_OK;
}

extern "C" ms_status ms_cuda_graph_launch(ms_stream *s, ms_graph *g) {
  MS_TRY(ms_cuda_enter(s));
  cudaError_t e = cudaGraphLaunch(g->id, s->id);
  if (e == cudaSuccess && wait_always)
    e = cudaStreamSynchronize(s->id);
  return ms_cuda_check(s, e, "a captured step");
}

extern "C" void ms_cuda_graph_destroy(ms_graph *g) {
  if (!g)
    return;
  ms_stream *s = g->stream;
  cudaGraphExecDestroy(g->id);
  cudaGetLastError();
  free(g);
  if (--s->graphs == 0 && !ms_cuda_capturing(s))
    ms_cuda_outgrown_free(s); /* in the stream's order: behind the last replay */
}
