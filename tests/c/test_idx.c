#include "scratch.h"
#include "../../host/core/data/idx.h"
#include <zlib.h>

/* Golden bytes of the format's description: images 2 x 2 x 3, labels {9, 0, 7}. */
static const unsigned char images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0,    0,    0,    2,    0,    0,
                                       0, 3, 0, 1, 2, 3, 4, 5, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff};
static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 9, 0, 7};

static size_t gzip(unsigned char *out, size_t room, const void *in, size_t n) {
  z_stream z = {0};
  assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  z.next_in = (Bytef *)(uintptr_t)in;
  z.avail_in = (uInt)n;
  z.next_out = out;
  z.avail_out = (uInt)room;
  assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
  deflateEnd(&z);
  return room - z.avail_out;
}

static ms_status read_bytes(ms_tensor **t, const void *bytes, size_t n, ms_error *err) {
  const char *path = scratch("file");
  put_file(path, bytes, n);
  err->text[0] = 0;
  ms_status status = ms_idx_read(t, path, MS_STRICT, NULL, err);
  if (status) {
    assert_null(*t);
    assert_true(strncmp(err->text, "read_idx: ", 10) == 0);
  }
  return status;
}

static void refused(const void *bytes, size_t n, const char *why) {
  ms_tensor *t;
  ms_error err;
  ms_status status = read_bytes(&t, bytes, n, &err);
  assert_int_equal(status, MS_EFORMAT);
  if (!strstr(err.text, why))
    fail_msg("expected '%s' in: %s", why, err.text);
}

static void test_golden(void **state) {
  (void)state;
  ms_tensor *t;
  ms_error err;
  unsigned char out[12];
  assert_int_equal(read_bytes(&t, images, sizeof images, &err), MS_OK);
  assert_int_equal(t->dtype, MS_U8);
  assert_string_equal(ms_tensor_text(t).s, "uint8 [2, 2, 3]");
  assert_int_equal(ms_read(t, out, &err), MS_OK);
  assert_memory_equal(out, images + 16, 12);
  ms_release(t);
  assert_int_equal(read_bytes(&t, labels, sizeof labels, &err), MS_OK);
  assert_string_equal(ms_tensor_text(t).s, "uint8 [3]");
  assert_int_equal(ms_read(t, out, &err), MS_OK);
  assert_memory_equal(out, labels + 8, 3);
  ms_release(t);
}

static void test_types(void **state) {
  (void)state;
  static const unsigned char i8[] = {0, 0, 9, 1, 0, 0, 0, 2, 0x80, 0x7f};
  static const unsigned char i16[] = {0, 0, 0x0b, 1, 0, 0, 0, 2, 0x80, 0, 1, 2};
  static const unsigned char i32[] = {0, 0, 0x0c, 1, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xfe, 0, 1, 0, 0};
  static const unsigned char f32[] = {0, 0, 0x0d, 1, 0, 0, 0, 2, 0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0};
  static const unsigned char f64[] = {0, 0, 0x0e, 0, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0};
  static const struct {
    const unsigned char *bytes;
    size_t n;
    double want[2];
    ms_dtype dtype;
  } cases[] = {{i8, sizeof i8, {-128, 127}, MS_I64},
               {i16, sizeof i16, {-32768, 258}, MS_I64},
               {i32, sizeof i32, {-2, 65536}, MS_I64},
               {f32, sizeof f32, {1.5, -2}, MS_F32},
               {f64, sizeof f64, {1.5, 0}, MS_F32}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ms_tensor *t;
    ms_error err;
    int64_t integers[2];
    ms_real reals[2];
    assert_int_equal(read_bytes(&t, cases[i].bytes, cases[i].n, &err), MS_OK);
    assert_int_equal(t->dtype, cases[i].dtype);
    assert_int_equal(ms_read(t, t->dtype == MS_I64 ? (void *)integers : (void *)reals, &err), MS_OK);
    for (int64_t k = 0; k < ms_numel(t); k++)
      assert_true((t->dtype == MS_I64 ? (double)integers[k] : (double)reals[k]) == cases[i].want[k]);
    ms_release(t);
  }
}

