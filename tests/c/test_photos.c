/* What is done to samples before they move: RandAugment against Pillow, resized crops against ms_resize, what is drawn. */
#include "../../host/core/data/geometry.h"
#include "../../host/core/data/photos.h"
#include "../../host/core/data/resize.h"
#include "typed.h"
#include <math.h>
#include <zlib.h>

static ms_error E;

static void fill(uint8_t *x, int64_t n) {
  uint32_t v = 1;
  for (int64_t i = 0; i < n; i++) {
    v = v * 1664525u + 1013904223u;
    x[i] = (uint8_t)(40 + (v >> 24) * 3 / 5);
  }
}

/* One image through some ops. */
static void change(uint8_t *y, const uint8_t *x, int64_t h, int64_t w, int64_t c, const ms_photo_op *ops, int nops) {
  ms_photos_args a = {.n = 1,
                      .samples = 1,
                      .steps = 1,
                      .h = h,
                      .w = w,
                      .c = c,
                      .to_h = h,
                      .to_w = w,
                      .x = {(void *)(uintptr_t)x, MS_U8, 1},
                      .ops = ops,
                      .nops = nops,
                      .fill = {124, 116, 104},
                      .y = {y, MS_U8, 1}};
  assert_int_equal(ms_cpu_photos(NULL, &a), MS_OK);
}

/* ---- RandAugment ---- */

static const struct {
  ms_photo kind;
  ms_photo_filter filter;
  int c;
  double value;
  uint32_t crc;
} golden[] = {
#define GOLDEN(name, filter, c, value, crc) {MS_PHOTO_##name, (ms_photo_filter)filter, c, value, crc},
#include "../ref/randaugment.inc"
};

static void test_pillow(void **state) {
  (void)state;
  enum { H = 19, W = 23 };
  uint8_t x[H * W * 3], y[H * W * 3];
  for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
    int c = golden[i].c;
    ms_photo_op op = ms_photo_op_of(golden[i].kind, golden[i].value, golden[i].filter, H, W);
    fill(x, H * W * c);
    change(y, x, H, W, c, &op, 1);
    uint32_t crc = (uint32_t)crc32(0, y, (unsigned)(H * W * c));
    if (crc != golden[i].crc)
      fail_msg("golden %zu (op %d, %d channels, %g): crc32 %08x, Pillow %08x", i, (int)golden[i].kind, c,
               golden[i].value, crc, golden[i].crc);
  }
}

/* Ops one after the other, some of which do nothing. */
static void test_ops_in_order(void **state) {
  (void)state;
  enum { N = 13 * 11 * 3 };
  const ms_photo_op none = {.kind = MS_PHOTO_KINDS};
  uint8_t x[N], y[N], z[N], once[N];
  fill(x, N);
  for (int n = 1; n <= 4; n++) {
    const ms_photo_op turn = ms_photo_op_of(MS_PHOTO_rotate, 10, MS_PHOTO_BICUBIC, 13, 11),
                      equalize = ms_photo_op_of(MS_PHOTO_equalize, 0, MS_PHOTO_BILINEAR, 13, 11);
    const ms_photo_op ops[] = {turn, none, equalize, n > 2 ? turn : none, n > 3 ? equalize : none};
    change(y, x, 13, 11, 3, ops, n < 2 ? 1 : 5);
    memcpy(z, x, N);
    for (int i = 0; i < (n < 2 ? 1 : 5); i++)
      if (ops[i].kind != MS_PHOTO_KINDS) {
        change(once, z, 13, 11, 3, &ops[i], 1);
        memcpy(z, once, N);
      }
    assert_memory_equal(y, z, N);
  }
  change(y, x, 13, 11, 3, &none, 1);
  assert_memory_equal(y, x, N);
}

/* The smallest images there are, through every op. */
static void test_smallest(void **state) {
  (void)state;
  static const int size[][2] = {{1, 1}, {1, 5}, {2, 1}, {2, 2}};
  const ms_rand_augment r = {.n = 6, .magnitude = 9, .std = 2, .p = 1, .filter = MS_PHOTO_EITHER};
  uint8_t x[12], y[12];
  ms_photo_op ops[6];
  for (uint64_t i = 0; i < 400; i++) {
    const int *s = size[i % 4], c = i % 3 ? 3 : 1;
    if (s[0] * s[1] * c > 12)
      continue;
    fill(x, s[0] * s[1] * c);
    ms_rand_augment_draw(ops, &r, s[0], s[1], 11, i);
    change(y, x, s[0], s[1], c, ops, 6);
  }
}

