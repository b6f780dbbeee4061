/* What capture.c and recording.c share. */
#ifndef MS_CAPTURE_STATE_H
#define MS_CAPTURE_STATE_H

#include "capture.h"
#include "capture_memory.h"
#include "params.h"

/* A list that grows; items are plain. */
typedef struct ms_notes {
  void *items;
  int n, room;
} ms_notes;

typedef struct ms_buffer {
  ms_tensor *t; /* what the step sees of it repeats it `steps` times, where steps > 0 */
  int64_t steps;
} ms_buffer;

typedef struct ms_leaf_note {
  ms_tensor *leaf; /* retained */
  int fresh;       /* its gradient was replaced before it was looked at */
  ms_storage *had; /* the gradient at the beginning otherwise (retained), or NULL */
  ms_tensor *grad; /* at the end: a base for tensors over the same memory, or NULL (retained) */
  int in_arena;    /* that memory is the leaf's place in the gradient arena */
  ms_pending pending;
} ms_leaf_note;

typedef struct ms_write_note {
  ms_storage *s; /* retained */
  int half;      /* its bfloat16 copy is written with it */
} ms_write_note;

struct ms_recording {
  ms_device *device;
  int nin, nresults;
  ms_buffer *in;
  ms_tensor **results; /* of the graph */
  size_t need;         /* bytes at once, once the step has run */
  ms_pool *pool;
  ms_graph *graph;
  uint64_t changes, seed;
  ms_notes storages, arenas, leaves, written, halves;
  ms_tensor *counter; /* int64 [1]: draws before the step, on the device */
  int64_t draws;      /* of one step */
  uint64_t counted;   /* what *counter holds */
  ms_lease *inside, *lease;
};

typedef struct ms_capture_state {
  ms_recording *r; /* whose step runs */
  ms_pool *learnt;
  uint64_t first_draw;
  int out_of_memory;
  uint32_t serial;          /* of the recording, for ms_storage.noted */
  const ms_device *foreign; /* a device that is not recorded, but was used */
} ms_capture_state;
extern ms_capture_state ms_capturing;

ms_lease *ms_lease_new(void);
void ms_lease_end(ms_lease **l);
void ms_lease_set(ms_storage *s, ms_lease *l);
uint64_t ms_capture_changes(void);

#endif
