/* Recordings as Lua values, and the options that several functions of core.data take. */
#ifndef MS_BIND_DATA_EVENTS_H
#define MS_BIND_DATA_EVENTS_H

#include "../core/data/event_augment.h"
#include "../core/data/frames.h"
#include "bind.h"

/* ---- bind_data_convert.c ---- */

/* What a call works with; freed with its userdata, whatever raises. */
typedef struct ms_event_work {
  ms_events events;
  ms_buffer scratch;
  ms_picture frames;
} ms_event_work;

ms_event_work *ms_push_event_work(lua_State *L);

/* The table of tensors { t, x, y, p, width, height } at `index`. */
void ms_check_events(lua_State *L, int index, const char *op, ms_events *e);
/* Pushes one; returns 1. */
int ms_push_events(lua_State *L, const ms_events *e);

extern const char *const ms_layout_names[]; /* bind_data_events.c: by ms_aedat2_layout, ends with NULL */

/* ---- fields of the table of options at `index`, which the caller has checked for unknown keys ---- */

#define MS_READ_KEYS "format", "policy", "layout", "width", "height", "flip_x", "flip_y", "stabilize"
void ms_check_read_options(lua_State *L, int index, const char *op, ms_aedat2_layout layout, ms_events_options *out);

/* policy is one of MS_READ_KEYS */
#define MS_FRAME_KEYS \
  "preset", "T", "duration_us", "split", "polarity", "occupancy", "transpose", "post", "dtype", "repair_time", "bin"
const ms_frames_preset *ms_check_frame_options(lua_State *L, int index, const char *op, ms_frames_options *out);

#define MS_DROP_KEYS "drop", "released", "mirror", "flip_polarity", "reverse"
void ms_check_event_augment(lua_State *L, int index, const char *op, ms_event_augment *out);

#endif
