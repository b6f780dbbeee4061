/* What a neuron gives: its spikes, its last membrane and its counts. Nothing is computed before somebody reads one of
** them, so that who reads first decides what the row writes: bits for whom bits are enough, sums of 2x2 windows where
** an average pooling comes first, the places with a gradient where a convolution comes first. Later readers of
** something else run the row once more. Bits become bytes for everybody else.
**
** The tensors of one call share a record (ms_tensor.spikes). A tensor of the spikes has no storage until somebody
** needs bytes; all tensors of a record share these bytes, so that versions tell who wrote them as for any view. */
#ifndef MS_SPIKES_H
#define MS_SPIKES_H

#include "tensor.h"

typedef enum ms_part { MS_PART_SPIKES, MS_PART_MEMBRANE, MS_PART_COUNTS, MS_PARTS } ms_part;

/* The row's inputs: dense tensors, NULL where there is none. */
enum { MS_FIRE_Y, MS_FIRE_A, MS_FIRE_B, MS_FIRE_R, MS_FIRE_V0, MS_FIRE_W, MS_FIRE_INPUTS };

/* in: retained; a: sizes and settings, no pointers. size: of the spikes. narrow: the surrogate is zero away from the
** threshold. The caller releases its hold once the tensors are made. */
ms_status ms_spikes_new(ms_spikes **out, const ms_neuron_args *a, ms_tensor *const *in, int ndim, const int64_t *size,
                        int narrow, ms_error *err);
void ms_spikes_release(ms_spikes *r);
/* A tensor (+1) of one part, not computed yet. */
ms_status ms_spikes_tensor(ms_tensor **out, ms_spikes *r, ms_part part, ms_error *err);
/* Computes what is still open for the tensors that exist. */
ms_status ms_spikes_compute(ms_spikes *r, ms_error *err);
/* Another tensor (+1) of t's part, without storage. */
ms_status ms_spikes_alias(ms_tensor **out, ms_tensor *t, ms_error *err);
ms_status ms_spikes_materialise(ms_tensor *t, ms_error *err);
void ms_spikes_leave(ms_tensor *t); /* t has its storage, or is released */
/* Is one of the tensors that it is or will be read from such? */
int ms_spikes_reads(const ms_spikes *r, int (*is)(const ms_tensor *t));
ms_device *ms_spikes_device(const ms_spikes *r);
/* Before memory is written that spikes are yet to be computed from: computes them. */
ms_status ms_spikes_flush(ms_storage *s, ms_error *err);

/* How a consumer of bits takes t: *out (+1) is dense in the default layout, either bits without storage or as ms_dense
** gives it; ms_spikes_data reads it. active: also note where the surrogate is not zero, where that costs no extra
** row. */
ms_status ms_spikes_of(ms_tensor **out, ms_tensor *t, int active, ms_error *err);
ms_data ms_spikes_data(const ms_tensor *t); /* NULL gives a NULL pointer */
/* MS_BITS where t's gradient matters, or NULL (borrowed), and its share of ones. */
ms_tensor *ms_spikes_active(const ms_tensor *t, double *density);
/* The version of t's memory and who wrote it last, whatever its form. */
uint32_t ms_version_of(const ms_tensor *t);
const char *ms_writer_of(const ms_tensor *t);

/* The 2x2 average of spikes x that nobody has read yet, in the neuron's row; *out NULL where it does not apply, *why
** says why. Not connected to the graph. */
ms_status ms_spikes_pool(ms_tensor **out, ms_tensor *x, const char **why, ms_error *err);
/* Spikes as bits (default) or as bytes. Returns what it was. */
int ms_set_packing(int on);

#endif
