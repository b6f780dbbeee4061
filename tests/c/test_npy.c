#include "damage.h"
#include "../../host/core/data/npy.h"
#include <zlib.h>

/* An npy file of version 1 from its dictionary and its data. */
static size_t npy(unsigned char *out, const char *dictionary, const void *data, size_t n) {
  size_t length = strlen(dictionary) + 1;
  memcpy(out, "\x93NUMPY\1\0", 8);
  out[8] = (unsigned char)length;
  out[9] = (unsigned char)(length >> 8);
  memcpy(out + 10, dictionary, length - 1);
  out[10 + length - 1] = '\n';
  memcpy(out + 10 + length, data, n);
  return 10 + length + n;
}

/* What NumPy 1.24 writes; the sums are those of its files. */
static size_t golden_u4(unsigned char *out) {
  static const unsigned char data[] = {0, 0, 0, 100, 0, 0, 0, 250, 0xff, 0xff, 0xff, 0xf0};
  char text[128];
  snprintf(text, sizeof text, "%-117s", "{'descr': '>u4', 'fortran_order': False, 'shape': (3,), }");
  size_t n = npy(out, text, data, sizeof data);
  assert_int_equal(n, 140);
  assert_int_equal(crc32(0, out, 140), 0x4782f6b2);
  return n;
}

static size_t golden_f8(unsigned char *out) {
  static const double data[] = {0, 1, 2.5, -1};
  char text[128];
  snprintf(text, sizeof text, "%-117s", "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2, 1, 2), }");
  size_t n = npy(out, text, data, sizeof data);
  assert_int_equal(n, 160);
  assert_int_equal(crc32(0, out, 160), 0xb2d0c1c0);
  return n;
}

static ms_repairs repairs;

static ms_input input(const unsigned char *p, size_t n, ms_policy policy) {
  memset(&repairs, 0, sizeof repairs);
  return (ms_input){.op = "read_npy", .path = "a.npy", .p = p, .n = n, .policy = policy, .repairs = &repairs};
}

static void test_golden(void **state) {
  (void)state;
  unsigned char b[256];
  ms_npy a;
  ms_error err;
  int64_t v[3];
  ms_real r[4];
  ms_input in = input(b, golden_u4(b), MS_STRICT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_OK);
  assert_string_equal(ms_npy_text(&a).s, ">u4 [3]");
  assert_int_equal(ms_npy_dtype(&a), MS_I64);
  assert_int_equal(ms_npy_read(v, MS_I64, NULL, &a, &in, &err), MS_OK);
  assert_true(v[0] == 100 && v[1] == 250 && v[2] == 4294967280);
  in = input(b, golden_f8(b), MS_STRICT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_OK);
  assert_string_equal(ms_npy_text(&a).s, "<f8 [1, 2, 1, 2]");
  assert_int_equal(ms_npy_read(r, MS_F32, NULL, &a, &in, &err), MS_OK);
  assert_true(r[0] == 0 && r[1] == 1 && r[2] == 2.5 && r[3] == -1);
  const int64_t channels_last[] = {4, 1, 4, 2};
  assert_int_equal(ms_npy_read(r, MS_F32, channels_last, &a, &in, &err), MS_OK);
  assert_true(r[0] == 0 && r[1] == 2.5 && r[2] == 1 && r[3] == -1);
  assert_int_equal(ms_npy_read(v, MS_U8, NULL, &a, &in, &err), MS_EFORMAT);
  assert_string_equal(err.text, "read_npy: a.npy: damaged file: byte 144, record 2: expected 0 to 255, got 2.5");
  assert_int_equal(ms_npy_read(v, MS_I64, NULL, &a, &in, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "expected an integer of 64 bits, got 2.5"));
}

