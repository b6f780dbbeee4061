/* Shared by the tests of convolution engines: shapes, data, and all products of a convolution in plain loops. */
#ifndef MS_CONVTEST_H
#define MS_CONVTEST_H

#include "../../kernels/cpu/conv.h"
#include "rowtest.h"

typedef struct shape {
  int64_t n, h, w, cin, cout;
  int kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
} shape;

typedef struct fixture {
  ms_conv_desc d;
  ms_data x, w, b, g; /* input, weight, bias, dL/dy */
  int64_t nx, nw, ny;
} fixture;

static inline ms_conv_desc describe(const shape *s, ms_dtype x, ms_dtype w) {
  return (ms_conv_desc){.n = s->n,
                        .h = s->h,
                        .w = s->w,
                        .cin = s->cin,
                        .cout = s->cout,
                        .oh = (s->h + 2 * s->pad_h - s->dil_h * (s->kh - 1) - 1) / s->stride_h + 1,
                        .ow = (s->w + 2 * s->pad_w - s->dil_w * (s->kw - 1) - 1) / s->stride_w + 1,
                        .kh = s->kh,
                        .kw = s->kw,
                        .stride_h = s->stride_h,
                        .stride_w = s->stride_w,
                        .pad_h = s->pad_h,
                        .pad_w = s->pad_w,
                        .dil_h = s->dil_h,
                        .dil_w = s->dil_w,
                        .groups = s->groups,
                        .x = x,
                        .weight = w};
}

static inline double *zeros(int64_t n) {
  double *p = calloc((size_t)n + 1, sizeof *p);
  assert_non_null(p);
  return p;
}

/* A one for every element of bytes that is not zero; of exactly the size that may be read. */
static inline ms_data bits_of(ms_data bytes, int64_t n) {
  uint8_t *bits = calloc(1, MS_BITS_BYTES(n) + !n);
  assert_non_null(bits);
  for (int64_t i = 0; i < n; i++)
    if (((uint8_t *)bytes.p)[i])
      bits[i / 8] |= (uint8_t)(1 << i % 8);
  return (ms_data){bits, MS_BITS, bytes.scale};
}

static inline fixture make(const shape *s, ms_dtype x, ms_dtype w, ms_dtype y) {
  fixture f = {.d = describe(s, x, w)};
  f.nx = s->n * s->h * s->w * s->cin;
  f.nw = s->cout * s->kh * s->kw * (s->cin / s->groups);
  f.ny = s->n * f.d.oh * f.d.ow * s->cout;
  f.x = row_data(x == MS_BITS ? MS_SPIKE : x, x == MS_SPIKE || x == MS_BITS ? MS_R(0.25) : 1, f.nx);
  if (x == MS_BITS) {
    ms_data bytes = f.x;
    f.x = bits_of(bytes, f.nx);
    free(bytes.p);
  }
  f.w = row_data(w, 1, f.nw);
  f.b = row_data(MS_F32, 1, s->cout);
  f.g = row_data(y, 1, f.ny);
  return f;
}

static inline void drop(fixture *f) {
  free(f->x.p);
  free(f->w.p);
  free(f->b.p);
  free(f->g.p);
}

/* ---- all products ---- */

/* The values that a product of this precision reads. */
static inline double *operand_of(ms_data x, int64_t n, ms_dtype precision) {
  double *to = zeros(n);
  for (int64_t i = 0; i < n; i++) {
    double v = x.dtype == MS_BITS ? (((uint8_t *)x.p)[i / 8] >> i % 8 & 1) * (double)x.scale : row_get(x, i);
    to[i] = precision == MS_BF16 ? (double)ms_bf16_to(ms_bf16_from((float)v)) : v;
  }
  return to;
}

typedef struct sums {
  double *x, *w, *g;                             /* operands */
  double *y, *dx, *dw, *ysize, *dxsize, *dwsize; /* results, and the sums of the magnitudes of their terms */
  int64_t products;                              /* of inputs that are not zero */
} sums;

