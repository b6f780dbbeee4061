#include "scratch.h"
#include "../../host/core/data/resize.h"
#include "../../host/core/data/image.h"
#include "image_golden.h"
#include <zlib.h>

static ms_resizer resizer;
static ms_picture in, out;
static ms_error err;

static void shape(ms_dtype dtype, int64_t t, int64_t h, int64_t w, int64_t c) {
  assert_int_equal(ms_picture_shape(&in, dtype, t, h, w, c, "test", &err), MS_OK);
}

static void noise(void) {
  for (size_t i = 0; i < in.memory.bytes; i++)
    in.memory.p[i] = (uint8_t)((uint32_t)i * 2654435761u >> 24);
}

static void resize(const ms_box *crop, const ms_resize_options *opt) {
  if (ms_resize(&resizer, &out, &in, crop, opt, "test", &err))
    fail_msg("%s", err.text);
}

static void test_pillow(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof resized / sizeof *resized; i++) {
    shape(MS_U8, 1, resized[i].h, resized[i].w, resized[i].c);
    noise();
    ms_resize_options opt = {
        .filter = resized[i].filter, .w = resized[i].to_w, .h = resized[i].to_h, .alpha = resized[i].c == 2};
    memcpy(opt.box, resized[i].box, sizeof opt.box);
    resize(NULL, &opt);
    uint32_t crc = (uint32_t)crc32(0, out.memory.p, (uInt)out.memory.bytes);
    if (crc != resized[i].crc)
      fail_msg("case %zu: %08x, expected %08x", i, crc, resized[i].crc);
  }
}

static void test_closed_forms(void **state) {
  static const uint8_t expected[9] = {82, 85, 83, 85, 85, 85, 83, 85, 84};
  static const uint8_t alpha[18] = {255, 255, 128, 255, 0, 255, 255, 128, 127, 128, 0, 128, 0, 0, 0, 0, 0, 0};
  (void)state;
  shape(MS_U8, 2, 8, 8, 1); /* every frame alike */
  for (int i = 0; i < 128; i++)
    in.memory.p[i] = (i / 8 % 8 + i % 8) % 3 == 0 ? 255 : 0;
  resize(NULL, &(ms_resize_options){.w = 3, .h = 3});
  assert_int_equal(out.t, 2);
  assert_memory_equal(out.memory.p, expected, 9);
  assert_memory_equal(out.memory.p + 9, expected, 9);
  shape(MS_U8, 1, 8, 8, 2);
  for (int i = 0; i < 64; i++) {
    in.memory.p[2 * i] = i % 8 < 4 ? 255 : 0;
    in.memory.p[2 * i + 1] = i / 8 < 4 ? 255 : 0;
  }
  resize(NULL, &(ms_resize_options){.w = 3, .h = 3, .alpha = 1});
  assert_memory_equal(out.memory.p, alpha, 18);
}

/* The weights themselves: 255 at one place gives 255 times them. */
static void test_weights(void **state) {
  static const int32_t k[] = {1214141, 1655646, 993388, 331129};
  (void)state;
  shape(MS_F32, 1, 1, 128, 1);
  for (int x = 0; x < 4; x++) {
    memset(in.memory.p, 0, in.memory.bytes);
    ms_picture_reals(&in)[x] = 1;
    resize(NULL, &(ms_resize_options){.w = 48, .h = 1});
    assert_true(fabs((double)ms_picture_reals(&out)[0] * 4194304 - k[x]) < 1);
  }
}

