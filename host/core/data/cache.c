#include "cache.h"
#include "../file.h"
#include "../tensor.h"
#include "npy.h"
#include "threads.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define OP "cache"
#define MOST_THREADS 64
#define STRETCH ((size_t)16 << 20) /* bytes, about, that a step writes */

/* ---- writing ---- */

/* A stretch of samples, shared by threads that each take the next one. */
typedef struct stretch {
  const ms_source *s;
  int64_t first, n, next;
  size_t bytes; /* of a sample */
  uint8_t *out;
  ms_status status; /* of the first failure */
  ms_error error;
  ms_repairs repairs;
  pthread_mutex_t lock;
} stretch;

static void *fill(void *ud) {
  stretch *c = ud;
  ms_scratch scratch = {0};
  ms_error err;
  pthread_mutex_lock(&c->lock);
  while (c->next < c->n && !c->status) {
    const void *sample;
    int64_t i = c->next++;
    pthread_mutex_unlock(&c->lock);
    ms_status status = c->s->read(c->s, c->first + i, NULL, &scratch, &sample, &err);
    if (!status)
      memcpy(c->out + (size_t)i * c->bytes, sample, c->bytes);
    pthread_mutex_lock(&c->lock);
    if (status && !c->status) {
      c->status = status;
      c->error = err;
    }
  }
  for (int k = 0; k < MS_REPAIR_COUNT; k++)
    c->repairs.count[k] += scratch.repairs.count[k];
  pthread_mutex_unlock(&c->lock);
  ms_scratch_free(&scratch);
  return NULL;
}

static ms_status fill_stretch(stretch *c, int threads, ms_error *err) {
  ms_threads_run(threads - 1, fill, c);
  if (c->status && err)
    *err = c->error;
  return c->status;
}

static size_t sample_bytes(const ms_source *s) {
  return (size_t)(s->t * s->h * s->w * s->c) * ms_dtype_size(s->dtype);
}

static const char *descr(const ms_source *s) {
  return s->dtype == MS_U8 ? "|u1" : sizeof(ms_real) == 4 ? "<f4" : "<f8";
}

static ms_status write_header(ms_file *f, const ms_source *s, ms_error *err) {
  ms_buffer header = {0};
  const int64_t size[5] = {s->n, s->t, s->h, s->w, s->c};
  ms_status status = ms_npy_header(&header, descr(s), 5, size, OP, err);
  if (!status)
    status = ms_file_append(f, header.p, header.bytes, err);
  ms_buffer_free(&header);
  return status;
}

struct ms_cache_writer {
  stretch c;
  int64_t most; /* samples of a stretch */
  ms_file file;
};

ms_status ms_cache_begin(ms_cache_writer **out, const ms_source *s, const char *path, ms_error *err) {
  ms_cache_writer *w = ms_alloc(sizeof *w);
  *out = NULL;
  if (!w)
    return ms_fail(err, MS_EMEM, "%s: out of memory", OP);
  ms_status status = ms_file_begin(&w->file, OP, path, err);
  if (status) {
    ms_free(w);
    return status;
  }
  size_t bytes = sample_bytes(s);
  w->most = bytes ? (int64_t)(STRETCH / bytes) + 1 : 1;
  w->c = (stretch){.s = s, .bytes = bytes, .out = malloc((size_t)w->most * bytes + 1)};
  pthread_mutex_init(&w->c.lock, NULL);
  status = w->c.out ? write_header(&w->file, s, err)
                    : ms_fail(err, MS_EMEM, "%s: out of memory for %lld samples", OP, (long long)w->most);
  if (status)
    ms_cache_abort(w);
  else
    *out = w;
  return status;
}

/* A step that fails can be tried again: nothing of it was written. */
ms_status ms_cache_step(ms_cache_writer *w, int threads, int64_t *done, ms_error *err) {
  stretch *c = &w->c;
  int64_t left = c->s->n - c->first;
  c->n = left < w->most ? left : w->most;
  c->next = 0;
  c->status = MS_OK;
  ms_status status = ms_interrupt_check(err);
  if (status || (status = fill_stretch(c, threads < MOST_THREADS ? threads : MOST_THREADS, err)) ||
      (status = ms_file_append(&w->file, c->out, (size_t)c->n * c->bytes, err)))
    return status;
  *done = c->first += c->n;
  return MS_OK;
}

