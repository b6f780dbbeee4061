/* core.capture: recordings of steps. lua/moonspike/capture.lua decides which one runs when. */
#include "../core/autocast.h"
#include "../core/capture.h"
#include "bind_private.h"

#include <stdio.h>

#define RECORDING "ms.Recording"

typedef struct recording {
  ms_recording *r;
  int collecting; /* the collector ran before it was stopped for a run */
} recording;

static recording *check_recording(lua_State *L) {
  recording *h = luaL_checkudata(L, 1, RECORDING);
  if (h->r == NULL)
    ms_arg_error(L, 1, "the recording is closed");
  return h;
}

/* Tensors (+1) to be pushed, in a userdata that lets them go when something raises. */
typedef struct holder {
  int n;
  ms_tensor *t[];
} holder;

static int holder_gc(lua_State *L) {
  holder *h = lua_touserdata(L, 1);
  for (int i = 0; i < h->n; i++)
    ms_release(h->t[i]);
  h->n = 0;
  return 0;
}

static holder *push_holder(lua_State *L, int n) {
  holder *h = lua_newuserdatauv(L, sizeof *h + (size_t)n * sizeof *h->t, 0);
  h->n = n;
  for (int i = 0; i < n; i++)
    h->t[i] = NULL;
  if (luaL_newmetatable(L, "ms.holder")) {
    lua_pushcfunction(L, holder_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return h;
}

static int push_list(lua_State *L, holder *h) {
  lua_createtable(L, h->n, 0);
  for (int i = 0; i < h->n; i++) {
    ms_tensor *t = h->t[i];
    h->t[i] = NULL;
    ms_push_tensor(L, t);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int capture_new(lua_State *L) {
  int n;
  ms_tensor **in = ms_check_tensors(L, 1, "inputs", &n);
  ms_error err;
  recording *h = lua_newuserdatauv(L, sizeof *h, 0);
  *h = (recording){NULL, 0};
  luaL_setmetatable(L, RECORDING);
  return ms_finish(L, ms_recording_new(&h->r, n, in, &err), &err, 1);
}

static int capture_describe(lua_State *L) {
  const ms_tensor *t = ms_check_tensor(L, 1, "t");
  char text[160];
  snprintf(text, sizeof text, "%s scale %a peak %d%s", ms_tensor_device(t)->name, (double)t->scale,
           t->dtype == MS_SPIKE ? t->peak : 0, t->source ? " repeated" : "");
  lua_pushfstring(L, "%s %s", ms_tensor_text(t).s, text);
  return 1;
}

static int capture_mode(lua_State *L) {
  const ms_backend *k = ms_device_current()->k;
  lua_pushfstring(L, "%s %d %d %s %s %s", ms_device_current()->name, k->conv_deterministic(-1),
                  k->tf32 ? k->tf32(-1) : 0, ms_autocast() ? "bf16" : "float32",
                  ms_grad_enabled() ? "records" : "plain", ms_fusion() ? "fused" : "unfused");
  return 1;
}

static int capture_inside(lua_State *L) {
  lua_pushboolean(L, ms_capture_inside());
  return 1;
}

static int capture_keep(lua_State *L) {
  ms_tensor *t = ms_check_tensor(L, 1, "t");
  ms_error err;
  ms_status status = ms_capture_inside() ? ms_materialise(t, &err) : MS_OK;
  if (!status && ms_capture_inside())
    status = ms_capture_keep(t->storage, "a parameter or buffer", &err);
  return ms_finish(L, status, &err, 0);
}

static int recording_inputs(lua_State *L) {
  recording *h = check_recording(L);
  int n;
  ms_tensor **in = ms_check_tensors(L, 2, "inputs", &n);
  holder *out = push_holder(L, n);
  ms_error err;
  ms_finish(L, ms_recording_inputs(h->r, in, out->t, &err), &err, 0);
  return push_list(L, out);
}

static int recording_begin(lua_State *L) {
  recording *h = check_recording(L);
  int record = lua_toboolean(L, 2);
  ms_error err;
  ms_finish(L, ms_recording_begin(h->r, record, &err), &err, 0);
  h->collecting = ms_capture_recording() && lua_gc(L, LUA_GCISRUNNING);
  if (h->collecting)
    lua_gc(L, LUA_GCSTOP);
  lua_pushboolean(L, ms_capture_recording());
  return 1;
}

/* Nothing may raise before core knows that the run is over. */
static int end_run(lua_State *L, recording *h, int failed, int n, ms_tensor *const *results, holder *out) {
  ms_error err;
  ms_status status = ms_recording_end(h->r, failed, n, results, out ? out->t : NULL, &err);
  if (h->collecting)
    lua_gc(L, LUA_GCRESTART);
  h->collecting = 0;
  return ms_finish(L, status, &err, 0);
}

static int recording_end(lua_State *L) {
  int n;
  recording *h = check_recording(L);
  ms_tensor **results = ms_check_tensors(L, 2, "results", &n);
  holder *out = push_holder(L, n);
  end_run(L, h, 0, n, results, out);
  return push_list(L, out);
}

static int recording_abandon(lua_State *L) {
  return end_run(L, check_recording(L), 1, 0, NULL, NULL);
}

static int recording_ready(lua_State *L) {
  const ms_recording *r = check_recording(L)->r;
  lua_pushboolean(L, ms_recording_ready(r));
  lua_pushboolean(L, ms_recording_usable(r));
  return 2;
}

static int recording_replay(lua_State *L) {
  recording *h = check_recording(L);
  holder *out = push_holder(L, ms_recording_results(h->r));
  ms_error err;
  ms_finish(L, ms_recording_replay(h->r, out->t, &err), &err, 0);
  return push_list(L, out);
}

static int recording_expire(lua_State *L) {
  ms_recording_expire(check_recording(L)->r);
  return 0;
}

static int recording_close(lua_State *L) {
  recording *h = luaL_checkudata(L, 1, RECORDING);
  ms_recording *r = h->r;
  h->r = NULL;
  ms_recording_free(r);
  return 0;
}

static const ms_reg functions[] = {
    {"new", capture_new,
     "new(inputs) -> recording\n\nA recording of a step for inputs like these tensors; ms.capture is what to use."},
    {"describe", capture_describe,
     "describe(t) -> string\n\nWhat of a tensor decides which recording fits: type, shape, device."},
    {"mode", capture_mode, "mode() -> string\n\nThe settings of this process that a recorded step depends on."},
    {"inside", capture_inside, "inside() -> boolean\n\nDoes a captured step run?"},
    {"keep", capture_keep,
     "keep(t)\n\nInside of a captured step: t outlives it, like a parameter. An error while the step is recorded."},
    {NULL, NULL, NULL}};

static const ms_reg methods[] = {
    {"inputs", recording_inputs,
     "recording:inputs(list) -> list\n\nCopies the inputs of a call; what stands for them in the step."},
    {"begin", recording_begin,
     "recording:begin(record) -> boolean\n\nBegins a run; true where it is recorded instead of run."},
    {"finish", recording_end,
     "recording:finish(results) -> list\n\nEnds the run; what stands for its results until the next call."},
    {"abandon", recording_abandon, "recording:abandon()\n\nEnds a run whose step raised."},
    {"ready", recording_ready, "recording:ready() -> boolean, boolean\n\nCan it be replayed now? Can it be at all?"},
    {"replay", recording_replay, "recording:replay() -> list\n\nRuns the recorded step; its results."},
    {"expire", recording_expire, "recording:expire()\n\nThe results of its last run are over."},
    {"close", recording_close, "recording:close()\n\nLets graph and memory go; more than once is fine."},
    {NULL, NULL, NULL}};

int ms_open_capture(lua_State *L) {
  if (luaL_newmetatable(L, RECORDING)) {
    lua_pushcfunction(L, recording_close);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    ms_register(L, methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  lua_newtable(L);
  ms_register(L, functions);
  return 1;
}
