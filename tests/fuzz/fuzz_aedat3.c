#include "../../host/core/data/aedat3.h"
#include "events.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  return fuzz_events(ms_aedat3_decode, data, size);
}
