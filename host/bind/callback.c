/* How core calls Lua: a counted userdata that holds the function, referenced from the registry while core holds it.
** Calls run under lua_pcall on the main state: the coroutine that made the callback may be dead by then. */
#include "bind_private.h"

#include <string.h>

typedef struct callback {
  lua_State *main;
  int refs, ref;
} callback;

typedef struct call {
  callback *c;
  int nin, nout;
  ms_tensor **din;
  ms_tensor *const *dout;
} call;

/* Leaves {function's results} checked and retained in din; nothing raises after the first retain. */
static int protected_call(lua_State *L) {
  call *a = lua_touserdata(L, 1);
  luaL_checkstack(L, a->nin + a->nout + 4, "too many gradients");
  lua_rawgeti(L, LUA_REGISTRYINDEX, a->c->ref);
  lua_getiuservalue(L, -1, 1);
  for (int i = 0; i < a->nout; i++)
    ms_push_tensor(L, a->dout[i] ? ms_retain(a->dout[i]) : NULL);
  lua_call(L, a->nout, a->nin);
  int first = lua_gettop(L) - a->nin + 1;
  for (int i = 0; i < a->nin; i++)
    if (!lua_isnil(L, first + i) && ms_test_tensor(L, first + i) == NULL)
      return ms_raise(L, "result %d: expected a tensor or nil, got %s", i + 1, ms_type_name(L, first + i));
  for (int i = 0; i < a->nin; i++) {
    ms_tensor *t = ms_test_tensor(L, first + i);
    a->din[i] = t ? ms_retain(t) : NULL;
  }
  return 0;
}

static int add_traceback(lua_State *L) {
  const char *text = luaL_tolstring(L, 1, NULL);
  luaL_traceback(L, L, text, 1);
  return 1;
}

static ms_status call_lua(void *ud, int nin, ms_tensor **din, int nout, ms_tensor *const *dout, ms_error *err) {
  callback *c = ud;
  lua_State *L = c->main;
  call a = {c, nin, nout, din, dout};
  if (!lua_checkstack(L, 4))
    return ms_fail(err, MS_EMEM, "Lua stack overflow");
  lua_pushcfunction(L, add_traceback);
  lua_pushcfunction(L, protected_call);
  lua_pushlightuserdata(L, &a);
  ms_status status = MS_OK;
  if (lua_pcall(L, 1, 0, -3) != LUA_OK) {
    const char *text = lua_tostring(L, -1);
    status = ms_fail(err, MS_ECALL, "%.590s", text ? text : "error in a Lua function");
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return status;
}

void ms_callback_retain(void *ud) {
  ((callback *)ud)->refs++;
}

static void release(void *ud) {
  callback *c = ud;
  if (--c->refs == 0)
    luaL_unref(c->main, LUA_REGISTRYINDEX, c->ref); /* assigns to existing keys only: cannot raise */
}

ms_status ms_make_callback(lua_State *L, int index, ms_callback *cb, ms_error *err) {
  index = lua_absindex(L, index);
  if (!lua_isfunction(L, index))
    return ms_fail(err, MS_ETYPE, "callback: expected a function, got %s", luaL_typename(L, index));
  callback *c = lua_newuserdatauv(L, sizeof *c, 1);
  lua_pushvalue(L, index);
  lua_setiuservalue(L, -2, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  c->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  c->refs = 1;
  c->ref = luaL_ref(L, LUA_REGISTRYINDEX);
  *cb = (ms_callback){.call = call_lua, .release = release, .ud = c};
  return MS_OK;
}
