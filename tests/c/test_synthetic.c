/* Synthetic events and their files; the golden streams are of images of Debian's dataset-fashion-mnist. */
#include "../../host/core/data/atis.h"
#include "../../host/core/data/aedat2.h"
#include "../../host/core/data/event_augment.h"
#include "../../host/core/data/event_files.h"
#include "../../host/core/data/frames.h"
#include "../../host/core/data/synthetic.h"
#include "scratch.h"
#include <sys/stat.h>
#include <zlib.h>

#define FASHION "/usr/share/datasets/fashion-mnist/"

static ms_events e;
static ms_buffer work, file;
static uint8_t images[2][784];

static void load(const char *name, int n) {
  char header[16];
  gzFile g = gzopen(name, "rb");
  if (!g)
    skip(); /* needs the package dataset-fashion-mnist */
  assert_int_equal(gzread(g, header, sizeof header), sizeof header);
  assert_int_equal(gzread(g, images, (unsigned)(n * 784)), n * 784);
  gzclose(g);
}

static uint32_t check_sum(const void *p, size_t n) {
  return (uint32_t)crc32(0, p, (uInt)n);
}

static void synthesize(const uint8_t *image, int n, const ms_synthetic *s) {
  ms_error err;
  if (ms_synthesize(&e, &work, image, n, s, &err))
    fail_msg("%s", err.text);
  for (int64_t i = 1; i < e.n; i++)
    assert_true(e.t[i] >= e.t[i - 1]);
}

static int64_t on(void) {
  int64_t n = 0;
  for (int64_t i = 0; i < e.n; i++)
    n += e.p[i];
  return n;
}

static void test_tables(void **state) {
  (void)state;
  int32_t table[257];
  ms_synthetic_brightness(table);
  assert_int_equal(table[0], 227130);
  assert_int_equal(table[1], 229147);
  assert_int_equal(table[255], 370900);
  assert_int_equal(table[256], 371128);
  assert_int_equal(check_sum(table, sizeof table), 0xa065d993);
}

static void path(const ms_synthetic *s, int entries, uint32_t sum, const int (*known)[3]) {
  static int32_t points[1201][2];
  assert_int_equal(ms_synthetic_steps(s), entries - 1);
  for (int k = 0; k < entries; k++) {
    int offset[2];
    ms_synthetic_offset(s, k, offset);
    points[k][0] = offset[0];
    points[k][1] = offset[1];
  }
  for (; known[0][0] >= 0; known++) {
    assert_int_equal(points[known[0][0]][0], known[0][1]);
    assert_int_equal(points[known[0][0]][1], known[0][2]);
  }
  assert_int_equal(check_sum(points, (size_t)entries * 8), sum);
}

static void test_paths(void **state) {
  (void)state;
  path(&ms_synthetic_nmnist, 316, 0x5ed94efc,
       (const int[][3]){{0, 0, 0},
                        {30, 130, 259},
                        {52, 440, 880},
                        {105, 896, 1792},
                        {158, 1352, 880},
                        {210, 1792, 0},
                        {315, 0, 0},
                        {-1, 0, 0}});
  path(&ms_synthetic_cifar10dvs, 1201, 0x5e993048,
       (const int[][3]){{1, 11, -11},
                        {25, 280, -280},
                        {50, 560, -560},
                        {100, 1120, 0},
                        {150, 560, 560},
                        {200, 0, 0},
                        {1200, 0, 0},
                        {-1, 0, 0}});
}

typedef struct golden {
  int64_t n, on;
  int first[3][4], last[4]; /* t, x, y, p */
  uint32_t sum;
} golden;

