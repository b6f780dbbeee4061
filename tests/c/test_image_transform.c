#include "scratch.h"
#include "../../host/core/data/augment.h"
#include "../../host/core/data/image_transform.h"

static ms_error err;

/* RandomResizedCrop's law: the box fits, its area and ratio are in range, everything in between occurs. */
static void test_random_boxes(void **state) {
  const double scale[2] = {0.08, 1}, ratio[2] = {3.0 / 4, 4.0 / 3};
  double area_sum = 0, least = 1, most = 0;
  int64_t lefts[4] = {0};
  enum { N = 20000 };
  (void)state;
  for (uint64_t i = 0; i < N; i++) {
    ms_box b = ms_box_random(7, i, 500, 375, scale, ratio);
    double area = (double)(b.w * b.h) / (500 * 375), aspect = (double)b.w / (double)b.h;
    assert_true(b.x >= 0 && b.y >= 0 && b.w > 0 && b.h > 0 && b.x + b.w <= 500 && b.y + b.h <= 375);
    assert_true(area > 0.075 && area <= 1 && aspect > 0.74 && aspect < 1.35);
    area_sum += area;
    least = area < least ? area : least;
    most = area > most ? area : most;
    if (b.w < 500)
      lefts[4 * b.x / (500 - b.w + 1)]++;
  }
  assert_true(least < 0.085 && most > 0.9);
  assert_true(fabs(area_sum / N - 0.4348) < 0.006); /* what 20000 draws of torchvision 0.29.2 give */
  for (int i = 0; i < 4; i++)
    assert_true(llabs(lefts[i] - (lefts[0] + lefts[1] + lefts[2] + lefts[3]) / 4) < 350);
  ms_box one = ms_box_random(7, 3, 500, 375, scale, ratio), same = ms_box_random(7, 3, 500, 375, scale, ratio);
  assert_memory_equal(&one, &same, sizeof one);
}

/* One key serves everything that an epoch draws for a sample: where the crop lies says nothing of the flip behind it. */
static void test_crop_and_flip(void **state) {
  const double scale[2] = {0.08, 0.5}, ratio[2] = {3.0 / 4, 4.0 / 3};
  const ms_augment_recipe flip = {.n = 1, .rule = {{.kind = MS_AUGMENT_flip, .p = 0.5}}};
  enum { N = 4000 };
  int both[2][2][2] = {0};
  (void)state;
  for (uint64_t i = 0; i < N; i++) {
    ms_augment_program program;
    ms_box b = ms_box_random(5, i, 500, 375, scale, ratio);
    ms_augment_draw(&program, &flip, 375, 500, 5, i);
    int flipped = program.n > 0;
    both[0][2 * b.x > 500 - b.w][flipped]++;
    both[1][2 * b.y > 375 - b.h][flipped]++;
  }
  for (int axis = 0; axis < 2; axis++)
    for (int side = 0; side < 2; side++)
      assert_in_range(both[axis][side][1], N / 4 - 150, N / 4 + 150); /* 1000 +- 27 */
}

/* Nothing fits: the largest centred box within the ratios. */
static void test_fallback(void **state) {
  const double whole[2] = {1, 1}, ratio[2] = {3.0 / 4, 4.0 / 3};
  ms_box tall = ms_box_random(1, 1, 10, 100, whole, ratio), wide = ms_box_random(1, 1, 100, 10, whole, ratio);
  (void)state;
  assert_true(tall.w == 10 && tall.h == 13 && tall.x == 0 && tall.y == 43);
  assert_true(wide.w == 13 && wide.h == 10 && wide.x == 43 && wide.y == 0);
  ms_box thin = ms_box_random(1, 1, 1, 1000, whole, ratio);
  assert_true(thin.w == 1 && thin.h == 1);
}

static void test_centre(void **state) {
  int64_t w, h;
  (void)state;
  ms_short_side(500, 375, 256, &w, &h);
  assert_true(w == 341 && h == 256);
  ms_short_side(375, 500, 256, &w, &h);
  assert_true(w == 256 && h == 341);
  ms_box b = ms_box_centre(341, 256, 224, 224);
  assert_true(b.x == 58 && b.y == 16 && b.w == 224 && b.h == 224);
}

static void noise(ms_picture *p, int64_t w, int64_t h) {
  assert_int_equal(ms_picture_shape(p, MS_U8, 1, h, w, 3, "test", &err), MS_OK);
  for (size_t i = 0; i < p->memory.bytes; i++)
    p->memory.p[i] = (uint8_t)((uint32_t)i * 2654435761u >> 24);
}

