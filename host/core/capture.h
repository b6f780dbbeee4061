/* Captured steps (decision 21). A recording is one sequence of rows for inputs of one shape: run once to learn how much
** memory it takes, recorded once into a graph of the backend, replayed after that. On a backend without graphs every
** run is an ordinary one, under the same rules.
**
** What a step makes does not outlive it: memory of a storage made inside has a lease, which is over when the step ends;
** results get a lease that is over when the next call begins. Whoever reads memory whose lease is over gets an error. */
#ifndef MS_CAPTURE_H
#define MS_CAPTURE_H

#include "error.h"

typedef struct ms_device ms_device;
typedef struct ms_storage ms_storage;
typedef struct ms_tensor ms_tensor;
typedef struct ms_arena ms_arena;

typedef struct ms_lease {
  int refs, over;
} ms_lease;
void ms_lease_release(ms_lease *l);

/* ---- what the rest of core asks and tells ---- */
extern int ms_capture_live;     /* a graph is being recorded */
int ms_capture_inside(void);    /* a captured step runs, recorded or not */
int ms_capture_recording(void); /* ms_capture_live as a function */
/* An error inside of a captured step: "a value", "is read". */
ms_status ms_capture_refuse(const char *what, const char *does, ms_error *err);
/* The error of an op that gets a tensor whose memory is not its own any more. */
ms_status ms_capture_check(const ms_tensor *t, ms_error *err);
/* The lease of a storage that is made now (+1), or NULL. */
ms_lease *ms_capture_lease(void);
/* This memory stays after the step: state of an optimizer, a parameter, a gradient. */
ms_status ms_capture_keep(ms_storage *s, const char *what, ms_error *err);
void ms_capture_outlives(ms_storage *s); /* the same where a replay may make it */
/* The lay-out of parameters or of an optimizer's state changed: no recording fits any more. */
void ms_capture_changed(void);
/* Device memory: 1 where the recording (or its arena) took care of it. */
int ms_capture_alloc(ms_device *d, void **out, size_t bytes, ms_status *st, ms_error *err);
void ms_capture_learn(const void *p, size_t bytes);
int ms_capture_free(ms_device *d, void *p, size_t bytes);

void ms_capture_note(ms_storage *s);
void ms_capture_note_arena(ms_arena *a);
/* A row is about to read or write this memory. */
static inline void ms_capture_touch(ms_storage *s) {
  if (ms_capture_live)
    ms_capture_note(s);
}
/* s was written in place by op. */
void ms_storage_written(ms_storage *s, const char *op);
/* The gradient of a leaf is looked at, or (fresh) replaced whatever it was. */
ms_status ms_capture_leaf(ms_tensor *leaf, int fresh, ms_error *err);
/* t's bfloat16 copy is read. */
void ms_capture_half(ms_tensor *t);
/* The number of this draw within the step, and where the device counts the draws before it; NULL: nothing is recorded. */
const int64_t *ms_capture_draw(int64_t *n);

/* ---- recordings ---- */
typedef struct ms_recording ms_recording;

ms_status ms_recording_new(ms_recording **out, int nin, ms_tensor *const *in, ms_error *err);
void ms_recording_free(ms_recording *r);
/* The inputs of this call: copied into the recording's buffers; each out[i] is +1 and stands for one. */
ms_status ms_recording_inputs(ms_recording *r, ms_tensor *const *in, ms_tensor **out, ms_error *err);
/* Begins a run; record: into a graph, where the backend has graphs and the step ran once. */
ms_status ms_recording_begin(ms_recording *r, int record, ms_error *err);
/* Ends the run. out[i] (+1) stands for result i until the next call. failed: the step raised, nothing is kept. */
ms_status ms_recording_end(ms_recording *r, int failed, int n, ms_tensor *const *results, ms_tensor **out,
                           ms_error *err);
/* Has it a graph (of use with the parameters and optimizers of now)? And do the gradients fit it? */
int ms_recording_usable(const ms_recording *r);
int ms_recording_ready(const ms_recording *r);
/* Runs the graph for the inputs that were copied last; out has as many results as the recorded step. */
ms_status ms_recording_replay(ms_recording *r, ms_tensor **out, ms_error *err);
int ms_recording_results(const ms_recording *r);
/* The results of its last run are over. */
void ms_recording_expire(ms_recording *r);

#endif
