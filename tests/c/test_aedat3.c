#include "eventstest.h"
#include "../../host/core/data/aedat3.h"

/* Golden bytes of the format's description: a packet of three events, the last marked invalid; one of another type; one
** behind the first overflow of the clock. */
#define HEADER "#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
#define PACKETS                                                                                                      \
  "0100 0100 08000000 04000000 00000000 03000000 03000000 02000000  1b000a00 11000000  0100fe00 12000000  26001200 " \
  "13000000"                                                                                                         \
  "0000 0100 08000000 04000000 00000000 01000000 01000000 01000000  03000000 14000000"                               \
  "0100 0100 08000000 04000000 01000000 01000000 01000000 01000000  07018000 03000000"
static const ms_events_options none = {0};
#define F ms_aedat3_decode
static const row valid[] = {{17, 5, 6, 1}, {18, 127, 0, 0}, {2147483651, 64, 65, 1}};

static size_t file(uint8_t *out, const char *header, const char *packets) {
  memcpy(out, header, strlen(header));
  return strlen(header) + unhex(out + strlen(header), packets);
}

static void test_golden(void **state) {
  (void)state;
  uint8_t b[256];
  static const row every[] = {{17, 5, 6, 1}, {18, 127, 0, 0}, {19, 9, 9, 1}, {2147483651, 64, 65, 1}};
  size_t n = file(b, HEADER, PACKETS);
  assert_int_equal(n, 42 + 52 + 36 + 36);
  decoded(F, b, n, MS_STRICT, none, valid, 3);
  assert_int_equal(repairs.count[MS_REPAIR_INVALID], 1);
  assert_int_equal(got.width, 128);
  decoded(F, b, n, MS_LENIENT, none, valid, 3);
  decoded(F, b, n, MS_ORACLE, none, every, 4);
}

static void test_windows(void **state) {
  (void)state;
  uint8_t b[256];
  size_t n = file(b, HEADER, PACKETS);
  decoded(F, b, n, MS_STRICT, (ms_events_options){.start_us = 18, .end_us = 19}, valid + 1, 1);
  decoded(F, b, n, MS_STRICT, (ms_events_options){.start_us = 17, .end_us = 18}, valid, 1);
  decoded(F, b, n, MS_STRICT, (ms_events_options){.start_us = 19}, valid + 2, 1);
  refused(F, b, n, MS_STRICT, (ms_events_options){.start_us = 19, .end_us = 100},
          "no events between start_us and end_us");
  decoded(F, b, n, MS_LENIENT, (ms_events_options){.start_us = 19, .end_us = 100}, NULL, 0);
  /* What lies in a packet that ends before the window is not looked at. */
  static const uint8_t late[] = {0xff, 0, 0, 0};
  memcpy(b + 42 + 28 + 4, late, 4);
  refused(F, b, n, MS_STRICT, none, "record 1: time runs backwards");
  decoded(F, b, n, MS_STRICT, (ms_events_options){.start_us = 20}, valid + 2, 1);
  refused(F, b, n, MS_STRICT, (ms_events_options){.start_us = 19}, "record 1: time runs backwards");
  b[42 + 28 + 4] = 17;
  /* Reading stops where a packet reaches the end: what is behind it may be anything. */
  memset(b + 42 + 52, 0xee, n - 42 - 52);
  decoded(F, b, n, MS_STRICT, (ms_events_options){.end_us = 18}, valid, 1);
  refused(F, b, n, MS_STRICT, (ms_events_options){.end_us = 100}, "byte 94: a compressed packet");
}

/* Places that are not used; the older version's 14 bits. */
static void test_places(void **state) {
  (void)state;
  uint8_t b[256];
  static const row used[] = {{17, 5, 6, 1}}, all[] = {{17, 5, 6, 1}, {0, 0, 0, 0}};
  static const char packet[] =
      "0100 0100 08000000 04000000 00000000 02000000 01000000 01000000  1b000a00 11000000  00000000 00000000";
  static const char older[] = "0100 0100 08000000 04000000 00000000 01000000 01000000 01000000  63001400 11000000";
  size_t n = file(b, HEADER, packet);
  decoded(F, b, n, MS_STRICT, none, used, 1);
  decoded(F, b, n, MS_ORACLE, none, all, 2);
  n = file(b, "#!AER-DAT3.0\r\n#!END-HEADER\r\n", older);
  decoded(F, b, n, MS_STRICT, none, used, 1);
}