/* Each op is as likely; p, m and std are those of what comes out. */
static void test_ops_drawn(void **state) {
  (void)state;
  enum { N = 120000 };
  const ms_rand_augment r = {.n = 2, .magnitude = 5, .std = .5, .p = .5, .filter = MS_PHOTO_EITHER};
  int count[MS_PHOTO_KINDS + 1] = {0}, cubic = 0, moved = 0;
  double sum = 0, square = 0, n = 0, both[2][2] = {{0}}, filters[2][2] = {{0}}, firsts = 0;
  ms_photo_op ops[2], again[2];
  for (uint64_t i = 0; i < N; i++) {
    ms_rand_augment_draw(ops, &r, 10, 10, 3, i);
    ms_rand_augment_draw(again, &r, 10, 10, 3, i);
    assert_memory_equal(ops, again, sizeof ops);
    both[ops[0].kind == MS_PHOTO_KINDS][ops[1].kind == MS_PHOTO_KINDS] += 1. / N;
    if (ops[0].kind != MS_PHOTO_KINDS) { /* what one op draws says nothing of the next */
      filters[ops[0].taps == 4][ops[1].kind == MS_PHOTO_KINDS]++;
      firsts++;
    }
    for (int k = 0; k < 2; k++) {
      count[ops[k].kind]++;
      if (ops[k].kind == MS_PHOTO_shear_x) {
        moved++;
        cubic += ops[k].taps == 4;
      }
      if (ops[k].kind == MS_PHOTO_brightness) { /* 1.8 level + 0.1 */
        double level = (ops[k].v[0] - .1) / 1.8 * 10;
        sum += level;
        square += (level - 5) * (level - 5);
        n++;
      }
    }
  }
  for (int k = 0; k < MS_PHOTO_KINDS; k++)
    assert_in_range(count[k], 8000 - 440, 8000 + 440); /* of 240000: half are done, 1 / 15 each; 5 deviations */
  assert_in_range(count[MS_PHOTO_KINDS], 120000 - 1230, 120000 + 1230);
  for (int i = 0; i < 4; i++) {
    assert_near(both[i / 2][i % 2], .25, .0065);
    assert_near(filters[i / 2][i % 2] / firsts, .25, .009);
  }
  assert_near(sum / n, 5, .03);
  assert_near(sqrt(square / n), .5, .02);
  assert_near((double)cubic / moved, .5, .03);
}

/* ---- resized crops ---- */

static void crop(void *y, const void *x, ms_dtype dtype, const ms_photo_box *box, int64_t h, int64_t w, int64_t c,
                 int64_t to_h, int64_t to_w, int cubic) {
  ms_photos_args a = {.n = 1,
                      .samples = 1,
                      .steps = 1,
                      .h = h,
                      .w = w,
                      .c = c,
                      .to_h = to_h,
                      .to_w = to_w,
                      .x = {(void *)(uintptr_t)x, dtype, 1},
                      .boxes = box,
                      .cubic = cubic,
                      .y = {y, dtype, 1}};
  assert_int_equal(ms_cpu_photos(NULL, &a), MS_OK);
}

