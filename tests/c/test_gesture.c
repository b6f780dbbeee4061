#include "scratch.h"
#include "../../host/core/data/gesture.h"

#define COLUMNS "class,startTime_usec,endTime_usec\n"

typedef ms_status (*reader)(ms_buffer *, const ms_input *, ms_error *);
static ms_buffer out;

static ms_status read_as(reader f, const char *text, size_t n, ms_policy policy, ms_error *err) {
  uint8_t *copy = malloc(n); /* a read behind the end is seen */
  memcpy(copy, text, n);
  ms_input in = {"test", "file", copy, n, policy, NULL};
  memset(err, 0, sizeof *err);
  ms_status status = f(&out, &in, err);
  free(copy);
  if (status)
    assert_true(status == MS_EFORMAT && strncmp(err->text, "test: file: ", 12) == 0);
  return status;
}

static void refused(reader f, const char *text, const char *why) {
  ms_error err;
  if (read_as(f, text, strlen(text), MS_STRICT, &err) == MS_OK)
    fail_msg("no error; expected: %s", why);
  if (!strstr(err.text, why))
    fail_msg("expected '%s' in: %s", why, err.text);
}

static int rows_are(const ms_gesture *want, size_t n) {
  const ms_gesture *g = (const void *)out.p;
  int same = out.bytes == n * sizeof *g;
  for (size_t i = 0; i < n && same; i++)
    same = g[i].label == want[i].label && g[i].start_us == want[i].start_us && g[i].end_us == want[i].end_us;
  return same;
}

/* Stretches overlap in the data set. */
static void test_labels(void **state) {
  (void)state;
  static const char text[] = COLUMNS "1,80048239,85092709\n11,85000000,95231007\n", back[] = COLUMNS "2,5,6\n1,4,9";
  static const char windows[] = "class,startTime_usec,endTime_usec\r\n1,80048239,85092709\r\n\r\n11,85000000,95231007";
  static const ms_gesture want[] = {{0, 80048239, 85092709}, {10, 85000000, 95231007}},
                          reversed[] = {{1, 5, 6}, {0, 4, 9}};
  ms_error err;
  assert_int_equal(read_as(ms_gesture_labels, text, sizeof text - 1, MS_STRICT, &err), MS_OK);
  assert_true(rows_are(want, 2));
  assert_int_equal(read_as(ms_gesture_labels, windows, sizeof windows - 1, MS_STRICT, &err), MS_OK);
  assert_true(rows_are(want, 2));
  refused(ms_gesture_labels, back, "byte 40, record 1: expected a start from 5, that of the row before, got 4");
  assert_int_equal(read_as(ms_gesture_labels, back, sizeof back - 1, MS_LENIENT, &err), MS_OK);
  assert_true(rows_are(reversed, 2));
}

static void test_bad_labels(void **state) {
  (void)state;
  static const char *const rows[] = {"1,2",  "1,2,3,4", "1,2,3x", "1,-2,3",  "+1,2,3",  " 1,2,3",
                                     "1,,3", ",2,3",    "1;2;3",  "0x1,2,3", "1,1.5,3", "1,2,1000000000000000",
                                     "x"};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[128], why[128];
    snprintf(text, sizeof text, COLUMNS "1,2,3\n%s\n", rows[i]);
    snprintf(why, sizeof why, "byte 40, record 1: expected three whole numbers, got '%s'", rows[i]);
    refused(ms_gesture_labels, text, why);
  }
  refused(ms_gesture_labels, COLUMNS "0,2,3", "expected a class from 1 to 11, got 0");
  refused(ms_gesture_labels, COLUMNS "12,2,3", "expected a class from 1 to 11, got 12");
  refused(ms_gesture_labels, COLUMNS "1,3,3", "expected an end after the start 3, got 3");
  refused(ms_gesture_labels, COLUMNS "\n\n", "no rows");
  refused(ms_gesture_labels, "1,2,3\n", "expected 'class,startTime_usec,endTime_usec' in the first line");
  refused(ms_gesture_labels, "", "in the first line");
}

static void test_trials(void **state) {
  (void)state;
  static const char text[] = "user01_led.aedat\r\n\n user02.aedat\n", good[] = "user01_led.aedat\r\n\nuser02.aedat  ";
  ms_error err;
  assert_int_equal(read_as(ms_gesture_trials, good, sizeof good - 1, MS_STRICT, &err), MS_OK);
  assert_int_equal(out.bytes, 30);
  assert_memory_equal(out.p, "user01_led.aedat\0user02.aedat", 30);
  refused(ms_gesture_trials, text, "byte 19: expected the name of an .aedat file of this folder, got ' user02.aedat'");
  refused(ms_gesture_trials, "../x.aedat", "expected the name of an .aedat file");
  refused(ms_gesture_trials, "/x.aedat", "expected the name of an .aedat file");
  refused(ms_gesture_trials, "a/x.aedat", "expected the name of an .aedat file");
  refused(ms_gesture_trials, ".aedat", "expected the name of an .aedat file");
  refused(ms_gesture_trials, "x.txt", "expected the name of an .aedat file");
  refused(ms_gesture_trials, "a.aedat\nb.aedat\na.aedat", "byte 16: 'a.aedat' is named twice");
  refused(ms_gesture_trials, "\n", "no names");
  refused(ms_gesture_trials, "", "no names");
}

static void test_damage(void **state) {
  (void)state;
  static const char *const texts[] = {COLUMNS "1,80048239,85092709\r\n11,85000000,95231007\n",
                                      "user01_led.aedat\r\nuser02.aedat\n"};
  const reader readers[] = {ms_gesture_labels, ms_gesture_trials};
  ms_error err;
  for (int k = 0; k < 2; k++) {
    char copy[128];
    size_t n = strlen(texts[k]);
    for (int policy = MS_STRICT; policy <= MS_LENIENT; policy++)
      for (size_t bit = 0; bit < 9 * n; bit++) { /* n prefixes, then 8 n flips */
        memcpy(copy, texts[k], n);
        if (bit >= n)
          copy[(bit - n) / 8] ^= (char)(1 << (bit - n) % 8);
        if (read_as(readers[k], copy, bit < n ? bit : n, (ms_policy)policy, &err) == MS_OK)
          assert_true(out.bytes > 0);
      }
  }
}

static int teardown(void **state) {
  (void)state;
  ms_buffer_free(&out);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_labels), cmocka_unit_test(test_bad_labels),
                                     cmocka_unit_test(test_trials), cmocka_unit_test(test_damage)};
  return cmocka_run_group_tests(tests, NULL, teardown);
}
