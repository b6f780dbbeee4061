/* Services of the CUDA plugin: memory, copies, events, graphs, what a failure says. */
#include "twin.h"

static ms_memory_info memory(void) {
  ms_memory_info m;
  TWIN_OK(gpu->memory(gpu_stream, &m));
  return m;
}

/* The emulation's orders of faults; NULL on a real device. */
static int (*order_fault(void))(const char *, long long) {
  int (*order)(const char *, long long);
  *(void **)&order = dlsym(gpu_library, "ms_emu_fail");
  return order;
}

static char *pattern(size_t n, int seed) {
  char *p = malloc(n);
  assert_non_null(p);
  for (size_t i = 0; i < n; i++)
    p[i] = (char)(i * 7 + i / 251 + (size_t)seed);
  return p;
}

static void test_memory(void **state) {
  (void)state;
  TWIN_NEEDED();
  void *a, *b;
  ms_memory_info before = memory();
  TWIN_OK(gpu->alloc(gpu_stream, &a, 1000));
  TWIN_OK(gpu->alloc(gpu_stream, &b, 12345));
  ms_memory_info now = memory();
  assert_true((uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0);
  assert_int_equal(now.in_use, before.in_use + 13345);
  assert_true(now.peak >= now.in_use && now.reserved > 0 && now.free > 0);
  gpu->free(gpu_stream, a, 1000);
  gpu->free(gpu_stream, b, 12345);
  gpu->free(gpu_stream, NULL, 5);
  assert_int_equal(memory().in_use, before.in_use);
  assert_true(memory().peak >= before.in_use + 13345);
}

/* What is freed is used again: the pool does not grow, whatever is waited for, until it is trimmed. */
static void test_pool(void **state) {
  (void)state;
  TWIN_NEEDED();
  const size_t n = 40 << 20;
  void *p;
  ms_memory_info first = {0};
  for (int i = 0; i < 6; i++) {
    TWIN_OK(gpu->alloc(gpu_stream, &p, n));
    gpu->free(gpu_stream, p, n);
    TWIN_OK(gpu->synchronize(gpu_stream));
    if (i == 0)
      first = memory();
    assert_true(first.reserved >= (int64_t)n);
    assert_int_equal(memory().reserved, first.reserved);
  }
  gpu->trim(gpu_stream);
  assert_true(memory().reserved <= first.reserved - (int64_t)n);
}

static void test_out_of_memory(void **state) {
  (void)state;
  TWIN_NEEDED();
  ms_device_props props;
  TWIN_OK(gpu->properties(0, &props));
  void *p = &props;
  char wanted[64];
  size_t n = (size_t)props.memory + 1;
  for (int i = 0; i < 2; i++) {
    assert_int_equal(gpu->alloc(gpu_stream, &p, n), MS_EMEM);
    assert_null(p);
    snprintf(wanted, sizeof wanted, "%zu bytes wanted", n);
    assert_non_null(strstr(gpu->error_text(gpu_stream), wanted));
    assert_non_null(strstr(gpu->error_text(gpu_stream), "in use"));
    assert_non_null(strstr(gpu->error_text(gpu_stream), "free"));
    int x = 42, y = 0;
    int *d = to_device(&x, sizeof x);
    fetch(&y, d, sizeof y);
    assert_int_equal(y, x);
  }
}

/* The source may be changed and freed as soon as the copy has been asked for. */
static void test_copies(void **state) {
  (void)state;
  TWIN_NEEDED();
  const size_t sizes[] = {1, 3, 4096, 100001, (4 << 20) - 1, (9 << 20) + 5};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t n = sizes[i];
    char *want = pattern(n, (int)i), *got = malloc(n), *d = on_device(n), *e = on_device(n);
    for (int again = 0; again < 3; again++) {
      char *from = malloc(n);
      memcpy(from, want, n);
      TWIN_OK(gpu->copy_bytes(gpu_stream, d, from, n, MS_COPY_HOST_TO_DEVICE));
      memset(from, 0, n);
      free(from);
    }
    TWIN_OK(gpu->copy_bytes(gpu_stream, e, d, n, MS_COPY_DEVICE_TO_DEVICE));
    TWIN_OK(gpu->copy_bytes(gpu_stream, got, e, n, MS_COPY_DEVICE_TO_HOST));
    TWIN_OK(gpu->synchronize(gpu_stream));
    assert_memory_equal(got, want, n);
    free(want);
    free(got);
  }
  TWIN_OK(gpu->copy_bytes(gpu_stream, NULL, NULL, 0, MS_COPY_HOST_TO_DEVICE));
}

