#include "cpu.h"
#include "parallel.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ms_stream {
  char error[160];
};

struct ms_event {
  char unused;
};

ms_status ms_cpu_open(char why[MS_WHY]) {
  why[0] = 0;
  return MS_OK;
}

int ms_cpu_device_count(void) {
  return 1;
}

/* The value behind `key` in a file of "key : value" lines; "" where there is none. */
static void read_entry(const char *path, const char *key, char *value, size_t room) {
  value[0] = 0;
  FILE *f = fopen(path, "re");
  if (!f)
    return;
  char line[512];
  while (fgets(line, sizeof line, f)) {
    char *colon = strchr(line, ':');
    if (strncmp(line, key, strlen(key)) == 0 && colon) {
      snprintf(value, room, "%s", colon + 1 + strspn(colon + 1, " \t"));
      value[strcspn(value, "\n")] = 0;
      break;
    }
  }
  fclose(f);
}

static int64_t memory_available(void) {
  char kib[64];
  read_entry("/proc/meminfo", "MemAvailable", kib, sizeof kib);
  long long n = strtoll(kib, NULL, 10);
  return n > 0 ? (int64_t)n * 1024 : (int64_t)sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

int ms_cpu_threads_service(int n) {
  if (n > 0)
    ms_cpu_set_threads(n);
  return ms_cpu_threads();
}

ms_status ms_cpu_properties(int device, ms_device_props *out) {
  (void)device;
  *out = (ms_device_props){0};
  read_entry("/proc/cpuinfo", "model name", out->name, sizeof out->name);
  if (!out->name[0])
    snprintf(out->name, sizeof out->name, "CPU");
  out->memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  out->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  out->bf16 = __builtin_cpu_supports("avx512bf16") != 0;
#endif
  return MS_OK;
}

ms_status ms_cpu_stream_create(int device, ms_stream **out) {
  (void)device;
  *out = calloc(1, sizeof **out);
  return *out ? MS_OK : MS_EMEM;
}

void ms_cpu_stream_destroy(ms_stream *s) {
  free(s);
}

ms_status ms_cpu_synchronize(ms_stream *s) {
  (void)s;
  return MS_OK;
}

const char *ms_cpu_error_text(ms_stream *s) {
  return s ? s->error : "";
}

/* ---- memory ----
** Blocks that are given back wait in a list for the next request of their size class: a training step asks for the same
** sizes again and again, and fresh memory costs a page fault for every 4 KiB. Classes are quarters of powers of two. */

enum { ALIGNMENT = 64, CLASSES = 4 * 48 };

/* Larger requests are compared with what the machine has: the kernel would promise them and kill us when they are
** used. */
static const size_t checked_bytes = (size_t)64 << 20;

typedef struct block {
  struct block *next;
} block;

static block *waiting[CLASSES];
static ms_memory_info usage; /* `free` is asked for when wanted */

/* The class of a request and the bytes that it takes. */
static int size_class(size_t bytes, size_t *rounded) {
  size_t n = bytes < 4 * ALIGNMENT ? 4 * ALIGNMENT : bytes;
  int top = 63 - __builtin_clzll((unsigned long long)n - 1);
  size_t quarter = (size_t)1 << (top - 2);
  size_t steps = (n - 1) / quarter + 1; /* 5 to 8 quarters of 2^top */
  *rounded = steps * quarter;
  return 4 * (top - 7) + (int)steps - 5;
}

static void *fresh_memory(ms_stream *s, size_t bytes) {
  void *p = NULL;
  int64_t available = bytes >= checked_bytes ? memory_available() : INT64_MAX;
  if ((uint64_t)bytes < (uint64_t)available && posix_memalign(&p, ALIGNMENT, bytes) == 0)
    return p;
  if (s)
    snprintf(s->error, sizeof s->error, "%zu bytes wanted, %lld in use, %lld available", bytes, (long long)usage.in_use,
             (long long)memory_available());
  return NULL;
}

static void count(int64_t in_use, int64_t reserved) {
  usage.in_use += in_use;
  usage.reserved += reserved;
  if (usage.in_use > usage.peak)
    usage.peak = usage.in_use;
}

#ifdef __SANITIZE_ADDRESS__
static const int caching = 0; /* so that every use after free and every overrun is seen */
#else
static const int caching = 1;
#endif

ms_status ms_cpu_alloc(ms_stream *s, void **out, size_t bytes) {
  size_t rounded = bytes > 0 ? bytes : 1;
  *out = NULL;
  if (bytes > (size_t)1 << 48) {
    if (s)
      snprintf(s->error, sizeof s->error, "%zu bytes wanted", bytes);
    return MS_EMEM;
  }
  block *b = NULL;
  if (caching) {
    int c = size_class(bytes, &rounded);
    b = waiting[c];
    if (b) {
      waiting[c] = b->next;
      count((int64_t)rounded, 0);
      *out = b;
      return MS_OK;
    }
  }
  void *p = fresh_memory(s, rounded);
  if (!p) {
    ms_cpu_trim(s);
    p = fresh_memory(s, rounded);
  }
  if (!p)
    return MS_EMEM;
  count((int64_t)rounded, (int64_t)rounded);
  *out = p;
  return MS_OK;
}

void ms_cpu_free(ms_stream *s, void *p, size_t bytes) {
  (void)s;
  size_t rounded = bytes > 0 ? bytes : 1;
  if (!p)
    return;
  if (!caching) {
    count(-(int64_t)rounded, -(int64_t)rounded);
    free(p);
    return;
  }
  int c = size_class(bytes, &rounded);
  count(-(int64_t)rounded, 0);
  block *b = p;
  b->next = waiting[c];
  waiting[c] = b;
}

void ms_cpu_trim(ms_stream *s) {
  (void)s;
  for (int c = 0; c < CLASSES; c++)
    while (waiting[c]) {
      block *b = waiting[c];
      waiting[c] = b->next;
      free(b);
    }
  usage.reserved = usage.in_use;
}

ms_status ms_cpu_alloc_host(void **out, size_t bytes) {
  *out = NULL;
  return posix_memalign(out, ALIGNMENT, bytes > 0 ? bytes : 1) == 0 ? MS_OK : MS_EMEM;
}

void ms_cpu_free_host(void *p, size_t bytes) {
  (void)bytes;
  free(p);
}

ms_status ms_cpu_memory(ms_stream *s, ms_memory_info *out) {
  (void)s;
  *out = usage;
  out->free = memory_available();
  return MS_OK;
}

ms_status ms_cpu_copy_bytes(ms_stream *s, void *dst, const void *src, size_t bytes, ms_copy_kind kind) {
  (void)s, (void)kind;
  if (bytes > 0)
    memmove(dst, src, bytes);
  return MS_OK;
}

/* ---- events: everything has happened when a call returns ---- */

ms_status ms_cpu_event_create(ms_event **out) {
  static ms_event past;
  *out = &past;
  return MS_OK;
}

void ms_cpu_event_destroy(ms_event *e) {
  (void)e;
}

ms_status ms_cpu_event_record(ms_stream *s, ms_event *e) {
  (void)s, (void)e;
  return MS_OK;
}

ms_status ms_cpu_event_wait(ms_stream *s, ms_event *e) {
  (void)s, (void)e;
  return MS_OK;
}
