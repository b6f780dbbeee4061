#include "../../host/core/data/aedat2.h"
#include "events.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  return fuzz_events(ms_aedat2_decode, data, size);
}
