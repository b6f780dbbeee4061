/* The row `augment` of CUDA beside the CPU's: equal bits whatever the program. */
#include "../../host/core/data/augment.h"
#include "twin.h"

#define RULE(name, p, lo, hi) \
  { MS_AUGMENT_##name, p, lo, hi, 1, 1 }

static const ms_augment_recipe recipes[] = {
    {0, {{0}}},
    {4, {RULE(crop, 1, 0, 4), RULE(flip, .5, 0, 0), RULE(vflip, .5, 0, 0), RULE(cutout, 1, 0, 16)}},
    {5,
     {{MS_AUGMENT_CHOOSE, 1, 0, 0, 3, 1},
      RULE(roll, 1, -5, 5),
      RULE(rotate, 1, -180, 180),
      RULE(shear_x, 1, -60, 60),
      RULE(translate, .7, -9, 9)}},
    {3, {RULE(rotate, 1, -360, 360), RULE(shear_y, 1, -80, 80), RULE(rotate, 1, 90, 90)}}};

typedef struct shape {
  int64_t n, samples, steps, h, w, c;
} shape;

static void check(shape z, const ms_augment_recipe *r, ms_dtype dtype, int order) {
  int64_t in = z.samples * z.steps * z.h * z.w * z.c, out = z.n * z.steps * z.h * z.w * z.c, bad[2] = {0, 0};
  ms_data x = row_data(dtype, 1, in), y = row_output(MS_F32, out), got;
  ms_real *bytes = malloc((size_t)z.c * 256 * sizeof *bytes), *stats = malloc((size_t)z.c * 2 * sizeof *stats);
  int64_t *index = malloc((size_t)(z.n + 1) * sizeof *index);
  ms_augment_program *programs = malloc((size_t)(z.n + 1) * sizeof *programs);
  for (int64_t k = 0; k < z.c; k++) {
    stats[k] = MS_R(.1) * MS_R(k);
    stats[z.c + k] = MS_R(.7) + MS_R(k);
  }
  for (int64_t i = 0; i < z.n; i++) {
    index[i] = (int64_t)(row_random() * (double)(z.samples + (i == 3))); /* one may be out of range */
    ms_augment_draw(&programs[i], r, z.h, z.w, 99, (uint64_t)i);
  }
  ms_augment_bytes(bytes, z.c, 255, stats, stats + z.c);
  ms_augment_args a = {.n = z.n,
                       .samples = z.samples,
                       .steps = z.steps,
                       .h = z.h,
                       .w = z.w,
                       .c = z.c,
                       .x = x,
                       .index = order ? index : NULL,
                       .programs = r->n ? programs : NULL,
                       .bytes = bytes,
                       .mean = stats,
                       .std = stats + z.c,
                       .y = y.p,
                       .y_step = z.n * z.h * z.w * z.c,
                       .bad = &bad[0]};
  assert_int_equal(ms_cpu_augment(NULL, &a), MS_OK);
  ms_data there = {on_device((size_t)out * sizeof(ms_real)), MS_F32, 1};
  a.x = data_to_device(x, in);
  a.index = order ? to_device(index, (size_t)z.n * sizeof *index) : NULL;
  a.programs = r->n ? to_device(programs, (size_t)z.n * sizeof *programs) : NULL;
  a.bytes = to_device(bytes, (size_t)z.c * 256 * sizeof *bytes);
  a.mean = to_device(stats, (size_t)z.c * 2 * sizeof *stats);
  a.std = a.mean + z.c;
  a.y = there.p;
  a.bad = to_device(&bad[1], sizeof bad[1]);
  TWIN_OK(gpu->augment(gpu_stream, &a));
  got = fetched(there, out);
  fetch(&bad[1], a.bad, sizeof bad[1]);
  if (out)
    assert_memory_equal(got.p, y.p, (size_t)out * sizeof(ms_real));
  assert_int_equal(bad[1], bad[0]);
  free(x.p), free(y.p), free(got.p), free(bytes), free(stats), free(index), free(programs);
  twin_release(NULL);
}

static void test_all(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const shape shapes[] = {{1, 1, 1, 1, 1, 1},  {5, 3, 1, 32, 32, 3},  {4, 9, 3, 24, 17, 2}, {0, 4, 2, 5, 5, 1},
                                 {9, 9, 2, 7, 40, 5}, {2, 2, 10, 48, 48, 2}, {6, 8, 1, 9, 9, 30},  {3, 3, 0, 4, 4, 1}};
  for (int i = 0; i < 8; i++)
    for (int r = 0; r < 4; r++)
      for (int real = 0; real < 2; real++)
        check(shapes[i], &recipes[r], real ? MS_F32 : MS_U8, shapes[i].n > shapes[i].samples || (i + r + real) % 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_all, twin_release)};
  return cmocka_run_group_tests_name("cuda augment", tests, twin_setup, twin_teardown);
}
