/* The row `photos` of CUDA beside the CPU's: equal bits whatever is drawn. */
#include "../../host/core/data/photos.h"
#include "twin.h"

typedef struct shape {
  int64_t n, samples, steps, h, w, c, to_h, to_w;
} shape;

/* First every op once for itself, then as they are drawn. */
static void draw(ms_photo_op *ops, int64_t n, const ms_photo_recipe *r, ms_photo_box *boxes, shape z) {
  for (int64_t i = 0; i < n; i++) {
    ms_photo_draw(&boxes[i], ops + i * r->rand.n, r, z.h, z.w, 99, (uint64_t)i);
    if (r->rand.n == 1)
      ops[i] = ms_photo_op_of((ms_photo)(i % MS_PHOTO_KINDS), i % MS_PHOTO_KINDS == MS_PHOTO_solarize_add ? 66 : .3,
                              (ms_photo_filter)(i / MS_PHOTO_KINDS % 2), z.to_h, z.to_w);
  }
}

static void check(shape z, const ms_photo_recipe *recipe, ms_dtype dtype, int order) {
  ms_photo_recipe r = *recipe;
  int64_t in = z.samples * z.steps * z.h * z.w * z.c, out, bad[2] = {0, 0};
  r.h = r.crop ? z.to_h : 0;
  r.w = r.crop ? z.to_w : 0;
  if (dtype != MS_U8 || (z.c != 1 && z.c != 3))
    r.rand.n = 0;
  if (!r.crop) {
    z.to_h = z.h;
    z.to_w = z.w;
  }
  ms_photos_args a = {.n = z.n,
                      .samples = z.samples,
                      .steps = z.steps,
                      .h = z.h,
                      .w = z.w,
                      .c = z.c,
                      .x = row_data(dtype, 1, in),
                      .bad = &bad[0]};
  assert_int_equal(ms_photo_plan(&a, &r, "test", NULL), MS_OK);
  out = z.n * z.steps * a.to_h * a.to_w * z.c;
  ms_data x = a.x, y = row_output(dtype, out), got;
  int64_t *index = malloc((size_t)(z.n + 1) * sizeof *index);
  ms_photo_box *boxes = malloc((size_t)(z.n + 1) * sizeof *boxes);
  ms_photo_op *ops = malloc((size_t)(z.n * a.nops + 1) * sizeof *ops);
  for (int64_t i = 0; i < z.n; i++)
    index[i] = (int64_t)(row_random() * (double)(z.samples + (i == 3))); /* one may be out of range */
  draw(ops, z.n, &r, boxes, z);
  a.index = order ? index : NULL;
  a.boxes = r.crop ? boxes : NULL;
  a.ops = ops;
  a.y = y;
  assert_int_equal(ms_cpu_photos(NULL, &a), MS_OK);
  ms_data there = {on_device((size_t)out * (dtype == MS_U8 ? 1 : sizeof(ms_real))), dtype, 1};
  a.x = data_to_device(x, in);
  a.index = order ? to_device(index, (size_t)z.n * sizeof *index) : NULL;
  a.boxes = r.crop ? to_device(boxes, (size_t)z.n * sizeof *boxes) : NULL;
  a.ops = to_device(ops, (size_t)(z.n * a.nops) * sizeof *ops);
  a.y = there;
  a.bad = to_device(&bad[1], sizeof bad[1]);
  TWIN_OK(gpu->photos(gpu_stream, &a));
  got = fetched(there, out);
  fetch(&bad[1], a.bad, sizeof bad[1]);
  if (out)
    assert_memory_equal(got.p, y.p, (size_t)out * (dtype == MS_U8 ? 1 : sizeof(ms_real)));
  assert_int_equal(bad[1], bad[0]);
  free(x.p), free(y.p), free(got.p), free(index), free(boxes), free(ops);
  twin_release(NULL);
}

static void test_all(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const ms_photo_recipe recipes[] = {
      {0},
      {.crop = 1, .scale = {.08, 1}, .ratio = {.75, 4. / 3}},
      {.rand = {.n = 1, .magnitude = 9, .p = 1}},
      {.crop = 1,
       .scale = {.05, .4},
       .ratio = {.3, 3},
       .cubic = 1,
       .rand = {.n = 3, .magnitude = 7, .std = 2, .p = .7, .filter = MS_PHOTO_EITHER, .fill = {124, 116, 104}}}};
  static const shape shapes[] = {{30, 4, 1, 9, 11, 3, 9, 11}, {30, 30, 2, 8, 7, 1, 12, 5},
                                 {1, 1, 1, 1, 1, 1, 1, 1},    {5, 3, 1, 32, 32, 3, 24, 24},
                                 {0, 4, 2, 5, 5, 1, 5, 5},    {4, 9, 3, 24, 17, 2, 30, 10},
                                 {6, 8, 1, 9, 40, 5, 9, 9},   {3, 3, 0, 4, 4, 1, 4, 4}};
  for (int i = 0; i < 8; i++)
    for (int r = 0; r < 4; r++)
      for (int real = 0; real < 2; real++)
        check(shapes[i], &recipes[r], real ? MS_F32 : MS_U8, shapes[i].n > shapes[i].samples || (i + r + real) % 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_all, twin_release)};
  return cmocka_run_group_tests_name("cuda photos", tests, twin_setup, twin_teardown);
}
