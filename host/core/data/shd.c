#include "shd.h"

#ifndef MS_HDF5

ms_status ms_shd_open(ms_shd **out, const char *op, const char *path, ms_error *err) {
  *out = NULL;
  return ms_fail(err, MS_EINVAL, "%s: %.400s: this build reads no HDF5; install libhdf5-dev and build again", op, path);
}
void ms_shd_close(ms_shd *s) {
  (void)s;
}
int64_t ms_shd_count(const ms_shd *s) {
  (void)s;
  return 0;
}
const int64_t *ms_shd_labels(const ms_shd *s) {
  (void)s;
  return NULL;
}
ms_status ms_shd_read(ms_events *out, ms_shd *s, int64_t i, ms_policy policy, ms_repairs *repairs, ms_error *err) {
  (void)s, (void)policy, (void)repairs;
  out->n = 0;
  return ms_fail(err, MS_EINVAL, "shd: sample %lld: this build reads no HDF5", (long long)i);
}

#else

#include <hdf5.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Debian's serial libhdf5 keeps its state in globals: one caller at a time in the whole process. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct ms_shd {
  const char *op; /* static */
  char *path;
  hid_t file, times, units;
  hid_t transfer, real_list, integer_list; /* how and as what a sample is read */
  int64_t count, *labels;
  size_t most; /* bytes of a list: what the file can hold, widened */
};

static ms_status fail(const ms_shd *s, ms_error *err, const char *what) {
  return ms_fail(err, MS_EFORMAT, "%s: %.400s: damaged file: %s", s->op, s->path, what);
}

/* Memory for a list: no more than the file can hold. */
static void *list_alloc(size_t bytes, void *most) {
  return bytes <= *(const size_t *)most ? malloc(bytes ? bytes : 1) : NULL;
}

static void list_free(void *p, void *most) {
  (void)most;
  free(p);
}

/* The length of a data set of one dimension; -1: it is none. */
static int64_t length(hid_t set) {
  hsize_t n = 0;
  hid_t space = H5Dget_space(set);
  int ok = space >= 0 && H5Sget_simple_extent_ndims(space) == 1 && H5Sget_simple_extent_dims(space, &n, NULL) == 1 &&
           n <= INT64_MAX / 8;
  if (space >= 0)
    H5Sclose(space);
  return ok ? (int64_t)n : -1;
}

/* Whether the elements are lists of numbers of this class. */
static int holds_lists(hid_t set, H5T_class_t class) {
  hid_t type = H5Dget_type(set), base = type >= 0 && H5Tget_class(type) == H5T_VLEN ? H5Tget_super(type) : -1;
  int ok = base >= 0 && H5Tget_class(base) == class;
  if (base >= 0)
    H5Tclose(base);
  if (type >= 0)
    H5Tclose(type);
  return ok;
}

static ms_status read_labels(ms_shd *s, int64_t file_bytes, ms_error *err) {
  hid_t set = H5Dopen2(s->file, "/labels", H5P_DEFAULT), type = -1;
  ms_status status = MS_OK;
  if (set < 0)
    return fail(s, err, "expected /labels");
  type = H5Dget_type(set);
  if (type < 0 || H5Tget_class(type) != H5T_INTEGER || length(set) != s->count)
    status = fail(s, err, "/labels: expected an integer for each sample");
  else if ((hsize_t)s->count * H5Tget_size(type) > (hsize_t)file_bytes * 1032)
    status = fail(s, err, "/labels: more than the file can hold");
  else if (!(s->labels = malloc((size_t)s->count * sizeof *s->labels + 1)))
    status = ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", s->op, s->path);
  else if (H5Dread(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, s->labels) < 0)
    status = fail(s, err, "/labels cannot be read");
  for (int64_t i = 0; i < s->count && !status; i++)
    if (s->labels[i] < 0)
      status = fail(s, err, "/labels: expected classes from 0");
  if (type >= 0)
    H5Tclose(type);
  H5Dclose(set);
  return status;
}

static ms_status open_locked(ms_shd *s, int64_t file_bytes, ms_error *err) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* or it prints */
  if ((s->file = H5Fopen(s->path, H5F_ACC_RDONLY, H5P_DEFAULT)) < 0)
    return fail(s, err, "not HDF5, or cut off");
  s->times = H5Dopen2(s->file, "/spikes/times", H5P_DEFAULT);
  s->units = H5Dopen2(s->file, "/spikes/units", H5P_DEFAULT);
  if (s->times < 0 || s->units < 0)
    return fail(s, err, "expected /spikes/times and /spikes/units");
  if (!holds_lists(s->times, H5T_FLOAT) || !holds_lists(s->units, H5T_INTEGER))
    return fail(s, err, "expected lists of floats in /spikes/times, of integers in /spikes/units");
  s->count = length(s->times);
  if (s->count < 0 || length(s->units) != s->count)
    return fail(s, err, "expected /spikes/times and /spikes/units of one length");
  s->most = (size_t)file_bytes * 8; /* a number has a byte at least */
  s->transfer = H5Pcreate(H5P_DATASET_XFER);
  s->real_list = H5Tvlen_create(H5T_NATIVE_DOUBLE);
  s->integer_list = H5Tvlen_create(H5T_NATIVE_INT64);
  if (s->transfer < 0 || s->real_list < 0 || s->integer_list < 0 ||
      H5Pset_vlen_mem_manager(s->transfer, list_alloc, &s->most, list_free, &s->most) < 0)
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", s->op, s->path);
  return read_labels(s, file_bytes, err);
}

