/* Events for Lua: frames, augmentation, recordings made from still images. */
#include "../core/data/event_files.h"
#include "../core/data/recording.h"
#include "../core/rng.h"
#include "bind_data_events.h"
#include "bind_private.h"
#include <string.h>

static int option_int(lua_State *L, int index, const char *op, const char *key, int fallback, int low, int high) {
  int64_t value = ms_option_integer(L, index, op, key, fallback);
  if (value < low || value > high)
    ms_raise(L, "%s: %s: expected %d to %d, got %I", op, key, low, high, value);
  return (int)value;
}

/* ---- frames ---- */

static const ms_frames_preset *check_preset(lua_State *L, int index, const char *op) {
  const ms_frames_preset *p;
  luaL_Buffer b;
  const char *name = ms_option_string(L, index, op, "preset", "sj-number");
  for (int i = 0; (p = ms_frames_preset_at(i)); i++)
    if (strcmp(p->name, name) == 0)
      return p;
  luaL_buffinit(L, &b);
  for (int i = 0; (p = ms_frames_preset_at(i)); i++) {
    luaL_addstring(&b, i ? ", " : "");
    luaL_addstring(&b, p->name);
  }
  luaL_pushresult(&b);
  ms_raise(L, "%s: preset: expected one of %s, got %s", op, lua_tostring(L, -1), name);
  return NULL;
}

static const char *const splits[] = {"number", "time", "duration", "span", "time-bins", "event-bins", NULL};
static const char *const polarities[] = {"both", "merged", "difference", "dead", NULL};
static const char *const posts[] = {"none", "max", "clip", "log1p", NULL};

const ms_frames_preset *ms_check_frame_options(lua_State *L, int index, const char *op, ms_frames_options *out) {
  static const char *const dtypes[] = {"float32", "uint8", NULL};
  const ms_frames_preset *preset = check_preset(L, index, op);
  ms_frames_options f = preset->options;
  f.T = ms_option_integer(L, index, op, "T", f.T);
  f.duration_us = ms_option_integer(L, index, op, "duration_us", f.duration_us);
  if (f.duration_us != preset->options.duration_us)
    f.split = MS_SPLIT_DURATION;
  f.split = (ms_split)ms_option_enum(L, index, op, "split", (int)f.split, splits);
  f.polarity = (ms_polarity)ms_option_enum(L, index, op, "polarity", (int)f.polarity, polarities);
  f.occupancy = ms_option_boolean(L, index, op, "occupancy", f.occupancy);
  f.transpose = ms_option_boolean(L, index, op, "transpose", f.transpose);
  f.post = (ms_frames_post)ms_option_enum(L, index, op, "post", (int)f.post, posts);
  f.dtype = ms_option_enum(L, index, op, "dtype", f.dtype == MS_U8, dtypes) ? MS_U8 : MS_F32;
  f.policy = (ms_policy)ms_option_enum(L, index, op, "policy", MS_STRICT, ms_policy_names);
  f.repair_time = ms_option_boolean(L, index, op, "repair_time", f.repair_time);
  int bin[2];
  ms_option_pair(L, index, op, "bin", 0, bin);
  f.height = bin[0];
  f.width = bin[1];
  *out = f;
  return preset;
}

static ms_status to_frames(ms_tensor **out, const ms_picture *p, ms_error *err) {
  int64_t size[4] = {p->t, p->c, p->h, p->w}; /* lies in memory as [t][h][w][c] */
  ms_data d;
  ms_status status = ms_tensor_new(out, ms_device_cpu(), p->dtype, 4, size, err);
  if (!status && !(status = ms_data_of(&d, *out, err)))
    memcpy(d.p, p->memory.p, p->memory.bytes);
  return status;
}

static int integrate(lua_State *L) {
  static const char op[] = "integrate", *const keys[] = {MS_FRAME_KEYS, "policy", NULL};
  ms_error err;
  ms_check_options(L, 2, op, keys);
  ms_frames_options f;
  ms_check_frame_options(L, 2, op, &f);
  ms_event_work *w = ms_push_event_work(L);
  ms_check_events(L, 1, op, &w->events);
  ms_handle *h = ms_push_handle(L);
  ms_status status = ms_frames_integrate(&w->frames, &w->scratch, &w->events, &f, &err);
  if (!status)
    status = to_frames(&h->tensor, &w->frames, &err);
  return ms_finish(L, status, &err, 1);
}

