/* What the files of host/bind share among themselves. */
#ifndef MS_BIND_PRIVATE_H
#define MS_BIND_PRIVATE_H

#include "bind.h"

/* ---- bind.c ---- */
const char *ms_type_name(lua_State *L, int index); /* __name or the type; may leave one value on the stack */
/* Raises "bad argument ... (arg: `what` expected, got ...)". */
int ms_expected(lua_State *L, int index, const char *arg, const char *what);

/* luaL_argerror, at the user's line also where one of the library's Lua modules made the call. */
int ms_arg_error(lua_State *L, int index, const char *message);

/* luaL_error, likewise. */
int ms_raise(lua_State *L, const char *format, ...);
int64_t ms_check_integer(lua_State *L, int index, const char *arg);
double ms_check_number(lua_State *L, int index, const char *arg);
void *ms_push_scratch(lua_State *L, size_t bytes); /* a userdata, so nothing is lost when something raises */
void ms_push_help(lua_State *L);                   /* the help registry: value -> text, weak keys */

/* ---- bind_host.c: tensors as host memory, n elements of the dtype (spike: reals) ---- */
size_t ms_host_width(ms_dtype dtype);
void *ms_push_host(lua_State *L, ms_tensor *t);                                  /* reads t into a fresh userdata */
void ms_push_element(lua_State *L, const void *host, ms_dtype dtype, int64_t i); /* integers for integer types */
double ms_element(const void *host, ms_dtype dtype, int64_t i);
/* The number at `index` as element i; what = "value[2][3]" in messages. */
void ms_store_element(lua_State *L, int index, void *host, ms_dtype dtype, int64_t i, const char *op, const char *what);
/* Reads a number or a nested table into a fresh userdata; raises on ragged tables, naming the position. */
void *ms_push_nested(lua_State *L, int index, const char *op, ms_dtype dtype, int *ndim, int64_t size[MS_MAX_DIMS]);

/* ---- bind_create.c ---- */
ms_dtype ms_dtype_of(lua_State *L, const char *op, const char *arg, const char *name); /* raises on an unknown name */
/* The optional random key at `index`: a name (keyed by the seed), an integer of random.key, or nil: the default
** stream. */
ms_philox_key ms_check_key(lua_State *L, int index, const char *arg);
int ms_open_create(lua_State *L);

/* ---- bind_tensor.c ---- */
void ms_push_shape(lua_State *L, const ms_tensor *t);
void ms_push_methods(lua_State *L); /* the table of methods of class Tensor */

/* ---- functions that are also methods, and metamethods, by file ---- */
extern const ms_reg ms_math_functions[];          /* bind_math.c */
extern const ms_reg ms_reduce_functions[];        /* bind_reduce.c */
extern const ms_reg ms_view_functions[];          /* bind_view.c */
extern const ms_reg ms_inplace_functions[];       /* bind_inplace.c */
extern const ms_reg ms_tensor_functions[];        /* bind_tensor.c */
extern const ms_reg ms_neuron_functions[];        /* bind_neuron.c, in core.nn */
extern const ms_reg ms_data_images_functions[];   /* bind_data_images.c, in core.data */
extern const ms_reg ms_data_arrays_functions[];    /* bind_data_arrays.c, in core.data */
int ms_tensor_tostring(lua_State *L);             /* bind_print.c */
int ms_tensor_select(lua_State *L, ms_tensor *t); /* bind_index.c: t[key], key at 2 */
int ms_tensor_assign(lua_State *L, ms_tensor *t); /* t[key] = value, key at 2, value at 3 */

int ms_open_random(lua_State *L);

/* ---- core.data, by file: functions, or what puts them into the table on top ---- */
extern const char *const ms_policy_names[]; /* bind_data.c: by ms_policy, ends with NULL */
void ms_open_data_source(lua_State *L);
void ms_open_data_loader(lua_State *L);
void ms_open_data_files(lua_State *L);
void ms_open_data_augment(lua_State *L);
extern const ms_reg ms_data_events_functions[];
struct ms_repairs;
void ms_push_repairs(lua_State *L, const struct ms_repairs *r); /* {truncated = 1, ...}, those that are not 0 */

/* Both parts of a recipe of augmentation, which live as long as it does. */
void ms_check_recipe(lua_State *L, int index, const char *arg, const struct ms_photo_recipe **photo,
                     const struct ms_augment_recipe **moves);

/* ---- bind_data_frames.c ---- */
extern const ms_reg ms_data_frames_functions[];

/* ---- callback.c ---- */
void ms_callback_retain(void *ud);

/* ---- open.c: the Lua modules, compiled in by scripts/dev/embed.cmake ---- */
typedef struct ms_lua_module {
  const char *name;  /* "moonspike.nn" */
  const char *chunk; /* "@moonspike/nn/init.lua" */
  const char *source;
  size_t size;
} ms_lua_module;
extern const ms_lua_module ms_lua_modules[]; /* ends with a NULL name */

#endif
