/* Class Tensor: its metatable, fields, and the methods that are about the tensor itself. */
#include "bind_private.h"

#include <stdio.h>
#include <string.h>

void ms_push_shape(lua_State *L, const ms_tensor *t) {
  lua_createtable(L, t->ndim, 0);
  for (int d = 0; d < t->ndim; d++) {
    lua_pushinteger(L, t->size[d]);
    lua_rawseti(L, -2, d + 1);
  }
}

void ms_push_methods(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, "ms.methods");
}

/* ---- fields ---- */

static int get_grad(lua_State *L, ms_tensor *t) {
  ms_error err;
  ms_tensor *g = NULL;
  ms_handle *out = ms_push_handle(L);
  ms_status status = ms_grad(&g, t, &err);
  if (!status && g != NULL)
    out->tensor = ms_retain(g);
  ms_finish(L, status, &err, 0);
  if (g == NULL)
    lua_pushnil(L);
  return 1;
}

static int set_grad(lua_State *L, ms_tensor *t) {
  ms_error err;
  return ms_finish(L, ms_set_grad(t, ms_opt_tensor(L, 3, "grad"), &err), &err, 0);
}

static int get_requires_grad(lua_State *L, ms_tensor *t) {
  lua_pushboolean(L, t->requires_grad);
  return 1;
}

static int set_requires_grad(lua_State *L, ms_tensor *t) {
  ms_error err;
  if (!lua_isboolean(L, 3))
    return ms_raise(L, "Tensor: requires_grad: expected true or false, got %s", ms_type_name(L, 3));
  return ms_finish(L, ms_set_requires_grad(t, lua_toboolean(L, 3), &err), &err, 0);
}

static int get_dtype(lua_State *L, ms_tensor *t) {
  lua_pushstring(L, ms_dtype_name(t->dtype));
  return 1;
}

static int get_device(lua_State *L, ms_tensor *t) {
  lua_pushstring(L, ms_tensor_device(t)->name);
  return 1;
}

static int get_shape(lua_State *L, ms_tensor *t) {
  ms_push_shape(L, t);
  return 1;
}

static int get_is_leaf(lua_State *L, ms_tensor *t) {
  lua_pushboolean(L, t->node == NULL);
  return 1;
}

static int get_name(lua_State *L, ms_tensor *t) {
  lua_pushstring(L, t->name);
  return 1;
}

static int set_name(lua_State *L, ms_tensor *t) {
  size_t length;
  if (lua_type(L, 3) != LUA_TSTRING)
    return ms_raise(L, "Tensor: name: expected a string, got %s", ms_type_name(L, 3));
  const char *name = lua_tolstring(L, 3, &length);
  if (length >= sizeof t->name)
    return ms_raise(L, "Tensor: name: expected less than %d bytes, got %d", (int)sizeof t->name, (int)length);
  snprintf(t->name, sizeof t->name, "%s", name);
  return 0;
}

typedef struct field {
  const char *name;
  int (*get)(lua_State *L, ms_tensor *t);
  int (*set)(lua_State *L, ms_tensor *t); /* value at 3; NULL: read only */
} field;

static const field fields[] = {
    {"grad", get_grad, set_grad}, {"requires_grad", get_requires_grad, set_requires_grad},
    {"dtype", get_dtype, NULL},   {"device", get_device, NULL},
    {"shape", get_shape, NULL},   {"is_leaf", get_is_leaf, NULL},
    {"name", get_name, set_name}, {NULL, NULL, NULL},
};

static const field *find_field(const char *name) {
  for (const field *f = fields; f->name != NULL; f++)
    if (strcmp(f->name, name) == 0)
      return f;
  return NULL;
}

/* ---- metamethods ---- */

/* t.name: methods, then fields, then nil as in any Lua table. Else t[1], t[{ {1, 2}, {}, 3 }]. */
static int tensor_index(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING)
    return ms_tensor_select(L, ms_check_tensor(L, 1, "t"));
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
    return 1;
  const field *f = find_field(lua_tostring(L, 2));
  return f ? f->get(L, ms_check_tensor(L, 1, "t")) : 1;
}

