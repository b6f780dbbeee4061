/* Dense convolution by the library oneDNN. Operands of other types are expanded or rounded into the workspace first.
**
** The gradient of the inputs is a convolution of dL/dy with the weights turned round: one for each phase of the stride,
** whose images are put together afterwards. The library's own way is slower: by a fifth without a stride, and two to
** three times with one (version 2.6, bfloat16). */
#include "conv.h"
#include "gemm.h"
#include "onednn.h"
#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { PHASES = 16, RESULTS = 2 };

typedef struct kept {
  ms_conv_desc d;
  int threads;              /* of the units below */
  int asked[3];             /* by pass: the units were made, where the library has them */
  ms_dnn *unit[RESULTS][3]; /* by result: float32, bfloat16 */
  ms_dnn *phase[RESULTS][PHASES];
  float *zeros; /* for a layer without bias */
} kept;

typedef ms_conv_axis axis;

/* ---- shapes ---- */

static int phases_of(const ms_conv_desc *d) {
  return d->stride_h * d->stride_w;
}

static void phase_axes(const ms_conv_desc *d, int phase, axis *y, axis *x) {
  *y = ms_conv_phase(d->h, d->oh, d->pad_h, d->stride_h, d->dil_h, d->kh, phase / d->stride_w);
  *x = ms_conv_phase(d->w, d->ow, d->pad_w, d->stride_w, d->dil_w, d->kw, phase % d->stride_w);
}

static int64_t pixels(const axis *y, const axis *x) {
  return y->out * x->out;
}

static int64_t taps(const axis *y, const axis *x) {
  return y->taps * x->taps;
}

static ms_dnn_shape forward_shape(const ms_conv_desc *d, ms_dtype result) {
  int64_t cig = d->cin / d->groups;
  ms_dnn_shape s = {.n = d->n,
                    .h = d->h,
                    .w = d->w,
                    .cin = d->cin,
                    .oh = d->oh,
                    .ow = d->ow,
                    .cout = d->cout,
                    .groups = d->groups,
                    .k = {d->kh, d->kw},
                    .stride = {d->stride_h, d->stride_w},
                    .dilation = {d->dil_h, d->dil_w},
                    .before = {d->pad_h, d->pad_w},
                    .w_group = d->cout / d->groups * d->kh * d->kw * cig,
                    .w_out = d->kh * d->kw * cig,
                    .w_in = 1,
                    .w_y = d->kw * cig,
                    .w_x = cig,
                    .operand = d->weight,
                    .result = result};
  /* the last outputs need not read to the end of the padding */
  s.after[0] = (d->oh - 1) * d->stride_h + (d->kh - 1) * d->dil_h + 1 - d->h - d->pad_h;
  s.after[1] = (d->ow - 1) * d->stride_w + (d->kw - 1) * d->dil_w + 1 - d->w - d->pad_w;
  if (d->kh * d->kw == 1 && d->h * d->w == 1) { /* a linear layer: its rows are the pixels of one image */
    s.n = 1;
    s.w = s.ow = d->n;
  }
  return s;
}

static int64_t after(const axis *a) {
  return a->start + a->out - 1 + (a->taps - 1) * a->tap_step - (a->in - 1);
}

/* dL/dy to one phase of dL/dx; the weights have been turned round to [cout][taps][cin / groups]. */
static ms_dnn_shape phase_shape(const ms_conv_desc *d, const axis *y, const axis *x, ms_dtype result) {
  int64_t cig = d->cin / d->groups;
  ms_dnn_shape s = {.n = d->n,
                    .h = d->oh,
                    .w = d->ow,
                    .cin = d->cout,
                    .oh = y->out,
                    .ow = x->out,
                    .cout = d->cin,
                    .groups = d->groups,
                    .k = {y->taps, x->taps},
                    .stride = {1, 1},
                    .dilation = {y->tap_step, x->tap_step},
                    .before = {-y->start, -x->start},
                    .after = {after(y), after(x)},
                    .w_group = d->cout / d->groups * taps(y, x) * cig,
                    .w_out = 1,
                    .w_in = y->taps * x->taps * cig,
                    .w_y = x->taps * cig,
                    .w_x = cig,
                    .operand = d->weight,
                    .result = result};
  if (taps(y, x) == 1 && d->h * d->w * d->oh * d->ow == 1) {
    s.n = 1;
    s.w = s.ow = d->n;
  }
  return s;
}

