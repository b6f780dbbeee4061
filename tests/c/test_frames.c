/* From events to frames, by the worked stream of the formats' description (4 x 2 pixels, 11 events). */
#include "../../host/core/data/frames.h"
#include "scratch.h"
#include <math.h>

static int64_t stream_t[] = {0, 3, 4, 10, 12, 25, 26, 31, 38, 40, 41};
static uint16_t stream_x[] = {0, 1, 1, 2, 2, 0, 3, 3, 3, 0, 0};
static uint16_t stream_y[] = {0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0};
static uint8_t stream_p[] = {1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 1};

static ms_events stream(int64_t n) {
  return (ms_events){n, 0, stream_t, stream_x, stream_y, stream_p, 4, 2};
}

static ms_picture out;
static ms_buffer scratch_memory;

static ms_status integrate(const ms_events *e, const ms_frames_options *o, ms_error *err) {
  *err = (ms_error){0};
  return ms_frames_integrate(&out, &scratch_memory, e, o, err);
}

static void refused(const ms_events *e, ms_frames_options o, const char *why) {
  ms_error err;
  ms_status status = integrate(e, &o, &err);
  assert_true(status == MS_ERANGE || status == MS_ETYPE);
  if (strncmp(err.text, "integrate: ", 11) != 0 || !strstr(err.text, why))
    fail_msg("expected '%s' in: %s", why, err.text);
}

static double value(int64_t t, int64_t y, int64_t x, int64_t c) {
  int64_t i = ((t * out.h + y) * out.w + x) * out.c + c;
  return out.dtype == MS_U8 ? ms_picture_bytes(&out)[i] : (double)ms_picture_reals(&out)[i];
}

/* Frames as text, each OFF rows, ON rows: "0100/0000;1000/0000 ..." */
static void expect(const ms_events *e, ms_frames_options o, const char *want) {
  ms_error err;
  char got[256], *p = got;
  if (integrate(e, &o, &err))
    fail_msg("%s", err.text);
  for (int64_t t = 0; t < out.t; t++) {
    for (int64_t c = 0; c < out.c; c++)
      for (int64_t y = 0; y < out.h; y++) {
        for (int64_t x = 0; x < out.w; x++)
          p += sprintf(p, "%g", value(t, y, x, c));
        *p++ = y + 1 < out.h ? '/' : c + 1 < out.c ? ';' : ' ';
      }
  }
  p[-1] = 0;
  assert_string_equal(got, want);
}

static void test_number(void **state) {
  (void)state;
  ms_events e = stream(11);
  ms_frames_options o = {.split = MS_SPLIT_NUMBER, .T = 4};
  expect(&e, o, "0100/0000;1000/0000 0100/0000;0000/0010 0000/1000;0000/0010 0001/0000;2001/0001");
  o.dtype = MS_U8;
  expect(&e, o, "0100/0000;1000/0000 0100/0000;0000/0010 0000/1000;0000/0010 0001/0000;2001/0001");
  e.n = 3; /* fewer than T: all in the last */
  expect(&e, o, "0000/0000;0000/0000 0000/0000;0000/0000 0000/0000;0000/0000 0200/0000;1000/0000");
  e.n = 1;
  expect(&e, o, "0000/0000;0000/0000 0000/0000;0000/0000 0000/0000;0000/0000 0000/0000;1000/0000");
  e.n = 0;
  o.T = 1;
  expect(&e, o, "0000/0000;0000/0000");
  e.n = 11;
  expect(&e, o, "0201/1000;3001/0021");
}

static void test_time(void **state) {
  (void)state;
  ms_events e = stream(11);
  ms_frames_options o = {.split = MS_SPLIT_TIME, .T = 4};
  expect(&e, o, "0200/0000;1000/0000 0000/0000;0000/0020 0000/1000;0000/0001 0001/0000;2001/0000");
  o.T = 8; /* windows of 5 us */
  refused(&e, o, "frame 1 of 8: no events in its window of 5 to 10 us");
  o.policy = MS_ORACLE;
  refused(&e, o, "no events");
  o.policy = MS_LENIENT;
  expect(&e, o,
         "0200/0000;1000/0000 0000/0000;0000/0000 0000/0000;0000/0020 0000/0000;0000/0000 0000/0000;0000/0000 "
         "0000/1000;0000/0001 0000/0000;0001/0000 0001/0000;2000/0000");
  /* the last window is empty, but what is left goes there */
  static int64_t late[] = {0, 1, 2, 11};
  ms_events few = {4, 0, late, stream_x, stream_y, stream_p, 4, 2};
  o.T = 3;
  expect(&few, o, "0200/0000;1000/0000 0000/0000;0000/0000 0000/0000;0000/0010");
  o.policy = MS_STRICT;
  refused(&few, o, "frame 1 of 3");
  o.T = 12;
  refused(&few, o, "at least 1 us for each frame, got 12 frames of 11 us");
  static int64_t equal[] = {7, 7, 7, 7};
  few.t = equal;
  o.T = 1;
  refused(&few, o, "got 1 frames of 0 us");
  few.n = 0;
  refused(&few, o, "expected at least 1, got 0");
  o.policy = MS_LENIENT;
  expect(&few, o, "0000/0000;0000/0000");
}