/* Every type in both orders of bytes: 1 and one more value. */
static void test_types(void **state) {
  (void)state;
  static const struct {
    const char *descr;
    int width;
    uint64_t bits[2];
    double want;
    ms_dtype dtype;
  } cases[] = {{"b1", 1, {1, 7}, 1, MS_U8},
               {"u1", 1, {1, 200}, 200, MS_U8},
               {"i1", 1, {1, 0x80}, -128, MS_I64},
               {"u2", 2, {1, 0xfffe}, 65534, MS_I64},
               {"i2", 2, {1, 0xfffe}, -2, MS_I64},
               {"u4", 4, {1, 0xfffffffe}, 4294967294.0, MS_I64},
               {"i4", 4, {1, 0xfffffffe}, -2, MS_I64},
               {"u8", 8, {1, 1ull << 40}, 1099511627776.0, MS_I64},
               {"i8", 8, {1, (uint64_t)-5}, -5, MS_I64},
               {"f2", 2, {0x3c00, 0xc100}, -2.5, MS_F32},
               {"f4", 4, {0x3f800000, 0xc0200000}, -2.5, MS_F32},
               {"f8", 8, {0x3ff0000000000000, 0xc004000000000000}, -2.5, MS_F32}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int big = 0; big < 2; big++) {
      unsigned char b[256], data[16];
      char text[80];
      int width = cases[i].width;
      ms_npy a;
      ms_error err;
      int64_t v[2];
      ms_real r[2];
      for (int k = 0; k < 2 * width; k++)
        data[k] = (unsigned char)(cases[i].bits[k / width] >> 8 * (big ? width - 1 - k % width : k % width));
      snprintf(text, sizeof text, "{'descr': '%c%s', 'fortran_order': False, 'shape': (2,), }",
               width == 1 ? "|<"[big] : "<>"[big], cases[i].descr);
      ms_input in = input(b, npy(b, text, data, (size_t)(2 * width)), MS_STRICT);
      assert_int_equal(ms_npy_open(&a, &in, &err), MS_OK);
      assert_int_equal(ms_npy_dtype(&a), cases[i].dtype);
      assert_int_equal(ms_npy_read(r, MS_F32, NULL, &a, &in, &err), MS_OK);
      assert_true(r[0] == 1 && r[1] == (ms_real)cases[i].want);
      if (cases[i].dtype == MS_F32)
        continue;
      assert_int_equal(ms_npy_read(v, MS_I64, NULL, &a, &in, &err), MS_OK);
      assert_true(v[0] == 1 && (double)v[1] == cases[i].want);
    }
}

/* What does not fit is shown as it is. */
static void test_values(void **state) {
  (void)state;
  static const struct {
    const char *descr;
    unsigned char data[9];
    ms_dtype dtype;
    const char *got;
  } cases[] = {{"<u8", "\0\0\0\0\0\0\0\200", MS_I64, "an integer of 64 bits, got 9.2233720368547758e+18"},
               {"<i2", "\376\377", MS_U8, "0 to 255, got -2"},
               {">u2", "\1\0", MS_U8, "0 to 255, got 256"},
               {"<f4", "\0\0\300\177", MS_I64, "an integer of 64 bits, got nan"},
               {"<f8", "\0\0\0\0\0\0\340\103", MS_I64, "an integer of 64 bits, got 9.2233720368547758e+18"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    unsigned char b[256];
    char text[80];
    int64_t v;
    ms_npy a;
    ms_error err;
    snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (), }", cases[i].descr);
    ms_input in = input(b, npy(b, text, cases[i].data, (size_t)(cases[i].descr[2] - '0')), MS_STRICT);
    assert_int_equal(ms_npy_open(&a, &in, &err), MS_OK);
    assert_int_equal(ms_npy_read(&v, cases[i].dtype, NULL, &a, &in, &err), MS_EFORMAT);
    if (!strstr(err.text, cases[i].got))
      fail_msg("expected '%s' in: %s", cases[i].got, err.text);
  }
}

