/* The tape. A node is one recorded op; it is owned by the tensors it produced and by the nodes that read them,
** ordered by a sequence number, and knows nothing of the tensors themselves: leaves are edges to the leaf, others
** edges to a node's output. */
#ifndef MS_GRAPH_H
#define MS_GRAPH_H

#include "tensor.h"

#define MS_NODE_INPUTS 8
#define MS_NODE_OUTPUTS 3
#define MS_NODE_SAVED 12

typedef struct ms_op {
  const char *name;
  /* din[i] (+1 each, NULL where no gradient flows or none is wanted: see ms_wants) from dout[j] (borrowed; NULL:
  ** zero). Runs with recording off. */
  ms_status (*backward)(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err);
} ms_op;

typedef struct ms_edge {
  ms_node *node; /* retained */
  int output;
  ms_tensor *leaf; /* retained; exactly one of node and leaf, or neither (no gradient) */
} ms_edge;

typedef struct ms_saved {
  ms_tensor *t; /* detached alias, retained; NULL: none */
  uint32_t version;
} ms_saved;

typedef struct ms_watch ms_watch;

struct ms_node {
  int refs;
  const ms_op *op;
  uint64_t seq;
  int nin, nout, nsaved, released;
  ms_edge in[MS_NODE_INPUTS];
  ms_saved saved[MS_NODE_SAVED];
  ms_tensor *dout[MS_NODE_OUTPUTS]; /* gradients gathered during a backward */
  int visiting;
  int observed; /* searches under way that hand out the gradient of an output */
  void *params; /* small, op's own; freed with params_free or ms_free */
  void (*params_free)(void *params);
  /* NULL, or brings dout[0] up to date where an output that was computed from output 0 (a pooling in the neuron's row)
  ** holds part of its gradient */
  ms_status (*fold)(ms_node *n, ms_error *err);
  ms_watch *watches; /* who reads gradients of outputs along */
  ms_node *next;     /* queue of nodes to release */
};

int ms_grad_enabled(void);
int ms_set_grad_enabled(int on); /* returns what it was */

/* Would an op on these inputs be recorded? (grad mode is on and one of them requires grad) */
int ms_records(int nin, ms_tensor *const *in);
/* Records op over inputs `in` (NULL entries allowed) for outputs `out`, which must be fresh. A no-op unless
** ms_records. *node (may be NULL) receives the borrowed node to hang saved tensors and params on, or NULL when
** nothing was recorded. When it fails, out is unchanged. */
ms_status ms_record(ms_node **node, const ms_op *op, int nin, ms_tensor *const *in, int nout, ms_tensor *const *out,
                    ms_error *err);
/* Keeps t for backward at index i; an in-place write in between becomes an error that names both ops. Saving an
** output is fine (a detached alias is kept). */
ms_status ms_save(ms_node *n, int i, ms_tensor *t, ms_error *err);
/* The same for a reader that takes spikes as bits, too (ms_spikes_data); ms_save turns them into bytes. */
ms_status ms_save_spikes(ms_node *n, int i, ms_tensor *t, ms_error *err);
/* Borrowed; checks the version. *out is NULL when nothing was saved at i. */
ms_status ms_saved_get(ms_tensor **out, ms_node *n, int i, ms_error *err);
int ms_wants(const ms_node *n, int i); /* does input i lead to anything that requires grad? */

/* dL/d(leaf) += ..., from root (one element, or with seed of root's shape). Releases what the graph saved, unless
** retain_graph. After a failure (an interrupt, say) leaves may have received a part of their gradients; nothing
** else is left behind. */
ms_status ms_backward(ms_tensor *root, ms_tensor *seed, int retain_graph, ms_error *err);
/* Gradients of root with respect to inputs[], without touching .grad; out[i] +1 or NULL when unreached. */
ms_status ms_grad_of(ms_tensor **out, ms_tensor *root, ms_tensor *seed, int n, ms_tensor *const *inputs,
                     int retain_graph, ms_error *err);

/* 1 while ms_grad_of runs: a backward must then return its gradients in din and leave no pending term. */
int ms_grad_collecting(void);

/* The gradient as anyone but the optimizer sees it: adds a pending term first. *out borrowed, NULL when there is
** none. */
ms_status ms_grad(ms_tensor **out, ms_tensor *leaf, ms_error *err);
/* Float32 memory for the gradient of input i of n: where that is a leaf without one, the place in the arena where its
** gradient belongs, so that ms_accumulate copies nothing. */
ms_status ms_gradient_new(ms_tensor **out, const ms_node *n, int i, ms_device *d, int ndim, const int64_t *size,
                          ms_error *err);
/* leaf.grad += g; writes into the gradient arena where the leaf lies in one. */
ms_status ms_accumulate(ms_tensor *leaf, ms_tensor *g, ms_error *err);
ms_status ms_set_grad(ms_tensor *leaf, ms_tensor *g, ms_error *err); /* g NULL: none, pending term dropped */
ms_status ms_set_requires_grad(ms_tensor *t, int on, ms_error *err);
void ms_node_release(ms_node *n); /* iterative: chains of any length */

/* An op whose backward is someone else's code (Lua). call gets the node's ud and fills din like ms_op.backward. */
typedef struct ms_callback {
  ms_status (*call)(void *ud, int nin, ms_tensor **din, int nout, ms_tensor *const *dout, ms_error *err);
  void (*release)(void *ud);
  void *ud;
} ms_callback;
ms_status ms_record_callback(const char *name, ms_callback cb, int nin, ms_tensor *const *in, int nout,
                             ms_tensor *const *out, ms_error *err); /* takes ownership of cb, also when it fails */
/* cb gets the gradient of t, a result of a recorded op, in every ms_backward, when it is complete and before it is used;
** it returns none. Of a view that repeats one image it is the gradient of that image. Of spikes it may be only what the
** surrogate passes, where an input gradient is computed for no more. Takes ownership of cb, also when it fails. */
ms_status ms_watch_gradient(ms_tensor *t, ms_callback cb, ms_error *err);

#endif