/* Parts: of the result, of the image, and a picture that holds only what is needed. */
static void test_parts(void **state) {
  uint8_t whole[3 * 40 * 30];
  ms_resize_options opt = {.filter = MS_FILTER_BICUBIC, .w = 40, .h = 30};
  ms_box reads;
  ms_picture all = {0};
  (void)state;
  shape(MS_U8, 1, 61, 93, 3);
  noise();
  resize(NULL, &opt);
  memcpy(whole, out.memory.p, sizeof whole);
  opt.window = (ms_box){7, 5, 20, 11};
  resize(NULL, &opt);
  for (int y = 0; y < 11; y++)
    assert_memory_equal(out.memory.p + y * 60, whole + ((5 + y) * 40 + 7) * 3, 60);
  assert_int_equal(ms_resize_reads(&resizer, 93, 61, &opt, &reads, "test", &err), MS_OK);
  assert_true(reads.x > 0 && reads.y > 0 && reads.x + reads.w < 93 && reads.y + reads.h < 61);
  all = in;
  in = (ms_picture){0};
  shape(MS_U8, 1, reads.h, reads.w, 3);
  for (int64_t y = 0; y < reads.h; y++)
    memcpy(in.memory.p + y * reads.w * 3, all.memory.p + ((reads.y + y) * 93 + reads.x) * 3, (size_t)reads.w * 3);
  resize(&(ms_box){-reads.x, -reads.y, 93, 61}, &opt);
  for (int y = 0; y < 11; y++)
    assert_memory_equal(out.memory.p + y * 60, whole + ((5 + y) * 40 + 7) * 3, 60);
  opt.window = (ms_box){0};
  assert_int_equal(ms_resize(&resizer, &out, &in, &(ms_box){-reads.x, -reads.y, 93, 61}, &opt, "test", &err),
                   MS_ERANGE);
  ms_picture_free(&in);
  in = all;
  /* a cut image is resized as if there were nothing around it */
  opt.window = (ms_box){0};
  resize(&(ms_box){10, 20, 50, 33}, &opt);
  memcpy(whole, out.memory.p, sizeof whole);
  for (int y = 0; y < 33; y++)
    memmove(in.memory.p + y * 150, in.memory.p + ((20 + y) * 93 + 10) * 3, 150);
  in.h = 33;
  in.w = 50;
  resize(NULL, &opt);
  assert_memory_equal(out.memory.p, whole, sizeof whole);
}

static void expect_reals(const double *expected, int n, double tolerance) {
  for (int i = 0; i < n; i++)
    if (!(fabs((double)ms_picture_reals(&out)[i] - expected[i]) < tolerance))
      fail_msg("%d: %g, expected %g", i, (double)ms_picture_reals(&out)[i], expected[i]);
}

/* torch 2.15.0, interpolate of (0, 1, 4, 9, ... 361) as [4, 5] to [3, 2] */
static void test_pytorch(void **state) {
  static const double bilinear[] = {12.227272987365723, 26.227272033691406, 79.2272720336914,
                                    117.22726440429688, 216.22731018066406, 278.2272644042969};
  static const double bicubic[] = {4.650295734405518,  18.13874626159668,  72.96668243408203,
                                   116.40912628173828, 223.60939025878906, 297.0058288574219};
  static const double two_taps[] = {6.166667461395264,  20.33333396911621, 74.5, 122.0,
                                    226.16668701171875, 307.0000305175781};
  static const double four_taps[] = {3.5855982303619385, 17.60276222229004,  63.6015625,
                                     114.21875,          228.01568603515625, 315.23291015625};
  (void)state;
  shape(MS_F32, 1, 4, 5, 1);
  for (int i = 0; i < 20; i++)
    ms_picture_reals(&in)[i] = (ms_real)(i * i);
  resize(NULL, &(ms_resize_options){.w = 2, .h = 3});
  expect_reals(bilinear, 6, 4e-4);
  resize(NULL, &(ms_resize_options){.w = 2, .h = 3, .filter = MS_FILTER_BICUBIC});
  expect_reals(bicubic, 6, 4e-4);
  resize(NULL, &(ms_resize_options){.w = 2, .h = 3, .plain = 1});
  expect_reals(two_taps, 6, 4e-4);
  resize(NULL, &(ms_resize_options){.w = 2, .h = 3, .plain = 1, .filter = MS_FILTER_BICUBIC});
  expect_reals(four_taps, 6, 4e-4);
}

