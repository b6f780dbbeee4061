#include "../../host/core/data/mat5.h"
#include "events.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  return fuzz_events(ms_mat5_decode, data, size);
}
