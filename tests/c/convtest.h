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

static inline fixture make(const shape *s, ms_dtype x, ms_dtype w, ms_dtype y) {
  fixture f = {.d = describe(s, x, w)};
  f.nx = s->n * s->h * s->w * s->cin;
  f.nw = s->cout * s->kh * s->kw * (s->cin / s->groups);
  f.ny = s->n * f.d.oh * f.d.ow * s->cout;
  f.x = row_data(x, x == MS_SPIKE ? MS_R(0.25) : 1, f.nx);
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

/* Calls f for every product of the convolution: indices into x, w, y. */
typedef void visit_fn(void *ud, int64_t ix, int64_t iw, int64_t iy);
static inline void visit(const ms_conv_desc *d, visit_fn *f, void *ud) {
  int64_t cig = d->cin / d->groups, cog = d->cout / d->groups;
  for (int64_t n = 0; n < d->n; n++)
    for (int64_t oy = 0; oy < d->oh; oy++)
      for (int64_t ox = 0; ox < d->ow; ox++)
        for (int64_t co = 0; co < d->cout; co++)
          for (int64_t ky = 0; ky < d->kh; ky++)
            for (int64_t kx = 0; kx < d->kw; kx++) {
              int64_t iy = oy * d->stride_h - d->pad_h + ky * d->dil_h,
                      ix = ox * d->stride_w - d->pad_w + kx * d->dil_w;
              if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w)
                continue;
              for (int64_t c = 0; c < cig; c++)
                f(ud, ((n * d->h + iy) * d->w + ix) * d->cin + co / cog * cig + c,
                  ((co * d->kh + ky) * d->kw + kx) * cig + c, ((n * d->oh + oy) * d->ow + ox) * d->cout + co);
            }
}

typedef struct sums {
  const fixture *f;
  double *y, *ysize, *dx, *dxsize, *dw, *dwsize;
  int64_t products;
} sums;

static inline void add_product(void *ud, int64_t ix, int64_t iw, int64_t iy) {
  sums *s = ud;
  double x = row_get(s->f->x, ix), w = row_get(s->f->w, iw), g = row_get(s->f->g, iy);
  s->y[iy] += x * w;
  s->ysize[iy] += fabs(x * w);
  s->dx[ix] += g * w;
  s->dxsize[ix] += fabs(g * w);
  s->dw[iw] += g * x;
  s->dwsize[iw] += fabs(g * x);
  s->products += x != 0;
}

static inline double *zeros(int64_t n) {
  double *p = calloc((size_t)n + 1, sizeof *p);
  assert_non_null(p);
  return p;
}

#endif
