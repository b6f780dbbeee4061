/* Augmentation: programs, recipes, the row, balanced orders. */
#include "../../host/core/data/augment.h"
#include "../../host/core/data/balance.h"
#include "../../kernels/math/philox.h"
#include "typed.h"
#include <math.h>
#include <zlib.h>

#define DEGREE (3.14159265358979323846 / 180)

/* ---- programs on an image whose pixels say where they are from ---- */

/* Runs the row on bytes [1, t, h, w, c] with y = byte; fails unless y is as `want` says. */
static void shows(const char *what, const ms_augment_program *p, int h, int w, const uint8_t *x, const uint8_t *want) {
  ms_real bytes[256], *y = malloc((size_t)(h * w) * sizeof *y);
  ms_augment_bytes(bytes, 1, 1, NULL, NULL);
  ms_augment_args a = {.n = 1,
                       .samples = 1,
                       .steps = 1,
                       .h = h,
                       .w = w,
                       .c = 1,
                       .x = {(void *)(uintptr_t)x, MS_U8, 1},
                       .programs = p,
                       .bytes = bytes,
                       .y = y};
  assert_int_equal(ms_cpu_augment(NULL, &a), MS_OK);
  for (int i = 0; i < h * w; i++)
    if (y[i] != want[i])
      fail_msg("%s: pixel (%d, %d) is %g, expected %d", what, i / w, i % w, (double)y[i], want[i]);
  free(y);
}

static ms_augment_program one(ms_augment_step s) {
  ms_augment_program p = {.n = 1};
  p.step[0] = s;
  return p;
}

static void test_roll(void **state) {
  (void)state;
  uint8_t x[24], want[24];
  const uint8_t row0[] = {32, 33, 34, 35, 30, 31}, row1[] = {2, 3, 4, 5, 0, 1};
  for (int i = 0; i < 24; i++)
    x[i] = (uint8_t)(10 * (i / 6) + i % 6);
  for (int i = 0; i < 24; i++)
    want[(i / 6 + 1) % 4 * 6 + (i % 6 + 4) % 6] = x[i];
  assert_memory_equal(want, row0, 6);
  assert_memory_equal(want + 6, row1, 6);
  ms_augment_program p = one((ms_augment_step){.move = MS_MOVE_ROLL, .a = 1, .b = 4}); /* -2 modulo 6 */
  shows("roll", &p, 4, 6, x, want);
}

static const uint8_t counted[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13,
                                  14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25};

/* torchvision's rotate and affine, nearest. */
static void test_linear(void **state) {
  (void)state;
  const uint8_t rotated[] = {0, 3, 4, 10, 0, 2, 8, 8, 14, 15, 6, 12, 13, 14, 20, 11, 12, 18, 18, 24, 0, 16, 22, 23, 0};
  const uint8_t sheared[] = {0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25, 0};
  uint8_t turned[25];
  float c = (float)cos(30 * DEGREE), s = (float)sin(30 * DEGREE), t = (float)tan(20 * DEGREE);
  ms_augment_program p = one((ms_augment_step){.move = MS_MOVE_LINEAR, .m = {c, -s, s, c}});
  shows("rotate 30", &p, 5, 5, counted, rotated);
  p = one((ms_augment_step){.move = MS_MOVE_LINEAR, .m = {1, t, 0, 1}});
  shows("shear 20", &p, 5, 5, counted, sheared);
  for (int i = 0; i < 25; i++) /* counter-clockwise: what was on the right is on top */
    turned[i] = counted[i % 5 * 5 + 4 - i / 5];
  p = one((ms_augment_step){.move = MS_MOVE_LINEAR, .m = {0, -1, 1, 0}});
  shows("rotate 90", &p, 5, 5, counted, turned);
}

static const struct {
  ms_augment_kind kind;
  double degrees;
  int h, w;
  uint32_t crc;
} moved[] = {
#define GOLDEN(kind, degrees, h, w, crc) {MS_AUGMENT_##kind, degrees, h, w, crc},
#include "../ref/augment.inc"
#undef GOLDEN
};