static void test_gzip(void **state) {
  (void)state;
  unsigned char z[256], out[12];
  ms_tensor *t;
  ms_error err;
  size_t n = gzip(z, sizeof z, images, sizeof images);
  assert_int_equal(read_bytes(&t, z, n, &err), MS_OK);
  assert_int_equal(ms_read(t, out, &err), MS_OK);
  assert_memory_equal(out, images + 16, 12);
  ms_release(t);
  for (size_t i = 0; i < n; i++) { /* cut anywhere */
    assert_int_equal(read_bytes(&t, z, i, &err), MS_EFORMAT);
  }
  z[n] = 0;
  refused(z, n + 1, "behind the gzip data");
  z[n - 5] ^= 1; /* the check sum */
  refused(z, n, "gzip");
  /* two members are one stream */
  n = gzip(z, sizeof z, images, 10);
  n += gzip(z + n, sizeof z - n, images + 10, sizeof images - 10);
  assert_int_equal(read_bytes(&t, z, n, &err), MS_OK);
  ms_release(t);
}

static void test_truncated(void **state) {
  (void)state;
  ms_tensor *t;
  ms_error err;
  for (size_t i = 0; i < sizeof images; i++)
    assert_int_equal(read_bytes(&t, images, i, &err), MS_EFORMAT);
  for (size_t i = 0; i < sizeof labels; i++)
    assert_int_equal(read_bytes(&t, labels, i, &err), MS_EFORMAT);
}

/* Of all single-bit flips of the header, one leaves a valid file: u8 (08) becomes i8 (09). */
static void test_flipped(void **state) {
  (void)state;
  unsigned char bytes[sizeof images];
  for (size_t bit = 0; bit < 16 * 8; bit++) {
    ms_tensor *t;
    ms_error err;
    memcpy(bytes, images, sizeof images);
    bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    if (read_bytes(&t, bytes, sizeof bytes, &err) == MS_OK) {
      assert_int_equal(ms_numel(t), 12);
      assert_int_equal(bytes[2], 9);
      ms_release(t);
    }
  }
}

static void test_impossible(void **state) {
  (void)state;
  unsigned char bytes[64], z[128];
  ms_tensor *t;
  ms_error err;
  memcpy(bytes, images, sizeof images);
  bytes[sizeof images] = 0;
  refused(bytes, sizeof images + 1, "more data");
  size_t n = gzip(z, sizeof z, bytes, sizeof images + 1);
  refused(z, n, "more data");
  refused("PK\3\4", 4, "not an IDX file");
  refused("\0\0\7\1\0\0\0\0", 8, "unknown element type");
  refused("\0\0\10\11", 4, "too many dimensions");
  memcpy(bytes, "\0\0\10\3\377\377\377\377\377\377\377\377\377\377\377\377", 16);
  refused(bytes, sizeof images, "overflow");
  memcpy(bytes, "\0\0\16\2\177\377\377\377\177\377\377\377", 12);
  refused(bytes, sizeof images, "cannot hold");
  /* a bomb: the header alone promises 4 GB, the file cannot hold that */
  n = gzip(z, sizeof z, "\0\0\10\1\377\377\377\377", 8);
  refused(z, n, "cannot hold");
  assert_int_equal(read_bytes(&t, "\0\0\10\2\0\0\0\0\0\0\0\5", 12, &err), MS_OK); /* nothing in it is fine */
  assert_int_equal(ms_numel(t), 0);
  ms_release(t);
}

static void test_missing(void **state) {
  (void)state;
  ms_tensor *t;
  ms_error err;
  assert_int_equal(ms_idx_read(&t, scratch("none"), MS_STRICT, NULL, &err), MS_EIO);
  assert_non_null(strstr(err.text, "No such file"));
  assert_int_equal(ms_idx_read(&t, scratch_folder, MS_STRICT, NULL, &err), MS_EIO);
  assert_non_null(strstr(err.text, "not a regular file"));
}