static void expect(const uint8_t *image, const ms_synthetic *s, golden want) {
  ms_error err;
  synthesize(image, 28, s);
  assert_int_equal(e.n, want.n);
  assert_int_equal(on(), want.on);
  for (int k = 0; k < 4; k++) {
    int64_t i = k < 3 ? k : e.n - 1;
    const int *v = k < 3 ? want.first[k] : want.last;
    assert_true(e.t[i] == v[0] && e.x[i] == v[1] && e.y[i] == v[2] && e.p[i] == v[3]);
  }
  if (s->path == MS_PATH_SACCADES) {
    assert_int_equal(ms_atis_encode(&file, &e, &err), MS_OK);
    assert_int_equal(check_sum(file.p, file.bytes), want.sum);
  } else {
    assert_int_equal(ms_aedat2_encode(&file, &e, &err), MS_OK);
    assert_int_equal(check_sum(file.p + file.bytes - 8 * (size_t)e.n, 8 * (size_t)e.n), want.sum);
  }
}

static void test_saccades(void **state) {
  (void)state;
  ms_synthetic s = ms_synthetic_nmnist;
  load(FASHION "train-images-idx3-ubyte.gz", 2);
  s.phase = 0;
  expect(images[0], &s,
         (golden){
             9686, 4843, {{14276, 1, 16, 0}, {14305, 10, 14, 0}, {14341, 2, 16, 0}}, {312000, 12, 25, 0}, 0x7dd592f3});
  s.phase = 1;
  expect(
      images[0], &s,
      (golden){9283, 4705, {{12305, 9, 14, 0}, {12357, 8, 15, 0}, {12400, 1, 16, 0}}, {309684, 11, 13, 1}, 0xf4bd0ea1});
  expect(
      images[1], &s,
      (golden){
          12133, 6119, {{12464, 24, 10, 1}, {12907, 22, 10, 1}, {13095, 25, 10, 1}}, {311927, 7, 23, 1}, 0xc5c6515b});
  s.noise_hz = 5;
  s.seed = 1;
  expect(images[0], &s,
         (golden){11101, 5601, {{121, 14, 26, 0}, {313, 8, 13, 0}, {589, 4, 31, 1}}, {314619, 11, 12, 0}, 0x76d6113a});
  load(FASHION "t10k-images-idx3-ubyte.gz", 1);
  expect(images[0], &ms_synthetic_nmnist,
         (golden){
             7066, 3581, {{12009, 12, 21, 1}, {12315, 17, 20, 1}, {12442, 11, 21, 1}}, {310060, 25, 7, 0}, 0xf1eb4cf4});
}

static int64_t sums[10][2], active[10];

/* Sums of (OFF, ON) and pixels that are not 0, by frame. */
static void frame_sums(ms_frames_options o) {
  ms_picture p = {0};
  ms_error err;
  if (ms_frames_integrate(&p, &work, &e, &o, &err))
    fail_msg("%s", err.text);
  memset(sums, 0, sizeof sums);
  memset(active, 0, sizeof active);
  for (int64_t t = 0; t < 10; t++)
    for (int64_t i = 0; i < p.h * p.w * p.c; i++) {
      int64_t v = (int64_t)ms_picture_reals(&p)[t * p.h * p.w * p.c + i];
      sums[t][i % p.c] += v;
      active[t] += v > 0;
    }
  ms_picture_free(&p);
}

static void test_loops(void **state) {
  (void)state;
  ms_synthetic s = ms_synthetic_cifar10dvs;
  load(FASHION "train-images-idx3-ubyte.gz", 1);
  s.loops = 1;
  expect(
      images[0], &s,
      (golden){
          17462, 8758, {{2785, 115, 79, 1}, {3285, 31, 109, 0}, {3417, 115, 77, 1}}, {199980, 119, 87, 0}, 0xfe84348d});
  s.loops = 6;
  expect(images[0], &s,
         (golden){102392,
                  51223,
                  {{2785, 115, 79, 1}, {3285, 31, 109, 0}, {3417, 115, 77, 1}},
                  {1199980, 119, 87, 0},
                  0x039d2631});
  static const int64_t number[10][2] = {{5047, 5192}, {5262, 4977}, {4973, 5266}, {5207, 5032}, {5082, 5157},
                                        {5052, 5187}, {5292, 4947}, {4981, 5258}, {5191, 5048}, {5082, 5159}};
  static const int64_t time[10] = {10425, 10494, 9876, 10265, 10435, 9865, 10407, 9895, 10214, 10516};
  static const int64_t pixels[10] = {3085, 2907, 2904, 2902, 2892, 2850, 2850, 2885, 2877, 2891};
  frame_sums((ms_frames_options){.split = MS_SPLIT_NUMBER, .T = 10});
  assert_memory_equal(sums, number, sizeof number);
  frame_sums((ms_frames_options){.split = MS_SPLIT_TIME, .T = 10});
  for (int t = 0; t < 10; t++)
    assert_int_equal(sums[t][0] + sums[t][1], time[t]);
  frame_sums((ms_frames_options){
      .split = MS_SPLIT_EVENT_BINS, .T = 10, .polarity = MS_POLARITY_DEAD, .occupancy = 1, .transpose = 1});
  assert_memory_equal(active, pixels, sizeof pixels);
  for (int t = 0; t < 10; t++)
    assert_int_equal(sums[t][0], 0);
}