static void test_torchvision(void **state) {
  (void)state;
  uint8_t x[48 * 48], y[48 * 48];
  for (int i = 0; i < 48 * 48; i++)
    x[i] = (uint8_t)(i * 37 % 251 + 1);
  for (size_t g = 0; g < sizeof moved / sizeof *moved; g++) {
    int h = moved[g].h, w = moved[g].w;
    const ms_augment_recipe r = {1, {{moved[g].kind, 1, moved[g].degrees, moved[g].degrees, 1, 1}}};
    ms_augment_program p;
    ms_augment_draw(&p, &r, h, w, 0, 0);
    for (int i = 0; i < h * w; i++) {
      int64_t from = ms_augment_source(&p, h, w, i / w, i % w);
      y[i] = from < 0 ? 0 : x[from];
    }
    uint32_t crc = (uint32_t)crc32(0, y, (unsigned)(h * w));
    if (crc != moved[g].crc)
      fail_msg("golden %zu (%s by %g degrees of %d x %d): crc32 %08x, torchvision %08x", g,
               ms_augment_kind_name(moved[g].kind), moved[g].degrees, h, w, crc, moved[g].crc);
  }
}

/* Each step sees what the one before left: what was shifted out does not come back. */
static void test_order(void **state) {
  (void)state;
  const uint8_t x[] = {1, 2, 3, 4, 5, 6};
  ms_augment_program p = {.n = 2};
  p.step[0] = (ms_augment_step){.move = MS_MOVE_SHIFT, .b = 1};
  p.step[1] = (ms_augment_step){.move = MS_MOVE_SHIFT, .b = -1};
  shows("there and back", &p, 2, 3, x, (const uint8_t[]){0, 2, 3, 0, 5, 6});
  p.step[1] = (ms_augment_step){.move = MS_MOVE_FLIP};
  shows("shift, flip", &p, 2, 3, x, (const uint8_t[]){0, 3, 2, 0, 6, 5});
  p.step[0] = (ms_augment_step){.move = MS_MOVE_FLIP};
  p.step[1] = (ms_augment_step){.move = MS_MOVE_SHIFT, .b = 1};
  shows("flip, shift", &p, 2, 3, x, (const uint8_t[]){2, 1, 0, 5, 4, 0});
  p.step[0] = (ms_augment_step){.move = MS_MOVE_CUT, .a = 0, .b = 1, .c = 1, .d = 3};
  p.step[1] = (ms_augment_step){.move = MS_MOVE_VFLIP};
  shows("cut, vflip", &p, 2, 3, x, (const uint8_t[]){4, 5, 6, 1, 0, 0});
}

/* ---- the row: frames, channels, index, normalisation ---- */