static void test_odd(void **state) {
  (void)state;
  uint8_t b[256];
  static const row raised[] = {{17, 5, 6, 1}, {17, 127, 0, 0}};
  static const char late[] =
      "0100 0100 08000000 04000000 00000000 02000000 02000000 02000000  1b000a00 11000000  0100fe00 10000000";
  static const char negative[] =
      "0100 0100 08000000 04000000 00000000 02000000 02000000 02000000  1b000a00 11000000  0100fe00 10000080";
  static const char outside[] =
      "0100 0100 08000000 04000000 00000000 02000000 02000000 02000000  1b000a00 11000000  01000001 12000000";
  size_t n = file(b, HEADER, late);
  refused(F, b, n, MS_STRICT, none, "byte 78, record 1: time runs backwards, from 17 to 16 us");
  decoded(F, b, n, MS_LENIENT, none, raised, 2);
  assert_int_equal(repairs.count[MS_REPAIR_TIME], 1);
  n = file(b, HEADER, negative);
  refused(F, b, n, MS_STRICT, none, "byte 78, record 1: a negative time");
  decoded(F, b, n, MS_LENIENT, none, raised, 2);
  n = file(b, HEADER, outside);
  refused(F, b, n, MS_STRICT, none, "record 1: event at (128, 0), outside of the sensor of 128 x 128");
  decoded(F, b, n, MS_LENIENT, none, raised, 1);
  assert_int_equal(repairs.count[MS_REPAIR_RANGE], 1);
  assert_int_equal(decode_as(F, b, n, MS_STRICT, (ms_events_options){.width = 346, .height = 260}), MS_OK);
  assert_int_equal(got.x[1], 128);
}

static void test_packets(void **state) {
  (void)state;
  static const struct {
    int at;
    uint8_t byte;
    const char *why;
  } cases[] = {{1, 0x80, "byte 42: a compressed packet"},
               {4, 4, "expected polarity events of 8 bytes with the time at 4, got 4 and 4"},
               {8, 0, "expected polarity events of 8 bytes with the time at 4, got 8 and 0"},
               {7, 0x80, "an impossible packet"},
               {15, 0x80, "an impossible packet"},
               {16, 2, "an impossible packet: 8 bytes an event, room for 2, 3 events, 2 valid"},
               {19, 0x80, "an impossible packet"},
               {24, 4, "an impossible packet"},
               {27, 0x80, "an impossible packet"}};
  uint8_t b[256];
  size_t n = file(b, HEADER, PACKETS);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint8_t was = b[42 + cases[i].at];
    b[42 + cases[i].at] = cases[i].byte;
    for (int policy = MS_STRICT; policy <= MS_ORACLE; policy++)
      refused(F, b, n, (ms_policy)policy, none, cases[i].why);
    b[42 + cases[i].at] = was;
  }
  refused(F, b, 42 + 28 + 12, MS_STRICT, none, "byte 42: a packet of 24 bytes, of which the file holds 12");
  decoded(F, b, 42 + 28 + 12, MS_LENIENT, none, valid, 1);
  assert_int_equal(repairs.count[MS_REPAIR_TRUNCATED], 4);
  refused(F, b, 42 + 52 + 10, MS_ORACLE, none, "byte 94: 10 bytes are no header of a packet");
  decoded(F, b, 42 + 52 + 10, MS_LENIENT, none, valid, 2);
  assert_int_equal(repairs.count[MS_REPAIR_TRUNCATED], 10);
  memset(b + 42 + 16, 0xff, 3); /* room for 2^30 events of 8 bytes */
  b[42 + 19] = 0x3f;
  refused(F, b, n, MS_STRICT, none, "a packet of 8589934584 bytes, of which the file holds 96");
  decoded(F, b, n, MS_LENIENT, none, valid, 2);
}

static void test_headers(void **state) {
  (void)state;
  refused(F, "", 0, MS_STRICT, none, "expected #!AER-DAT3. at the beginning of AEDAT 3");
  refused(F, "#!AER-DAT2.0\r\n", 14, MS_STRICT, none, "got AEDAT 2.0");
  refused(F, "#!AER-DAT4.0\r\n", 14, MS_ORACLE, none, "got AEDAT 4");
  refused(F, "#!AER-DAT3.2\r\n#!END-HEADER\r\n", 29, MS_STRICT, none, "byte 11: expected AEDAT 3.0 or 3.1");
  refused(F, "#!AER-DAT3.1\r\n#Format: Serial-TS\r\n#!END-HEADER\r\n", 49, MS_STRICT, none,
          "byte 14: only '#Format: RAW' is read");
  refused(F, "#!AER-DAT3.1\r\n#!END-HEADER\n", 27, MS_STRICT, none,
          "byte 27: the header does not end with #!END-HEADER");
  refused(F, "#!AER-DAT3.1\r\nx\r\n", 17, MS_STRICT, none, "byte 14: the header does not end");
  refused(F, HEADER, 42, MS_STRICT, none, "no events");
  decoded(F, HEADER, 42, MS_LENIENT, none, NULL, 0);
}

static void test_damage(void **state) {
  (void)state;
  uint8_t b[256];
  survivors s = sweep(F, b, file(b, HEADER, PACKETS), none);
  assert_int_equal(s.prefixes, 2); /* behind the first packet and the second */
  assert_true(s.flips > 0);
}

static int teardown(void **state) {
  (void)state;
  ms_events_free(&got);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden),  cmocka_unit_test(test_windows),
                                     cmocka_unit_test(test_places),  cmocka_unit_test(test_odd),
                                     cmocka_unit_test(test_packets), cmocka_unit_test(test_headers),
                                     cmocka_unit_test(test_damage)};
  return cmocka_run_group_tests(tests, NULL, teardown);
}