static void forget(ms_cache_writer *w) {
  pthread_mutex_destroy(&w->c.lock);
  free(w->c.out);
  ms_free(w);
}

ms_status ms_cache_commit(ms_cache_writer *w, ms_repairs *repairs, ms_error *err) {
  ms_status status;
  if (w->c.first < w->c.s->n) {
    status = ms_fail(err, MS_EINVAL, "%s: only %lld of %lld samples are written", OP, (long long)w->c.first,
                     (long long)w->c.s->n);
    ms_file_abort(&w->file);
  } else {
    status = ms_file_commit(&w->file, err);
  }
  if (repairs)
    *repairs = w->c.repairs;
  forget(w);
  return status;
}

void ms_cache_abort(ms_cache_writer *w) {
  if (!w)
    return;
  ms_file_abort(&w->file);
  forget(w);
}

/* ---- reading ---- */

typedef struct cached {
  ms_source source;
  uint8_t *map;
  size_t map_bytes, data, bytes; /* where the samples begin, bytes of one */
} cached;

static void close_cached(ms_source *s) {
  cached *c = (cached *)s;
  if (c->map)
    munmap(c->map, c->map_bytes);
  ms_free(c);
}

static ms_status read_cached(const ms_source *s, int64_t i, const uint64_t *key, ms_scratch *scratch, const void **out,
                             ms_error *err) {
  const cached *c = (const cached *)s;
  (void)key;
  (void)scratch;
  (void)err;
  *out = c->map + c->data + (size_t)i * c->bytes;
  return MS_OK;
}

static ms_status map_file(cached *c, const char *path, ms_error *err) {
  struct stat st;
  ms_status status = MS_OK;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || fstat(fd, &st))
    status = ms_io_fail(OP, path, err);
  else if (!S_ISREG(st.st_mode) || st.st_size == 0)
    status = ms_fail(err, MS_EFORMAT, "%s: %.400s: not a file of samples", OP, path);
  else {
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
      status = ms_io_fail(OP, path, err);
    else {
      c->map = p;
      c->map_bytes = (size_t)st.st_size;
    }
  }
  if (fd >= 0)
    close(fd);
  return status;
}

static ms_status check_file(cached *c, const char *path, const ms_source *like, ms_error *err) {
  ms_input in = {.op = OP, .path = path, .p = c->map, .n = c->map_bytes, .policy = MS_STRICT};
  ms_npy a;
  const int64_t want[5] = {like->n, like->t, like->h, like->w, like->c};
  ms_status status = ms_npy_open(&a, &in, err);
  if (status)
    return status;
  c->bytes = sample_bytes(like);
  c->data = (size_t)(a.data - c->map);
  int bytes = like->dtype == MS_U8,
      typed = bytes ? a.kind == 'u' && a.width == 1 : a.kind == 'f' && a.width == (int)sizeof(ms_real) && !a.big;
  if (a.ndim != 5 || memcmp(a.size, want, sizeof want) || !typed || a.fortran || c->data % sizeof(ms_real))
    return ms_fail(err, MS_EFORMAT, "%s: %.300s: expected %s %s, got %s", OP, path, descr(like),
                   ms_shape_text(5, want).s, ms_npy_text(&a).s);
  return MS_OK;
}

ms_status ms_source_cached(ms_source **out, const char *path, const ms_source *like, ms_error *err) {
  cached *c = ms_alloc(sizeof *c);
  *out = NULL;
  if (!c)
    return ms_fail(err, MS_EMEM, "%s: out of memory", OP);
  c->source = *like;
  c->source.read = read_cached;
  c->source.close = close_cached;
  ms_status status = map_file(c, path, err);
  if (!status)
    status = check_file(c, path, like, err);
  if (status)
    close_cached(&c->source);
  else
    *out = &c->source;
  return status;
}