static void test_row(void **state) {
  (void)state;
  enum { S = 4, T = 3, H = 5, W = 6, C = 2, N = 3, FRAME = H * W * C };
  const int64_t index[N] = {2, 0, 2};
  const ms_real mean[C] = {MS_R(.5), MS_R(-1)}, std[C] = {2, MS_R(.25)};
  ms_real bytes[C * 256], real[S * T * FRAME], y[T * N * FRAME], z[T * N * FRAME];
  uint8_t x[S * T * FRAME];
  ms_augment_program p[N] = {{0}};
  p[0] = one((ms_augment_step){.move = MS_MOVE_SHIFT, .a = 1, .b = -2});
  p[2] = one((ms_augment_step){.move = MS_MOVE_FLIP});
  for (int i = 0; i < S * T * FRAME; i++) {
    x[i] = (uint8_t)(i * 37 % 251);
    real[i] = MS_R(x[i]) / 4;
  }
  ms_augment_bytes(bytes, C, 4, mean, std);
  ms_augment_args a = {.n = N,
                       .samples = S,
                       .steps = T,
                       .h = H,
                       .w = W,
                       .c = C,
                       .x = {x, MS_U8, 1},
                       .index = index,
                       .programs = p,
                       .bytes = bytes,
                       .mean = mean,
                       .std = std,
                       .y = y,
                       .y_step = N * FRAME};
  assert_int_equal(ms_cpu_augment(NULL, &a), MS_OK);
  a.x = (ms_data){real, MS_F32, 1};
  a.y = z;
  assert_int_equal(ms_cpu_augment(NULL, &a), MS_OK);
  assert_memory_equal(y, z, sizeof y);
  for (int t = 0; t < T; t++)
    for (int i = 0; i < N; i++)
      for (int r = 0; r < H; r++)
        for (int c = 0; c < W; c++)
          for (int k = 0; k < C; k++) {
            int sr = i == 0 ? r + 1 : r, sc = i == 0 ? c - 2 : i == 2 ? W - 1 - c : c;
            int in = sr < H && sc >= 0;
            ms_real v = in ? MS_R(x[(((index[i] * T + t) * H + sr) * W + sc) * C + k]) / 4 : 0;
            assert_near(y[(((t * N + i) * H + r) * W + c) * C + k], (double)((v - mean[k]) / std[k]), 0);
          }
  for (int i = 0; i < N; i++) { /* one at a time, each to its place in the batch */
    ms_augment_args one_sample = a;
    one_sample.n = 1;
    one_sample.index = index + i;
    one_sample.programs = p + i;
    one_sample.y = z + i * FRAME;
    memset(one_sample.y, 0, FRAME * sizeof *z);
    assert_int_equal(ms_cpu_augment(NULL, &one_sample), MS_OK);
  }
  assert_memory_equal(y, z, sizeof y);
  const int64_t wrong[N] = {4, 0, -1};
  int64_t bad = 0;
  a.index = wrong;
  a.bad = &bad;
  assert_int_equal(ms_cpu_augment(NULL, &a), MS_OK);
  assert_int_equal(bad, 1);
  for (int i = 0; i < FRAME; i++)
    assert_near(z[i], (double)((0 - mean[i % C]) / std[i % C]), 0);
  a.n = 0;
  assert_int_equal(ms_cpu_augment(NULL, &a), MS_OK);
}

/* Whatever steps come together, the row shows the pixels that ms_augment_source names, in frames of bytes and of reals. */
static void compare(const ms_augment_program *p, int h, int w, int c, int t, int plain) {
  int frame = h * w * c, n = t * frame;
  ms_real *bytes = malloc((size_t)c * 256 * sizeof *bytes), *stats = malloc((size_t)c * 2 * sizeof *stats);
  ms_real *real = malloc((size_t)n * sizeof *real), *y = malloc((size_t)n * sizeof *y),
          *z = malloc((size_t)n * sizeof *z);
  uint8_t *x = malloc((size_t)n);
  for (int k = 0; k < c; k++) {
    stats[k] = plain ? 0 : MS_R(.3) * MS_R(k + 1);
    stats[c + k] = plain ? 1 : MS_R(1.7) + MS_R(k);
  }
  for (int i = 0; i < n; i++)
    real[i] = x[i] = (uint8_t)(i * 37 % 251);
  ms_augment_bytes(bytes, c, 1, stats, stats + c);
  ms_augment_args a = {.n = 1,
                       .samples = 1,
                       .steps = t,
                       .h = h,
                       .w = w,
                       .c = c,
                       .x = {x, MS_U8, 1},
                       .programs = p,
                       .bytes = bytes,
                       .mean = stats,
                       .std = stats + c,
                       .y = y,
                       .y_step = frame};
  assert_int_equal(ms_cpu_augment(NULL, &a), MS_OK);
  a.x = (ms_data){real, MS_F32, 1};
  a.y = z;
  assert_int_equal(ms_cpu_augment(NULL, &a), MS_OK);
  assert_memory_equal(y, z, (size_t)n * sizeof *y);
  for (int i = 0; i < n; i++) {
    int pixel = i % frame / c, k = i % c;
    int64_t from = ms_augment_source(p, h, w, pixel / w, pixel % w);
    ms_real v = ((from < 0 ? 0 : real[i / frame * frame + from * c + k]) - stats[k]) / stats[c + k];
    if (memcmp(&v, &y[i], sizeof v) != 0)
      fail_msg("%d x %d x %d, %d steps: value %d is %g, expected %g", h, w, c, p->n, i, (double)y[i], (double)v);
  }
  free(bytes), free(stats), free(real), free(y), free(z), free(x);
}

