/* Optimizers over arenas. A step first finds out what it will do and gets all memory it needs; then it writes. */
#include "params.h"
#include "autocast.h"
#include "capture.h"
#include "internal.h"
#include "ops.h"

#include <string.h>

typedef struct member {
  ms_tensor *t; /* retained, and with it the arena */
  int group, slot;
  int64_t offset;
} member;

/* What belongs to one arena. */
typedef struct slot {
  ms_arena *arena;
  int64_t end;      /* elements that the moments must span */
  ms_tensor *m, *v; /* NULL before the first step */
} slot;

struct ms_optim {
  ms_optim_kind kind;
  int nmembers, ngroups, nslots;
  member *members;
  ms_hyper *groups;
  slot *slots;
  ms_optim *next; /* all of them */
  /* Device array of ms_hyper, one for each member that was there when it was made; it has the step counts. */
  ms_tensor *hyper;
};

static ms_optim *all;

static const char *op_name(const ms_optim *o) {
  return o->kind == MS_OPTIM_SGD ? "sgd" : "adam";
}

ms_status ms_optim_new(ms_optim **out, ms_optim_kind kind, ms_error *err) {
  ms_optim *o = ms_alloc(sizeof *o);
  if (!o)
    return ms_fail(err, MS_EMEM, "optimizer: out of memory");
  o->kind = kind;
  o->next = all;
  all = o;
  *out = o;
  return MS_OK;
}

void ms_optim_free(ms_optim *o) {
  if (!o)
    return;
  ms_optim **at = &all;
  while (*at && *at != o)
    at = &(*at)->next;
  if (*at)
    *at = o->next;
  for (int i = 0; i < o->nmembers; i++)
    ms_release(o->members[i].t);
  for (int i = 0; i < o->nslots; i++) {
    ms_release(o->slots[i].m);
    ms_release(o->slots[i].v);
  }
  ms_release(o->hyper);
  ms_free(o->members);
  ms_free(o->groups);
  ms_free(o->slots);
  ms_free(o);
}

/* ---- settings ---- */
static ms_status check_settings(const ms_optim *o, const ms_hyper *h, ms_error *err) {
  const char *op = op_name(o);
  const struct {
    const char *name;
    double value, limit;
  } range[] = {{"lr", h->lr, INFINITY},
               {"weight_decay", h->weight_decay, INFINITY},
               {"momentum", h->momentum, INFINITY},
               {"dampening", h->dampening, INFINITY},
               {"eps", h->eps, INFINITY},
               {"beta1", h->beta1, 1},
               {"beta2", h->beta2, 1}};
  for (size_t i = 0; i < sizeof range / sizeof *range; i++) {
    if (!(range[i].value >= 0 && range[i].value < range[i].limit))
      return ms_fail(err, MS_ERANGE, "%s: %s: expected a finite number >= 0%s, got %g", op, range[i].name,
                     range[i].limit == 1 ? " and < 1" : "", range[i].value);
  }
  if (h->nesterov && !(h->momentum > 0 && h->dampening == 0))
    return ms_fail(err, MS_EINVAL, "%s: nesterov: expected momentum > 0 and dampening 0, got %g and %g", op,
                   h->momentum, h->dampening);
  return MS_OK;
}

static void take_settings(ms_hyper *h, const ms_hyper *settings) {
  ms_hyper counted = *h;
  *h = *settings;
  h->step = counted.step;
  h->first = counted.first;
  h->correction1 = counted.correction1;
  h->correction2 = counted.correction2;
}

static ms_status copy_hyper(const ms_optim *o, void *host, size_t bytes, ms_copy_kind kind, ms_error *err) {
  ms_device *d = ms_tensor_device(o->hyper);
  void *dev = o->hyper->storage->data;
  int up = kind == MS_COPY_HOST_TO_DEVICE;
  if (ms_capture_live)
    return ms_capture_refuse("settings or counts of an optimizer", up ? "are written" : "are read", err);
  ms_status st = ms_row(d, d->k->copy_bytes(d->stream, up ? dev : host, up ? host : dev, bytes, kind), op_name(o), err);
  return st || up ? st : ms_device_synchronize(d, err);
}

