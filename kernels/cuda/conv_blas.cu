/* Convolution as matrix products over a column buffer: row (image, oy, ox), column (tap, channel), for each
** group. The buffer is filled and multiplied slab by slab, so that it stays in the second level cache; layers whose
** columns are their pixels (1x1, linear) need none.
**
**   forward      y = columns(x) w'
**   input grad   columns = dy w, then every input position sums its taps in order
**   weight grad  dw += dy' columns(x), slab after slab */
#include "conv.h"

namespace {

typedef struct job {
  const ms_conv_desc *d;
  ms_dtype type; /* of the operands */
  int64_t rows, k, cig, cog;
  int64_t slab; /* rows of a slab */
  int direct;   /* columns are pixels */
} job;

} // namespace

static int is_direct(const ms_conv_desc *d) {
  return d->kh * d->kw == 1 && d->stride_h == 1 && d->stride_w == 1 && d->pad_h == 0 && d->pad_w == 0;
}

/* Rows whose columns and results fill a slab. */
static job start(const ms_conv_plan *p) {
  const ms_conv_desc *d = &p->d;
  job j = {d, d->weight, ms_conv_rows(d), ms_conv_depth(d), d->cin / d->groups, d->cout / d->groups, 0, is_direct(d)};
  int64_t columns = j.k * d->groups * (int64_t)ms_width(j.type), results = d->cout * (int64_t)sizeof(float);
  j.slab = (int64_t)p->slab / (columns > results ? columns : results);
  j.slab = j.slab < 16 ? 16 : j.slab >= 256 ? j.slab / 128 * 128 : j.slab;
  j.slab = j.slab < j.rows ? j.slab : j.rows;
  return j;
}

/* Where one product can do all rows it does, as far as sizes of 32 bits allow. */
static int64_t all_rows(const job *j) {
  return j->rows < 1 << 30 ? j->rows : 1 << 30;
}

/* ---- columns ---- */

/* Rows [row, row + rows) into to [group][rows][taps][cig]; a thread moves V channels of one tap. */
template <int V> static __global__ void fill(ms_data to, ms_data x, ms_conv_desc d, int64_t row, int rows, int pixel) {
  int taps = d.kh * d.kw, cig = (int)(d.cin / d.groups), lanes = (int)(d.cin / V);
  int64_t thread = ms_thread();
  if (thread >= (int64_t)rows * taps * lanes)
    return;
  unsigned i = (unsigned)thread, at = i / lanes; /* a slab has fewer than 2^31 elements */
  int c = (int)(i - at * lanes) * V, r = (int)(at / taps), tap = (int)at - r * taps, place = pixel + r, group = c / cig;
  int ow = (int)d.ow, line = place / ow, oy = line % (int)d.oh;
  int64_t image = row / (d.oh * d.ow) + line / (int)d.oh;
  int64_t iy = (int64_t)oy * d.stride_h - d.pad_h + tap / d.kw * d.dil_h,
          ix = (int64_t)(place - line * ow) * d.stride_w - d.pad_w + tap % d.kw * d.dil_w;
  float v[V];
#pragma unroll
  for (int e = 0; e < V; e++)
    v[e] = 0;
  if (iy >= 0 && iy < d.h && ix >= 0 && ix < d.w)
    ms_load<V>(x, ((image * d.h + iy) * d.w + ix) * d.cin + c, v);
  ms_store<V>(to, (((int64_t)group * rows + r) * taps + tap) * cig + c - group * cig, v);
}

namespace {

/* A block of the left or right operand: element (row, col) of group g at g * group + row * row + col. */
typedef struct block {
  ms_data x;
  int64_t group, row;
} block;

} // namespace

static ms_status columns(ms_stream *s, const job *j, ms_data x, int64_t row, int64_t rows, void *to, block *out) {
  const ms_conv_desc *d = j->d;
  ms_data col = {to, j->type, 1};
  if (j->direct) {
    *out = {ms_from(x, row * d->cin), j->cig, d->cin};
    if (x.dtype == MS_BITS && row * d->cin % 8)
      return MS_EINVAL;
    return ms_conv_operand(s, &out->x, j->type, to, rows * d->cin);
  }
  *out = {col, rows * j->k, j->k};
  int64_t n = rows * d->kh * d->kw * d->cin;
  int pixel = (int)(row % (d->oh * d->ow));
  if (j->cig % 8 == 0 && ms_aligned(x.p, x.dtype, 0, 8))
    LAUNCH((fill<8>), ms_grid(n / 8), MS_BLOCK, 0, s->id, col, x, *d, row, (int)rows, pixel);
  else
    LAUNCH((fill<1>), ms_grid(n), MS_BLOCK, 0, s->id, col, x, *d, row, (int)rows, pixel);
  return ms_cuda_launched(s, "fill");
}

