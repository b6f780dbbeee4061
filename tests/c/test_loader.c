#include "scratch.h"
#include "../../host/core/data/loader.h"
#include <sched.h>

enum { N = 103, H = 6, W = 5, C = 3, IMAGE = H * W * C };

static uint8_t pixels[N * IMAGE];
static int64_t labels[N];
static const ms_real mean[C] = {MS_R(0.4), MS_R(0.5), MS_R(0.6)}, deviation[C] = {MS_R(0.2), MS_R(0.25), MS_R(0.3)};

static int fill_data(void **state) {
  (void)state;
  for (int i = 0; i < N * IMAGE; i++)
    pixels[i] = (uint8_t)(i * 2654435761u >> 13);
  for (int i = 0; i < N; i++)
    labels[i] = i * 7 % 10;
  return 0;
}

static ms_source *source; /* of pixels */

static int open_source(void **state) {
  ms_error err;
  fill_data(state);
  return ms_source_memory(&source, pixels, MS_U8, (int64_t[]){N, 1, H, W, C}, labels, &err);
}

static int close_source(void **state) {
  (void)state;
  ms_source_close(source);
  return 0;
}

static const ms_augment_recipe recipe = {
    .n = 2, .rule = {{.kind = MS_AUGMENT_crop, .p = 1, .hi = 2}, {.kind = MS_AUGMENT_flip, .p = 0.5}}};

static ms_loader_config config(int workers) {
  return (ms_loader_config){.source = source,
                            .batch_size = 8,
                            .shuffle = 1,
                            .seed = 42,
                            .workers = workers,
                            .prefetch = 3,
                            .mean = mean,
                            .std = deviation,
                            .scale = 255,
                            .recipe = &recipe};
}

static ms_loader *loader(const ms_loader_config *c) {
  ms_loader *l;
  ms_error err;
  if (ms_loader_new(&l, c, &err) != MS_OK)
    fail_msg("%s", err.text);
  return l;
}

/* An epoch, or the rest of it, sample after sample. */
typedef struct epoch {
  int64_t n, batches, index[N], y[N];
  ms_real x[N * IMAGE];
} epoch;

static void run(ms_loader *l, epoch *e, int64_t most) {
  ms_batch b;
  ms_error err;
  memset(e, 0, sizeof *e);
  while (e->batches < most) {
    assert_int_equal(ms_loader_peek(l, &b, &err), MS_OK);
    if (b.n) {
      memcpy(e->x + e->n * IMAGE, b.x, (size_t)b.n * IMAGE * sizeof *b.x);
      memcpy(e->y + e->n, b.y, (size_t)b.n * sizeof *b.y);
      memcpy(e->index + e->n, b.index, (size_t)b.n * sizeof *b.index);
    }
    assert_int_equal(ms_loader_pop(l, NULL, &err), MS_OK);
    if (!b.n)
      return;
    e->n += b.n;
    e->batches++;
  }
}

static epoch first, second, other;

static void test_workers(void **state) {
  (void)state;
  static const int workers[] = {1, 2, 5};
  ms_loader_config c = config(0);
  ms_loader *l = loader(&c);
  assert_int_equal(ms_loader_batches(l), 13);
  run(l, &first, 1000);
  run(l, &second, 1000);
  ms_loader_close(l);
  assert_int_equal(first.n, N);
  assert_memory_not_equal(first.index, second.index, sizeof first.index);
  for (int i = 0; i < 3; i++)
    for (int prefetch = 1; prefetch < 20; prefetch += 9) {
      c = config(workers[i]);
      c.prefetch = prefetch;
      l = loader(&c);
      run(l, &other, 1000);
      assert_memory_equal(&first, &other, sizeof first);
      run(l, &other, 1000);
      assert_memory_equal(&second, &other, sizeof second);
      ms_loader_close(l);
    }
}

