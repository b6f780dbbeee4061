#include "eventstest.h"
#include "../../host/core/data/npz.h"
#include "../../host/core/data/recording.h"

/* One event in each format. */
static const char aedat2[] = "#!AER-DAT2.0\r\n\0\0\x0a\x29\0\0\3\xe8";
static const char aedat3[] =
    "#!AER-DAT3.1\r\n#!END-HEADER\r\n\1\0\1\0\10\0\0\0\4\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\x1b\0\x0a\0\x11\0\0\0";
static const char atis[] = "\x07\x0f\x80\x02\x8e";
static ms_buffer scratch_bytes;

static ms_status read_file(const char *name, const void *bytes, size_t n, ms_events_options opt) {
  put_file(scratch(name), bytes, n);
  memset(&E, 0, sizeof E);
  got.n = 7;
  ms_status status = ms_events_read(&got, &scratch_bytes, scratch(name), &opt, &repairs, &E);
  if (status) {
    assert_int_equal(got.n, 0);
    assert_true(strncmp(E.text, "read_events: ", 13) == 0);
  }
  return status;
}

static void one(int64_t t, int x, int y, int p) {
  assert_int_equal(got.n, 1);
  assert_true(got.t[0] == t && got.x[0] == x && got.y[0] == y && got.p[0] == p);
}

/* By the first bytes, whatever the name; by the name, where the first bytes say nothing. */
static void test_detection(void **state) {
  (void)state;
  const ms_events_options none = {0};
  assert_int_equal(read_file("a.bin", aedat2, sizeof aedat2 - 1, none), MS_OK);
  one(1000, 117, 107, 0);
  assert_int_equal(read_file("b", aedat3, sizeof aedat3 - 1, none), MS_OK);
  one(17, 5, 6, 1);
  assert_int_equal(read_file("c.bin", atis, 5, none), MS_OK);
  one(654, 7, 15, 1);
  assert_int_equal(read_file("c", atis, 5, none), MS_EFORMAT);
  assert_non_null(strstr(E.text, "not a recording of a known format"));
  assert_int_equal(read_file("c", atis, 5, (ms_events_options){.format = MS_EVENTS_ATIS}), MS_OK);
  assert_int_equal(read_file("d.aedat", atis, 5, none), MS_EFORMAT);
  assert_non_null(strstr(E.text, "expected #!AER-DAT2. at the beginning of AEDAT 2.0 (without it, version 1"));
  assert_int_equal(read_file("e.mat", atis, 5, none), MS_EFORMAT);
  assert_non_null(strstr(E.text, "the header of 128 bytes is cut off"));
  assert_int_equal(read_file("f.aedat", aedat3, sizeof aedat3 - 1, (ms_events_options){.format = MS_EVENTS_AEDAT2}),
                   MS_EFORMAT);
  assert_non_null(strstr(E.text, "got AEDAT 3"));
  assert_int_equal(read_file("g.txt", "\x89PNG\r\n\x1a\n", 8, none), MS_EFORMAT);
  assert_non_null(strstr(E.text, "it looks like a PNG image"));
  for (int format = MS_EVENTS_AUTO; format <= MS_EVENTS_NPZ; format++) {
    assert_int_equal(read_file("empty", "", 0, (ms_events_options){.format = (ms_events_format)format}), MS_EFORMAT);
    assert_non_null(strstr(E.text, "/empty: "));
  }
}

static void test_options(void **state) {
  (void)state;
  assert_int_equal(read_file("a", aedat2, sizeof aedat2 - 1, (ms_events_options){.layout = MS_LAYOUT_TRT}), MS_OK);
  one(1000, 10, 107, 0);
  assert_int_equal(read_file("a", aedat2, sizeof aedat2 - 1, (ms_events_options){.flip_x = 1}), MS_OK);
  one(1000, 10, 107, 0);
  assert_int_equal(read_file("a", aedat2, sizeof aedat2 - 1, (ms_events_options){.flip_y = 1}), MS_OK);
  one(1000, 117, 20, 0);
  assert_int_equal(read_file("c.bin", atis, 5, (ms_events_options){.width = 34, .height = 34, .stabilize = 1}), MS_OK);
  one(654, 11, 17, 1);
  repairs.count[MS_REPAIR_TRUNCATED] = 10; /* added up */
  assert_int_equal(read_file("c.bin", "\x07\x0f\x80\x02\x8e\1\2", 7, (ms_events_options){.policy = MS_LENIENT}), MS_OK);
  assert_int_equal(repairs.count[MS_REPAIR_TRUNCATED], 12);
}

