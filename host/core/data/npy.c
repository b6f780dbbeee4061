#include "npy.h"
#include "bytes.h"
#include <stdio.h>
#include <string.h>

#define MAGIC "\x93NUMPY"

/* ---- the header: a Python literal {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} ---- */

typedef struct literal {
  const ms_input *in;
  size_t at, end;
} literal;

static ms_status wrong(const literal *s, ms_error *err, const char *what) {
  return ms_damaged(s->in, (int64_t)s->at, -1, err, "header: %s", what);
}

static void blanks(literal *s) {
  while (s->at < s->end && (s->in->p[s->at] == ' ' || s->in->p[s->at] == '\t' || s->in->p[s->at] == '\n'))
    s->at++;
}

static int take(literal *s, const char *word) {
  size_t n = strlen(word);
  blanks(s);
  if (s->end - s->at < n || memcmp(s->in->p + s->at, word, n) != 0)
    return 0;
  s->at += n;
  return 1;
}

/* A quoted string without escapes. */
static ms_status text(char *out, size_t room, literal *s, ms_error *err) {
  blanks(s);
  uint8_t quote = s->at < s->end ? s->in->p[s->at] : 0;
  if (quote != '\'' && quote != '"')
    return wrong(s, err, "expected a string");
  s->at++;
  size_t n = 0;
  for (; s->at + n < s->end && s->in->p[s->at + n] != quote; n++)
    if (n + 1 == room || s->in->p[s->at + n] == '\\' || s->in->p[s->at + n] < ' ')
      return wrong(s, err, "unknown string");
  if (s->at + n == s->end)
    return wrong(s, err, "a string does not end");
  memcpy(out, s->in->p + s->at, n);
  out[n] = 0;
  s->at += n + 1;
  return MS_OK;
}

static ms_status descriptor(ms_npy *a, literal *s, ms_error *err) {
  static const char *const known[] = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"};
  char d[24];
  blanks(s);
  if (s->at < s->end && s->in->p[s->at] == '[')
    return wrong(s, err, "expected an array of numbers, got one of structures");
  ms_status status = text(d, sizeof d, s, err);
  if (status)
    return status;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (d[0] && strcmp(d + 1, known[i]) == 0 && strchr(known[i][1] == '1' ? "|<>" : "<>", d[0])) {
      a->kind = d[1];
      a->width = d[2] - '0';
      a->big = d[0] == '>';
      return MS_OK;
    }
  return ms_damaged(s->in, (int64_t)s->at, -1, err, "header: descr: expected bool, integers or floats, got '%s'%s", d,
                    strchr(d, 'O') ? " (Python objects are never unpickled)" : "");
}

static ms_status boolean(int *out, literal *s, ms_error *err) {
  *out = take(s, "True");
  return *out || take(s, "False") ? MS_OK : wrong(s, err, "fortran_order: expected True or False");
}

static ms_status integer(int64_t *out, literal *s, ms_error *err) {
  size_t first = s->at;
  *out = 0;
  for (; s->at < s->end && s->in->p[s->at] >= '0' && s->in->p[s->at] <= '9'; s->at++)
    if (__builtin_mul_overflow(*out, (int64_t)10, out) ||
        __builtin_add_overflow(*out, (int64_t)(s->in->p[s->at] - '0'), out))
      return wrong(s, err, "shape: the sizes overflow");
  if (s->at == first)
    return wrong(s, err, "shape: expected a size");
  if (s->at < s->end && s->in->p[s->at] == 'L') /* of Python 2 */
    s->at++;
  return MS_OK;
}

static ms_status shape(ms_npy *a, literal *s, ms_error *err) {
  if (!take(s, "("))
    return wrong(s, err, "shape: expected (");
  for (int comma = 1; !take(s, ")");) {
    if (!comma)
      return wrong(s, err, "shape: expected , or )");
    if (a->ndim == MS_MAX_DIMS)
      return wrong(s, err, "shape: too many dimensions");
    ms_status status = integer(&a->size[a->ndim++], s, err);
    if (status)
      return status;
    comma = take(s, ",");
    if (!comma && a->ndim == 1) /* (3) is a number in Python */
      return wrong(s, err, "shape: expected ,");
  }
  return MS_OK;
}

static ms_status header(ms_npy *a, literal *s, ms_error *err) {
  static const char *const keys[] = {"descr", "fortran_order", "shape"};
  int seen[3] = {0};
  if (!take(s, "{"))
    return wrong(s, err, "expected {");
  for (int comma = 1; !take(s, "}");) {
    char key[24];
    int k = 0;
    if (!comma)
      return wrong(s, err, "expected , or }");
    ms_status status = text(key, sizeof key, s, err);
    while (!status && k < 3 && strcmp(key, keys[k]) != 0)
      k++;
    if (!status && (k == 3 || seen[k]++ || !take(s, ":")))
      status = wrong(s, err, "expected descr, fortran_order and shape, once each");
    if (!status)
      status = k == 0 ? descriptor(a, s, err) : k == 1 ? boolean(&a->fortran, s, err) : shape(a, s, err);
    if (status)
      return status;
    comma = take(s, ",");
  }
  blanks(s);
  if (s->at < s->end || s->in->p[s->end - 1] != '\n')
    return wrong(s, err, "expected blanks and the end of a line");
  return seen[0] && seen[1] && seen[2] ? MS_OK : wrong(s, err, "expected descr, fortran_order and shape");
}