/* Every allocation that fails gives an error and leaves nothing behind. */
static void test_memory(void **state) {
  (void)state;
  int64_t before = ms_live_counts().bytes;
  put_file(scratch("file"), images, sizeof images);
  for (int64_t n = 0;; n++) {
    ms_tensor *t;
    ms_error err;
    ms_fail_allocation(n);
    ms_status status = ms_idx_read(&t, scratch("file"), MS_STRICT, NULL, &err);
    ms_fail_allocation(-1);
    if (status == MS_OK) {
      ms_release(t);
      assert_true(n > 2);
      break;
    }
    assert_int_equal(status, MS_EMEM);
  }
  assert_int_equal(ms_live_counts().bytes, before);
}

/* Lenient: whole items of a short file, nothing of what follows the data; both are counted in bytes. */
static void test_lenient(void **state) {
  (void)state;
  unsigned char bytes[sizeof images + 3] = {0}, out[12];
  const char *path = scratch("file");
  memcpy(bytes, images, sizeof images);
  for (size_t n = 0; n <= sizeof bytes; n++) {
    ms_tensor *t;
    ms_error err;
    ms_repairs repairs = {{0}};
    put_file(path, bytes, n);
    ms_status status = ms_idx_read(&t, path, MS_LENIENT, &repairs, &err);
    if (n < 16 + 6) { /* not one image */
      assert_int_equal(status, MS_EFORMAT);
      continue;
    }
    assert_int_equal(status, MS_OK);
    assert_int_equal(t->size[0], n < sizeof images ? 1 : 2);
    assert_int_equal(repairs.count[MS_REPAIR_TRUNCATED], n < sizeof images ? 6 : 0);
    assert_int_equal(repairs.count[MS_REPAIR_EXTRA], n < sizeof images ? 0 : n - sizeof images);
    assert_int_equal(ms_read(t, out, &err), MS_OK);
    assert_memory_equal(out, images + 16, (size_t)t->size[0] * 6);
    ms_release(t);
  }
}

/* As torchvision: what the header says, to the byte; 1 to 3 dimensions; not nothing. */
static void test_oracle(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    size_t n;
    const char *why; /* NULL: read */
  } cases[] = {{(const char *)images, sizeof images, NULL},
               {(const char *)labels, sizeof labels, NULL},
               {"\0\0\x0b\1\0\0\0\1\xff\xfe", 10, NULL},
               {(const char *)images, sizeof images - 1, "the file ends too early"},
               {(const char *)images, sizeof images - 6, "the file ends too early"},
               {"\0\0\10\1\0\0\0\1\5\6", 10, "more data than the header says"},
               {"\0\0\x0a\1\0\0\0\1\5", 9, "unknown element type"},
               {"\1\0\10\1\0\0\0\1\5", 9, "must begin with two zero bytes"},
               {"\0\0\10\0\5", 5, "torchvision expects 1 to 3 dimensions"},
               {"\0\0\10\4\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\5", 21, "torchvision expects 1 to 3 dimensions"},
               {"\0\0\10\1\0\0\0\0", 8, "and that there is data"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ms_tensor *t;
    ms_error err;
    ms_repairs repairs = {{0}};
    put_file(scratch("file"), cases[i].bytes, cases[i].n);
    ms_status status = ms_idx_read(&t, scratch("file"), MS_ORACLE, &repairs, &err);
    assert_int_equal(status, cases[i].why ? MS_EFORMAT : MS_OK);
    if (status && !strstr(err.text, cases[i].why))
      fail_msg("expected '%s' in: %s", cases[i].why, err.text);
    assert_true(repairs.count[MS_REPAIR_EXTRA] == 0 && repairs.count[MS_REPAIR_TRUNCATED] == 0);
    ms_release(t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden),  cmocka_unit_test(test_types),
                                     cmocka_unit_test(test_gzip),    cmocka_unit_test(test_truncated),
                                     cmocka_unit_test(test_flipped), cmocka_unit_test(test_impossible),
                                     cmocka_unit_test(test_missing), cmocka_unit_test(test_memory),
                                     cmocka_unit_test(test_lenient), cmocka_unit_test(test_oracle)};
  return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
