#include "damage.h"
#include "../fuzz/input.h"
#include "../../host/core/data/shd.h"
#include <math.h>
#include <pthread.h>

#define GOLDEN MS_ROOT "/tests/ref/shd.h5"

/* What h5py and PyTables wrote (tests/ref/shd.py), with times of float16. */
static void check_golden(const char *path) {
  ms_shd *s;
  ms_error err;
  ms_events e = {0};
  assert_int_equal(ms_shd_open(&s, "SHD", path, &err), MS_OK);
  assert_int_equal(ms_shd_count(s), 3);
  const int64_t *labels = ms_shd_labels(s);
  assert_true(labels[0] == 19 && labels[1] == 0 && labels[2] == 7);
  assert_int_equal(ms_shd_read(&e, s, 0, MS_STRICT, NULL, &err), MS_OK);
  assert_true(e.n == 4 && e.width == 700 && e.height == 1);
  assert_true(e.t[0] == 0 && e.t[1] == 977 && e.t[2] == 250000 && e.t[3] == 700684);
  assert_true(e.x[0] == 0 && e.x[1] == 699 && e.x[2] == 12 && e.x[3] == 350 && e.y[3] == 0 && e.p[3] == 1);
  assert_int_equal(ms_shd_read(&e, s, 1, MS_STRICT, NULL, &err), MS_OK);
  assert_int_equal(e.n, 0);
  assert_int_equal(ms_shd_read(&e, s, 2, MS_STRICT, NULL, &err), MS_OK); /* sorted, equal times as they stood */
  assert_true(e.t[0] == 125000 && e.t[1] == 125000 && e.t[2] == 500000 && e.t[3] == 1375000);
  assert_true(e.x[0] == 2 && e.x[1] == 1 && e.x[2] == 3 && e.x[3] == 0);
  assert_int_equal(ms_shd_read(&e, s, 2, MS_ORACLE, NULL, &err), MS_OK);
  assert_true(e.t[0] == 500000 && e.x[0] == 3);
  assert_int_equal(ms_shd_read(&e, s, 3, MS_STRICT, NULL, &err), MS_ERANGE);
  assert_int_equal(ms_shd_read(&e, s, -1, MS_STRICT, NULL, &err), MS_ERANGE);
  ms_events_free(&e);
  ms_shd_close(s);
}

static void test_golden(void **state) {
  (void)state;
  check_golden(GOLDEN);
  check_golden(MS_ROOT "/tests/ref/shd_tables.h5");
}

/* ---- the golden file, changed ---- */

typedef struct change {
  int at;
  const char *bytes; /* two */
} change;

/* Path of a copy with these bytes in place of others; {0} ends them. */
static const char *changed(const change *c) {
  size_t n;
  unsigned char *p = get_file(GOLDEN, &n);
  for (; c->at; c++)
    memcpy(p + c->at, c->bytes, 2);
  put_file(scratch("changed.h5"), p, n);
  free(p);
  return scratch("changed.h5");
}

static void refused(const char *path, const char *why) {
  ms_shd *s;
  ms_error err;
  ms_status status = ms_shd_open(&s, "SHD", path, &err);
  assert_true(status == MS_EFORMAT || status == MS_EIO);
  assert_null(s);
  if (!strstr(err.text, why))
    fail_msg("expected '%s' in: %s", why, err.text);
}

/* Where the golden file holds what: the addresses of objects, numbers of elements and bytes, types, values. */
enum {
  TIMES = 0x848,
  UNITS = 0x870,
  LABELS = 0x618,
  LABELS_NAME = 0x2d8,
  UNITS_N = 0x9a0,
  UNITS_BYTES = 0x9f2,
  UNITS_TYPE = 0x9c0,
  UNITS_LENGTH = 0x1ac0,
  UNITS_HEAP = 0xaf0,
  LABELS_N = 0x1b10,
  LABELS_BYTES = 0x1b5a,
  LABELS_TYPE = 0x1b28,
  TIME = 0xae0,
  UNIT = 0xaf8,
  LABEL = 0x22f0
};
#define TIMES_AT "\x28\x07"
#define UNITS_AT "\x80\x09"
#define LABELS_AT "\xf0\x1a"
#define SIGNED "\x10\x08"