static ms_status describe(ms_npy *a, const ms_input *in, ms_error *err) {
  const char *other = ms_looks_like(in->p, in->n);
  if (in->n < 6 || memcmp(in->p, MAGIC, 6) != 0)
    return ms_damaged(in, 0, -1, err, "not npy: it must begin with \\x93NUMPY%s%s", other ? "; this looks like " : "",
                      other ? other : "");
  if (in->n < 8)
    return ms_damaged(in, (int64_t)in->n, -1, err, "the file ends too early");
  if (in->p[6] < 1 || in->p[6] > 3 || in->p[7] != 0)
    return ms_damaged(in, 6, -1, err, "expected version 1.0, 2.0 or 3.0, got %d.%d", in->p[6], in->p[7]);
  size_t begin = in->p[6] == 1 ? 10 : 12;
  if (in->n < begin)
    return ms_damaged(in, (int64_t)in->n, -1, err, "the file ends too early");
  uint64_t length = ms_bytes(in->p + 8, (int)begin - 8, 0);
  if (length == 0 || length > in->n - begin)
    return ms_damaged(in, 8, -1, err, "the file cannot hold a header of %llu bytes", (unsigned long long)length);
  literal s = {in, begin, begin + (size_t)length};
  ms_status status = header(a, &s, err);
  if (status)
    return status;
  a->elements = 1;
  for (int d = 0; d < a->ndim; d++)
    if (__builtin_mul_overflow(a->elements, a->size[d], &a->elements))
      return wrong(&s, err, "shape: the sizes overflow");
  a->data = in->p + s.end;
  size_t left = in->n - s.end;
  if ((uint64_t)a->elements > left / (size_t)a->width)
    return ms_damaged(in, (int64_t)in->n, -1, err, "%zu bytes of data cannot hold %s", left, ms_npy_text(a).s);
  size_t extra = left - (size_t)a->elements * (size_t)a->width;
  if (extra && in->policy == MS_STRICT)
    return ms_damaged(in, (int64_t)(in->n - extra), -1, err, "%zu bytes behind the data", extra);
  ms_repaired(in, MS_REPAIR_EXTRA, (int64_t)extra);
  return MS_OK;
}

ms_status ms_npy_open(ms_npy *out, const ms_input *in, ms_error *err) {
  *out = (ms_npy){0};
  ms_status status = describe(out, in, err);
  if (status)
    *out = (ms_npy){0};
  return status;
}

ms_text ms_npy_text(const ms_npy *a) {
  ms_text t;
  snprintf(t.s, sizeof t.s, "%c%c%d %.140s",
           a->width == 1 ? '|'
           : a->big      ? '>'
                         : '<',
           a->kind, a->width, ms_shape_text(a->ndim, a->size).s);
  return t;
}

ms_dtype ms_npy_dtype(const ms_npy *a) {
  return a->kind == 'f' ? MS_F32 : a->width == 1 && a->kind != 'i' ? MS_U8 : MS_I64;
}

/* ---- values ---- */

#define INLINE static inline __attribute__((always_inline))

/* 0: an int64 cannot hold it. */
INLINE int integer_of(int64_t *out, uint64_t bits, char kind, int width) {
  if (kind == 'f') {
    double d = ms_bytes_real(bits, width);
    if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0) || d != (double)(int64_t)d)
      return 0;
    *out = (int64_t)d;
  } else if (kind == 'i')
    *out = (int64_t)(bits << (64 - 8 * width)) >> (64 - 8 * width);
  else
    *out = kind == 'b' ? bits != 0 : (int64_t)bits;
  return kind != 'u' || *out >= 0;
}

/* A row of elements, `step` bytes apart, to places `place` elements apart; where it stopped. */
typedef struct row {
  void *out;
  const uint8_t *p;
  int64_t n, step, place;
} row;

INLINE int64_t convert(const row *r, ms_dtype dtype, char kind, int width, int big) {
  const uint8_t *p = r->p;
  for (int64_t i = 0; i < r->n; i++, p += r->step) {
    uint64_t bits = ms_bytes(p, width, big);
    int64_t v = 0;
    if (dtype == MS_F32 && kind == 'f')
      ((ms_real *)r->out)[i * r->place] = (ms_real)ms_bytes_real(bits, width);
    else if (dtype == MS_F32 && kind == 'u')
      ((ms_real *)r->out)[i * r->place] = (ms_real)bits;
    else if (!integer_of(&v, bits, kind, width) || (dtype == MS_U8 && (v < 0 || v > 255)))
      return i;
    else if (dtype == MS_F32)
      ((ms_real *)r->out)[i * r->place] = (ms_real)v;
    else if (dtype == MS_U8)
      ((uint8_t *)r->out)[i * r->place] = (uint8_t)v;
    else
      ((int64_t *)r->out)[i * r->place] = v;
  }
  return r->n;
}

