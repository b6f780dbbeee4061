#include "eventstest.h"
#include "../../host/core/data/atis.h"

/* Golden bytes of the format's description: the beginning of a real file of N-MNIST, and a file with a mark of overflow. */
#define REAL "070f80028e 131200 0bb7 151100 0bc9 0a1200 0f35 0c0980 0fb7 0e0980 0fbf"
#define MARKED "0000000000 efb3ffffff 01f0000005 2121800006"
static const ms_events_options none = {0}, nmnist = {.width = 34, .height = 34};
#define F ms_atis_decode

static void test_golden(void **state) {
  (void)state;
  uint8_t b[64];
  static const row want[] = {{654, 7, 15, 1},   {2999, 19, 18, 0}, {3017, 21, 17, 0},
                             {3893, 10, 18, 0}, {4023, 12, 9, 1},  {4031, 14, 9, 1}};
  size_t n = unhex(b, REAL);
  for (int policy = MS_STRICT; policy <= MS_ORACLE; policy++)
    decoded(F, b, n, (ms_policy)policy, nmnist, want, COUNT(want));
  assert_int_equal(got.width, 34);
  decoded(F, b, n, MS_STRICT, (ms_events_options){.end_us = 3017}, want, 2);
  assert_int_equal(got.width, 240);
  assert_int_equal(got.height, 180);
  decoded(F, b, n, MS_STRICT, (ms_events_options){.start_us = 3017, .end_us = 4031}, want + 2, 3);
  refused(F, b, n, MS_STRICT, (ms_events_options){.start_us = 5000, .end_us = 6000},
          "no events between start_us and end_us");
  refused(F, b, n, MS_STRICT, (ms_events_options){.width = 21, .height = 19},
          "byte 10, record 2: event at (21, 17), outside of the sensor of 21 x 19");
  refused(F, b, n, MS_STRICT, (ms_events_options){.width = 22, .height = 18}, "record 1: event at (19, 18)");
}

static void test_overflow(void **state) {
  (void)state;
  uint8_t b[64];
  static const row oracle[] = {{0, 0, 0, 0}, {8388607, 239, 179, 1}, {5, 1, 240, 0}, {6, 33, 33, 1}};
  static const row lenient[] = {{0, 0, 0, 0}, {8388607, 239, 179, 1}, {8388607, 33, 33, 1}};
  static const row early[] = {{0, 0, 0, 0}, {127, 239, 179, 1}, {8198, 33, 33, 1}};
  static const row tall[] = {{0, 0, 0, 0}, {2, 1, 240, 0}, {6, 33, 33, 1}};
  size_t n = unhex(b, MARKED);
  decoded(F, b, n, MS_ORACLE, none, oracle, 4);
  refused(F, b, n, MS_STRICT, none, "byte 10, record 2: the clock overflowed (y = 240)");
  decoded(F, b, n, MS_LENIENT, none, lenient, 3); /* 8198, the time that the mark makes, lies before */
  assert_int_equal(repairs.count[MS_REPAIR_OVERFLOW], 1);
  assert_int_equal(repairs.count[MS_REPAIR_TIME], 1);
  n = unhex(b, "0000000000 efb380007f 01f0000005 2121800006");
  decoded(F, b, n, MS_LENIENT, none, early, 3);
  assert_int_equal(repairs.count[MS_REPAIR_TIME], 0);
  n = unhex(b, "0000000000 01f0000002 2121800006");
  decoded(F, b, n, MS_STRICT, (ms_events_options){.height = 241}, tall, 3);
}

static void test_odd(void **state) {
  (void)state;
  uint8_t b[64];
  static const row raised[] = {{9, 1, 2, 0}, {9, 3, 4, 1}};
  size_t n = unhex(b, "0102000009 fffe00000a 0304800008 aabb");
  refused(F, b, n, MS_STRICT, none, "byte 15, record 3: 2 bytes are no record of 5");
  refused(F, b, n, MS_ORACLE, none, "2 bytes are no record of 5");
  decoded(F, b, n, MS_LENIENT, none, raised, 2);
  assert_int_equal(repairs.count[MS_REPAIR_TIME], 1);
  assert_int_equal(repairs.count[MS_REPAIR_RANGE], 1);
  assert_int_equal(repairs.count[MS_REPAIR_TRUNCATED], 2);
  n = unhex(b, "0102000009 0304800008");
  refused(F, b, n, MS_STRICT, none, "byte 5, record 1: time runs backwards, from 9 to 8 us");
  refused(F, "", 0, MS_STRICT, none, "test: file: no events");
  decoded(F, "", 0, MS_LENIENT, none, NULL, 0);
  refused(F, "PK\3\4..", 6, MS_STRICT, none, "the file looks like a zip archive");
}

