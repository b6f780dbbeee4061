/* Element-wise work in blocks. Whatever the types and strides, a block of consecutive logical elements is brought into
** a plain array of ms_real (or of int64_t, where a result must be exact), computed there, and taken back; where memory
** already is such an array, it is used in place. */
#ifndef MS_BLOCK_H
#define MS_BLOCK_H

#include "../kernels.h"

enum { MS_BLOCK = 512 }; /* elements; a multiple of 4, as Philox makes four at a time */

typedef union ms_block {
  _Alignas(64) ms_real real[MS_BLOCK];
  int64_t integer[MS_BLOCK];
} ms_block;

/* A strided view whose elements are counted in row-major order. */
typedef struct ms_view {
  ms_data data;
  int ndim;
  const int64_t *size, *stride;
} ms_view;

static inline int ms_is_integer(ms_dtype t) {
  return t == MS_U8 || t == MS_I64;
}

/* Where element `at` lies, in elements from data.p. */
int64_t ms_view_offset(const ms_view *v, int64_t at);

/* Elements [at, at + n), n <= MS_BLOCK, as ms_real or (exact) as int64_t: in place or in `room`. */
const void *ms_view_load(const ms_view *v, int exact, int64_t at, int n, ms_block *room);

/* Where to write such a block: in place, or `room`, which ms_view_store then takes back. */
void *ms_view_target(const ms_view *v, int exact, int64_t at, int n, ms_block *room);
void ms_view_store(const ms_view *v, int exact, int64_t at, int n, const void *block);

/* out[0..n) from in[k][0..n), at logical position `at`; arrays of ms_real or (exact) int64_t. */
typedef void ms_block_fn(const void *context, int64_t at, int n, void *out, const void *const in[3]);

/* Runs f over every block of a loop, in parallel. `real_in` is a set of bits: these inputs come as ms_real all the
** same. */
void ms_each_block(const ms_loop *l, int exact, unsigned real_in, ms_block_fn *f, const void *context);

#endif
