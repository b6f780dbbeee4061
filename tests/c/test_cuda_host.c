/* The library on the device "cuda", mostly the emulation, which counts: a training step waits for nothing, a replay is
** one launch and allocates nothing, what fails is named and the next op works. */
#include "../../host/core/capture.h"
#include "nntest.h"
#include <dlfcn.h>
#include <libgen.h>
#include <unistd.h>

enum { LAUNCHES, WAITS, ALLOCATIONS, COPIES, SETS, GRAPHS, FREES, LIBRARY, COUNTS };

static ms_device *cuda;
static void (*counts_of)(long long out[COUNTS]);
static int (*order_fault)(const char *what, long long n);

static int setup(void **state) {
  (void)state;
  char self[4000], path[4200];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  assert_true(n > 0);
  self[n] = 0;
  snprintf(path, sizeof path, "%s/../emu/libmoonspike_cuda.so", dirname(self));
  if (getenv("MOONSPIKE_PLUGIN"))
    snprintf(path, sizeof path, "%s/libmoonspike_cuda.so", getenv("MOONSPIKE_PLUGIN"));
  else
    setenv("MOONSPIKE_PLUGIN", path, 1);
  if (ms_device_find(&cuda, "cuda", &test_err))
    return 0;
  void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (library) {
    *(void **)&counts_of = dlsym(library, "ms_emu_counts");
    *(void **)&order_fault = dlsym(library, "ms_emu_fail");
  }
  ms_device_set_current(cuda);
  return 0;
}

#define NEEDED()                      \
  do {                                \
    if (!cuda || !counts_of)          \
      skip(); /* not the emulation */ \
  } while (0)

static double wave(int64_t i) {
  return sin(0.7 * (double)i);
}

typedef struct training {
  ms_tensor *w, *x, *y;
  ms_optim *o;
  int group;
} training;

