/* Flat arenas and optimizers. Parameters lie in one arena, their gradients in a second of the same layout; an
** optimizer owns moment arenas of the same layout and is a list of ranges with settings. Gathering moves bytes
** under the existing storage object, so every handle and view taken before stays the parameter. */
#ifndef MS_PARAMS_H
#define MS_PARAMS_H

#include "graph.h"

/* Gathers those of params[] (float32 leaves, any duplicates) that lie in no arena yet into one new arena of their
** device. */
ms_status ms_gather_params(int n, ms_tensor *const *params, ms_error *err);
ms_arena *ms_arena_retain(ms_arena *a);
void ms_arena_release(ms_arena *a);
/* Where t lies: its arena (borrowed, NULL: none) and the offset in elements. */
ms_arena *ms_arena_of(const ms_tensor *t, int64_t *offset);
int ms_arena_of_gradients(const ms_storage *s); /* a place in an arena of gradients, or in a shadow */
/* Base pointers; grad (may be NULL) is allocated when first asked for. */
ms_status ms_arena_base(ms_real **param, ms_real **grad, ms_arena *a, ms_error *err);

/* The place of a leaf's gradient in the gradient arena: a tensor of the leaf's shape and strides (+1), contents
** undefined. A gradient that someone still holds there moves to memory of its own first, values kept. A leaf that
** is no whole parameter of an arena gets fresh memory. */
ms_status ms_arena_grad_alias(ms_tensor **out, ms_tensor *leaf, ms_error *err);
int ms_arena_grad_free(const ms_tensor *leaf);                      /* leaf has such a place, and nobody holds it */
int ms_arena_grad_is(const ms_tensor *leaf, const ms_tensor *grad); /* does grad lie there? */

/* ---- bfloat16 shadows of parameters (autocast.h) ---- */
/* A storage (+1) for s.half, contents undefined: a place in the shadow of the arena, which is allocated when first
** asked for, or memory of its own where s lies in no arena. */
ms_status ms_arena_half(ms_storage **out, const ms_storage *s, ms_error *err);
/* Where a row writes the copies of all parameters of s's arena, when s has its copy there; else NULL. */
ms_bf16 *ms_arena_shadow(const ms_storage *s);

/* ---- another device (move.c) ---- */
/* Parameters and buffers to device `to`, under the storages they have, with gradients and the state of optimizers. All
** or nothing; a pending term is added to its gradient first. */
ms_status ms_move_params(int n, ms_tensor *const *params, ms_device *to, ms_error *err);
int ms_arena_covers(const ms_arena *a, int n, ms_tensor *const *t); /* are these all its parameters? */
ms_status ms_arena_each_memory(ms_arena *a, void *ud,
                               ms_status (*visit)(void *ud, void **data, ms_device **device, size_t bytes,
                                                  ms_error *err),
                               ms_error *err);
void ms_arena_moved(ms_arena *a); /* its memory lies elsewhere: gradients follow, shadows are dropped */
void ms_arena_follow(ms_storage *s, int64_t offset); /* so does a parameter's storage */
/* The storages of each optimizer that has parameters in these arenas. It must have no others. */
typedef ms_status (*ms_storage_visit)(void *ud, ms_storage *s, ms_error *err);
ms_status ms_optim_each_state(int n, ms_arena *const *arenas, ms_storage_visit visit, void *ud, ms_error *err);

/* ---- pending TRT terms (decision 14) ---- */
int ms_trt_same(const ms_trt *a, const ms_trt *b);
/* The total of a scale that was pending and the one that came, for parameters in a row that share both (retained). */
typedef struct ms_scale_total {
  ms_tensor *before, *total;
} ms_scale_total;
/* Leaves scale * dR/dw (scale: see ms_pending) on a leaf that lies in an arena; adds to what is pending there, or
** flushes that first where settings differ. Nothing is read on the host. *same begins empty, serves calls with one
** scale, and the caller releases what is in it afterwards. */
ms_status ms_pending_set(ms_tensor *leaf, const ms_trt *trt, ms_tensor *scale, ms_scale_total *same, ms_error *err);
/* The same with what was pending once, as a step that runs again leaves it. */
ms_status ms_pending_restore(ms_tensor *leaf, const ms_pending *term, ms_error *err);
/* The device pointer to what the pending term is scaled with. */
const ms_real *ms_pending_scale(const ms_tensor *leaf);
/* Adds the term to leaf.grad, which it creates where there is none. */
ms_status ms_pending_flush(ms_tensor *leaf, ms_error *err);
/* Forgets the term (leaf freed, gradient set to nil). Never fails. */
void ms_pending_drop(ms_tensor *leaf);
/* Before anything writes the memory of a parameter: the term is of the values that backward saw. */
ms_status ms_pending_settle(ms_storage *s, ms_error *err);

typedef struct ms_optim ms_optim;
typedef enum ms_optim_kind { MS_OPTIM_SGD, MS_OPTIM_ADAM } ms_optim_kind;

ms_status ms_optim_new(ms_optim **out, ms_optim_kind kind, ms_error *err);
void ms_optim_free(ms_optim *o);
/* Adds parameters with their settings (step, correction*, first are ignored) as group *group (0-based out). A
** parameter twice is MS_EINVAL naming it. */
ms_status ms_optim_add_group(ms_optim *o, int n, ms_tensor *const *params, const ms_hyper *settings, int *group,
                             ms_error *err);
ms_status ms_optim_set(ms_optim *o, int group, const ms_hyper *settings, ms_error *err);
ms_status ms_optim_get(const ms_optim *o, int group, ms_hyper *settings, ms_error *err);
/* One step over every parameter that has a gradient or a pending term: all or nothing. */
ms_status ms_optim_step(ms_optim *o, ms_error *err);
ms_status ms_optim_zero_grad(ms_optim *o, ms_error *err);
/* State of the i-th parameter (order of addition), for checkpoints: m, v +1 float32 of the parameter's shape (NULL
** before the first step), steps taken. */
int ms_optim_count(const ms_optim *o);
ms_status ms_optim_state(ms_optim *o, int i, ms_tensor **param, ms_tensor **m, ms_tensor **v, double *step,
                         ms_error *err);
ms_status ms_optim_set_state(ms_optim *o, int i, ms_tensor *m, ms_tensor *v, double step, ms_error *err);

/* L2 norm [] over all gradients (pending terms added first) and scaling when above max_norm,
** torch.nn.utils.clip_grad_norm_. Nothing is read on the host. */
ms_status ms_clip_grad_norm(ms_tensor **norm, int n, ms_tensor *const *params, double max_norm, ms_error *err);
ms_status ms_clip_grad_value(int n, ms_tensor *const *params, double limit, ms_error *err);

#endif
