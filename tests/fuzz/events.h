/* What a fuzz target of a reader of recordings does with its bytes: read them by every policy, and look at what came. */
#ifndef MS_FUZZ_EVENTS_H
#define MS_FUZZ_EVENTS_H

#include "../../host/core/data/sink.h"
#include <stdlib.h>

typedef ms_status (*decoder)(ms_events *, const ms_input *, const ms_events_options *, ms_error *);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void check_events(const ms_events *e, ms_policy policy, const ms_events_options *opt) {
  for (int64_t i = 0; i < e->n; i++) {
    if (e->p[i] > 1 || e->t[i] < opt->start_us || (opt->end_us && e->t[i] >= opt->end_us))
      abort();
    if (policy != MS_ORACLE && (e->x[i] >= e->width || e->y[i] >= e->height || (i > 0 && e->t[i] < e->t[i - 1])))
      abort();
  }
}

static inline int fuzz_events(decoder decode, const uint8_t *data, size_t size) {
  static const ms_events_options options[] = {{.start_us = INT64_MIN},
                                              {.layout = MS_LAYOUT_TRT, .start_us = 10, .end_us = 1000}};
  for (int policy = MS_STRICT; policy <= MS_ORACLE; policy++)
    for (size_t k = 0; k < sizeof options / sizeof *options; k++) {
      ms_events e = {0};
      ms_repairs repairs = {{0}};
      ms_input in = {"fuzz", "file", data, size, (ms_policy)policy, &repairs};
      ms_error err = {0};
      ms_status status = decode(&e, &in, &options[k], &err);
      if (status ? e.n != 0 || !err.text[0] : e.n < 0 || (e.n == 0 && policy == MS_STRICT))
        abort();
      check_events(&e, (ms_policy)policy, &options[k]);
      ms_events_free(&e);
    }
  return 0;
}

#endif
