#include "../../host/core/data/arrays.h"
#include "../../host/core/data/npz.h"
#include "input.h"

static void read_members(const uint8_t *data, size_t size) {
  ms_npz_file *f;
  ms_error err = {0};
  ms_status status = ms_npz_file_open(&f, input_path(data, size), 1 << 24, &err);
  if (status ? f != NULL || !err.text[0] : f == NULL)
    abort();
  for (int64_t i = 0; f && i < ms_npz_file_count(f); i++) {
    ms_tensor *t;
    err.text[0] = 0;
    status = ms_npz_file_tensor(&t, f, i, &err);
    if (status ? t != NULL || !err.text[0] : t == NULL)
      abort();
    ms_release(t);
  }
  ms_npz_file_close(f);
}

/* Events and frames by every policy, then every member. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static ms_events events;
  static ms_picture picture;
  static ms_buffer scratch;
  for (int policy = MS_STRICT; policy <= MS_ORACLE; policy++) {
    ms_error err = {0};
    ms_input in = {.op = "fuzz", .path = "x.npz", .p = data, .n = size, .policy = (ms_policy)policy};
    int side = policy == MS_STRICT ? 0 : 34;
    if (ms_npz_events(&events, &scratch, &in, side, side, &err) ? events.n != 0 || !err.text[0] : events.n < 0)
      abort();
    for (int64_t i = 0; i < events.n; i++)
      if (events.x[i] >= events.width || events.y[i] >= events.height || events.p[i] > 1)
        abort();
    err.text[0] = 0;
    if (ms_npz_frames(&picture, &scratch, &in, &err) && !err.text[0])
      abort();
  }
  read_members(data, size);
  return 0;
}
