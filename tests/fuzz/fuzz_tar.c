#include "../../host/core/data/tar.h"
#include "input.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ms_stream_in s;
  ms_error err = {0};
  int found;
  if (ms_stream_open(&s, "fuzz", input_path(data, size), &err))
    return 0;
  ms_tar t = ms_tar_of(&s, 1 << 24);
  ms_status status;
  while (!(status = ms_tar_next(&t, &found, &err)) && found) {
    char b[256];
    if (t.name[0] == '/' || strstr(t.name, "/../") || t.bytes < 0 || t.bytes > 1 << 24)
      abort();
    if (ms_tar_read(&t, b, t.left < 256 ? (size_t)t.left : 256, &err))
      break;
  }
  if (status && !err.text[0])
    abort();
  ms_stream_close(&s);
  return 0;
}
