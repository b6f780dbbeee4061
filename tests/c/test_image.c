#include "scratch.h"
#include "../../host/core/data/image.h"
#include "../../host/core/data/resize.h"
#include "image_golden.h"
#include <zlib.h>

#define FILES (sizeof decoded / sizeof *decoded)

static ms_error err;

static unsigned char *corpus(size_t i, size_t *n) {
  char path[512];
  snprintf(path, sizeof path, "%s/tests/fuzz/corpus/%s", MS_ROOT, decoded[i].file);
  return get_file(path, n);
}

static ms_input input(const void *p, size_t n, ms_policy policy, ms_repairs *repairs) {
  return (ms_input){.op = "test", .path = "file", .p = p, .n = n, .policy = policy, .repairs = repairs};
}

static int available(void) {
  return strcmp(ms_image_jpeg_version(), "none") && strcmp(ms_image_png_version(), "none");
}

static void test_pillow(void **state) {
  ms_picture picture = {0};
  (void)state;
  for (size_t i = 0; i < FILES; i++) {
    size_t n;
    int64_t w, h;
    unsigned char *bytes = corpus(i, &n);
    ms_input in = input(bytes, n, MS_STRICT, NULL);
    assert_int_equal(ms_image_size(&w, &h, &in, &err), MS_OK);
    assert_true(w == decoded[i].w && h == decoded[i].h);
    for (int grey = 0; grey < 2; grey++) {
      if (ms_image_decode(&picture, &in, NULL, &(ms_image_options){.grey = grey}, &err))
        fail_msg("%s: %s", decoded[i].file, err.text);
      assert_true(picture.t == 1 && picture.w == w && picture.h == h && picture.c == (grey ? 1 : 3));
      uint32_t crc = (uint32_t)crc32(0, picture.memory.p, (uInt)picture.memory.bytes);
      if (crc != (grey ? decoded[i].grey : decoded[i].rgb))
        fail_msg("%s: other pixels than Pillow's%s", decoded[i].file, grey ? " in grey" : "");
    }
    free(bytes);
  }
  ms_picture_free(&picture);
}

/* (100, 50, 20, 30) is (137, 181, 207), up to what JPEG loses. */
static void test_cmyk(void **state) {
  static const uint8_t expected[3] = {137, 181, 207};
  ms_picture picture = {0};
  (void)state;
  for (size_t i = 0; i < FILES; i++)
    if (strstr(decoded[i].file, "cmyk-flat")) {
      size_t n;
      unsigned char *bytes = corpus(i, &n);
      ms_input in = input(bytes, n, MS_STRICT, NULL);
      assert_int_equal(ms_image_decode(&picture, &in, NULL, NULL, &err), MS_OK);
      for (int c = 0; c < 3; c++)
        assert_true(abs(picture.memory.p[c] - expected[c]) <= 2);
      free(bytes);
    }
  assert_int_equal(picture.c, 3);
  ms_picture_free(&picture);
}

/* Of a box the same pixels as of everything: every position of small boxes, and larger ones. */
static void test_boxes(void **state) {
  ms_picture whole = {0}, part = {0};
  (void)state;
  for (size_t i = 0; i < FILES; i++) {
    size_t n;
    unsigned char *bytes = corpus(i, &n);
    ms_input in = input(bytes, n, MS_STRICT, NULL);
    assert_int_equal(ms_image_decode(&whole, &in, NULL, NULL, &err), MS_OK);
    for (int64_t y = 0; y < whole.h; y++)
      for (int64_t x = y % 2; x < whole.w; x += 2) {
        int64_t w = 1 + (x * 7 + y * 3) % (whole.w - x), h = 1 + (x * 5 + y) % (whole.h - y);
        if (ms_image_decode(&part, &in, &(ms_box){x, y, w, h}, NULL, &err))
          fail_msg("%s", err.text);
        for (int64_t r = 0; r < h; r++)
          if (memcmp(part.memory.p + r * w * 3, whole.memory.p + ((y + r) * whole.w + x) * 3, (size_t)w * 3))
            fail_msg("%s: %d x %d at (%d, %d), row %d", decoded[i].file, (int)w, (int)h, (int)x, (int)y, (int)r);
      }
    assert_int_equal(ms_image_decode(&part, &in, &(ms_box){1, 0, whole.w, 1}, NULL, &err), MS_ERANGE);
    assert_int_equal(part.t, 0);
    free(bytes);
  }
  ms_picture_free(&whole);
  ms_picture_free(&part);
}

/* Whatever a decoder answers, it says why, allocates what the bytes justify and leaves nothing behind. */
static ms_status attempt(const void *bytes, size_t n, ms_policy policy, int64_t *repaired) {
  ms_picture picture = {0};
  ms_repairs repairs = {0};
  ms_input in = input(bytes, n, policy, &repairs);
  err.text[0] = 0;
  ms_status status = ms_image_decode(&picture, &in, NULL, &(ms_image_options){.max_pixels = 1 << 20}, &err);
  if (status ? !err.text[0] || picture.t : picture.t != 1)
    fail_msg("status %d, t = %d, '%s'", status, (int)picture.t, err.text);
  *repaired = repairs.count[MS_REPAIR_IMAGE];
  ms_picture_free(&picture);
  return status;
}