/* An archive without events, or without any in the window, is refused as the other formats refuse it. */
static void test_no_events(void **state) {
  (void)state;
  ms_events e = {.t = (int64_t[]){5}, .x = (uint16_t[]){1}, .y = (uint16_t[]){2}, .p = (uint8_t[]){1}};
  for (e.n = 0; e.n < 2; e.n++) {
    ms_buffer archive = {0};
    ms_events_options opt = {.start_us = e.n ? 6 : 0};
    assert_int_equal(ms_npz_events_write(&archive, &e, "test", &E), MS_OK);
    assert_int_equal(read_file("a.npz", archive.p, archive.bytes, opt), MS_EFORMAT);
    assert_non_null(strstr(E.text, e.n ? "a.npz: no events between start_us and end_us" : "a.npz: no events"));
    opt.policy = MS_LENIENT;
    assert_int_equal(read_file("a.npz", archive.p, archive.bytes, opt), MS_OK);
    assert_int_equal(got.n, 0);
    ms_buffer_free(&archive);
  }
}

static void test_missing(void **state) {
  (void)state;
  const ms_events_options none = {0};
  got.n = 7;
  assert_int_equal(ms_events_read(&got, &scratch_bytes, scratch("none"), &none, NULL, &E), MS_EIO);
  assert_non_null(strstr(E.text, "No such file"));
  assert_int_equal(got.n, 0);
  assert_int_equal(ms_events_read(&got, &scratch_bytes, scratch_folder, &none, NULL, &E), MS_EIO);
}

static void test_written(void **state) {
  (void)state;
  static const ms_events_format formats[] = {MS_EVENTS_AEDAT2, MS_EVENTS_NPZ, MS_EVENTS_ATIS};
  ms_events e = {0};
  size_t n;
  assert_int_equal(ms_events_reserve(&e, 3, "test", &E), MS_OK);
  for (e.n = 0; e.n < 3; e.n++) {
    e.t[e.n] = 100 * e.n;
    e.x[e.n] = (uint16_t)(20 + e.n);
    e.y[e.n] = (uint16_t)(30 * e.n);
    e.p[e.n] = e.n == 1;
  }
  for (int k = 0; k < 3; k++) {
    ms_events_options opt = {.format = formats[k]};
    assert_int_equal(ms_events_write(scratch("out"), formats[k], &e, &E), MS_OK);
    assert_int_equal(ms_events_read(&got, &scratch_bytes, scratch("out"), &opt, NULL, &E), MS_OK);
    assert_int_equal(got.n, 3);
    assert_memory_equal(got.t, e.t, 3 * sizeof *e.t);
    assert_memory_equal(got.x, e.x, 3 * sizeof *e.x);
    assert_memory_equal(got.y, e.y, 3 * sizeof *e.y);
    assert_memory_equal(got.p, e.p, 3);
  }
  e.y[2] = 240; /* a failure leaves the file that was there */
  assert_int_equal(ms_events_write(scratch("out"), MS_EVENTS_ATIS, &e, &E), MS_ERANGE);
  assert_int_equal(ms_events_write(scratch("out"), MS_EVENTS_MAT5, &e, &E), MS_EINVAL);
  free(get_file(scratch("out"), &n));
  assert_int_equal(n, 15);
  e.y[2] = 0;
  assert_int_equal(ms_events_write(scratch("no/where"), MS_EVENTS_ATIS, &e, &E), MS_EIO);
  ms_events_free(&e);
}

static int teardown(void **state) {
  ms_events_free(&got);
  ms_buffer_free(&scratch_bytes);
  return scratch_teardown(state);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_detection), cmocka_unit_test(test_options),
                                     cmocka_unit_test(test_missing), cmocka_unit_test(test_written),
                                     cmocka_unit_test(test_no_events)};
  return cmocka_run_group_tests(tests, scratch_setup, teardown);
}
