#include "eventstest.h"
#include "../../host/core/data/aedat2.h"

/* Golden bytes of the format's description: a sync signal in record 4, a clock that runs backwards at 3. */
#define HEADER "2321414552 2d444154 322e300d0a 2320 54696d657374616d7073 20 7469636b 20 6973 20 31 20 7573 0d0a"
#define BODY \
  "00000a29 000003e8 00007f00 000003eb 000000ff 000003eb 00004080 fffffffe 0000860b 00000002 00004180 00000007"
static uint8_t golden[89];
static const ms_events_options none = {0};
#define F ms_aedat2_decode

static int setup(void **state) {
  (void)state;
  assert_int_equal(unhex(golden, HEADER BODY), sizeof golden);
  return crc_of(golden, sizeof golden) == 0x17a40fc3 ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  ms_events_free(&got);
  ms_events_free(&got);
  return 0;
}

static void test_golden(void **state) {
  (void)state;
  static const row oracle[] = {{1000, 117, 107, 0},     {1003, 0, 127, 1}, {1003, 127, 0, 0},
                               {4294967294, 63, 63, 1}, {2, 121, 122, 0},  {7, 62, 63, 1}};
  static const row lenient[] = {
      {1000, 117, 107, 0}, {1003, 0, 127, 1}, {1003, 127, 0, 0}, {1003, 63, 63, 1}, {1003, 62, 63, 1}};
  decoded(F, golden, sizeof golden, MS_ORACLE, none, oracle, COUNT(oracle));
  assert_int_equal(got.width, 128);
  assert_int_equal(got.height, 128);
  decoded(F, golden, sizeof golden, MS_LENIENT, none, lenient, COUNT(lenient));
  assert_int_equal(repairs.count[MS_REPAIR_TIME], 2);
  assert_int_equal(repairs.count[MS_REPAIR_SPECIAL], 1);
  decoded(F, golden, 41 + 3 * 8, MS_STRICT, none, oracle, 3);
  refused(F, golden, sizeof golden, MS_STRICT, none,
          "test: file: damaged file: byte 65, record 3: time runs backwards, from 1003 to -2 us");
}

static void test_layouts(void **state) {
  (void)state;
  static const row jaer[] = {{1000, 107, 117, 0}, {1003, 127, 0, 1}, {1003, 0, 127, 0}};
  static const row etf[] = {{1000, 107, 10, 0}, {1003, 127, 127, 1}, {1003, 0, 0, 0}};
  static const row trt[] = {{1000, 10, 107, 0}, {1003, 127, 127, 1}, {1003, 0, 0, 0}};
  decoded(F, golden, 65, MS_STRICT, (ms_events_options){.layout = MS_LAYOUT_JAER}, jaer, 3);
  decoded(F, golden, 65, MS_STRICT, (ms_events_options){.layout = MS_LAYOUT_ETF}, etf, 3);
  decoded(F, golden, 65, MS_STRICT, (ms_events_options){.layout = MS_LAYOUT_TRT}, trt, 3);
}

static size_t file(uint8_t *out, const char *body) {
  memcpy(out, golden, 41);
  return 41 + unhex(out + 41, body);
}

static void test_clock(void **state) {
  (void)state;
  uint8_t b[128];
  static const row wrapped[] = {{4294967295, 127, 127, 1}, {4294967296, 127, 127, 1}, {6442450943, 127, 127, 1}};
  static const row halves[] = {{2147483647, 127, 127, 1}, {2147483648, 127, 127, 1}};
  size_t n = file(b, "00000000ffffffff 0000000000000000 000000007fffffff");
  decoded(F, b, n, MS_STRICT, none, wrapped, 3);
  decoded(F, b, n, MS_STRICT, (ms_events_options){.start_us = 4294967296, .end_us = 6442450943}, wrapped + 1, 1);
  n = file(b, "000000007fffffff 0000000080000000");
  decoded(F, b, n, MS_STRICT, none, halves, 2);
  n = file(b, "0000000000000005 0000000080000005"); /* half a turn: taken for backwards */
  refused(F, b, n, MS_STRICT, none, "record 1: time runs backwards, from 5 to -2147483643 us");
}

