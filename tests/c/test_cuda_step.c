/* What a training step of ResNet-19 costs the host, counted on the emulation: calls of the table, launches, waits. The
** counts do not depend on the size of the images nor on the number of channels, so both are small. */
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

static int setup(void **state) {
  (void)state;
  char self[4000], path[4200];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  assert_true(n > 0);
  self[n] = 0;
  snprintf(path, sizeof path, "%s/../emu/libmoonspike_cuda.so", dirname(self));
  setenv("MOONSPIKE_PLUGIN", path, 1);
  setenv("BATCH", "1", 1);
  setenv("SIZE", "8", 1);
  ms_device *cuda;
  ms_error err;
  void *library = ms_device_find(&cuda, "cuda", &err) ? NULL : dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (library)
    *(void **)&counts_of = dlsym(library, "ms_emu_counts");
  return 0;
}

static const char script[] = "package.path = '" MS_ROOT "/scripts/bench/?.lua;' .. package.path\n"
                             "local ms, networks = require 'moonspike', require 'networks'\n"
                             "ms.device 'cuda' ms.autocast(...)\n"
                             "local spec = networks.find 'resnet19.T6'\n"
                             "local net = spec.make(8)\n"
                             "local x, y = networks.batch(spec)\n"
                             "local criterion, opt = ms.loss.TRT(net), ms.optim.Adam(net:parameters(), { lr = 1e-3 })\n"
                             "return function()\n"
                             "  opt:zero_grad()\n"
                             "  local l = criterion(net(x), y)\n"
                             "  l:backward()\n"
                             "  opt:step()\n"
                             "end\n";

static void check(lua_State *L, int status) {
  if (status)
    fail_msg("%s", lua_tostring(L, -1));
}

static void step(lua_State *L) {
  lua_pushvalue(L, -1);
  check(L, lua_pcall(L, 0, 0, 0));
}

static void count(const char *precision) {
  lua_State *L = luaL_newstate();
  assert_non_null(L);
  luaL_openlibs(L);
  luaL_requiref(L, "moonspike.core", luaopen_moonspike_core, 0);
  lua_pop(L, 1);
  check(L, luaL_loadstring(L, script));
  lua_pushstring(L, precision);
  check(L, lua_pcall(L, 1, 1, 0));
  step(L);
  step(L);
  long long before[COUNTS], after[COUNTS];
  int64_t rows = ms_rows_called();
  counts_of(before);
  step(L);
  counts_of(after);
  rows = ms_rows_called() - rows;
  for (int i = 0; i < COUNTS; i++)
    after[i] -= before[i];
  long long launches = after[LAUNCHES] + after[LIBRARY];
  print_message(
      "# ResNet-19, T = 6, %s: %lld calls of rows, %lld kernels, %lld calls of libraries, %lld copies, %lld sets\n",
      precision, (long long)rows, after[LAUNCHES], after[LIBRARY], after[COPIES], after[SETS]);
  assert_int_equal(after[WAITS], 0);
  assert_true(rows > 100 && rows < 200);
  assert_true(launches > 100 && launches < 250);
  lua_close(L);
}

static void test_float32(void **state) {
  (void)state;
  if (!counts_of)
    skip();
  count("float32");
}

static void test_bf16(void **state) {
  (void)state;
  if (!counts_of)
    skip();
  count("bf16");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_float32), cmocka_unit_test(test_bf16)};
  return cmocka_run_group_tests(tests, setup, NULL);
}