static void test_duration(void **state) {
  (void)state;
  ms_events e = stream(11);
  ms_frames_options o = {.split = MS_SPLIT_DURATION, .duration_us = 10};
  expect(&e, o, "0200/0000;1000/0000 0000/0000;0000/0020 0000/1000;0000/0001 0001/0000;0001/0000 0000/0000;2000/0000");
  e.n = 10; /* the last event, at 40, is on the end of the fourth window */
  expect(&e, o, "0200/0000;1000/0000 0000/0000;0000/0020 0000/1000;0000/0001 0001/0000;1001/0000");
  e.n = 1;
  refused(&e, o, "longer than 0 us, got 1 events");
  e.n = 0;
  refused(&e, o, "longer than 0 us, got 0 events");
  e.n = 11;
  o.duration_us = 0;
  refused(&e, o, "duration: expected at least 1 us, got 0");
  static int64_t ages[] = {0, INT64_MAX - 1};
  ms_events two = {2, 0, ages, stream_x, stream_y, stream_p, 4, 2};
  o.duration_us = 1;
  refused(&two, o, "at most 65536 frames");
  ages[1] = 65536;
  two.width = two.height = 128; /* 8 GiB */
  refused(&two, o, "65536 frames of 128 x 128 are too large");
}

static void test_span(void **state) {
  (void)state;
  ms_events e = stream(11);
  ms_frames_options o = {.split = MS_SPLIT_SPAN, .T = 4};
  /* blocks 0 0 0 0 1 2 2 2 3 3 3 */
  expect(&e, o, "0200/0000;1000/0010 0000/0000;0000/0010 0000/1000;0001/0001 0001/0000;2000/0000");
  for (int64_t T = 1; T <= 50; T++) { /* against the definition, event by event */
    ms_error err;
    o.T = T;
    o.polarity = MS_POLARITY_MERGED;
    assert_int_equal(integrate(&e, &o, &err), MS_OK);
    double left = 0;
    for (int64_t i = 0; i < T * 8; i++)
      left += (double)ms_picture_reals(&out)[i];
    assert_true(left == 11);
    for (int k = 0; k < 11; k++)
      assert_true(value(stream_t[k] * T / 42, stream_y[k], stream_x[k], 0) > 0);
  }
  o = (ms_frames_options){.split = MS_SPLIT_SPAN, .T = 2};
  static int64_t equal[] = {7, 7};
  ms_events two = {2, 0, equal, stream_x, stream_y, stream_p, 4, 2};
  expect(&two, o, "0100/0000;1000/0000 0000/0000;0000/0000");
  two.n = 0;
  expect(&two, o, "0000/0000;0000/0000 0000/0000;0000/0000");
  static int64_t ages[] = {0, INT64_MAX - 1};
  two = (ms_events){2, 0, ages, stream_x, stream_y, stream_p, 4, 2};
  refused(&two, o, "too long");
  ages[0] = -2;
  refused(&two, o, "overflow");
  ages[0] = 0;
}

static void test_bins(void **state) {
  (void)state;
  ms_events e = stream(11);
  ms_frames_options o = {.split = MS_SPLIT_TIME_BINS, .T = 4}; /* ends 3 5 7 9 of 11 */
  expect(&e, o, "0200/0000;1000/0000 0000/0000;0000/0020 0000/1000;0000/0001 0001/0000;0001/0000");
  o.T = 8;
  expect(&e, o,
         "0200/0000;1000/0000 0000/0000;0000/0000 0000/0000;0000/0020 0000/0000;0000/0000 0000/0000;0000/0000 "
         "0000/1000;0000/0001 0000/0000;0001/0000 0001/0000;0000/0000");
  o = (ms_frames_options){.split = MS_SPLIT_EVENT_BINS, .T = 4};
  expect(&e, o, "0100/0000;1000/0000 0100/0000;0000/0010 0000/1000;0000/0010 0000/0000;0001/0001");
}

