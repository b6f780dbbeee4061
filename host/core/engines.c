#include "engines.h"
#include "capture.h"
#include "internal.h"

#include <string.h>
#include <time.h>

/* ---- what ran ---- */

static ms_engine_use uses[MS_ENGINE_USES];
static int nuses;
static int hit; /* steps repeat in one order: the next call is mostly the entry behind the last one */
static uint64_t serial;

static ms_engine_forced forced[MS_ENGINE_FORCED];
static int nforced;

/* One for each backend: what its services do not tell. */
static struct {
  const ms_backend *k;
  const char *forced;
  char origin[32];
} backends[4];

static int backend_of(const ms_backend *k) {
  int i = 0;
  while (i < 3 && backends[i].k && backends[i].k != k)
    i++;
  backends[i].k = k;
  return i;
}

/* The number of images does not make another layer, nor does the type of the input. */
static int same_layer(const ms_engine_use *u, const ms_device *d, const ms_conv_desc *a, ms_conv_pass pass,
                      const char *layer) {
  const ms_conv_desc *b = &u->desc;
  return u->pass == pass && u->device == d && a->cin == b->cin && a->cout == b->cout && a->h == b->h && a->w == b->w &&
         a->kh == b->kh && a->kw == b->kw && a->stride_h == b->stride_h && a->stride_w == b->stride_w &&
         a->pad_h == b->pad_h && a->pad_w == b->pad_w && a->dil_h == b->dil_h && a->dil_w == b->dil_w &&
         a->groups == b->groups && a->weight == b->weight && !strcmp(u->layer, layer);
}

static ms_engine_use *find_use(ms_device *d, const ms_conv_desc *desc, ms_conv_pass pass, const char *layer) {
  for (int i = 0; i < nuses; i++) {
    int at = (hit + 1 + i) % nuses;
    if (same_layer(&uses[at], d, desc, pass, layer)) {
      hit = at;
      return &uses[at];
    }
  }
  int at = nuses;
  if (nuses < MS_ENGINE_USES)
    nuses++;
  else
    for (int i = at = 0; i < nuses; i++)
      if (uses[i].last < uses[at].last)
        at = i;
  hit = at;
  uses[at] = (ms_engine_use){.device = d, .pass = pass, .first = ++serial};
  strncpy(uses[at].layer, layer, sizeof uses[at].layer - 1);
  return &uses[at];
}

static const char *forced_on(const char *layer) {
  for (int i = 0; i < nforced && *layer; i++)
    if (!strcmp(forced[i].layer, layer))
      return forced[i].engine;
  return NULL;
}

void ms_engines_hold(ms_device *d, const ms_conv_args *a, const char *layer) {
  const char *engine = nforced ? forced_on(layer) : NULL;
  if (engine)
    (void)d->k->conv_force((ms_conv_plan *)a->plan, engine);
}

void ms_engines_note(ms_device *d, const ms_conv_desc *desc, ms_conv_pass pass, const ms_conv_args *a,
                     const char *layer) {
  ms_engine_use *u = find_use(d, desc, pass, layer);
  u->desc = *desc;
  u->counts = a->counts;
  u->density = (double)(pass != MS_CONV_INPUT_GRAD ? a->density : a->mask ? a->mask_density : MS_R(-1));
  u->calls++;
  u->last = ++serial;
  u->engine = d->k->conv_engine(a, pass, u->why);
}

void ms_engines_end(ms_device *d, const ms_conv_args *a) {
  if (nforced)
    (void)d->k->conv_force((ms_conv_plan *)a->plan, NULL);
}

int ms_engines_uses(const ms_engine_use *out[MS_ENGINE_USES]) {
  for (int i = 0; i < nuses; i++) {
    int at = i;
    for (; at > 0 && out[at - 1]->first > uses[i].first; at--)
      out[at] = out[at - 1];
    out[at] = &uses[i];
  }
  return nuses;
}

void ms_engines_reset(void) {
  nuses = hit = 0;
}

/* ---- forcing ---- */

