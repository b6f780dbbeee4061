#include "../../host/core/data/hdf5.h"
#include "../../host/core/data/shd.h"
#include "events.h"
#include "input.h"

/* From exactly these bytes, so that the sanitizers see a read past their end: every list of an array. */
static void check_array(const char *path, const uint8_t *data, size_t size) {
  ms_input in = {.op = "fuzz", .path = "file", .p = data, .n = size};
  ms_hdf5_array a;
  ms_buffer elements = {0};
  ms_error err;
  if (!ms_hdf5_find(&a, path, &in, &err) && !ms_hdf5_read(&elements, &a, &in, &err))
    for (int64_t i = 0; i < a.n && a.lists; i++) {
      const uint8_t *list;
      int64_t n;
      if (ms_hdf5_list(&list, &n, &a, elements.p + i * a.element, &in, &err))
        break;
      if (n && (list < data || (uint64_t)n * (uint64_t)a.width > (uint64_t)(data + size - list)))
        abort();
    }
  ms_buffer_free(&elements);
}

/* The bytes as a file that is mapped. */
static void check_samples(ms_policy policy, const uint8_t *data, size_t size) {
  ms_shd *s;
  ms_events e = {0};
  ms_error err = {0};
  if (ms_shd_open(&s, "fuzz", input_path(data, size), &err) ? s != NULL || !err.text[0] : s == NULL)
    abort();
  for (int64_t i = 0, n = s ? ms_shd_count(s) : 0; i < n; i++) {
    if (ms_shd_read(&e, s, i, policy, NULL, &err))
      break;
    check_events(&e, policy, &(ms_events_options){.start_us = INT64_MIN});
  }
  ms_events_free(&e);
  ms_shd_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  check_array("/spikes/times", data, size);
  check_array("/spikes/units", data, size);
  check_array("/labels", data, size);
  check_samples((ms_policy)(size % 3), data, size);
  return 0;
}
