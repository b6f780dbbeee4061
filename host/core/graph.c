#include "capture.h"
#include "internal.h"
#include "ops.h"
#include "params.h"
#include "spikes.h"

#include <stdio.h>
#include <string.h>

static int recording = 1;
static uint64_t next_seq;
static int collecting;

int ms_grad_enabled(void) {
  return recording;
}

int ms_set_grad_enabled(int on) {
  int was = recording;
  recording = on != 0;
  return was;
}

int ms_grad_collecting(void) {
  return collecting;
}

/* ---- nodes ---- */

static void drop_saved(ms_node *n) {
  for (int i = 0; i < MS_NODE_SAVED; i++) {
    ms_release(n->saved[i].t);
    n->saved[i].t = NULL;
  }
}

static void drop_gathered(ms_node *n) {
  for (int j = 0; j < MS_NODE_OUTPUTS; j++) {
    ms_release(n->dout[j]);
    n->dout[j] = NULL;
  }
}

struct ms_watch {
  int output;
  ms_callback cb;
  ms_watch *next;
};

static void drop_watches(ms_node *n) {
  for (ms_watch *w; (w = n->watches);) {
    n->watches = w->next;
    if (w->cb.release)
      w->cb.release(w->cb.ud);
    ms_free(w);
  }
}

static void node_free(ms_node *n) {
  drop_saved(n);
  drop_watches(n);
  drop_gathered(n);
  for (int i = 0; i < n->nin; i++) {
    ms_release(n->in[i].leaf);
    ms_node_release(n->in[i].node);
  }
  if (n->params_free)
    n->params_free(n->params);
  else
    ms_free(n->params);
  ms_live_counters()->nodes--;
  ms_free(n);
}

/* Freeing a node may release others, directly or through what it saved: they queue up instead of nesting. */
void ms_node_release(ms_node *n) {
  static ms_node *queue;
  static int draining;
  if (!n || --n->refs)
    return;
  n->next = queue;
  queue = n;
  if (draining)
    return;
  draining = 1;
  while (queue) {
    ms_node *first = queue;
    queue = first->next;
    node_free(first);
  }
  draining = 0;
}

int ms_records(int nin, ms_tensor *const *in) {
  for (int i = 0; recording && i < nin; i++)
    if (in[i] && in[i]->requires_grad)
      return 1;
  return 0;
}

ms_status ms_record(ms_node **node, const ms_op *op, int nin, ms_tensor *const *in, int nout, ms_tensor *const *out,
                    ms_error *err) {
  if (node)
    *node = NULL;
  if (!ms_records(nin, in))
    return MS_OK;
  if (nin > MS_NODE_INPUTS || nout > MS_NODE_OUTPUTS)
    return ms_fail(err, MS_EINVAL, "%s: at most %d inputs and %d outputs can be recorded, got %d and %d", op->name,
                   MS_NODE_INPUTS, MS_NODE_OUTPUTS, nin, nout);
  ms_node *n = ms_alloc(sizeof *n);
  if (!n)
    return ms_fail(err, MS_EMEM, "%s: out of memory: no room for a node of the graph", op->name);
  n->refs = 1;
  n->op = op;
  n->seq = ++next_seq;
  n->nin = nin;
  n->nout = nout;
  ms_live_counters()->nodes++;
  for (int i = 0; i < nin; i++) {
    if (!in[i] || !in[i]->requires_grad)
      continue;
    if (in[i]->node) {
      n->in[i].node = in[i]->node;
      n->in[i].node->refs++;
      n->in[i].output = in[i]->output;
    } else {
      n->in[i].leaf = ms_retain(in[i]);
    }
  }
  for (int j = 0; j < nout; j++) {
    if (!out[j])
      continue;
    out[j]->node = n;
    n->refs++;
    out[j]->output = j;
    out[j]->requires_grad = 1;
  }
  if (node && n->refs > 1)
    *node = n;
  ms_node_release(n);
  return MS_OK;
}

ms_status ms_save(ms_node *n, int i, ms_tensor *t, ms_error *err) {
  ms_status st = n && t ? ms_materialise(t, err) : MS_OK;
  return st ? st : ms_save_spikes(n, i, t, err);
}

