/* core.autograd: recording and mixed precision on and off, gradients as values, ops whose backward is a Lua function. */
#include "../core/autocast.h"
#include "bind_private.h"

static int autograd_set_enabled(lua_State *L) {
  luaL_checktype(L, 1, LUA_TBOOLEAN);
  lua_pushboolean(L, ms_set_grad_enabled(lua_toboolean(L, 1)));
  return 1;
}

static int autograd_is_enabled(lua_State *L) {
  lua_pushboolean(L, ms_grad_enabled());
  return 1;
}

static int autograd_set_autocast(lua_State *L) {
  luaL_checktype(L, 1, LUA_TBOOLEAN);
  lua_pushboolean(L, ms_set_autocast(lua_toboolean(L, 1)));
  return 1;
}

static int autograd_is_autocast(lua_State *L) {
  lua_pushboolean(L, ms_autocast());
  return 1;
}

/* Pushes a table of n empty handles; *handles lies in a userdata below it. */
static ms_handle **push_handles(lua_State *L, int n) {
  ms_handle **handles = ms_push_scratch(L, sizeof *handles * (size_t)n);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    handles[i] = ms_push_handle(L);
    lua_rawseti(L, -2, i + 1);
  }
  return handles;
}

static int autograd_grad(lua_State *L) {
  static const char *const keys[] = {"seed", "retain_graph", NULL};
  int n;
  ms_tensor *root = ms_check_tensor(L, 1, "root"), *seed = NULL;
  lua_settop(L, 3);
  ms_tensor **inputs = ms_check_tensors(L, 2, "inputs", &n);
  ms_check_options(L, 3, "grad", keys);
  int retain = ms_option_boolean(L, 3, "grad", "retain_graph", 0);
  if (lua_istable(L, 3) && lua_getfield(L, 3, "seed") != LUA_TNIL)
    seed = ms_check_tensor(L, -1, "seed");
  ms_tensor **out = ms_push_scratch(L, sizeof *out * (size_t)n);
  ms_handle **handles = push_handles(L, n);
  ms_error err;
  ms_retain(root); /* a gradient function in Lua may close the handles */
  if (seed != NULL)
    ms_retain(seed);
  ms_status status = ms_grad_of(out, root, seed, n, inputs, retain, &err);
  ms_release(seed);
  ms_release(root);
  for (int i = 0; i < n && !status; i++) {
    handles[i]->tensor = out[i];
    if (out[i] == NULL) {
      lua_pushnil(L);
      lua_rawseti(L, -2, i + 1); /* the key exists: nothing is allocated */
    }
  }
  return ms_finish(L, status, &err, 1);
}

static int autograd_record(lua_State *L) {
  int nin, nout;
  const char *name = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 4);
  ms_tensor **in = ms_check_tensors(L, 3, "inputs", &nin), **out = ms_check_tensors(L, 4, "outputs", &nout);
  if (nin > MS_NODE_INPUTS || nout > MS_NODE_OUTPUTS)
    return ms_raise(L, "record: at most %d inputs and %d outputs, got %d and %d", MS_NODE_INPUTS, MS_NODE_OUTPUTS, nin,
                    nout);
  ms_callback cb;
  ms_error err;
  ms_status status = ms_make_callback(L, 2, &cb, &err);
  if (!status)
    status = ms_record_callback(name, cb, nin, in, nout, out, &err);
  return ms_finish(L, status, &err, 0);
}

static int autograd_watch(lua_State *L) {
  ms_tensor *t = ms_check_tensor(L, 1, "t");
  ms_callback cb;
  ms_error err;
  ms_status status = ms_make_callback(L, 2, &cb, &err);
  if (!status)
    status = ms_watch_gradient(t, cb, &err);
  return ms_finish(L, status, &err, 0);
}

static const ms_reg functions[] = {
    {"set_grad_enabled", autograd_set_enabled,
     "set_grad_enabled(on) -> boolean\n\nStarts or stops recording for gradients. Returns what it was."},
    {"is_grad_enabled", autograd_is_enabled, "is_grad_enabled() -> boolean\n\nIs recording on?"},
    {"set_autocast", autograd_set_autocast,
     "set_autocast(on) -> boolean\n\nDo convolutions, linear layers and matmul take float32 operands as bfloat16? "
     "Returns "
     "what it was."},
    {"is_autocast", autograd_is_autocast, "is_autocast() -> boolean\n\nIs mixed precision on?"},
    {"grad", autograd_grad,
     "grad(root, {x1, x2, ...}[, opts]) -> {g1, g2, ...}\n\nThe gradients of root with respect to the inputs, without "
     "touching "
     "their grad fields; nil where root does not depend on an input.\nopts: seed (a tensor of root's shape; root has "
     "one "
     "element without it), retain_graph (false)."},
    {"record", autograd_record,
     "record(name, backward, {x1, ...}, {y1, ...})\n\nMakes fresh tensors y (computed with recording off) results of "
     "an op on "
     "x: backward(dy1, ...) returns dx1, ..., tensors of x's shapes or nil. At most 8 inputs and 3 outputs. Does "
     "nothing "
     "unless an input requires grad."},
    {"watch", autograd_watch,
     "watch(t, fn)\n\nfn(g) is called with the gradient of t, a result of a recorded op, in backward(), when it is "
     "complete and before it is used; fn must not write to it. Of a repeated image it is the gradient of one. Of "
     "spikes it may be only what the surrogate passes."},
    {NULL, NULL, NULL}};

int ms_open_autograd(lua_State *L) {
  lua_newtable(L);
  ms_register(L, functions);
  return 1;
}
