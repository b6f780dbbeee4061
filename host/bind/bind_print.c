/* Printing: nested brackets in logical order, one number format for the whole tensor, edges only when it is large. */
#include "bind_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ALL_SHOWN = 1000, EDGE = 3, COLUMNS = 80 };

typedef struct printer {
  luaL_Buffer b;
  const void *host; /* what is shown, row-major */
  ms_dtype dtype;
  int ndim;
  int64_t size[MS_MAX_DIMS]; /* of what is shown */
  int cut[MS_MAX_DIMS];      /* "..." stands behind EDGE elements of this dimension */
  char format;               /* 'd' integers, 'f' four decimals, 'e' scientific */
  int width;
} printer;

/* The first and last EDGE elements of every long dimension; *shown +1. */
static ms_status edges(ms_tensor **shown, ms_tensor *t, int cut[MS_MAX_DIMS], ms_error *err) {
  ms_tensor *now = ms_retain(t);
  ms_status status = MS_OK;
  for (int d = 0; d < t->ndim && !status; d++) {
    if (ms_numel(t) <= ALL_SHOWN || t->size[d] <= 2 * EDGE)
      continue;
    ms_tensor *part[2] = {NULL, NULL}, *next = NULL;
    cut[d] = 1;
    status = ms_narrow(&part[0], now, d, 0, EDGE, err);
    if (!status)
      status = ms_narrow(&part[1], now, d, t->size[d] - EDGE, EDGE, err);
    if (!status)
      status = ms_cat(&next, 2, part, d, err);
    ms_release(part[0]);
    ms_release(part[1]);
    if (!status) {
      ms_release(now);
      now = next;
    }
  }
  if (status)
    ms_release(now);
  else
    *shown = now;
  return status;
}

static int number_text(const printer *p, int64_t i, char *out, size_t size) {
  double x = ms_element(p->host, p->dtype, i);
  if (p->dtype == MS_I64)
    return snprintf(out, size, "%lld", (long long)((const int64_t *)p->host)[i]);
  if (!isfinite(x))
    return snprintf(out, size, "%s", isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
  if (p->format == 'd')
    return snprintf(out, size, "%.0f", x + 0.0); /* + 0.0: no "-0" */
  return snprintf(out, size, p->format == 'e' ? "%.4e" : "%.4f", x);
}

/* Integers plain; else four decimals; scientific where those would hide digits or run wide. */
static void choose_format(printer *p, int64_t n) {
  double largest = 0, smallest = INFINITY;
  int whole = 1;
  for (int64_t i = 0; i < n; i++) {
    double m = fabs(ms_element(p->host, p->dtype, i));
    if (!isfinite(m) || m == 0)
      continue;
    whole = whole && m == floor(m);
    largest = fmax(largest, m);
    smallest = fmin(smallest, m);
  }
  if (p->dtype == MS_I64 || p->dtype == MS_U8 || (whole && largest < 1e8))
    p->format = 'd';
  else if (largest > 1e8 || smallest < 1e-4 || largest / smallest > 1000)
    p->format = 'e';
  else
    p->format = 'f';
  for (int64_t i = 0; i < n; i++) {
    char text[400];
    int width = number_text(p, i, text, sizeof text);
    p->width = width > p->width ? width : p->width;
  }
}

static void add_spaces(luaL_Buffer *b, int n) {
  for (; n > 0; n--)
    luaL_addchar(b, ' ');
}

static void add_line(printer *p, int64_t first, int indent) {
  int64_t n = p->size[p->ndim - 1];
  int column = indent + 1;
  luaL_addchar(&p->b, '[');
  for (int64_t i = 0; i < n; i++) {
    char text[400];
    int used = number_text(p, first + i, text, sizeof text);
    if (i > 0) {
      luaL_addstring(&p->b, ",");
      if (column + 2 + p->width > COLUMNS) {
        luaL_addchar(&p->b, '\n');
        add_spaces(&p->b, indent + 1);
        column = indent + 1;
      } else {
        luaL_addchar(&p->b, ' ');
        column += 2;
      }
    }
    if (i == EDGE && p->cut[p->ndim - 1]) {
      luaL_addstring(&p->b, "..., ");
      column += 5;
    }
    add_spaces(&p->b, p->width - used);
    luaL_addlstring(&p->b, text, (size_t)used);
    column += p->width;
  }
  luaL_addchar(&p->b, ']');
}

static void add_block(printer *p, int dim, int64_t first) {
  if (dim == p->ndim - 1) {
    add_line(p, first, dim);
    return;
  }
  int64_t step = 1;
  for (int d = dim + 1; d < p->ndim; d++)
    step *= p->size[d];
  luaL_addchar(&p->b, '[');
  for (int64_t i = 0; i < p->size[dim]; i++) {
    if (i > 0) {
      luaL_addchar(&p->b, ',');
      for (int d = dim; d < p->ndim - 1; d++) /* a blank line between matrices, two between blocks of them */
        luaL_addchar(&p->b, '\n');
      add_spaces(&p->b, dim + 1);
    }
    if (i == EDGE && p->cut[dim]) {
      luaL_addstring(&p->b, "...,");
      for (int d = dim; d < p->ndim - 1; d++)
        luaL_addchar(&p->b, '\n');
      add_spaces(&p->b, dim + 1);
    }
    add_block(p, dim + 1, first + i * step);
  }
  luaL_addchar(&p->b, ']');
}

static void add_values(printer *p, int64_t n) {
  char text[400];
  if (n == 0)
    luaL_addstring(&p->b, "[]");
  else if (p->ndim == 0)
    luaL_addlstring(&p->b, text, (size_t)number_text(p, 0, text, sizeof text));
  else
    add_block(p, 0, 0);
}

int ms_tensor_tostring(lua_State *L) {
  ms_handle *h = luaL_checkudata(L, 1, MS_TENSOR_TYPE);
  if (h->tensor == NULL) {
    lua_pushliteral(L, "tensor (closed)");
    return 1;
  }
  printer p = {.ndim = h->tensor->ndim};
  ms_error err;
  ms_handle *shown = ms_push_handle(L);
  int was = ms_set_grad_enabled(0);
  ms_status status = edges(&shown->tensor, h->tensor, p.cut, &err);
  ms_set_grad_enabled(was);
  ms_finish(L, status, &err, 0);
  p.host = ms_push_host(L, shown->tensor);
  p.dtype = shown->tensor->dtype;
  memcpy(p.size, shown->tensor->size, sizeof p.size);
  choose_format(&p, ms_numel(shown->tensor));
  luaL_buffinit(L, &p.b);
  add_values(&p, ms_numel(shown->tensor));
  luaL_addchar(&p.b, '\n');
  luaL_addstring(&p.b, ms_tensor_text(h->tensor).s);
  if (h->tensor->requires_grad)
    luaL_addstring(&p.b, ", requires_grad");
  luaL_pushresult(&p.b);
  return 1;
}
