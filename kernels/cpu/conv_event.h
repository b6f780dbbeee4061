/* What the two passes of the event engine share: words of 64 inputs, a bit for each that is not zero, and lists of
** the places of the ones. */
#ifndef MS_CONV_EVENT_H
#define MS_CONV_EVENT_H

#include "conv.h"
#include "gemm.h"

enum {
  MS_EVENT_ROOM = 64, /* lists are written up to this many elements too far */
  MS_EVENT_SHIFT = 7, /* events of the forward pass carry bytes: a row of MS_NR weights is 128 of them */
  MS_EVENT_REPEAT = 4 /* counts up to this many are listed as that many events */
};

/* `cells` runs of n inputs from element `at` of x on: each pitch elements after the one before, or where `from` says. */
typedef struct ms_event_cells {
  ms_data x;
  int64_t at, pitch, cells, n;
  const int64_t *from; /* of columns */
  int most;            /* inputs above 1 are listed as often as they count, at most so often */
  uint32_t step;       /* the place of input i of cell c is c * step + i */
} ms_event_cells;

typedef struct ms_event_lister {
  /* Appends place << MS_EVENT_SHIFT of every non-zero input to list, from element n on; start [cells + 1] are the
  ** ends. Returns the last. */
  int64_t (*cells)(uint32_t *list, int32_t *start, int64_t n, const ms_event_cells *c);
  /* word[i] has bit c where input i of cell c is not zero; i < n <= 64, c < cells <= 64. All 64 are written. */
  void (*columns)(uint64_t word[64], const ms_event_cells *c);
  /* Appends place[i], i < 64, to list for every one i of the word, in their order. Returns how many. */
  int64_t (*places)(uint16_t *list, uint64_t word, const uint16_t *place);
} ms_event_lister;

/* For ms_cpu_isa(). */
ms_event_lister ms_event_best_lister(void);

/* The greatest of n inputs, how many are not zero, and their sum. */
typedef struct ms_event_sizes {
  int most;
  int64_t nonzero, sum;
} ms_event_sizes;
ms_event_sizes ms_event_measure(ms_data x, int64_t at, int64_t n);

/* Bytes of scratch for n elements, so that the next part is aligned too. */
MS_HD size_t ms_event_part(int64_t n, size_t width) {
  return ((size_t)n * width + 63) / 64 * 64;
}

/* conv_event_grad.c */
int ms_event_weight_grad_fits(const ms_conv_desc *d);
size_t ms_event_weight_grad_size(const ms_conv_desc *d);
ms_status ms_event_weight_grad(const ms_conv_desc *d, const ms_conv_args *a);

/* conv_event_input.c */
int ms_event_input_grad_fits(const ms_conv_desc *d);
size_t ms_event_input_grad_workspace(const ms_conv_desc *d);
ms_status ms_event_input_grad(const ms_conv_desc *d, const ms_conv_args *a);

#endif
