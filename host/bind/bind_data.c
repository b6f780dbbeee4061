/* Data sets in memory for Lua: IDX files, and the loader of mini-batches. */
#include "../core/data/idx.h"
#include "../core/data/loader.h"
#include "bind_private.h"
#include <string.h>

#define LOADER_TYPE "ms.Loader"

/* Empty until it is filled, and after close. The tensors are what the loader's workers read. */
typedef struct loader_handle {
  ms_loader *loader;
  ms_tensor *images, *labels; /* dense, on the cpu; retained */
  int64_t shape[3];           /* c, h, w */
} loader_handle;

static int read_idx(lua_State *L) {
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  ms_handle *h = ms_push_handle(L);
  return ms_finish_env(L, ms_idx_read(&h->tensor, path, &err), &err, 1);
}

/* ---- loader ---- */

static loader_handle *check_loader(lua_State *L) {
  loader_handle *h = luaL_checkudata(L, 1, LOADER_TYPE);
  if (!h->loader)
    ms_arg_error(L, 1, "the loader is closed");
  return h;
}

static int loader_close(lua_State *L) {
  loader_handle *h = luaL_checkudata(L, 1, LOADER_TYPE);
  ms_loader_close(h->loader);
  ms_release(h->images);
  ms_release(h->labels);
  *h = (loader_handle){0};
  return 0;
}

static ms_tensor *option_tensor(lua_State *L, const char *key) {
  lua_getfield(L, 1, key);
  ms_tensor *t = ms_test_tensor(L, -1);
  if (!t)
    ms_raise(L, "loader: %s: expected a tensor, got %s", key, ms_type_name(L, -1));
  lua_pop(L, 1);
  return t;
}