static int hyper_count(const ms_optim *o) {
  return o->hyper ? (int)(ms_numel(o->hyper) / (int64_t)sizeof(ms_hyper)) : 0;
}

/* Settings and step counts of all members (to be freed): from the device where they are there, else as they begin. */
static ms_status read_hyper(ms_hyper **out, const ms_optim *o, ms_error *err) {
  int known = hyper_count(o);
  ms_status st = MS_OK;
  ms_hyper *h = ms_alloc((size_t)(o->nmembers + 1) * sizeof *h);
  if (!h)
    return ms_fail(err, MS_EMEM, "%s: out of memory", op_name(o));
  if (known)
    st = copy_hyper(o, h, (size_t)known * sizeof *h, MS_COPY_DEVICE_TO_HOST, err);
  for (int i = known; i < o->nmembers; i++)
    take_settings(&h[i], &o->groups[o->members[i].group]);
  if (st)
    ms_free(h);
  else
    *out = h;
  return st;
}

static ms_status need_hyper(ms_optim *o, ms_error *err) {
  int64_t bytes = (int64_t)sizeof(ms_hyper) * o->nmembers;
  ms_tensor *made = NULL, *old = o->hyper;
  ms_hyper *h = NULL;
  if (hyper_count(o) == o->nmembers)
    return MS_OK;
  ms_status st = read_hyper(&h, o, err);
  if (st || (st = ms_tensor_new(&made, ms_tensor_device(o->members[0].t), MS_U8, 1, &bytes, err)) ||
      (st = ms_capture_keep(made->storage, "the state of an optimizer", err)))
    goto done;
  ms_capture_changed();
  o->hyper = made;
  if ((st = copy_hyper(o, h, (size_t)bytes, MS_COPY_HOST_TO_DEVICE, err)))
    o->hyper = old;
  ms_release(st ? made : old);
done:
  ms_free(h);
  return st;
}

static ms_status check_group(const ms_optim *o, int group, ms_error *err) {
  if (group >= 0 && group < o->ngroups)
    return MS_OK;
  return ms_fail(err, MS_ERANGE, "%s: group: expected 1 to %d, got %d", op_name(o), o->ngroups, group + 1);
}

/* The settings of member i, beside its counts, without a look at these. */
static ms_status upload_settings(const ms_optim *o, int i, const ms_hyper *settings, ms_error *err) {
  ms_device *d = ms_tensor_device(o->hyper);
  ms_hyper *to = (ms_hyper *)o->hyper->storage->data + i;
  const size_t numbers = offsetof(ms_hyper, step), flags = offsetof(ms_hyper, first) - offsetof(ms_hyper, nesterov);
  ms_copy_kind kind = MS_COPY_HOST_TO_DEVICE;
  if (ms_capture_live)
    return ms_capture_refuse("settings of an optimizer", "are written", err);
  ms_status st = ms_row(d, d->k->copy_bytes(d->stream, to, settings, numbers, kind), op_name(o), err);
  return st ? st
            : ms_row(d, d->k->copy_bytes(d->stream, &to->nesterov, &settings->nesterov, flags, kind), op_name(o), err);
}

ms_status ms_optim_set(ms_optim *o, int group, const ms_hyper *settings, ms_error *err) {
  ms_status st = check_group(o, group, err);
  if (st || (st = check_settings(o, settings, err)))
    return st;
  for (int i = hyper_count(o) - 1; i >= 0 && !st; i--)
    if (o->members[i].group == group)
      st = upload_settings(o, i, settings, err);
  if (!st)
    take_settings(&o->groups[group], settings);
  return st;
}

ms_status ms_optim_get(const ms_optim *o, int group, ms_hyper *settings, ms_error *err) {
  ms_status st = check_group(o, group, err);
  if (!st)
    *settings = o->groups[group];
  return st;
}

