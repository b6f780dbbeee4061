#include "image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  return decode_image(data, size);
}
