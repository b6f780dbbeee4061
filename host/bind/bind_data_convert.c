/* Recordings as Lua has them, tables of tensors, and as core has them. */
#include "bind_data_events.h"
#include "bind_private.h"
#include <ctype.h>
#include <string.h>

#define WORK_TYPE "ms.EventWork"

static int work_gc(lua_State *L) {
  ms_event_work *w = luaL_checkudata(L, 1, WORK_TYPE);
  ms_events_free(&w->events);
  ms_buffer_free(&w->scratch);
  ms_picture_free(&w->frames);
  return 0;
}

ms_event_work *ms_push_event_work(lua_State *L) {
  ms_event_work *w = lua_newuserdatauv(L, sizeof *w, 0);
  *w = (ms_event_work){0};
  if (luaL_newmetatable(L, WORK_TYPE)) {
    lua_pushcfunction(L, work_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return w;
}

/* ---- events in and out ---- */

/* The tensor events[key] in host memory, in a userdata left on the stack. */
static const void *column(lua_State *L, int index, const char *op, const char *key, int64_t *n, ms_dtype *dtype) {
  lua_getfield(L, index, key);
  ms_tensor *t = ms_test_tensor(L, -1);
  if (!t || t->ndim != 1 || (t->dtype != MS_I64 && t->dtype != MS_U8))
    ms_raise(L, "%s: events.%s: expected a tensor [n] of int64 or uint8, got %s", op, key,
             t ? ms_tensor_text(t).s : ms_type_name(L, -1));
  if (*n >= 0 && t->size[0] != *n)
    ms_raise(L, "%s: events.%s: expected [%I], as t, got %s", op, key, *n, ms_tensor_text(t).s);
  *n = t->size[0];
  *dtype = t->dtype;
  return ms_push_host(L, t);
}

static int64_t integer_at(const void *host, ms_dtype dtype, int64_t i) {
  return dtype == MS_I64 ? ((const int64_t *)host)[i] : ((const uint8_t *)host)[i];
}

static void check_column(lua_State *L, int index, const char *op, const char *key, int64_t n, int most, uint16_t *wide,
                         uint8_t *narrow) {
  ms_dtype dtype;
  const void *host = column(L, index, op, key, &n, &dtype);
  for (int64_t i = 0; i < n; i++) {
    int64_t v = integer_at(host, dtype, i);
    if (v < 0 || v > most)
      ms_raise(L, "%s: events.%s[%I]: expected 0 to %d, got %I", op, key, i + 1, most, v);
    if (wide)
      wide[i] = (uint16_t)v;
    else
      narrow[i] = (uint8_t)v;
  }
  lua_pop(L, 2);
}

static int side(lua_State *L, int index, const char *op, const char *key) {
  int ok;
  lua_getfield(L, index, key);
  int64_t value = lua_tointegerx(L, -1, &ok);
  if (!ok || value < 1 || value > 65536)
    ms_raise(L, "%s: events.%s: expected 1 to 65536, got %s", op, key, luaL_tolstring(L, -1, NULL));
  lua_pop(L, 1);
  return (int)value;
}

void ms_check_events(lua_State *L, int index, const char *op, ms_events *e) {
  ms_error err;
  ms_dtype dtype;
  int64_t n = -1;
  luaL_checktype(L, index, LUA_TTABLE);
  e->width = side(L, index, op, "width");
  e->height = side(L, index, op, "height");
  const void *t = column(L, index, op, "t", &n, &dtype);
  ms_finish(L, ms_events_reserve(e, n, op, &err), &err, 0);
  for (int64_t i = 0; i < n; i++)
    e->t[i] = integer_at(t, dtype, i);
  lua_pop(L, 2);
  check_column(L, index, op, "x", n, UINT16_MAX, e->x, NULL);
  check_column(L, index, op, "y", n, UINT16_MAX, e->y, NULL);
  check_column(L, index, op, "p", n, 1, NULL, e->p);
  e->n = n;
}

static ms_status make_column(ms_tensor **out, ms_dtype dtype, int64_t n, ms_data *d, ms_error *err) {
  ms_status status = ms_tensor_new(out, ms_device_cpu(), dtype, 1, &n, err);
  return status ? status : ms_data_of(d, *out, err);
}

static ms_status to_tensors(ms_handle *const h[4], const ms_events *e, ms_error *err) {
  static const ms_dtype dtypes[4] = {MS_I64, MS_I64, MS_I64, MS_U8};
  ms_data d[4];
  ms_status status;
  for (int k = 0; k < 4; k++)
    if ((status = make_column(&h[k]->tensor, dtypes[k], e->n, &d[k], err)))
      return status;
  int64_t *x = d[1].p, *y = d[2].p;
  if (e->n > 0) {
    memcpy(d[0].p, e->t, (size_t)e->n * sizeof *e->t);
    memcpy(d[3].p, e->p, (size_t)e->n);
  }
  for (int64_t i = 0; i < e->n; i++) {
    x[i] = e->x[i];
    y[i] = e->y[i];
  }
  return MS_OK;
}

int ms_push_events(lua_State *L, const ms_events *e) {
  static const char *const names[] = {"t", "x", "y", "p"};
  ms_error err;
  ms_handle *h[4];
  lua_createtable(L, 0, 6);
  for (int k = 0; k < 4; k++) {
    h[k] = ms_push_handle(L);
    lua_setfield(L, -2, names[k]);
  }
  lua_pushinteger(L, e->width);
  lua_setfield(L, -2, "width");
  lua_pushinteger(L, e->height);
  lua_setfield(L, -2, "height");
  return ms_finish(L, to_tensors(h, e, &err), &err, 1);
}

void ms_push_repairs(lua_State *L, const ms_repairs *r) {
  static const char *const names[] = {
#define MS_REPAIR(name) #name,
#include "../core/data/repairs.def"
#undef MS_REPAIR
  };
  lua_newtable(L);
  for (int i = 0; i < MS_REPAIR_COUNT; i++) {
    char name[16] = "";
    if (r->count[i] == 0)
      continue;
    for (size_t k = 0; names[i][k] && k + 1 < sizeof name; k++)
      name[k] = (char)tolower((unsigned char)names[i][k]);
    lua_pushinteger(L, r->count[i]);
    lua_setfield(L, -2, name);
  }
}