static void test_schema(void **state) {
  (void)state;
  static const struct {
    change c[3];
    const char *why;
  } cases[] = {{{{TIMES, UNITS_AT}}, "expected lists of floats in /spikes/times, of integers in /spikes/units"},
               {{{TIMES, LABELS_AT}}, "expected lists of floats"},
               {{{UNITS, TIMES_AT}}, "of integers in /spikes/units"},
               {{{UNITS, LABELS_AT}}, "of integers in /spikes/units"},
               {{{UNITS_N, "\2"}, {UNITS_BYTES, "\x20"}}, "expected /spikes/times and /spikes/units of one length"},
               {{{LABELS_NAME, "La"}}, "expected /labels, which is not in there"},
               {{{LABELS, TIMES_AT}}, "/labels: expected an integer for each sample"},
               {{{LABELS_N, "\2"}, {LABELS_BYTES, "\4"}}, "/labels: expected an integer for each sample"},
               {{{LABELS_TYPE, SIGNED}, {LABEL, "\xff\xff"}}, "/labels: expected classes from 0"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    refused(changed(cases[i].c), cases[i].why);
  refused("/nowhere/a.h5", "No such file");
  refused("/tmp", "not a regular file");
  put_file(scratch("a.h5"), "PK\3\4", 4);
  refused(scratch("a.h5"), "expected HDF5, got");
  put_file(scratch("a.h5"), "", 0);
  refused(scratch("a.h5"), "expected HDF5, got");
}

static void test_values(void **state) {
  (void)state;
  static const change values[] = {{UNITS_TYPE, SIGNED}, {UNIT, "\xbc\2"},     {UNIT + 6, "\xff\xff"}, /* 700, -1 */
                                  {TIME + 2, "\0\x7e"}, {TIME + 6, "\0\x7c"}, {0, NULL}}; /* nan, infinity */
  static const change lengths[] = {{UNITS_LENGTH, "\3"}, {UNITS_HEAP, "\6"}, {0, NULL}};
  ms_shd *s;
  ms_error err;
  ms_events e = {0};
  ms_repairs repairs = {0};
  assert_int_equal(ms_shd_open(&s, "SHD", changed(values), &err), MS_OK);
  for (int policy = MS_STRICT; policy <= MS_ORACLE; policy += MS_ORACLE) {
    assert_int_equal(ms_shd_read(&e, s, 0, (ms_policy)policy, &repairs, &err), MS_EFORMAT);
    assert_int_equal(e.n, 0);
    assert_non_null(strstr(err.text, "sample 0, spike 0: expected a time and a unit from 0 to 699, got 0 and 700"));
  }
  assert_int_equal(ms_shd_read(&e, s, 0, MS_LENIENT, &repairs, &err), MS_OK);
  assert_true(e.n == 1 && e.t[0] == 250000 && e.x[0] == 12);
  assert_true(repairs.count[MS_REPAIR_RANGE] == 2 && repairs.count[MS_REPAIR_INVALID] == 1);
  ms_shd_close(s);
  assert_int_equal(ms_shd_open(&s, "SHD", changed(lengths), &err), MS_OK);
  assert_int_equal(ms_shd_read(&e, s, 0, MS_LENIENT, NULL, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "sample 0: 4 times and 3 units"));
  ms_shd_close(s);
  ms_events_free(&e);
}

/* All samples by one policy; the first failure. */
static ms_status read_samples(void *policy, const unsigned char *p, size_t n, ms_error *err) {
  ms_shd *s;
  ms_events e = {0};
  ms_status status = ms_shd_open(&s, "SHD", input_path(p, n), err);
  for (int64_t i = 0; !status && i < ms_shd_count(s); i++) {
    status = ms_shd_read(&e, s, i, *(ms_policy *)policy, NULL, err);
    for (int64_t k = 0; k < e.n; k++)
      assert_true(e.x[k] < 700 && e.y[k] == 0 && e.p[k] == 1 &&
                  (*(ms_policy *)policy == MS_ORACLE || k == 0 || e.t[k] >= e.t[k - 1]));
  }
  ms_events_free(&e);
  ms_shd_close(s);
  return status;
}

/* Every prefix is an error, and so is a flip of a bit where it is noticed. */
static void test_damage(void **state) {
  (void)state;
  static const char *const files[] = {GOLDEN, MS_ROOT "/tests/fuzz/corpus/shd/gzip"};
  for (int i = 0; i < 2; i++) {
    size_t n;
    unsigned char *p = get_file(files[i], &n);
    for (ms_policy policy = MS_STRICT; policy <= MS_ORACLE; policy++) {
      damage_prefixes(read_samples, &policy, p, n);
      assert_true(damage_flips(read_samples, &policy, p, n) > 1000);
    }
    free(p);
  }
}

static void *reader(void *ud) {
  ms_events e = {0};
  ms_error err;
  int64_t sum = 0;
  for (int i = 0; i < 300; i++) {
    if (ms_shd_read(&e, ud, i % 3, MS_STRICT, NULL, &err))
      return (void *)1;
    sum += e.n;
  }
  ms_events_free(&e);
  return sum == 800 ? NULL : (void *)1;
}

static void test_threads(void **state) {
  (void)state;
  ms_shd *s;
  ms_error err;
  pthread_t thread[4];
  assert_int_equal(ms_shd_open(&s, "SHD", GOLDEN, &err), MS_OK);
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, reader, s), 0);
  for (int i = 0; i < 4; i++) {
    void *failed;
    pthread_join(thread[i], &failed);
    assert_null(failed);
  }
  ms_shd_close(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_golden), cmocka_unit_test(test_schema),  cmocka_unit_test(test_values),
      cmocka_unit_test(test_damage), cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