/* ---- what a plan keeps ---- */

static void *open_plan(const ms_conv_desc *d) {
  if (!ms_dnn_hold())
    return NULL;
  kept *k = calloc(1, sizeof *k);
  if (k)
    k->d = *d;
  else
    ms_dnn_drop();
  return k;
}

static void close_units(kept *k) {
  for (int r = 0; r < RESULTS; r++) {
    for (int i = 0; i < 3; i++)
      ms_dnn_close(k->unit[r][i]);
    for (int i = 0; i < PHASES; i++)
      ms_dnn_close(k->phase[r][i]);
  }
  memset(k->unit, 0, sizeof k->unit);
  memset(k->phase, 0, sizeof k->phase);
  memset(k->asked, 0, sizeof k->asked);
}

static void close_plan(void *p) {
  kept *k = p;
  close_units(k);
  free(k->zeros);
  free(k);
  ms_dnn_drop();
}

static int results(const kept *k, ms_conv_pass pass) {
  return k->d.weight == MS_BF16 && pass != MS_CONV_WEIGHT_GRAD ? RESULTS : 1;
}

static int make_phases(kept *k, int r, ms_dtype result) {
  int made = 0;
  for (int i = 0; i < phases_of(&k->d); i++) {
    axis y, x;
    phase_axes(&k->d, i, &y, &x);
    if (taps(&y, &x) == 0 || pixels(&y, &x) == 0)
      continue;
    ms_dnn_shape s = phase_shape(&k->d, &y, &x, result);
    k->phase[r][i] = ms_dnn_open(&s);
    if (!k->phase[r][i])
      return 0;
    made++;
  }
  return made > 0;
}

static int make_units(kept *k, ms_conv_pass pass) {
  for (int r = 0; r < results(k, pass); r++) {
    ms_dtype result = r ? MS_BF16 : MS_F32;
    if (pass == MS_CONV_INPUT_GRAD) {
      if (!make_phases(k, r, result))
        return 0;
      continue;
    }
    ms_dnn_shape s = forward_shape(&k->d, result);
    s.weight_grad = pass == MS_CONV_WEIGHT_GRAD;
    s.bias = pass == MS_CONV_FORWARD;
    k->unit[r][pass] = ms_dnn_open(&s);
    if (!k->unit[r][pass])
      return 0;
  }
  if (pass == MS_CONV_FORWARD && !k->zeros)
    k->zeros = calloc((size_t)k->d.cout, sizeof *k->zeros);
  return pass != MS_CONV_FORWARD || k->zeros;
}

/* The library reads the number of threads from OpenMP. Returns what it was. */
static int set_threads(int n) {
#ifdef _OPENMP
  int was = omp_get_max_threads();
  if (n != was)
    omp_set_num_threads(n);
  return was;
#else
  return n;
#endif
}

enum { REFUSED = -1, UNASKED, MADE };

/* Mixed types that no step of ours makes are left to other engines. */
static int fits(const ms_conv_desc *d, const ms_conv_args *a, ms_conv_pass pass) {
  if (d->weight == MS_BF16)
    return pass != MS_CONV_WEIGHT_GRAD || a->weight.dtype == MS_F32;
  return a->weight.dtype == MS_F32 && a->y.dtype == MS_F32 && (pass != MS_CONV_INPUT_GRAD || a->x.dtype == MS_F32);
}

static int ready(void *p, const ms_conv_args *a, ms_conv_pass pass) {
  kept *k = p;
  if (k->threads != ms_cpu_threads()) {
    close_units(k);
    k->threads = ms_cpu_threads();
  }
  if (k->asked[pass] == UNASKED) {
    int was = set_threads(k->threads);
    k->asked[pass] = make_units(k, pass) ? MADE : REFUSED;
    set_threads(was);
  }
  return k->asked[pass] == MADE && fits(&k->d, a, pass);
}

/* ---- operands ---- */

enum { PIECE = 8192 };

