#include "../../host/core/data/cifar.h"
#include "input.h"

/* The bytes as an archive, of either part of either set, by every policy. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  for (int k = 0; k < 12; k++) {
    ms_cifar c;
    ms_error err = {0};
    const char *root = input_path(data, size);
    ms_cifar_source s = {k & 1 ? 10 : 100, k >> 1 & 1, &root, 1, (ms_policy)(k >> 2), NULL};
    if (ms_cifar_read(&c, &s, &err) ? c.images != NULL || !err.text[0] : c.images == NULL)
      abort();
    ms_cifar_free(&c);
  }
  return 0;
}