static void test_pixels(void **state) {
  (void)state;
  static const int shapes[][3] = {{1, 1, 1}, {5, 7, 1}, {32, 32, 3}, {17, 9, 2}, {3, 40, 5}, {34, 34, 2}};
  for (int i = 0; i < 3000; i++) {
    const int *size = shapes[i % 6];
    ms_augment_program p = {.n = i / 6 % (MS_AUGMENT_STEPS + 1)};
    for (int j = 0; j < p.n; j++) {
      ms_philox4 r = ms_philox_block(1, (uint64_t)i, (uint32_t)j);
      ms_augment_step *s = &p.step[j];
      s->move = (int32_t)(r.w[0] % 16);
      s->move = s->move > 5 ? s->move % 4 : s->move; /* few that turn */
      int roll = s->move == MS_MOVE_ROLL, cut = s->move == MS_MOVE_CUT;
      s->a = (int32_t)(r.w[1] % (uint32_t)size[0]) - (roll || cut ? 0 : size[0] / 3);
      s->b = (int32_t)(r.w[2] % (uint32_t)size[1]) - (roll || cut ? 0 : size[1] / 3);
      s->c = s->a + (int32_t)(r.w[3] % 9);
      s->d = s->b + (int32_t)(r.w[3] / 16 % 9);
      s->m[0] = s->m[3] = 1;
      s->m[1] = (float)s->a / 8;
    }
    compare(&p, size[0], size[1], size[2], 1 + i % 2, i % 3 == 0);
  }
}

/* ---- recipes ---- */

