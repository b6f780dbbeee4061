#include "shd.h"
#include "hdf5.h"
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct ms_shd {
  ms_input in; /* the file, mapped; op is static, path is ours */
  ms_hdf5_array times, units;
  ms_buffer time, unit; /* their elements, which refer to lists */
  int64_t count, *labels;
};

static ms_status fail(const ms_shd *s, ms_error *err, const char *what) {
  return ms_fail(err, MS_EFORMAT, "%s: %.400s: damaged file: %s", s->in.op, s->in.path, what);
}

static ms_status map(ms_shd *s, ms_error *err) {
  struct stat st;
  int fd = open(s->in.path, O_RDONLY | O_CLOEXEC);
  ms_status status = MS_OK;
  if (fd < 0 || fstat(fd, &st))
    status = ms_io_fail(s->in.op, s->in.path, err);
  else if (!S_ISREG(st.st_mode))
    status = ms_fail(err, MS_EIO, "%s: %.400s: not a regular file", s->in.op, s->in.path);
  else if (st.st_size > 0) {
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
      status = ms_io_fail(s->in.op, s->in.path, err);
    else {
      s->in.p = p;
      s->in.n = (size_t)st.st_size;
    }
  }
  if (fd >= 0)
    close(fd);
  return status;
}

/* An array of lists, as many as there are samples. */
static ms_status read_lists(ms_hdf5_array *a, ms_buffer *elements, ms_shd *s, const char *path, ms_error *err) {
  ms_status status = ms_hdf5_find(a, path, &s->in, err);
  return status || !a->lists ? status : ms_hdf5_read(elements, a, &s->in, err);
}

static ms_status read_labels(ms_shd *s, ms_error *err) {
  ms_hdf5_array a;
  ms_buffer raw = {0};
  ms_status status = ms_hdf5_find(&a, "/labels", &s->in, err);
  if (status)
    return status;
  if (a.lists || a.kind == 'f' || a.n != s->count)
    return fail(s, err, "/labels: expected an integer for each sample");
  status = ms_hdf5_read(&raw, &a, &s->in, err);
  if (!status && !(s->labels = malloc((size_t)s->count * sizeof *s->labels + 1)))
    status = ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", s->in.op, s->in.path);
  for (int64_t i = 0; i < s->count && !status; i++)
    if ((s->labels[i] = ms_hdf5_integer(&a, raw.p + i * a.width)) < 0)
      status = fail(s, err, "/labels: expected classes from 0");
  ms_buffer_free(&raw);
  return status;
}

static ms_status read_schema(ms_shd *s, ms_error *err) {
  ms_status status = map(s, err);
  if (status || (status = read_lists(&s->times, &s->time, s, "/spikes/times", err)) ||
      (status = read_lists(&s->units, &s->unit, s, "/spikes/units", err)))
    return status;
  if (!s->times.lists || s->times.kind != 'f' || !s->units.lists || s->units.kind == 'f')
    return fail(s, err, "expected lists of floats in /spikes/times, of integers in /spikes/units");
  s->count = s->times.n;
  if (s->units.n != s->count)
    return fail(s, err, "expected /spikes/times and /spikes/units of one length");
  return read_labels(s, err);
}

ms_status ms_shd_open(ms_shd **out, const char *op, const char *path, ms_error *err) {
  ms_shd *s = calloc(1, sizeof *s);
  char *copy = strdup(path);
  *out = NULL;
  if (!s || !copy) {
    free(s);
    free(copy);
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", op, path);
  }
  s->in.op = op;
  s->in.path = copy;
  ms_status status = read_schema(s, err);
  if (status)
    ms_shd_close(s);
  else
    *out = s;
  return status;
}

void ms_shd_close(ms_shd *s) {
  if (!s)
    return;
  if (s->in.n)
    munmap((void *)(uintptr_t)s->in.p, s->in.n);
  ms_buffer_free(&s->time);
  ms_buffer_free(&s->unit);
  free((void *)(uintptr_t)s->in.path);
  free(s->labels);
  free(s);
}