ms_status ms_save_spikes(ms_node *n, int i, ms_tensor *t, ms_error *err) {
  if (!n || !t)
    return MS_OK;
  ms_tensor *saved;
  ms_status st = ms_detached(&saved, t, err);
  if (st)
    return st;
  ms_release(n->saved[i].t);
  n->saved[i].t = saved;
  n->saved[i].version = ms_version_of(saved);
  if (i >= n->nsaved)
    n->nsaved = i + 1;
  return MS_OK;
}

ms_status ms_saved_get(ms_tensor **out, ms_node *n, int i, ms_error *err) {
  ms_tensor *t = n->saved[i].t;
  ms_status st = t ? ms_capture_check(t, err) : MS_OK;
  if (st)
    return st;
  if (t && ms_version_of(t) != n->saved[i].version)
    return ms_fail(err, MS_EGRAPH,
                   "backward: a tensor saved by '%s' was changed by '%s' before its gradient was computed", n->op->name,
                   ms_writer_of(t));
  *out = t;
  return MS_OK;
}

int ms_wants(const ms_node *n, int i) {
  return n->in[i].node || n->in[i].leaf;
}

/* ---- ops of someone else ---- */

typedef struct callback_params {
  ms_op op;
  ms_callback cb;
  char name[64];
} callback_params;

static ms_status callback_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  callback_params *p = n->params;
  return p->cb.call(p->cb.ud, n->nin, din, n->nout, dout, err);
}

/* Its closure may hold tensors of this very graph: it must not outlive its use. */
static void callback_drop(callback_params *p) {
  if (p->cb.release)
    p->cb.release(p->cb.ud);
  p->cb.release = NULL;
}

static void callback_free(void *params) {
  callback_drop(params);
  ms_free(params);
}

ms_status ms_record_callback(const char *name, ms_callback cb, int nin, ms_tensor *const *in, int nout,
                             ms_tensor *const *out, ms_error *err) {
  ms_node *n = NULL;
  ms_status st = MS_OK;
  callback_params *p = ms_alloc(sizeof *p);
  if (!p) {
    if (cb.release)
      cb.release(cb.ud);
    return ms_fail(err, MS_EMEM, "%s: out of memory: no room for a node of the graph", name);
  }
  p->cb = cb;
  snprintf(p->name, sizeof p->name, "%s", name);
  p->op = (ms_op){p->name, callback_backward};
  for (int j = 0; j < nout && !st; j++)
    if (out[j] && (out[j]->node || out[j]->requires_grad))
      st = ms_fail(err, MS_EGRAPH, "%s: output %d is part of the graph already; compute outputs with recording off",
                   name, j + 1);
  if (!st)
    st = ms_record(&n, &p->op, nin, in, nout, out, err);
  if (n) {
    n->params = p;
    n->params_free = callback_free;
  } else {
    callback_free(p);
  }
  return st;
}

ms_status ms_watch_gradient(ms_tensor *t, ms_callback cb, ms_error *err) {
  t = t->source ? t->source : t;
  ms_watch *w = t->node ? ms_alloc(sizeof *w) : NULL;
  if (!w) {
    if (cb.release)
      cb.release(cb.ud);
    return t->node ? ms_fail(err, MS_EMEM, "watch: out of memory")
                   : ms_fail(err, MS_EGRAPH, "watch: expected a result of a recorded op, got %s without one",
                             ms_tensor_text(t).s);
  }
  *w = (ms_watch){.output = t->output, .cb = cb, .next = t->node->watches};
  t->node->watches = w;
  return MS_OK;
}

/* ---- backward ---- */

/* Nodes to visit, the youngest first; each is retained while it waits. */
typedef struct visit {
  ms_node **heap;
  int n, room;
  /* ms_grad_of: what is asked for, and what was found */
  int ninputs;
  ms_tensor *const *inputs;
  ms_tensor **found;
  uint64_t floor; /* nodes up to this one need not run */
  int retain;
} visit;

