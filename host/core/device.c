#include "device.h"
#include "capture.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The only file that knows which backends there are. */
enum { CPU, CUDA, BACKENDS };
#define MAX_DEVICES 64
#define PLUGIN "libmoonspike_cuda.so"

static struct {
  const char *name;
  const ms_backend *k;
  int asked; /* looked for already, with or without success */
  char why[4096];
} backends[BACKENDS] = {{.name = "cpu"}, {.name = "cuda"}};

static ms_device devices[MAX_DEVICES];
static int ndevices;
static ms_device *current;

/* Beside the file that holds this function: a library, or the program itself. */
static int plugin_beside(char *path, size_t n) {
  char file[2048];
  Dl_info info;
  if (dladdr(&backends, &info) && info.dli_fname && strchr(info.dli_fname, '/')) {
    snprintf(file, sizeof file, "%s", info.dli_fname);
  } else {
    ssize_t length = readlink("/proc/self/exe", file, sizeof file - 1);
    if (length < 0)
      return 0;
    file[length] = 0;
  }
  char *slash = strrchr(file, '/');
  if (!slash)
    return 0;
  slash[1] = 0;
  return snprintf(path, n, "%s" PLUGIN, file) < (int)n && access(path, F_OK) == 0;
}

static int plugin_from_environment(char *path, size_t n) {
  const char *where = getenv("MOONSPIKE_PLUGIN");
  struct stat st;
  if (!where || !*where || stat(where, &st))
    return 0;
  return snprintf(path, n, S_ISDIR(st.st_mode) ? "%s/" PLUGIN : "%s", where) < (int)n && access(path, F_OK) == 0;
}

static const ms_backend *load_plugin(char *why, size_t n) {
  char path[2200], reason[MS_WHY] = "";
  if (!plugin_from_environment(path, sizeof path) && !plugin_beside(path, sizeof path)) {
    snprintf(why, n, PLUGIN " was found neither in $MOONSPIKE_PLUGIN nor beside the program");
    return NULL;
  }
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *text = dlerror();
    snprintf(why, n, "%s cannot be loaded: %s", path, text ? text : "no reason given");
    return NULL;
  }
  const ms_backend *k = NULL;
  uint32_t abi = 0;
  ms_backend_get_fn get;
  *(void **)&get = dlsym(library, "ms_backend_get");
  if (!get)
    snprintf(why, n, "%s is damaged: it has no ms_backend_get", path);
  else if (!(k = get(MS_ABI, (uint32_t)sizeof *k, &abi)) && abi != MS_ABI)
    snprintf(why, n, "%s has ABI %u, this program needs ABI %u", path, abi, MS_ABI);
  else if (!k || k->abi != MS_ABI || k->size != sizeof *k)
    snprintf(why, n, "%s has ABI %u like this program, but another table of functions; build both from one source",
             path, abi);
  else if (k->open(reason))
    snprintf(why, n, "%s", reason[0] ? reason : "the backend found no usable device");
  else
    return k;
  dlclose(library);
  return NULL;
}

static int start_devices(int b) {
  char *why = backends[b].why;
  const ms_backend *k = backends[b].k;
  int n = k->device_count(), started = 0;
  for (int i = 0; i < n && ndevices < MAX_DEVICES; i++) {
    ms_device *d = &devices[ndevices];
    if (k->stream_create(i, &d->stream)) {
      snprintf(why, sizeof backends[b].why, "%s:%d does not start: %s", k->name, i, k->error_text(NULL));
      continue;
    }
    d->k = k;
    d->index = i;
    snprintf(d->name, sizeof d->name, i ? "%s:%d" : "%s", backends[b].name, i);
    ndevices++;
    started++;
  }
  if (started)
    why[0] = 0;
  else if (!why[0])
    snprintf(why, sizeof backends[b].why, "no device is present");
  return started;
}

/* Looks for the devices of backend b once. */
static void ask(int b) {
  if (backends[b].asked)
    return;
  backends[b].asked = 1;
  char *why = backends[b].why;
  if (b == CPU) {
    char reason[MS_WHY] = "";
    const ms_backend *k = ms_backend_cpu();
    if (k->open(reason))
      snprintf(why, sizeof backends[b].why, "%s", reason);
    else
      backends[b].k = k;
  } else {
    ask(CPU);
    backends[b].k = load_plugin(why, sizeof backends[b].why);
  }
  if (backends[b].k && !start_devices(b))
    backends[b].k = NULL;
}

