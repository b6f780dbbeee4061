/* Recordings of event cameras for Lua: reading them as tensors, writing them, the lists of DVS128 Gesture. */
#include "../core/data/gesture.h"
#include "../core/data/recording.h"
#include "bind_data_events.h"
#include "bind_private.h"
#include <string.h>

#define BUFFER_TYPE "ms.Buffer"

static int buffer_gc(lua_State *L) {
  ms_buffer_free(luaL_checkudata(L, 1, BUFFER_TYPE));
  return 0;
}

/* A buffer that its userdata frees. */
static ms_buffer *push_buffer(lua_State *L) {
  ms_buffer *b = lua_newuserdatauv(L, sizeof *b, 0);
  *b = (ms_buffer){0};
  if (luaL_newmetatable(L, BUFFER_TYPE)) {
    lua_pushcfunction(L, buffer_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return b;
}

/* ---- reading ---- */

static int option_size(lua_State *L, int index, const char *op, const char *key) {
  int64_t value = ms_option_integer(L, index, op, key, 0);
  if (value < 0 || value > UINT16_MAX)
    ms_raise(L, "%s: %s: expected 0 to %d, got %I", op, key, UINT16_MAX, value);
  return (int)value;
}

const char *const ms_layout_names[] = {"sj", "jaer", "etf", "trt", NULL};

void ms_check_read_options(lua_State *L, int index, const char *op, ms_aedat2_layout layout, ms_events_options *out) {
  static const char *const formats[] = {"auto", "aedat2", "aedat3", "atis", "mat5", "npz", NULL};
  *out = (ms_events_options){
      .format = (ms_events_format)ms_option_enum(L, index, op, "format", MS_EVENTS_AUTO, formats),
      .policy = (ms_policy)ms_option_enum(L, index, op, "policy", MS_STRICT, ms_policy_names),
      .layout = (ms_aedat2_layout)ms_option_enum(L, index, op, "layout", (int)layout, ms_layout_names),
      .width = option_size(L, index, op, "width"),
      .height = option_size(L, index, op, "height"),
      .flip_x = ms_option_boolean(L, index, op, "flip_x", 0),
      .flip_y = ms_option_boolean(L, index, op, "flip_y", 0),
      .stabilize = ms_option_boolean(L, index, op, "stabilize", 0)};
}

static int read_events(lua_State *L) {
  static const char op[] = "read_events", *const keys[] = {MS_READ_KEYS, "start_us", "end_us", NULL};
  ms_error err;
  ms_repairs repairs = {{0}};
  ms_events_options opt;
  const char *path = luaL_checkstring(L, 1);
  ms_check_options(L, 2, op, keys);
  ms_check_read_options(L, 2, op, MS_LAYOUT_SJ, &opt);
  opt.start_us = ms_option_integer(L, 2, op, "start_us", 0);
  opt.end_us = ms_option_integer(L, 2, op, "end_us", 0);
  if (opt.start_us < 0)
    ms_raise(L, "%s: start_us: expected microseconds from 0, got %I", op, opt.start_us);
  if (opt.end_us != 0 && opt.end_us <= opt.start_us)
    ms_raise(L, "%s: end_us: expected more than start_us = %I, or 0, got %I", op, opt.start_us, opt.end_us);
  ms_event_work *w = ms_push_event_work(L);
  ms_status status = ms_events_read(&w->events, &w->scratch, path, &opt, &repairs, &err);
  if (status)
    return ms_finish_env(L, status, &err, 1);
  ms_push_events(L, &w->events);
  ms_push_repairs(L, &repairs);
  lua_setfield(L, -2, "repairs");
  return 1;
}

/* ---- writing ---- */

static int ends(const char *text, const char *ending) {
  size_t n = strlen(text), m = strlen(ending);
  return n >= m && strcmp(text + n - m, ending) == 0;
}

static int write_events(lua_State *L) {
  static const char *const keys[] = {"format", NULL}, *const formats[] = {"aedat2", "atis", "npz", NULL};
  static const char *const endings[] = {".aedat", ".bin", ".npz"};
  static const ms_events_format kinds[] = {MS_EVENTS_AEDAT2, MS_EVENTS_ATIS, MS_EVENTS_NPZ};
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  ms_check_options(L, 3, "write_events", keys);
  int format = 2;
  while (format >= 0 && !ends(path, endings[format]))
    format--;
  format = ms_option_enum(L, 3, "write_events", "format", format, formats);
  if (format < 0)
    ms_raise(L, "write_events: format: expected aedat2, atis or npz, where the name does not end in .aedat, .bin or "
                ".npz");
  ms_event_work *w = ms_push_event_work(L);
  ms_check_events(L, 2, "write_events", &w->events);
  ms_status status = ms_events_write(path, kinds[format], &w->events, &err);
  if (status == MS_ERANGE)
    return ms_finish(L, status, &err, 0);
  lua_pushboolean(L, 1);
  return ms_finish_env(L, status, &err, 1);
}

/* ---- DVS128 Gesture ---- */

#define LIST_BYTES ((size_t)1 << 16) /* the lists of the data set have 3 KB */

static int read_gesture_labels(lua_State *L) {
  static const char op[] = "read_gesture_labels";
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  ms_buffer *file = push_buffer(L), *rows = push_buffer(L);
  ms_status status = ms_file_read(file, op, path, LIST_BYTES, &err);
  if (!status) {
    ms_input in = {op, path, file->p, file->bytes, MS_STRICT, NULL};
    status = ms_gesture_labels(rows, &in, &err);
  }
  if (status)
    return ms_finish_env(L, status, &err, 1);
  const ms_gesture *g = (const void *)rows->p;
  size_t n = rows->bytes / sizeof *g;
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, g[i].label);
    lua_setfield(L, -2, "label");
    lua_pushinteger(L, g[i].start_us);
    lua_setfield(L, -2, "start_us");
    lua_pushinteger(L, g[i].end_us);
    lua_setfield(L, -2, "end_us");
    lua_seti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static int read_gesture_trials(lua_State *L) {
  static const char op[] = "read_gesture_trials";
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  ms_buffer *file = push_buffer(L), *names = push_buffer(L);
  ms_status status = ms_file_read(file, op, path, LIST_BYTES, &err);
  if (!status) {
    ms_input in = {op, path, file->p, file->bytes, MS_STRICT, NULL};
    status = ms_gesture_trials(names, &in, &err);
  }
  if (status)
    return ms_finish_env(L, status, &err, 1);
  lua_newtable(L);
  lua_Integer n = 0;
  for (size_t at = 0; at < names->bytes; at += strlen((const char *)names->p + at) + 1) {
    lua_pushstring(L, (const char *)names->p + at);
    lua_seti(L, -2, ++n);
  }
  return 1;
}

const ms_reg ms_data_events_functions[] = {
    {"read_events", read_events,
     "read_events(path, {format=\"auto\", policy=\"strict\", layout=\"sj\", width=, height=, start_us=0, end_us=0, "
     "flip_x=false, flip_y=false, stabilize=false}) -> events, or nil, message\n\n"
     "A recording of an event camera: { t = int64 [n] in microseconds, x = int64 [n], y = int64 [n], p = uint8 [n] "
     "(1 ON, 0 OFF), width, height, repairs }, (0, 0) at the top left.\n"
     "format: auto (by the first bytes, else by the name), aedat2 (DVS128, CIFAR10-DVS), aedat3 (DVS128 Gesture), "
     "atis (.bin of N-MNIST, N-Caltech101), mat5 (ASL-DVS: ts, x, y, pol), npz (SpikingJelly's: t, x, y, p).\n"
     "policy: strict (damage is an error that names byte and record), lenient (what can be mended is, and counted in "
     "repairs), oracle (as SpikingJelly, mistakes included: unsorted times, coordinates off the sensor).\n"
     "layout (aedat2): sj (SpikingJelly), jaer (upright in jAER), etf (dat2mat, events-tfds), trt.\n"
     "width, height: of the sensor; 0 is 128 x 128 for AEDAT, 240 x 180 for atis and mat5 (N-MNIST: 34 x 34), what the "
     "events need for npz.\n"
     "start_us, end_us: only start <= t < end; end 0: to the last. The first saccade of N-MNIST: end_us = 100000.\n"
     "flip_x, flip_y: mirrored afterwards. ASL-DVS in SpikingJelly: both; in tonic: flip_y. stabilize: undoes the "
     "saccades of N-MNIST."},
    {"write_events", write_events,
     "write_events(path, events, {format=}) -> true, or nil, message\n\n"
     "Tensors t, x, y, p of the table `events` as a file: aedat2 (x, y below 128, read back by layout sj), atis (x "
     "below 256, y below 240, t below 2^23 us) or npz (as SpikingJelly's events). The default follows the name: "
     ".aedat, "
     ".bin or .npz. The file is there whole or not at all."},
    {"read_gesture_labels", read_gesture_labels,
     "read_gesture_labels(path) -> {{label=, start_us=, end_us=}, ...}, or nil, message\n\n"
     "The rows of a userNN_..._labels.csv of DVS128 Gesture; labels from 0. A sample is the events with start_us <= "
     "t < end_us."},
    {"read_gesture_trials", read_gesture_trials,
     "read_gesture_trials(path) -> {name, ...}, or nil, message\n\n"
     "The recordings that trials_to_train.txt or trials_to_test.txt of DVS128 Gesture names."},
    {NULL, NULL, NULL}};
