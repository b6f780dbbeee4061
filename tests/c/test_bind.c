/* The bindings when Lua runs out of memory: a state whose allocator fails the n-th time runs a script; whatever n,
** nothing is alive after lua_close. Also: two states, and the memory hook. */
#include "../../host/bind/bind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- a state that fails ---- */

typedef struct failing {
  long left; /* allocations until the one that fails; below 0: none does */
  long made;
} failing;

static void *allocate(void *ud, void *p, size_t old, size_t size) {
  failing *f = ud;
  (void)old;
  if (size == 0) {
    free(p);
    return NULL;
  }
  if (p == NULL || size > old) { /* shrinking must not fail */
    f->made++;
    if (f->left == 0)
      return NULL; /* for good: an emergency collection does not help */
    if (f->left > 0)
      f->left--;
  }
  return realloc(p, size);
}

static const char script[] = "local core = require 'moonspike.core'\n"
                             "local T, O, N, A = core.tensor, core.ops, core.nn, core.autograd\n"
                             "local x = T.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, { requires_grad = true })\n"
                             "local y = (x * 2 + T.ones(3)):relu():matmul(T.rand(3, 2))\n"
                             "local values, indices = y:max(2)\n"
                             "local z = O.cat({ y, y:exp() }, 1):t()[{ 1, { 1, 2 } }]\n"
                             "local s = tostring(z) .. tostring(indices) .. z:bytes()\n"
                             "local list = z:totable()\n"
                             "pcall(function() return x + T.zeros(7) end)\n"
                             "pcall(O.sum, x, 9);\n"
                             "(z:sum() + values:sum()):backward()\n"
                             "local g = x.grad\n"
                             "local a, b = T.ones(2, 2, { requires_grad = true }), T.ones(2, 2)\n"
                             "A.record('twice', function(d) return d * 2 end, { a }, { b })\n"
                             "local spikes = N.neuron(b, nil, nil, { surrogate = function(u) return u * 0 end })\n"
                             "A.grad(spikes:sum(), { a, x })\n"
                             "local o = core.optim.new 'sgd'\n"
                             "o:add_group({ x, a }, { lr = 1 })\n"
                             "o:step()\n"
                             "local p, m = o:state(1)\n"
                             "local text = core.json.encode { 1, { a = 2 } }\n"
                             "core.device.memory() core.device.versions()\n"
                             "local free = T.zeros(2, 2)\n"
                             "free[1] = { 7, 8 }";

static int open_all(lua_State *L) {
  luaL_openlibs(L);
  luaL_requiref(L, "moonspike.core", luaopen_moonspike_core, 0);
  lua_pop(L, 1);
  return 0;
}

/* Status of the script; with close != 0 the state is closed, else returned. */
static int run(failing *f, const char *source) {
  lua_State *L = lua_newstate(allocate, f);
  if (L == NULL)
    return LUA_ERRMEM;
  lua_pushcfunction(L, open_all);
  int status = lua_pcall(L, 0, 0, 0);
  if (!status)
    status = luaL_loadstring(L, source);
  if (!status)
    status = lua_pcall(L, 0, 0, 0);
  if (status == LUA_ERRRUN)
    print_message("%s\n", lua_tostring(L, -1));
  lua_close(L);
  return status;
}

static void assert_nothing_lives(long n) {
  ms_live live = ms_live_counts();
  if (live.tensors || live.storages || live.nodes || live.arenas || live.bytes)
    fail_msg("allocation %ld: alive: %lld tensors, %lld storages, %lld nodes, %lld arenas, %lld bytes", n,
             (long long)live.tensors, (long long)live.storages, (long long)live.nodes, (long long)live.arenas,
             (long long)live.bytes);
}

static void test_every_lua_allocation_fails_once(void **state) {
  (void)state;
  failing f = {-1, 0};
  ms_set_grad_enabled(1);
  assert_int_equal(run(&f, script), LUA_OK);
  assert_nothing_lives(-1);
  long total = f.made;
  assert_true(total > 1000);
  for (long n = 0; n < total; n++) {
    f = (failing){n, 0};
    assert_int_not_equal(run(&f, script), LUA_ERRRUN);
    assert_nothing_lives(n);
    assert_true(ms_grad_enabled());
  }
}