/* More copies than there are pieces, none waited for. */
static void test_many_copies(void **state) {
  (void)state;
  TWIN_NEEDED();
  enum { N = 100 };
  int64_t got[N], *d = on_device(sizeof got);
  for (int64_t i = 0; i < N; i++) {
    int64_t x = i * i;
    TWIN_OK(gpu->copy_bytes(gpu_stream, d + i, &x, sizeof x, MS_COPY_HOST_TO_DEVICE));
    x = -1;
  }
  fetch(got, d, sizeof got);
  for (int64_t i = 0; i < N; i++)
    assert_int_equal(got[i], i * i);
}

/* Pinned blocks come back from a list, but not while a copy still reads them. */
static void test_pinned(void **state) {
  (void)state;
  TWIN_NEEDED();
  enum { N = 50000 };
  void *p, *q;
  char *want = pattern(N, 3), *got = malloc(N), *d = on_device(N);
  TWIN_OK(gpu->alloc_host(&p, N));
  gpu->free_host(p, N);
  TWIN_OK(gpu->alloc_host(&q, N - 10));
  assert_ptr_equal(p, q);
  memcpy(q, want, N - 10);
  TWIN_OK(gpu->copy_bytes(gpu_stream, d, q, N - 10, MS_COPY_HOST_TO_DEVICE));
  gpu->free_host(q, N - 10);
  TWIN_OK(gpu->alloc_host(&p, N));
  memset(p, 0xee, N);
  fetch(got, d, N - 10);
  assert_memory_equal(got, want, N - 10);
  TWIN_OK(gpu->copy_bytes(gpu_stream, p, d, N - 10, MS_COPY_DEVICE_TO_HOST));
  TWIN_OK(gpu->synchronize(gpu_stream));
  assert_memory_equal(p, want, N - 10);
  gpu->free_host(p, N);
  gpu->free_host(NULL, 0);
  gpu->trim(gpu_stream);
  free(want);
  free(got);
}

static void test_events(void **state) {
  (void)state;
  TWIN_NEEDED();
  enum { N = 30000 };
  ms_stream *other;
  ms_event *ready, *done;
  char *want = pattern(N, 9), *got = malloc(N), *a = on_device(N), *b = on_device(N);
  TWIN_OK(gpu->stream_create(0, &other));
  TWIN_OK(gpu->event_create(&ready));
  TWIN_OK(gpu->event_create(&done));
  TWIN_OK(gpu->event_wait(other, ready)); /* never recorded: nothing to wait for */
  for (int i = 0; i < 3; i++) {
    want[0] = (char)i;
    TWIN_OK(gpu->copy_bytes(gpu_stream, a, want, N, MS_COPY_HOST_TO_DEVICE));
    TWIN_OK(gpu->event_record(gpu_stream, ready));
    TWIN_OK(gpu->event_wait(other, ready));
    TWIN_OK(gpu->copy_bytes(other, b, a, N, MS_COPY_DEVICE_TO_DEVICE));
    TWIN_OK(gpu->event_record(other, done));
    TWIN_OK(gpu->event_wait(gpu_stream, done));
    fetch(got, b, N);
    assert_memory_equal(got, want, N);
  }
  gpu->event_destroy(ready);
  gpu->event_destroy(done);
  gpu->stream_destroy(other);
  free(want);
  free(got);
}