INLINE int64_t convert_kind(const row *r, ms_dtype dtype, const ms_npy *a) {
  switch (a->kind << 4 | a->width) {
#define CASE(kind, width)     \
  case (kind) << 4 | (width): \
    return a->big ? convert(r, dtype, kind, width, 1) : convert(r, dtype, kind, width, 0);
    CASE('b', 1)
    CASE('u', 1)
    CASE('u', 2) CASE('u', 4) CASE('u', 8) CASE('i', 1) CASE('i', 2) CASE('i', 4) CASE('i', 8) CASE('f', 2) CASE('f', 4)
        CASE('f', 8)
#undef CASE
  }
  return 0;
}

static int64_t convert_row(const row *r, ms_dtype dtype, const ms_npy *a) {
  return dtype == MS_I64  ? convert_kind(r, MS_I64, a)
         : dtype == MS_U8 ? convert_kind(r, MS_U8, a)
                          : convert_kind(r, MS_F32, a);
}

static void dense(int64_t *stride, const ms_npy *a, int fortran) {
  int64_t n = 1;
  for (int i = 0; i < a->ndim; i++) {
    int d = fortran ? i : a->ndim - 1 - i;
    stride[d] = n;
    n *= a->size[d];
  }
}

ms_status ms_npy_read(void *out, ms_dtype dtype, const int64_t *stride, const ms_npy *a, const ms_input *in,
                      ms_error *err) {
  size_t unit = dtype == MS_I64 ? sizeof(int64_t) : dtype == MS_U8 ? 1 : sizeof(ms_real);
  int64_t from[MS_MAX_DIMS] = {0}, to[MS_MAX_DIMS] = {0}, at[MS_MAX_DIMS] = {0}, n = 1;
  if (a->elements == 0)
    return MS_OK;
  dense(from, a, a->fortran);
  dense(to, a, 0);
  if (stride)
    memcpy(to, stride, sizeof *to * (size_t)a->ndim);
  /* The last dimensions are one row where they lie so on both sides. */
  int outer = a->ndim;
  if (outer > 0)
    n = a->size[--outer];
  int64_t step = a->ndim ? from[outer] : 1, place = a->ndim ? to[outer] : 1;
  while (outer > 0 && from[outer - 1] == step * n && to[outer - 1] == place * n)
    n *= a->size[--outer];
  for (;;) {
    int64_t i = 0, o = 0;
    for (int d = 0; d < outer; d++) {
      i += at[d] * from[d];
      o += at[d] * to[d];
    }
    row r = {(char *)out + (size_t)o * unit, a->data + i * a->width, n, step * a->width, place};
    int64_t done = convert_row(&r, dtype, a);
    if (done < n) {
      const uint8_t *p = r.p + done * r.step;
      uint64_t bits = ms_bytes(p, a->width, a->big);
      int64_t v = 0;
      double got = a->kind == 'f' ? ms_bytes_real(bits, a->width) : (double)bits;
      if (a->kind == 'i' && integer_of(&v, bits, 'i', a->width))
        got = (double)v;
      return ms_damaged(in, p - in->p, (p - a->data) / a->width, err, "expected %s, got %.17g",
                        dtype == MS_U8 ? "0 to 255" : "an integer of 64 bits", got);
    }
    int d = outer;
    while (d > 0 && ++at[d - 1] == a->size[d - 1])
      at[--d] = 0;
    if (d == 0)
      return MS_OK;
  }
}

/* ---- writing ---- */

ms_status ms_npy_header(ms_buffer *out, const char *descr, int ndim, const int64_t *size, const char *op,
                        ms_error *err) {
  char s[320], last[24] = "";
  int n = snprintf(s, sizeof s, "{'descr': '%.8s', 'fortran_order': False, 'shape': (", descr);
  for (int d = 0; d < ndim; d++)
    n += snprintf(s + n, sizeof s - (size_t)n, d ? ", %lld" : "%lld", (long long)size[d]);
  n += snprintf(s + n, sizeof s - (size_t)n, ndim == 1 ? ",), }" : "), }");
  /* NumPy leaves room for the first size to grow to 21 digits, and pads by 1 to 64 bytes. */
  int grow = ndim ? 21 - snprintf(last, sizeof last, "%lld", (long long)size[0]) : 0;
  size_t at = out->bytes, length = ((size_t)(10 + n + grow + 1) / 64 + 1) * 64 - 10;
  ms_status status = ms_buffer_resize(out, at + 10 + length, op, err);
  if (status)
    return status;
  memcpy(out->p + at, MAGIC "\1\0", 8);
  out->p[at + 8] = (uint8_t)length;
  out->p[at + 9] = (uint8_t)(length >> 8);
  memset(out->p + at + 10, ' ', length - 1);
  memcpy(out->p + at + 10, s, (size_t)n);
  out->p[at + 10 + length - 1] = '\n';
  return MS_OK;
}