static int read_frames(lua_State *L) {
  static const char op[] = "read_frames", *const keys[] = {MS_FRAME_KEYS, MS_READ_KEYS, NULL};
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  ms_check_options(L, 2, op, keys);
  ms_frames_options f;
  ms_events_options r;
  const ms_frames_preset *preset = ms_check_frame_options(L, 2, op, &f);
  ms_check_read_options(L, 2, op, preset->layout, &r);
  ms_event_work *w = ms_push_event_work(L);
  ms_handle *h = ms_push_handle(L);
  ms_status status = ms_events_read(&w->events, &w->scratch, path, &r, NULL, &err);
  if (!status)
    status = ms_frames_integrate(&w->frames, &w->scratch, &w->events, &f, &err);
  if (!status)
    status = to_frames(&h->tensor, &w->frames, &err);
  return ms_finish_env(L, status, &err, 1);
}

static int frame_presets(lua_State *L) {
  const ms_frames_preset *p;
  lua_newtable(L);
  for (int i = 0; (p = ms_frames_preset_at(i)); i++) {
    lua_createtable(L, 0, 8);
    const char *const text[][2] = {{"layout", ms_layout_names[p->layout]},
                                   {"split", splits[p->options.split]},
                                   {"polarity", polarities[p->options.polarity]},
                                   {"post", posts[p->options.post]},
                                   {"dtype", ms_dtype_name(p->options.dtype)}};
    for (size_t k = 0; k < sizeof text / sizeof *text; k++) {
      lua_pushstring(L, text[k][1]);
      lua_setfield(L, -2, text[k][0]);
    }
    lua_pushinteger(L, p->size);
    lua_setfield(L, -2, "size");
    lua_pushboolean(L, p->alpha);
    lua_setfield(L, -2, "alpha");
    lua_pushinteger(L, p->options.split == MS_SPLIT_DURATION ? p->options.duration_us : p->options.T);
    lua_setfield(L, -2, p->options.split == MS_SPLIT_DURATION ? "duration_us" : "T");
    lua_setfield(L, -2, p->name);
  }
  return 1;
}

/* ---- augmentation ---- */

static double probability(lua_State *L, int index, const char *op, const char *key) {
  double p = ms_option_number(L, index, op, key, 0);
  if (!(p >= 0 && p <= 1))
    ms_raise(L, "%s: %s: expected 0 to 1, got %f", op, key, p);
  return p;
}

void ms_check_event_augment(lua_State *L, int index, const char *op, ms_event_augment *out) {
  static const char *const drops[] = {"none", "time", "area", "random", "any", NULL};
  *out = (ms_event_augment){.drop = (ms_event_drop)ms_option_enum(L, index, op, "drop", MS_DROP_NONE, drops),
                            .released = ms_option_boolean(L, index, op, "released", 0),
                            .flip_x = probability(L, index, op, "mirror"),
                            .flip_polarity = probability(L, index, op, "flip_polarity"),
                            .reverse = probability(L, index, op, "reverse")};
}

static int augment_events(lua_State *L) {
  static const char op[] = "augment_events", *const keys[] = {MS_DROP_KEYS, "seed", "sample", NULL};
  ms_error err;
  ms_event_augment a;
  ms_check_options(L, 2, op, keys);
  ms_check_event_augment(L, 2, op, &a);
  uint64_t seed = (uint64_t)ms_option_integer(L, 2, op, "seed", (lua_Integer)ms_rng_default()->seed);
  uint64_t sample = (uint64_t)ms_option_integer(L, 2, op, "sample", 0);
  ms_event_work *w = ms_push_event_work(L);
  ms_check_events(L, 1, op, &w->events);
  uint64_t key = ms_rng_key(seed, "augment", "events");
  ms_finish(L, ms_events_augment(&w->events, &w->scratch, &a, key, sample, &err), &err, 0);
  return ms_push_events(L, &w->events);
}