static void test_capture(void **state) {
  (void)state;
  TWIN_NEEDED();
  const int64_t x[] = {1, 2, 3};
  int64_t y[3], *a = on_device(sizeof x), *b = to_device(x, sizeof x);
  ms_graph *g;
  void *p;
  TWIN_OK(gpu->synchronize(gpu_stream));
  TWIN_OK(gpu->capture_begin(gpu_stream));
  TWIN_OK(gpu->copy_bytes(gpu_stream, a, b, sizeof x, MS_COPY_DEVICE_TO_DEVICE));
  assert_int_equal(gpu->alloc(gpu_stream, &p, 8), MS_EBACKEND);
  assert_non_null(strstr(gpu->error_text(gpu_stream), "captured"));
  assert_int_equal(gpu->copy_bytes(gpu_stream, b, x, sizeof x, MS_COPY_HOST_TO_DEVICE), MS_EBACKEND);
  assert_non_null(strstr(gpu->error_text(gpu_stream), "pinned"));
  TWIN_OK(gpu->capture_end(gpu_stream, &g));
  for (int i = 0; i < 3; i++) {
    const int64_t z[] = {i, 10 * i, -i};
    TWIN_OK(gpu->copy_bytes(gpu_stream, b, z, sizeof z, MS_COPY_HOST_TO_DEVICE));
    TWIN_OK(gpu->graph_launch(gpu_stream, g));
    fetch(y, a, sizeof y);
    assert_memory_equal(y, z, sizeof y);
  }
  gpu->graph_destroy(g);
}

/* The scratch memory that a graph was recorded with stays its own when a later row needs more. */
static void test_scratch_of_a_graph(void **state) {
  (void)state;
  TWIN_NEEDED();
  enum { N = 40000, MANY = 8, BLOCKS = 64 };
  float *x = calloc(N * MANY, sizeof *x), sum;
  assert_non_null(x);
  for (int i = 0; i < N * MANY; i++)
    x[i] = 1;
  float *in = to_device(x, N * MANY * sizeof *x), *out = on_device(MANY * sizeof *out);
  int64_t ones[8], *held[BLOCKS];
  memset(ones, 0xff, sizeof ones);
  ms_reduction small = {
      .nred = 1, .red = {N}, .in = {in, MS_F32, 1}, .out = {out, MS_F32, 1}, .in_red = {1}, .factor = 1};
  ms_reduction large = small;
  large.nkept = large.out_kept[0] = 1;
  large.kept[0] = MANY;
  large.in_kept[0] = N;
  ms_graph *g;
  TWIN_OK(gpu->reduce(gpu_stream, MS_REDUCE_sum, &small));
  TWIN_OK(gpu->synchronize(gpu_stream));
  TWIN_OK(gpu->capture_begin(gpu_stream));
  TWIN_OK(gpu->reduce(gpu_stream, MS_REDUCE_sum, &small));
  TWIN_OK(gpu->capture_end(gpu_stream, &g));
  TWIN_OK(gpu->reduce(gpu_stream, MS_REDUCE_sum, &large));
  for (int i = 0; i < BLOCKS; i++)
    held[i] = on_device(sizeof ones);
  TWIN_OK(gpu->graph_launch(gpu_stream, g));
  fetch(&sum, out, sizeof sum);
  assert_true(sum == N);
  for (int i = 0; i < BLOCKS; i++) {
    int64_t got[8];
    fetch(got, held[i], sizeof got);
    assert_memory_equal(got, ones, sizeof got);
  }
  gpu->graph_destroy(g);
  free(x);
}

/* What cannot be captured spoils the capture; its end says so, and afterwards all is as before. */
static void test_spoiled_capture(void **state) {
  (void)state;
  TWIN_NEEDED();
  ms_graph *g = (ms_graph *)state;
  int x = 7, y, *d = on_device(sizeof x);
  TWIN_OK(gpu->capture_begin(gpu_stream));
  assert_int_equal(gpu->synchronize(gpu_stream), MS_EBACKEND);
  assert_non_null(strstr(gpu->error_text(gpu_stream), "usable again"));
  assert_int_equal(gpu->capture_end(gpu_stream, &g), MS_EBACKEND);
  assert_null(g);
  assert_non_null(strstr(gpu->error_text(gpu_stream), "the end of a capture"));
  TWIN_OK(gpu->copy_bytes(gpu_stream, d, &x, sizeof x, MS_COPY_HOST_TO_DEVICE));
  fetch(&y, d, sizeof y);
  assert_int_equal(y, x);
}