/* Output element j reads the cig inputs from i on through the weights from k on. */
static inline void add_products(sums *s, int64_t i, int64_t k, int64_t j, int64_t cig) {
  double g = s->g[j], y = 0, size = 0;
  for (int64_t c = 0; c < cig; c++) {
    double x = s->x[i + c], w = s->w[k + c];
    y += x * w;
    size += fabs(x * w);
    s->dx[i + c] += g * w;
    s->dxsize[i + c] += fabs(g * w);
    s->dw[k + c] += g * x;
    s->dwsize[k + c] += fabs(g * x);
    s->products += x != 0;
  }
  s->y[j] += y;
  s->ysize[j] += size;
}

static inline sums multiply(const fixture *f) {
  const ms_conv_desc *d = &f->d;
  int64_t cig = d->cin / d->groups, cog = d->cout / d->groups;
  sums s = {operand_of(f->x, f->nx, d->weight),
            operand_of(f->w, f->nw, d->weight),
            operand_of(f->g, f->ny, d->weight),
            zeros(f->ny),
            zeros(f->nx),
            zeros(f->nw),
            zeros(f->ny),
            zeros(f->nx),
            zeros(f->nw),
            0};
  for (int64_t j = 0; j < f->ny; j++) {
    int64_t co = j % d->cout, ox = j / d->cout % d->ow, oy = j / d->cout / d->ow % d->oh,
            n = j / d->cout / d->ow / d->oh;
    for (int64_t ky = 0; ky < d->kh; ky++)
      for (int64_t kx = 0; kx < d->kw; kx++) {
        int64_t iy = oy * d->stride_h - d->pad_h + ky * d->dil_h, ix = ox * d->stride_w - d->pad_w + kx * d->dil_w;
        if (iy >= 0 && iy < d->h && ix >= 0 && ix < d->w)
          add_products(&s, ((n * d->h + iy) * d->w + ix) * d->cin + co / cog * cig,
                       ((co * d->kh + ky) * d->kw + kx) * cig, j, cig);
      }
  }
  return s;
}

static inline void drop_sums(sums *s) {
  double *all[] = {s->x, s->w, s->g, s->y, s->dx, s->dw, s->ysize, s->dxsize, s->dwsize};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    free(all[i]);
}

/* ---- what an engine returned ---- */

static inline void check_values(const char *what, ms_data got, int64_t n, const double *want, const double *size) {
  for (int64_t i = 0; i < n; i++)
    row_check(what, got, i, want[i], size[i]);
}

static inline void check_biased(const fixture *f, const sums *s, ms_data y) {
  for (int64_t i = 0; i < f->ny; i++) {
    double b = row_get(f->b, i % f->d.cout);
    row_check("y", y, i, s->y[i] + b, s->ysize[i] + fabs(b));
  }
}

/* Writes n elements of out: y with bias (NULL: without), dx, or dw and into bias its gradient. */
typedef void run_fn(const fixture *f, ms_conv_pass pass, ms_data out, int64_t n, ms_real *bias);

/* Every pass; y and dx are of the type `result`. */
static inline void check_passes(const fixture *f, const sums *s, ms_dtype result, ms_dtype dweight, run_fn *run) {
  int64_t cout = f->d.cout;
  ms_data y = row_output(result, f->ny), dx = row_output(result, f->nx), dw = row_output(dweight, f->nw),
          db = row_output(MS_F32, cout);
  run(f, MS_CONV_FORWARD, y, f->ny, f->b.p);
  check_biased(f, s, y);
  run(f, MS_CONV_FORWARD, y, f->ny, NULL);
  check_values("y without bias", y, f->ny, s->y, s->ysize);
  run(f, MS_CONV_INPUT_GRAD, dx, f->nx, NULL);
  check_values("dx", dx, f->nx, s->dx, s->dxsize);
  run(f, MS_CONV_WEIGHT_GRAD, dw, f->nw, db.p);
  check_values("dw", dw, f->nw, s->dw, s->dwsize);
  for (int64_t c = 0; c < cout; c++) {
    double sum = 0, size = 0;
    for (int64_t i = c; i < f->ny; i += cout) {
      sum += row_get(f->g, i);
      size += fabs(row_get(f->g, i));
    }
    row_check("db", db, c, sum, size);
  }
  ms_data all[] = {y, dx, dw, db};
  for (int i = 0; i < 4; i++)
    free(all[i].p);
}

#endif