static void test_every_prefix(void **state) {
  (void)state;
  for (size_t i = 0; i < FILES; i++) {
    size_t n, kept = 0;
    int64_t repaired;
    unsigned char *bytes = corpus(i, &n);
    for (size_t k = 0; k < n; k++) {
      unsigned char *copy = malloc(k + 1);
      assert_non_null(copy);
      memcpy(copy, bytes, k);
      if (attempt(copy, k, MS_STRICT, &repaired) != MS_EFORMAT)
        fail_msg("%s: the first %zu of %zu bytes pass", decoded[i].file, k, n);
      if (attempt(copy, k, MS_LENIENT, &repaired) == MS_OK) {
        kept++;
        assert_int_equal(repaired, 1);
      }
      attempt(copy, k, MS_ORACLE, &repaired);
      free(copy);
    }
    if (kept < 2) /* from the header on, lenient shows what there is */
      fail_msg("%s: %zu prefixes were kept", decoded[i].file, kept);
    assert_int_equal(attempt(bytes, n, MS_LENIENT, &repaired), MS_OK);
    assert_int_equal(repaired, 0);
    free(bytes);
  }
}

static void test_every_bit(void **state) {
  (void)state;
  for (size_t i = 0; i < FILES; i++) {
    size_t n;
    int64_t repaired;
    unsigned char *bytes = corpus(i, &n);
    for (size_t bit = 0; bit < 8 * n; bit++) {
      bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
      attempt(bytes, n, bit % 2 ? MS_STRICT : MS_LENIENT, &repaired);
      bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    free(bytes);
  }
}

static void expect(const void *bytes, size_t n, const char *text) {
  int64_t repaired;
  assert_int_equal(attempt(bytes, n, MS_STRICT, &repaired), MS_EFORMAT);
  if (!strstr(err.text, text))
    fail_msg("'%s' lacks '%s'", err.text, text);
}

static void test_other_files(void **state) {
  static const unsigned char bomb[] =
      "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x03\xe8\0\0\x03\xe8\x10\x02\0\0\0\x18\x33\x0d\xe0";
  (void)state;
  expect("", 0, "test: file: damaged file: byte 0: the file is empty");
  expect("\0\0\0", 3, "expected a JPEG or PNG image");
  expect("PK\3\4....", 8, "expected a JPEG or PNG image, this looks like a zip archive");
  expect("#!AER-DAT2.0\r\n", 14, "this looks like AEDAT 2.0");
  expect(bomb, sizeof bomb - 1, "damaged file: byte");
  for (size_t i = 0; i < FILES; i++) {
    size_t n;
    unsigned char *bytes = corpus(i, &n);
    ms_picture picture = {0};
    ms_input in = input(bytes, n, MS_STRICT, NULL);
    assert_int_equal(ms_image_decode(&picture, &in, NULL, &(ms_image_options){.max_pixels = 50}, &err), MS_EFORMAT);
    assert_non_null(strstr(err.text, "expected at most 50 pixels, got"));
    ms_picture_free(&picture);
    if (strstr(decoded[i].file, "420.jpg")) { /* 65500 x 65500 pixels in a header of a kilobyte */
      size_t at = 0;
      while (at + 9 < n && !(bytes[at] == 0xff && bytes[at + 1] == 0xc0))
        at++;
      memcpy(bytes + at + 5, "\x20\0\x20\0", 4);
      int64_t repaired;
      picture = (ms_picture){0};
      in = input(bytes, n, MS_LENIENT, NULL);
      assert_int_equal(ms_image_decode(&picture, &in, NULL, NULL, &err), MS_EFORMAT);
      assert_non_null(strstr(err.text, "bytes cannot hold 8192 x 8192 pixels"));
      assert_int_equal(picture.memory.bytes, 0);
      attempt(bytes, n, MS_ORACLE, &repaired);
    }
    free(bytes);
  }
}

static void test_png_round_trip(void **state) {
  ms_picture picture = {0}, back = {0};
  ms_buffer file = {0};
  (void)state;
  for (int c = 1; c <= 3; c += 2) {
    assert_int_equal(ms_picture_shape(&picture, MS_U8, 1, 5, 7, c, "test", &err), MS_OK);
    for (size_t i = 0; i < picture.memory.bytes; i++)
      picture.memory.p[i] = (uint8_t)(i * 37);
    assert_int_equal(ms_image_encode_png(&file, &picture, "test", &err), MS_OK);
    ms_input in = input(file.p, file.bytes, MS_STRICT, NULL);
    assert_int_equal(ms_image_decode(&back, &in, NULL, &(ms_image_options){.grey = c == 1}, &err), MS_OK);
    assert_int_equal(back.memory.bytes, picture.memory.bytes);
    assert_memory_equal(back.memory.p, picture.memory.p, picture.memory.bytes);
  }
  assert_int_equal(ms_picture_shape(&picture, MS_U8, 1, 5, 7, 2, "test", &err), MS_OK);
  assert_int_equal(ms_image_encode_png(&file, &picture, "test", &err), MS_ESHAPE);
  ms_picture_free(&picture);
  ms_picture_free(&back);
  ms_buffer_free(&file);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pillow),         cmocka_unit_test(test_cmyk),      cmocka_unit_test(test_boxes),
      cmocka_unit_test(test_every_prefix),   cmocka_unit_test(test_every_bit), cmocka_unit_test(test_other_files),
      cmocka_unit_test(test_png_round_trip),
  };
  (void)resized;
  return available() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