static const char *known_engine(ms_device *d, const char *name) {
  for (const char *const *e = d->k->conv_engines(); *e; e++)
    if (!strcmp(*e, name))
      return *e;
  return NULL;
}

static ms_status unknown_engine(ms_device *d, const char *name, ms_error *err) {
  char known[300] = "";
  for (const char *const *e = d->k->conv_engines(); *e; e++) {
    strncat(known, *known ? ", " : "", sizeof known - strlen(known) - 1);
    strncat(known, *e, sizeof known - strlen(known) - 1);
  }
  return ms_fail(err, MS_EINVAL, "engines: force: expected one of %s, got \"%.64s\"", known, name);
}

static ms_status force_layer(const char *layer, const char *engine, ms_error *err) {
  int i = 0;
  while (i < nforced && strcmp(forced[i].layer, layer) != 0)
    i++;
  if (!engine) {
    if (i < nforced)
      forced[i] = forced[--nforced];
    return MS_OK;
  }
  if (i == MS_ENGINE_FORCED)
    return ms_fail(err, MS_ERANGE, "engines: force: expected at most %d layers, got one more", MS_ENGINE_FORCED);
  if (i == nforced) {
    memset(&forced[i], 0, sizeof forced[i]);
    strncpy(forced[i].layer, layer, sizeof forced[i].layer - 1);
    nforced++;
  }
  forced[i].engine = engine;
  return MS_OK;
}

ms_status ms_engines_force(ms_device *d, const char *name, const char *layer, ms_error *err) {
  const char *engine = name ? known_engine(d, name) : NULL;
  if (name && !engine)
    return unknown_engine(d, name, err);
  ms_capture_changed();
  if (layer)
    return force_layer(layer, engine, err);
  ms_status st = ms_row(d, d->k->conv_force(NULL, engine), "engines: force", err);
  if (st)
    return st;
  nforced = 0;
  backends[backend_of(d->k)].forced = engine;
  return MS_OK;
}

int ms_engines_forced(ms_device *d, const char **all, const ms_engine_forced **layers) {
  *all = backends[backend_of(d->k)].forced;
  *layers = forced;
  return nforced;
}

int ms_engine_is_loose(const char *engine) {
  return ms_device_cpu()->k->conv_loose(engine) || ms_device_current()->k->conv_loose(engine);
}

/* ---- the table ---- */

int ms_engines_table(ms_device *d, const ms_break_even **rows, const char **origin) {
  const char *from = backends[backend_of(d->k)].origin;
  *origin = *from ? from : "shipped";
  return d->k->conv_table(rows);
}

ms_status ms_engines_set_table(ms_device *d, const ms_break_even *rows, int n, const char *origin, ms_error *err) {
  char *from = backends[backend_of(d->k)].origin;
  for (int i = 0; rows && i < n; i++) {
    const double limit[] = {rows[i].forward, rows[i].weight_grad, rows[i].forward_counts, rows[i].weight_grad_counts,
                            rows[i].input_grad};
    for (int j = 0; j < 5; j++)
      if (!(limit[j] >= 0 && limit[j] <= 1))
        return ms_fail(err, MS_ERANGE, "engines: table: row %d: expected limits from 0 to 1, got %g", i + 1, limit[j]);
  }
  ms_status st = d->k->conv_table_set(rows, rows ? n : 0);
  if (st == MS_EINVAL)
    return ms_fail(err, st, "engines: table: expected fewer rows, got %d", n);
  if (st)
    return ms_row(d, st, "engines: table", err);
  ms_capture_changed();
  strncpy(from, rows ? origin : "", sizeof backends->origin - 1);
  return MS_OK;
}

/* ---- measuring ---- */

static const char sparse[] = "event";
static const double densest = 0.6, sparsest = 0.02, safety = 0.9;
enum { BISECTIONS = 5, LEAST_PAIRS = 3, MOST_PAIRS = 9 };