/* Every sample once an epoch, in another order each epoch and for each seed; unshuffled in order. */
static void test_order(void **state) {
  (void)state;
  ms_loader_config c = config(2);
  ms_loader *l = loader(&c);
  for (int round = 0; round < 3; round++) {
    int seen[N] = {0};
    run(l, &first, 1000);
    for (int i = 0; i < N; i++) {
      assert_int_equal(first.y[i], labels[first.index[i]]);
      seen[first.index[i]]++;
    }
    for (int i = 0; i < N; i++)
      assert_int_equal(seen[i], 1);
  }
  ms_loader_close(l);
  c.seed = 43;
  l = loader(&c);
  ms_error err;
  assert_int_equal(ms_loader_start(l, 3, 0, &err), MS_OK);
  run(l, &second, 1000);
  assert_memory_not_equal(first.index, second.index, sizeof first.index);
  ms_loader_close(l);
  c.shuffle = 0;
  c.drop_last = 1;
  l = loader(&c);
  assert_int_equal(ms_loader_batches(l), 12);
  run(l, &first, 1000);
  assert_int_equal(first.n, 96);
  for (int i = 0; i < 96; i++)
    assert_int_equal(first.index[i], i);
  ms_loader_close(l);
}

/* Stopped after any batch, a new loader goes on where the old one stood. */
static void test_resume(void **state) {
  (void)state;
  ms_loader_config c = config(2);
  ms_error err;
  for (int64_t stop = 0; stop <= 13; stop++) {
    int64_t at_epoch, at_batch;
    ms_loader *l = loader(&c);
    run(l, &first, 1000);
    run(l, &first, stop);
    ms_loader_position(l, &at_epoch, &at_batch);
    assert_int_equal(at_epoch, 2);
    assert_int_equal(at_batch, stop);
    run(l, &first, 1000);
    ms_loader_position(l, &at_epoch, &at_batch);
    assert_int_equal(at_epoch, 3);
    assert_int_equal(at_batch, 0);
    run(l, &second, 2);
    /* backwards, while the workers are ahead */
    assert_int_equal(ms_loader_start(l, 2, stop, &err), MS_OK);
    run(l, &other, 1000);
    assert_memory_equal(&first, &other, sizeof first);
    ms_loader_close(l);
    l = loader(&c);
    assert_int_equal(ms_loader_start(l, 2, stop, &err), MS_OK);
    run(l, &other, 1000);
    assert_memory_equal(&first, &other, sizeof first);
    run(l, &other, 2);
    assert_memory_equal(&second, &other, sizeof second);
    assert_int_equal(ms_loader_start(l, 2, 14, &err), MS_ERANGE);
    assert_int_equal(ms_loader_start(l, -1, 0, &err), MS_ERANGE);
    ms_loader_close(l);
  }
}

/* peek again gives the same; pop without peek does nothing. */
static void test_peek(void **state) {
  (void)state;
  ms_loader_config c = config(2);
  ms_loader *l = loader(&c);
  ms_batch a, b;
  ms_error err;
  int64_t at_epoch, at_batch;
  assert_int_equal(ms_loader_pop(l, NULL, &err), MS_OK);
  assert_int_equal(ms_loader_peek(l, &a, &err), MS_OK);
  assert_int_equal(ms_loader_peek(l, &b, &err), MS_OK);
  assert_ptr_equal(a.x, b.x);
  assert_int_equal(ms_loader_pop(l, NULL, &err), MS_OK);
  assert_int_equal(ms_loader_pop(l, NULL, &err), MS_OK);
  ms_loader_position(l, &at_epoch, &at_batch);
  assert_int_equal(at_batch, 1);
  ms_loader_close(l);
}

static void test_interrupt(void **state) {
  (void)state;
  ms_loader_config c = config(1);
  ms_loader *l = loader(&c);
  ms_batch b;
  ms_error err;
  int64_t at_epoch, at_batch;
  run(l, &first, 3);
  ms_interrupt_request();
  assert_int_equal(ms_loader_peek(l, &b, &err), MS_EINTR);
  ms_loader_position(l, &at_epoch, &at_batch);
  assert_int_equal(at_batch, 3);
  assert_int_equal(ms_loader_peek(l, &b, &err), MS_OK);
  ms_loader_close(l);
}

