/* Batches on the device "cuda": their values while the host runs ahead of their copies (on the emulation with EMU_LAZY=1 a
** copy is done when somebody waits for it, so that memory written too early shows), and what the host waits for. */
#include "../../host/bind/bind.h"
#include "../../host/core/device.h"
#include <dlfcn.h>
#include <libgen.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after the headers it needs */
#include <cmocka.h>

enum { LAUNCHES, WAITS, ALLOCATIONS, COPIES, SETS, GRAPHS, FREES, LIBRARY, COUNTS };

static void (*counts_of)(long long out[COUNTS]);
static lua_State *L;

static void check(int status) {
  if (status)
    fail_msg("%s", lua_tostring(L, -1));
}

/* Leaves the table of tests on the stack of a fresh state. */
static int setup(void **state) {
  (void)state;
  char self[4000], path[4200];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  assert_true(n > 0);
  self[n] = 0;
  snprintf(path, sizeof path, "%s/../emu/libmoonspike_cuda.so", dirname(self));
  setenv("EMU_DEVICES", "2", 1);
  if (getenv("MOONSPIKE_PLUGIN"))
    snprintf(path, sizeof path, "%s/libmoonspike_cuda.so", getenv("MOONSPIKE_PLUGIN"));
  else
    setenv("MOONSPIKE_PLUGIN", path, 1);
  ms_device *cuda;
  ms_error err;
  if (ms_device_find(&cuda, "cuda", &err))
    return 0;
  void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (library)
    *(void **)&counts_of = dlsym(library, "ms_emu_counts");
  L = luaL_newstate();
  assert_non_null(L);
  luaL_openlibs(L);
  luaL_requiref(L, "moonspike.core", luaopen_moonspike_core, 0);
  lua_settop(L, 0);
  check(luaL_dofile(L, MS_ROOT "/tests/c/batches.lua"));
  return 0;
}

static int teardown(void **state) {
  (void)state;
  if (L)
    lua_close(L);
  return 0;
}

static void test(const char *name) {
  if (!L)
    skip();
  lua_settop(L, 1);
  lua_getfield(L, 1, name);
  check(lua_pcall(L, 0, 0, 0));
}

static void the_values_of_the_cpu(void **state) {
  (void)state;
  test("values");
}

static void on_other_devices(void **state) {
  (void)state;
  test("other_devices");
}

static void closed_with_copies_under_way(void **state) {
  (void)state;
  test("closed");
}

static void captured_steps(void **state) {
  (void)state;
  test("captured");
}

static void left_open(void **state) {
  (void)state;
  test("left_open");
}

/* Of the host, in n steps that take a batch each. */
static long long waits_of(int n) {
  long long before[COUNTS], after[COUNTS];
  counts_of(before);
  for (int i = 0; i < n; i++) {
    lua_pushvalue(L, -1);
    check(lua_pcall(L, 0, 0, 0));
  }
  counts_of(after);
  return after[WAITS] - before[WAITS];
}

/* Where copies are done by the time that the next batch is asked for. Else it waits, but once a batch. */
static void a_step_waits_for_nothing(void **state) {
  (void)state;
  if (!counts_of)
    skip(); /* not the emulation */
  const char *lazy = getenv("EMU_LAZY");
  for (int resident = 0; resident < 2; resident++) {
    lua_settop(L, 1);
    lua_getfield(L, 1, "training");
    lua_pushboolean(L, resident);
    check(lua_pcall(L, 1, 1, 0));
    waits_of(2);
    long long waits = waits_of(30); /* two epochs and more */
    if (!lazy || strcmp(lazy, "0") == 0)
      assert_int_equal(waits, 0);
    else
      print_message("# %lld waits in 30 steps\n", waits);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_values_of_the_cpu),
      cmocka_unit_test(on_other_devices),
      cmocka_unit_test(closed_with_copies_under_way),
      cmocka_unit_test(a_step_waits_for_nothing),
      cmocka_unit_test(captured_steps),
      cmocka_unit_test(left_open),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
