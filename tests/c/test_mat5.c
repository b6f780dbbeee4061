#include "eventstest.h"
#include "../../host/core/data/mat5.h"

/* Golden bytes of the format's description: x uint8 [3, 1], ts double [3, 1] that lies there as uint16. */
#define X                                                                                                        \
  "0e000000 30000000 06000000 08000000 09000000 00000000 05000000 08000000 03000000 01000000 01000100 78000000 " \
  "02000300 0102ff00"
#define TS                                                                                                       \
  "0e000000 38000000 06000000 08000000 06000000 00000000 05000000 08000000 03000000 01000000 01000200 74730000 " \
  "04000000 "                                                                                                    \
  "06000000 0000f401 ffff0000"
/* After it: y int8 [3, 1] = {0, 3, 5}, pol double [3, 1] = {1, 0, -1}. */
#define Y                                                                                                        \
  "0e000000 30000000 06000000 08000000 08000000 00000000 05000000 08000000 03000000 01000000 01000100 79000000 " \
  "01000300 00030500"
#define POL                                                                                                      \
  "0e000000 48000000 06000000 08000000 06000000 00000000 05000000 08000000 03000000 01000000 01000300 706f6c00 " \
  "09000000 "                                                                                                    \
  "18000000 000000000000f03f 0000000000000000 000000000000f0bf"
static const ms_events_options none = {0};
static const row events[] = {{0, 1, 0, 1}, {500, 2, 3, 0}, {65535, 255, 5, 0}};
#define WIDE ((ms_events_options){.width = 256})
#define F ms_mat5_decode

static size_t file(uint8_t *out, const char *arrays) {
  memset(out, 0, 128);
  memcpy(out, "MATLAB 5.0 MAT-file", 19);
  memcpy(out + 124, "\0\1IM", 4);
  return 128 + unhex(out + 128, arrays);
}

/* The arrays one by one, each compressed. */
static size_t packed_file(uint8_t *out, size_t room, int arrays, const char *const *array) {
  size_t n = file(out, "");
  for (int i = 0; i < arrays; i++) {
    uint8_t raw[256];
    uLongf bytes = room - n - 8;
    size_t length = unhex(raw, array[i]);
    assert_int_equal(compress(out + n + 8, &bytes, raw, length), Z_OK);
    uint32_t tag[2] = {15, (uint32_t)bytes};
    memcpy(out + n, tag, 8);
    n += 8 + bytes;
  }
  return n;
}

static ms_status find(ms_mat5_array *a, int k, const uint8_t *b, size_t n) {
  ms_input in = {"test", "file", b, n, MS_STRICT, NULL};
  return ms_mat5_find(a, k, &in, &E);
}

static void test_golden(void **state) {
  (void)state;
  uint8_t b[512];
  int64_t v[3];
  size_t n = file(b, X TS);
  assert_int_equal(crc_of(b, n), 0xdec1ac64);
  ms_mat5_array a[] = {{.name = "ts"}, {.name = "none"}, {.name = "x"}};
  ms_input in = {"test", "file", b, n, MS_STRICT, NULL};
  assert_int_equal(find(a, 3, b, n), MS_OK);
  assert_true(a[0].found && !a[1].found && a[2].found);
  assert_int_equal(a[0].rows, 3);
  assert_int_equal(a[0].columns, 1);
  assert_int_equal(ms_mat5_integers(v, &a[0], 0, 3, &in, &E), MS_OK);
  assert_true(v[0] == 0 && v[1] == 500 && v[2] == 65535);
  assert_int_equal(ms_mat5_integers(v, &a[2], 1, 2, &in, &E), MS_OK);
  assert_true(v[0] == 2 && v[1] == 255);
  ms_mat5_free(a, 3);
}

static void test_events(void **state) {
  (void)state;
  uint8_t b[1024];
  size_t n = file(b, X TS Y POL);
  decoded(F, b, n, MS_STRICT, WIDE, events, 3);
  assert_int_equal(got.height, 180);
  refused(F, b, n, MS_STRICT, none, "record 2: event at (255, 5), outside of the sensor of 240 x 180");
  decoded(F, b, n, MS_LENIENT, none, events, 2);
  static const row oracle[] = {{0, 1, 0, 1}, {500, 2, 3, 0}, {65535, 255, 5, 1}};
  decoded(F, b, n, MS_ORACLE, none, oracle, 3);
  refused(F, b, file(b, X TS Y), MS_STRICT, none, "there is no array 'pol'");
  refused(F, b, file(b, TS Y POL), MS_LENIENT, none, "there is no array 'x'");
}