static ms_gemm product(const job *j, int64_t m, int64_t n, int64_t k, ms_real beta) {
  ms_gemm g = {};
  g.batch = j->d->groups;
  g.m = m;
  g.n = n;
  g.k = k;
  g.alpha = 1;
  g.beta = beta;
  return g;
}

/* ---- forward ---- */

static int needs_columns(const job *j, ms_data x) {
  return !j->direct || x.dtype != j->type;
}

/* y cannot take the product itself: it is narrower than the sums, or rounded after the bias is added. */
static int results_aside(const job *j, ms_dtype y, int bias) {
  return y == MS_BF16 && (j->type == MS_F32 || bias);
}

static size_t column_room(const job *j) {
  int64_t n = j->slab * j->k * j->d->groups;
  return j->direct && j->d->x == j->type ? 0 : ms_piece(n, ms_width(j->type));
}

static size_t forward_room(const job *j) {
  return ms_piece(ms_conv_weights(j->d), ms_width(j->type)) + column_room(j) +
         ms_piece(j->slab * j->d->cout, sizeof(float));
}

static ms_status forward(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a) {
  const ms_conv_desc *d = &p->d;
  job j = start(p);
  ms_rest rest = {(char *)a->workspace};
  ms_data w = a->weight;
  MS_TRY(ms_conv_operand(s, &w, j.type, ms_take(&rest, ms_conv_weights(d), ms_width(j.type)), ms_conv_weights(d)));
  int aside = results_aside(&j, a->y.dtype, a->bias != NULL), packed = needs_columns(&j, a->x);
  void *col = packed ? ms_take(&rest, j.slab * j.k * d->groups, ms_width(j.type)) : NULL;
  ms_data sums = {aside ? ms_take(&rest, j.slab * d->cout, sizeof(float)) : NULL, MS_F32, 1};
  int64_t slab = aside || packed ? j.slab : all_rows(&j);
  if (a->bias && !aside)
    MS_TRY(ms_conv_add_bias(s, a->y, ms_data{}, a->bias, j.rows, d->cout));
  for (int64_t row = 0; row < j.rows; row += slab) {
    int64_t rows = slab < j.rows - row ? slab : j.rows - row;
    block x;
    MS_TRY(columns(s, &j, a->x, row, rows, col, &x));
    ms_gemm g = product(&j, rows, j.cog, j.k, a->bias && !aside ? 1.0f : 0.0f);
    g.a = x.x;
    g.a_batch = x.group;
    g.a_row = x.row;
    g.a_col = 1;
    g.b = w;
    g.b_batch = j.cog * j.k;
    g.b_row = 1;
    g.b_col = j.k;
    g.c = aside ? sums : ms_from(a->y, row * d->cout);
    g.c_batch = j.cog;
    g.ldc = d->cout;
    MS_TRY(ms_cuda_product(s, &g));
    if (aside)
      MS_TRY(ms_conv_add_bias(s, ms_from(a->y, row * d->cout), sums, a->bias, rows, d->cout));
  }
  return MS_OK;
}

/* ---- input gradient ---- */

namespace {

/* A slab is some whole images or, of larger ones, some lines of one image, with all outputs that read them. */
typedef struct cut {
  int64_t images, lines; /* input lines; all of them where images > 1 */
  int64_t rows;          /* most rows of columns */
} cut;

} // namespace

static int64_t clamp(int64_t x, int64_t lo, int64_t hi) {
  return x < lo ? lo : x > hi ? hi : x;
}

/* Output lines that read input lines [y, y + lines): from `first` on. */
static int64_t readers(const ms_conv_desc *d, int64_t y, int64_t lines, int64_t *first) {
  int64_t low = y + d->pad_h - (int64_t)(d->kh - 1) * d->dil_h, high = (y + lines - 1 + d->pad_h) / d->stride_h;
  *first = clamp(low > 0 ? ms_div_up(low, d->stride_h) : 0, 0, d->oh);
  return clamp(high + 1, *first, d->oh) - *first;
}

static cut cut_images(const job *j, size_t bytes) {
  const ms_conv_desc *d = j->d;
  int64_t line = d->ow * j->k * d->groups * (int64_t)sizeof(float), fit = clamp((int64_t)bytes / line, 1, 1 << 30);
  if (fit >= d->oh) {
    int64_t images = clamp(fit / d->oh, 1, d->n);
    return {images, d->h, images * d->oh * d->ow};
  }
  int64_t span = (int64_t)(d->kh - 1) * d->dil_h, lines = clamp((fit - 1) * d->stride_h - span, 1, d->h);
  int64_t most = clamp((lines - 1 + span) / d->stride_h + 1, 1, d->oh);
  return {1, lines, most * d->ow};
}