static void test_nearest(void **state) {
  static const uint8_t from128[] = {0, 2, 5, 8, 10, 13, 16, 18, 21, 24, 26, 29}, from240[] = {0, 5, 10, 15},
                       from180[] = {0, 3, 7, 11, 15, 18, 22, 26};
  static const struct {
    int64_t w;
    const uint8_t *expected;
    size_t n;
  } cases[] = {{128, from128, sizeof from128}, {240, from240, sizeof from240}, {180, from180, sizeof from180}};
  (void)state;
  for (int i = 0; i < 3; i++) {
    shape(MS_U8, 1, 1, cases[i].w, 1);
    for (int x = 0; x < cases[i].w; x++)
      in.memory.p[x] = (uint8_t)x;
    resize(NULL, &(ms_resize_options){.w = 48, .h = 1, .filter = MS_FILTER_NEAREST});
    assert_memory_equal(out.memory.p, cases[i].expected, cases[i].n);
  }
}

/* Counts are kept, also where cells stay empty. */
static void test_bin(void **state) {
  static const int64_t sizes[][4] = {{128, 128, 48, 48}, {7, 5, 3, 4}, {3, 2, 8, 9}};
  (void)state;
  for (int k = 0; k < 3; k++) {
    int64_t h = sizes[k][0], w = sizes[k][1], to_h = sizes[k][2], to_w = sizes[k][3];
    double *sums = calloc((size_t)(to_h * to_w * 2), sizeof *sums);
    assert_non_null(sums);
    shape(MS_U8, 1, h, w, 2);
    noise();
    for (int64_t i = 0; i < h * w * 2; i++)
      sums[(i / 2 / w * to_h / h * to_w + i / 2 % w * to_w / w) * 2 + i % 2] += in.memory.p[i];
    resize(NULL, &(ms_resize_options){.w = to_w, .h = to_h, .filter = MS_FILTER_BIN});
    assert_int_equal(out.dtype, MS_F32);
    expect_reals(sums, (int)(to_h * to_w * 2), 0.5);
    free(sums);
  }
}

static void test_refusals(void **state) {
  static const struct {
    ms_resize_options opt;
    const char *text;
  } cases[] = {
      {{.w = 0, .h = 3}, "test: size: expected 1 to 16777216 pixels a side, got 0 x 3"},
      {{.w = 3, .h = 3, .window = {2, 0, 2, 1}}, "test: window: expected a part of 3 x 3, got 2 x 1 at (2, 0)"},
      {{.w = 3, .h = 3, .alpha = 1}, "test: alpha: expected 2 channels of bytes and a smooth filter, got 3 of bytes"},
      {{.w = 3, .h = 3, .box = {0, 0, 9, 2}}, "test: box: expected left < right"},
      {{.w = 3, .h = 3, .box = {0, 0, 2, 2}, .filter = MS_FILTER_NEAREST}, "and a smooth filter"}};
  (void)state;
  shape(MS_U8, 1, 4, 5, 3);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_true(ms_resize(&resizer, &out, &in, NULL, &cases[i].opt, "test", &err) != MS_OK);
    if (!strstr(err.text, cases[i].text))
      fail_msg("'%s' lacks '%s'", err.text, cases[i].text);
  }
  assert_int_equal(
      ms_resize(&resizer, &out, &in, &(ms_box){3, 0, 3, 3}, &(ms_resize_options){.w = 3, .h = 3}, "test", &err),
      MS_ERANGE);
}

static int teardown(void **state) {
  (void)state;
  ms_resizer_free(&resizer);
  ms_resizer_free(&resizer);
  ms_picture_free(&in);
  ms_picture_free(&out);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pillow), cmocka_unit_test(test_closed_forms), cmocka_unit_test(test_weights),
      cmocka_unit_test(test_parts),  cmocka_unit_test(test_pytorch),      cmocka_unit_test(test_nearest),
      cmocka_unit_test(test_bin),    cmocka_unit_test(test_refusals),
  };
  (void)decoded;
  return cmocka_run_group_tests(tests, NULL, teardown);
}