/* One pass of one shape on the device, with room for both engines. */
typedef struct trial {
  ms_device *d;
  ms_conv_desc desc;
  ms_conv_pass pass;
  int counts;
  ms_conv_plan *plan;
  ms_tensor *input, *weight, *grad, *dx, *dweight, *mask, *workspace;
  ms_conv_args a;
  void *host;         /* of the spikes or the mask */
  size_t bytes, room; /* of the spikes or the mask; of the workspace */
} trial;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Numbers of its own: the generator of the user stays where it is. */
static uint32_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 32);
}

static int64_t elements(const ms_conv_desc *d) {
  return d->n * d->h * d->w * d->cin;
}

/* Host bytes to the device: t is fresh and dense. */
static ms_status upload(const trial *t, const ms_tensor *to, const void *from, size_t bytes, ms_error *err) {
  ms_stream *s = t->d->stream;
  return ms_row(t->d, t->d->k->copy_bytes(s, to->storage->data, from, bytes, MS_COPY_HOST_TO_DEVICE), "calibrate", err);
}

/* n numbers in [-1, 1) as float32 or bfloat16. */
static ms_status noise(ms_tensor **out, const trial *t, int64_t n, ms_dtype dtype, ms_error *err) {
  ms_status st = ms_tensor_new(out, t->d, dtype, 1, &n, err);
  size_t bytes = (size_t)n * ms_dtype_size(dtype);
  void *host = st ? NULL : ms_alloc(bytes + 1);
  uint64_t state = 7;
  if (st)
    return st;
  if (!host)
    return ms_fail(err, MS_EMEM, "calibrate: out of memory: %zu bytes wanted", bytes);
  for (int64_t i = 0; i < n; i++) {
    float v = (float)draw(&state) * 0x1p-31f - 1;
    if (dtype == MS_BF16)
      ((ms_bf16 *)host)[i] = ms_bf16_from(v);
    else
      ((ms_real *)host)[i] = MS_R(v);
  }
  st = upload(t, *out, host, bytes, err);
  ms_free(host);
  return st;
}

static ms_data whole(const ms_tensor *t, ms_dtype dtype) {
  return (ms_data){t->storage->data, dtype, 1};
}

/* The spikes (or the mask) are drawn anew for each density. */
static ms_status fill(trial *t, double density, ms_error *err) {
  int64_t n = elements(&t->desc);
  uint8_t *p = t->host;
  uint32_t limit = (uint32_t)(density * 4294967295.0);
  uint64_t state = 11;
  memset(p, 0, t->bytes);
  int bytes = t->pass != MS_CONV_INPUT_GRAD && t->desc.x != MS_BITS;
  for (int64_t i = 0; i < n; i++) {
    uint32_t r = draw(&state);
    if (r < limit && bytes)
      p[i] = t->counts ? (uint8_t)(1 + (r & 3)) : 1;
    else if (r < limit)
      p[i / 8] |= (uint8_t)(1u << (i % 8));
  }
  *(t->pass == MS_CONV_INPUT_GRAD ? &t->a.mask_density : &t->a.density) = MS_R(density);
  return upload(t, t->pass == MS_CONV_INPUT_GRAD ? t->mask : t->input, p, t->bytes, err);
}

static void drop(trial *t) {
  if (t->plan)
    t->d->k->conv_plan_destroy(t->plan);
  ms_tensor *held[] = {t->input, t->weight, t->grad, t->dx, t->dweight, t->mask, t->workspace};
  for (int i = 0; i < 7; i++)
    ms_release(held[i]);
  ms_free(t->host);
}

static ms_status raw(ms_tensor **out, const trial *t, size_t bytes, ms_error *err) {
  int64_t n = (int64_t)bytes;
  return ms_tensor_new(out, t->d, MS_U8, 1, &n, err);
}

/* Workspace of one call of each kind. */
static size_t room_of(const trial *t) {
  const ms_backend *k = t->d->k;
  (void)k->conv_force(t->plan, sparse);
  size_t events = k->conv_workspace(t->plan, t->pass);
  (void)k->conv_force(t->plan, NULL);
  size_t dense = k->conv_workspace(t->plan, t->pass);
  return events > dense ? events : dense;
}