static MS_HOT void convert_piece(void *to, ms_dtype want, ms_data x, int64_t at, int64_t n) {
  if (want == MS_F32)
    ms_unpack((ms_real *)to + at, x, at, n);
  else
    ms_unpack_bf16((ms_bf16 *)to + at, x, at, n);
}

static size_t width(ms_dtype t) {
  return t == MS_BF16 ? sizeof(ms_bf16) : sizeof(float);
}

static size_t part(int64_t n, ms_dtype t) {
  return ((size_t)n * width(t) + 63) / 64 * 64;
}

/* What of the workspace is not taken yet. */
typedef struct rest {
  char *p;
} rest;

static rest workspace_of(const ms_conv_args *a) {
  return (rest){(char *)(((uintptr_t)a->workspace + 63) / 64 * 64)};
}

static void *take(rest *r, int64_t n, ms_dtype t) {
  void *p = r->p;
  r->p += part(n, t);
  return p;
}

/* x in the type of operands: itself, or a copy in the workspace. */
static void *operand(rest *r, const ms_conv_desc *d, ms_data x, int64_t n) {
  ms_dtype want = d->weight;
  if (x.dtype == want)
    return x.p;
  void *to = take(r, n, want);
  ms_parallel_for(i, ms_ceil_div(n, PIECE), PIECE)
      convert_piece(to, want, x, i * PIECE, ms_min64(PIECE, n - i * PIECE));
  return to;
}

static int64_t inputs(const ms_conv_desc *d) {
  return d->n * d->h * d->w * d->cin;
}

static int64_t outputs(const ms_conv_desc *d) {
  return d->n * d->oh * d->ow * d->cout;
}

static int64_t weights(const ms_conv_desc *d) {
  return d->cout * d->kh * d->kw * (d->cin / d->groups);
}

/* The types of the arguments are not known yet: room for every conversion that may come. */
static size_t room(void *p, ms_conv_pass pass) {
  const kept *k = p;
  const ms_conv_desc *d = &k->d;
  ms_dtype t = d->weight;
  size_t most = 0, bytes = 64;
  for (int r = 0; r < results(k, pass); r++)
    if (pass != MS_CONV_INPUT_GRAD)
      most = ms_dnn_room(k->unit[r][pass]) > most ? ms_dnn_room(k->unit[r][pass]) : most;
    else
      for (int i = 0; i < phases_of(d); i++)
        if (k->phase[r][i] && ms_dnn_room(k->phase[r][i]) > most)
          most = ms_dnn_room(k->phase[r][i]);
  if (pass != MS_CONV_INPUT_GRAD)
    bytes += d->x == t ? 0 : part(inputs(d), t);
  if (pass == MS_CONV_FORWARD)
    return bytes + part(weights(d), t) + most;
  bytes += t == MS_BF16 ? part(outputs(d), t) : 0;
  if (pass == MS_CONV_INPUT_GRAD)
    return bytes + part(weights(d), t) + (phases_of(d) > 1 ? part(inputs(d), MS_F32) + PHASES * 64 : 0) + most;
  size_t bias = ms_bias_grad_size(d->n * d->oh * d->ow, d->cout);
  return bytes + (most > bias ? most : bias);
}

static ms_status run_unit(const kept *k, ms_dnn *u, void *x, void *w, const float *bias, void *y, char *rest_of_room) {
  int was = set_threads(k->threads);
  ms_status status = ms_dnn_run(u, x, w, bias, y, rest_of_room);
  set_threads(was);
  return status;
}

/* ---- passes ---- */

static ms_status forward(const ms_conv_desc *d, const ms_conv_args *a) {
  const kept *k = ms_conv_kept(a->plan);
  rest r = workspace_of(a);
  void *x = operand(&r, d, a->x, inputs(d)), *w = operand(&r, d, a->weight, weights(d));
  return run_unit(k, k->unit[a->y.dtype == MS_BF16][MS_CONV_FORWARD], x, w, a->bias ? a->bias : k->zeros, a->y.p, r.p);
}