/* As ms_resize makes it, whose bytes are those of Pillow: bit for bit, reals up to rounding. */
static void test_equals_resize(void **state) {
  (void)state;
  static const int shapes[][5] = {{32, 32, 3, 32, 32}, {17, 40, 1, 24, 9}, {50, 37, 2, 12, 20}, {5, 6, 5, 33, 31}};
  const double scale[2] = {.05, 1}, ratio[2] = {.5, 2};
  ms_resizer resizer = {0};
  ms_picture bytes = {0}, reals = {0}, made = {0};
  uint8_t y[33 * 31 * 5];
  ms_real z[33 * 31 * 5];
  for (uint64_t i = 0; i < 160; i++) {
    const int *s = shapes[i % 4], cubic = i / 4 % 2;
    int64_t h = s[0], w = s[1], c = s[2], out = s[3] * s[4] * c;
    ms_box b = i < 8 ? (ms_box){0, 0, w, h} : ms_box_random(9, i, w, h, scale, ratio);
    const ms_photo_box box = {(int32_t)b.x, (int32_t)b.y, (int32_t)b.w, (int32_t)b.h};
    const ms_resize_options how = {.filter = cubic ? MS_FILTER_BICUBIC : MS_FILTER_BILINEAR, .w = s[4], .h = s[3]};
    assert_int_equal(ms_picture_shape(&bytes, MS_U8, 1, h, w, c, "test", &E), MS_OK);
    assert_int_equal(ms_picture_shape(&reals, MS_F32, 1, h, w, c, "test", &E), MS_OK);
    fill(ms_picture_bytes(&bytes), h * w * c);
    for (int64_t k = 0; k < h * w * c; k++)
      ms_picture_reals(&reals)[k] = MS_R(ms_picture_bytes(&bytes)[k]) / 255;
    crop(y, bytes.memory.p, MS_U8, &box, h, w, c, s[3], s[4], cubic);
    assert_int_equal(ms_resize(&resizer, &made, &bytes, &b, &how, "test", &E), MS_OK);
    assert_memory_equal(y, made.memory.p, (size_t)out);
    crop(z, reals.memory.p, MS_F32, &box, h, w, c, s[3], s[4], cubic);
    assert_int_equal(ms_resize(&resizer, &made, &reals, &b, &how, "test", &E), MS_OK);
    for (int64_t k = 0; k < out; k++)
      assert_near(z[k], (double)ms_picture_reals(&made)[k], 1e-6);
  }
  ms_picture_free(&bytes);
  ms_picture_free(&reals);
  ms_picture_free(&made);
  ms_resizer_free(&resizer);
}

/* Where every box fits, the area is uniform and so is the logarithm of the ratio. */
static void test_boxes_drawn(void **state) {
  (void)state;
  enum { N = 20000, SIDE = 4000 };
  const ms_photo_recipe r = {.crop = 1, .scale = {.1, .5}, .ratio = {.75, 4. / 3}};
  const double reach = log(4. / 3);
  double area = 0, area2 = 0, ratio = 0, ratio2 = 0, left = 0;
  for (uint64_t i = 0; i < N; i++) {
    ms_photo_box b;
    ms_photo_draw(&b, NULL, &r, SIDE, SIDE, 21, i);
    double share = (double)b.w * b.h / ((double)SIDE * SIDE), slant = log((double)b.w / b.h);
    assert_true(b.x >= 0 && b.y >= 0 && b.x + b.w <= SIDE && b.y + b.h <= SIDE);
    area += share / N;
    area2 += (share - .3) * (share - .3) / N;
    ratio += slant / N;
    ratio2 += slant * slant / N;
    left += (double)b.x / (SIDE - b.w) / N;
  }
  assert_near(area, .3, .004);             /* 5 deviations are 0.0041 */
  assert_near(area2, .4 * .4 / 12, .0005); /* a uniform number's variance */
  assert_near(ratio, 0, .006);
  assert_near(ratio2, reach * reach / 3, .0012);
  assert_near(left, .5, .011);
}

/* ---- samples, frames ---- */