static void test_addresses(void **state) {
  (void)state;
  uint8_t b[128];
  static const row one[] = {{1, 127, 127, 1}, {3, 127, 127, 1}};
  static const row three[] = {{1, 127, 127, 1}, {2, 127, 127, 1}, {3, 127, 127, 1}};
  size_t n = file(b, "0000000000000001 0001000000000002 0000000000000003");
  refused(F, b, n, MS_STRICT, none, "byte 49, record 1: address 0x00010000, which a DVS128 does not have");
  decoded(F, b, n, MS_LENIENT, none, one, 2);
  assert_int_equal(repairs.count[MS_REPAIR_RANGE], 1);
  decoded(F, b, n, MS_ORACLE, none, three, 3);
  n = file(b, "0000000000000001 8000000000000002 0000000000000003"); /* bit 31 */
  decoded(F, b, n, MS_STRICT, none, one, 2);
  assert_int_equal(repairs.count[MS_REPAIR_SPECIAL], 1);
}

static void test_headers(void **state) {
  (void)state;
  static const row one[] = {{1, 127, 127, 1}};
  static const char unix_lines[] = "#!AER-DAT2.0\n#\xff\xfe\n#End Of ASCII Header\r\n\0\0\0\0\0\0\0\1";
  decoded(F, unix_lines, sizeof unix_lines - 1, MS_STRICT, none, one, 1);
  refused(F, "", 0, MS_STRICT, none, "expected #!AER-DAT2. at the beginning of AEDAT 2.0 (without it, version 1 with");
  refused(F, "#!AER-DAT2", 10, MS_ORACLE, none, "expected #!AER-DAT2.");
  refused(F, "#!AER-DAT3.1\r\n", 14, MS_LENIENT, none, "got AEDAT 3");
  refused(F, "PK\3\4    ", 8, MS_STRICT, none, "got a zip archive");
  refused(F, "% Data file", 11, MS_STRICT, none, "got a Prophesee file");
  refused(F, golden, 30, MS_LENIENT, none, "the last line of the header does not end");
  refused(F, golden, 41, MS_STRICT, none, "test: file: no events");
  decoded(F, golden, 41, MS_LENIENT, none, NULL, 0);
  decoded(F, golden, 41, MS_ORACLE, none, NULL, 0);
}

static void test_unfinished(void **state) {
  (void)state;
  uint8_t b[128];
  static const row one[] = {{1, 127, 127, 1}};
  size_t n = file(b, "0000000000000001 0000");
  refused(F, b, n, MS_STRICT, none, "byte 49, record 1: 2 bytes are no record of 8");
  refused(F, b, n, MS_ORACLE, none, "2 bytes are no record of 8");
  decoded(F, b, n, MS_LENIENT, none, one, 1);
  assert_int_equal(repairs.count[MS_REPAIR_TRUNCATED], 2);
}

/* A valid file: 41 bytes of header and 3 events. Prefixes that end between events are files, too. */
static void test_damage(void **state) {
  (void)state;
  survivors s = sweep(F, golden, 65, none);
  assert_int_equal(s.prefixes, 2);
  assert_true(s.flips > 0);
  sweep(F, golden, sizeof golden, none);
}

