#include "loop.h"

#include <string.h>

/* A dimension with one stride for each operand; operand 0 leads the order. */
typedef struct axis {
  int64_t size, stride[4];
} axis;

/* Innermost last: larger strides of `lead` come first, equal ones stay as they are. */
static void sort_axes(axis *a, int n, int lead) {
  for (int i = 1; i < n; i++)
    for (int j = i; j > 0 && a[j - 1].stride[lead] < a[j].stride[lead]; j--) {
      axis t = a[j];
      a[j] = a[j - 1];
      a[j - 1] = t;
    }
}

/* Joins neighbours that every operand walks with one stride. */
static int merge_axes(axis *a, int n, int operands) {
  int kept = 0;
  for (int i = 0; i < n; i++) {
    int joined = kept > 0;
    for (int k = 0; k < operands && joined; k++)
      joined = a[kept - 1].stride[k] == a[i].stride[k] * a[i].size;
    if (!joined) {
      a[kept++] = a[i];
      continue;
    }
    a[kept - 1].size *= a[i].size;
    memcpy(a[kept - 1].stride, a[i].stride, sizeof a[i].stride);
  }
  return kept;
}

/* Stride of t along dimension d of a shape with ndim dimensions that t broadcasts to. */
static int64_t broadcast_stride(const ms_tensor *t, int ndim, int d) {
  int own = d - (ndim - t->ndim);
  return own < 0 || t->size[own] == 1 ? 0 : t->stride[own];
}

ms_status ms_loop_over(ms_loop *l, ms_tensor *out, int nin, ms_tensor *const *in, ms_order order, ms_error *err) {
  memset(l, 0, sizeof *l);
  l->nin = nin;
  ms_status st = ms_data_of(&l->out.data, out, err);
  for (int i = 0; i < nin && !st; i++)
    st = ms_data_of(&l->in[i].data, in[i], err);
  if (st)
    return st;
  axis a[MS_MAX_DIMS];
  int n = 0;
  for (int d = 0; d < out->ndim; d++) {
    if (out->size[d] == 1)
      continue;
    a[n].size = out->size[d];
    a[n].stride[0] = out->stride[d];
    for (int i = 0; i < nin; i++)
      a[n].stride[1 + i] = broadcast_stride(in[i], out->ndim, d);
    n++;
  }
  if (order == MS_ORDER_MEMORY)
    sort_axes(a, n, 0);
  n = merge_axes(a, n, 1 + nin);
  l->ndim = n;
  for (int d = 0; d < n; d++) {
    l->size[d] = a[d].size;
    l->out.stride[d] = a[d].stride[0];
    for (int i = 0; i < nin; i++)
      l->in[i].stride[d] = a[d].stride[1 + i];
  }
  return MS_OK;
}

ms_status ms_copy_data(ms_tensor *dst, ms_tensor *src, const char *op, ms_error *err) {
  ms_loop l;
  ms_status st = ms_loop_over(&l, dst, 1, &src, MS_ORDER_MEMORY, err);
  ms_device *d = ms_tensor_device(dst);
  return st ? st : ms_row(d, d->k->copy(d->stream, &l), op, err);
}

ms_status ms_reduction_over(ms_reduction *r, ms_tensor *out, ms_tensor *in, unsigned dims, int positional,
                            ms_error *err) {
  memset(r, 0, sizeof *r);
  r->factor = 1;
  ms_status st = ms_data_of(&r->in, in, err);
  if (!st)
    st = ms_data_of(&r->out, out, err);
  if (st)
    return st;
  axis kept[MS_MAX_DIMS], red[MS_MAX_DIMS];
  int nkept = 0, nred = 0;
  for (int d = 0; d < in->ndim; d++) {
    if (in->size[d] == 1)
      continue;
    axis *a = dims >> d & 1 ? &red[nred++] : &kept[nkept++];
    a->size = in->size[d];
    a->stride[0] = in->stride[d];
    a->stride[1] = dims >> d & 1 ? 0 : out->stride[d];
  }
  sort_axes(kept, nkept, 1);
  nkept = merge_axes(kept, nkept, 2);
  if (!positional)
    sort_axes(red, nred, 0);
  nred = merge_axes(red, nred, 1);
  r->nkept = nkept;
  r->nred = nred;
  for (int d = 0; d < nkept; d++) {
    r->kept[d] = kept[d].size;
    r->in_kept[d] = kept[d].stride[0];
    r->out_kept[d] = kept[d].stride[1];
  }
  for (int d = 0; d < nred; d++) {
    r->red[d] = red[d].size;
    r->in_red[d] = red[d].stride[0];
  }
  return MS_OK;
}