static void test_order(void **state) {
  (void)state;
  static const unsigned char data[] = {1, 2, 3, 4, 5, 6}; /* columns of [[1, 3, 5], [2, 4, 6]] */
  unsigned char b[256], out[6];
  ms_npy a;
  ms_error err;
  ms_input in = input(b, npy(b, "{\"shape\":(2L , 3),'fortran_order':True,'descr':'|u1'}", data, 6), MS_STRICT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_OK);
  assert_int_equal(ms_npy_read(out, MS_U8, NULL, &a, &in, &err), MS_OK);
  assert_memory_equal(out, "\1\3\5\2\4\6", 6);
  const int64_t transposed[] = {1, 2};
  assert_int_equal(ms_npy_read(out, MS_U8, transposed, &a, &in, &err), MS_OK);
  assert_memory_equal(out, data, 6);
}

static void test_shapes(void **state) {
  (void)state;
  unsigned char b[512], data[4] = {9, 8, 7, 6}, out[4];
  ms_npy a;
  ms_error err;
  ms_input in = input(b, npy(b, "{'descr': '|u1', 'fortran_order': False, 'shape': ()}", data, 1), MS_STRICT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_OK);
  assert_int_equal(a.ndim, 0);
  assert_int_equal(ms_npy_read(out, MS_U8, NULL, &a, &in, &err), MS_OK);
  assert_int_equal(out[0], 9);
  in = input(b, npy(b, "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 0)}", data, 0), MS_STRICT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_OK);
  assert_int_equal(a.elements, 0);
  assert_int_equal(ms_npy_read(out, MS_U8, NULL, &a, &in, &err), MS_OK);
  /* version 2 and 3: four bytes of length */
  size_t n = npy(b + 2, "{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}", data, 4);
  memmove(b, b + 2, 8);
  b[8] = b[10], b[9] = b[11], b[10] = b[11] = 0;
  for (unsigned char version = 2; version <= 3; version++) {
    b[6] = version;
    in = input(b, n + 2, MS_STRICT);
    assert_int_equal(ms_npy_open(&a, &in, &err), MS_OK);
    assert_int_equal(ms_npy_read(out, MS_U8, NULL, &a, &in, &err), MS_OK);
    assert_memory_equal(out, data, 4);
  }
}

static void refused(const char *dictionary, const char *why) {
  unsigned char b[1024], data[16] = {0};
  ms_npy a;
  ms_error err;
  ms_input in = input(b, npy(b, dictionary, data, sizeof data), MS_LENIENT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_EFORMAT);
  if (!strstr(err.text, why))
    fail_msg("expected '%s' in: %s", why, err.text);
  assert_null(a.data);
}

static void test_refused(void **state) {
  (void)state;
#define REST ", 'fortran_order': False, 'shape': (1,), }"
  refused("{'descr': '|O'" REST, "never unpickled");
  refused("{'descr': '<U5'" REST, "expected bool, integers or floats, got '<U5'");
  refused("{'descr': '|u4'" REST, "got '|u4'");
  refused("{'descr': '<c8'" REST, "got '<c8'");
  refused("{'descr': ''" REST, "got ''");
  refused("{'descr': [('a', '<u4')]" REST, "got one of structures");
  refused("{'descr': '<u4', 'fortran_order': 0, 'shape': (1,), }", "expected True or False");
  refused("{'descr': '<u4', 'fortran_order': False, 'shape': (1), }", "shape: expected ,");
  refused("{'descr': '<u4', 'fortran_order': False, 'shape': 1, }", "shape: expected (");
  refused("{'descr': '<u4', 'fortran_order': False, 'shape': (-1,), }", "expected a size");
  refused("{'descr': '<u4', 'fortran_order': False, 'shape': (1 1), }", "expected");
  refused("{'descr': '<u4', 'fortran_order': False, 'shape': (9223372036854775808,), }", "overflow");
  refused("{'descr': '<u4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", "overflow");
  refused("{'descr': '<u4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1), }", "too many dimensions");
  refused("{'descr': '<u8', 'fortran_order': False, 'shape': (2305843009213693952,), }",
          "16 bytes of data cannot hold");
  refused("{'descr': '<u4', 'fortran_order': False, }", "expected descr, fortran_order and shape");
  refused("{'descr': '<u4', 'descr': '<u4'" REST, "once each");
  refused("{'descr': '<u4', 'other': 1" REST, "once each");
  refused("{'descr': '<u4'" REST " x", "end of a line");
  refused("('descr', '<u4')", "expected {");
  refused("{'descr': '<u4", "unknown string");
  refused("{'descr': 1", "expected a string");
}