/* Closed at every moment: before the first batch, while workers are busy, at the end. */
static void test_close(void **state) {
  (void)state;
  ms_loader_config c = config(5);
  for (int64_t stop = 0; stop < 15; stop++) {
    ms_loader *l = loader(&c);
    run(l, &first, stop);
    for (int64_t i = 0; i < stop; i++)
      sched_yield();
    ms_loader_close(l);
  }
  ms_loader_close(NULL);
}

/* The published transform, written plainly: a padded copy, cut, mirrored, normalised. */
static void plain(int64_t sample, int dy, int dx, int flip, ms_real *out) {
  enum { P = 2, PW = W + 2 * P };
  static uint8_t padded[(H + 2 * P) * PW * C];
  memset(padded, 0, sizeof padded);
  for (int y = 0; y < H; y++)
    memcpy(padded + ((y + P) * PW + P) * C, pixels + sample * IMAGE + y * W * C, W * C);
  for (int y = 0; y < H; y++)
    for (int x = 0; x < W; x++)
      for (int k = 0; k < C; k++) {
        int from = flip ? W - 1 - x : x;
        out[(y * W + x) * C + k] =
            ((ms_real)padded[((y + dy) * PW + from + dx) * C + k] / 255 - mean[k]) / deviation[k];
      }
}

/* Each output is one of the 5 x 5 x 2 possible ones, and over many epochs these are equally likely. */
static void test_augment(void **state) {
  (void)state;
  enum { EPOCHS = 100 };
  static ms_real want[IMAGE];
  int count[5][5][2] = {0}, repeated = 0, last[N] = {0};
  ms_loader_config c = config(1);
  ms_loader *l = loader(&c);
  for (int round = 0; round < EPOCHS; round++) {
    run(l, &first, 1000);
    for (int64_t i = 0; i < N; i++) {
      int found = -1;
      for (int place = 0; place < 50 && found < 0; place++) {
        plain(first.index[i], place / 10, place / 2 % 5, place % 2, want);
        if (memcmp(want, first.x + i * IMAGE, sizeof want) == 0)
          found = place;
      }
      assert_true(found >= 0);
      count[found / 10][found / 2 % 5][found % 2]++;
      repeated += round && last[first.index[i]] == found;
      last[first.index[i]] = found;
    }
  }
  ms_loader_close(l);
  double chi2 = 0, expected = EPOCHS * N / 50.0;
  for (int place = 0; place < 50; place++) {
    double d = count[place / 10][place / 2 % 5][place % 2] - expected;
    chi2 += d * d / expected;
  }
  assert_true(chi2 < 85); /* 49 degrees of freedom: exceeded once in a thousand seeds */
  assert_in_range(repeated, 99 * N / 50 - 60, 99 * N / 50 + 60);
}

/* No augmentation, no statistics: bytes / 255, and reals as they are. */
static void test_plain(void **state) {
  (void)state;
  static ms_real reals[N * IMAGE];
  ms_loader_config c = config(2);
  c.shuffle = 0;
  c.recipe = NULL;
  c.mean = c.std = NULL;
  ms_loader *l = loader(&c);
  run(l, &first, 1000);
  ms_loader_close(l);
  for (int i = 0; i < N * IMAGE; i++) {
    reals[i] = (ms_real)pixels[i] / 255;
    assert_true(first.x[i] == reals[i]);
  }
  ms_source *same;
  ms_error err;
  assert_int_equal(ms_source_memory(&same, reals, MS_F32, (int64_t[]){N, 1, H, W, C}, labels, &err), MS_OK);
  c.source = same;
  l = loader(&c);
  run(l, &second, 1000);
  ms_loader_close(l);
  ms_source_close(same);
  assert_memory_equal(&first, &second, sizeof first);
}

