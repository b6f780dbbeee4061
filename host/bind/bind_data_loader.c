/* Loaders of mini-batches. */
#include "../core/capture.h"
#include "../core/data/loader.h"
#include "bind_private.h"
#include "bind_data_source.h"

#define LOADER_TYPE "ms.Loader"

/* Empty until it is filled, and after close. Its user values are the source and the recipe, which it reads from. */
typedef struct loader_handle {
  ms_loader *loader;
  ms_source_handle *source; /* entered */
} loader_handle;

static loader_handle *check_loader(lua_State *L) {
  loader_handle *h = luaL_checkudata(L, 1, LOADER_TYPE);
  if (!h->loader)
    ms_arg_error(L, 1, "the loader is closed");
  return h;
}

static int loader_close(lua_State *L) {
  loader_handle *h = luaL_checkudata(L, 1, LOADER_TYPE);
  ms_loader_close(h->loader);
  ms_source_leave(h->source);
  *h = (loader_handle){0};
  return 0;
}

static int option_int(lua_State *L, const char *key, int fallback) {
  int64_t value = ms_option_integer(L, 1, "loader", key, fallback);
  if (value < 0 || value > INT32_MAX)
    ms_raise(L, "loader: %s: expected 0 to %d, got %I", key, INT32_MAX, value);
  return (int)value;
}

/* Samples of the set as int64 on the cpu; NULL (and nil on the stack) where they are not given. */
static ms_tensor *option_members(lua_State *L) {
  if (lua_getfield(L, 1, "members") == LUA_TNIL)
    return NULL;
  ms_tensor *t = ms_test_tensor(L, -1);
  if (!t || t->ndim != 1 || t->dtype != MS_I64)
    ms_raise(L, "loader: members: expected an int64 tensor [n], got %s", t ? ms_tensor_text(t).s : ms_type_name(L, -1));
  return t;
}

static ms_status fill(loader_handle *h, ms_tensor *members, ms_loader_config *c, ms_error *err) {
  ms_tensor *here = NULL;
  ms_data numbers;
  ms_status status = ms_capture_refuse("a loader", "begins", err);
  if (!status && members && !(status = ms_on_host(&here, members, MS_I64, err)) &&
      !(status = ms_data_of(&numbers, here, err))) {
    c->members = numbers.p;
    c->n = members->size[0];
  }
  if (!status)
    status = ms_loader_new(&h->loader, c, err);
  ms_release(here);
  return status;
}

static int new_loader(lua_State *L) {
  static const char *const keys[] = {"source",   "members",  "batch_size", "shuffle", "drop_last", "seed",
                                     "workers",  "prefetch", "mean",       "std",     "scale",     "augment",
                                     "balanced", "classes",  "plain",      NULL};
  ms_loader_config c = {0};
  ms_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  ms_check_options(L, 1, "loader", keys);
  lua_settop(L, 1);
  loader_handle *h = lua_newuserdatauv(L, sizeof *h, 2); /* at 2: it leaves the source, whatever raises */
  *h = (loader_handle){0};
  luaL_setmetatable(L, LOADER_TYPE);
  lua_getfield(L, 1, "source"); /* stays at 3 */
  h->source = ms_source_enter(L, 3, "loader: source");
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 2, 1);
  c.source = h->source->source;
  ms_tensor *members = option_members(L);
  c.batch_size = ms_option_integer(L, 1, "loader", "batch_size", 1);
  c.shuffle = ms_option_boolean(L, 1, "loader", "shuffle", 0);
  c.drop_last = ms_option_boolean(L, 1, "loader", "drop_last", 0);
  c.seed = (uint64_t)ms_option_integer(L, 1, "loader", "seed", 0);
  c.workers = option_int(L, "workers", 1);
  c.prefetch = option_int(L, "prefetch", 2 * c.workers);
  c.scale = (ms_real)ms_option_number(L, 1, "loader", "scale", 255);
  c.balanced = ms_option_boolean(L, 1, "loader", "balanced", 0);
  c.classes = ms_option_integer(L, 1, "loader", "classes", 0);
  c.plain = ms_option_boolean(L, 1, "loader", "plain", 0);
  if (lua_getfield(L, 1, "augment") != LUA_TNIL) /* stays on the stack, and with the loader */
    ms_check_recipe(L, lua_gettop(L), "augment", &c.photo, &c.recipe);
  int recipe = lua_gettop(L);
  c.mean = ms_option_channels(L, 1, "loader", "mean", c.source->c);
  c.std = ms_option_channels(L, 1, "loader", "std", c.source->c);
  if (ms_device_current() != ms_device_cpu())
    c.device = ms_device_current();
  lua_pushvalue(L, recipe);
  lua_setiuservalue(L, 2, 2);
  lua_pushvalue(L, 2);
  return ms_finish(L, fill(h, members, &c, &err), &err, 1);
}

/* A tensor with the values at `from`, which lie there as in its memory. The copy runs while the caller goes on. */
static ms_status deliver(ms_tensor **out, ms_device *d, ms_dtype dtype, int ndim, const int64_t *size, const void *from,
                         ms_error *err) {
  ms_data to;
  ms_status status = ms_tensor_new(out, d, dtype, ndim, size, err);
  if (status || (status = ms_data_of(&to, *out, err)))
    return status;
  size_t bytes = (size_t)ms_numel(*out) * ms_dtype_size(dtype);
  return ms_row(d, d->k->copy_bytes(d->stream, to.p, from, bytes, MS_COPY_HOST_TO_DEVICE), "loader", err);
}