static ms_status weight_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  const kept *k = ms_conv_kept(a->plan);
  rest r = workspace_of(a);
  void *x = operand(&r, d, a->x, inputs(d)), *g = operand(&r, d, a->y, outputs(d));
  ms_status status = run_unit(k, k->unit[0][MS_CONV_WEIGHT_GRAD], x, a->weight.p, NULL, g, r.p);
  if (status == MS_OK && a->bias)
    status = ms_bias_grad(a->bias, a->y, d->n * d->oh * d->ow, d->cout, (ms_real *)(void *)r.p);
  return status;
}

/* The taps of one phase, last first, for one output channel. */
static void turn_weights(const ms_conv_desc *d, char *to, ms_data w, const axis *y, const axis *x, int64_t co) {
  int64_t cig = d->cin / d->groups;
  for (int64_t ty = 0; ty < y->taps; ty++)
    for (int64_t tx = 0; tx < x->taps; tx++) {
      int64_t ky = y->first_tap + ty * y->tap_inc, kx = x->first_tap + tx * x->tap_inc;
      int64_t from = ((co * d->kh + ky) * d->kw + kx) * cig, at = ((co * y->taps + ty) * x->taps + tx) * cig;
      ms_data source = {(char *)w.p + (size_t)from * width(w.dtype), w.dtype, 1};
      convert_piece(to + (size_t)at * width(d->weight), d->weight, source, 0, cig);
    }
}

/* Line iy of image n of dL/dx from the images of the phases; zeros where a phase has no taps. */
static void join_line(const ms_conv_desc *d, const ms_data *out, char *const *images, int64_t line) {
  int64_t n = line / d->h, iy = line % d->h;
  size_t pixel = (size_t)d->cin * width(out->dtype);
  for (int px = 0; px < d->stride_w; px++) {
    const char *from = images[iy % d->stride_h * d->stride_w + px];
    int64_t rows = ms_ceil_div(d->h - iy % d->stride_h, d->stride_h), cols = ms_ceil_div(d->w - px, d->stride_w);
    if (from)
      from += (size_t)((n * rows + iy / d->stride_h) * cols) * pixel;
    for (int64_t ix = px; ix < d->w; ix += d->stride_w) {
      char *to = (char *)out->p + (size_t)(line * d->w + ix) * pixel;
      if (from)
        memcpy(to, from, pixel);
      else
        memset(to, 0, pixel);
      from += from ? pixel : 0;
    }
  }
}

static ms_status input_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  const kept *k = ms_conv_kept(a->plan);
  rest r = workspace_of(a);
  int bf16 = a->x.dtype == MS_BF16, phases = phases_of(d);
  void *g = operand(&r, d, a->y, outputs(d));
  char *turned = take(&r, weights(d), d->weight), *images[PHASES] = {0};
  ms_status status = MS_OK;
  for (int i = 0; phases > 1 && i < phases; i++) {
    axis y, x;
    phase_axes(d, i, &y, &x);
    if (k->phase[bf16][i])
      images[i] = take(&r, d->n * pixels(&y, &x) * d->cin, a->x.dtype);
  }
  for (int i = 0; i < phases && status == MS_OK; i++) {
    if (!k->phase[bf16][i])
      continue;
    axis y, x;
    phase_axes(d, i, &y, &x);
    ms_parallel_for(co, d->cout, taps(&y, &x) * (d->cin / d->groups)) turn_weights(d, turned, a->weight, &y, &x, co);
    status = run_unit(k, k->phase[bf16][i], g, turned, NULL, phases > 1 ? images[i] : a->x.p, r.p);
  }
  if (status == MS_OK && phases > 1) {
    ms_parallel_for(line, d->n * d->h, d->w * d->cin) join_line(d, &a->x, images, line);
  }
  return status;
}

static int supports(const ms_conv_desc *d, ms_conv_pass pass) {
  return inputs(d) > 0 && outputs(d) > 0 && weights(d) > 0 &&
         (pass != MS_CONV_INPUT_GRAD || (phases_of(d) <= PHASES && d->stride_h <= PHASES && d->stride_w <= PHASES));
}

const ms_conv_keeper ms_conv_onednn = {
    {"onednn", 0, supports, NULL, forward, input_grad, weight_grad}, open_plan, close_plan, ready, room};