/* ---- groups ---- */
static ms_status check_members(const ms_optim *o, int n, ms_tensor *const *params, ms_error *err) {
  if (n < 1)
    return ms_fail(err, MS_EINVAL, "%s: params: expected at least one tensor", op_name(o));
  for (int i = 0; i < n; i++) {
    const ms_storage *s = params[i]->storage;
    int again = 0;
    for (int k = 0; k < o->nmembers; k++)
      again |= o->members[k].t->storage == s;
    for (int k = 0; k < i; k++)
      again |= params[k]->storage == s;
    if (again)
      return ms_fail(err, MS_EINVAL, "%s: params: '%s' (number %d) is given twice", op_name(o), params[i]->name, i + 1);
  }
  if (o->nmembers && ms_tensor_device(o->members[0].t) != ms_tensor_device(params[0]))
    return ms_fail(err, MS_EDEVICE, "%s: params: expected tensors on %s, got one on %s", op_name(o),
                   ms_tensor_device(o->members[0].t)->name, ms_tensor_device(params[0])->name);
  return MS_OK;
}

static int find_slot(const ms_optim *o, const ms_arena *a) {
  int i = 0;
  while (i < o->nslots && o->slots[i].arena != a)
    i++;
  return i;
}

/* A copy of p [count] with room for more items. */
static void *grown(const void *p, int count, int more, size_t size) {
  void *q = ms_alloc((size_t)(count + more) * size);
  if (q && count)
    memcpy(q, p, (size_t)count * size);
  return q;
}

ms_status ms_optim_add_group(ms_optim *o, int n, ms_tensor *const *params, const ms_hyper *settings, int *group,
                             ms_error *err) {
  ms_status st;
  if ((st = check_settings(o, settings, err)) || (st = check_members(o, n, params, err)) ||
      (st = ms_gather_params(n, params, err)))
    return st;
  member *members = grown(o->members, o->nmembers, n, sizeof *members);
  ms_hyper *groups = grown(o->groups, o->ngroups, 1, sizeof *groups);
  slot *slots = grown(o->slots, o->nslots, n, sizeof *slots);
  if (!members || !groups || !slots) {
    ms_free(members);
    ms_free(groups);
    ms_free(slots);
    return ms_fail(err, MS_EMEM, "%s: out of memory", op_name(o));
  }
  ms_free(o->members);
  ms_free(o->groups);
  ms_free(o->slots);
  o->members = members;
  o->groups = groups;
  o->slots = slots;
  take_settings(&groups[o->ngroups], settings);
  for (int i = 0; i < n; i++) {
    member *m = &members[o->nmembers++];
    m->t = ms_retain(params[i]);
    m->group = o->ngroups;
    ms_arena *a = ms_arena_of(params[i], &m->offset);
    m->slot = find_slot(o, a);
    if (m->slot == o->nslots)
      slots[o->nslots++] = (slot){.arena = a};
    if (slots[m->slot].end < m->offset + ms_numel(m->t))
      slots[m->slot].end = m->offset + ms_numel(m->t);
  }
  *group = o->ngroups++;
  return MS_OK;
}

/* ---- moments ---- */
/* Zeros up to `end`; what a shorter one had is kept. */
static ms_status need_moment(ms_tensor **moment, int64_t end, ms_device *d, ms_error *err) {
  ms_tensor *made = NULL, *head = NULL;
  if (*moment && ms_numel(*moment) >= end)
    return MS_OK;
  ms_status st = ms_full(&made, d, MS_F32, 1, &end, 0, err);
  if (!st && *moment && !(st = ms_tensor_alias(&head, made, 1, (*moment)->size, (*moment)->stride, 0, err)))
    st = ms_copy_(head, *moment, err);
  ms_release(head);
  if (!st)
    st = ms_capture_keep(made->storage, "the state of an optimizer", err);
  if (st) {
    ms_release(made);
    return st;
  }
  ms_capture_changed();
  ms_release(*moment);
  *moment = made;
  return MS_OK;
}

static ms_status need_state(ms_optim *o, ms_error *err) {
  ms_status st = need_hyper(o, err);
  for (int i = 0; i < o->nslots && !st; i++) {
    ms_device *d = ms_tensor_device(o->members[0].t);
    st = need_moment(&o->slots[i].m, o->slots[i].end, d, err);
    if (!st && o->kind == MS_OPTIM_ADAM)
      st = need_moment(&o->slots[i].v, o->slots[i].end, d, err);
  }
  return st;
}