/* Any picture will do: what goes up must come down. */
static void test_closed_path(void **state) {
  (void)state;
  static uint8_t image[20][20];
  static int balance[34 * 34], counts[2][34 * 34];
  for (int i = 0; i < 400; i++)
    image[i / 20][i % 20] = (uint8_t)(i * 37 % 256);
  ms_synthetic s = ms_synthetic_nmnist;
  for (s.phase = 0; s.phase <= 1; s.phase++) {
    memset(balance, 0, sizeof balance);
    synthesize(*image, 20, &s);
    assert_true(e.n > 1000);
    for (int64_t i = 0; i < e.n; i++)
      balance[e.y[i] * 34 + e.x[i]] += e.p[i] ? 1 : -1;
    for (int q = 0; q < 34 * 34; q++)
      assert_true(abs(balance[q]) <= s.phase);
  }
  s.phase = 0;
  for (int k = 0; k < 2; k++, s.threshold *= 2) {
    synthesize(*image, 20, &s);
    for (int64_t i = 0; i < e.n; i++)
      counts[k][e.y[i] * 34 + e.x[i]]++;
  }
  for (int q = 0; q < 34 * 34; q++)
    assert_true(counts[1][q] <= counts[0][q]);
  memset(image, 0, sizeof image);
  synthesize(*image, 20, &ms_synthetic_nmnist);
  assert_int_equal(e.n, 0);
}

static void test_limits(void **state) {
  (void)state;
  static const uint8_t image[4] = {255, 255, 0, 255};
  static const struct {
    ms_synthetic s;
    const char *why;
  } cases[] = {
      {{.width = 0}, "width: expected 1 to 4096, got 0"},
      {{.width = 1, .height = 1, .size = 1, .steps = 501, .loops = 1}, "steps: expected 1 to 500, got 501"},
      {{.width = 1, .height = 1, .size = 1, .steps = 1, .loops = 1, .threshold = 255}, "threshold"},
      {{.width = 1, .height = 1, .size = 1, .steps = 1, .loops = 1, .threshold = 256, .noise_hz = -1}, "noise_hz"}};
  ms_error err;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(ms_synthesize(&e, &work, image, 2, &cases[i].s, &err), MS_ERANGE);
    if (!strstr(err.text, cases[i].why))
      fail_msg("expected '%s' in: %s", cases[i].why, err.text);
    assert_int_equal(e.n, 0);
  }
  ms_synthetic edge = {.width = 3,
                       .height = 2,
                       .size = 1,
                       .x0 = 1 << 20,
                       .y0 = -(1 << 20),
                       .path = MS_PATH_LOOPS,
                       .amplitude = 65536,
                       .steps = 500,
                       .loops = 1,
                       .threshold = 256,
                       .noise_hz = 1000};
  synthesize(image, 2, &edge); /* noise alone: each pixel, each step */
  assert_int_equal(e.n, 3 * 2 * 2000);
  edge.x0 = edge.y0 = 0;
  edge.path = MS_PATH_SACCADES;
  synthesize(image, 2, &edge);
}

/* ---- files ---- */