/* The golden frames of TRT's code: rows are x, so the channel's rows 0 to 3 are the columns of the sensor. */
static void test_trt_code(void **state) {
  (void)state;
  ms_events e = stream(11);
  ms_frames_options o = {
      .split = MS_SPLIT_EVENT_BINS, .T = 4, .occupancy = 1, .transpose = 1, .polarity = MS_POLARITY_DEAD};
  expect(&e, o, "00/00/00/00;10/10/00/00 00/00/00/00;00/10/01/00 00/00/00/00;01/00/01/00 00/00/00/00;00/00/00/11");
  o.post = MS_POST_MAX;
  o.dtype = MS_U8;
  expect(&e, o,
         "00/00/00/00;2550/2550/00/00 00/00/00/00;00/2550/0255/00 00/00/00/00;0255/00/0255/00 "
         "00/00/00/00;00/00/00/255255");
  o.polarity = MS_POLARITY_BOTH; /* TET's */
  expect(&e, o,
         "00/2550/00/00;2550/00/00/00 00/2550/00/00;00/00/0255/00 0255/00/00/00;00/00/0255/00 "
         "00/00/00/00;00/00/00/255255");
}

static void test_repair_time(void **state) {
  (void)state;
  int64_t t[] = {100, 200, 50, 60, 10, 30}, want[] = {0, 100, 150, 160, 170, 190};
  ms_repair_time(t, 6);
  assert_memory_equal(t, want, sizeof t);
  ms_repair_time(t, 0);
  int64_t low[] = {100, 20, 500}, low_want[] = {0, 20, 500};
  ms_repair_time(low, 3);
  assert_memory_equal(low, low_want, sizeof low);
  int64_t raw[] = {100, 200, 50, 60, 10, 30};
  ms_events e = {6, 0, raw, stream_x, stream_y, stream_p, 4, 2};
  ms_frames_options o = {.split = MS_SPLIT_SPAN, .T = 2, .polarity = MS_POLARITY_MERGED, .repair_time = 1};
  refused(&e, (ms_frames_options){.split = MS_SPLIT_SPAN, .T = 2},
          "event 2: expected a time of at least 200 us, got 50");
  expect(&e, o, "1000/0000 0200/1020");
  assert_int_equal(raw[2], 50);
  o = (ms_frames_options){
      .split = MS_SPLIT_DURATION, .duration_us = 95, .polarity = MS_POLARITY_MERGED, .repair_time = 1};
  expect(&e, o, "1000/0000 0200/1020");
}

/* What SpikingJelly makes of times that run backwards: index ranges that overlap. */
static void test_oracle(void **state) {
  (void)state;
  int64_t raw[] = {0, 30, 5, 25, 15, 35, 40};
  ms_events e = {7, 0, raw, stream_x, stream_y, stream_p, 4, 2};
  ms_frames_options o = {.split = MS_SPLIT_TIME, .T = 2, .polarity = MS_POLARITY_MERGED, .policy = MS_ORACLE};
  expect(&e, o, "1200/0020 0200/1021"); /* [0, 5) and [1, 7) */
  o.policy = MS_LENIENT;
  refused(&e, o, "event 2: expected a time of at least 30 us, got 5");
  o = (ms_frames_options){
      .split = MS_SPLIT_DURATION, .duration_us = 20, .polarity = MS_POLARITY_MERGED, .policy = MS_ORACLE};
  expect(&e, o, "1000/0000 0200/1021"); /* a binary search in 0 1 0 1 0 1 2 for 1 ends at 1 */
  raw[6] = -1;
  refused(&e, o, "longer than 0 us");
  o.split = MS_SPLIT_TIME;
  o.T = 2;
  refused(&e, o, "at least 1 us for each frame");
}

static void test_options(void **state) {
  (void)state;
  ms_events e = stream(11);
  ms_frames_options o = {.T = 1, .polarity = MS_POLARITY_MERGED};
  expect(&e, o, "3202/1021");
  o.post = MS_POST_CLIP;
  expect(&e, o, "1101/1011");
  o.post = MS_POST_NONE;
  o.occupancy = 1;
  expect(&e, o, "1101/1011");
  o = (ms_frames_options){.T = 1, .polarity = MS_POLARITY_DIFFERENCE};
  expect(&e, o, "3-200/-1021");
  o.post = MS_POST_CLIP;
  expect(&e, o, "1-100/-1011");
  o.post = MS_POST_MAX;
  ms_error err;
  assert_int_equal(integrate(&e, &o, &err), MS_OK);
  assert_true(value(0, 0, 1, 0) == (double)(ms_real)((ms_real)-2 / 3));
  o.post = MS_POST_LOG1P;
  assert_int_equal(integrate(&e, &o, &err), MS_OK);
  volatile double two = 2; /* what the compiler computes may differ in the last bit */
  assert_true(value(0, 0, 1, 0) == (double)(ms_real)-log1p(two));
  refused(&e, (ms_frames_options){.T = 1, .polarity = MS_POLARITY_DIFFERENCE, .dtype = MS_U8}, "expected float32");
  refused(&e, (ms_frames_options){.T = 1, .post = MS_POST_LOG1P, .dtype = MS_U8}, "expected float32");
  refused(&e, (ms_frames_options){.T = 1, .occupancy = 1, .polarity = MS_POLARITY_DIFFERENCE}, "occupancy");
  refused(&e, (ms_frames_options){.T = 1, .dtype = MS_I64}, "got int64");
  refused(&e, (ms_frames_options){.T = 0}, "T: expected 1 to 65536, got 0");
  refused(&e, (ms_frames_options){.T = 65537}, "T: expected 1 to 65536, got 65537");
  refused(&e, (ms_frames_options){.T = 1, .width = -1}, "expected 0 to 65536");
  refused(&e, (ms_frames_options){.T = 1, .width = 65536, .height = 65536}, "too large");
  e.width = 0;
  refused(&e, (ms_frames_options){.T = 1}, "sensor");
}