static ms_status heap_push(visit *v, ms_node *n, ms_error *err) {
  if (n->visiting)
    return MS_OK;
  if (v->n == v->room) {
    int room = v->room ? 2 * v->room : 64;
    ms_node **heap = ms_alloc((size_t)room * sizeof *heap);
    if (!heap)
      return ms_fail(err, MS_EMEM, "backward: out of memory: no room to visit %d nodes", room);
    if (v->n)
      memcpy(heap, v->heap, (size_t)v->n * sizeof *heap);
    ms_free(v->heap);
    v->heap = heap;
    v->room = room;
  }
  int i = v->n++;
  for (; i > 0 && v->heap[(i - 1) / 2]->seq < n->seq; i = (i - 1) / 2)
    v->heap[i] = v->heap[(i - 1) / 2];
  v->heap[i] = n;
  n->visiting = 1;
  n->refs++;
  return MS_OK;
}

/* The caller takes over the reference. */
static ms_node *heap_pop(visit *v) {
  ms_node *top = v->heap[0], *last = v->heap[--v->n];
  int i = 0;
  for (int child; (child = 2 * i + 1) < v->n; i = child) {
    if (child + 1 < v->n && v->heap[child + 1]->seq > v->heap[child]->seq)
      child++;
    if (v->heap[child]->seq < last->seq)
      break;
    v->heap[i] = v->heap[child];
  }
  v->heap[i] = last;
  top->visiting = 0;
  return top;
}

/* *sum += g, where *sum may be shared with others as long as it is the first term. */
static ms_status gather(ms_tensor **sum, ms_tensor *g, ms_error *err) {
  if (!*sum) {
    *sum = ms_retain(g);
    return MS_OK;
  }
  if ((*sum)->refs == 1 && (*sum)->storage && (*sum)->storage->refs == 1 && (*sum)->dtype == MS_F32 &&
      ms_is_default(*sum))
    return ms_axpy_(*sum, 1, 1, g, err);
  ms_tensor *total = NULL;
  ms_status st = ms_binary(&total, MS_BINARY_add, *sum, g, err);
  if (st)
    return st;
  ms_release(*sum);
  *sum = total;
  return MS_OK;
}

/* Hands the gradient g of input i of node n on. */
static ms_status route(visit *v, ms_node *n, int i, ms_tensor *g, ms_error *err) {
  ms_edge *e = &n->in[i];
  if (e->node) {
    ms_status st = heap_push(v, e->node, err);
    return st ? st : gather(&e->node->dout[e->output], g, err);
  }
  if (!e->leaf)
    return MS_OK;
  if (!ms_same_shape(e->leaf, g))
    return ms_fail(err, MS_EGRAPH, "backward: '%s' gave a gradient of shape %s for an input of shape %s", n->op->name,
                   ms_shape_text(g->ndim, g->size).s, ms_shape_text(e->leaf->ndim, e->leaf->size).s);
  if (!v->inputs)
    return ms_accumulate(e->leaf, g, err);
  for (int k = 0; k < v->ninputs; k++)
    if (v->inputs[k] == e->leaf)
      return gather(&v->found[k], g, err);
  return MS_OK;
}

/* Runs one node: its gradients are complete, since everything that read its outputs is younger. */
static ms_status run_node(visit *v, ms_node *n, ms_error *err) {
  ms_tensor *din[MS_NODE_INPUTS] = {NULL};
  ms_status st = ms_interrupt_check(err);
  for (int pass = 0; pass < 2 && !st && n->observed; pass++) {
    if (pass == 1 && n->fold)
      st = n->fold(n, err);
    for (int k = 0; k < v->ninputs && !st; k++)
      if (v->inputs[k]->node == n && n->dout[v->inputs[k]->output] && (v->inputs[k]->output == 0) == pass)
        st = gather(&v->found[k], n->dout[v->inputs[k]->output], err);
  }
  for (ms_watch *w = v->inputs ? NULL : n->watches; w && !st; w = w->next)
    if (n->dout[w->output])
      st = w->cb.call(w->cb.ud, 0, NULL, 1, &n->dout[w->output], err);
  if (!st && n->seq <= v->floor)
    goto done;
  if (!st && n->released)
    st = ms_fail(err, MS_EGRAPH,
                 "backward: what '%s' saved was released by an earlier backward (retain_graph = true keeps it)",
                 n->op->name);
  if (!st)
    st = n->op->backward(n, din, n->dout, err);
  recording = 0;
  drop_gathered(n);
  if (!st && !v->retain) {
    n->released = 1;
    drop_saved(n);
    drop_watches(n);
    if (n->params_free == callback_free)
      callback_drop(n->params);
  }
  for (int i = 0; i < n->nin; i++) {
    ms_tensor *g = din[i];
    din[i] = NULL;
    if (g && !st)
      st = route(v, n, i, g, err);
    ms_release(g);
  }
done:
  drop_gathered(n);
  return st;
}