static void test_every_core_allocation_fails_once(void **state) {
  (void)state;
  for (long n = 0; n < 2000; n++) {
    failing f = {-1, 0};
    char source[sizeof script + 100];
    snprintf(source, sizeof source, "require 'moonspike.core'.device.fail_allocation(%ld)\n%s", n, script);
    lua_State *L = lua_newstate(allocate, &f);
    assert_non_null(L);
    open_all(L);
    int status = luaL_loadstring(L, source) || lua_pcall(L, 0, 0, 0);
    ms_fail_allocation(-1);
    if (status)
      assert_non_null(strstr(lua_tostring(L, -1), "memory"));
    lua_close(L);
    assert_nothing_lives(n);
    if (!status) {
      assert_true(n > 50);
      return;
    }
  }
  fail_msg("the script never came through");
}

/* ---- states side by side ---- */

static lua_State *open_state(void) {
  lua_State *L = luaL_newstate();
  assert_non_null(L);
  open_all(L);
  return L;
}

static void assert_runs(lua_State *L, const char *source) {
  if (luaL_dostring(L, source) != LUA_OK)
    fail_msg("%s", lua_tostring(L, -1));
}

/* The state opened last holds the hook; closing the other one must not take it away, and closing it must. */
static void test_two_states(void **state) {
  static const char many[] = "local T = require 'moonspike.core'.tensor\n"
                             "for i = 1, 2000 do local t = T.zeros(262144) end";
  (void)state;
  lua_State *a = open_state(), *b = open_state();
  assert_runs(a, "t = require 'moonspike.core'.tensor.ones(3)");
  assert_runs(b, "t = require 'moonspike.core'.tensor.ones(3)");
  lua_close(a);
  assert_runs(b, many);
  assert_true(ms_live_counts().bytes < (int64_t)(192 * sizeof(ms_real) / 4) << 20);
  lua_close(b);
  assert_nothing_lives(0);
  b = open_state();
  assert_runs(b, many);
  lua_close(b);
  assert_nothing_lives(0);
}

/* Tensors made in a coroutine that is collected in the middle of the hook's work. */
static void test_hook_from_a_coroutine(void **state) {
  (void)state;
  lua_State *L = open_state();
  assert_runs(
      L,
      "local T = require 'moonspike.core'.tensor\n"
      "for i = 1, 100 do\n"
      "  local co = coroutine.wrap(function() for j = 1, 10 do local t = T.zeros(262144) coroutine.yield(t) end end)\n"
      "  for j = 1, 5 do co() end\n"
      "end");
  assert_true(ms_live_counts().bytes < (int64_t)(192 * sizeof(ms_real) / 4) << 20);
  lua_close(L);
  assert_nothing_lives(0);
}

static void test_interrupt(void **state) {
  (void)state;
  lua_State *L = open_state();
  assert_runs(L, "x = require 'moonspike.core'.tensor.ones(3)");
  ms_interrupt_request();
  assert_true(luaL_dostring(L, "return x + x"));
  assert_non_null(strstr(lua_tostring(L, -1), ":1: interrupted!"));
  assert_false(ms_interrupt_pending());
  assert_runs(L, "assert((x + x):sum():item() == 6)");
  lua_close(L);
  assert_nothing_lives(0);
}

static void test_opened_once(void **state) {
  (void)state;
  lua_State *L = open_state();
  assert_int_equal(luaopen_moonspike_core(L), 1);
  assert_int_equal(luaopen_moonspike_core(L), 1);
  assert_true(lua_rawequal(L, -1, -2));
  lua_close(L);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_lua_allocation_fails_once),
      cmocka_unit_test(test_every_core_allocation_fails_once),
      cmocka_unit_test(test_two_states),
      cmocka_unit_test(test_hook_from_a_coroutine),
      cmocka_unit_test(test_interrupt),
      cmocka_unit_test(test_opened_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
