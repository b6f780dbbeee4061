/* Dense convolution by oneDNN against plain loops in double, in both precisions; our own dense engine against the same
** in bfloat16. Passes by saying so where the build has no oneDNN. */
#include "../../kernels/cpu/bf16_tile.h"
#include "convtest.h"

static const shape list[] = {
    {2, 5, 5, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1},     {1, 9, 7, 7, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {3, 8, 8, 33, 7, 3, 3, 1, 1, 0, 0, 1, 1, 1},    {2, 9, 11, 5, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {2, 10, 9, 4, 6, 3, 2, 3, 2, 2, 1, 1, 1, 1},    {1, 12, 12, 3, 5, 3, 3, 1, 1, 2, 2, 2, 2, 1},
    {1, 13, 12, 4, 4, 3, 3, 2, 3, 2, 3, 3, 2, 1},   {2, 7, 7, 17, 64, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {2, 7, 8, 64, 17, 1, 1, 2, 2, 0, 0, 1, 1, 1},   {1, 11, 9, 2, 3, 7, 7, 2, 2, 3, 3, 1, 1, 1},
    {2, 6, 6, 64, 32, 3, 3, 1, 1, 1, 1, 1, 1, 4},   {2, 7, 6, 6, 12, 3, 3, 2, 1, 1, 1, 1, 2, 2},
    {2, 7, 7, 40, 40, 3, 3, 1, 1, 1, 1, 1, 1, 40},  {33, 1, 1, 70, 10, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {1, 1, 1, 300, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1},  {7, 1, 1, 64, 64, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {0, 5, 5, 3, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1},     {2, 4, 4, 3, 2, 2, 2, 1, 1, 3, 3, 1, 1, 1},
    {3, 7, 7, 64, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1},  {2, 33, 9, 64, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {2, 12, 9, 72, 34, 5, 4, 2, 1, 2, 1, 1, 1, 1},  {2, 5, 4, 6, 5, 2, 3, 5, 4, 1, 1, 1, 1, 1},
    {3, 8, 8, 128, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1}, {2, 9, 9, 32, 32, 1, 1, 3, 2, 0, 0, 1, 1, 1}};

enum { SHAPES = sizeof list / sizeof *list };

static int have(void) {
  for (const char *const *e = ms_cpu_conv_engines(); *e; e++)
    if (strcmp(*e, "onednn") == 0)
      return 1;
  return 0;
}

/* ---- one pass ---- */

typedef ms_status row_fn(ms_stream *, const ms_conv_args *);

static row_fn *const rows[] = {ms_cpu_conv_forward, ms_cpu_conv_input_grad, ms_cpu_conv_weight_grad};

static const char *engine;

/* Runs a pass twice with one plan, demanding equal bits. The workspace has exactly the size asked for. */
static void run(const fixture *f, ms_conv_pass pass, ms_data out, int64_t n, ms_real *bias) {
  ms_conv_plan *plan = NULL;
  assert_int_equal(ms_cpu_conv_plan(NULL, &f->d, &plan), MS_OK);
  assert_int_equal(ms_cpu_conv_force(plan, engine), MS_OK);
  size_t bytes = (size_t)n * row_width(out.dtype), room = ms_cpu_conv_workspace(plan, pass);
  void *workspace = malloc(room + 1), *first = malloc(bytes + 1);
  for (int i = 0; i < 2; i++) {
    ms_conv_args a = {
        .plan = plan, .x = f->x, .weight = f->w, .y = f->g, .bias = bias, .density = -1, .workspace = workspace};
    *(pass == MS_CONV_FORWARD ? &a.y : pass == MS_CONV_INPUT_GRAD ? &a.x : &a.weight) = out;
    memset(out.p, 0xff, bytes);
    memset(workspace, 0xff, room);
    assert_int_equal(rows[pass](NULL, &a), MS_OK);
    assert_int_equal(ms_cpu_conv_workspace(plan, pass), room);
    if (i == 0)
      memcpy(first, out.p, bytes);
    else
      assert_memory_equal(first, out.p, bytes);
  }
  free(workspace);
  free(first);
  ms_cpu_conv_plan_destroy(plan);
}

/* types: input, weights as they are read, dL/dy, results. A third of the shapes each, since every primitive is
** compiled; the first types go through all. */
static void check_types(const char *name, ms_dtype precision, const ms_dtype types[4], size_t part) {
  engine = name;
  for (int i = 0; i < SHAPES; i++) {
    if (part && (size_t)i % 3 != part % 3)
      continue;
    ms_cpu_set_threads(1 + i % 2);
    if (types[0] == MS_BITS && (list[i].cin % 8 || strcmp(engine, "onednn") != 0))
      continue;
    fixture f = make(&list[i], types[0], types[1], types[2]);
    f.d.weight = precision;
    sums s = multiply(&f);
    check_passes(&f, &s, types[3], MS_F32, run);
    drop_sums(&s);
    drop(&f);
  }
  ms_cpu_set_threads(0);
}

static void test_float32(void **state) {
  (void)state;
  const ms_dtype types[][4] = {{MS_F32, MS_F32, MS_F32, MS_F32},   {MS_SPIKE, MS_F32, MS_F32, MS_F32},
                               {MS_BITS, MS_F32, MS_F32, MS_F32},  {MS_U8, MS_F32, MS_F32, MS_F32},
                               {MS_BF16, MS_F32, MS_F32, MS_F32},  {MS_F32, MS_F32, MS_F32, MS_BF16},
                               {MS_F32, MS_BF16, MS_BF16, MS_F32}, {MS_SPIKE, MS_F32, MS_BF16, MS_BF16}};
  for (size_t i = 0; i < sizeof types / sizeof *types && have(); i++)
    check_types("onednn", MS_F32, types[i], i);
}

static const ms_dtype narrow[][4] = {{MS_BF16, MS_BF16, MS_BF16, MS_BF16}, {MS_F32, MS_BF16, MS_F32, MS_F32},
                                     {MS_SPIKE, MS_BF16, MS_F32, MS_BF16}, {MS_BITS, MS_BF16, MS_BF16, MS_BF16},
                                     {MS_U8, MS_BF16, MS_F32, MS_F32},     {MS_F32, MS_F32, MS_F32, MS_F32},
                                     {MS_SPIKE, MS_F32, MS_BF16, MS_F32}};

static void test_bfloat16(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof narrow / sizeof *narrow && have(); i++)
    check_types("onednn", MS_BF16, narrow[i], i);
}

/* Operands of our own engines are rounded too. */
static void test_own_bfloat16(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++) {
    check_types("gemm", MS_BF16, narrow[i], i);
    check_types("depthwise", MS_BF16, narrow[i], i);
  }
}

/* ---- the choice ---- */

static void test_choice(void **state) {
  (void)state;
  assert_int_equal(ms_bf16_kernel_force("base"), MS_OK);
  const shape s = {4, 8, 8, 128, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1};
  ms_conv_desc d = describe(&s, MS_F32, MS_F32);
  ms_conv_plan *plan = NULL;
  assert_int_equal(ms_cpu_conv_plan(NULL, &d, &plan), MS_OK);
  ms_conv_args a = {.plan = plan, .density = -1};
  for (ms_conv_pass pass = MS_CONV_FORWARD; pass <= MS_CONV_WEIGHT_GRAD; pass++) {
    assert_string_equal(ms_cpu_conv_engine(&a, pass, NULL), have() ? "onednn" : "gemm");
    assert_int_equal(ms_cpu_conv_deterministic(1), 0);
    assert_string_equal(ms_cpu_conv_engine(&a, pass, NULL), "gemm");
    assert_int_equal(ms_cpu_conv_deterministic(0), 1);
  }
  ms_cpu_conv_plan_destroy(plan);
  assert_int_equal(ms_bf16_kernel_force(NULL), MS_OK);
}

/* The same plan on other numbers of threads, and with other types of results. */
static void test_threads(void **state) {
  (void)state;
  if (!have()) {
    puts("this build has no oneDNN");
    skip();
  }
  const shape s = {3, 9, 9, 64, 64, 3, 3, 2, 2, 1, 1, 1, 1, 1};
  fixture f = make(&s, MS_F32, MS_BF16, MS_F32);
  ms_conv_plan *plan = NULL;
  assert_int_equal(ms_cpu_conv_plan(NULL, &f.d, &plan), MS_OK);
  assert_int_equal(ms_cpu_conv_force(plan, "onednn"), MS_OK);
  ms_data want = row_output(MS_F32, f.nx);
  for (int i = 0; i < 8; i++) {
    ms_cpu_set_threads(1 + i / 2 % 3);
    ms_data dx = row_output(i % 2 ? MS_BF16 : MS_F32, f.nx);
    void *workspace = malloc(ms_cpu_conv_workspace(plan, MS_CONV_INPUT_GRAD));
    ms_conv_args a = {.plan = plan, .x = dx, .weight = f.w, .y = f.g, .density = -1, .workspace = workspace};
    assert_int_equal(ms_cpu_conv_input_grad(NULL, &a), MS_OK);
    assert_string_equal(ms_cpu_conv_engine(&a, MS_CONV_INPUT_GRAD, NULL), "onednn");
    for (int64_t e = 0; e < f.nx && i; e++)
      row_check("dx", dx, e, row_get(want, e), 8);
    memcpy(want.p, dx.p, i ? 0 : (size_t)f.nx * sizeof(ms_real));
    free(workspace);
    free(dx.p);
  }
  ms_cpu_set_threads(0);
  free(want.p);
  ms_cpu_conv_plan_destroy(plan);
  drop(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_float32), cmocka_unit_test(test_bfloat16),
                                     cmocka_unit_test(test_own_bfloat16), cmocka_unit_test(test_choice),
                                     cmocka_unit_test(test_threads)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