/* Decoding no more than is needed gives what decoding everything gives. */
static void test_equals_the_long_way(void **state) {
  ms_image_scratch scratch = {0};
  ms_picture picture = {0}, result = {0}, whole = {0};
  ms_resizer resizer = {0};
  char path[512];
  size_t n;
  (void)state;
  snprintf(path, sizeof path, "%s/tests/fuzz/corpus/jpeg/420.jpg", MS_ROOT);
  unsigned char *bytes = get_file(path, &n);
  ms_input in = {.op = "test", .path = path, .p = bytes, .n = n};
  assert_int_equal(ms_image_decode(&picture, &in, NULL, NULL, &err), MS_OK);
  ms_image_recipe train = ms_image_recipe_train(16), test = ms_image_recipe_test(20, 16);
  train.filter = MS_FILTER_BICUBIC;
  assert_int_equal(ms_image_recipe_check(&train, "test", &err), MS_OK);
  assert_int_equal(ms_image_recipe_check(&test, "test", &err), MS_OK);
  for (uint64_t i = 0; i < 50; i++) {
    ms_box box = ms_box_random(9, i, picture.w, picture.h, train.scale, train.ratio);
    assert_int_equal(ms_image_transform(&scratch, &result, &in, &train, 9, i, &err), MS_OK);
    ms_resize_options opt = {.filter = MS_FILTER_BICUBIC, .w = 16, .h = 16};
    assert_int_equal(ms_resize(&resizer, &whole, &picture, &box, &opt, "test", &err), MS_OK);
    assert_true(result.t == 1 && result.h == 16 && result.w == 16 && result.c == 3);
    assert_memory_equal(result.memory.p, whole.memory.p, 16 * 16 * 3);
  }
  assert_int_equal(ms_image_transform(&scratch, &result, &in, &test, 0, 0, &err), MS_OK);
  ms_resize_options opt = {.w = 25, .h = 20}; /* 37 x 29 */
  assert_int_equal(ms_resize(&resizer, &whole, &picture, NULL, &opt, "test", &err), MS_OK);
  for (int y = 0; y < 16; y++)
    assert_memory_equal(result.memory.p + y * 48, whole.memory.p + ((2 + y) * 25 + 4) * 3, 48);
  in.n = 100;
  assert_int_equal(ms_image_transform(&scratch, &result, &in, &train, 0, 0, &err), MS_EFORMAT);
  free(bytes);
  ms_picture_free(&picture);
  ms_picture_free(&result);
  ms_picture_free(&whole);
  ms_resizer_free(&resizer);
  ms_image_scratch_free(&scratch);
}

/* An image of extreme shape, far below the size that is asked for. */
static void test_thin(void **state) {
  ms_image_scratch scratch = {0};
  ms_picture picture = {0}, result = {0};
  ms_buffer file = {0};
  (void)state;
  noise(&picture, 1, 90);
  assert_int_equal(ms_image_encode_png(&file, &picture, "test", &err), MS_OK);
  ms_input in = {.op = "test", .path = "thin", .p = file.p, .n = file.bytes};
  for (int random = 0; random < 2; random++) {
    ms_image_recipe r = random ? ms_image_recipe_train(32) : ms_image_recipe_test(40, 32);
    if (ms_image_transform(&scratch, &result, &in, &r, 1, 2, &err))
      fail_msg("%s", err.text);
    assert_true(result.h == 32 && result.w == 32);
  }
  ms_picture_free(&picture);
  ms_picture_free(&result);
  ms_buffer_free(&file);
  ms_image_scratch_free(&scratch);
}

static void test_recipes(void **state) {
  ms_image_recipe r[] = {ms_image_recipe_train(0), ms_image_recipe_test(100, 224), ms_image_recipe_train(8),
                         ms_image_recipe_train(8), ms_image_recipe_train(8)};
  static const char *const text[] = {
      "test: size: expected 1 to 65536, got 0", "test: shorter: expected 224 (the size) to",
      "test: scale: expected 0 < low <= high <= 1, got 0.5 and 0.1", "test: ratio:", "test: filter:"};
  (void)state;
  r[2].scale[0] = 0.5;
  r[2].scale[1] = 0.1;
  r[3].ratio[0] = NAN;
  r[4].filter = MS_FILTER_NEAREST;
  for (int i = 0; i < 5; i++) {
    assert_true(ms_image_recipe_check(&r[i], "test", &err) != MS_OK);
    assert_non_null(strstr(err.text, text[i]));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_boxes), cmocka_unit_test(test_fallback), cmocka_unit_test(test_crop_and_flip),
      cmocka_unit_test(test_centre),       cmocka_unit_test(test_recipes),
  };
  const struct CMUnitTest files[] = {
      cmocka_unit_test(test_equals_the_long_way),
      cmocka_unit_test(test_thin),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  if (strcmp(ms_image_jpeg_version(), "none") && strcmp(ms_image_png_version(), "none"))
    failed += cmocka_run_group_tests(files, NULL, NULL);
  return failed;
}
