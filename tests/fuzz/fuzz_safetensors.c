#include "../../host/core/safetensors.h"
#include "input.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ms_st_file *f;
  ms_error err = {0};
  if (ms_st_open(&f, input_path(data, size), &err)) {
    if (!err.text[0])
      abort();
    return 0;
  }
  for (int i = 0; i < ms_st_count(f); i++) {
    ms_tensor *t;
    const ms_st_entry *e = ms_st_at(f, i);
    if (ms_st_find(f, e->name) != i)
      abort();
    if (!ms_st_tensor(&t, f, i, &err))
      ms_release(t);
  }
  size_t length = 0;
  for (int i = 0; i < ms_st_metadata_count(f); i++) {
    const char *key, *value;
    ms_st_metadata_at(f, i, &key, &value);
    length += strlen(key) + strlen(value);
  }
  ms_st_close(f);
  return length > size; /* escapes only shrink */
}