/* dx of input lines [y, y + lines) of some images, from col [group][image][output line, from `first` on][ox][tap][cig];
** a thread makes V channels of a position. */
template <int V>
static __global__ void gather(ms_data dx, const float *col, ms_conv_desc d, int64_t n, int y, int lines, int first,
                              int readers, int64_t rows) {
  int cig = (int)(d.cin / d.groups), lanes = (int)(d.cin / V), taps = d.kh * d.kw;
  int64_t i = ms_thread();
  if (i >= n)
    return;
  int64_t pixel = i / lanes, line = pixel / d.w, image = line / lines;
  int c = (int)(i - pixel * lanes) * V, ix = (int)(pixel - line * d.w), iy = y + (int)(line - image * lines);
  int group = c / cig;
  const float *from = col + (int64_t)group * rows * taps * cig + c - group * cig;
  float sum[V];
#pragma unroll
  for (int e = 0; e < V; e++)
    sum[e] = 0;
  for (int ky = 0; ky < d.kh; ky++) {
    int oy = iy + d.pad_h - ky * d.dil_h;
    if (oy < 0 || oy % d.stride_h || oy / d.stride_h >= d.oh)
      continue;
    int64_t above = (image * readers + oy / d.stride_h - first) * d.ow;
    for (int kx = 0; kx < d.kw; kx++) {
      int ox = ix + d.pad_w - kx * d.dil_w;
      if (ox < 0 || ox % d.stride_w || ox / d.stride_w >= d.ow)
        continue;
      float v[V];
      ms_load_real<V>(from + ((above + ox / d.stride_w) * taps + ky * d.kw + kx) * cig, v);
#pragma unroll
      for (int e = 0; e < V; e++)
        sum[e] += v[e];
    }
  }
  ms_store<V>(dx, (image * d.h * d.w + (int64_t)iy * d.w + ix) * d.cin + c, sum);
}

/* dL/dy of some rows as operands. */
static size_t gradient_room(const job *j, int64_t rows) {
  return ms_piece(rows * j->d->cout, ms_width(j->type));
}

static size_t input_grad_room(const job *j, size_t bytes) {
  size_t w = ms_piece(ms_conv_weights(j->d), ms_width(j->type));
  if (j->direct)
    return w + gradient_room(j, j->slab) + ms_piece(j->slab * j->d->cin, sizeof(float));
  cut c = cut_images(j, bytes);
  return w + gradient_room(j, c.rows) + ms_piece(c.rows * j->k * j->d->groups, sizeof(float));
}

/* c = g w for rows from `row` on. */
static ms_status spread(ms_stream *s, const job *j, ms_data dy, ms_data w, int64_t row, int64_t rows, void *room,
                        block c) {
  int64_t cout = j->d->cout;
  ms_data g = ms_from(dy, row * cout);
  MS_TRY(ms_conv_operand(s, &g, j->type, room, rows * cout));
  ms_gemm p = product(j, rows, j->k, j->cog, 0);
  p.a = g;
  p.a_batch = j->cog;
  p.a_row = cout;
  p.a_col = 1;
  p.b = w;
  p.b_batch = j->cog * j->k;
  p.b_row = j->k;
  p.b_col = 1;
  p.c = c.x;
  p.c_batch = c.group;
  p.ldc = c.row;
  return ms_cuda_product(s, &p);
}

static ms_status input_grad_direct(ms_stream *s, const job *j, const ms_conv_args *a, ms_data w, ms_rest rest) {
  int64_t cin = j->d->cin;
  int narrow = a->y.dtype != j->type, aside = results_aside(j, a->x.dtype, 0);
  void *room = narrow ? ms_take(&rest, j->slab * j->d->cout, ms_width(j->type)) : NULL;
  void *sums = aside ? ms_take(&rest, j->slab * cin, sizeof(float)) : NULL;
  int64_t slab = narrow || aside ? j->slab : all_rows(j);
  for (int64_t row = 0; row < j->rows; row += slab) {
    int64_t rows = slab < j->rows - row ? slab : j->rows - row;
    ms_data dx = ms_from(a->x, row * cin), to = {sums, MS_F32, 1};
    MS_TRY(spread(s, j, a->y, w, row, rows, room, {aside ? to : dx, j->cig, cin}));
    if (aside)
      MS_TRY(ms_cuda_convert(s, dx, to, rows * cin));
  }
  return MS_OK;
}