/* Does the event engine run this pass of this shape? */
static int offered(const trial *t) {
  ms_conv_args a = {.plan = t->plan, .density = MS_R(0.1), .mask_density = MS_R(0.1), .counts = t->counts};
  static const uint8_t some;
  char why[MS_WHY];
  a.mask = t->pass == MS_CONV_INPUT_GRAD ? &some : NULL;
  if (t->d->k->conv_force(t->plan, sparse))
    return 0;
  int is = !strcmp(t->d->k->conv_engine(&a, t->pass, why), sparse);
  (void)t->d->k->conv_force(t->plan, NULL);
  return is;
}

/* *is 0: there is nothing to compare. */
static ms_status prepare(trial *t, ms_device *d, const ms_conv_desc *shape, ms_conv_pass pass, int counts, int *is,
                         ms_error *err) {
  ms_status st = MS_OK;
  *t = (trial){.d = d, .desc = *shape, .pass = pass, .counts = counts};
  *is = 0;
  for (int bits = !counts && shape->cin % 8 == 0; bits >= 0 && !*is; bits--) {
    if (t->plan)
      d->k->conv_plan_destroy(t->plan);
    t->plan = NULL;
    t->desc.x = bits ? MS_BITS : MS_SPIKE;
    if ((st = ms_row(d, d->k->conv_plan(d->stream, &t->desc, &t->plan), "calibrate", err)))
      return st;
    *is = offered(t);
  }
  if (!*is)
    return MS_OK;
  const ms_conv_desc *c = &t->desc;
  int64_t n = elements(c), outputs = c->n * c->oh * c->ow * c->cout, weights = c->cout * c->kh * c->kw * c->cin;
  size_t bits = MS_BITS_BYTES(n), workspace = t->room = room_of(t);
  int backward = pass == MS_CONV_INPUT_GRAD;
  t->bytes = backward || c->x == MS_BITS ? bits : (size_t)n;
  if (!(t->host = ms_alloc(t->bytes)))
    return ms_fail(err, MS_EMEM, "calibrate: out of memory: %zu bytes wanted", t->bytes);
  if ((st = noise(&t->weight, t, weights / c->groups, c->weight, err)) ||
      (st = noise(&t->grad, t, outputs, c->weight, err)) || (workspace && (st = raw(&t->workspace, t, workspace, err))))
    return st;
  t->a = (ms_conv_args){.plan = t->plan,
                        .y = whole(t->grad, c->weight),
                        .density = -1,
                        .mask_density = -1,
                        .counts = counts,
                        .workspace = workspace ? t->workspace->storage->data : NULL};
  t->a.weight = whole(t->weight, c->weight);
  if (backward) {
    if ((st = noise(&t->dx, t, n, MS_F32, err)) || (st = raw(&t->mask, t, bits, err)))
      return st;
    t->a.x = whole(t->dx, MS_F32);
    return MS_OK;
  }
  if ((st = raw(&t->input, t, t->bytes, err)))
    return st;
  t->a.x = whole(t->input, c->x);
  if (pass == MS_CONV_WEIGHT_GRAD) {
    if ((st = noise(&t->dweight, t, weights / c->groups, MS_F32, err)))
      return st;
    t->a.weight = whole(t->dweight, MS_F32);
  }
  return MS_OK;
}

/* Seconds of one call: by events, or as the backend runs it when it knows no density. */
static ms_status one_call(double *seconds, trial *t, int events, ms_error *err) {
  ms_conv_args a = t->a;
  const ms_backend *k = t->d->k;
  if (events)
    a.mask = t->mask ? t->mask->storage->data : NULL;
  else
    a.density = a.mask_density = -1;
  ms_status st = ms_row(t->d, k->conv_force(t->plan, events ? sparse : NULL), "calibrate", err);
  if (!st && k->conv_workspace(t->plan, t->pass) > t->room) /* a finalizer forced engines while memory was taken */
    st = ms_fail(err, MS_EINVAL, "calibrate: expected engines to stay as they are until it ends");
  if (!st)
    st = ms_device_synchronize(t->d, err);
  if (st)
    return st;
  double start = now();
  st = t->pass == MS_CONV_FORWARD      ? k->conv_forward(t->d->stream, &a)
       : t->pass == MS_CONV_INPUT_GRAD ? k->conv_input_grad(t->d->stream, &a)
                                       : k->conv_weight_grad(t->d->stream, &a);
  if (!(st = ms_row(t->d, st, "calibrate", err)))
    st = ms_device_synchronize(t->d, err);
  *seconds = now() - start;
  return st;
}