static ms_status advance(ms_hyper *h) {
  const ms_range r = {.n = 1};
  return gpu->hyper_advance(gpu_stream, h, &r, 1);
}

static void test_failures(void **state) {
  (void)state;
  TWIN_NEEDED();
  int (*fault)(const char *, long long) = order_fault();
  ms_hyper was = {.beta1 = .9, .beta2 = .99}, now;
  ms_hyper *h = to_device(&was, sizeof was);
  if (!fault)
    skip();
  fault("launch", 1);
  assert_int_equal(advance(h), MS_EBACKEND);
  assert_non_null(strstr(gpu->error_text(gpu_stream), "hyper_kernel: "));
  assert_non_null(strstr(gpu->error_text(gpu_stream), "cudaErrorLaunchFailure"));
  assert_non_null(strstr(gpu->error_text(gpu_stream), "usable again"));
  TWIN_OK(advance(h));
  fetch(&now, h, sizeof now);
  assert_true(now.step == 1);

  fault("launch_sticky", 1);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(advance(h), MS_EBACKEND);
    assert_non_null(strstr(gpu->error_text(gpu_stream), "the device is lost"));
  }
  fault("clear", 0);
  TWIN_OK(advance(h));

  fault("sync", 1);
  assert_int_equal(gpu->synchronize(gpu_stream), MS_EBACKEND);
  assert_non_null(strstr(gpu->error_text(gpu_stream), "MOONSPIKE_SYNC=1"));
  fault("clear", 0);
}

/* Every launch is waited for, so a kernel that fails while it runs is named. */
static void test_always_wait(void **state) {
  (void)state;
  TWIN_NEEDED();
  int (*fault)(const char *, long long) = order_fault();
  char why[MS_WHY];
  ms_hyper was = {.beta1 = .9, .beta2 = .99}, *h = to_device(&was, sizeof was);
  if (!fault)
    skip();
  setenv("MOONSPIKE_SYNC", "1", 1);
  TWIN_OK(gpu->open(why));
  fault("sync", 1);
  assert_int_equal(advance(h), MS_EBACKEND);
  assert_non_null(strstr(gpu->error_text(gpu_stream), "hyper_kernel: "));
  assert_non_null(strstr(gpu->error_text(gpu_stream), "the device is lost"));
  fault("clear", 0);
  unsetenv("MOONSPIKE_SYNC");
  TWIN_OK(gpu->open(why));
}

static void test_properties(void **state) {
  (void)state;
  TWIN_NEEDED();
  ms_device_props props;
  assert_true(gpu->device_count() >= 1);
  TWIN_OK(gpu->properties(0, &props));
  assert_true(props.name[0] && props.memory > 0 && props.cores > 0);
  assert_int_equal(props.major > 0, order_fault() == NULL); /* the emulation is never chosen by itself */
  assert_int_equal(gpu->properties(99, &props), MS_EBACKEND);
  assert_non_null(strstr(gpu->error_text(NULL), "cudaErrorInvalidDevice"));
  ms_stream *s = gpu_stream;
  assert_true(gpu->stream_create(99, &s) != MS_OK);
  assert_null(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_memory, twin_release),
      cmocka_unit_test_teardown(test_pool, twin_release),
      cmocka_unit_test_teardown(test_out_of_memory, twin_release),
      cmocka_unit_test_teardown(test_copies, twin_release),
      cmocka_unit_test_teardown(test_many_copies, twin_release),
      cmocka_unit_test_teardown(test_pinned, twin_release),
      cmocka_unit_test_teardown(test_events, twin_release),
      cmocka_unit_test_teardown(test_capture, twin_release),
      cmocka_unit_test_teardown(test_scratch_of_a_graph, twin_release),
      cmocka_unit_test_teardown(test_spoiled_capture, twin_release),
      cmocka_unit_test_teardown(test_failures, twin_release),
      cmocka_unit_test_teardown(test_always_wait, twin_release),
      cmocka_unit_test_teardown(test_properties, twin_release),
  };
  return cmocka_run_group_tests_name("cuda services", tests, twin_setup, twin_teardown);
}