static void test_damage(void **state) {
  (void)state;
  uint8_t b[64];
  survivors s = sweep(F, b, unhex(b, REAL), nmnist);
  assert_int_equal(s.prefixes, 5);
  assert_true(s.flips > 0);
  sweep(F, b, unhex(b, MARKED), none);
}

static void test_encode(void **state) {
  (void)state;
  uint8_t b[64];
  ms_buffer out = {0};
  size_t n = unhex(b, REAL);
  assert_int_equal(decode_as(F, b, n, MS_STRICT, none), MS_OK);
  assert_int_equal(ms_atis_encode(&out, &got, &E), MS_OK);
  assert_int_equal(out.bytes, n);
  assert_memory_equal(out.p, b, n);
  got.t[5] = (1 << 23) - 1;
  assert_int_equal(ms_atis_encode(&out, &got, &E), MS_OK);
  got.t[5] = 1 << 23;
  assert_int_equal(ms_atis_encode(&out, &got, &E), MS_ERANGE);
  assert_non_null(strstr(E.text, "event 5: expected a time from 4023 to 8388607 us, got 8388608"));
  got.y[3] = 240;
  assert_int_equal(ms_atis_encode(&out, &got, &E), MS_ERANGE);
  assert_non_null(strstr(E.text, "event 3: expected x up to 255, y up to 239 and p 0 or 1, got (10, 240), 0"));
  got.n = 0;
  assert_int_equal(ms_atis_encode(&out, &got, &E), MS_OK);
  assert_int_equal(out.bytes, 0);
  ms_buffer_free(&out);
}

static void put_events(const row *r, int64_t n) {
  assert_int_equal(ms_events_reserve(&got, n, "test", &E), MS_OK);
  got.n = n;
  for (int64_t i = 0; i < n; i++) {
    got.t[i] = r[i].t;
    got.x[i] = (uint16_t)r[i].x;
    got.y[i] = (uint16_t)r[i].y;
    got.p[i] = (uint8_t)r[i].p;
  }
}

/* Closed form: (4, 2) at rest; half, whole way of the first saccade; ties go to the even pixel. */
static void test_stabilize(void **state) {
  (void)state;
  static const row in[] = {{0, 10, 10, 1},      {0, 30, 31, 1},      {0, 29, 31, 0},      {52500, 10, 10, 1},
                           {105000, 10, 10, 0}, {105000, 0, 4, 1},   {157500, 10, 10, 1}, {210000, 10, 10, 0},
                           {210000, 2, 0, 1},   {262500, 10, 10, 1}, {315000, 10, 10, 0}, {30000, 10, 10, 0}};
  static const row want[] = {{0, 14, 12, 1},      {0, 33, 33, 0},      {52500, 12, 8, 1},
                             {105000, 10, 5, 0},  {157500, 9, 8, 1},   {210000, 7, 12, 0},
                             {262500, 10, 12, 1}, {315000, 14, 12, 0}, {30000, 13, 10, 0}};
  put_events(in, COUNT(in));
  ms_atis_stabilize(&got);
  assert_int_equal(got.n, COUNT(want));
  for (int64_t i = 0; i < got.n; i++)
    if (got.t[i] != want[i].t || got.x[i] != want[i].x || got.y[i] != want[i].y || got.p[i] != want[i].p)
      fail_msg("%lld: (%lld, %d, %d, %d)", (long long)i, (long long)got.t[i], got.x[i], got.y[i], got.p[i]);
}

static int teardown(void **state) {
  (void)state;
  ms_events_free(&got);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_overflow),
                                     cmocka_unit_test(test_odd),    cmocka_unit_test(test_damage),
                                     cmocka_unit_test(test_encode), cmocka_unit_test(test_stabilize)};
  return cmocka_run_group_tests(tests, NULL, teardown);
}
