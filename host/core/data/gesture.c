#include "gesture.h"
#include <string.h>

typedef struct line {
  const char *p;
  size_t n; /* without blanks at the end */
} line;

/* The line at *at, and on to the next; 0 at the end. */
static int next_line(line *l, const ms_input *in, size_t *at) {
  if (*at >= in->n)
    return 0;
  const uint8_t *p = in->p + *at, *end = memchr(p, '\n', in->n - *at);
  size_t n = end ? (size_t)(end - p) : in->n - *at;
  *at += n + (end != NULL);
  while (n > 0 && (p[n - 1] == '\r' || p[n - 1] == ' ' || p[n - 1] == '\t'))
    n--;
  *l = (line){(const char *)p, n};
  return 1;
}

/* Three numbers of digits alone, at most 15 of them. */
static int numbers(const line *l, int64_t value[3]) {
  size_t i = 0;
  for (int k = 0; k < 3; k++) {
    size_t from = i;
    value[k] = 0;
    for (; i < l->n && l->p[i] >= '0' && l->p[i] <= '9'; i++)
      if (i - from < 15)
        value[k] = 10 * value[k] + (l->p[i] - '0');
      else
        return 0;
    if (i == from || (k < 2 && (i >= l->n || l->p[i++] != ',')))
      return 0;
  }
  return i == l->n;
}

ms_status ms_gesture_labels(ms_buffer *out, const ms_input *in, ms_error *err) {
  static const char columns[] = "class,startTime_usec,endTime_usec";
  size_t at = 0, n = 0, from = 0;
  int64_t value[3], before = 0;
  line l;
  out->bytes = 0;
  if (!next_line(&l, in, &at) || l.n != sizeof columns - 1 || memcmp(l.p, columns, l.n) != 0)
    return ms_damaged(in, 0, -1, err, "expected '%s' in the first line", columns);
  for (from = at; next_line(&l, in, &at); from = at) {
    if (l.n == 0)
      continue;
    if (!numbers(&l, value))
      return ms_damaged(in, (int64_t)from, (int64_t)n, err, "expected three whole numbers, got '%.*s'",
                        l.n < 40 ? (int)l.n : 40, l.p);
    if (value[0] < 1 || value[0] > 11)
      return ms_damaged(in, (int64_t)from, (int64_t)n, err, "expected a class from 1 to 11, got %lld",
                        (long long)value[0]);
    if (value[1] >= value[2])
      return ms_damaged(in, (int64_t)from, (int64_t)n, err, "expected an end after the start %lld, got %lld",
                        (long long)value[1], (long long)value[2]);
    if (value[1] < before && in->policy == MS_STRICT)
      return ms_damaged(in, (int64_t)from, (int64_t)n, err,
                        "expected a start from %lld, that of the row before, got %lld", (long long)before,
                        (long long)value[1]);
    ms_gesture row = {.label = (int)value[0] - 1, .start_us = value[1], .end_us = value[2]};
    ms_status status = ms_buffer_resize(out, (n + 1) * sizeof row, in->op, err);
    if (status)
      return status;
    memcpy(out->p + n++ * sizeof row, &row, sizeof row);
    before = value[1];
  }
  return n > 0 ? MS_OK : ms_damaged(in, (int64_t)in->n, -1, err, "no rows");
}

static int plain_name(const line *l) {
  static const char ending[] = ".aedat";
  size_t n = sizeof ending - 1;
  for (size_t i = 0; i < l->n; i++)
    if (l->p[i] <= ' ' || l->p[i] > '~' || l->p[i] == '/' || l->p[i] == '\\')
      return 0;
  return l->n > n && l->n < 256 && l->p[0] != '.' && memcmp(l->p + l->n - n, ending, n) == 0;
}

static int listed(const ms_buffer *names, const line *l) {
  for (size_t i = 0; i < names->bytes; i += strlen((const char *)names->p + i) + 1)
    if (strlen((const char *)names->p + i) == l->n && memcmp(names->p + i, l->p, l->n) == 0)
      return 1;
  return 0;
}

ms_status ms_gesture_trials(ms_buffer *out, const ms_input *in, ms_error *err) {
  size_t at = 0, from = 0;
  line l;
  out->bytes = 0;
  for (; next_line(&l, in, &at); from = at) {
    size_t n = out->bytes;
    if (l.n == 0)
      continue;
    if (!plain_name(&l))
      return ms_damaged(in, (int64_t)from, -1, err, "expected the name of an .aedat file of this folder, got '%.*s'",
                        l.n < 80 ? (int)l.n : 80, l.p);
    if (listed(out, &l))
      return ms_damaged(in, (int64_t)from, -1, err, "'%.*s' is named twice", (int)l.n, l.p);
    ms_status status = ms_buffer_resize(out, n + l.n + 1, in->op, err);
    if (status)
      return status;
    memcpy(out->p + n, l.p, l.n);
    out->p[n + l.n] = 0;
  }
  return out->bytes > 0 ? MS_OK : ms_damaged(in, (int64_t)in->n, -1, err, "no names");
}