/* A list of one number for each channel, in a userdata left on the stack; NULL (and nil) where it is not given. */
static ms_real *option_channels(lua_State *L, const char *key, int64_t channels) {
  int type = lua_getfield(L, 1, key);
  if (type == LUA_TNIL)
    return NULL;
  if (type != LUA_TTABLE || luaL_len(L, -1) != channels)
    ms_raise(L, "loader: %s: expected a table of %I numbers, one for each channel", key, channels);
  ms_real *values = ms_push_scratch(L, (size_t)channels * sizeof *values);
  for (int64_t i = 0; i < channels; i++) {
    if (lua_geti(L, -2, i + 1) != LUA_TNUMBER)
      ms_raise(L, "loader: %s[%I]: expected a number, got %s", key, i + 1, ms_type_name(L, -1));
    values[i] = (ms_real)lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  return values;
}

static int option_int(lua_State *L, const char *key, int fallback) {
  int64_t value = ms_option_integer(L, 1, "loader", key, fallback);
  if (value < 0 || value > INT32_MAX)
    ms_raise(L, "loader: %s: expected 0 to %d, got %I", key, INT32_MAX, value);
  return (int)value;
}

static void check_shapes(lua_State *L, const ms_tensor *images, const ms_tensor *labels, ms_loader_config *c) {
  if (images->ndim != 3 && images->ndim != 4)
    ms_raise(L, "loader: images: expected [n, h, w] or [n, c, h, w], got %s", ms_tensor_text(images).s);
  if (labels->dtype != MS_I64 && labels->dtype != MS_U8)
    ms_raise(L, "loader: labels: expected int64 or uint8, got %s", ms_dtype_name(labels->dtype));
  if (labels->ndim != 1 || labels->size[0] != images->size[0])
    ms_raise(L, "loader: labels: expected [%I], one for each image, got %s", images->size[0],
             ms_shape_text(labels->ndim, labels->size).s);
  c->n = images->size[0];
  c->c = images->ndim == 4 ? images->size[1] : 1;
  c->h = images->size[images->ndim - 2];
  c->w = images->size[images->ndim - 1];
  c->dtype = images->dtype;
}

/* Dense and where the workers can read it. */
static ms_status on_host(ms_tensor **out, ms_tensor *t, int dtype, ms_error *err) {
  ms_tensor *here = NULL;
  ms_status status = ms_to(&here, t, ms_device_cpu(), -1, err);
  if (!status)
    status = ms_dense(out, here, dtype, err);
  ms_release(here);
  return status;
}

static ms_status fill(loader_handle *h, ms_tensor *images, ms_tensor *labels, ms_loader_config *c, ms_error *err) {
  ms_data pixels, classes;
  ms_status status;
  if ((status = on_host(&h->images, images, -1, err)) || (status = on_host(&h->labels, labels, MS_I64, err)) ||
      (status = ms_data_of(&pixels, h->images, err)) || (status = ms_data_of(&classes, h->labels, err)))
    return status;
  c->images = pixels.p;
  c->labels = classes.p;
  h->shape[0] = c->c;
  h->shape[1] = c->h;
  h->shape[2] = c->w;
  return ms_loader_new(&h->loader, c, err);
}

static int new_loader(lua_State *L) {
  static const char *const keys[] = {"images",   "labels", "batch_size", "shuffle",      "drop_last", "seed", "workers",
                                     "prefetch", "mean",   "std",        "crop_padding", "flip",      NULL};
  ms_loader_config c = {0};
  ms_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  ms_check_options(L, 1, "loader", keys);
  lua_settop(L, 1);
  ms_tensor *images = option_tensor(L, "images"), *labels = option_tensor(L, "labels");
  check_shapes(L, images, labels, &c);
  c.batch_size = ms_option_integer(L, 1, "loader", "batch_size", 1);
  c.shuffle = ms_option_boolean(L, 1, "loader", "shuffle", 0);
  c.drop_last = ms_option_boolean(L, 1, "loader", "drop_last", 0);
  c.seed = (uint64_t)ms_option_integer(L, 1, "loader", "seed", 0);
  c.workers = option_int(L, "workers", 1);
  c.prefetch = option_int(L, "prefetch", 2 * c.workers);
  c.crop_padding = option_int(L, "crop_padding", 0);
  c.flip = ms_option_boolean(L, 1, "loader", "flip", 0);
  c.mean = option_channels(L, "mean", c.c);
  c.std = option_channels(L, "std", c.c);
  loader_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  *h = (loader_handle){0};
  luaL_setmetatable(L, LOADER_TYPE);
  return ms_finish(L, fill(h, images, labels, &c, &err), &err, 1);
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

/* Fills x [b, c, h, w], y [b], index [b] with the next batch and only then moves on, so that a failure loses none. All
** stay NULL at the end of the epoch. */
static ms_status next_batch(loader_handle *h, ms_tensor **x, ms_tensor **y, ms_tensor **index, ms_error *err) {
  ms_batch b;
  ms_device *d = ms_device_current(), *cpu = ms_device_cpu();
  ms_status status = ms_loader_peek(h->loader, &b, err);
  if (status)
    return status;
  if (b.n > 0) {
    int64_t size[4] = {b.n, h->shape[0], h->shape[1], h->shape[2]};
    if ((status = deliver(x, d, MS_F32, 4, size, b.x, err)) || (status = deliver(y, d, MS_I64, 1, size, b.y, err)) ||
        (status = deliver(index, cpu, MS_I64, 1, size, b.index, err)))
      return status;
  }
  ms_loader_pop(h->loader);
  return MS_OK;
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

static int loader_samples(lua_State *L) {
  lua_pushinteger(L, check_loader(L)->images->size[0]);
  return 1;
}

static int loader_tostring(lua_State *L) {
  const loader_handle *h = luaL_checkudata(L, 1, LOADER_TYPE);
  if (h->loader)
    lua_pushfstring(L, "loader (%I samples, %I batches)", h->images->size[0], ms_loader_batches(h->loader));
  else
    lua_pushliteral(L, "loader (closed)");
  return 1;
}

static const ms_reg functions[] = {
    {"read_idx", read_idx,
     "read_idx(path) -> tensor, or nil, message\n\nReads an IDX file (MNIST), plain or gzip: uint8, int64 or float32 "
     "in the "
     "file's shape."},
    {"loader", new_loader,
     "loader{images=, labels=, batch_size=1, shuffle=false, drop_last=false, seed=0, workers=1, prefetch=2*workers, "
     "mean=, "
     "std=, crop_padding=0, flip=false} -> loader\n\nMini-batches prepared by worker threads. images: [n, h, w] or "
     "[n, c, h, w], uint8 (scaled to [0, 1]) or float32, not to be written while the loader lives; labels: [n]. Zero "
     "padding "
     "comes before the normalisation. A batch depends on seed, epoch and position alone, not on the number of "
     "workers."},
    {NULL, NULL, NULL}};

static const ms_reg methods[] = {
    {"next", loader_next,
     "loader:next() -> x [b, c, h, w], y [b], indices [b]\n\nx and y on the current device, indices on the CPU; "
     "nil at the end of an epoch; then the next epoch begins."},
    {"start", loader_start,
     "loader:start(epoch[, batch])\n\nGoes to where position() was: batch counts those of the epoch already handed "
     "out."},
    {"position", loader_position, "loader:position() -> epoch, batch\n\nThe first epoch is 1; batch counts from 0."},
    {"batches", loader_batches, "loader:batches() -> batches of an epoch"},
    {"samples", loader_samples, "loader:samples() -> samples in the data set"},
    {"close", loader_close, "loader:close()\n\nStops the workers. More than once is fine."},
    {NULL, NULL, NULL}};

static const luaL_Reg loader_meta[] = {
    {"__gc", loader_close}, {"__close", loader_close}, {"__tostring", loader_tostring}, {NULL, NULL}};

int ms_open_data(lua_State *L) {
  if (luaL_newmetatable(L, LOADER_TYPE)) {
    luaL_setfuncs(L, loader_meta, 0);
    lua_newtable(L);
    ms_register(L, methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  lua_newtable(L);
  ms_register(L, functions);
  ms_register(L, ms_data_arrays_functions);
  return 1;
}
