/* What every reader of files is tried on: each prefix of a good file, and each flip of one bit. The reader gets a copy
** of exactly that size, so that the sanitizers see a read past its end. */
#ifndef MS_DAMAGE_H
#define MS_DAMAGE_H

#include "scratch.h"
#include "../../host/core/error.h"

typedef ms_status (*damage_reader)(void *ud, const unsigned char *p, size_t n, ms_error *err);

static inline ms_status damage_try(damage_reader read, void *ud, const unsigned char *p, size_t n) {
  ms_error err = {0};
  unsigned char *copy = malloc(n ? n : 1);
  assert_non_null(copy);
  memcpy(copy, p, n);
  ms_status status = read(ud, copy, n, &err);
  free(copy);
  assert_true(status == MS_OK || err.text[0]);
  return status;
}

/* Every proper prefix is refused. */
static inline void damage_prefixes(damage_reader read, void *ud, const unsigned char *p, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (damage_try(read, ud, p, i) != MS_EFORMAT)
      fail_msg("the first %zu of %zu bytes were read", i, n);
}

/* Nothing but an error or a result comes of a flip of every step-th bit; how many were refused. */
static inline int64_t damage_some_flips(damage_reader read, void *ud, const unsigned char *p, size_t n, size_t step) {
  int64_t refused = 0;
  unsigned char *copy = malloc(n);
  assert_non_null(copy);
  memcpy(copy, p, n);
  for (size_t bit = 0; bit < 8 * n; bit += step) {
    copy[bit / 8] ^= (unsigned char)(1 << bit % 8);
    ms_status status = damage_try(read, ud, copy, n);
    assert_true(status == MS_OK || status == MS_EFORMAT);
    refused += status != MS_OK;
    copy[bit / 8] ^= (unsigned char)(1 << bit % 8);
  }
  free(copy);
  return refused;
}

static inline int64_t damage_flips(damage_reader read, void *ud, const unsigned char *p, size_t n) {
  return damage_some_flips(read, ud, p, n, 1);
}

#endif