/* Shortest time of events over shortest time of the dense engine, both in turn: other programs only ever add. */
static ms_status ratio(double *out, trial *t, double density, double seconds, ms_error *err) {
  double least[2] = {1e30, 1e30}, took, end = now() + seconds;
  ms_status st = fill(t, density, err);
  for (int call = -1; call < MOST_PAIRS && !st && (call < LEAST_PAIRS || now() < end); call++)
    for (int e = 0; e < 2 && !st; e++)
      if (!(st = one_call(&took, t, e, err)) && call >= 0 && took < least[e])
        least[e] = took;
  *out = least[1] / least[0];
  return st;
}

/* The density of equal cost times the safety: bisection, then a straight line between the last two. */
static ms_status limit_of(double *limit, ms_device *d, const ms_conv_desc *shape, ms_conv_pass pass, int counts,
                          double seconds, ms_error *err) {
  trial t;
  int is;
  double lo = sparsest, hi = densest, at_lo = 0, at_hi = 0, share = seconds / (BISECTIONS + 2), end = now() + seconds;
  ms_status st = prepare(&t, d, shape, pass, counts, &is, err);
  *limit = 0;
  if (!st && is)
    st = ratio(&at_lo, &t, lo, share, err);
  if (!st && is && at_lo >= 1) /* that would be the end: a second look */
    st = ratio(&at_lo, &t, lo, share, err);
  if (!st && is && at_lo < 1 && !(st = ratio(&at_hi, &t, hi, share, err))) {
    for (int i = 0; i < BISECTIONS && !st && at_hi > 1 && (i < 2 || now() < end); i++) {
      double mid = (lo + hi) / 2, r;
      if ((st = ratio(&r, &t, mid, share, err)))
        break;
      *(r < 1 ? &lo : &hi) = mid;
      *(r < 1 ? &at_lo : &at_hi) = r;
    }
    *limit = safety * (at_hi > 1 ? lo + (hi - lo) * (1 - at_lo) / (at_hi - at_lo) : hi);
  }
  drop(&t);
  return st;
}

ms_status ms_engines_measure(ms_break_even *row, ms_device *d, const ms_conv_desc *shape, double seconds,
                             ms_error *err) {
  *row = (ms_break_even){.taps = (int64_t)shape->kh * shape->kw / ((int64_t)shape->stride_h * shape->stride_w),
                         .cin = shape->cin,
                         .cout = shape->cout,
                         .precision = shape->weight};
  const struct {
    ms_conv_pass pass;
    int counts;
    double *limit;
  } list[] = {{MS_CONV_FORWARD, 0, &row->forward},
              {MS_CONV_WEIGHT_GRAD, 0, &row->weight_grad},
              {MS_CONV_FORWARD, 1, &row->forward_counts},
              {MS_CONV_WEIGHT_GRAD, 1, &row->weight_grad_counts},
              {MS_CONV_INPUT_GRAD, 0, &row->input_grad}};
  enum { LIMITS = sizeof list / sizeof *list };
  const char *held = backends[backend_of(d->k)].forced;
  ms_status st = ms_row(d, d->k->conv_force(NULL, NULL), "calibrate", err);
  double end = now() + seconds;
  for (int i = 0; i < LIMITS && !st; i++) {
    double left = end - now();
    st = limit_of(list[i].limit, d, shape, list[i].pass, list[i].counts, left > 0 ? left / (LIMITS - i) : 0, err);
  }
  (void)d->k->conv_force(NULL, held);
  return st;
}
