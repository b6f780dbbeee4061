/* Storage and tensors. The library is single-threaded by contract: counts are plain ints.
**
** A storage is bytes on a device. A tensor is a shape over a storage; a view is a second tensor on the same storage.
** Fresh tensors of 4 or more dimensions are channels-last: [.., C, H, W] lies in memory as [.., H, W, C] (weights
** [Cout, Cin, kh, kw] as [Cout][kh][kw][Cin]); others are row-major. Everything a user sees follows the logical
** order.
**
** A tensor may be lazy (normalisation, decision "fusion follows what is called"): it has a shape but no storage
** yet. Reading it through ms_data_of or any op materialises it; only the neuron op and the residual add look at
** ms_tensor.lazy first. A neuron's results are computed when they are first read, and its spikes may stay bits
** (spikes.h): such a tensor has no storage either. */
#ifndef MS_TENSOR_H
#define MS_TENSOR_H

#include "device.h"

typedef struct ms_arena ms_arena;
typedef struct ms_storage ms_storage;
typedef struct ms_node ms_node;
typedef struct ms_lazy ms_lazy;
typedef struct ms_spikes ms_spikes;
typedef struct ms_tensor ms_tensor;

struct ms_storage {
  int refs;
  ms_device *device;
  void *data;
  size_t bytes;
  uint32_t version;   /* in-place writes so far */
  const char *writer; /* op of the last one, for messages; static string */
  ms_arena *arena;    /* owner of data when gathered (retained); NULL: the storage owns it */
  int late;           /* neurons that are yet to be computed from this memory */
  /* bfloat16 copy of float32 data, element by element (autocast.h); NULL: never asked for. It is up to date while
  ** half_version is version; half_used: read since an optimizer last looked. */
  struct ms_storage *half;
  uint32_t half_version;
  int half_used;
  struct ms_storage *owner; /* whose memory this is (retained), or NULL */
  struct ms_lease *lease;   /* until when the memory is this storage's, or NULL (capture.h) */
  uint32_t noted;           /* the recording that knows it */
};

/* What a leaf owes its gradient: the TRT term that backward left for the optimizer to fuse (decision 14). */
typedef struct ms_pending {
  int set;
  ms_tensor *scale; /* dL/d(value): one float32 on the leaf's device, which nobody writes any more (retained) */
  ms_trt trt;
} ms_pending;

struct ms_tensor {
  int refs;
  ms_storage *storage; /* NULL while lazy, or bits */
  int64_t offset;      /* elements */
  int ndim;
  int64_t size[MS_MAX_DIMS], stride[MS_MAX_DIMS];
  ms_dtype dtype;
  ms_real scale; /* spike: value = byte * scale */
  int peak;      /* spike: largest byte that can occur */
  /* autograd */
  int requires_grad;
  ms_node *node; /* producer, NULL for a leaf (retained) */
  int output;    /* which of the node's outputs */
  ms_tensor *grad;
  ms_pending *pending;
  ms_lazy *lazy;     /* how to compute it, while unmaterialised; kept after for a fused consumer */
  ms_spikes *spikes; /* what a neuron gave, while not computed or while there are bits (spikes.h) */
  int part;          /* ms_part of it */
  ms_tensor *source; /* expanded view over dimension 0: the [1, ...] tensor it repeats (static input), retained */
  double density;    /* share of non-zero elements where known (spikes, counted by the neuron), else -1 */
  int nonleaf_view;  /* 1: shares memory with a tensor of the graph; in-place writes under autograd are refused */
  char name[64];     /* parameter name, "" otherwise */
};

/* ---- life ---- */
/* out: +1. Fresh memory, contents undefined; layout as said above. */
ms_status ms_tensor_new(ms_tensor **out, ms_device *d, ms_dtype dtype, int ndim, const int64_t *size, ms_error *err);
/* A second tensor on t's storage with its own shape; not connected to the graph. */
ms_status ms_tensor_alias(ms_tensor **out, ms_tensor *t, int ndim, const int64_t *size, const int64_t *stride,
                          int64_t offset, ms_error *err);
ms_tensor *ms_retain(ms_tensor *t); /* returns t */
void ms_release(ms_tensor *t);      /* NULL is fine */
ms_storage *ms_storage_retain(ms_storage *s);
void ms_storage_release(ms_storage *s);

/* ---- asking ---- */
int64_t ms_numel(const ms_tensor *t);
size_t ms_dtype_size(ms_dtype dtype);
const char *ms_dtype_name(ms_dtype dtype);
int ms_dtype_find(const char *name); /* -1: unknown. "float32", "float", "bfloat16", "spike", "uint8", "int64", ... */
int ms_is_float(ms_dtype dtype);     /* float32, bfloat16, spike: may require grad */
ms_device *ms_tensor_device(const ms_tensor *t);
ms_text ms_tensor_text(const ms_tensor *t); /* "float32 [2, 3]" */
/* The strides a fresh tensor of this shape gets. */
void ms_default_strides(int ndim, const int64_t *size, int64_t *stride);
int ms_is_default(const ms_tensor *t); /* dense in the default layout */
int ms_same_shape(const ms_tensor *a, const ms_tensor *b);

/* First element; materialises a lazy tensor first (which can fail). */
ms_status ms_data_of(ms_data *out, ms_tensor *t, ms_error *err);
ms_status ms_materialise(ms_tensor *t, ms_error *err);
/* +1: t itself where it is dense in the default layout (and of type dtype, or dtype -1), else a copy. Not
** differentiable. */
ms_status ms_dense(ms_tensor **out, ms_tensor *t, int dtype, ms_error *err);

/* ---- accounting ---- */
typedef struct ms_live {
  int64_t storages, tensors, nodes, arenas, bytes;
} ms_live;
ms_live ms_live_counts(void);
/* Called at the head of an allocation once `bytes allocated since the last call` passes max(64 MiB, half of the
** live bytes), and again before an out-of-memory error is given. May run finalizers, that is, re-enter core. */
void ms_set_memory_hook(void (*hook)(void *ud), void *ud);
/* Core's own heap blocks go through these, so that a test can fail the n-th one; n < 0: never. */
void *ms_alloc(size_t bytes); /* zeroed */
void ms_free(void *p);
void ms_fail_allocation(int64_t n);
int64_t ms_allocations(void);  /* so far, device allocations included */
int64_t ms_fresh_blocks(void); /* heap blocks so far that no freed block could serve */

/* ---- borders ---- */
/* Host bytes in logical row-major order, n elements of t's own type (spike: as ms_real values). Synchronises. */
ms_status ms_read(ms_tensor *t, void *host, ms_error *err);
ms_status ms_write(ms_tensor *t, const void *host, ms_error *err);
/* In-place write bookkeeping: bumps the version, refuses what autograd cannot follow. Call before writing t's
** memory. */
ms_status ms_begin_write(ms_tensor *t, const char *op, ms_error *err);

#endif