/* ---- one step ---- */
typedef struct plan {
  ms_range *ranges;  /* in order of slots */
  int *member;       /* of each range */
  ms_tensor **fresh; /* of each range: the gradient that the step makes, or NULL (+1) */
  int nranges;
  int *first;         /* [nslots + 1] ranges of each slot */
  const ms_trt **trt; /* [nslots] what the step adds there, or NULL */
  ms_bf16 **shadow;   /* [nslots] what the step writes there too, or NULL */
} plan;

static void plan_free(plan *p) {
  for (int i = 0; i < p->nranges; i++)
    ms_release(p->fresh[i]);
  ms_free(p->ranges);
  ms_free(p->member);
  ms_free(p->fresh);
  ms_free(p->first);
  ms_free(p->trt);
  ms_free(p->shadow);
}

static int owes(const ms_tensor *t) {
  return t->pending && t->pending->set;
}

/* A gradient that came from elsewhere (assigned, or made before the leaf was gathered) moves into the arena. */
static ms_status adopt(ms_tensor *t, ms_real *place, ms_error *err) {
  ms_tensor *g = t->grad, *home;
  ms_status st;
  if (!ms_same_shape(g, t) || !ms_is_float(g->dtype) || ms_tensor_device(g) != ms_tensor_device(t))
    return ms_fail(err, MS_ESHAPE, "step: the gradient of '%s': expected float32 %s on %s, got %s on %s", t->name,
                   ms_shape_text(t->ndim, t->size).s, ms_tensor_device(t)->name, ms_tensor_text(g).s,
                   ms_tensor_device(g)->name);
  if (g->storage && g->dtype == MS_F32 && (ms_real *)g->storage->data + g->offset == place &&
      ms_has_strides(g, t->stride))
    return MS_OK;
  if ((st = ms_arena_grad_alias(&home, t, err)))
    return st;
  if ((st = ms_copy_(home, g, err))) {
    ms_release(home);
    return st;
  }
  ms_release(g);
  t->grad = home;
  return MS_OK;
}

/* Brings the i-th member into the plan when it has something to do. */
static ms_status plan_member(plan *p, ms_optim *o, int i, ms_error *err) {
  member *m = &o->members[i];
  ms_tensor *t = m->t;
  const ms_trt **trt = &p->trt[m->slot];
  ms_real *param, *grad;
  ms_status st = ms_capture_leaf(t, 0, err);
  if (!st && !owes(t))
    st = ms_pending_settle(t->storage, err);
  if (!st && owes(t) && *trt && !ms_trt_same(*trt, &t->pending->trt))
    st = ms_pending_flush(t, err);
  if (st || (!t->grad && !owes(t)) || (st = ms_arena_base(&param, &grad, o->slots[m->slot].arena, err)))
    return st;
  if (t->grad && (st = adopt(t, grad + m->offset, err)))
    return st;
  ms_range r = {.offset = m->offset, .n = ms_numel(t), .hyper = i, .no_grad = !t->grad};
  if (owes(t)) {
    *trt = &t->pending->trt;
    r.regularised = 1;
    r.reg_scale = ms_pending_scale(t);
  }
  if (!t->grad && (st = ms_arena_grad_alias(&p->fresh[p->nranges], t, err)))
    return st;
  if (t->storage->half_used && ms_arena_shadow(t->storage))
    p->shadow[m->slot] = ms_arena_shadow(t->storage);
  p->member[p->nranges] = i;
  p->ranges[p->nranges++] = r;
  return MS_OK;
}

static ms_status make_plan(plan *p, ms_optim *o, ms_error *err) {
  size_t n = (size_t)o->nmembers + 1, slots = (size_t)o->nslots + 1;
  ms_status st = MS_OK;
  *p = (plan){.ranges = ms_alloc(n * sizeof *p->ranges),
              .member = ms_alloc(n * sizeof *p->member),
              .fresh = ms_alloc(n * sizeof *p->fresh),
              .first = ms_alloc(slots * sizeof *p->first),
              .trt = ms_alloc(slots * sizeof *p->trt),
              .shadow = ms_alloc(slots * sizeof *p->shadow)};
  if (!p->ranges || !p->member || !p->fresh || !p->first || !p->trt || !p->shadow)
    return ms_fail(err, MS_EMEM, "%s: out of memory", op_name(o));
  for (int s = 0; s < o->nslots && !st; s++) {
    p->first[s] = p->nranges;
    for (int i = 0; i < o->nmembers && !st; i++)
      if (o->members[i].slot == s)
        st = plan_member(p, o, i, err);
    p->first[s + 1] = p->nranges;
  }
  return st;
}

