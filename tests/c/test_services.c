#include "typed.h"

static ms_stream *new_stream(void) {
  ms_stream *s = NULL;
  assert_int_equal(ms_cpu_stream_create(0, &s), MS_OK);
  return s;
}

static void test_device(void **state) {
  (void)state;
  char why[MS_WHY] = "x";
  ms_device_props p;
  assert_int_equal(ms_cpu_open(why), MS_OK);
  assert_string_equal(why, "");
  assert_int_equal(ms_cpu_device_count(), 1);
  assert_int_equal(ms_cpu_properties(0, &p), MS_OK);
  assert_true(p.name[0] != 0 && !strchr(p.name, '\n'));
  assert_true(p.memory > (1 << 26) && p.cores >= 1 && (p.bf16 == 0 || p.bf16 == 1));
}

static void test_memory_is_aligned_counted_and_reused(void **state) {
  (void)state;
  ms_stream *s = new_stream();
  ms_memory_info before, during, after;
  ms_cpu_trim(s);
  ms_cpu_memory(s, &before);
  size_t sizes[] = {0, 1, 64, 255, 256, 257, 320, 321, 4096, 5000, 1 << 20, (1 << 20) + 1, 9999999};
  enum { N = sizeof sizes / sizeof *sizes };
  void *p[N];
  int64_t total = 0;
  for (int i = 0; i < N; i++) {
    assert_int_equal(ms_cpu_alloc(s, &p[i], sizes[i]), MS_OK);
    assert_true((uintptr_t)p[i] % 64 == 0);
    memset(p[i], 0xa5, sizes[i]);
    total += (int64_t)sizes[i];
  }
  ms_cpu_memory(s, &during);
  assert_true(during.in_use - before.in_use >= total);
  assert_true((double)(during.in_use - before.in_use) <= 1.25 * (double)total + 256 * N);
  assert_true(during.peak >= during.in_use && during.reserved >= during.in_use && during.free > 0);
  for (int i = 0; i < N; i++)
    ms_cpu_free(s, p[i], sizes[i]);
  ms_cpu_memory(s, &after);
  assert_true(after.in_use == before.in_use);
#ifndef __SANITIZE_ADDRESS__
  void *again;
  assert_int_equal(ms_cpu_alloc(s, &again, 9999990), MS_OK);
  assert_ptr_equal(again, p[N - 1]);
  ms_cpu_free(s, again, 9999990);
#endif
  ms_cpu_trim(s);
  ms_cpu_memory(s, &after);
  assert_true(after.reserved == after.in_use);
  ms_cpu_stream_destroy(s);
}

static void test_too_much_memory_is_an_error(void **state) {
  (void)state;
  ms_stream *s = new_stream();
  ms_device_props props;
  ms_memory_info before, after;
  void *p = s;
  ms_cpu_properties(0, &props);
  ms_cpu_memory(s, &before);
  assert_string_equal(ms_cpu_error_text(s), "");
  assert_int_equal(ms_cpu_alloc(s, &p, (size_t)props.memory * 2), MS_EMEM);
  assert_null(p);
  assert_true(strstr(ms_cpu_error_text(s), "bytes wanted") != NULL);
  assert_int_equal(ms_cpu_alloc(s, &p, SIZE_MAX), MS_EMEM);
  ms_cpu_memory(s, &after);
  assert_true(after.in_use == before.in_use);
  assert_int_equal(ms_cpu_alloc(s, &p, 100), MS_OK);
  ms_cpu_free(s, p, 100);
  ms_cpu_free(s, NULL, 100);
  ms_cpu_trim(s);
  ms_cpu_stream_destroy(s);
}

static void test_copies_and_events(void **state) {
  (void)state;
  ms_stream *s = new_stream();
  ms_event *e;
  char from[] = "spikes", to[sizeof from] = "";
  assert_int_equal(ms_cpu_copy_bytes(s, to, from, sizeof from, MS_COPY_HOST_TO_DEVICE), MS_OK);
  assert_string_equal(to, "spikes");
  assert_int_equal(ms_cpu_copy_bytes(s, NULL, NULL, 0, MS_COPY_DEVICE_TO_HOST), MS_OK);
  assert_int_equal(ms_cpu_event_create(&e), MS_OK);
  assert_int_equal(ms_cpu_event_record(s, e), MS_OK);
  assert_int_equal(ms_cpu_event_wait(s, e), MS_OK);
  assert_int_equal(ms_cpu_synchronize(s), MS_OK);
  ms_cpu_event_destroy(e);
  void *host;
  assert_int_equal(ms_cpu_alloc_host(&host, 1000), MS_OK);
  memset(host, 1, 1000);
  ms_cpu_free_host(host, 1000);
  ms_cpu_stream_destroy(s);
}

static void test_scratch(void **state) {
  (void)state;
  char *a = ms_cpu_scratch(0, 100), *b = ms_cpu_scratch(1, 100);
  assert_true(a && b && a != b && (uintptr_t)a % 64 == 0);
  memset(a, 1, 100);
  memset(b, 2, 100);
  assert_true(a[99] == 1 && b[99] == 2);
  char *c = ms_cpu_scratch(0, 1 << 20);
  assert_non_null(c);
  memset(c, 3, 1 << 20);
  assert_ptr_equal(ms_cpu_scratch(0, 1000), c);
  assert_null(ms_cpu_scratch(0, SIZE_MAX));
  ms_cpu_set_threads(3);
  assert_int_equal(ms_cpu_threads(), 3);
  ms_cpu_set_threads(0);
  assert_true(ms_cpu_threads() >= 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_device),
      cmocka_unit_test(test_memory_is_aligned_counted_and_reused),
      cmocka_unit_test(test_too_much_memory_is_an_error),
      cmocka_unit_test(test_copies_and_events),
      cmocka_unit_test(test_scratch),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