static void test_compressed(void **state) {
  (void)state;
  static const char *const arrays[] = {Y, POL, X, TS}, *const twice[] = {X, X};
  uint8_t b[1024];
  size_t n = packed_file(b, sizeof b, 4, arrays);
  decoded(F, b, n, MS_STRICT, WIDE, events, 3);
  sweep(F, b, n, WIDE);
  n = packed_file(b, sizeof b, 2, twice);
  refused(F, b, n, MS_STRICT, none, "two arrays 'x'");
  n = packed_file(b, sizeof b, 1, arrays);
  b[n - 1] ^= 1;
  refused(F, b, n, MS_STRICT, none, "byte 136: compressed data: incorrect data check");
  b[n - 1] ^= 1;
  b[n++] = 0; /* behind the stream, inside of the element */
  b[132]++;
  refused(F, b, n, MS_STRICT, none, "they do not hold what their size says");
}

/* A size that no deflate stream of that length can reach asks for no memory. */
static void test_bomb(void **state) {
  (void)state;
  static const char *const huge[] = {"0e000000 ffffff7f"}, *const other[] = {"01000000 00000000"},
                           *const tag[] = {"0e00"};
  uint8_t b[512];
  refused(F, b, packed_file(b, sizeof b, 1, huge), MS_STRICT, none,
          "expected an array that fits, got type 14 of 2147483647 bytes");
  refused(F, b, packed_file(b, sizeof b, 1, other), MS_STRICT, none,
          "expected an array that fits, got type 1 of 0 bytes");
  refused(F, b, packed_file(b, sizeof b, 1, tag), MS_STRICT, none, "they end too early");
}

/* One that it can reach, but no recording needs. */
static void test_too_large(void **state) {
  (void)state;
  size_t noise = (size_t)11 << 17, room = 2 * noise;
  uint8_t *raw = malloc(noise), *b = malloc(room);
  uLongf bytes = room - 136;
  uint32_t seed = 1;
  for (size_t i = 0; i < noise; i++)
    raw[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
  unhex(raw, "0e000000 08000040");
  file(b, "");
  assert_int_equal(compress(b + 136, &bytes, raw, noise), Z_OK);
  uint32_t tag[2] = {15, (uint32_t)bytes};
  memcpy(b + 128, tag, 8);
  refused(F, b, 136 + bytes, MS_STRICT, none, "expected at most 1073741824 bytes unpacked, got more");
  free(raw);
  free(b);
}

/* One array of 1 x 2 with elements of every type, little- and big-endian. */
static void test_types(void **state) {
  (void)state;
  static const struct {
    int type, class, width;
    const char *little;
    int64_t want[2];
  } cases[] = {{1, 8, 1, "80 7f", {-128, 127}},
               {2, 9, 1, "80 7f", {128, 127}},
               {3, 10, 2, "0080 0100", {-32768, 1}},
               {4, 11, 2, "0080 0100", {32768, 1}},
               {5, 12, 4, "feffffff 00010000", {-2, 256}},
               {6, 13, 4, "feffffff 00010000", {4294967294, 256}},
               {7, 7, 4, "000000c0 0000804b", {-2, 16777216}},
               {9, 6, 8, "00000000000000c0 000000000000f041", {-2, 4294967296}},
               {12, 14, 8, "feffffffffffffff 0000000001000000", {-2, 4294967296}},
               {13, 15, 8, "0500000000000000 0000000001000000", {5, 4294967296}}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int big = 0; big < 2; big++) {
      uint8_t b[256] = {0}, raw[16];
      int64_t v[2];
      uint32_t w[14] = {14, 0, 6, 8, (uint32_t)cases[i].class, 0, 5, 8, 1, 2, 1, 1, 0, 0};
      size_t bytes = unhex(raw, cases[i].little), n = 128 + sizeof w + 8 + (bytes + 7) / 8 * 8;
      uint32_t tag[2] = {(uint32_t)cases[i].type, (uint32_t)bytes};
      w[1] = (uint32_t)(n - 136);
      for (int k = 0; k < 14 && big; k++)
        w[k] = __builtin_bswap32(w[k]);
      for (int k = 0; k < 2 && big; k++)
        tag[k] = __builtin_bswap32(tag[k]);
      memcpy(b + 124, big ? "\1\0MI" : "\0\1IM", 4);
      memcpy(b + 128, w, sizeof w);
      b[128 + 48] = 'a';
      memcpy(b + 128 + sizeof w, tag, 8);
      for (size_t k = 0; k < bytes; k++) {
        size_t width = (size_t)cases[i].width;
        b[128 + sizeof w + 8 + k] = raw[big ? k / width * width + width - 1 - k % width : k];
      }
      ms_mat5_array a = {.name = "a"};
      ms_input in = {"test", "file", b, n, MS_STRICT, NULL};
      if (find(&a, 1, b, n) || ms_mat5_integers(v, &a, 0, 2, &in, &E))
        fail_msg("type %d: %s", cases[i].type, E.text);
      assert_true(a.found && a.rows == 1 && a.columns == 2);
      assert_true(v[0] == cases[i].want[0] && v[1] == cases[i].want[1]);
    }
}

static void test_no_whole_numbers(void **state) {
  (void)state;
  static const char *const odd[] = {"000000000000f83f", "000000000000f07f", "000000000000f8ff", "000000000000e043"};
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) { /* 1.5, infinity, nan, 2^63 */
    uint8_t b[1024];
    size_t n = file(b, X TS Y POL);
    unhex(b + n - 16, odd[i]);
    refused(F, b, n, MS_STRICT, WIDE, "record 1: 'pol': expected whole numbers");
  }
  uint8_t b[1024];
  size_t n = file(b, X TS Y POL);
  unhex(b + n - 16, "0000000000000040");
  refused(F, b, n, MS_STRICT, WIDE, "record 1: 'pol': expected 1, 0 or -1, got 2");
  decoded(F, b, n, MS_LENIENT, WIDE, (row[]){events[0], events[2]}, 2);
  assert_int_equal(repairs.count[MS_REPAIR_INVALID], 1);
}