static int tensor_newindex(lua_State *L) {
  ms_tensor *t = ms_check_tensor(L, 1, "t");
  if (lua_type(L, 2) != LUA_TSTRING)
    return ms_tensor_assign(L, t);
  const field *f = find_field(lua_tostring(L, 2));
  if (f == NULL || f->set == NULL)
    return ms_raise(L, "Tensor: '%s' cannot be assigned (only grad, requires_grad, name, and elements by position)",
                    lua_tostring(L, 2));
  return f->set(L, t);
}

static int tensor_len(lua_State *L) {
  ms_tensor *t = ms_check_tensor(L, 1, "t");
  if (t->ndim == 0)
    return ms_raise(L, "Tensor: a tensor without dimensions has no length");
  lua_pushinteger(L, t->size[0]);
  return 1;
}

static int tensor_eq(lua_State *L) {
  ms_tensor *a = ms_test_tensor(L, 1), *b = ms_test_tensor(L, 2);
  lua_pushboolean(L, a != NULL && a == b);
  return 1;
}

static int tensor_order(lua_State *L) {
  return ms_raise(L,
                  "Tensor: < and <= give one truth value; compare by element with a:lt(b), a:le(b), a:gt(b), a:ge(b)");
}

/* __gc, __close and close(): never raises on a tensor, twice is fine. */
static int tensor_close(lua_State *L) {
  ms_handle *h = luaL_checkudata(L, 1, MS_TENSOR_TYPE);
  ms_tensor *t = h->tensor;
  h->tensor = NULL;
  ms_release(t);
  return 0;
}

/* ---- methods ---- */

static int tensor_size(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  if (lua_isnoneornil(L, 2))
    return get_shape(L, x);
  lua_pushinteger(L, x->size[ms_check_dim(L, 2, "dim", x)]);
  return 1;
}

static int tensor_stride(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  if (!lua_isnoneornil(L, 2)) {
    lua_pushinteger(L, x->stride[ms_check_dim(L, 2, "dim", x)]);
    return 1;
  }
  lua_createtable(L, x->ndim, 0);
  for (int d = 0; d < x->ndim; d++) {
    lua_pushinteger(L, x->stride[d]);
    lua_rawseti(L, -2, d + 1);
  }
  return 1;
}

static int tensor_dim(lua_State *L) {
  lua_pushinteger(L, ms_check_tensor(L, 1, "x")->ndim);
  return 1;
}

static int tensor_numel(lua_State *L) {
  lua_pushinteger(L, ms_numel(ms_check_tensor(L, 1, "x")));
  return 1;
}

static int tensor_is_contiguous(lua_State *L) {
  lua_pushboolean(L, ms_is_default(ms_check_tensor(L, 1, "x")));
  return 1;
}

static int tensor_is_expanded(lua_State *L) {
  const ms_tensor *x = ms_check_tensor(L, 1, "x");
  int dim = ms_check_dim(L, 2, "dim", x);
  lua_pushboolean(L, x->size[dim] > 1 && x->stride[dim] == 0);
  return 1;
}

static int tensor_item(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  union {
    ms_real real;
    ms_bf16 half;
    int64_t integer;
  } host;
  ms_error err;
  if (ms_numel(x) != 1)
    return ms_raise(L, "item: x: expected one element, got %s", ms_tensor_text(x).s);
  ms_finish(L, ms_read(x, &host, &err), &err, 0);
  ms_push_element(L, &host, x->dtype, 0);
  return 1;
}

static int64_t push_table(lua_State *L, const void *host, const ms_tensor *t, int dim, int64_t at) {
  if (dim == t->ndim) {
    ms_push_element(L, host, t->dtype, at);
    return at + 1;
  }
  lua_createtable(L, (int)(t->size[dim] < INT32_MAX ? t->size[dim] : 0), 0);
  for (int64_t i = 1; i <= t->size[dim]; i++) {
    at = push_table(L, host, t, dim + 1, at);
    lua_rawseti(L, -2, i);
  }
  return at;
}

static int tensor_totable(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  luaL_checkstack(L, MS_MAX_DIMS + 4, "totable");
  push_table(L, ms_push_host(L, x), x, 0, 0);
  return 1;
}

static int tensor_bytes(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  size_t n = (size_t)ms_numel(x) * ms_host_width(x->dtype);
  luaL_Buffer b;
  ms_error err;
  ms_finish(L, ms_read(x, luaL_buffinitsize(L, &b, n), &err), &err, 0);
  luaL_pushresultsize(&b, n);
  return 1;
}

