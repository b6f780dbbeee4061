#include "../../host/core/data/npz.h"
#include "input.h"

/* Events and frames by every policy, then every member. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static ms_events events;
  static ms_picture picture;
  static ms_buffer scratch;
  for (int policy = MS_STRICT; policy <= MS_ORACLE; policy++) {
    ms_error err = {0};
    ms_input in = {.op = "fuzz", .path = "x.npz", .p = data, .n = size, .policy = (ms_policy)policy};
    int side = policy == MS_STRICT ? 0 : 34;
    if (ms_npz_events(&events, &scratch, &in, side, side, &err) ? events.n != 0 || !err.text[0] : events.n < 0)
      abort();
    for (int64_t i = 0; i < events.n; i++)
      if (events.x[i] >= events.width || events.y[i] >= events.height || events.p[i] > 1)
        abort();
    err.text[0] = 0;
    if (ms_npz_frames(&picture, &scratch, &in, &err) && !err.text[0])
      abort();
  }
  return 0;
}