static void test_frames(void **state) {
  (void)state;
  enum { S = 3, T = 2, H = 9, W = 8, C = 3, N = 4, TO = 6, IN = H * W * C, OUT = TO * TO * C };
  const int64_t index[N] = {2, 0, 3, 2};
  const ms_photo_recipe r = {
      .crop = 1, .h = TO, .w = TO, .scale = {.2, .9}, .ratio = {.5, 2}, .rand = {.n = 3, .magnitude = 9, .p = 1}};
  uint8_t x[S * T * IN], y[N * T * OUT], want[OUT], other[OUT];
  ms_photo_box boxes[N];
  ms_photo_op ops[N * 3];
  int64_t bad = 0;
  fill(x, sizeof x);
  ms_photos_args a = {.n = N, .samples = S, .steps = T, .h = H, .w = W, .c = C, .x = {x, MS_U8, 1}};
  assert_int_equal(ms_photo_plan(&a, &r, "test", &E), MS_OK);
  assert_true(a.to_h == TO && a.to_w == TO && a.nops == 3);
  for (int i = 0; i < N; i++)
    ms_photo_draw(&boxes[i], &ops[3 * i], &r, H, W, 5, (uint64_t)index[i]);
  a.index = index;
  a.boxes = boxes;
  a.ops = ops;
  a.y = (ms_data){y, MS_U8, 1};
  a.bad = &bad;
  assert_int_equal(ms_cpu_photos(NULL, &a), MS_OK);
  assert_int_equal(bad, 1);
  for (int i = 0; i < N; i++)
    for (int t = 0; t < T; t++) {
      if (index[i] == 3) {
        memset(want, 0, OUT);
      } else {
        crop(other, x + (index[i] * T + t) * IN, MS_U8, &boxes[i], H, W, C, TO, TO, 0);
        ms_photos_args one = {.n = 1,
                              .samples = 1,
                              .steps = 1,
                              .h = TO,
                              .w = TO,
                              .c = C,
                              .to_h = TO,
                              .to_w = TO,
                              .x = {other, MS_U8, 1},
                              .ops = ops + 3 * i,
                              .nops = 3,
                              .y = {want, MS_U8, 1}};
        assert_int_equal(ms_cpu_photos(NULL, &one), MS_OK);
      }
      assert_memory_equal(y + (i * T + t) * OUT, want, OUT);
    }
  assert_memory_equal(y, y + 3 * T * OUT, T * OUT); /* the same sample twice */
}

static void refused(ms_photo_recipe r, ms_dtype dtype, int64_t c, const char *text) {
  ms_photos_args a = {.h = 8, .w = 8, .c = c, .x = {NULL, dtype, 1}};
  ms_status status = ms_photo_check(&r, &E);
  if (!status)
    status = ms_photo_plan(&a, &r, "test", &E);
  assert_int_not_equal(status, MS_OK);
  assert_string_equal(E.text, text);
}

static void test_refused(void **state) {
  (void)state;
  const ms_rand_augment usual = {.n = 2, .magnitude = 9, .p = .5};
  ms_rand_augment wrong = usual;
  wrong.magnitude = 11;
  refused((ms_photo_recipe){.rand = usual}, MS_F32, 3,
          "test: rand_augment: expected samples of bytes (uint8), got float32");
  refused((ms_photo_recipe){.rand = usual}, MS_U8, 2, "test: rand_augment: expected samples of 1 or 3 channels, got 2");
  refused((ms_photo_recipe){.rand = wrong}, MS_U8, 3, "rand_augment: m: expected a number in [0, 10], got 11");
  refused((ms_photo_recipe){.crop = 1, .scale = {.5, 1.5}, .ratio = {1, 1}}, MS_U8, 3,
          "resized_crop: scale: expected 0 < low <= high <= 1, got 0.5 and 1.5");
  refused((ms_photo_recipe){.crop = 1, .scale = {.5, 1}, .ratio = {2, 1}}, MS_U8, 3,
          "resized_crop: ratio: expected 0 < low <= high, got 2 and 1");
  refused((ms_photo_recipe){.crop = 1, .h = 65537, .w = 2, .scale = {.5, 1}, .ratio = {1, 1}}, MS_U8, 3,
          "resized_crop: size: expected 1 to 65536 pixels a side, got 65537 x 2");
  refused((ms_photo_recipe){.crop = 1, .h = 65536, .w = 65536, .scale = {.5, 1}, .ratio = {1, 1}}, MS_U8, 3,
          "test: expected frames of less than 2^30 values, got [3, 8, 8] to [3, 65536, 65536]");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pillow),    cmocka_unit_test(test_ops_in_order),  cmocka_unit_test(test_smallest),
      cmocka_unit_test(test_ops_drawn), cmocka_unit_test(test_equals_resize), cmocka_unit_test(test_boxes_drawn),
      cmocka_unit_test(test_frames),    cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests_name("photos", tests, NULL, NULL);
}
