/* core.engines: which convolution engine ran where, forcing one, the break-even table and its measurement. */
#include "bind_private.h"
#include "../core/engines.h"

#include <string.h>

enum { MOST_ROWS = 4096 };

static void set_number(lua_State *L, const char *key, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, key);
}

static void set_integer(lua_State *L, const char *key, int64_t value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, key);
}

static void set_string(lua_State *L, const char *key, const char *value) {
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

static void set_pair(lua_State *L, const char *key, int a, int b) {
  lua_createtable(L, 2, 0);
  lua_pushinteger(L, a);
  lua_rawseti(L, -2, 1);
  lua_pushinteger(L, b);
  lua_rawseti(L, -2, 2);
  lua_setfield(L, -2, key);
}

static const char *dtype_name(ms_dtype dtype) {
  return dtype == MS_BITS ? "bits" : ms_dtype_name(dtype);
}

/* ---- what ran ---- */

static void push_use(lua_State *L, const ms_engine_use *u) {
  static const char *const pass[] = {"forward", "input grad", "weight grad"};
  const ms_conv_desc *d = &u->desc;
  lua_createtable(L, 0, 24);
  set_string(L, "layer", u->layer);
  set_string(L, "device", u->device->name);
  set_string(L, "pass", pass[u->pass]);
  set_string(L, "engine", u->engine);
  set_string(L, "reason", u->why);
  if (u->density >= 0)
    set_number(L, "density", u->density);
  lua_pushboolean(L, u->counts);
  lua_setfield(L, -2, "counts");
  set_string(L, "input", dtype_name(d->x));
  set_string(L, "precision", ms_dtype_name(d->weight));
  set_integer(L, "calls", u->calls);
  set_integer(L, "n", d->n);
  set_integer(L, "h", d->h);
  set_integer(L, "w", d->w);
  set_integer(L, "cin", d->cin);
  set_integer(L, "cout", d->cout);
  set_pair(L, "kernel", d->kh, d->kw);
  set_pair(L, "stride", d->stride_h, d->stride_w);
  set_pair(L, "padding", d->pad_h, d->pad_w);
  set_pair(L, "dilation", d->dil_h, d->dil_w);
  set_integer(L, "groups", d->groups);
}

static int engines_uses(lua_State *L) {
  const ms_engine_use **list = ms_push_scratch(L, sizeof *list * MS_ENGINE_USES);
  ms_engine_use *u = ms_push_scratch(L, sizeof *u);
  int n = ms_engines_uses(list);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    *u = *list[i]; /* a finalizer may run convolutions while Lua allocates */
    push_use(L, u);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int engines_reset(lua_State *L) {
  (void)L;
  ms_engines_reset();
  return 0;
}

/* ---- engines ---- */

static int engines_available(lua_State *L) {
  const char *const *e = ms_check_device(L, 1)->k->conv_engines();
  lua_newtable(L);
  for (int i = 0; e[i]; i++) {
    lua_pushstring(L, e[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int engines_is_loose(lua_State *L) {
  lua_pushboolean(L, ms_engine_is_loose(luaL_checkstring(L, 1)));
  return 1;
}

static int engines_force(lua_State *L) {
  const char *name = luaL_optstring(L, 1, NULL), *layer = luaL_optstring(L, 2, NULL);
  ms_error err;
  if (layer && (!*layer || strlen(layer) > 63))
    ms_arg_error(L, 2, "layer: expected a name of 1 to 63 bytes");
  return ms_finish(L, ms_engines_force(ms_device_current(), name, layer, &err), &err, 0);
}

static int engines_forced(lua_State *L) {
  const ms_engine_forced *layers;
  const char *all;
  int n = ms_engines_forced(ms_device_current(), &all, &layers);
  lua_pushstring(L, all);
  lua_createtable(L, 0, n);
  for (int i = 0; i < n; i++)
    set_string(L, layers[i].layer, layers[i].engine);
  return 2;
}

static int engines_deterministic(lua_State *L) {
  int on = -1;
  if (!lua_isnoneornil(L, 1)) {
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    on = lua_toboolean(L, 1);
  }
  int was = ms_device_current()->k->conv_deterministic(on);
  lua_pushboolean(L, on >= 0 ? on : was);
  return 1;
}

/* ---- the table ---- */

static void push_row(lua_State *L, const ms_break_even *r) {
  lua_createtable(L, 0, 9);
  set_integer(L, "taps", r->taps);
  set_integer(L, "cin", r->cin);
  set_integer(L, "cout", r->cout);
  set_string(L, "precision", ms_dtype_name(r->precision));
  set_number(L, "forward", r->forward);
  set_number(L, "weight_grad", r->weight_grad);
  set_number(L, "forward_counts", r->forward_counts);
  set_number(L, "weight_grad_counts", r->weight_grad_counts);
  set_number(L, "input_grad", r->input_grad);
}

static int engines_table(lua_State *L) {
  const ms_break_even *rows;
  const char *origin;
  int n = ms_engines_table(ms_device_current(), &rows, &origin);
  ms_break_even *copy = ms_push_scratch(L, sizeof *copy * (size_t)n);
  memcpy(copy, rows, sizeof *copy * (size_t)n);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    push_row(L, &copy[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushstring(L, origin);
  return 2;
}

static ms_dtype check_precision(lua_State *L, int index, const char *op) {
  static const char *const names[] = {"float32", "bfloat16", NULL};
  return ms_option_enum(L, index, op, "precision", 0, names) ? MS_BF16 : MS_F32;
}

static ms_break_even check_row(lua_State *L, int index, const char *op) {
  static const char *const keys[] = {"taps",
                                     "cin",
                                     "cout",
                                     "precision",
                                     "forward",
                                     "weight_grad",
                                     "forward_counts",
                                     "input_grad",
                                     "weight_grad_counts",
                                     NULL};
  ms_break_even r;
  if (!lua_istable(L, index))
    ms_raise(L, "%s: expected a table, got %s", op, ms_type_name(L, index));
  ms_check_options(L, index, op, keys);
  r.taps = ms_option_integer(L, index, op, "taps", 1);
  r.cin = ms_option_integer(L, index, op, "cin", 1);
  r.cout = ms_option_integer(L, index, op, "cout", 1);
  r.precision = check_precision(L, index, op);
  r.forward = ms_option_number(L, index, op, "forward", 0);
  r.weight_grad = ms_option_number(L, index, op, "weight_grad", 0);
  r.forward_counts = ms_option_number(L, index, op, "forward_counts", r.forward);
  r.weight_grad_counts = ms_option_number(L, index, op, "weight_grad_counts", r.weight_grad);
  r.input_grad = ms_option_number(L, index, op, "input_grad", 0);
  return r;
}

static int engines_set_table(lua_State *L) {
  ms_error err;
  const char *origin = luaL_optstring(L, 2, "set");
  if (lua_isnoneornil(L, 1))
    return ms_finish(L, ms_engines_set_table(ms_device_current(), NULL, 0, "", &err), &err, 0);
  if (!lua_istable(L, 1))
    ms_raise(L, "engines: table: expected a list of rows, got %s", ms_type_name(L, 1));
  lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
  if (n > MOST_ROWS)
    ms_raise(L, "engines: table: expected fewer rows, got %I", n);
  ms_break_even *rows = ms_push_scratch(L, sizeof *rows * (size_t)n);
  for (lua_Integer i = 0; i < n; i++) {
    const char *op = lua_pushfstring(L, "engines: table: row %I", i + 1);
    lua_rawgeti(L, 1, i + 1);
    rows[i] = check_row(L, lua_gettop(L), op);
    lua_pop(L, 2);
  }
  return ms_finish(L, ms_engines_set_table(ms_device_current(), rows, (int)n, origin, &err), &err, 0);
}

/* ---- measuring ---- */

static int64_t check_size(lua_State *L, const char *key, int64_t least, int64_t most, int64_t fallback) {
  int64_t value = ms_option_integer(L, 1, "engines: measure", key, fallback);
  if (value < least || value > most)
    ms_raise(L, "engines: measure: %s: expected %I to %I, got %I", key, least, most, value);
  return value;
}

static void check_sizes(lua_State *L, const char *key, int least, int fallback, int out[2]) {
  ms_option_pair(L, 1, "engines: measure", key, fallback, out);
  for (int i = 0; i < 2; i++)
    if (out[i] < least || out[i] > 4096)
      ms_raise(L, "engines: measure: %s: expected %d to 4096, got %d", key, least, out[i]);
}

static int engines_measure(lua_State *L) {
  static const char *const keys[] = {"n",      "h",       "w",        "cin",    "cout",      "kernel",
                                     "stride", "padding", "dilation", "groups", "precision", NULL};
  int kernel[2], stride[2], pad[2], dilation[2];
  luaL_checktype(L, 1, LUA_TTABLE);
  double seconds = ms_check_number(L, 2, "seconds");
  ms_check_options(L, 1, "engines: measure", keys);
  check_sizes(L, "kernel", 1, 1, kernel);
  check_sizes(L, "stride", 1, 1, stride);
  check_sizes(L, "padding", 0, 0, pad);
  check_sizes(L, "dilation", 1, 1, dilation);
  ms_conv_desc d = {.n = check_size(L, "n", 1, 1 << 24, 1),
                    .h = check_size(L, "h", 1, 1 << 14, 1),
                    .w = check_size(L, "w", 1, 1 << 14, 1),
                    .cin = check_size(L, "cin", 1, 1 << 20, 1),
                    .cout = check_size(L, "cout", 1, 1 << 20, 1)};
  d.groups = (int)check_size(L, "groups", 1, d.cin < d.cout ? d.cin : d.cout, 1);
  d.kh = kernel[0], d.kw = kernel[1], d.stride_h = stride[0], d.stride_w = stride[1];
  d.pad_h = pad[0], d.pad_w = pad[1], d.dil_h = dilation[0], d.dil_w = dilation[1];
  d.weight = check_precision(L, 1, "engines: measure");
  int64_t span_h = (int64_t)(d.kh - 1) * d.dil_h + 1, span_w = (int64_t)(d.kw - 1) * d.dil_w + 1;
  if (d.h + 2 * (int64_t)d.pad_h < span_h || d.w + 2 * (int64_t)d.pad_w < span_w || d.cin % d.groups ||
      d.cout % d.groups)
    ms_raise(L, "engines: measure: expected a kernel that fits the image and groups that divide the channels");
  d.oh = (d.h + 2 * (int64_t)d.pad_h - span_h) / d.stride_h + 1;
  d.ow = (d.w + 2 * (int64_t)d.pad_w - span_w) / d.stride_w + 1;
  ms_break_even row;
  ms_error err;
  ms_finish(L, ms_engines_measure(&row, ms_device_current(), &d, seconds, &err), &err, 0);
  push_row(L, &row);
  return 1;
}

static int engines_properties(lua_State *L) {
  ms_device *d = ms_check_device(L, 1);
  ms_device_props props = {.memory = 0};
  ms_error err;
  ms_finish(L, ms_row(d, d->k->properties(d->index, &props), "properties", &err), &err, 0);
  lua_createtable(L, 0, 3);
  set_string(L, "name", props.name);
  set_integer(L, "cores", props.cores);
  lua_pushboolean(L, props.bf16);
  lua_setfield(L, -2, "bf16");
  return 1;
}

static const ms_reg functions[] = {
    {"uses", engines_uses,
     "uses() -> list\n\nPasses of convolution and linear layers since the last reset, in order of first use: tables "
     "with layer, pass, engine, reason, density and the shape of the last call."},
    {"reset", engines_reset, "reset()\n\nForgets what uses() lists."},
    {"available", engines_available,
     "available([device]) -> list\n\nNames of the convolution engines that this machine runs."},
    {"is_loose", engines_is_loose,
     "is_loose(engine) -> boolean\n\nDo the last bits of this engine's results depend on the number of threads?"},
    {"force", engines_force,
     "force([engine[, layer]])\n\nRuns this engine wherever it supports the shape, on all layers or on that whose "
     "weight has this name; nothing: as usual."},
    {"forced", engines_forced,
     "forced() -> engine or nil, table\n\nThe engine forced on all layers, and those forced on single ones by name."},
    {"deterministic", engines_deterministic,
     "deterministic([on]) -> boolean\n\nOnly engines whose results do not depend on the number of threads; without an "
     "argument asks."},
    {"table", engines_table,
     "table() -> rows, origin\n\nThe break-even table in use and where it came from (\"shipped\", \"set\" ...)."},
    {"set_table", engines_set_table,
     "set_table([rows[, origin]])\n\nReplaces the break-even table; nothing: the shipped one."},
    {"measure", engines_measure,
     "measure(shape, seconds) -> row\n\nTimes events against the dense engine on one shape: n, h, w, cin, cout, "
     "kernel, stride, padding, dilation, groups, precision."},
    {"properties", engines_properties,
     "properties([device]) -> table\n\nWhat the device is: name, cores, bf16 (products of bfloat16 in hardware)."},
    {NULL, NULL, NULL}};

int ms_open_engines(lua_State *L) {
  lua_newtable(L);
  ms_register(L, functions);
  return 1;
}