static void test_files(void **state) {
  (void)state;
  static uint8_t pictures[5][64];
  char names[2][5][160];
  const char *paths[2][5];
  int64_t written, events;
  ms_error err;
  for (int i = 0; i < 320; i++)
    pictures[i / 64][i % 64] = (uint8_t)(i * i);
  for (int k = 0; k < 2; k++)
    for (int i = 0; i < 5; i++) {
      snprintf(names[k][i], sizeof names[k][i], "%s/%d-%d.bin", scratch_folder, k, i);
      paths[k][i] = names[k][i];
    }
  ms_synthetic s = ms_synthetic_nmnist;
  s.noise_hz = 3;
  ms_event_files f = {*pictures, 5, 8, paths[0], 7, MS_EVENTS_ATIS, &s, 1};
  put_file(paths[0][3], "", 0);     /* cut short: made again */
  put_file(paths[0][4], "kept", 4); /* as it is */
  assert_int_equal(ms_event_files_make(&f, &written, &events, &err), MS_OK);
  assert_int_equal(written, 4);
  f.paths = paths[1];
  f.workers = 3; /* the same bytes, whatever the number of threads */
  assert_int_equal(ms_event_files_make(&f, &written, &events, &err), MS_OK);
  assert_int_equal(written, 5);
  int64_t total = 0;
  for (int i = 0; i < 5; i++) {
    size_t n, m;
    unsigned char *a = get_file(paths[0][i], &n), *b = get_file(paths[1][i], &m);
    s.seed = (uint32_t)(7 + i) * 0x9E3779B9u;
    synthesize(pictures[i], 8, &s);
    assert_int_equal(ms_atis_encode(&file, &e, &err), MS_OK);
    assert_int_equal(m, file.bytes);
    assert_memory_equal(b, file.p, m);
    if (i < 4) {
      assert_int_equal(n, m);
      assert_memory_equal(a, b, n);
    } else {
      assert_memory_equal(a, "kept", n);
    }
    total += (int64_t)m / 5;
    free(a);
    free(b);
  }
  assert_int_equal(events, total);
  assert_int_equal(ms_event_files_make(&f, &written, &events, &err), MS_OK);
  assert_int_equal(written, 0);
  snprintf(names[1][2], sizeof names[1][2], "%s/none/x", scratch_folder);
  assert_int_equal(ms_event_files_make(&f, &written, &events, &err), MS_EIO);
  assert_non_null(strstr(err.text, "No such file"));
  for (int i = 0; i < 5; i++)
    snprintf(names[1][i], sizeof names[1][i], "%s/none/%d", scratch_folder, i);
  for (int i = 0; i < 20; i++) { /* also where several threads fail at once */
    assert_int_equal(ms_event_files_make(&f, &written, &events, &err), MS_EIO);
    assert_int_equal(written, 0);
    assert_int_equal(events, 0);
  }
  f.workers = 0;
  assert_int_equal(ms_event_files_make(&f, &written, &events, &err), MS_ERANGE);
}

/* ---- augmentation ---- */

static void ramp(int n) {
  ms_error err;
  assert_int_equal(ms_events_reserve(&e, n, "test", &err), MS_OK);
  for (int i = 0; i < n; i++) {
    e.t[i] = 1000 + i;
    e.x[i] = (uint16_t)(i % 40);
    e.y[i] = (uint16_t)(i / 40 % 30);
    e.p[i] = i & 1;
  }
  e.n = n;
  e.width = 40;
  e.height = 30;
}

static void augment(ms_event_augment a, uint64_t sample) {
  ms_error err;
  assert_int_equal(ms_events_augment(&e, &work, &a, 42, sample, &err), MS_OK);
}

static int64_t span(const uint16_t *v, int most, int *low) { /* how many values are missing, and the first of them */
  uint8_t seen[64] = {0};
  int64_t missing = 0;
  for (int64_t i = 0; i < e.n; i++)
    seen[v[i]] = 1;
  *low = -1;
  for (int i = most - 1; i >= 0; i--)
    if (!seen[i]) {
      missing++;
      *low = i;
    }
  return missing;
}

