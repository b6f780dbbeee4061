/* Helpers of tests of readers of recordings: decoding from memory that ends where the bytes end, sweeps over damage. */
#ifndef MS_EVENTSTEST_H
#define MS_EVENTSTEST_H

#include "scratch.h"
#include "../../host/core/data/sink.h"
#include <zlib.h>

typedef ms_status (*decoder)(ms_events *, const ms_input *, const ms_events_options *, ms_error *);
typedef struct row {
  int64_t t;
  int x, y, p;
} row;

#define MAYBE static inline __attribute__((unused))
#define COUNT(rows) ((int64_t)(sizeof(rows) / sizeof *(rows)))

static ms_error E;
static ms_events got;
static ms_repairs repairs;

MAYBE ms_status decode_as(decoder f, const void *bytes, size_t n, ms_policy policy, ms_events_options opt) {
  uint8_t *copy = malloc(n); /* a read behind the end is seen */
  if (n)
    memcpy(copy, bytes, n);
  ms_input in = {"test", "file", copy, n, policy, &repairs};
  memset(&E, 0, sizeof E);
  memset(&repairs, 0, sizeof repairs);
  got.n = 7; /* a failure must take it back */
  ms_status status = f(&got, &in, &opt, &E);
  free(copy);
  if (status) {
    assert_int_equal(got.n, 0);
    assert_int_equal(E.status, status);
    if (strncmp(E.text, "test: ", 6) != 0)
      fail_msg("message: %s", E.text);
    return status;
  }
  assert_true(got.n >= 0 && got.n <= got.room);
  for (int64_t i = 0; i < got.n && policy != MS_ORACLE; i++) {
    assert_true(got.x[i] < got.width && got.y[i] < got.height && got.p[i] <= 1);
    assert_true(i == 0 || got.t[i] >= got.t[i - 1]);
  }
  return status;
}

MAYBE void decoded(decoder f, const void *bytes, size_t n, ms_policy policy, ms_events_options opt, const row *want,
                   int64_t rows) {
  if (decode_as(f, bytes, n, policy, opt))
    fail_msg("%s", E.text);
  assert_int_equal(got.n, rows);
  for (int64_t i = 0; i < rows; i++)
    if (got.t[i] != want[i].t || got.x[i] != want[i].x || got.y[i] != want[i].y || got.p[i] != want[i].p)
      fail_msg("event %lld: (%lld, %d, %d, %d), expected (%lld, %d, %d, %d)", (long long)i, (long long)got.t[i],
               got.x[i], got.y[i], got.p[i], (long long)want[i].t, want[i].x, want[i].y, want[i].p);
}

MAYBE void refused(decoder f, const void *bytes, size_t n, ms_policy policy, ms_events_options opt, const char *why) {
  if (!decode_as(f, bytes, n, policy, opt))
    fail_msg("no error; expected: %s", why);
  assert_int_equal(E.status, MS_EFORMAT);
  if (!strstr(E.text, why))
    fail_msg("expected '%s' in: %s", why, E.text);
}

/* Every prefix and every file with one bit changed, by every policy. Gives how many of them strict took. */
typedef struct survivors {
  int prefixes, flips;
} survivors;

MAYBE survivors sweep(decoder f, const void *bytes, size_t n, ms_events_options opt) {
  survivors s = {0, 0};
  uint8_t *copy = malloc(n);
  memcpy(copy, bytes, n);
  for (int policy = MS_STRICT; policy <= MS_ORACLE; policy++) {
    for (size_t i = 0; i < n; i++)
      s.prefixes += !decode_as(f, bytes, i, (ms_policy)policy, opt) && policy == MS_STRICT;
    for (size_t bit = 0; bit < 8 * n; bit++) {
      copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
      s.flips += !decode_as(f, copy, n, (ms_policy)policy, opt) && policy == MS_STRICT;
      copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
  }
  free(copy);
  return s;
}

/* Bytes from hexadecimal digits; blanks between them mean nothing. */
MAYBE size_t unhex(uint8_t *out, const char *text) {
  size_t n = 0;
  for (; *text; text++)
    if (*text != ' ') {
      unsigned v;
      assert_int_equal(sscanf(text++, "%2x", &v), 1);
      out[n++] = (uint8_t)v;
    }
  return n;
}

MAYBE unsigned long crc_of(const void *bytes, size_t n) {
  return crc32(0, bytes, (uInt)n);
}

#endif
