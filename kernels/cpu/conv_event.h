/* What the two passes of the event engine share: lists of the bytes that are not zero. */
#ifndef MS_CONV_EVENT_H
#define MS_CONV_EVENT_H

#include "conv.h"
#include "gemm.h"

enum { MS_EVENT_ROOM = 8 }; /* lists are written up to this many elements too far */

typedef uint32_t ms_event_quad __attribute__((vector_size(16), aligned(4), may_alias));

/* Appends base + i to the list for every non-zero byte x[i], i in [0, n): four bytes a move, without a branch on what
** they are. Returns how many; bytes above 1 leave a bit in *high. */
MS_HD int64_t ms_list_events(uint32_t *list, const uint8_t *x, int64_t n, uint32_t base, uint64_t *high) {
  static const ms_event_quad places[16] = {{0}, {0},    {1},    {0, 1},    {2},    {0, 2},    {1, 2},    {0, 1, 2},
                                           {3}, {0, 3}, {1, 3}, {0, 1, 3}, {2, 3}, {0, 2, 3}, {1, 2, 3}, {0, 1, 2, 3}};
  static const uint8_t many[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
  const uint64_t low7 = 0x7f7f7f7f7f7f7f7fu;
  int64_t found = 0;
  for (int64_t i = 0; i < n; i += 8, base += 8) {
    uint64_t v = 0;
    if (n - i >= 8)
      memcpy(&v, x + i, 8);
    else
      for (int64_t b = 0; b < n - i; b++)
        ((uint8_t *)&v)[b] = x[i + b];
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    *high |= v & ~(uint64_t)0x0101010101010101u;
    uint64_t ones = (((v & low7) + low7) | v) >> 7 & 0x0101010101010101u; /* 1 in each byte that is not zero */
    uint64_t mask = ones * 0x0102040810204080u >> 56;                     /* gathered into eight bits */
    *(ms_event_quad *)(list + found) = places[mask & 15] + base;
    found += many[mask & 15];
    *(ms_event_quad *)(list + found) = places[mask >> 4] + (base + 4);
    found += many[mask >> 4];
  }
  return found;
}

/* Bytes of scratch for n elements, so that the next part is aligned too. */
MS_HD size_t ms_event_part(int64_t n, size_t width) {
  return ((size_t)n * width + 63) / 64 * 64;
}

/* conv_event_grad.c */
int ms_event_weight_grad_fits(const ms_conv_desc *d);
ms_status ms_event_weight_grad(const ms_conv_desc *d, const ms_conv_args *a);

#endif
