/* One sample on its way from a file to a batch: an image (t = 1) or t frames, [t][h][w][c] in memory. Usable in any
** thread. */
#ifndef MS_PICTURE_H
#define MS_PICTURE_H

#include "buffer.h"

typedef struct ms_picture {
  ms_dtype dtype; /* MS_U8 (0 to 255) or MS_F32 (ms_real) */
  int64_t t, h, w, c;
  ms_buffer memory;
} ms_picture;

/* Shapes it anew; what it holds is undefined afterwards. */
ms_status ms_picture_shape(ms_picture *p, ms_dtype dtype, int64_t t, int64_t h, int64_t w, int64_t c, const char *op,
                           ms_error *err);
static inline uint8_t *ms_picture_bytes(const ms_picture *p) {
  return p->memory.p;
}
static inline ms_real *ms_picture_reals(const ms_picture *p) {
  return (ms_real *)(void *)p->memory.p;
}
void ms_picture_free(ms_picture *p);

#endif