/* Images of reals go the same way as bytes, padding and normalisation included. */
static void test_reals(void **state) {
  (void)state;
  static ms_real reals[N * IMAGE];
  for (int i = 0; i < N * IMAGE; i++)
    reals[i] = (ms_real)pixels[i] / 255;
  ms_loader_config c = config(2);
  ms_loader *l = loader(&c);
  run(l, &first, 1000);
  ms_loader_close(l);
  ms_source *same;
  ms_error err;
  assert_int_equal(ms_source_memory(&same, reals, MS_F32, (int64_t[]){N, 1, H, W, C}, labels, &err), MS_OK);
  c.source = same;
  l = loader(&c);
  run(l, &second, 1000);
  ms_loader_close(l);
  ms_source_close(same);
  assert_memory_equal(&first, &second, sizeof first);
}

static void refused(ms_loader_config c, ms_status want, const char *why) {
  ms_loader *l;
  ms_error err;
  assert_int_equal(ms_loader_new(&l, &c, &err), want);
  assert_null(l);
  if (!strstr(err.text, why))
    fail_msg("expected '%s' in: %s", why, err.text);
}

static void test_refused(void **state) {
  (void)state;
  static const ms_real zero[C] = {1, 0, 1}, infinite[C] = {0, 0, INFINITY};
  ms_loader_config c;
#define REFUSED(field, value, status, why) \
  c = config(1);                           \
  c.field = value;                         \
  refused(c, status, why)
  REFUSED(batch_size, 0, MS_ERANGE, "loader: batch_size: expected at least 1, got 0");
  REFUSED(workers, -1, MS_ERANGE, "loader: workers");
  REFUSED(workers, 257, MS_ERANGE, "loader: workers");
  REFUSED(prefetch, 0, MS_ERANGE, "loader: prefetch: expected 1 to 65536, got 0");
  REFUSED(std, zero, MS_ERANGE, "loader: std");
  REFUSED(mean, infinite, MS_ERANGE, "loader: mean");
  REFUSED(scale, 0, MS_ERANGE, "loader: scale: expected a positive number, got 0");
  static const int64_t outside[] = {3, N};
  c = config(1);
  c.members = outside;
  c.n = 2;
  refused(c, MS_ERANGE, "loader: members: expected samples 0 to 102, got 103");
  static const struct {
    ms_dtype dtype;
    int64_t size[5];
    ms_status status;
    const char *why;
  } bad[] = {{MS_U8, {N, 1, H, INT64_MAX / 4, 1}, MS_ERANGE, "source: samples: [103, 1, 6, "},
             {MS_BF16, {N, 1, H, W, C}, MS_ETYPE, "source: samples: expected uint8 or float32, got bfloat16"},
             {MS_U8, {N, 1, H, 0, C}, MS_ESHAPE, "source: samples: expected [n, t, h, w, c]"}};
  for (int i = 0; i < 3; i++) {
    ms_source *none;
    ms_error err;
    assert_int_equal(ms_source_memory(&none, pixels, bad[i].dtype, bad[i].size, labels, &err), bad[i].status);
    assert_null(none);
    assert_non_null(strstr(err.text, bad[i].why));
  }
  ms_source *wide, *lasting;
  ms_error err;
  assert_int_equal(ms_source_memory(&wide, pixels, MS_U8, (int64_t[]){1, 1, H, INT64_MAX / H, 1}, labels, &err), MS_OK);
  assert_int_equal(ms_source_memory(&lasting, pixels, MS_U8, (int64_t[]){1, INT64_MAX / H, H, 1, 1}, labels, &err),
                   MS_OK);
  REFUSED(source, wide, MS_ERANGE, "expected images of less than 16777216 x 16777216");
  c.mean = c.std = NULL;
  c.source = lasting;
  refused(c, MS_ERANGE, "too large");
  ms_source_close(wide);
  ms_source_close(lasting);
}