/* A long recording, one record of which is odd, at each place: the records around it are as they were. */
static void test_long(void **state) {
  (void)state;
  enum { N = 600 };
  static const ms_events_options narrow = {.width = 127}, window = {.start_us = 300, .end_us = 4000};
  ms_events e = {0};
  ms_buffer file_bytes = {0};
  assert_int_equal(ms_events_reserve(&e, N, "test", &E), MS_OK);
  for (e.n = 0; e.n < N; e.n++) {
    e.t[e.n] = 4294966000 + 5 * (e.n / 2); /* wraps at record 519 */
    e.x[e.n] = (uint16_t)(e.n * 7 % 127);
    e.y[e.n] = (uint16_t)(e.n * 3 % 128);
    e.p[e.n] = e.n % 3 == 0;
  }
  assert_int_equal(ms_aedat2_encode(&file_bytes, &e, &E), MS_OK);
  for (int layout = MS_LAYOUT_SJ; layout <= MS_LAYOUT_TRT; layout++) {
    assert_int_equal(decode_as(F, file_bytes.p, file_bytes.bytes, MS_STRICT, (ms_events_options){.layout = layout}),
                     MS_OK);
    assert_int_equal(got.n, N);
    for (int i = 0; i < N; i++) {
      int c = 127 - e.y[i], r = 127 - e.x[i]; /* of the address */
      int x[] = {127 - r, 127 - c, 127 - c, r}, y[] = {127 - c, 127 - r, r, 127 - c};
      assert_true(got.t[i] == e.t[i] && got.x[i] == x[layout] && got.y[i] == y[layout] && got.p[i] == e.p[i]);
    }
  }
  assert_int_equal(decode_as(F, file_bytes.p, file_bytes.bytes, MS_STRICT, narrow), MS_OK);
  assert_memory_equal(got.x, e.x, N * sizeof *e.x);
  for (int at = 0; at < N; at++) {
    static const uint8_t odd[] = {0x80, 0, 0, 0}; /* not a pixel's event */
    uint8_t was[4], *r = file_bytes.p + 41 + 8 * at;
    memcpy(was, r, 4);
    memcpy(r, odd, 4);
    assert_int_equal(decode_as(F, file_bytes.p, file_bytes.bytes, MS_STRICT, none), MS_OK);
    assert_int_equal(got.n, N - 1);
    assert_int_equal(repairs.count[MS_REPAIR_SPECIAL], 1);
    for (int i = 0; i < N - 1; i++) {
      int k = i + (i >= at);
      assert_true(got.t[i] == e.t[k] && got.x[i] == e.x[k] && got.y[i] == e.y[k] && got.p[i] == e.p[k]);
    }
    memcpy(r, was, 4);
    memcpy(was, r + 4, 4);
    memset(r + 4, 0, 4); /* a time of 0: after the wrap where it lies behind record 0 */
    if (at > 0 && at < 519) {
      assert_int_equal(decode_as(F, file_bytes.p, file_bytes.bytes, MS_LENIENT, none), MS_OK);
      assert_int_equal(got.n, N);
      assert_int_equal(got.t[at], 4294967296);
      assert_true(got.t[at - 1] == e.t[at - 1] && got.t[N - 1] == e.t[N - 1]);
      assert_true(repairs.count[MS_REPAIR_TIME] > 0);
      refused(F, file_bytes.p, file_bytes.bytes, MS_STRICT, none, "time runs backwards, from 4294967296 to");
    }
    memcpy(r + 4, was, 4);
  }
  for (int i = 0; i < N; i++)
    e.t[i] = 10 * i;
  assert_int_equal(ms_aedat2_encode(&file_bytes, &e, &E), MS_OK);
  assert_int_equal(decode_as(F, file_bytes.p, file_bytes.bytes, MS_STRICT, window), MS_OK);
  assert_int_equal(got.n, 370);
  assert_memory_equal(got.t, e.t + 30, 370 * sizeof *e.t);
  assert_memory_equal(got.y, e.y + 30, 370 * sizeof *e.y);
  ms_events_free(&e);
  ms_buffer_free(&file_bytes);
}

static void test_encode(void **state) {
  (void)state;
  ms_buffer out = {0};
  assert_int_equal(decode_as(F, golden, 65, MS_STRICT, none), MS_OK);
  assert_int_equal(ms_aedat2_encode(&out, &got, &E), MS_OK);
  assert_int_equal(out.bytes, 65);
  assert_memory_equal(out.p, golden, 65);
  got.t[0] = 4294967295;
  got.t[1] = 4294967296;
  got.t[2] = 4294967296 + INT32_MAX;
  static const row back[] = {{4294967295, 117, 107, 0}, {4294967296, 0, 127, 1}, {4294967296 + INT32_MAX, 127, 0, 0}};
  assert_int_equal(ms_aedat2_encode(&out, &got, &E), MS_OK);
  decoded(F, out.p, out.bytes, MS_STRICT, none, back, 3);
  got.t[2]++;
  assert_int_equal(ms_aedat2_encode(&out, &got, &E), MS_ERANGE);
  assert_non_null(strstr(E.text, "event 2: expected a time after 4294967296 that 32 bits can tell, got 6442450944"));
  got.t[1] = got.t[0] - 1;
  assert_int_equal(ms_aedat2_encode(&out, &got, &E), MS_ERANGE);
  got.t[0] = 4294967296;
  assert_int_equal(ms_aedat2_encode(&out, &got, &E), MS_ERANGE);
  got.t[0] = -1;
  assert_int_equal(ms_aedat2_encode(&out, &got, &E), MS_ERANGE);
  got.t[0] = 0;
  got.y[0] = 128;
  assert_int_equal(ms_aedat2_encode(&out, &got, &E), MS_ERANGE);
  assert_non_null(strstr(E.text, "event 0: expected x, y from 0 to 127 and p 0 or 1, got (117, 128), 0"));
  got.n = 0;
  assert_int_equal(ms_aedat2_encode(&out, &got, &E), MS_OK);
  assert_int_equal(out.bytes, 41);
  assert_memory_equal(out.p, golden, 41);
  ms_buffer_free(&out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_golden),    cmocka_unit_test(test_layouts), cmocka_unit_test(test_clock),
      cmocka_unit_test(test_addresses), cmocka_unit_test(test_headers), cmocka_unit_test(test_unfinished),
      cmocka_unit_test(test_damage),    cmocka_unit_test(test_long),    cmocka_unit_test(test_encode)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