static void test_arrays(void **state) {
  (void)state;
  uint8_t b[1024];
  size_t n = file(b, X TS Y POL);
  static const struct {
    int at;
    uint8_t byte;
    const char *why;
  } cases[] = {{128, 13, "byte 128: expected an array, got type 13"},
               {132, 0xff, "byte 128: an element of 255 bytes, of which there are 248"},
               {132, 0xf8, "'x': more data than the sizes say"},
               {136, 5, "byte 136: expected the flags of an array, got type 5"},
               {144, 1, "'x': expected real numbers, got class 1"},
               {145, 8, "'x': expected real numbers, got class 9, complex"},
               {152, 6, "expected the sizes of an array"},
               {160, 2, "bytes of type 2 cannot be 2 x 1 numbers"},
               {163, 0x80, "impossible sizes"},
               {168, 2, "expected the name of an array"},
               {170, 5, "a small element of 5 bytes"},
               {176, 3, "'x': 3 bytes of type 3 cannot be 3 x 1 numbers"},
               {176, 8, "'x': 3 bytes of type 8 cannot be"},
               {178, 2, "'x': 2 bytes of type 2 cannot be 3 x 1 numbers"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint8_t was = b[cases[i].at];
    b[cases[i].at] = cases[i].byte;
    refused(F, b, n, MS_STRICT, WIDE, cases[i].why);
    b[cases[i].at] = was;
  }
  b[160] = 1; /* as a row instead of a column */
  b[164] = 3;
  decoded(F, b, n, MS_STRICT, WIDE, events, 3);
}

static void test_headers(void **state) {
  (void)state;
  uint8_t b[256];
  size_t n = file(b, "");
  refused(F, "", 0, MS_STRICT, none, "the header of 128 bytes is cut off");
  refused(F, "#!AER-DAT2.0\r\n", 14, MS_STRICT, none, "the file looks like AEDAT 2.0");
  memcpy(b, "MATLAB 7.3", 10);
  refused(F, b, n, MS_STRICT, none, "expected version 5, got 7.3 (HDF5)");
  b[124] = 3;
  memcpy(b, "\x89HDF\r\n\x1a\n ", 9);
  refused(F, b, n, MS_STRICT, none, "byte 124: expected the header of a MAT file of version 5, got HDF5");
}

/* As SciPy writes it (tests/ref/mat5.py): compressed, of several types, among arrays of other kinds. */
static void test_scipy(void **state) {
  (void)state;
  size_t n;
  unsigned char *b = get_file(MS_ROOT "/tests/ref/events.mat", &n);
  assert_int_equal(decode_as(F, b, n, MS_STRICT, none), MS_OK);
  assert_int_equal(got.n, 1000);
  for (int i = 0; i < 1000; i++)
    assert_true(got.t[i] == 700 * i && got.x[i] == i % 240 && got.y[i] == i % 180 && got.p[i] == (i % 3 == 0));
  assert_int_equal(sweep(F, b, n, none).prefixes, 0);
  free(b);
}

static void test_damage(void **state) {
  (void)state;
  uint8_t b[1024];
  survivors s = sweep(F, b, file(b, X TS Y POL), WIDE);
  assert_int_equal(s.prefixes, 0);
  assert_true(s.flips > 0);
}

static int teardown(void **state) {
  (void)state;
  ms_events_free(&got);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden),
                                     cmocka_unit_test(test_events),
                                     cmocka_unit_test(test_compressed),
                                     cmocka_unit_test(test_bomb),
                                     cmocka_unit_test(test_too_large),
                                     cmocka_unit_test(test_types),
                                     cmocka_unit_test(test_no_whole_numbers),
                                     cmocka_unit_test(test_arrays),
                                     cmocka_unit_test(test_headers),
                                     cmocka_unit_test(test_scipy),
                                     cmocka_unit_test(test_damage)};
  return cmocka_run_group_tests(tests, NULL, teardown);
}