static training begin(void) {
  training t = {
      .w = leaf(wave, SIZE(3, 8)), .x = make(wave, SIZE(2, 4, 8)), .y = labels_of(4, (int64_t[]){0, 1, 2, 1})};
  ms_hyper h = {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
  OK(ms_optim_new(&t.o, MS_OPTIM_ADAM, &test_err));
  OK(ms_optim_add_group(t.o, 1, &t.w, &h, &t.group, &test_err));
  return t;
}

static void end(training *t) {
  ms_optim_free(t->o);
  ms_release(t->w);
  ms_release(t->x);
  ms_release(t->y);
}

static ms_status step(ms_tensor **out, training *t, ms_tensor *x, ms_tensor *y, ms_error *err) {
  ms_loss_opts o = {MS_LOSS_EACH, 0.95, 0.05, 0, 0, 1};
  ms_trt_opts trt = {1e-3, 0.5, 1e-5, 0, 3};
  ms_neuron_opts neuron = {
      .p = {.leak = MS_R(0.5), .gain = 1, .threshold = 1, .alpha = 1, .surrogate = MS_SURROGATE_TRIANGLE}};
  ms_tensor *s = NULL, *kept = NULL, *z = NULL, *r = NULL, *norm = NULL;
  ms_loss_parts parts = {NULL, NULL, NULL};
  ms_status st;
  if (!(st = ms_optim_zero_grad(t->o, err)) &&
      !(st = ms_neuron_forward(&s, NULL, NULL, x, NULL, NULL, &neuron, NULL, err)) &&
      !(st = ms_dropout(&kept, s, 0.25, ms_rng_next(), err)) && !(st = ms_linear(&z, kept, t->w, NULL, err)) &&
      !(st = ms_classification_loss(&parts, z, y, o, err)) &&
      !(st = ms_trt_regulariser(&r, NULL, 1, &t->w, trt, err)) &&
      !(st = ms_binary(out, MS_BINARY_add, parts.value, r, err)) && !(st = ms_backward(*out, NULL, 0, err)) &&
      !(st = ms_clip_grad_norm(&norm, 1, &t->w, 0.5, err)))
    st = ms_optim_step(t->o, err);
  ms_tensor *held[] = {s, kept, z, r, norm, parts.value, parts.parts, parts.correct};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  return st;
}

static void difference(long long out[COUNTS], const long long before[COUNTS]) {
  counts_of(out);
  for (int i = 0; i < COUNTS; i++)
    out[i] -= before[i];
}

static void a_step_waits_for_nothing(void **state) {
  (void)state;
  NEEDED();
  training t = begin();
  long long before[COUNTS], now[COUNTS];
  for (int i = 0; i < 4; i++) {
    ms_tensor *l = NULL;
    counts_of(before);
    OK(step(&l, &t, t.x, t.y, &test_err));
    ms_release(l);
    difference(now, before);
    assert_int_equal(now[WAITS], 0);
    assert_true(now[LAUNCHES] > 5);
  }
  end(&t);
}

static ms_tensor *captured(ms_recording *r, training *t, int record) {
  ms_tensor *in[2] = {t->x, t->y}, *given[2], *l = NULL, *out = NULL;
  OK(ms_recording_inputs(r, in, given, &test_err));
  if (ms_recording_ready(r)) {
    OK(ms_recording_replay(r, &out, &test_err));
  } else {
    OK(ms_recording_begin(r, record, &test_err));
    assert_int_equal(ms_capture_recording(), record);
    OK(step(&l, t, given[0], given[1], &test_err));
    OK(ms_recording_end(r, 0, 1, &l, &out, &test_err));
    ms_release(l);
  }
  ms_release(given[0]);
  ms_release(given[1]);
  return out;
}

static void a_replay_is_one_launch_and_the_same_training(void **state) {
  (void)state;
  NEEDED();
  double value[2][6];
  ms_real *w[2];
  for (int graph = 0; graph < 2; graph++) {
    ms_manual_seed(3);
    training t = begin();
    ms_recording *r = NULL;
    ms_tensor *in[2] = {t.x, t.y};
    if (graph)
      OK(ms_recording_new(&r, 2, in, &test_err));
    for (int i = 0; i < 6; i++) {
      ms_tensor *l = NULL;
      long long before[COUNTS], now[COUNTS];
      counts_of(before);
      if (graph)
        l = captured(r, &t, i > 0);
      else
        OK(step(&l, &t, t.x, t.y, &test_err));
      difference(now, before);
      assert_int_equal(now[WAITS], 0);
      assert_int_equal(now[GRAPHS], graph && i > 0);
      if (graph && i > 1) {
        assert_true(now[LAUNCHES] <= 2); /* the copies of the inputs */
        assert_int_equal(now[ALLOCATIONS], 0);
      }
      value[graph][i] = item(l);
      ms_release(l);
    }
    w[graph] = values_of(t.w);
    ms_recording_free(r);
    end(&t);
  }
  assert_memory_equal(value[0], value[1], sizeof value[0]);
  assert_memory_equal(w[0], w[1], 24 * sizeof *w[0]);
  free(w[0]);
  free(w[1]);
}

static void what_fails_is_named_and_the_next_op_works(void **state) {
  (void)state;
  NEEDED();
  ms_tensor *x = make(wave, SIZE(8)), *y = NULL;
  order_fault("launch", 1);
  FAILS(ms_unary(&y, MS_UNARY_exp, x, &test_err), MS_EBACKEND, "exp: backend failed");
  OK(ms_unary(&y, MS_UNARY_exp, x, &test_err));
  ms_release(y);
  order_fault("alloc", 1); /* memory comes at the second try, when the backend has given back what it kept */
  OK(ms_unary(&y, MS_UNARY_exp, x, &test_err));
  ms_release(y);
  ms_release(x);
}

static void a_failure_while_it_is_recorded_leaves_a_program(void **state) {
  (void)state;
  NEEDED();
  training t = begin();
  ms_recording *r;
  ms_tensor *in[2] = {t.x, t.y}, *given[2], *l = NULL;
  OK(ms_recording_new(&r, 2, in, &test_err));
  ms_release(captured(r, &t, 0));
  OK(ms_recording_inputs(r, in, given, &test_err));
  OK(ms_recording_begin(r, 1, &test_err));
  order_fault("launch", 4);
  assert_int_equal(step(&l, &t, given[0], given[1], &test_err), MS_EBACKEND);
  OK(ms_recording_end(r, 1, 0, NULL, NULL, &test_err));
  ms_release(l);
  ms_release(given[0]);
  ms_release(given[1]);
  order_fault("clear", 0);
  assert_false(ms_capture_inside());
  for (int i = 0; i < 3; i++) {
    l = captured(r, &t, i > 0);
    assert_true(item(l) > 0);
    ms_release(l);
  }
  ms_recording_free(r);
  end(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_step_waits_for_nothing),
      cmocka_unit_test(a_replay_is_one_launch_and_the_same_training),
      cmocka_unit_test(what_fails_is_named_and_the_next_op_works),
      cmocka_unit_test(a_failure_while_it_is_recorded_leaves_a_program),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