static void test_magic(void **state) {
  (void)state;
  ms_npy a;
  ms_error err;
  ms_input in = input((const unsigned char *)"PK\3\4 and more", 13, MS_STRICT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_EFORMAT);
  assert_string_equal(err.text, "read_npy: a.npy: damaged file: byte 0: not npy: it must begin with \\x93NUMPY; this "
                                "looks like a zip archive (npz)");
  in = input((const unsigned char *)"\x93NUMPY\4\0", 8, MS_STRICT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "expected version 1.0, 2.0 or 3.0, got 4.0"));
}

static void test_extra(void **state) {
  (void)state;
  unsigned char b[256];
  ms_npy a;
  ms_error err;
  size_t n = golden_u4(b);
  ms_input in = input(b, n + 3, MS_STRICT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_EFORMAT);
  assert_string_equal(err.text, "read_npy: a.npy: damaged file: byte 140: 3 bytes behind the data");
  in = input(b, n + 3, MS_LENIENT);
  assert_int_equal(ms_npy_open(&a, &in, &err), MS_OK);
  assert_int_equal(repairs.count[MS_REPAIR_EXTRA], 3);
}

/* Everything to every type, within its range or refused. */
static ms_status read_any(void *ud, const unsigned char *p, size_t n, ms_error *err) {
  ms_npy a;
  (void)ud;
  ms_input in = input(p, n, MS_STRICT);
  ms_status status = ms_npy_open(&a, &in, err);
  if (status)
    return status;
  void *out = malloc((size_t)a.elements * 8 + 1);
  assert_non_null(out);
  for (int dtype = 0; dtype < 3 && !status; dtype++)
    status = ms_npy_read(out, ((ms_dtype[]){MS_I64, MS_F32, MS_U8})[dtype], NULL, &a, &in, err);
  free(out);
  return status;
}

static void test_damage(void **state) {
  (void)state;
  unsigned char b[256];
  size_t n = golden_u4(b);
  damage_prefixes(read_any, NULL, b, n);
  damage_flips(read_any, NULL, b, n);
  n = golden_f8(b);
  damage_prefixes(read_any, NULL, b, n);
  damage_flips(read_any, NULL, b, n);
}

static void test_header(void **state) {
  (void)state;
  unsigned char b[256];
  ms_buffer out = {0};
  ms_error err;
  golden_u4(b);
  assert_int_equal(ms_npy_header(&out, ">u4", 1, (int64_t[]){3}, "write", &err), MS_OK);
  assert_int_equal(out.bytes, 128);
  assert_memory_equal(out.p, b, 128);
  golden_f8(b);
  assert_int_equal(ms_npy_header(&out, "<f8", 4, (int64_t[]){1, 2, 1, 2}, "write", &err), MS_OK);
  assert_int_equal(out.bytes, 256);
  assert_memory_equal(out.p + 128, b, 128);
  assert_int_equal(ms_npy_header(&out, "|u1", 0, NULL, "write", &err), MS_OK);
  assert_non_null(memmem(out.p + 256, 128, "'shape': (), }", 14));
  ms_buffer_free(&out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_golden), cmocka_unit_test(test_types),  cmocka_unit_test(test_order),
      cmocka_unit_test(test_values), cmocka_unit_test(test_shapes), cmocka_unit_test(test_refused),
      cmocka_unit_test(test_magic),  cmocka_unit_test(test_extra),  cmocka_unit_test(test_damage),
      cmocka_unit_test(test_header),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
