#include "capture.h"
#include "internal.h"
#include "params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOOK_FLOOR ((int64_t)64 << 20)

static ms_live live;
static int64_t allocations, since_hook;
static int64_t fail_at = -1;
static void (*memory_hook)(void *ud);
static void *memory_hook_ud;
static int in_hook;

ms_live ms_live_counts(void) {
  return live;
}

ms_live *ms_live_counters(void) {
  return &live;
}

void ms_set_memory_hook(void (*hook)(void *ud), void *ud) {
  memory_hook = hook;
  memory_hook_ud = ud;
}

/* Finalizers that the hook runs may come back here: then it is not called again. */
static void run_hook(void) {
  since_hook = 0;
  if (!memory_hook || in_hook)
    return;
  in_hook = 1;
  memory_hook(memory_hook_ud);
  in_hook = 0;
}

void ms_fail_allocation(int64_t n) {
  fail_at = n;
}

int64_t ms_allocations(void) {
  return allocations;
}

static int must_fail(void) {
  allocations++;
  return fail_at >= 0 && fail_at-- == 0;
}

/* ---- small blocks ----
** Headers, nodes and lists come and go with every op: a freed one waits for the next request of its size, so that a
** training step asks the system for nothing. */
enum { GRAIN = 64, KINDS = 48 };

typedef struct block {
  _Alignas(16) union {
    struct block *next; /* waiting */
    size_t kind;        /* in use: grains, 0: too large to wait */
  };
} block;

static block *waiting[KINDS];
static int64_t fresh;

#ifdef __SANITIZE_ADDRESS__
static const int recycling = 0; /* so that every use after free is seen */
#else
static const int recycling = 1;
#endif

static block *take_block(size_t kind, size_t bytes) {
  block *b = kind ? waiting[kind] : NULL;
  if (b) {
    waiting[kind] = b->next;
    memset(b, 0, sizeof *b + bytes);
    return b;
  }
  fresh++;
  return calloc(1, kind ? kind * GRAIN : sizeof *b + bytes);
}

void *ms_alloc(size_t bytes) {
  size_t kind = bytes < GRAIN * (KINDS - 1) - sizeof(block) ? (bytes + sizeof(block) + GRAIN - 1) / GRAIN : 0;
  if (must_fail() || bytes > PTRDIFF_MAX / 2)
    return NULL;
  block *b = take_block(recycling ? kind : 0, bytes);
  if (!b) {
    run_hook();
    b = take_block(recycling ? kind : 0, bytes);
  }
  if (!b)
    return NULL;
  b->kind = recycling ? kind : 0;
  return b + 1;
}

void ms_free(void *p) {
  block *b = p;
  if (!p)
    return;
  b--;
  size_t kind = b->kind;
  if (!kind) {
    free(b);
    return;
  }
  b->next = waiting[kind];
  waiting[kind] = b;
}

int64_t ms_fresh_blocks(void) {
  return fresh;
}

/* "12.3 MB" */
static ms_text size_text(double bytes) {
  static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  ms_text text;
  size_t i = 0;
  for (; bytes >= 999.95 && i + 1 < sizeof unit / sizeof *unit; i++)
    bytes /= 1000;
  snprintf(text.s, sizeof text.s, i ? "%.1f %s" : "%.0f %s", bytes, unit[i]);
  return text;
}

/* After the collector has run and the backend gave back what it kept. */
static ms_status no_memory(ms_device *d, size_t bytes, ms_error *err) {
  ms_memory_info info = {0, 0, 0, 0};
  ms_text left = {""};
  if (!d->k->memory(d->stream, &info))
    snprintf(left.s, sizeof left.s, ", %.40s free", size_text((double)info.free).s);
  return ms_fail(err, MS_EMEM,
                 "out of memory: wanted %s, %s in use%s (on %s); a smaller batch needs less, and tensors that nobody "
                 "needs any more can be closed (t:close()); ms.empty_cache() gives back what is kept for later",
                 size_text((double)bytes).s, size_text((double)d->in_use).s, left.s, d->name);
}

ms_status ms_device_alloc(ms_device *d, void **out, size_t bytes, ms_error *err) {
  void *p = NULL;
  ms_status st = MS_OK;
  int64_t limit = live.bytes / 2 > HOOK_FLOOR ? live.bytes / 2 : HOOK_FLOOR;
  if (since_hook > limit)
    run_hook();
  if (must_fail()) {
    st = MS_EMEM;
  } else if (ms_capture_alloc(d, out, bytes, &st, err)) {
    return st;
  } else if (bytes) {
    st = d->k->alloc(d->stream, &p, bytes);
    if (st == MS_EMEM) {
      run_hook();
      d->k->trim(d->stream);
      st = d->k->alloc(d->stream, &p, bytes);
    }
  }
  if (st == MS_EMEM)
    return no_memory(d, bytes, err);
  if (st)
    return ms_row(d, st, "alloc", err);
  ms_capture_learn(p, bytes);
  since_hook += (int64_t)bytes;
  live.bytes += (int64_t)bytes;
  d->in_use += (int64_t)bytes;
  d->peak = d->in_use > d->peak ? d->in_use : d->peak;
  *out = p;
  return MS_OK;
}

void ms_device_free(ms_device *d, void *p, size_t bytes) {
  if (p && ms_capture_free(d, p, bytes))
    return;
  if (p)
    d->k->free(d->stream, p, bytes);
  live.bytes -= (int64_t)bytes;
  d->in_use -= (int64_t)bytes;
}

ms_status ms_storage_new(ms_storage **out, ms_device *d, size_t bytes, ms_error *err) {
  ms_storage *s = ms_alloc(sizeof *s);
  if (!s)
    return ms_fail(err, MS_EMEM, "out of memory: no room for a storage header");
  ms_status st = ms_device_alloc(d, &s->data, bytes, err);
  if (st) {
    ms_free(s);
    return st;
  }
  s->refs = 1;
  s->device = d;
  s->bytes = bytes;
  s->writer = "";
  s->lease = ms_capture_lease();
  live.storages++;
  *out = s;
  return MS_OK;
}

ms_status ms_storage_borrow(ms_storage **out, ms_storage *of, ms_lease *lease, ms_error *err) {
  ms_storage *s = ms_alloc(sizeof *s);
  if (!s)
    return ms_fail(err, MS_EMEM, "out of memory: no room for a storage header");
  *s = (ms_storage){.refs = 1, .device = of->device, .data = of->data, .bytes = of->bytes, .writer = ""};
  s->owner = ms_storage_retain(of);
  s->lease = lease;
  if (lease)
    lease->refs++;
  live.storages++;
  *out = s;
  return MS_OK;
}

ms_storage *ms_storage_retain(ms_storage *s) {
  s->refs++;
  return s;
}

void ms_storage_release(ms_storage *s) {
  if (!s || --s->refs)
    return;
  if (s->owner)
    ms_storage_release(s->owner);
  else if (s->arena)
    ms_arena_release(s->arena);
  else
    ms_device_free(s->device, s->data, s->bytes);
  ms_storage_release(s->half);
  ms_lease_release(s->lease);
  live.storages--;
  ms_free(s);
}