#define RULE(name, p, lo, hi) \
  { MS_AUGMENT_##name, p, lo, hi, 1, 1 }
#define HOLES(count, length) \
  { MS_AUGMENT_cutout, 1, length, length, count, 1 }
#define CHOOSE(take, count) \
  { MS_AUGMENT_CHOOSE, 1, 0, 0, count, take }

/* Crop and flip draw the words that they drew before there were recipes. */
static void test_crop_and_flip(void **state) {
  (void)state;
  const ms_augment_recipe r = {2, {RULE(crop, 1, 0, 4), RULE(flip, .5, 0, 0)}};
  for (uint64_t i = 0; i < 2000; i++) {
    ms_augment_program p;
    ms_philox4 w = ms_philox_block(77, i, 0);
    ms_augment_draw(&p, &r, 32, 32, 77, i);
    assert_int_equal(p.n, 1 + (w.w[2] >> 31));
    assert_int_equal(p.step[0].move, MS_MOVE_SHIFT);
    assert_int_equal(p.step[0].a, (int)((uint64_t)w.w[0] * 9 >> 32) - 4);
    assert_int_equal(p.step[0].b, (int)((uint64_t)w.w[1] * 9 >> 32) - 4);
    assert_true(p.n == 1 || p.step[1].move == MS_MOVE_FLIP);
  }
}

/* Another kind of step in front changes no draw of the others. */
static void test_independence(void **state) {
  (void)state;
  const ms_augment_recipe few = {2, {RULE(rotate, 1, -30, 30), RULE(cutout, 1, 8, 8)}};
  const ms_augment_recipe more = {
      4, {RULE(roll, 1, -5, 5), RULE(rotate, 1, -30, 30), RULE(vflip, .5, 0, 0), RULE(cutout, 1, 8, 8)}};
  for (uint64_t i = 0; i < 200; i++) {
    ms_augment_program a, b;
    ms_augment_draw(&a, &few, 32, 32, 5, i);
    ms_augment_draw(&b, &more, 32, 32, 5, i);
    assert_memory_equal(&a.step[0], &b.step[1], sizeof a.step[0]);
    assert_memory_equal(&a.step[1], &b.step[b.n - 1], sizeof a.step[0]);
  }
}

static void test_ranges(void **state) {
  (void)state;
  enum { N = 20000 };
  const ms_augment_recipe r = {3, {RULE(roll, 1, -5, 5), RULE(cutout, 1, 16, 16), RULE(flip, .25, 0, 0)}};
  int rolls[11] = {0}, flips = 0, full = 0;
  for (uint64_t i = 0; i < N; i++) {
    ms_augment_program p;
    ms_augment_draw(&p, &r, 48, 32, 3, i);
    int a = p.step[0].a > 5 ? p.step[0].a - 48 : p.step[0].a, b = p.step[0].b > 5 ? p.step[0].b - 32 : p.step[0].b;
    assert_true(a >= -5 && a <= 5 && b >= -5 && b <= 5);
    rolls[a + 5]++;
    const ms_augment_step *cut = &p.step[1];
    assert_true(cut->a >= 0 && cut->c <= 48 && cut->b >= 0 && cut->d <= 32 && cut->c - cut->a >= 8 &&
                cut->d - cut->b <= 16);
    full += cut->c - cut->a == 16 && cut->d - cut->b == 16;
    flips += p.n == 3;
  }
  for (int i = 0; i < 11; i++)
    assert_true(abs(rolls[i] - N / 11) < 5 * sqrt(N / 11.));
  assert_true(abs(flips - N / 4) < 5 * sqrt(N * 3 / 16.));
  assert_true(fabs(full - N * 33. / 48 * 17 / 32) < 5 * sqrt(N)); /* centres at 8 to 40 and 8 to 24 */
}

/* NDA takes one of three; groups of two take each pair equally often, in the recipe's order. */
static void test_choices(void **state) {
  (void)state;
  enum { N = 12000 };
  const ms_augment_recipe nda = {
      4, {CHOOSE(1, 3), RULE(roll, 1, -5, 5), RULE(rotate, 1, -30, 30), RULE(shear_x, 1, -30, 30)}};
  const ms_augment_recipe two = {
      5,
      {CHOOSE(2, 4), RULE(flip, 1, 0, 0), RULE(vflip, 1, 0, 0), RULE(translate_x, 1, 1, 1), RULE(identity, 1, 0, 0)}};
  int which[3] = {0}, pairs[4] = {0};
  for (uint64_t i = 0; i < N; i++) {
    ms_augment_program p;
    ms_augment_draw(&p, &nda, 48, 48, 1, i);
    assert_int_equal(p.n, 1);
    which[p.step[0].move == MS_MOVE_ROLL ? 0 : p.step[0].m[2] != 0 ? 1 : 2]++;
    ms_augment_draw(&p, &two, 48, 48, 1, i);
    assert_true(p.n == 1 || (p.n == 2 && p.step[0].move != p.step[1].move));
    pairs[p.n == 1 ? 0 : p.step[0].move == MS_MOVE_VFLIP ? 1 : p.step[1].move == MS_MOVE_VFLIP ? 2 : 3]++;
    assert_true(p.n == 1 || p.step[1].move == MS_MOVE_VFLIP || p.step[1].move == MS_MOVE_SHIFT);
  }
  for (int i = 0; i < 3; i++) {
    assert_true(abs(which[i] - N / 3) < 5 * sqrt(N / 3.));
    assert_true(abs(pairs[i + 1] - N / 6) < 5 * sqrt(N / 6.));
  }
}

static void refused(ms_augment_recipe r, const char *why) {
  ms_error err;
  assert_int_equal(ms_augment_check(&r, "recipe", &err), MS_ERANGE);
  if (!strstr(err.text, why))
    fail_msg("'%s' does not say '%s'", err.text, why);
}

static void test_refused(void **state) {
  (void)state;
  ms_error err;
  const ms_augment_recipe good = {3, {CHOOSE(1, 2), HOLES(8, 3), RULE(flip, 1, 0, 0)}};
  assert_int_equal(ms_augment_check(&good, "recipe", &err), MS_OK);
  refused((ms_augment_recipe){1, {RULE(flip, 1.5, 0, 0)}},
          "recipe: step 1 (flip): p: expected a number in [0, 1], got 1.5");
  refused((ms_augment_recipe){2, {RULE(flip, 1, 0, 0), RULE(roll, 1, 3, 2)}}, "step 2 (roll): expected a range within");
  refused((ms_augment_recipe){1, {RULE(rotate, 1, NAN, NAN)}}, "expected a range within [-360, 360]");
  refused((ms_augment_recipe){1, {RULE(crop, 1, 0, 1.5)}}, "expected whole pixels, got 0 to 1.5");
  refused((ms_augment_recipe){1, {RULE(cutout, 1, -2, 2)}}, "expected pixels >= 0");
  refused((ms_augment_recipe){1, {HOLES(9, 2)}}, "holes: expected 1 to 8, got 9");
  refused((ms_augment_recipe){1, {CHOOSE(1, 1)}}, "expected a choice of 1 to 3 of the steps in it, got 1 of 1");
  refused((ms_augment_recipe){3, {CHOOSE(1, 2), CHOOSE(1, 1), RULE(flip, 1, 0, 0)}}, "no choice within");
  ms_augment_recipe many = {9, {{0}}};
  for (int i = 0; i < 9; i++)
    many.rule[i] = (ms_augment_rule)RULE(flip, 1, 0, 0);
  refused(many, "expected at most 8 steps for a sample, got 9");
}

/* ---- balanced orders ---- */

static void test_balanced(void **state) {
  (void)state;
  enum { N = 9000 };
  static int64_t labels[N], order[N], again[N];
  int count[4] = {0}, seen = 0;
  static uint8_t of_sample[N];
  ms_error err;
  for (int i = 0; i < N; i++)
    labels[i] = i < 100 ? 0 : i < 1000 ? 3 : 1; /* class 2 has no samples */
  assert_int_equal(ms_balanced_order(order, N, labels, 4, 9, &err), MS_OK);
  assert_int_equal(ms_balanced_order(again, N, labels, 4, 9, &err), MS_OK);
  assert_memory_equal(order, again, sizeof order);
  for (int i = 0; i < N; i++) {
    assert_true(order[i] >= 0 && order[i] < N);
    count[labels[order[i]]]++;
    seen += !of_sample[order[i]]++;
  }
  assert_int_equal(count[2], 0);
  for (int k = 0; k < 4; k++)
    assert_true(k == 2 || abs(count[k] - N / 3) < 5 * sqrt(N / 3.));
  assert_true(seen > 3320 && seen < 3620); /* 100 + 900 (1 - exp(-3000 / 900)) + 8000 (1 - exp(-3000 / 8000)) = 3470 */
  assert_int_equal(ms_balanced_order(order, 0, labels, 4, 9, &err), MS_OK);
  labels[5] = 4;
  assert_int_equal(ms_balanced_order(order, N, labels, 4, 9, &err), MS_ERANGE);
  assert_string_equal(err.text, "balanced_order: labels: expected 0 to 3, got 4 at index 5");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_roll),          cmocka_unit_test(test_linear),       cmocka_unit_test(test_torchvision),
      cmocka_unit_test(test_order),         cmocka_unit_test(test_row),          cmocka_unit_test(test_pixels),
      cmocka_unit_test(test_crop_and_flip), cmocka_unit_test(test_independence), cmocka_unit_test(test_ranges),
      cmocka_unit_test(test_choices),       cmocka_unit_test(test_refused),      cmocka_unit_test(test_balanced),
  };
  return cmocka_run_group_tests_name("augment", tests, NULL, NULL);
}