static ms_status run_slot(const ms_optim *o, const plan *p, int s, ms_error *err) {
  ms_device *d = ms_tensor_device(o->hyper);
  const slot *k = &o->slots[s];
  ms_capture_touch(o->hyper->storage);
  ms_capture_touch(k->m->storage);
  if (k->v)
    ms_capture_touch(k->v->storage);
  ms_hyper *hyper = (ms_hyper *)o->hyper->storage->data;
  ms_optim_args a = {.m = (ms_real *)k->m->storage->data,
                     .v = k->v ? (ms_real *)k->v->storage->data : NULL,
                     .shadow = p->shadow[s],
                     .ranges = p->ranges + p->first[s],
                     .nranges = p->first[s + 1] - p->first[s],
                     .hyper = hyper};
  if (!a.nranges)
    return MS_OK;
  if (p->trt[s])
    a.trt = *p->trt[s];
  ms_status st = ms_arena_base(&a.param, &a.grad, k->arena, err);
  if (st)
    return st;
  if ((st = d->k->hyper_advance(d->stream, hyper, a.ranges, a.nranges)) == MS_OK)
    st = o->kind == MS_OPTIM_SGD ? d->k->sgd(d->stream, &a) : d->k->adam(d->stream, &a);
  /* not ms_row: an interrupt waits until the step is complete */
  return st ? ms_fail(err, st, "%s: step: %s %s", op_name(o), ms_status_text(st), d->k->error_text(d->stream)) : MS_OK;
}

/* The tape's side of what the rows wrote. */
static void finish(ms_optim *o, plan *p) {
  for (int i = 0; i < p->nranges; i++) {
    const member *m = &o->members[p->member[i]];
    ms_tensor *t = m->t;
    ms_storage_written(t->storage, "step");
    if (p->shadow[m->slot] && ms_arena_shadow(t->storage))
      ms_half_written(t->storage);
    if (p->fresh[i]) {
      t->grad = p->fresh[i];
      p->fresh[i] = NULL;
    }
    if (p->ranges[i].regularised) {
      ms_storage_written(t->grad->storage, "step");
      ms_pending_drop(t);
    }
  }
}

ms_status ms_optim_step(ms_optim *o, ms_error *err) {
  plan p;
  int was = ms_set_grad_enabled(0);
  ms_status st = make_plan(&p, o, err);
  if (!st && p.nranges && !(st = need_state(o, err)) && !(st = ms_interrupt_check(err))) {
    for (int s = 0; s < o->nslots && !st; s++)
      st = run_slot(o, &p, s, err);
    if (!st)
      finish(o, &p);
  }
  plan_free(&p);
  ms_set_grad_enabled(was);
  return st;
}

ms_status ms_optim_zero_grad(ms_optim *o, ms_error *err) {
  for (int i = 0; i < o->nmembers; i++) {
    ms_status st = ms_set_grad(o->members[i].t, NULL, err);
    if (st)
      return st;
  }
  return MS_OK;
}

/* ---- another device ---- */
static int slots_in(const ms_optim *o, int n, ms_arena *const *arenas) {
  int found = 0;
  for (int s = 0; s < o->nslots; s++)
    for (int i = 0; i < n; i++)
      found += o->slots[s].arena == arenas[i];
  return found;
}

