/* Sources of samples. */
#include "bind_data_source.h"
#include "bind_private.h"

static void free_unused(ms_source_handle *h) {
  if (!h->closed || h->users > 0)
    return;
  ms_source_close(h->source);
  ms_release(h->samples);
  ms_release(h->labels);
  ms_release(h->start);
  ms_release(h->end);
  ms_source_leave(h->like);
  *h = (ms_source_handle){.closed = 1};
}

static int source_close(lua_State *L) {
  ms_source_handle *h = luaL_checkudata(L, 1, MS_SOURCE_TYPE);
  h->closed = 1;
  free_unused(h);
  return 0;
}

static ms_source_handle *check_handle(lua_State *L, int index, const char *what) {
  ms_source_handle *h = luaL_testudata(L, index, MS_SOURCE_TYPE);
  if (!h)
    ms_raise(L, "%s: expected a source, got %s", what, ms_type_name(L, index));
  if (h->closed || !h->source)
    ms_raise(L, "%s: the source is closed", what);
  return h;
}

const ms_source *ms_check_source(lua_State *L, int index, const char *what) {
  return check_handle(L, index, what)->source;
}

ms_source_handle *ms_source_enter(lua_State *L, int index, const char *what) {
  ms_source_handle *h = check_handle(L, index, what);
  h->users++;
  return h;
}

void ms_source_leave(ms_source_handle *h) {
  if (!h)
    return;
  h->users--;
  free_unused(h);
}

ms_source_handle *ms_push_source(lua_State *L) {
  ms_source_handle *h = lua_newuserdatauv(L, sizeof *h, 1);
  *h = (ms_source_handle){0};
  luaL_setmetatable(L, MS_SOURCE_TYPE);
  return h;
}

ms_status ms_source_labels(ms_source_handle *h, ms_tensor *labels, const int64_t **out, ms_error *err) {
  ms_data classes;
  ms_status status = ms_on_host(&h->labels, labels, MS_I64, err);
  if (status || (status = ms_data_of(&classes, h->labels, err)))
    return status;
  *out = classes.p;
  return MS_OK;
}

ms_status ms_on_host(ms_tensor **out, ms_tensor *t, int dtype, ms_error *err) {
  ms_tensor *here = NULL;
  ms_status status = ms_to(&here, t, ms_device_cpu(), -1, err);
  if (!status)
    status = ms_dense(out, here, dtype, err);
  ms_release(here);
  return status;
}

ms_tensor *ms_check_labels(lua_State *L, int index, const char *op, int64_t n) {
  if (lua_getfield(L, index, "labels") == LUA_TNIL)
    ms_raise(L, "%s: labels: expected a tensor, got nil", op);
  ms_tensor *t = ms_test_tensor(L, -1);
  if (!t)
    ms_raise(L, "%s: labels: expected a tensor, got %s", op, ms_type_name(L, -1));
  if (t->dtype != MS_I64 && t->dtype != MS_U8)
    ms_raise(L, "%s: labels: expected int64 or uint8, got %s", op, ms_dtype_name(t->dtype));
  if (t->ndim != 1 || t->size[0] != n)
    ms_raise(L, "%s: labels: expected [%I], one for each sample, got %s", op, n, ms_shape_text(t->ndim, t->size).s);
  return t;
}

/* ---- samples in memory ---- */

static ms_status hold(ms_source_handle *h, ms_tensor *samples, ms_tensor *labels, const int64_t size[5],
                      ms_error *err) {
  ms_data from;
  const int64_t *classes;
  ms_status status = ms_on_host(&h->samples, samples, -1, err);
  if (status || (status = ms_data_of(&from, h->samples, err)) || (status = ms_source_labels(h, labels, &classes, err)))
    return status;
  return ms_source_memory(&h->source, from.p, samples->dtype, size, classes, err);
}

