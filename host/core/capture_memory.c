#include "capture_memory.h"
#include "capture.h"
#include "internal.h"

#define GRAIN ((size_t)256)

/* Spans lie in order of their place and cover the pool. */
typedef struct span {
  struct span *next;
  size_t at, bytes;
  const void *key; /* NULL: free */
} span;

struct ms_pool {
  int refs; /* the owner's and one for each block */
  ms_device *device;
  char *base;
  size_t bytes, most;
  span *spans;
  ms_pool *next; /* pools with memory */
};

typedef struct waiting {
  struct waiting *next;
  ms_device *device;
  void *p;
  size_t bytes;
} waiting;

static ms_pool *pools, *used;
static waiting *released;

ms_status ms_pool_new(ms_pool **out, ms_device *d, size_t bytes, ms_error *err) {
  ms_pool *p = ms_alloc(sizeof *p);
  span *all = ms_alloc(sizeof *all);
  void *base = NULL;
  ms_status st = p && all ? MS_OK : ms_fail(err, MS_EMEM, "capture: out of memory");
  if (!st && bytes)
    st = ms_device_alloc(d, &base, bytes, err);
  if (st) {
    ms_free(p);
    ms_free(all);
    return st;
  }
  *all = (span){.bytes = bytes ? bytes : SIZE_MAX / 2};
  *p = (ms_pool){.refs = 1, .device = d, .base = base, .bytes = all->bytes, .spans = all};
  if (base) {
    p->next = pools;
    pools = p;
  }
  *out = p;
  return MS_OK;
}

static void unlink_pool(ms_pool *p) {
  ms_pool **at = &pools;
  while (*at && *at != p)
    at = &(*at)->next;
  if (*at)
    *at = p->next;
}

void ms_pool_release(ms_pool *p) {
  if (!p || --p->refs)
    return;
  if (used == p)
    used = NULL;
  for (span *s = p->spans, *next; s; s = next) {
    next = s->next;
    ms_free(s);
  }
  if (p->base) {
    unlink_pool(p); /* before: then the block is an ordinary one */
    ms_device_free(p->device, p->base, p->bytes);
  }
  ms_free(p);
}

size_t ms_pool_most(const ms_pool *p) {
  return p->most;
}

void ms_pool_use(ms_pool *p) {
  used = p;
}

/* The first free span that holds the bytes, cut to them; NULL: there is none. */
static span *take(ms_pool *p, size_t bytes, const void *key) {
  size_t want = (bytes + GRAIN - 1) / GRAIN * GRAIN;
  for (span *s = p->spans; s; s = s->next) {
    if (s->key || s->bytes < want)
      continue;
    if (s->bytes > want) {
      span *rest = ms_alloc(sizeof *rest);
      if (!rest)
        return NULL;
      *rest = (span){.next = s->next, .at = s->at + want, .bytes = s->bytes - want};
      s->next = rest;
      s->bytes = want;
    }
    s->key = key ? key : p->base + s->at;
    p->most = s->at + want > p->most ? s->at + want : p->most;
    return s;
  }
  return NULL;
}

static void join_next(span *s) {
  span *next = s->next;
  if (!next || next->key || s->key)
    return;
  s->bytes += next->bytes;
  s->next = next->next;
  ms_free(next);
}

static int give(ms_pool *p, const void *key) {
  span *before = NULL, *s = p->spans;
  for (; s && s->key != key; s = s->next)
    before = s;
  if (!s)
    return 0;
  s->key = NULL;
  join_next(s);
  if (before)
    join_next(before);
  return 1;
}

void ms_capture_learn(const void *p, size_t bytes) {
  if (used && !used->base && p)
    (void)take(used, bytes, p);
}

int ms_capture_alloc(ms_device *d, void **out, size_t bytes, ms_status *st, ms_error *err) {
  if (!used || !used->base || used->device != d || !bytes)
    return 0;
  span *s = take(used, bytes, NULL);
  *st = s ? MS_OK
          : ms_fail(err, MS_EBACKEND,
                    "captured step: %zu bytes more than the call before needed at once; it must do the same in each "
                    "call",
                    bytes);
  if (s) {
    *out = used->base + s->at;
    used->refs++;
  }
  return 1;
}

static ms_pool *pool_of(const void *p) {
  ms_pool *pool = pools;
  while (pool && ((const char *)p < pool->base || (const char *)p >= pool->base + pool->bytes || p == NULL))
    pool = pool->next;
  return pool;
}

int ms_capture_free(ms_device *d, void *p, size_t bytes) {
  ms_pool *pool = pool_of(p);
  if (pool) {
    if (pool == used)
      (void)give(pool, p);
    ms_pool_release(pool);
    return 1;
  }
  if (used && !used->base)
    (void)give(used, p);
  if (!ms_capture_live)
    return 0;
  waiting *w = ms_alloc(sizeof *w);
  if (w) {
    *w = (waiting){released, d, p, bytes};
    released = w;
  }
  return 1; /* without a place in the list the memory is lost: a graph may not be asked to free it */
}

void ms_pool_settle(void) {
  while (released) {
    waiting *w = released;
    released = w->next;
    ms_device_free(w->device, w->p, w->bytes);
    ms_free(w);
  }
}