static void close_locked(ms_shd *s) {
  if (s->times >= 0)
    H5Dclose(s->times);
  if (s->units >= 0)
    H5Dclose(s->units);
  if (s->real_list >= 0)
    H5Tclose(s->real_list);
  if (s->integer_list >= 0)
    H5Tclose(s->integer_list);
  if (s->transfer >= 0)
    H5Pclose(s->transfer);
  if (s->file >= 0)
    H5Fclose(s->file);
}

ms_status ms_shd_open(ms_shd **out, const char *op, const char *path, ms_error *err) {
  struct stat st;
  *out = NULL;
  if (stat(path, &st))
    return ms_io_fail(op, path, err);
  if (!S_ISREG(st.st_mode))
    return ms_fail(err, MS_EIO, "%s: %.400s: not a regular file", op, path);
  ms_shd *s = malloc(sizeof *s);
  if (s)
    *s = (ms_shd){op, strdup(path), -1, -1, -1, -1, -1, -1, 0, NULL, 0};
  if (!s || !s->path) {
    free(s);
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", op, path);
  }
  pthread_mutex_lock(&lock);
  ms_status status = open_locked(s, st.st_size, err);
  pthread_mutex_unlock(&lock);
  if (status)
    ms_shd_close(s);
  else
    *out = s;
  return status;
}

void ms_shd_close(ms_shd *s) {
  if (!s)
    return;
  pthread_mutex_lock(&lock);
  close_locked(s);
  pthread_mutex_unlock(&lock);
  free(s->labels);
  free(s->path);
  free(s);
}

int64_t ms_shd_count(const ms_shd *s) {
  return s->count;
}

const int64_t *ms_shd_labels(const ms_shd *s) {
  return s->labels;
}

/* ---- a sample ---- */

/* Element i of the set as list; list->p is from list_alloc. */
static int read_list(hvl_t *list, const ms_shd *s, hid_t set, hid_t type, int64_t i) {
  hsize_t at = (hsize_t)i, one = 1;
  hid_t from = H5Dget_space(set), to = H5Screate(H5S_SCALAR);
  int ok = from >= 0 && to >= 0 && H5Sselect_hyperslab(from, H5S_SELECT_SET, &at, NULL, &one, NULL) >= 0 &&
           H5Dread(set, type, to, from, s->transfer, list) >= 0;
  if (from >= 0)
    H5Sclose(from);
  if (to >= 0)
    H5Sclose(to);
  return ok;
}

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
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", s->op, s->path);
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

static ms_status spikes(ms_events *out, const ms_shd *s, int64_t sample, const hvl_t *times, const hvl_t *units,
                        ms_policy policy, ms_repairs *repairs, ms_error *err) {
  const double *time = times->p;
  const int64_t *unit = units->p;
  int64_t dropped[2] = {0};
  if (times->len != units->len)
    return ms_fail(err, MS_EFORMAT, "%s: %.300s: damaged file: sample %lld: %zu times and %zu units", s->op, s->path,
                   (long long)sample, times->len, units->len);
  ms_status status = ms_events_reserve(out, (int64_t)times->len, s->op, err);
  if (status)
    return status;
  for (size_t k = 0; k < times->len; k++) {
    int invalid = !(fabs(time[k]) < 1e9), outside = unit[k] < 0 || unit[k] >= MS_SHD_UNITS;
    if ((invalid || outside) && policy != MS_LENIENT)
      return ms_fail(err, MS_EFORMAT,
                     "%s: %.300s: damaged file: sample %lld, spike %zu: expected a time and a unit from 0 to %d, got "
                     "%g and %lld",
                     s->op, s->path, (long long)sample, k, MS_SHD_UNITS - 1, time[k], (long long)unit[k]);
    dropped[0] += outside;
    dropped[1] += invalid && !outside;
    if (invalid || outside)
      continue;
    out->t[out->n] = llround(time[k] * 1e6);
    out->x[out->n] = (uint16_t)unit[k];
    out->y[out->n] = 0;
    out->p[out->n++] = 1;
  }
  if (policy != MS_ORACLE && (status = sort(out, s, err)))
    return status;
  if (repairs) {
    repairs->count[MS_REPAIR_RANGE] += dropped[0];
    repairs->count[MS_REPAIR_INVALID] += dropped[1];
  }
  return MS_OK;
}

ms_status ms_shd_read(ms_events *out, ms_shd *s, int64_t i, ms_policy policy, ms_repairs *repairs, ms_error *err) {
  hvl_t times = {0}, units = {0};
  out->n = 0;
  out->width = MS_SHD_UNITS;
  out->height = 1;
  if (i < 0 || i >= s->count)
    return ms_fail(err, MS_ERANGE, "%s: sample: expected 0 to %lld, got %lld", s->op, (long long)s->count - 1,
                   (long long)i);
  pthread_mutex_lock(&lock);
  int ok = read_list(&times, s, s->times, s->real_list, i) && read_list(&units, s, s->units, s->integer_list, i);
  pthread_mutex_unlock(&lock);
  ms_status status = ok ? spikes(out, s, i, &times, &units, policy, repairs, err)
                        : ms_fail(err, MS_EFORMAT, "%s: %.400s: damaged file: sample %lld cannot be read", s->op,
                                  s->path, (long long)i);
  free(times.p);
  free(units.p);
  if (status)
    out->n = 0;
  return status;
}

#endif