/* d(root) = seed, or one where there is none. */
static ms_status make_seed(ms_tensor **out, ms_tensor *root, ms_tensor *seed, ms_error *err) {
  if (!root->requires_grad)
    return ms_fail(err, MS_EGRAPH, "backward: the tensor does not require grad: nothing was recorded on the way to it");
  if (!seed && ms_numel(root) != 1)
    return ms_fail(err, MS_ESHAPE,
                   "backward: expected a tensor of one element, got %s; reduce it, or give a gradient of its shape",
                   ms_shape_text(root->ndim, root->size).s);
  if (!seed)
    return ms_full(out, ms_tensor_device(root), MS_F32, root->ndim, root->size, 1, err);
  if (!ms_same_shape(seed, root) || !ms_is_float(seed->dtype))
    return ms_fail(err, MS_ESHAPE, "backward: gradient: expected float32 %s, got %s",
                   ms_shape_text(root->ndim, root->size).s, ms_tensor_text(seed).s);
  return ms_detached(out, seed, err);
}

static ms_status run(visit *v, ms_tensor *root, ms_tensor *seed, ms_error *err) {
  int was = recording, was_collecting = collecting;
  ms_tensor *g = NULL;
  recording = 0;
  collecting = v->inputs != NULL;
  ms_status st = make_seed(&g, root, seed, err);
  if (!st && root->node) {
    st = heap_push(v, root->node, err);
    if (!st)
      st = gather(&root->node->dout[root->output], g, err);
  } else if (!st && !v->inputs) {
    st = ms_accumulate(root, g, err);
  }
  for (int k = 0; k < v->ninputs && !st && !root->node; k++)
    if (v->inputs[k] == root)
      st = gather(&v->found[k], g, err);
  ms_release(g);
  while (v->n) {
    ms_node *n = heap_pop(v);
    if (!st)
      st = run_node(v, n, err);
    drop_gathered(n);
    ms_node_release(n);
  }
  ms_free(v->heap);
  recording = was;
  collecting = was_collecting;
  return st;
}

ms_status ms_backward(ms_tensor *root, ms_tensor *seed, int retain_graph, ms_error *err) {
  visit v = {.retain = retain_graph};
  return run(&v, root, seed, err);
}

ms_status ms_grad_of(ms_tensor **out, ms_tensor *root, ms_tensor *seed, int n, ms_tensor *const *inputs,
                     int retain_graph, ms_error *err) {
  visit v = {.ninputs = n, .inputs = inputs, .found = out, .retain = retain_graph, .floor = UINT64_MAX};
  if (n < 1)
    return ms_fail(err, MS_EINVAL, "grad: inputs: expected at least one tensor");
  for (int k = 0; k < n; k++) {
    if (!inputs[k]->requires_grad)
      return ms_fail(err, MS_EGRAPH, "grad: inputs: tensor %d does not require grad", k + 1);
    uint64_t seq = inputs[k]->node ? inputs[k]->node->seq : 0;
    v.floor = seq < v.floor ? seq : v.floor;
  }
  for (int k = 0; k < n; k++) {
    out[k] = NULL;
    if (inputs[k]->node)
      inputs[k]->node->observed++;
  }
  ms_status st = run(&v, root, seed, err);
  for (int k = 0; k < n; k++)
    if (inputs[k]->node)
      inputs[k]->node->observed--;
  for (int k = 0; k < n && st; k++) {
    ms_release(out[k]);
    out[k] = NULL;
  }
  return st;
}

/* ---- gradients of leaves ---- */

ms_status ms_grad(ms_tensor **out, ms_tensor *leaf, ms_error *err) {
  if (!leaf->node && ms_capture_inside()) {
    ms_status noted = ms_capture_leaf(leaf, 0, err);
    if (noted)
      return noted;
  }
  if (leaf->pending && leaf->pending->set) {
    ms_status st = ms_pending_flush(leaf, err);
    if (st)
      return st;
  }
  *out = leaf->grad;
  return MS_OK;
}