static void test_empty(void **state) {
  (void)state;
  ms_loader_config c = config(2);
  c.members = labels;
  c.n = 0;
  ms_loader *l = loader(&c);
  assert_int_equal(ms_loader_batches(l), 0);
  run(l, &first, 1000);
  assert_int_equal(first.n, 0);
  ms_loader_close(l);
  c = config(2);
  c.batch_size = 1000;
  l = loader(&c);
  run(l, &first, 1000);
  assert_int_equal(first.n, N);
  assert_int_equal(first.batches, 1);
  ms_loader_close(l);
}

static void test_memory(void **state) {
  (void)state;
  ms_loader_config c = config(2);
  for (int64_t n = 0;; n++) {
    ms_loader *l;
    ms_error err;
    ms_fail_allocation(n);
    ms_status status = ms_loader_new(&l, &c, &err);
    ms_fail_allocation(-1);
    ms_loader_close(l);
    if (status == MS_OK)
      break;
    assert_int_equal(status, MS_EMEM);
    assert_true(n < 100);
  }
}

/* Batches as tensors: those of a loader whose batches stay where they are, kept while the epoch goes on. */
static void test_take(void **state) {
  (void)state;
  enum { BATCHES = 13 };
  ms_loader_config c = config(2);
  ms_loader *l = loader(&c), *twin = loader(&c);
  ms_tensor *kept[BATCHES] = {NULL}, *none;
  ms_error err;
  ms_batch b;
  assert_int_equal(ms_loader_take(l, &none, &err), MS_OK); /* nothing was looked at */
  assert_null(none);
  for (int i = 0; i < BATCHES; i++) {
    assert_int_equal(ms_loader_peek(l, &b, &err), MS_OK);
    if (i == 3) {
      ms_fail_allocation(0);
      assert_int_equal(ms_loader_take(l, &none, &err), MS_EMEM);
      ms_fail_allocation(-1);
      assert_null(none);
    }
    assert_int_equal(ms_loader_take(l, &kept[i], &err), MS_OK);
    assert_true((kept[i] != NULL) == (b.n == c.batch_size));
    assert_int_equal(ms_loader_pop(l, NULL, &err), MS_OK);
  }
  for (int i = 0; i < BATCHES; i++) {
    ms_data data;
    assert_int_equal(ms_loader_peek(twin, &b, &err), MS_OK);
    if (kept[i]) {
      assert_int_equal(ms_data_of(&data, kept[i], &err), MS_OK);
      assert_memory_equal(data.p, b.x, (size_t)(b.n * IMAGE) * sizeof(ms_real));
    }
    assert_int_equal(ms_loader_pop(twin, NULL, &err), MS_OK);
    ms_release(kept[i]);
  }
  ms_loader_close(l);
  ms_loader_close(twin);
}

/* Frames of one sample take the same place, and lie [t][n] in the batch; members choose and order samples. */
static void test_frames(void **state) {
  (void)state;
  enum { FRAMES = 3, SAMPLES = N / FRAMES };
  static const int64_t members[] = {7, 2, 30, 11, 2};
  ms_source *movies;
  ms_error err;
  ms_batch b;
  assert_int_equal(ms_source_memory(&movies, pixels, MS_U8, (int64_t[]){SAMPLES, FRAMES, H, W, C}, labels, &err),
                   MS_OK);
  ms_loader_config c = config(2);
  c.source = movies;
  c.members = members;
  c.n = 5;
  c.batch_size = 3;
  c.shuffle = 0;
  c.recipe = NULL;
  ms_loader *l = loader(&c);
  for (int64_t batch = 0; batch < 2; batch++) {
    assert_int_equal(ms_loader_peek(l, &b, &err), MS_OK);
    assert_int_equal(b.n, 3 - batch);
    for (int64_t k = 0; k < b.n; k++) {
      int64_t i = members[batch * 3 + k];
      assert_int_equal(b.index[k], i);
      assert_int_equal(b.y[k], labels[i]);
      for (int64_t t = 0; t < FRAMES; t++)
        for (int64_t e = 0; e < IMAGE; e++)
          assert_true(b.x[(t * b.n + k) * IMAGE + e] ==
                      ((ms_real)pixels[(i * FRAMES + t) * IMAGE + e] / 255 - mean[e % C]) / deviation[e % C]);
    }
    assert_int_equal(ms_loader_pop(l, NULL, &err), MS_OK);
  }
  ms_loader_close(l);
  c.recipe = &recipe; /* the frames of a sample that repeats one image are equal wherever it was put */
  for (int64_t e = 0; e < IMAGE; e++)
    pixels[IMAGE + e] = pixels[2 * IMAGE + e] = pixels[e];
  static const int64_t zero[] = {0};
  c.members = zero;
  c.n = 1;
  l = loader(&c);
  for (int round = 0; round < 10; round++) {
    assert_int_equal(ms_loader_peek(l, &b, &err), MS_OK);
    assert_memory_equal(b.x, b.x + IMAGE, IMAGE * sizeof *b.x);
    assert_memory_equal(b.x, b.x + 2 * IMAGE, IMAGE * sizeof *b.x);
    assert_int_equal(ms_loader_pop(l, NULL, &err), MS_OK);
    assert_int_equal(ms_loader_peek(l, &b, &err), MS_OK);
    assert_int_equal(ms_loader_pop(l, NULL, &err), MS_OK);
  }
  ms_loader_close(l);
  ms_source_close(movies);
  fill_data(NULL);
}

