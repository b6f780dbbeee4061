/* Options from the first bytes, then events of 8 bytes each: frames, after augmentation, must count what is there. */
#include "../../host/core/data/event_augment.h"
#include "../../host/core/data/frames.h"
#include "input.h"
#include <string.h>

#define HEADER 20

static int64_t time_of(const uint8_t *p, int64_t before, int wild) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  if (wild)
    return (p[1] & 2 ? INT64_MAX : 0) - (int64_t)((uint64_t)v << (p[0] & 31)) * (p[1] & 2 || p[1] & 1 ? 1 : -1);
  return before + (v & 0xffff);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ms_events e = {0};
  ms_buffer scratch = {0};
  ms_picture frames = {0};
  ms_error err = {0};
  if (size < HEADER)
    return 0;
  int64_t n = (int64_t)((size - HEADER) / 8);
  ms_frames_options o = {.split = data[0] % MS_SPLIT_COUNT,
                         .T = data[1],
                         .duration_us = data[2] << 8 | data[3],
                         .polarity = data[4] % MS_POLARITY_COUNT,
                         .occupancy = data[5] & 1,
                         .transpose = data[5] >> 1 & 1,
                         .repair_time = data[5] >> 2 & 1,
                         .height = data[6] % 8,
                         .width = data[7] % 8,
                         .post = data[8] % MS_POST_COUNT,
                         .dtype = data[9] & 1 ? MS_U8 : MS_F32,
                         .policy = data[9] >> 1 & 1   ? MS_LENIENT
                                   : data[9] >> 2 & 1 ? MS_ORACLE
                                                      : MS_STRICT};
  ms_event_augment a = {.drop = data[10] % MS_DROP_COUNT,
                        .released = data[11] & 1,
                        .flip_x = data[12] / 255.0,
                        .reverse = data[19] / 255.0};
  if (ms_events_reserve(&e, n + 1, "fuzz", &err))
    abort();
  e.width = 1 + data[13] % 8;
  e.height = 1 + data[14] % 8;
  for (; e.n < n; e.n++) {
    const uint8_t *p = data + HEADER + 8 * e.n;
    e.t[e.n] = time_of(p, e.n ? e.t[e.n - 1] : 0, data[15] == 1);
    e.x[e.n] = data[16] == 1 ? p[4] : p[4] % e.width;
    e.y[e.n] = data[16] == 1 ? p[5] : p[5] % e.height;
    e.p[e.n] = p[6] & 1;
  }
  if (data[16] != 1 && (ms_events_augment(&e, &scratch, &a, data[17], data[18], &err) || e.n > n))
    abort();
  ms_status status = ms_frames_integrate(&frames, &scratch, &e, &o, &err);
  if (status && !err.text[0])
    abort();
  if (!status && o.split == MS_SPLIT_NUMBER && !o.occupancy && o.dtype == MS_F32 && o.post == MS_POST_NONE &&
      o.polarity != MS_POLARITY_DIFFERENCE) {
    ms_real sum = 0;
    for (int64_t i = 0; i < frames.t * frames.h * frames.w * frames.c; i++)
      sum += ms_picture_reals(&frames)[i];
    if (sum != (ms_real)e.n)
      abort();
  }
  ms_events_free(&e);
  ms_buffer_free(&scratch);
  ms_picture_free(&frames);
  return 0;
}