/* Fills x [t, b, c, h, w], y [b], index [b] with the next batch and only then moves on, so that a failure loses none. All
** stay NULL at the end of the epoch. */
static ms_status next_batch(loader_handle *h, ms_tensor **x, ms_tensor **y, ms_tensor **index, ms_error *err) {
  ms_batch b;
  ms_device *d = ms_device_current(), *cpu = ms_device_cpu();
  const ms_source *s = h->source->source;
  ms_status status = ms_capture_refuse("the next batch", "is made by the host", err);
  if (status || (status = ms_loader_peek(h->loader, &b, err)))
    return status;
  if (b.n > 0) {
    int64_t size[5] = {s->t, b.n, s->c, b.h, b.w};
    if ((status = deliver(y, d, MS_I64, 1, &b.n, b.y, err)) ||
        (status = deliver(index, cpu, MS_I64, 1, &b.n, b.index, err)) ||
        (d == cpu && (status = ms_loader_take(h->loader, x, err))) ||
        (!*x && (status = deliver(x, d, MS_F32, 5, size, b.x, err))))
      return status;
  }
  return ms_loader_pop(h->loader, b.n > 0 && d != cpu ? d : NULL, err);
}

static int loader_next(lua_State *L) {
  ms_error err;
  loader_handle *h = check_loader(L);
  ms_handle *x = ms_push_handle(L), *y = ms_push_handle(L), *index = ms_push_handle(L);
  ms_status status = next_batch(h, &x->tensor, &y->tensor, &index->tensor, &err);
  if (status == MS_OK && !x->tensor) {
    lua_pushnil(L);
    return 1;
  }
  return ms_finish(L, status, &err, 3);
}

static int loader_start(lua_State *L) {
  ms_error err;
  loader_handle *h = check_loader(L);
  int64_t epoch = luaL_checkinteger(L, 2), batch = luaL_optinteger(L, 3, 0);
  return ms_finish(L, ms_loader_start(h->loader, epoch, batch, &err), &err, 0);
}

static int loader_position(lua_State *L) {
  int64_t epoch, batch;
  ms_loader_position(check_loader(L)->loader, &epoch, &batch);
  lua_pushinteger(L, epoch);
  lua_pushinteger(L, batch);
  return 2;
}

static int loader_batches(lua_State *L) {
  lua_pushinteger(L, ms_loader_batches(check_loader(L)->loader));
  return 1;
}

static int loader_repairs(lua_State *L) {
  ms_repairs r;
  ms_loader_repairs(check_loader(L)->loader, &r);
  ms_push_repairs(L, &r);
  return 1;
}

static int loader_tostring(lua_State *L) {
  const loader_handle *h = luaL_checkudata(L, 1, LOADER_TYPE);
  if (h->loader)
    lua_pushfstring(L, "loader (%I batches)", ms_loader_batches(h->loader));
  else
    lua_pushliteral(L, "loader (closed)");
  return 1;
}

static const ms_reg functions[] = {
    {"loader", new_loader,
     "loader{source=, members=, batch_size=1, shuffle=false, drop_last=false, seed=0, workers=1, prefetch=2*workers, "
     "mean=, std=, scale=255, augment=nil, balanced=false, classes=, plain=false} -> loader\n\nMini-batches prepared "
     "by worker "
     "threads. "
     "members: "
     "int64 [n], which samples of the source, from 0; all of them by default. Bytes are divided by scale. augment: a "
     "recipe, "
     "done before the normalisation. balanced: every class is as likely, samples come with replacement. A batch "
     "depends on seed, epoch and position alone, not on the number of "
     "workers. plain: the source makes no random choices."},
    {NULL, NULL, NULL}};

static const ms_reg methods[] = {
    {"next", loader_next,
     "loader:next() -> x [t, b, c, h, w], y [b], indices [b]\n\nx and y on the current device, indices (samples of the "
     "source, from 0) on the CPU; nil at the end of an epoch; then the next epoch begins."},
    {"start", loader_start,
     "loader:start(epoch[, batch])\n\nGoes to where position() was: batch counts those of the epoch already handed "
     "out."},
    {"position", loader_position, "loader:position() -> epoch, batch\n\nThe first epoch is 1; batch counts from 0."},
    {"batches", loader_batches, "loader:batches() -> batches of an epoch"},
    {"repairs", loader_repairs,
     "loader:repairs() -> table of counts\n\nWhat lenient readers mended so far: { range = 3, ... }."},
    {"close", loader_close, "loader:close()\n\nStops the workers. More than once is fine."},
    {NULL, NULL, NULL}};

static const luaL_Reg loader_meta[] = {
    {"__gc", loader_close}, {"__close", loader_close}, {"__tostring", loader_tostring}, {NULL, NULL}};

void ms_open_data_loader(lua_State *L) {
  if (luaL_newmetatable(L, LOADER_TYPE)) {
    luaL_setfuncs(L, loader_meta, 0);
    lua_newtable(L);
    ms_register(L, methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  ms_register(L, functions);
}
