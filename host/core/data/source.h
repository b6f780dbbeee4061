/* Where samples come from: numbered from 0, each a picture of one shape, with a label. The loader's threads read from a
** source at the same time. */
#ifndef MS_SOURCE_H
#define MS_SOURCE_H

#include "events.h"
#include "image_transform.h"

/* What a thread keeps from one sample to the next. */
typedef struct ms_scratch {
  ms_buffer file, work;
  ms_events events;
  ms_picture picture[2];
  ms_image_scratch image;
  ms_buffer photo; /* of the loader */
  ms_repairs repairs; /* so far */
} ms_scratch;

void ms_scratch_free(ms_scratch *s);

typedef struct ms_source ms_source;
struct ms_source {
  int64_t n;
  int64_t t, h, w, c; /* of every sample; t = 1: an image */
  ms_dtype dtype;     /* MS_U8 or MS_F32 */
  const int64_t *labels;
  /* Sample i as [t][h][w][c], valid until the thread's next call. key: of this epoch's random choices; NULL: none. */
  ms_status (*read)(const ms_source *s, int64_t i, const uint64_t *key, ms_scratch *scratch, const void **out,
                    ms_error *err);
  void (*close)(ms_source *s); /* frees s */
};

/* Samples [n][t][h][w][c] that lie in memory; borrowed, like the labels [n]. */
ms_status ms_source_memory(ms_source **out, const void *samples, ms_dtype dtype, const int64_t size[5],
                           const int64_t *labels, ms_error *err);
void ms_source_close(ms_source *s); /* NULL is fine */

#endif