ms_status ms_optim_each_state(int n, ms_arena *const *arenas, ms_storage_visit visit, void *ud, ms_error *err) {
  ms_status st = MS_OK;
  for (ms_optim *o = all; o && !st; o = o->next) {
    int found = slots_in(o, n, arenas);
    if (found && found < o->nslots)
      return ms_fail(err, MS_EDEVICE, "to: an optimizer (%s) also has parameters that stay; move all of them at once",
                     op_name(o));
    for (int s = 0; s < o->nslots && found && !st; s++) {
      if (o->slots[s].m)
        st = visit(ud, o->slots[s].m->storage, err);
      if (!st && o->slots[s].v)
        st = visit(ud, o->slots[s].v->storage, err);
    }
    if (!st && found && o->hyper)
      st = visit(ud, o->hyper->storage, err);
  }
  return st;
}

/* ---- state for checkpoints ---- */
int ms_optim_count(const ms_optim *o) {
  return o->nmembers;
}

static ms_status check_index(const ms_optim *o, int i, ms_error *err) {
  if (i >= 0 && i < o->nmembers)
    return MS_OK;
  return ms_fail(err, MS_ERANGE, "%s: state: expected a parameter from 1 to %d, got %d", op_name(o), o->nmembers,
                 i + 1);
}

static ms_status moment_of(ms_tensor **out, const member *m, ms_tensor *moment, ms_error *err) {
  *out = NULL;
  if (!moment || ms_numel(moment) < m->offset + ms_numel(m->t))
    return MS_OK;
  return ms_tensor_alias(out, moment, m->t->ndim, m->t->size, m->t->stride, m->offset, err);
}

ms_status ms_optim_state(ms_optim *o, int i, ms_tensor **param, ms_tensor **m, ms_tensor **v, double *step,
                         ms_error *err) {
  ms_hyper *h;
  ms_tensor *first = NULL, *second = NULL;
  ms_status st = check_index(o, i, err);
  if (st || (st = read_hyper(&h, o, err)))
    return st;
  const slot *s = &o->slots[o->members[i].slot];
  if (!(st = moment_of(&first, &o->members[i], s->m, err)))
    st = moment_of(&second, &o->members[i], s->v, err);
  if (st) {
    ms_release(first);
  } else {
    *param = ms_retain(o->members[i].t);
    *m = first;
    *v = second;
    *step = h[i].step;
  }
  ms_free(h);
  return st;
}

static ms_status check_moment(const ms_optim *o, const member *m, const ms_tensor *given, const char *what,
                              ms_error *err) {
  if (!given || (given->dtype == MS_F32 && ms_same_shape(given, m->t)))
    return MS_OK;
  return ms_fail(err, MS_ESHAPE, "%s: state: %s of '%s': expected float32 %s, got %s", op_name(o), what, m->t->name,
                 ms_shape_text(m->t->ndim, m->t->size).s, ms_tensor_text(given).s);
}

static ms_status set_moment(const member *m, ms_tensor *moment, ms_tensor *given, ms_error *err) {
  ms_tensor *part;
  ms_status st = moment_of(&part, m, moment, err);
  if (st || !part)
    return st;
  st = given ? ms_copy_(part, given, err) : ms_fill_(part, 0, err);
  ms_release(part);
  return st;
}

ms_status ms_optim_set_state(ms_optim *o, int i, ms_tensor *m, ms_tensor *v, double step, ms_error *err) {
  ms_hyper *h = NULL;
  ms_status st = check_index(o, i, err);
  if (st || (st = check_moment(o, &o->members[i], m, "m", err)) || (st = check_moment(o, &o->members[i], v, "v", err)))
    return st;
  if (!(step >= 0 && step < 9007199254740992.0))
    return ms_fail(err, MS_ERANGE, "%s: state: step: expected a count, got %g", op_name(o), step);
  int was = ms_set_grad_enabled(0);
  const slot *s = &o->slots[o->members[i].slot];
  if (!(st = need_state(o, err)) && !(st = read_hyper(&h, o, err)) &&
      !(st = set_moment(&o->members[i], s->m, m, err)) && !(st = set_moment(&o->members[i], s->v, v, err))) {
    h[i].step = step - 1;
    ms_hyper_step(&h[i]);
    h[i].first = 0;
    st = copy_hyper(o, h, (size_t)o->nmembers * sizeof *h, MS_COPY_HOST_TO_DEVICE, err);
  }
  ms_set_grad_enabled(was);
  ms_free(h);
  return st;
}
