/* Sources of samples as Lua values. */
#ifndef MS_BIND_DATA_SOURCE_H
#define MS_BIND_DATA_SOURCE_H

#include "../core/data/source.h"
#include "bind.h"
#include <string.h>

#define MS_SOURCE_TYPE "ms.Source"

/* Empty until it is filled, and after close. The tensors are what the source reads from: dense, on the cpu, retained.
** After close all of it stays until the last user has left. */
typedef struct ms_source_handle {
  ms_source *source;
  ms_tensor *samples, *labels, *start, *end;
  struct ms_source_handle *like; /* entered: its labels are this one's, too; or NULL */
  int users, closed;
} ms_source_handle;

ms_source_handle *ms_push_source(lua_State *L);
const ms_source *ms_check_source(lua_State *L, int index, const char *what); /* "loader: source" in messages */

/* What reads from the source at `index` for longer than a call: enters, keeps the source as a user value, and leaves
** once (NULL is fine). */
ms_source_handle *ms_source_enter(lua_State *L, int index, const char *what);
void ms_source_leave(ms_source_handle *h);

/* Field "labels" of the table at index, left on the stack: [n], int64 or uint8. */
ms_tensor *ms_check_labels(lua_State *L, int index, const char *op, int64_t n);
ms_status ms_source_labels(ms_source_handle *h, ms_tensor *labels, const int64_t **out, ms_error *err);

/* Dense and where threads can read it; dtype -1: as it is. */
ms_status ms_on_host(ms_tensor **out, ms_tensor *t, int dtype, ms_error *err);

#endif
