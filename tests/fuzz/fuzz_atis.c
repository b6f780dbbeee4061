#include "../../host/core/data/atis.h"
#include "events.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  return fuzz_events(ms_atis_decode, data, size);
}
