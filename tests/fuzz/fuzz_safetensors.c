#include "../../host/core/safetensors.h"
#include "input.h"
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

/* Changes the header alone, mostly, and then says its new length: else nearly every file would end at the length. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
  static uint8_t tail[1 << 16];
  uint64_t header = 0;
  if (size >= 8)
    memcpy(&header, data, 8);
  if (size < 8 || header > size - 8 || size > sizeof tail || most <= size || seed % 8 == 0)
    return LLVMFuzzerMutate(data, size, most);
  size_t rest = size - 8 - header;
  memcpy(tail, data + 8 + header, rest);
  header = LLVMFuzzerMutate(data + 8, header, most - 8 - rest);
  memcpy(data, &header, 8);
  memcpy(data + 8 + header, tail, rest);
  return 8 + header + rest;
}

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