int64_t ms_shd_count(const ms_shd *s) {
  return s->count;
}

const int64_t *ms_shd_labels(const ms_shd *s) {
  return s->labels;
}

/* ---- a sample ---- */

typedef struct spike {
  int64_t t, order;
  uint16_t unit;
} spike;

static int earlier(const void *a, const void *b) {
  const spike *x = a, *y = b;
  return x->t != y->t ? (x->t > y->t) - (x->t < y->t) : (x->order > y->order) - (x->order < y->order);
}

static ms_status sort(ms_events *e, const ms_shd *s, ms_error *err) {
  int64_t i = 1;
  while (i < e->n && e->t[i] >= e->t[i - 1])
    i++;
  if (i >= e->n)
    return MS_OK;
  spike *list = malloc((size_t)e->n * sizeof *list);
  if (!list)
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", s->in.op, s->in.path);
  for (i = 0; i < e->n; i++)
    list[i] = (spike){e->t[i], i, e->x[i]};
  qsort(list, (size_t)e->n, sizeof *list, earlier);
  for (i = 0; i < e->n; i++) {
    e->t[i] = list[i].t;
    e->x[i] = list[i].unit;
  }
  free(list);
  return MS_OK;
}

ms_status ms_shd_read(ms_events *out, const ms_shd *s, int64_t i, ms_policy policy, ms_repairs *repairs,
                      ms_error *err) {
  const uint8_t *time, *unit;
  int64_t n, units, dropped[2] = {0};
  out->n = 0;
  out->width = MS_SHD_UNITS;
  out->height = 1;
  if (i < 0 || i >= s->count)
    return ms_fail(err, MS_ERANGE, "%s: sample: expected 0 to %lld, got %lld", s->in.op, (long long)s->count - 1,
                   (long long)i);
  ms_status status = ms_hdf5_list(&time, &n, &s->times, s->time.p + i * s->times.element, &s->in, err);
  if (status || (status = ms_hdf5_list(&unit, &units, &s->units, s->unit.p + i * s->units.element, &s->in, err)))
    return status;
  if (n != units)
    return ms_fail(err, MS_EFORMAT, "%s: %.300s: damaged file: sample %lld: %lld times and %lld units", s->in.op,
                   s->in.path, (long long)i, (long long)n, (long long)units);
  if ((status = ms_events_reserve(out, n, s->in.op, err)))
    return status;
  for (int64_t k = 0; k < n; k++, time += s->times.width, unit += s->units.width) {
    double t = ms_bytes_real(ms_bytes(time, s->times.width, s->times.big), s->times.width);
    int64_t x = ms_hdf5_integer(&s->units, unit);
    int invalid = !(fabs(t) < 1e9), outside = x < 0 || x >= MS_SHD_UNITS;
    if ((invalid || outside) && policy != MS_LENIENT) {
      out->n = 0;
      return ms_fail(err, MS_EFORMAT,
                     "%s: %.300s: damaged file: sample %lld, spike %lld: expected a time and a unit from 0 to %d, got "
                     "%g and %lld",
                     s->in.op, s->in.path, (long long)i, (long long)k, MS_SHD_UNITS - 1, t, (long long)x);
    }
    dropped[0] += outside;
    dropped[1] += invalid && !outside;
    if (invalid || outside)
      continue;
    out->t[out->n] = llround(t * 1e6);
    out->x[out->n] = (uint16_t)x;
    out->y[out->n] = 0;
    out->p[out->n++] = 1;
  }
  if (policy != MS_ORACLE && (status = sort(out, s, err))) {
    out->n = 0;
    return status;
  }
  if (repairs) {
    repairs->count[MS_REPAIR_RANGE] += dropped[0];
    repairs->count[MS_REPAIR_INVALID] += dropped[1];
  }
  return MS_OK;
}
