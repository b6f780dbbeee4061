#include "balance.h"
#include "../../../kernels/math/philox.h"
#include <stdlib.h>

static ms_status check(int64_t n, const int64_t *labels, int64_t classes, ms_error *err) {
  if (classes < 1 || classes > PTRDIFF_MAX / 32 || n > PTRDIFF_MAX / 32)
    return ms_fail(err, MS_ERANGE, "balanced_order: classes: expected at least 1, got %lld", (long long)classes);
  for (int64_t i = 0; i < n; i++)
    if (labels[i] < 0 || labels[i] >= classes)
      return ms_fail(err, MS_ERANGE, "balanced_order: labels: expected 0 to %lld, got %lld at index %lld",
                     (long long)(classes - 1), (long long)labels[i], (long long)i);
  return MS_OK;
}

ms_status ms_balanced_order(int64_t *order, int64_t n, const int64_t *labels, int64_t classes, uint64_t key,
                            ms_error *err) {
  ms_status status = check(n, labels, classes, err);
  if (status)
    return status;
  /* samples sorted by class; class k has those from first[k] to first[k + 1]; present: classes with samples */
  int64_t *first = calloc((size_t)classes + 2, sizeof *first), *present = calloc((size_t)classes, sizeof *present);
  int64_t *sorted = calloc((size_t)n + 1, sizeof *sorted), kinds = 0;
  if (!first || !present || !sorted) {
    status = ms_fail(err, MS_EMEM, "balanced_order: out of memory for %lld samples", (long long)n);
    goto done;
  }
  for (int64_t i = 0; i < n; i++)
    first[labels[i] + 2]++;
  for (int64_t k = 0; k < classes; k++) {
    if (first[k + 2] > 0)
      present[kinds++] = k;
    first[k + 2] += first[k + 1];
  }
  for (int64_t i = 0; i < n; i++)
    sorted[first[labels[i] + 1]++] = i;
  for (int64_t i = 0; i < n; i++) {
    ms_philox4 r = ms_philox_block(key, (uint64_t)i, 0), s = ms_philox_block(key, (uint64_t)i, 1);
    int64_t k = present[ms_random_int(r.w[0], r.w[1], 0, (uint64_t)kinds)];
    order[i] = sorted[ms_random_int(s.w[0], s.w[1], first[k], (uint64_t)(first[k + 1] - first[k]))];
  }
done:
  free(first);
  free(present);
  free(sorted);
  return status;
}