static void test_bin(void **state) {
  (void)state;
  ms_events e = stream(11);
  expect(&e, (ms_frames_options){.T = 1, .polarity = MS_POLARITY_MERGED, .height = 1, .width = 2}, "65");
  expect(&e, (ms_frames_options){.T = 1, .polarity = MS_POLARITY_MERGED, .height = 2, .width = 3}, "502/121");
  /* rows are x: four of them into two */
  expect(&e, (ms_frames_options){.T = 1, .polarity = MS_POLARITY_MERGED, .height = 2, .width = 2, .transpose = 1},
         "51/23");
}

static void test_maximum(void **state) {
  (void)state;
  ms_events e = stream(11);
  ms_frames_options o = {.T = 12, .polarity = MS_POLARITY_MERGED, .post = MS_POST_MAX};
  ms_error err;
  assert_int_equal(integrate(&e, &o, &err), MS_OK);
  assert_true(value(0, 0, 0, 0) == 0);
  assert_true(value(11, 0, 0, 0) == 1 && value(11, 0, 1, 0) == (double)((ms_real)2 / 3));
  o.policy = MS_ORACLE;
  assert_int_equal(integrate(&e, &o, &err), MS_OK);
  assert_true(isnan(value(0, 0, 0, 0)));
  o.dtype = MS_U8; /* as a float32 times 255, cut */
  expect(&(ms_events){3, 0, stream_t, stream_x, stream_y, stream_p, 4, 2},
         (ms_frames_options){.T = 1, .post = MS_POST_MAX, .dtype = MS_U8}, "025500/0000;127000/0000");
}

static void test_range(void **state) {
  (void)state;
  ms_events e = stream(11);
  e.width = 3;
  refused(&e, (ms_frames_options){.T = 1}, "event 6: expected x below 3 and y below 2, got 3, 1");
  e.width = 4;
  e.height = 1;
  refused(&e, (ms_frames_options){.T = 1}, "event 3: expected x below 4 and y below 1, got 2, 1");
}

static void test_saturation(void **state) {
  (void)state;
  enum { N = 300 };
  int64_t t[N];
  uint16_t x[N] = {0}, y[N] = {0};
  uint8_t p[N] = {0};
  for (int i = 0; i < N; i++)
    t[i] = i;
  ms_events e = {N, 0, t, x, y, p, 1, 1};
  ms_frames_options o = {.T = 1, .dtype = MS_U8, .polarity = MS_POLARITY_MERGED};
  refused(&e, o, "frame 0: 300 events in one pixel, uint8 holds 255");
  o.policy = MS_LENIENT;
  expect(&e, o, "255");
  o.dtype = MS_F32;
  expect(&e, o, "300");
  e.n = 255;
  o = (ms_frames_options){.T = 1, .dtype = MS_U8, .polarity = MS_POLARITY_MERGED};
  expect(&e, o, "255");
}

static void test_presets(void **state) {
  (void)state;
  int n = 0;
  while (ms_frames_preset_at(n))
    n++;
  assert_int_equal(n, 8);
  assert_null(ms_frames_preset_at(-1));
  const ms_frames_preset *p = ms_frames_preset_at(0);
  assert_string_equal(p->name, "sj-number");
  assert_int_equal(p->options.T, 10);
  assert_int_equal(p->layout, MS_LAYOUT_SJ);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_number),  cmocka_unit_test(test_time),        cmocka_unit_test(test_duration),
      cmocka_unit_test(test_span),    cmocka_unit_test(test_bins),        cmocka_unit_test(test_trt_code),
      cmocka_unit_test(test_oracle),  cmocka_unit_test(test_repair_time), cmocka_unit_test(test_options),
      cmocka_unit_test(test_bin),     cmocka_unit_test(test_maximum),     cmocka_unit_test(test_range),
      cmocka_unit_test(test_presets), cmocka_unit_test(test_saturation)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  ms_picture_free(&out);
  ms_buffer_free(&scratch_memory);
  return failed;
}