/* A source with a sample that cannot be read the first times it is asked for. */
static int failures;

static ms_status read_badly(const ms_source *s, int64_t i, const uint64_t *key, ms_scratch *scratch, const void **out,
                            ms_error *err) {
  (void)key;
  scratch->repairs.count[MS_REPAIR_TIME]++;
  if (i == 20 && __atomic_sub_fetch(&failures, 1, __ATOMIC_RELAXED) >= 0)
    return ms_fail(err, MS_EFORMAT, "sample 20 is damaged");
  return source->read(s, i, key, scratch, out, err);
}

/* The error comes with its batch, not before; the same batch is tried again, and nothing is lost. */
static void test_failing(void **state) {
  (void)state;
  for (int workers = 0; workers < 3; workers++) {
    ms_source *bad;
    ms_error err;
    ms_batch b;
    int64_t at_epoch, batch;
    assert_int_equal(ms_source_memory(&bad, pixels, MS_U8, (int64_t[]){N, 1, H, W, C}, labels, &err), MS_OK);
    bad->read = read_badly;
    failures = 2;
    ms_loader_config c = config(workers);
    c.source = bad;
    c.shuffle = 0;
    ms_loader *l = loader(&c);
    run(l, &first, 2);
    for (int i = 0; i < 2; i++) {
      assert_int_equal(ms_loader_peek(l, &b, &err), MS_EFORMAT);
      assert_string_equal(err.text, "sample 20 is damaged");
      assert_int_equal(ms_loader_pop(l, NULL, &err), MS_OK); /* nothing to move behind */
      ms_loader_position(l, &at_epoch, &batch);
      assert_int_equal(batch, 2);
    }
    run(l, &second, 1000);
    assert_int_equal(first.n + second.n, N);
    assert_int_equal(second.index[4], 20);
    ms_repairs r;
    ms_loader_repairs(l, &r);
    assert_in_range(r.count[MS_REPAIR_TIME], N, N + 10);
    assert_int_equal(r.count[MS_REPAIR_RANGE], 0);
    ms_loader_close(l);
    ms_source_close(bad);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_workers), cmocka_unit_test(test_order),     cmocka_unit_test(test_resume),
      cmocka_unit_test(test_peek),    cmocka_unit_test(test_interrupt), cmocka_unit_test(test_close),
      cmocka_unit_test(test_augment), cmocka_unit_test(test_plain),     cmocka_unit_test(test_reals),
      cmocka_unit_test(test_refused), cmocka_unit_test(test_empty),     cmocka_unit_test(test_memory),
      cmocka_unit_test(test_take),    cmocka_unit_test(test_frames),    cmocka_unit_test(test_failing)};
  return cmocka_run_group_tests(tests, open_source, close_source);
}
