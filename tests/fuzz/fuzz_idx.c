#include "../../host/core/data/idx.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ms_tensor *t;
  ms_error err = {0};
  ms_status status = ms_idx_read(&t, input_path(data, size), (ms_policy)(size % 3), NULL, &err);
  if (status ? t != NULL || !err.text[0] : t == NULL)
    abort();
  ms_release(t);
  return 0;
}
