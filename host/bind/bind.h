/* The rules of a binding, in this order: check every argument, push the result handles, call core once, finish.
** Nothing that can raise may stand between a core call and finish, and C memory that must survive a raise is a
** userdata. */
#ifndef MS_BIND_H
#define MS_BIND_H

#include <lua.h>
#include <lauxlib.h>
#include <lualib.h>

#include "../core/ops.h"

#define MS_TENSOR_TYPE "ms.Tensor"

typedef struct ms_handle {
  ms_tensor *tensor; /* NULL: closed, or not filled yet */
} ms_handle;

/* Pushes an empty handle with its metatable; core fills handle->tensor. */
ms_handle *ms_push_handle(lua_State *L);
/* Pushes t as a new handle (takes over the +1), nil for NULL. Can raise: then t is released. */
void ms_push_tensor(lua_State *L, ms_tensor *t);

/* `arg` is the argument's name in messages: bad argument #2 to 'matmul' (b: tensor expected, got nil). */
ms_tensor *ms_check_tensor(lua_State *L, int index, const char *arg);
ms_tensor *ms_opt_tensor(lua_State *L, int index, const char *arg);             /* nil or none: NULL */
ms_tensor *ms_test_tensor(lua_State *L, int index);                             /* NULL when it is something else */
int ms_check_dim(lua_State *L, int index, const char *arg, const ms_tensor *t); /* 1-based or negative -> 0-based */
int64_t ms_check_index(lua_State *L, int index, const char *arg, int64_t n);    /* 1-based or negative -> 0-based */
/* varargs or one table; returns ndim */
int ms_check_sizes(lua_State *L, int first, const char *arg, int64_t size[MS_MAX_DIMS]);
/* A table of tensors as an array in a fresh userdata that is left on the stack. */
ms_tensor **ms_check_tensors(lua_State *L, int index, const char *arg, int *n);
ms_device *ms_check_device(lua_State *L, int index); /* name; raises when it does not work */

/* Options: a table with known keys. ms_check_options raises "op: unknown option 'x' (known: a, b, c)"; nil or none
** counts as empty. keys ends with NULL. */
void ms_check_options(lua_State *L, int index, const char *op, const char *const *keys);
double ms_option_number(lua_State *L, int index, const char *op, const char *key, double fallback);
int64_t ms_option_integer(lua_State *L, int index, const char *op, const char *key, int64_t fallback);
int ms_option_boolean(lua_State *L, int index, const char *op, const char *key, int fallback);
/* names ends with NULL */
int ms_option_enum(lua_State *L, int index, const char *op, const char *key, int fallback, const char *const *names);
const char *ms_option_string(lua_State *L, int index, const char *op, const char *key, const char *fallback);
/* Strings that are not empty and hold no NUL, ended by NULL; they live in values left on the stack. */
const char **ms_check_strings(lua_State *L, int index, const char *op, const char *key, int *n); /* the table at index */
const char **ms_option_strings(lua_State *L, int index, const char *op, const char *key, int *n);
/* One number for each channel, in a userdata left on the stack; NULL where it is not given. */
ms_real *ms_option_channels(lua_State *L, int index, const char *op, const char *key, int64_t channels);
/* A number for both, or a table of two: stride = 2, stride = {2, 1}. */
void ms_option_pair(lua_State *L, int index, const char *op, const char *key, int fallback, int out[2]);
/* { lo, hi }; out stays what it is where it is not given. */
void ms_option_range(lua_State *L, int index, const char *op, const char *key, double out[2]);

/* Raises when status is a failure (the only place that does), else returns nresults. */
int ms_finish(lua_State *L, ms_status status, const ms_error *err, int nresults);
/* For the environment (a missing file, no GPU): nil, message, status name. */
int ms_finish_env(lua_State *L, ms_status status, const ms_error *err, int nresults);

/* A callback into the Lua value at `index` (a function), for core: runs under lua_pcall on the main state. *cb
** owns a registry reference. */
ms_status ms_make_callback(lua_State *L, int index, ms_callback *cb, ms_error *err);

/* name, function, help text ("usage\n\nexplanation"); ends with a NULL name. Fills the table on top of the stack
** and the help registry. */
typedef struct ms_reg {
  const char *name;
  lua_CFunction function;
  const char *help;
} ms_reg;
void ms_register(lua_State *L, const ms_reg *list);

/* One opener a file; each pushes one table. */
int ms_open_tensor(lua_State *L); /* class Tensor: metatable; creation functions */
int ms_open_ops(lua_State *L);    /* math, reduction, views, indexing: functions that are also methods */
int ms_open_nn(lua_State *L);     /* conv2d, batch_norm, neuron, losses ... */
int ms_open_autograd(lua_State *L);
int ms_open_optim(lua_State *L);
int ms_open_device(lua_State *L);     /* device, devices, memory, versions */
int ms_open_data(lua_State *L);       /* idx, loader */
int ms_open_checkpoint(lua_State *L); /* safetensors */
int ms_open_capture(lua_State *L);    /* recordings of steps */
int ms_open_engines(lua_State *L);    /* convolution engines */
int ms_open_json(lua_State *L);
int ms_open_system(lua_State *L); /* clock, terminal width, mkdir, rename, isatty */

/* Exported: package "moonspike.core", and "moonspike" for a stock lua. */
int luaopen_moonspike_core(lua_State *L);
int luaopen_moonspike(lua_State *L);

#endif
