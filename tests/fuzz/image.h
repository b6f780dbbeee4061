/* One image under every policy, all of it and a part. */
#include "../../host/core/data/image.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int decode_image(const uint8_t *data, size_t size) {
  ms_picture picture = {0};
  ms_error err = {0};
  int64_t w, h;
  for (int policy = MS_STRICT; policy <= MS_ORACLE; policy++) {
    ms_repairs repairs = {0};
    ms_input in = {
        .op = "fuzz", .path = "input", .p = data, .n = size, .policy = (ms_policy)policy, .repairs = &repairs};
    ms_image_options opt = {.max_pixels = 1 << 18, .grey = policy == MS_ORACLE};
    ms_status status = ms_image_decode(&picture, &in, NULL, &opt, &err);
    if (status ? picture.t != 0 || !err.text[0] : picture.t != 1)
      abort();
    if (ms_image_size(&w, &h, &in, &err) == MS_OK && w > 2 && h > 2 && w * h <= opt.max_pixels)
      ms_image_decode(&picture, &in, &(ms_box){w / 3, h / 3, w / 3 + 1, h / 3 + 1}, &opt, &err);
  }
  ms_picture_free(&picture);
  return 0;
}
