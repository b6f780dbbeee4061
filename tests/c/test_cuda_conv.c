/* The engines of the CUDA convolution against plain loops in double, over operands rounded as the precision says. */
#include "convtest.h"
#include "twin.h"

static const shape list[] = {
    {2, 5, 5, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1},    {1, 6, 7, 8, 24, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {2, 6, 6, 33, 7, 3, 3, 1, 1, 0, 0, 1, 1, 1},   {2, 9, 7, 8, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {2, 10, 9, 4, 6, 3, 2, 3, 2, 2, 1, 1, 1, 1},   {1, 12, 10, 3, 5, 3, 3, 1, 1, 2, 2, 2, 2, 1},
    {1, 13, 12, 4, 4, 3, 3, 2, 3, 2, 3, 3, 2, 1},  {2, 5, 5, 16, 9, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {2, 7, 8, 16, 8, 1, 1, 2, 2, 0, 0, 1, 1, 1},   {1, 9, 9, 2, 3, 7, 7, 1, 1, 3, 3, 1, 1, 1},
    {1, 11, 9, 3, 4, 5, 5, 2, 2, 2, 2, 1, 1, 1},   {2, 4, 5, 32, 16, 3, 3, 1, 1, 1, 1, 1, 1, 2},
    {1, 5, 4, 24, 36, 1, 1, 1, 1, 0, 0, 1, 1, 3},  {2, 7, 6, 6, 12, 3, 3, 2, 1, 1, 1, 1, 2, 2},
    {2, 5, 5, 40, 40, 3, 3, 1, 1, 1, 1, 1, 1, 40}, {2, 8, 7, 5, 5, 3, 3, 2, 2, 1, 1, 1, 2, 5},
    {1, 6, 6, 4, 8, 3, 3, 1, 1, 1, 1, 1, 1, 4},    {40, 1, 1, 72, 10, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {3, 1, 1, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1},    {0, 5, 5, 3, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {2, 4, 4, 3, 2, 2, 2, 1, 1, 3, 3, 1, 1, 1},    {2, 5, 4, 6, 5, 2, 3, 5, 4, 1, 1, 1, 1, 1},
    {1, 6, 6, 32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 8},  {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1}};
enum { SHAPES = sizeof list / sizeof *list };

static ms_status (*row_of(ms_conv_pass pass))(ms_stream *, const ms_conv_args *) {
  return pass == MS_CONV_FORWARD      ? gpu->conv_forward
         : pass == MS_CONV_INPUT_GRAD ? gpu->conv_input_grad
                                      : gpu->conv_weight_grad;
}

/* The workspace has exactly the bytes asked for. Twice: the same bits. */
static void run(const fixture *f, ms_conv_pass pass, ms_data out, int64_t n, ms_real *bias) {
  ms_conv_plan *plan = NULL;
  TWIN_OK(gpu->conv_plan(gpu_stream, &f->d, &plan));
  size_t room = gpu->conv_workspace(plan, pass), bytes = (size_t)n * row_width(out.dtype);
  size_t bias_bytes = (size_t)f->d.cout * sizeof *bias;
  ms_data to = data_to_device(out, n);
  ms_conv_args a = {.plan = plan,
                    .x = data_to_device(f->x, f->nx),
                    .weight = data_to_device(f->w, f->nw),
                    .y = data_to_device(f->g, f->ny),
                    .bias = to_device(bias, bias_bytes),
                    .density = -1,
                    .counts = 1,
                    .workspace = on_device(room)};
  *(pass == MS_CONV_FORWARD ? &a.y : pass == MS_CONV_INPUT_GRAD ? &a.x : &a.weight) = to;
  void *first = malloc(bytes + 1);
  for (int i = 0; i < 2; i++) {
    TWIN_OK(row_of(pass)(gpu_stream, &a));
    fetch(i ? out.p : first, to.p, bytes);
  }
  assert_memory_equal(first, out.p, bytes);
  if (bias && pass == MS_CONV_WEIGHT_GRAD)
    fetch(bias, a.bias, bias_bytes);
  free(first);
  gpu->conv_plan_destroy(plan);
  twin_release(NULL);
}

static void check_synops(const fixture *f) {
  int64_t want[2] = {-1, -1}, got[2] = {-1, -1};
  int64_t *out = on_device(sizeof got);
  assert_int_equal(ms_cpu_conv_synops(NULL, &f->d, f->x, want), MS_OK);
  TWIN_OK(gpu->conv_synops(gpu_stream, &f->d, data_to_device(f->x, f->nx), out));
  fetch(got, out, sizeof got);
  assert_int_equal(got[0], want[0]);
  assert_int_equal(got[1], want[1]);
  twin_release(NULL);
}

/* x, the precision, weights, y and its gradient, dx, dw. */
typedef struct types {
  ms_dtype x, precision, w, g, result, dw;
} types;

static const types usual[] = {
    {MS_F32, MS_F32, MS_F32, MS_F32, MS_F32, MS_F32},       {MS_SPIKE, MS_F32, MS_F32, MS_F32, MS_F32, MS_F32},
    {MS_U8, MS_BF16, MS_BF16, MS_BF16, MS_BF16, MS_F32},    {MS_SPIKE, MS_BF16, MS_F32, MS_F32, MS_F32, MS_F32},
    {MS_BF16, MS_BF16, MS_BF16, MS_BF16, MS_BF16, MS_BF16}, {MS_BF16, MS_F32, MS_BF16, MS_BF16, MS_BF16, MS_BF16},
    {MS_BITS, MS_F32, MS_F32, MS_F32, MS_F32, MS_F32},      {MS_BITS, MS_BF16, MS_BF16, MS_BF16, MS_F32, MS_F32},
    {MS_F32, MS_BF16, MS_F32, MS_F32, MS_BF16, MS_F32}};
enum { TYPES = sizeof usual / sizeof *usual };

static int listed(const char *name) {
  for (const char *const *e = gpu->conv_engines(); *e; e++)
    if (strcmp(*e, name) == 0)
      return 1;
  return 0;
}

static const char *engine_of(const ms_conv_desc *d) {
  ms_conv_plan *plan = NULL;
  char why[MS_WHY] = "";
  TWIN_OK(gpu->conv_plan(gpu_stream, d, &plan));
  const char *name = gpu->conv_engine(&(ms_conv_args){.plan = plan, .density = -1}, MS_CONV_FORWARD, why);
  assert_true(why[0]);
  gpu->conv_plan_destroy(plan);
  return name;
}

static const char *engine_for(const shape *s) {
  ms_conv_desc d = describe(s, MS_F32, MS_F32);
  return engine_of(&d);
}

/* cuDNN rounds its bfloat16 results before the bias is added, and weight gradients too; see test_library. */
static void without_bias(fixture *f) {
  memset(f->b.p, 0, (size_t)f->d.cout * sizeof(ms_real));
}

static void check_all(const char *engine) {
  for (int i = 0; i < SHAPES; i++)
    for (int t = 0; t < TYPES; t++) {
      const types *u = &usual[t];
      if (u->x == MS_BITS && list[i].cin % 8)
        continue;
      fixture f = make(&list[i], u->x, u->w, u->g);
      f.d.weight = u->precision;
      assert_int_equal(gpu->conv_force(NULL, engine), MS_OK);
      int rounds = u->precision == MS_BF16 && strcmp(engine_of(&f.d), "cudnn") == 0;
      if (rounds)
        without_bias(&f);
      sums s = multiply(&f);
      check_passes(&f, &s, u->result, rounds ? MS_BF16 : u->dw, run);
      assert_int_equal(gpu->conv_force(NULL, NULL), MS_OK);
      check_synops(&f);
      drop_sums(&s);
      drop(&f);
    }
}

static void test_blas(void **state) {
  (void)state;
  TWIN_NEEDED();
  check_all("cublas");
}

/* Slabs of 16 rows, of one input line; then of a few images. */
static void test_slabs(void **state) {
  (void)state;
  TWIN_NEEDED();
  const char *bytes[] = {"1", "6000"};
  for (int i = 0; i < 2; i++) {
    setenv("MOONSPIKE_CONV_SLAB", bytes[i], 1);
    check_all("cublas");
  }
  unsetenv("MOONSPIKE_CONV_SLAB");
}

static void test_depthwise(void **state) {
  (void)state;
  TWIN_NEEDED();
  check_all("depthwise");
}

static void test_usual(void **state) {
  (void)state;
  TWIN_NEEDED();
  check_all(NULL);
}

/* Forced wherever it has the shape; the rounding of its results in closed form. */
static void test_library(void **state) {
  (void)state;
  TWIN_NEEDED();
  if (!listed("cudnn"))
    skip();
  check_all("cudnn");
  fixture f = make(&list[1], MS_SPIKE, MS_BF16, MS_BF16);
  ms_data y = row_output(MS_BF16, f.ny), plain = row_output(MS_BF16, f.ny), dw = row_output(MS_F32, f.nw),
          narrow = row_output(MS_BF16, f.nw);
  assert_int_equal(gpu->conv_force(NULL, "cudnn"), MS_OK);
  run(&f, MS_CONV_FORWARD, y, f.ny, f.b.p);
  run(&f, MS_CONV_FORWARD, plain, f.ny, NULL);
  run(&f, MS_CONV_WEIGHT_GRAD, dw, f.nw, NULL);
  run(&f, MS_CONV_WEIGHT_GRAD, narrow, f.nw, NULL);
  assert_int_equal(gpu->conv_force(NULL, NULL), MS_OK);
  for (int64_t i = 0; i < f.ny; i++) {
    float sum = (float)row_get(plain, i) + (float)row_get(f.b, i % f.d.cout);
    assert_true(row_get(y, i) == (double)ms_bf16_to(ms_bf16_from(sum)));
  }
  for (int64_t i = 0; i < f.nw; i++)
    assert_true(row_get(dw, i) == row_get(narrow, i));
  free(y.p);
  free(plain.p);
  free(dw.p);
  free(narrow.p);
  drop(&f);
}

/* What the library has in its list and then refuses, for whatever reason, runs on another engine. */
static void test_refused(void **state) {
  (void)state;
  TWIN_NEEDED();
  int (*fault)(const char *, long long);
  *(void **)&fault = dlsym(gpu_library, "ms_emu_fail");
  if (!listed("cudnn") || !fault)
    skip();
  fixture f = make(&list[1], MS_F32, MS_F32, MS_F32);
  sums s = multiply(&f);
  static const long long calls[] = {1, 5,
                                    7}; /* the first forward pass, input gradient, weight gradient of check_passes */
  for (int i = 0; i < 3; i++) {
    assert_int_equal(fault("refuse", calls[i]), 0);
    check_passes(&f, &s, MS_F32, MS_F32, run);
    fault("clear", 0);
  }
  drop_sums(&s);
  drop(&f);
}

/* The library does not start while a step is recorded: the recording goes on with another engine, and the library starts
** behind it. */
static void test_recorded(void **state) {
  (void)state;
  TWIN_NEEDED();
  if (!listed("cudnn"))
    skip();
  ms_stream *first = gpu_stream, *fresh;
  ms_conv_desc d = describe(&list[1], MS_F32, MS_F32);
  ms_conv_plan *plan;
  ms_graph *graph = NULL;
  TWIN_OK(gpu->stream_create(0, &fresh));
  gpu_stream = fresh;
  TWIN_OK(gpu->conv_plan(fresh, &d, &plan));
  ms_conv_args a = {.plan = plan, .density = -1};
  TWIN_OK(gpu->synchronize(fresh));
  TWIN_OK(gpu->capture_begin(fresh));
  assert_string_equal(gpu->conv_engine(&a, MS_CONV_FORWARD, NULL), "cublas");
  TWIN_OK(gpu->capture_end(fresh, &graph));
  assert_string_equal(gpu->conv_engine(&a, MS_CONV_FORWARD, NULL), "cudnn");
  gpu->graph_destroy(graph);
  gpu->conv_plan_destroy(plan);
  gpu_stream = first;
  gpu->stream_destroy(fresh);
}

/* A library that does not start is not asked again: that would cost seconds in each layer of each step. */
static void test_no_start(void **state) {
  (void)state;
  TWIN_NEEDED();
  int (*fault)(const char *, long long);
  *(void **)&fault = dlsym(gpu_library, "ms_emu_fail");
  if (!listed("cudnn") || !fault)
    skip();
  ms_stream *first = gpu_stream, *fresh;
  ms_conv_desc d = describe(&list[1], MS_F32, MS_F32);
  ms_conv_plan *plan;
  char why[MS_WHY];
  TWIN_OK(gpu->stream_create(0, &fresh));
  gpu_stream = fresh;
  TWIN_OK(gpu->conv_plan(fresh, &d, &plan));
  fault("create", 1);
  ms_conv_args a = {.plan = plan, .density = -1};
  assert_string_equal(gpu->conv_engine(&a, MS_CONV_FORWARD, why), "cublas");
  assert_string_equal(why, "cuDNN does not start: CUDNN_STATUS_NOT_INITIALIZED");
  fault("clear", 0);
  assert_string_equal(gpu->conv_engine(&a, MS_CONV_FORWARD, why), "cublas");
  assert_false(listed("cudnn"));
  gpu->conv_plan_destroy(plan);
  gpu_stream = first;
  gpu->stream_destroy(fresh);
}

static void test_choice(void **state) {
  (void)state;
  TWIN_NEEDED();
  assert_true(listed("cublas") && listed("depthwise") && !listed("gemm"));
  assert_string_equal(engine_for(&list[17]), "cublas");
  assert_string_equal(engine_for(&list[7]), "cublas");
  assert_string_equal(engine_for(&list[1]), listed("cudnn") ? "cudnn" : "cublas");
  assert_string_equal(engine_for(&list[14]), listed("cudnn") ? "cudnn" : "depthwise");
  assert_int_equal(gpu->conv_force(NULL, "no such engine"), MS_EINVAL);
  assert_int_equal(gpu->conv_force(NULL, "cudnn"), listed("cudnn") ? MS_OK : MS_EINVAL);
  assert_int_equal(gpu->conv_force(NULL, "cublas"), MS_OK);
  assert_string_equal(engine_for(&list[14]), "cublas");
  assert_int_equal(gpu->conv_force(NULL, "depthwise"), MS_OK);
  assert_string_equal(engine_for(&list[14]), "depthwise");
  assert_string_equal(engine_for(&list[17]), "cublas");
  assert_int_equal(gpu->conv_force(NULL, NULL), MS_OK);
}

static void test_services(void **state) {
  (void)state;
  TWIN_NEEDED();
  const ms_break_even *table = NULL, rows[2] = {{.taps = 9, .cin = 64}, {.taps = 1, .cin = 32}};
  assert_int_equal(gpu->conv_table(&table), 0);
  assert_int_equal(gpu->conv_table_set(rows, 2), MS_OK);
  assert_int_equal(gpu->conv_table(&table), 2);
  assert_true(table[1].cin == 32);
  assert_int_equal(gpu->conv_table_set(NULL, 0), MS_OK);
  assert_int_equal(gpu->conv_table(&table), 0);
  assert_int_equal(gpu->conv_table_set(rows, -1), MS_EINVAL);
  assert_int_equal(gpu->conv_deterministic(-1), 1);
  assert_int_equal(gpu->conv_deterministic(0), 1);
  assert_int_equal(gpu->conv_deterministic(1), 0);
}

/* Whatever the layer, the columns of a slab and its results bound the workspace: but for the weights and one slab of
** dL/dy it has no more. */
static void test_workspace(void **state) {
  (void)state;
  TWIN_NEEDED();
  const shape huge[] = {{4096, 64, 64, 64, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1},
                        {1, 512, 512, 512, 512, 3, 3, 1, 1, 1, 1, 1, 1, 1},
                        {4096, 8, 8, 512, 512, 3, 3, 1, 1, 1, 1, 1, 1, 1}};
  assert_int_equal(gpu->conv_force(NULL, NULL), MS_OK);
  for (int i = 0; i < 3; i++) {
    ms_conv_desc d = describe(&huge[i], MS_SPIKE, MS_F32);
    ms_conv_plan *plan = NULL;
    TWIN_OK(gpu->conv_plan(gpu_stream, &d, &plan));
    size_t weights = (size_t)(d.cout * 9 * d.cin) * sizeof(ms_real);
    if (!listed("cudnn"))
      for (ms_conv_pass p = MS_CONV_FORWARD; p <= MS_CONV_WEIGHT_GRAD; p++)
        assert_true(gpu->conv_workspace(plan, p) <= (i == 1 ? 80u << 20 : 66u << 20) + weights);
    gpu->conv_plan_destroy(plan);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_blas, twin_release),      cmocka_unit_test_teardown(test_slabs, twin_release),
      cmocka_unit_test_teardown(test_depthwise, twin_release), cmocka_unit_test_teardown(test_usual, twin_release),
      cmocka_unit_test_teardown(test_library, twin_release),   cmocka_unit_test_teardown(test_choice, twin_release),
      cmocka_unit_test_teardown(test_services, twin_release),  cmocka_unit_test_teardown(test_workspace, twin_release),
      cmocka_unit_test_teardown(test_refused, twin_release),   cmocka_unit_test_teardown(test_recorded, twin_release),
      cmocka_unit_test_teardown(test_no_start, twin_release)}; /* the last one: cuDNN is gone behind it */
  return cmocka_run_group_tests(tests, twin_setup, twin_teardown);
}