/* ---- recordings from still images ---- */

#define SYNTHETIC_KEYS                                                                                              \
  "profile", "width", "height", "size", "x0", "y0", "amplitude", "steps", "loops", "threshold", "noise_hz", "seed", \
      "phase"

#define LIMIT (1 << 30) /* ms_synthesize knows better */

static ms_synthetic synthetic_options(lua_State *L, int index, const char *op) {
  static const char *const profiles[] = {"saccade3", "rcls", NULL};
  int loops = ms_option_enum(L, index, op, "profile", 0, profiles);
  ms_synthetic s = loops ? ms_synthetic_cifar10dvs : ms_synthetic_nmnist;
  s.width = option_int(L, index, op, "width", s.width, -LIMIT, LIMIT);
  s.height = option_int(L, index, op, "height", s.height, -LIMIT, LIMIT);
  s.size = option_int(L, index, op, "size", s.size, -LIMIT, LIMIT);
  s.x0 = option_int(L, index, op, "x0", s.x0, -LIMIT, LIMIT);
  s.y0 = option_int(L, index, op, "y0", s.y0, -LIMIT, LIMIT);
  s.amplitude = option_int(L, index, op, "amplitude", s.amplitude, -LIMIT, LIMIT);
  s.steps = option_int(L, index, op, "steps", s.steps, -LIMIT, LIMIT);
  s.loops = option_int(L, index, op, "loops", s.loops, -LIMIT, LIMIT);
  s.threshold = ms_option_integer(L, index, op, "threshold", s.threshold);
  s.noise_hz = ms_option_integer(L, index, op, "noise_hz", 0);
  s.seed = (uint32_t)ms_option_integer(L, index, op, "seed", 0);
  s.phase = ms_option_boolean(L, index, op, "phase", 1);
  return s;
}

static int synthesize(lua_State *L) {
  static const char op[] = "synthesize", *const keys[] = {SYNTHETIC_KEYS, NULL};
  ms_error err;
  ms_tensor *t = ms_check_tensor(L, 1, "image");
  ms_check_options(L, 2, op, keys);
  ms_synthetic s = synthetic_options(L, 2, op);
  int64_t n = t->ndim ? t->size[t->ndim - 1] : 0;
  if (t->dtype != MS_U8 || t->ndim < 2 || t->ndim > 3 || n > 4096 || t->size[t->ndim - 2] != n ||
      (t->ndim == 3 && t->size[0] != 1))
    ms_raise(L, "%s: image: expected a square [n, n] or [1, n, n] of uint8, n up to 4096, got %s", op,
             ms_tensor_text(t).s);
  const uint8_t *image = ms_push_host(L, t);
  ms_event_work *w = ms_push_event_work(L);
  ms_finish(L, ms_synthesize(&w->events, &w->scratch, image, (int)n, &s, &err), &err, 0);
  return ms_push_events(L, &w->events);
}

static int make_events(lua_State *L) {
  static const char op[] = "make_events", *const formats[] = {"bin", "aedat", NULL};
  static const char *const keys[] = {SYNTHETIC_KEYS, "images", "paths", "first", "format", "workers", NULL};
  ms_error err;
  int names;
  luaL_checktype(L, 1, LUA_TTABLE);
  ms_check_options(L, 1, op, keys);
  ms_synthetic s = synthetic_options(L, 1, op);
  lua_getfield(L, 1, "images");
  ms_tensor *t = ms_test_tensor(L, -1);
  if (!t || t->dtype != MS_U8 || t->ndim != 3 || t->size[1] != t->size[2] || t->size[1] > 4096)
    ms_raise(L, "%s: images: expected [n, size, size] of uint8, got %s", op,
             t ? ms_tensor_text(t).s : ms_type_name(L, -1));
  ms_event_files f = {.n = t->size[0],
                      .size = (int)t->size[1],
                      .first = ms_option_integer(L, 1, op, "first", 0),
                      .synthetic = &s,
                      .workers = option_int(L, 1, op, "workers", 1, 1, MS_EVENT_FILES_MOST_WORKERS)};
  f.format = ms_option_enum(L, 1, op, "format", s.path == MS_PATH_LOOPS, formats) ? MS_EVENTS_AEDAT2 : MS_EVENTS_ATIS;
  f.images = ms_push_host(L, t);
  f.paths = ms_option_strings(L, 1, op, "paths", &names);
  if (names != f.n)
    ms_raise(L, "%s: paths: expected a table of %I names, one for each image, got %d", op, f.n, names);
  int64_t written, events;
  ms_status status = ms_event_files_make(&f, &written, &events, &err);
  lua_pushinteger(L, written);
  lua_pushinteger(L, events);
  return ms_finish_env(L, status, &err, 2);
}