static ms_device *device_of(int b, int index) {
  ask(b);
  for (int i = 0; i < ndevices; i++)
    if (devices[i].k == backends[b].k && devices[i].index == index)
      return &devices[i];
  return NULL;
}

ms_device *ms_device_cpu(void) {
  return device_of(CPU, 0);
}

/* A device without a compute capability is an emulation: correct, slow, and only used when named. */
int ms_device_is_real(const ms_device *d) {
  ms_device_props p;
  return d && !d->k->properties(d->index, &p) && p.major > 0;
}

ms_status ms_device_find(ms_device **out, const char *name, ms_error *err) {
  ms_device *d = NULL;
  if (!strcmp(name, "cpu") || !strcmp(name, "cpu:0")) {
    d = ms_device_cpu();
  } else if (!strcmp(name, "auto")) {
    d = device_of(CUDA, 0);
    if (!ms_device_is_real(d))
      d = ms_device_cpu();
  } else if (!strncmp(name, "cuda", 4) && (!name[4] || name[4] == ':')) {
    char *end = NULL;
    long index = name[4] ? strtol(name + 5, &end, 10) : 0;
    if (end && (end == name + 5 || *end || name[5] < '0' || name[5] > '9'))
      return ms_fail(err, MS_EDEVICE, "device: '%s': expected a number after 'cuda:'", name);
    d = index < MAX_DEVICES ? device_of(CUDA, (int)index) : NULL;
    const char *why = d ? "" : ms_device_why("cuda");
    if (*why)
      return ms_fail(err, MS_EDEVICE, "device: '%s' is not usable: %s", name, why);
    if (!d)
      return ms_fail(err, MS_EDEVICE, "device: '%s' does not exist (there are %d CUDA devices)", name,
                     backends[CUDA].k->device_count());
  } else {
    return ms_fail(err, MS_EDEVICE, "device: unknown device '%.64s' (known: cpu, cuda, cuda:N, auto)", name);
  }
  if (!d)
    return ms_fail(err, MS_EDEVICE, "device: the CPU is not usable: %s", backends[CPU].why);
  *out = d;
  return MS_OK;
}

ms_device *ms_device_current(void) {
  return current ? current : ms_device_cpu();
}

void ms_device_set_current(ms_device *d) {
  current = d;
}

ms_device *ms_device_at(int i) {
  for (int b = 0; b < BACKENDS; b++)
    ask(b);
  return i >= 0 && i < ndevices ? &devices[i] : NULL;
}

const char *ms_device_why(const char *name) {
  for (int b = 0; b < BACKENDS; b++)
    if (!strcmp(name, backends[b].name)) {
      ask(b);
      return backends[b].k ? "" : backends[b].why;
    }
  return "no such device (known: cpu, cuda)";
}

static int wait_always(void) {
  static int on = -1;
  if (on < 0) {
    const char *value = getenv("MOONSPIKE_SYNC");
    on = value && *value && strcmp(value, "0") != 0;
  }
  return on;
}

static int64_t rows_called;

int64_t ms_rows_called(void) {
  return rows_called;
}

ms_status ms_row(ms_device *d, ms_status status, const char *op, ms_error *err) {
  rows_called++;
  if (!status && wait_always() && !ms_capture_recording())
    status = d->k->synchronize(d->stream);
  if (!status)
    return ms_interrupt_pending() ? ms_interrupt_check(err) : MS_OK;
  const char *text = d->k->error_text(d->stream);
  return ms_fail(err, status, "%s: %s%s%s (on %s)", op, ms_status_text(status), text && *text ? ": " : "",
                 text ? text : "", d->name);
}

ms_status ms_device_synchronize(ms_device *d, ms_error *err) {
  ms_status st = ms_capture_refuse("the device", "is waited for", err);
  if (st)
    return st;
  return ms_row(d, d->k->synchronize(d->stream), "synchronize", err);
}

int ms_threads(int n) {
  return ms_device_cpu()->k->threads(n);
}