static int tensor_backward(lua_State *L) {
  static const char *const keys[] = {"retain_graph", NULL};
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int opts = lua_istable(L, 2) ? 2 : 3;
  ms_tensor *seed = opts == 2 ? NULL : ms_opt_tensor(L, 2, "seed");
  ms_error err;
  ms_check_options(L, opts, "backward", keys);
  int retain = ms_option_boolean(L, opts, "backward", "retain_graph", 0);
  ms_retain(x); /* a gradient function in Lua may close the handle */
  if (seed != NULL)
    ms_retain(seed);
  ms_status status = ms_backward(x, seed, retain, &err);
  ms_release(seed);
  ms_release(x);
  return ms_finish(L, status, &err, 0);
}

static int tensor_requires_grad(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  ms_error err;
  int on = lua_isnoneornil(L, 2) || lua_toboolean(L, 2);
  lua_settop(L, 1);
  return ms_finish(L, ms_set_requires_grad(x, on, &err), &err, 1);
}

const ms_reg ms_tensor_functions[] = {
    {"size", tensor_size,
     "size(x[, dim]) -> table or integer\n\nThe shape as a fresh table, or the size of dimension dim (1-based, "
     "negative from the end)."},
    {"stride", tensor_stride,
     "stride(x[, dim]) -> table or integer\n\nElements between neighbours in memory, of each dimension or of dim "
     "(1-based). Tensors of 4 or more dimensions are channels-last in memory."},
    {"dim", tensor_dim, "dim(x) -> integer\n\nThe number of dimensions."},
    {"numel", tensor_numel, "numel(x) -> integer\n\nThe number of elements."},
    {"is_contiguous", tensor_is_contiguous,
     "is_contiguous(x) -> boolean\n\nDoes x lie in memory without gaps, as a fresh tensor of its shape would?"},
    {"is_expanded", tensor_is_expanded,
     "is_expanded(x, dim) -> boolean\n\nDoes x repeat its memory along dim, as x:expand(...) makes it? So does a still image over T."},
    {"item", tensor_item,
     "item(x) -> number\n\nThe value of a tensor of one element (any shape): an integer for uint8 and int64. Waits for "
     "the device. Raises for any other number of elements."},
    {"totable", tensor_totable,
     "totable(x) -> table or number\n\nThe elements as nested tables of x's shape; a number where x has no "
     "dimensions."},
    {"bytes", tensor_bytes,
     "bytes(x) -> string\n\nThe elements in row-major order of the shape, in the machine's byte order; spikes as "
     "float32. from_string reads it."},
    {"backward", tensor_backward,
     "backward(x[, seed][, opts])\n\nAdds dx/dw to w.grad of every tensor w that requires grad and led to x. x has one "
     "element, or seed has x's shape.\nopts: retain_graph (false) keeps the graph for another backward."},
    {"requires_grad_", tensor_requires_grad,
     "requires_grad_(x[, on]) -> x\n\nStarts (default) or stops recording what is computed from x; x is float32 or "
     "bfloat16 and no result of a recorded op."},
    {"close", tensor_close,
     "close(x)\n\nLets go of the tensor now instead of at the next collection; each later use of this handle raises. "
     "local x <close> = ... does it at the end of the block."},
    {NULL, NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__newindex", tensor_newindex}, {"__len", tensor_len},     {"__eq", tensor_eq},
    {"__lt", tensor_order},          {"__le", tensor_order},    {"__tostring", ms_tensor_tostring},
    {"__gc", tensor_close},          {"__close", tensor_close}, {NULL, NULL},
};

int ms_open_tensor(lua_State *L) {
  luaL_newmetatable(L, MS_TENSOR_TYPE);
  luaL_setfuncs(L, metamethods, 0);
  ms_push_methods(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__dir"); /* for completion at the prompt */
  lua_newtable(L);
  for (int i = 0; fields[i].name != NULL; i++) {
    lua_pushstring(L, fields[i].name);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -3, "__fields");
  lua_pushcclosure(L, tensor_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  ms_open_create(L);
  ms_push_methods(L);
  lua_setfield(L, -2, "methods");
  return 1;
}