const ms_reg ms_data_frames_functions[] = {
    {"integrate", integrate,
     "integrate(events, {preset=\"sj-number\", T=10, ...}) -> tensor [T, C, H, W]\n\n"
     "Frames of a table { t, x, y, p, width, height } as read_events gives it. A preset gives the options that are "
     "not given; data.frame_presets() lists them.\n"
     "split: number (T blocks of n div T events, the last takes the remainder), time (T windows of equal length, the "
     "last takes the rest), duration (windows of duration_us), all three as in SpikingJelly; span (equal parts from "
     "first to last event, both included), time-bins, event-bins (tonic: what remains is dropped).\n"
     "polarity: both (channels OFF, ON), merged, difference (ON - OFF), dead (all in the second, as in TRT's code).\n"
     "occupancy: a pixel counts once in a frame. transpose: rows are x. bin = 48 or {h, w}: x * w div width.\n"
     "post: none, max (divided by the frame's largest; in uint8 times 255), clip (at 1), log1p. dtype: float32, "
     "uint8.\n"
     "policy: strict (an empty window of split time and a count above 255 in uint8 are errors), lenient (zeros, "
     "255), oracle (as the published code; an empty frame by post max is NaN). repair_time: as dat2mat.m."},
    {"read_frames", read_frames,
     "read_frames(path, {preset=\"sj-number\", ...}) -> tensor [T, C, H, W], or nil, message\n\n"
     "read_events and integrate in one, with the options of integrate, and layout (the preset's), width, height of "
     "read_events."},
    {"frame_presets", frame_presets,
     "frame_presets() -> {name = {layout=, split=, T=, size=, alpha=, ...}, ...}\n\n"
     "Published ways to make frames. layout: how AEDAT 2.0 is read before; size: to what they are resized "
     "afterwards, "
     "bilinearly, 0: not at all; alpha: in Pillow's mode LA."},
    {"augment_events", augment_events,
     "augment_events(events, {drop=\"none\", released=false, mirror=0, flip_polarity=0, reverse=0, seed=, sample=0}) "
     "-> events\n\n"
     "drop: time, area, random, or any of them or none (EventDrop). released: as the code of its authors (area drops "
     "a cross, random forgets the order). The others are probabilities. The same seed and sample give the same "
     "result."},
    {"synthesize", synthesize,
     "synthesize(image, {profile=\"saccade3\", threshold=16384, noise_hz=0, seed=0, phase=true, ...}) -> events\n\n"
     "What an event camera sees of a still image [n, n] or [1, n, n] of uint8 that moves: saccade3 as N-MNIST, rcls "
     "as CIFAR10-DVS. threshold in 1/65536 of the logarithm; phase: pixels begin anywhere within it. width, height: "
     "of the sensor; size, x0, y0 (1/256 pixel): of the image on it; amplitude, steps (ms for each segment), loops: "
     "of the path. The same bits everywhere."},
    {"make_events", make_events,
     "make_events{images=, paths=, format=, first=0, workers=1, ...} -> files written, events, or nil, message\n\n"
     "synthesize of images [n, size, size] into files, bin (saccade3) or aedat (rcls), by several threads; image i "
     "is made with seed + (first + i) * 0x9e3779b9, i from 0. Files that exist and are not empty are left alone."},
    {NULL, NULL, NULL}};
