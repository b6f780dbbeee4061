/* Convolution rows against plain loops in double, the adjoint identity, equal bits for any number of threads. */
#include "../../kernels/cpu/conv_bf16.h"
#include "convtest.h"

static const shape list[] = {
    {2, 5, 5, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1},     {1, 9, 7, 7, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {3, 8, 8, 33, 7, 3, 3, 1, 1, 0, 0, 1, 1, 1},    {2, 9, 11, 5, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {2, 10, 9, 4, 6, 3, 2, 3, 2, 2, 1, 1, 1, 1},    {1, 12, 12, 3, 5, 3, 3, 1, 1, 2, 2, 2, 2, 1},
    {1, 13, 12, 4, 4, 3, 3, 2, 3, 2, 3, 3, 2, 1},   {2, 7, 7, 6, 9, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {2, 7, 8, 6, 9, 1, 1, 2, 2, 0, 0, 1, 1, 1},     {1, 9, 9, 2, 3, 7, 7, 1, 1, 3, 3, 1, 1, 1},
    {1, 11, 9, 2, 3, 7, 7, 2, 2, 3, 3, 1, 1, 1},    {2, 6, 6, 12, 8, 3, 3, 1, 1, 1, 1, 1, 1, 4},
    {2, 7, 6, 6, 12, 3, 3, 2, 1, 1, 1, 1, 2, 2},    {2, 7, 7, 40, 40, 3, 3, 1, 1, 1, 1, 1, 1, 40},
    {2, 8, 7, 5, 5, 3, 3, 2, 2, 1, 1, 1, 2, 5},     {1, 6, 6, 4, 8, 3, 3, 1, 1, 1, 1, 1, 1, 4},
    {100, 1, 1, 70, 10, 1, 1, 1, 1, 0, 0, 1, 1, 1}, {1, 1, 1, 300, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {0, 5, 5, 3, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1},     {3, 20, 19, 32, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {2, 4, 4, 3, 2, 2, 2, 1, 1, 3, 3, 1, 1, 1},     {1, 24, 24, 1, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {3, 6, 7, 140, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1},  {2, 12, 9, 70, 34, 5, 4, 2, 1, 2, 1, 1, 1, 1},
    {2, 5, 4, 6, 5, 2, 3, 5, 4, 1, 1, 1, 1, 1},     {1, 9, 70, 3, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {9, 4, 4, 12, 150, 3, 3, 1, 1, 1, 1, 1, 1, 2}};

enum { SHAPES = sizeof list / sizeof *list };

/* Runs a pass on 1, 2 and 5 threads into out (and bias), demanding equal bits. */
static void run(const fixture *f, ms_conv_pass pass, ms_data out, int64_t n, ms_real *bias) {
  ms_conv_plan *plan = NULL;
  assert_int_equal(ms_cpu_conv_plan(NULL, &f->d, &plan), MS_OK);
  size_t bytes = (size_t)n * row_width(out.dtype), room = ms_cpu_conv_workspace(plan, pass);
  assert_true(room <= (16u << 20));
  void *workspace = malloc(room + 1), *first = malloc(bytes + 1);
  for (int threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3) {
    ms_conv_args a = {
        .plan = plan, .x = f->x, .weight = f->w, .y = f->g, .bias = bias, .density = -1, .workspace = workspace};
    memset(out.p, 0xff, bytes);
    memset(workspace, 0xff, room);
    ms_cpu_set_threads(threads);
    ms_status (*row)(ms_stream *, const ms_conv_args *) = ms_cpu_conv_forward;
    if (pass == MS_CONV_FORWARD) {
      a.y = out;
    } else if (pass == MS_CONV_INPUT_GRAD) {
      a.x = out;
      row = ms_cpu_conv_input_grad;
    } else {
      a.weight = out;
      row = ms_cpu_conv_weight_grad;
    }
    assert_int_equal(row(NULL, &a), MS_OK);
    if (threads == 1)
      memcpy(first, out.p, bytes);
    assert_memory_equal(first, out.p, bytes);
  }
  ms_cpu_set_threads(0);
  free(workspace);
  free(first);
  ms_cpu_conv_plan_destroy(plan);
}

static void check(const fixture *f) {
  sums s = multiply(f);
  check_passes(f, &s, f->g.dtype, MS_F32, run);
  int64_t synops[2] = {-1, -1}, nonzero = 0;
  assert_int_equal(ms_cpu_conv_synops(NULL, &f->d, f->x, synops), MS_OK);
  for (int64_t i = 0; i < f->nx; i++)
    nonzero += s.x[i] != 0;
  assert_int_equal(synops[0], nonzero);
  assert_int_equal(synops[1], s.products);
  drop_sums(&s);
}

static void check_all(const shape *s, ms_dtype xt, ms_dtype wt, ms_dtype yt) {
  fixture f = make(s, xt, wt, yt);
  check(&f);
  drop(&f);
}

/* Every engine wherever it supports the shape; the others fall back to the usual one. */
static void check_engines(const fixture *f) {
  const char *const names[] = {"gemm", "depthwise", "event", NULL};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(ms_cpu_conv_force(NULL, names[i]), MS_OK);
    check(f);
  }
}

static void test_real(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    check_all(&list[i], MS_F32, MS_F32, MS_F32);
}

static void test_spike(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    check_all(&list[i], MS_SPIKE, MS_F32, MS_F32);
}

static void test_other_types(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) {
    check_all(&list[i], MS_BF16, MS_BF16, MS_BF16);
    check_all(&list[i], MS_U8, MS_BF16, MS_BF16);
  }
}

/* Spikes at all densities, counts above 1 in some of them. */
static void test_density(void **state) {
  (void)state;
  const double density[] = {0, -1, 0.02, 0.2, 1};
  for (int i = 0; i < SHAPES; i++)
    for (int k = 0; k < 10; k++) {
      fixture f = make(&list[i], MS_SPIKE, MS_F32, MS_F32);
      uint8_t *x = f.x.p;
      for (int64_t e = 0; e < f.nx; e++)
        x[e] = row_random() < density[k % 5] ? (uint8_t)(k < 5 ? 1 : 1 + 255 * row_random() * row_random()) : 0;
      if (k % 5 == 1 && f.nx) /* one spike */
        x[(int64_t)(row_random() * (double)f.nx)] = k < 5 ? 1 : 255;
      assert_int_equal(ms_cpu_conv_force(NULL, "event"), MS_OK);
      check(&f);
      assert_int_equal(ms_cpu_conv_force(NULL, NULL), MS_OK);
      drop(&f);
    }
}

static void test_engines(void **state) {
  (void)state;
  const ms_dtype types[][3] = {
      {MS_F32, MS_F32, MS_F32}, {MS_SPIKE, MS_BF16, MS_BF16}, {MS_U8, MS_BF16, MS_BF16}, {MS_U8, MS_F32, MS_BF16}};
  for (int i = 0; i < SHAPES; i++)
    for (int k = 0; k < 4; k++) {
      fixture f = make(&list[i], types[k][0], types[k][1], types[k][2]);
      check_engines(&f);
      drop(&f);
    }
}

/* A hook that forces nothing would leave the tests above without meaning. */
static void test_force(void **state) {
  (void)state;
  assert_int_equal(ms_cpu_conv_force(NULL, "no such engine"), MS_EINVAL);
  ms_conv_desc d = describe(&list[1], MS_SPIKE, MS_F32);
  ms_conv_plan *plan = NULL;
  assert_int_equal(ms_cpu_conv_plan(NULL, &d, &plan), MS_OK);
  assert_string_equal(ms_cpu_conv_engine(&(ms_conv_args){.plan = plan, .density = -1}, MS_CONV_FORWARD, NULL), "gemm");
  assert_int_equal(ms_cpu_conv_force(NULL, "event"), MS_OK);
  assert_string_equal(ms_cpu_conv_engine(&(ms_conv_args){.plan = plan, .density = -1}, MS_CONV_FORWARD, NULL), "event");
  assert_string_equal(ms_cpu_conv_engine(&(ms_conv_args){.plan = plan, .density = -1}, MS_CONV_INPUT_GRAD, NULL),
                      "gemm");
  assert_string_equal(ms_cpu_conv_engine(&(ms_conv_args){.plan = plan, .density = -1}, MS_CONV_WEIGHT_GRAD, NULL),
                      "event");
  assert_int_equal(ms_cpu_conv_force(NULL, NULL), MS_OK);
  ms_cpu_conv_plan_destroy(plan);
}

/* Events run where the density is known and low, and only there. */
static void test_choice(void **state) {
  (void)state;
  const shape s = {5, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1};
  fixture f = make(&s, MS_SPIKE, MS_F32, MS_F32);
  ms_conv_plan *plan = NULL;
  assert_int_equal(ms_cpu_conv_plan(NULL, &f.d, &plan), MS_OK);
  const struct {
    const char *same;
    ms_real density;
  } cases[] = {{"gemm", -1}, {"gemm", 1}, {"event", MS_R(0.1)}, {"event", 0}};
  ms_data y[2] = {row_output(MS_F32, f.ny), row_output(MS_F32, f.ny)};
  for (int i = 0; i < 4; i++) {
    for (int k = 0; k < 2; k++) {
      assert_int_equal(ms_cpu_conv_force(NULL, k ? cases[i].same : NULL), MS_OK);
      ms_conv_args a = {.plan = plan,
                        .x = f.x,
                        .weight = f.w,
                        .y = y[k],
                        .density = k ? -1 : cases[i].density,
                        .workspace = malloc(ms_cpu_conv_workspace(plan, MS_CONV_FORWARD) + 1)};
      assert_int_equal(ms_cpu_conv_forward(NULL, &a), MS_OK);
      free(a.workspace);
    }
    assert_memory_equal(y[0].p, y[1].p, (size_t)f.ny * sizeof(ms_real));
    assert_int_equal(ms_cpu_conv_force(NULL, NULL), MS_OK);
  }
  free(y[0].p);
  free(y[1].p);
  ms_cpu_conv_plan_destroy(plan);
  drop(&f);
}

/* <conv(x), g> = <x, input grad of g> = <w, weight grad of g>: in double arithmetic over what the rows returned. */
static void test_adjoint(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) {
    fixture f = make(&list[i], MS_F32, MS_F32, MS_F32);
    ms_data y = row_output(MS_F32, f.ny), dx = row_output(MS_F32, f.nx), dw = row_output(MS_F32, f.nw);
    run(&f, MS_CONV_FORWARD, y, f.ny, NULL);
    run(&f, MS_CONV_INPUT_GRAD, dx, f.nx, NULL);
    run(&f, MS_CONV_WEIGHT_GRAD, dw, f.nw, NULL);
    double a = 0, b = 0, c = 0, size = 0;
    for (int64_t j = 0; j < f.ny; j++) {
      a += row_get(y, j) * row_get(f.g, j);
      size += fabs(row_get(y, j) * row_get(f.g, j));
    }
    for (int64_t j = 0; j < f.nx; j++)
      b += row_get(dx, j) * row_get(f.x, j);
    for (int64_t j = 0; j < f.nw; j++)
      c += row_get(dw, j) * row_get(f.w, j);
    assert_true(fabs(a - b) <= 64 * ROW_EPS * size + 1e-30);
    assert_true(fabs(a - c) <= 64 * ROW_EPS * size + 1e-30);
    free(y.p);
    free(dx.p);
    free(dw.p);
    drop(&f);
  }
}

/* The workspace of a huge layer stays a few MiB: the gradient of the inputs may turn its weights round. */
static void test_workspace(void **state) {
  (void)state;
  const shape huge[] = {{4096, 64, 64, 64, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1},
                        {4096, 8, 8, 512, 512, 3, 3, 1, 1, 1, 1, 1, 1, 1}};
  for (int i = 0; i < 2; i++) {
    ms_conv_desc d = describe(&huge[i], MS_SPIKE, MS_F32);
    ms_conv_plan *plan = NULL;
    size_t weights = (size_t)(d.cout * 9 * d.cin) * sizeof(ms_real);
    assert_int_equal(ms_cpu_conv_plan(NULL, &d, &plan), MS_OK);
    for (ms_conv_pass p = MS_CONV_FORWARD; p <= MS_CONV_WEIGHT_GRAD; p++)
      assert_true(ms_cpu_conv_workspace(plan, p) <= (4u << 20) + (p == MS_CONV_INPUT_GRAD ? weights : 0));
    ms_cpu_conv_plan_destroy(plan);
  }
}

/* What the engine of a call takes, asked of the engine alone. */
static size_t room_of(ms_conv_plan *plan, const ms_conv_desc *d, ms_conv_pass pass, const char *name) {
  const ms_conv_engine *const all[] = {&ms_conv_event, &ms_conv_bf16, &ms_conv_bf16x3, &ms_conv_depthwise,
                                       &ms_conv_gemm};
  for (int i = 0; i < 5; i++)
    if (strcmp(all[i]->name, name) == 0)
      return all[i]->workspace(d, pass);
#ifdef MS_ONEDNN
  return ms_conv_onednn.room(ms_conv_kept(plan), pass);
#else
  (void)plan;
  return SIZE_MAX;
#endif
}

static void check_room(ms_conv_plan *plan, const ms_conv_desc *d, ms_conv_pass pass) {
  static const uint8_t some;
  const ms_dtype real[] = {MS_F32, MS_BF16};
  const ms_real density[] = {-1, 0, MS_R(0.03), MS_R(0.3), 1};
  size_t most = 0, room = ms_cpu_conv_workspace(plan, pass);
  for (int i = 0; i < 40; i++) {
    ms_conv_args a = {.plan = plan, .density = density[i / 8], .mask_density = density[i / 8], .counts = i & 1};
    a.x.dtype = pass == MS_CONV_INPUT_GRAD ? real[i / 2 & 1] : d->x;
    a.weight.dtype = pass == MS_CONV_WEIGHT_GRAD ? real[i / 2 & 1] : d->weight;
    a.y.dtype = real[i / 4 & 1];
    a.mask = pass == MS_CONV_INPUT_GRAD ? &some : NULL;
    size_t takes = room_of(plan, d, pass, ms_cpu_conv_engine(&a, pass, NULL));
    most = takes > most ? takes : most;
  }
  assert_true(room >= most);
}

/* The workspace is enough for any arguments, whatever is forced and flagged. */
static void test_room(void **state) {
  (void)state;
  const shape layers[] = {
      {8, 32, 32, 128, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1}, {32, 8, 8, 512, 512, 3, 3, 1, 1, 1, 1, 1, 1, 1},
      {8, 32, 32, 64, 128, 3, 3, 2, 2, 1, 1, 1, 1, 1},  {600, 1, 1, 800, 128, 1, 1, 1, 1, 0, 0, 1, 1, 1},
      {4, 16, 16, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 64},  {2, 9, 9, 3, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1}};
  const ms_dtype types[][2] = {{MS_F32, MS_F32},   {MS_BITS, MS_F32},  {MS_SPIKE, MS_F32},
                               {MS_BF16, MS_BF16}, {MS_BITS, MS_BF16}, {MS_U8, MS_BF16}};
  const char *const kernels[] = {"base", "avx512_bf16", "amx"};
  for (int i = 0; i < 6 * 6 * 3 * 2; i++) {
    const shape *s = &layers[i % 6];
    const ms_dtype *t = types[i / 6 % 6];
    if (ms_bf16_kernel_force(kernels[i / 36 % 3]) || (t[0] == MS_BITS && s->cin % 8))
      continue;
    ms_cpu_conv_deterministic(i / 108);
    ms_conv_desc d = describe(s, t[0], t[1]);
    ms_conv_plan *plan = NULL;
    assert_int_equal(ms_cpu_conv_plan(NULL, &d, &plan), MS_OK);
    for (ms_conv_pass pass = MS_CONV_FORWARD; pass <= MS_CONV_WEIGHT_GRAD; pass++) {
      check_room(plan, &d, pass);
      for (const char *const *e = ms_cpu_conv_engines(); *e; e++) {
        assert_int_equal(ms_cpu_conv_force(plan, *e), MS_OK);
        check_room(plan, &d, pass);
        assert_int_equal(ms_cpu_conv_force(plan, NULL), MS_OK);
        assert_int_equal(ms_cpu_conv_force(NULL, *e), MS_OK);
        check_room(plan, &d, pass);
        assert_int_equal(ms_cpu_conv_force(NULL, NULL), MS_OK);
      }
    }
    ms_cpu_conv_plan_destroy(plan);
  }
  ms_cpu_conv_deterministic(1);
  assert_int_equal(ms_bf16_kernel_force("base"), MS_OK);
}

/* Our own engines without tile registers, which every machine has; oneDNN and the bfloat16 products have their own
** tests. */
static int only_own(void **state) {
  (void)state;
  ms_cpu_conv_deterministic(1);
  return ms_bf16_kernel_force("base");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_real),        cmocka_unit_test(test_spike),
                                     cmocka_unit_test(test_other_types), cmocka_unit_test(test_density),
                                     cmocka_unit_test(test_engines),     cmocka_unit_test(test_force),
                                     cmocka_unit_test(test_choice),      cmocka_unit_test(test_adjoint),
                                     cmocka_unit_test(test_workspace),   cmocka_unit_test(test_room)};
  return cmocka_run_group_tests(tests, only_own, NULL);
}
