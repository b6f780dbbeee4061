#include "../../host/core/data/gesture.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  for (int policy = MS_STRICT; policy <= MS_LENIENT; policy++) {
    ms_input in = {"fuzz", "file", data, size, (ms_policy)policy, NULL};
    ms_buffer rows = {0}, names = {0};
    ms_error err = {0};
    if (ms_gesture_labels(&rows, &in, &err) ? !err.text[0] : rows.bytes == 0 || rows.bytes % sizeof(ms_gesture))
      abort();
    if (ms_gesture_trials(&names, &in, &err) ? !err.text[0] : names.bytes == 0 || names.p[names.bytes - 1])
      abort();
    ms_buffer_free(&rows);
    ms_buffer_free(&names);
  }
  return 0;
}