static ms_status input_grad(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a) {
  const ms_conv_desc *d = &p->d;
  job j = start(p);
  ms_rest rest = {(char *)a->workspace};
  ms_data w = a->weight;
  MS_TRY(ms_conv_operand(s, &w, j.type, ms_take(&rest, ms_conv_weights(d), ms_width(j.type)), ms_conv_weights(d)));
  if (j.direct)
    return input_grad_direct(s, &j, a, w, rest);
  cut c = cut_images(&j, p->slab);
  void *room = a->y.dtype != j.type ? ms_take(&rest, c.rows * d->cout, ms_width(j.type)) : NULL;
  float *col = (float *)ms_take(&rest, c.rows * j.k * d->groups, sizeof(float));
  int wide = j.cig % 4 == 0 && ms_aligned(a->x.p, a->x.dtype, 0, 4);
  for (int64_t image = 0; image < d->n; image += c.images)
    for (int64_t y = 0; y < d->h; y += c.lines) {
      int64_t images = c.images < d->n - image ? c.images : d->n - image;
      int64_t lines = c.lines < d->h - y ? c.lines : d->h - y, first;
      int64_t outputs = c.lines < d->h ? readers(d, y, lines, &first) : (first = 0, d->oh);
      int64_t rows = images * outputs * d->ow;
      if (rows > 0)
        MS_TRY(
            spread(s, &j, a->y, w, (image * d->oh + first) * d->ow, rows, room, {{col, MS_F32, 1}, rows * j.k, j.k}));
      ms_data dx = ms_from(a->x, image * d->h * d->w * d->cin);
      int64_t n = images * lines * d->w * d->cin / (wide ? 4 : 1);
      if (wide)
        LAUNCH((gather<4>), ms_grid(n), MS_BLOCK, 0, s->id, dx, col, *d, n, (int)y, (int)lines, (int)first,
               (int)outputs, rows);
      else
        LAUNCH((gather<1>), ms_grid(n), MS_BLOCK, 0, s->id, dx, col, *d, n, (int)y, (int)lines, (int)first,
               (int)outputs, rows);
      MS_TRY(ms_cuda_launched(s, "gather"));
    }
  return MS_OK;
}

/* ---- weight gradient ---- */

static size_t weight_grad_room(const job *j) {
  return column_room(j) + gradient_room(j, j->slab) + ms_piece(ms_conv_weights(j->d), sizeof(float)) +
         ms_conv_bias_room(j->rows, j->d->cout);
}

static ms_status weight_grad(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a) {
  const ms_conv_desc *d = &p->d;
  job j = start(p);
  ms_rest rest = {(char *)a->workspace};
  int packed = needs_columns(&j, a->x), narrow = a->y.dtype != j.type, aside = a->weight.dtype != MS_F32;
  void *col = packed ? ms_take(&rest, j.slab * j.k * d->groups, ms_width(j.type)) : NULL;
  void *room = narrow ? ms_take(&rest, j.slab * d->cout, ms_width(j.type)) : NULL;
  ms_data dw = a->weight;
  if (aside)
    dw = {ms_take(&rest, ms_conv_weights(d), sizeof(float)), MS_F32, 1};
  int64_t slab = packed || narrow ? j.slab : all_rows(&j);
  for (int64_t row = 0; row < j.rows; row += slab) {
    int64_t rows = slab < j.rows - row ? slab : j.rows - row;
    block x;
    MS_TRY(columns(s, &j, a->x, row, rows, col, &x));
    ms_data dy = ms_from(a->y, row * d->cout);
    MS_TRY(ms_conv_operand(s, &dy, j.type, room, rows * d->cout));
    ms_gemm g = product(&j, j.cog, j.k, rows, row > 0 ? 1.0f : 0.0f);
    g.a = dy;
    g.a_batch = j.cog;
    g.a_row = 1;
    g.a_col = d->cout;
    g.b = x.x;
    g.b_batch = x.group;
    g.b_row = x.row;
    g.b_col = 1;
    g.c = dw;
    g.c_batch = j.cog * j.k;
    g.ldc = j.k;
    MS_TRY(ms_cuda_product(s, &g));
  }
  if (aside)
    MS_TRY(ms_cuda_convert(s, a->weight, dw, ms_conv_weights(d)));
  if (!a->bias)
    return MS_OK;
  return ms_conv_bias_grad(s, a->bias, a->y, j.rows, d->cout,
                           ms_take(&rest, (int64_t)ms_conv_bias_room(j.rows, d->cout), 1));
}

/* ---- the engine ---- */

static int supports(const ms_conv_plan *p, ms_conv_pass pass) {
  (void)p;
  (void)pass;
  return 1;
}

static size_t workspace(const ms_conv_plan *p, ms_conv_pass pass) {
  job j = start(p);
  if (j.rows == 0 || ms_conv_weights(&p->d) == 0)
    return 0;
  return pass == MS_CONV_FORWARD      ? forward_room(&j)
         : pass == MS_CONV_INPUT_GRAD ? input_grad_room(&j, p->slab)
                                      : weight_grad_room(&j);
}

const ms_conv_engine ms_conv_blas = {"cublas", supports, workspace, {forward, input_grad, weight_grad}};