static int new_source(lua_State *L) {
  static const char *const keys[] = {"samples", "labels", NULL};
  ms_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  ms_check_options(L, 1, "source", keys);
  lua_settop(L, 1);
  lua_getfield(L, 1, "samples");
  ms_tensor *t = ms_test_tensor(L, 2);
  if (!t)
    ms_raise(L, "source: samples: expected a tensor, got %s", ms_type_name(L, 2));
  if (t->ndim < 3 || t->ndim > 5)
    ms_raise(L, "source: samples: expected [n, h, w], [n, c, h, w] or [n, t, c, h, w], got %s", ms_tensor_text(t).s);
  int64_t size[5] = {t->size[0], t->ndim == 5 ? t->size[1] : 1, t->size[t->ndim - 2], t->size[t->ndim - 1],
                     t->ndim > 3 ? t->size[t->ndim - 3] : 1};
  ms_tensor *labels = ms_check_labels(L, 1, "source", size[0]);
  ms_source_handle *h = ms_push_source(L);
  return ms_finish(L, hold(h, t, labels, size, &err), &err, 1);
}

/* ---- methods ---- */

static int source_size(lua_State *L) {
  const ms_source *s = ms_check_source(L, 1, "size");
  lua_pushinteger(L, s->n);
  lua_pushinteger(L, s->t);
  lua_pushinteger(L, s->c);
  lua_pushinteger(L, s->h);
  lua_pushinteger(L, s->w);
  lua_pushstring(L, ms_dtype_name(s->dtype));
  return 6;
}

/* One sample as a tensor on the cpu, in its channels-last memory. */
static ms_status sample(ms_tensor **out, const ms_source *s, int64_t i, ms_scratch *scratch, ms_error *err) {
  const void *from;
  ms_data to;
  const int64_t size[4] = {s->t, s->c, s->h, s->w};
  ms_status status = s->read(s, i, NULL, scratch, &from, err);
  if (status || (status = ms_tensor_new(out, ms_device_cpu(), s->dtype, 4, size, err)) ||
      (status = ms_data_of(&to, *out, err)))
    return status;
  memcpy(to.p, from, (size_t)(s->t * s->c * s->h * s->w) * ms_dtype_size(s->dtype));
  return MS_OK;
}

static int source_read(lua_State *L) {
  ms_error err;
  ms_scratch scratch = {0};
  ms_handle *h = ms_push_handle(L); /* first: a collection may run code that closes the source */
  const ms_source *s = ms_check_source(L, 1, "read");
  int64_t i = ms_check_index(L, 2, "i", s->n);
  ms_status status = sample(&h->tensor, s, i, &scratch, &err);
  ms_scratch_free(&scratch);
  return ms_finish(L, status, &err, 1);
}

static int source_labels(lua_State *L) {
  ms_error err;
  ms_data to;
  ms_handle *h = ms_push_handle(L);
  const ms_source *s = ms_check_source(L, 1, "labels");
  ms_status status = ms_tensor_new(&h->tensor, ms_device_cpu(), MS_I64, 1, &s->n, &err);
  if (!status && !(status = ms_data_of(&to, h->tensor, &err)))
    memcpy(to.p, s->labels, (size_t)s->n * sizeof *s->labels);
  return ms_finish(L, status, &err, 1);
}

static int source_tostring(lua_State *L) {
  const ms_source_handle *h = luaL_checkudata(L, 1, MS_SOURCE_TYPE);
  if (h->source && !h->closed)
    lua_pushfstring(L, "source (%I samples)", h->source->n);
  else
    lua_pushliteral(L, "source (closed)");
  return 1;
}

static const ms_reg functions[] = {{"source", new_source,
                                    "source{samples=, labels=} -> source\n\nSamples in memory for a loader: [n, h, "
                                    "w], [n, c, h, w] or [n, t, c, h, w], "
                                    "uint8 or float32, not to be written while the source lives; labels: [n]."},
                                   {NULL, NULL, NULL}};

static const ms_reg methods[] = {
    {"size", source_size, "source:size() -> n, t, c, h, w, dtype"},
    {"read", source_read, "source:read(i) -> tensor [t, c, h, w]\n\nSample i, from 1, as it is stored, on the CPU."},
    {"labels", source_labels, "source:labels() -> int64 [n]\n\nOf all samples, from 0."},
    {"close", source_close,
     "source:close()\n\nWhat still reads from it (loaders, caches) may go on. More than once is fine."},
    {NULL, NULL, NULL}};

static const luaL_Reg source_meta[] = {{"__gc", source_close}, {"__tostring", source_tostring}, {NULL, NULL}};

void ms_open_data_source(lua_State *L) {
  if (luaL_newmetatable(L, MS_SOURCE_TYPE)) {
    luaL_setfuncs(L, source_meta, 0);
    lua_newtable(L);
    ms_register(L, methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  ms_register(L, functions);
}