/* A gradient of its own for leaf, a copy of g. */
static ms_status copy_gradient(ms_tensor **out, ms_tensor *leaf, ms_tensor *g, ms_error *err) {
  ms_tensor *grad = NULL;
  ms_status st;
  if (leaf->storage && leaf->storage->arena)
    st = ms_arena_grad_alias(&grad, leaf, err);
  else
    st = ms_tensor_new(&grad, ms_tensor_device(leaf), MS_F32, leaf->ndim, leaf->size, err);
  if (!st)
    st = ms_copy_(grad, g, err);
  if (st)
    ms_release(grad);
  else
    *out = grad;
  return st;
}

ms_status ms_gradient_new(ms_tensor **out, const ms_node *n, int i, ms_device *d, int ndim, const int64_t *size,
                          ms_error *err) {
  ms_tensor *leaf = n->in[i].leaf;
  int fits = leaf && !collecting && !leaf->grad && leaf->ndim == ndim && ms_tensor_device(leaf) == d;
  for (int k = 0; k < ndim && fits; k++)
    fits = leaf->size[k] == size[k];
  return fits && ms_arena_grad_free(leaf) ? ms_arena_grad_alias(out, leaf, err)
                                          : ms_tensor_new(out, d, MS_F32, ndim, size, err);
}

ms_status ms_accumulate(ms_tensor *leaf, ms_tensor *g, ms_error *err) {
  if (!ms_same_shape(leaf, g))
    return ms_fail(err, MS_ESHAPE, "grad: expected the shape of its tensor, %s, got %s",
                   ms_shape_text(leaf->ndim, leaf->size).s, ms_shape_text(g->ndim, g->size).s);
  int was = ms_set_grad_enabled(0), in_arena = leaf->storage && leaf->storage->arena;
  ms_status st = ms_capture_leaf(leaf, 0, err);
  if (st)
    ;
  else if (leaf->grad)
    st = ms_axpy_(leaf->grad, 1, 1, g, err);
  else if (!in_arena && g->refs == 1 && g->storage && g->storage->refs == 1 && g->dtype == MS_F32 && ms_is_default(g))
    leaf->grad = ms_retain(g); /* backward made it and is about to let go */
  else if (in_arena && ms_arena_grad_is(leaf, g))
    leaf->grad = ms_retain(g); /* backward wrote it where it belongs */
  else
    st = copy_gradient(&leaf->grad, leaf, g, err);
  ms_set_grad_enabled(was);
  return st;
}

ms_status ms_set_grad(ms_tensor *leaf, ms_tensor *g, ms_error *err) {
  ms_tensor *grad = NULL;
  ms_status st = MS_OK;
  if (g && (!ms_same_shape(leaf, g) || !ms_is_float(g->dtype)))
    return ms_fail(err, MS_ESHAPE, "grad: expected float32 %s, the shape of its tensor, got %s",
                   ms_shape_text(leaf->ndim, leaf->size).s, ms_tensor_text(g).s);
  if (g && ms_tensor_device(g) != ms_tensor_device(leaf))
    return ms_fail(err, MS_EDEVICE, "grad: expected a tensor on %s, got one on %s", ms_tensor_device(leaf)->name,
                   ms_tensor_device(g)->name);
  if ((st = ms_capture_leaf(leaf, g != leaf->grad || !g, err)))
    return st;
  int was = ms_set_grad_enabled(0);
  if (g == leaf->grad && g)
    grad = ms_retain(g);
  else if (g)
    st = copy_gradient(&grad, leaf, g, err);
  ms_set_grad_enabled(was);
  if (st)
    return st;
  ms_release(leaf->grad);
  leaf->grad = grad;
  ms_pending_drop(leaf);
  return MS_OK;
}

ms_status ms_set_requires_grad(ms_tensor *t, int on, ms_error *err) {
  if (on && !ms_is_float(t->dtype))
    return ms_fail(err, MS_ETYPE, "requires_grad_: expected a tensor of a float type, got %s", ms_dtype_name(t->dtype));
  if (t->node && !on)
    return ms_fail(err, MS_EGRAPH, "requires_grad_: the tensor is a result of '%s'; detach() it instead",
                   t->node->op->name);
  if (t->storage && t->storage->arena && t->requires_grad != (on || t->node))
    ms_capture_changed();
  t->requires_grad = on || t->node;
  return MS_OK;
}