static void test_drop(void **state) {
  (void)state;
  enum { N = 1200 };
  int kinds[4] = {0}, low;
  for (uint64_t sample = 0; sample < 200; sample++) {
    ramp(N);
    augment((ms_event_augment){.drop = MS_DROP_TIME}, sample);
    int gaps = 0;
    for (int64_t i = 1; i < e.n; i++)
      gaps += e.t[i] != e.t[i - 1] + 1;
    assert_true(gaps <= 1 && e.n > 0); /* one interval */
    ramp(N);
    augment((ms_event_augment){.drop = MS_DROP_RANDOM}, sample);
    assert_int_equal(e.n % 120, 0); /* tenths */
    assert_in_range(e.n, 120, 1080);
    for (int64_t i = 1; i < e.n; i++)
      assert_true(e.t[i] > e.t[i - 1]);
    ramp(N);
    augment((ms_event_augment){.drop = MS_DROP_RANDOM, .released = 1}, sample);
    int64_t falls = 0, sum = 0;
    for (int64_t i = 1; i < e.n; i++)
      falls += e.t[i] < e.t[i - 1];
    for (int64_t i = 0; i < e.n; i++)
      sum += e.t[i] - 1000;
    assert_true(falls > e.n / 4);
    assert_true(sum > e.n * 450 && sum < e.n * 750);
    ramp(N);
    augment((ms_event_augment){.drop = MS_DROP_AREA}, sample);
    assert_int_equal(span(e.x, 40, &low), 0); /* a box leaves something in each column */
    assert_true(e.n < N && e.n >= N - 11 * 9);
    ramp(N);
    augment((ms_event_augment){.drop = MS_DROP_AREA, .released = 1}, sample); /* a cross does not */
    int64_t columns = span(e.x, 40, &low);
    assert_in_range(columns, 1, 11);
    int64_t rows = span(e.y, 30, &low);
    assert_int_equal(e.n, (40 - columns) * (30 - rows));
    ramp(N);
    augment((ms_event_augment){.drop = MS_DROP_ANY}, sample);
    int64_t n = e.n;
    kinds[n == N ? 0 : 1]++;
    ramp(N);
    augment((ms_event_augment){.drop = MS_DROP_ANY}, sample); /* the same again */
    assert_int_equal(e.n, n);
  }
  assert_in_range(kinds[0], 30, 75); /* a quarter */
  e.n = 0;
  augment((ms_event_augment){.drop = MS_DROP_TIME}, 0);
  assert_int_equal(e.n, 0);
  for (uint64_t sample = 0; sample < 50; sample++) { /* what would drop all drops nothing */
    ramp(1);
    augment((ms_event_augment){.drop = MS_DROP_RANDOM}, sample);
    augment((ms_event_augment){.drop = MS_DROP_TIME}, sample);
    assert_int_equal(e.n, 1);
  }
}

static void test_flips(void **state) {
  (void)state;
  ramp(100);
  augment((ms_event_augment){.flip_x = 1, .flip_polarity = 1, .reverse = 1}, 3);
  for (int i = 0; i < 100; i++) {
    int from = 99 - i;
    assert_true(e.t[i] == 1000 + i && e.x[i] == 39 - from % 40 && e.y[i] == from / 40 && e.p[i] == !(from & 1));
  }
  ramp(100);
  augment((ms_event_augment){0}, 3);
  assert_true(e.x[7] == 7 && e.p[7] == 1);
  int flipped = 0;
  for (uint64_t sample = 0; sample < 400; sample++) {
    ramp(1);
    augment((ms_event_augment){.flip_x = 0.5}, sample);
    flipped += e.x[0] == 39;
  }
  assert_in_range(flipped, 160, 240);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tables), cmocka_unit_test(test_paths),       cmocka_unit_test(test_saccades),
      cmocka_unit_test(test_loops),  cmocka_unit_test(test_closed_path), cmocka_unit_test(test_limits),
      cmocka_unit_test(test_files),  cmocka_unit_test(test_drop),        cmocka_unit_test(test_flips)};
  int failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
  ms_events_free(&e);
  ms_buffer_free(&work);
  ms_buffer_free(&file);
  return failed;
}
