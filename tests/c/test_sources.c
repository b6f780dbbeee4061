#include "scratch.h"
#include "../../host/core/data/cache.h"
#include "../../host/core/data/recording.h"
#include "../../host/core/data/source_events.h"
#include "../../host/core/data/source_images.h"
#include "../../host/core/tensor.h"
#include <math.h>
#include <pthread.h>
#include <sys/stat.h>

#define N 5

static const int64_t labels[N] = {4, 0, 3, 1, 2};
static ms_error E;

static void failed(ms_status got, ms_status want, const char *why) {
  assert_int_equal(got, want);
  if (!strstr(E.text, why))
    fail_msg("expected '%s' in: %s", why, E.text);
}

/* ---- paths ---- */

static void test_paths(void **state) {
  (void)state;
  ms_paths p = {0};
  char path[64];
  ms_paths_free(&p); /* an empty one too */
  for (int i = 0; i < 3000; i++) {
    snprintf(path, sizeof path, "%0*d", i % 40 + 1, i);
    assert_int_equal(ms_paths_add(&p, path, "test", &E), MS_OK);
  }
  assert_int_equal(ms_paths_add(&p, "", "test", &E), MS_OK);
  assert_int_equal(p.n, 3001);
  for (int i = 0; i < 3000; i++) {
    snprintf(path, sizeof path, "%0*d", i % 40 + 1, i);
    assert_string_equal(ms_path(&p, i), path);
  }
  assert_string_equal(ms_path(&p, 3000), "");
  ms_paths_free(&p);
  assert_int_equal(p.n, 0);
}

/* ---- recordings ---- */

/* Event k of recording i: 100 events in 16 x 8 pixels, one each 3 us. */
static void make_events(ms_events *e, int i, int64_t n) {
  *e = (ms_events){.width = 16, .height = 8};
  assert_int_equal(ms_events_reserve(e, n, "test", &E), MS_OK);
  for (e->n = 0; e->n < n; e->n++) {
    e->t[e->n] = 3 * e->n;
    e->x[e->n] = (uint16_t)((e->n * (i + 2)) % 16);
    e->y[e->n] = (uint16_t)((e->n * 3 + i) % 8);
    e->p[e->n] = (e->n + i) % 3 == 0;
  }
}

static const char *recording(int i) {
  char name[16];
  snprintf(name, sizeof name, "%d.bin", i);
  return scratch(name);
}

static void write_recordings(void) {
  for (int i = 0; i < N; i++) {
    ms_events e;
    make_events(&e, i, 100);
    assert_int_equal(ms_events_write(recording(i), MS_EVENTS_ATIS, &e, &E), MS_OK);
    ms_events_free(&e);
  }
}

static const ms_frames_options by_four = {.split = MS_SPLIT_NUMBER, .T = 4, .dtype = MS_F32};

static ms_events_source_config config(void) {
  ms_events_source_config c = {.labels = labels, .read = {.width = 16, .height = 8}, .frames = by_four};
  for (int i = 0; i < N; i++)
    assert_int_equal(ms_paths_add(&c.paths, recording(i), "test", &E), MS_OK);
  return c;
}

static ms_source *opened(ms_events_source_config c) {
  ms_source *s;
  if (ms_source_events(&s, &c, &E))
    fail_msg("%s", E.text);
  assert_null(c.paths.text.p); /* taken over */
  return s;
}

static size_t bytes_of(const ms_source *s) {
  return (size_t)(s->t * s->h * s->w * s->c) * ms_dtype_size(s->dtype);
}

/* The shape and the numbers of every sample are those of integrating its events. */
static void test_frames(void **state) {
  (void)state;
  ms_source *s = opened(config());
  ms_scratch room = {0};
  ms_picture want = {0};
  ms_buffer work = {0};
  const void *got;
  assert_true(s->n == N && s->t == 4 && s->h == 8 && s->w == 16 && s->c == 2 && s->dtype == MS_F32);
  assert_ptr_equal(s->labels, labels);
  assert_true(ms_source_has_events(s));
  for (int i = N; i-- > 0;) {
    ms_events e;
    make_events(&e, i, 100);
    assert_int_equal(ms_frames_integrate(&want, &work, &e, &by_four, &E), MS_OK);
    assert_int_equal(s->read(s, i, NULL, &room, &got, &E), MS_OK);
    assert_memory_equal(got, want.memory.p, bytes_of(s));
    assert_int_equal(ms_source_events_read(s, i, &room, &E), MS_OK);
    assert_int_equal(room.events.n, 100);
    assert_memory_equal(room.events.x, e.x, 200);
    ms_events_free(&e);
  }
  ms_picture_free(&want);
  ms_buffer_free(&work);
  ms_scratch_free(&room);
  ms_source_close(s);
}

/* A window for each sample; files may come more than once. */
static void test_windows(void **state) {
  (void)state;
  static const int64_t start[N] = {0, 30, 60, 0, 297}, end[N] = {30, 60, 0, 0, 298}, events[N] = {10, 10, 80, 100, 1};
  ms_events_source_config c = config();
  ms_scratch room = {0};
  c.start = start;
  c.end = end;
  ms_source *s = opened(c);
  for (int i = 0; i < N; i++) {
    assert_int_equal(ms_source_events_read(s, i, &room, &E), MS_OK);
    assert_int_equal(room.events.n, events[i]);
    assert_true(room.events.t[0] == start[i]);
  }
  ms_source_close(s);
  c = config();
  c.start = start;
  failed(ms_source_events(&s, &c, &E), MS_EINVAL, "recordings: expected start and end, or neither");
  assert_null(s);
  ms_scratch_free(&room);
}

/* Recordings of other lengths are cut or filled up with empty frames. */
static void test_duration(void **state) {
  (void)state;
  ms_events_source_config c = config();
  ms_scratch room = {0};
  ms_picture want = {0};
  ms_buffer work = {0};
  const void *got;
  ms_events e;
  c.frames = (ms_frames_options){.split = MS_SPLIT_DURATION, .duration_us = 100, .dtype = MS_F32};
  ms_source *s = opened(c);
  assert_int_equal(s->t, 3);
  for (int64_t n = 20; n <= 200; n += 90) { /* 1, 4, 6 frames */
    make_events(&e, 1, n);
    assert_int_equal(ms_events_write(recording(1), MS_EVENTS_ATIS, &e, &E), MS_OK);
    assert_int_equal(ms_frames_integrate(&want, &work, &e, &c.frames, &E), MS_OK);
    assert_int_equal(s->read(s, 1, NULL, &room, &got, &E), MS_OK);
    size_t frame = bytes_of(s) / 3, same = (size_t)(want.t < 3 ? want.t : 3) * frame;
    assert_memory_equal(got, want.memory.p, same);
    for (size_t k = same; k < 3 * frame; k++)
      assert_int_equal(((const uint8_t *)got)[k], 0);
    ms_events_free(&e);
  }
  ms_source_close(s);
  c = config();
  c.frames = (ms_frames_options){.split = MS_SPLIT_DURATION, .duration_us = 100, .dtype = MS_F32};
  c.steps = 7;
  s = opened(c);
  assert_int_equal(s->t, 7);
  ms_source_close(s);
  write_recordings();
  ms_picture_free(&want);
  ms_buffer_free(&work);
  ms_scratch_free(&room);
}

typedef struct reading {
  const ms_source *s;
  uint64_t key;
  uint8_t *out;
} reading;

static void *read_all(void *ud) {
  const reading *r = ud;
  ms_scratch room = {0};
  for (int i = 0; i < N; i++) {
    const void *got;
    if (r->s->read(r->s, i, &r->key, &room, &got, NULL))
      break;
    memcpy(r->out + (size_t)i * bytes_of(r->s), got, bytes_of(r->s));
  }
  ms_scratch_free(&room);
  return NULL;
}

/* What is drawn follows key and sample, not thread or order; without a key nothing is drawn. */
static void test_threads(void **state) {
  (void)state;
  ms_events_source_config c = config();
  c.augment = (ms_event_augment){.drop = MS_DROP_ANY, .flip_x = 0.5, .flip_polarity = 0.5};
  c.resizes = 1;
  c.resize = (ms_resize_options){.filter = MS_FILTER_BILINEAR, .w = 5, .h = 3};
  ms_source *s = opened(c);
  assert_true(s->h == 3 && s->w == 5);
  size_t all = N * bytes_of(s);
  reading r[4];
  pthread_t thread[4];
  for (int k = 0; k < 4; k++) {
    r[k] = (reading){s, k == 3 ? 8 : 7, calloc(1, all)};
    assert_int_equal(pthread_create(&thread[k], NULL, read_all, &r[k]), 0);
  }
  for (int k = 0; k < 4; k++)
    pthread_join(thread[k], NULL);
  assert_memory_equal(r[0].out, r[1].out, all);
  assert_memory_equal(r[0].out, r[2].out, all);
  assert_true(memcmp(r[0].out, r[3].out, all) != 0);
  ms_source *plain;
  c = config();
  c.resizes = 1;
  c.resize = (ms_resize_options){.filter = MS_FILTER_BILINEAR, .w = 5, .h = 3};
  plain = opened(c);
  ms_scratch a = {0}, b = {0};
  const void *x, *y;
  for (int i = 0; i < N; i++) {
    assert_int_equal(s->read(s, i, NULL, &a, &x, &E), MS_OK);
    assert_int_equal(plain->read(plain, i, &r[0].key, &b, &y, &E), MS_OK);
    assert_memory_equal(x, y, bytes_of(s));
  }
  for (int k = 0; k < 4; k++)
    free(r[k].out);
  ms_scratch_free(&a);
  ms_scratch_free(&b);
  ms_source_close(plain);
  ms_source_close(s);
}

static void test_refused(void **state) {
  (void)state;
  ms_source *s;
  ms_scratch room = {0};
  const void *got;
  ms_events_source_config c = {.labels = labels};
  failed(ms_source_events(&s, &c, &E), MS_EINVAL, "recordings: no recordings");
  c = config();
  c.frames.T = 0;
  failed(ms_source_events(&s, &c, &E), MS_ERANGE, "/0.bin: integrate: T: expected 1 to 65536, got 0");
  assert_null(s);
  c = config();
  c.frames_only = 1; /* no archives */
  failed(ms_source_events(&s, &c, &E), MS_EFORMAT, "/0.bin: ");
  c = config();
  c.frames.split = MS_SPLIT_TIME;
  c.frames.T = 297; /* windows of a microsecond, of which two in three are empty */
  failed(ms_source_events(&s, &c, &E), MS_ERANGE, "/0.bin: integrate: frame 1 of 297: no events");
  s = opened(config());
  put_file(recording(3), "\1\2\3", 3);
  failed(s->read(s, 3, NULL, &room, &got, &E), MS_EFORMAT, "/3.bin: damaged file: byte 0");
  assert_int_equal(unlink(recording(3)), 0);
  failed(s->read(s, 3, NULL, &room, &got, &E), MS_EIO, "/3.bin: No such file");
  assert_int_equal(s->read(s, 3, NULL, &room, &got, NULL), MS_EIO);
  write_recordings();
  assert_int_equal(s->read(s, 3, NULL, &room, &got, &E), MS_OK);
  ms_scratch_free(&room);
  ms_source_close(s);
  ms_source_close(NULL);
}

/* ---- images ---- */

static ms_images_source_config images(const char *name) {
  ms_images_source_config c = {.labels = labels, .policy = MS_STRICT, .recipe = ms_image_recipe_test(8, 6)};
  assert_int_equal(ms_paths_add(&c.paths, name, "test", &E), MS_OK);
  return c;
}

static void test_images(void **state) {
  (void)state;
  ms_source *s;
  ms_scratch room = {0};
  const void *got;
  const uint64_t key = 3, other = 4;
  ms_images_source_config c = images(MS_ROOT "/tests/fuzz/corpus/jpeg/420.jpg");
  ms_status status = ms_source_images(&s, &c, &E);
  assert_int_equal(status, MS_OK);
  if (s->read(s, 0, NULL, &room, &got, &E) == MS_EINVAL) { /* built without libjpeg */
    ms_source_close(s);
    ms_scratch_free(&room);
    skip();
  }
  assert_true(s->n == 1 && s->t == 1 && s->h == 6 && s->w == 6 && s->c == 3 && s->dtype == MS_U8);
  assert_false(ms_source_has_events(s));
  uint8_t still[108], first[108];
  memcpy(still, got, sizeof still);
  assert_int_equal(s->read(s, 0, &key, &room, &got, &E), MS_OK); /* nothing to draw */
  assert_memory_equal(got, still, sizeof still);
  ms_source_close(s);
  c = images(MS_ROOT "/tests/fuzz/corpus/jpeg/420.jpg");
  c.recipe = ms_image_recipe_train(6);
  assert_int_equal(ms_source_images(&s, &c, &E), MS_OK);
  assert_int_equal(s->read(s, 0, &key, &room, &got, &E), MS_OK);
  memcpy(first, got, sizeof first);
  assert_int_equal(s->read(s, 0, &other, &room, &got, &E), MS_OK);
  assert_true(memcmp(got, first, sizeof first) != 0);
  assert_int_equal(s->read(s, 0, &key, &room, &got, &E), MS_OK);
  assert_memory_equal(got, first, sizeof first);
  assert_int_equal(s->read(s, 0, NULL, &room, &got, &E), MS_OK); /* as a test cuts: 6 * 256 / 224 is 7, not 8 */
  memcpy(first, got, sizeof first);
  ms_source_close(s);
  c = images(MS_ROOT "/tests/fuzz/corpus/jpeg/420.jpg");
  c.recipe = ms_image_recipe_test(7, 6);
  assert_int_equal(ms_source_images(&s, &c, &E), MS_OK);
  assert_int_equal(s->read(s, 0, NULL, &room, &got, &E), MS_OK);
  assert_memory_equal(got, first, sizeof first);
  ms_source_close(s);
  ms_scratch_free(&room);
}

static void test_images_refused(void **state) {
  (void)state;
  ms_source *s;
  ms_scratch room = {0};
  const void *got;
  ms_images_source_config c = {.labels = labels, .recipe = ms_image_recipe_test(8, 6)};
  failed(ms_source_images(&s, &c, &E), MS_EINVAL, "images: no files");
  assert_null(s);
  c = images("x");
  c.recipe.size = 9;
  failed(ms_source_images(&s, &c, &E), MS_ERANGE, "images: ");
  c = images("/nowhere/x.jpg");
  assert_int_equal(ms_source_images(&s, &c, &E), MS_OK);
  failed(s->read(s, 0, NULL, &room, &got, &E), MS_EIO, "images: /nowhere/x.jpg: No such file");
  ms_source_close(s);
  put_file(scratch("a.jpg"), "GIF89a", 6);
  c = images(scratch("a.jpg"));
  assert_int_equal(ms_source_images(&s, &c, &E), MS_OK);
  assert_int_equal(s->read(s, 0, NULL, &room, &got, &E), MS_EFORMAT);
  assert_non_null(strstr(E.text, "a.jpg: "));
  ms_source_close(s);
  ms_scratch_free(&room);
}

/* ---- caches ---- */

static void write_cache(const ms_source *s, const char *path, int threads) {
  ms_cache_writer *w;
  int64_t done = 0;
  assert_int_equal(ms_cache_begin(&w, s, path, &E), MS_OK);
  while (done < s->n)
    assert_int_equal(ms_cache_step(w, threads, &done, &E), MS_OK);
  assert_int_equal(ms_cache_commit(w, NULL, &E), MS_OK);
}

static int files_like(const char *pattern) {
  char command[200];
  snprintf(command, sizeof command, "test -z \"$(ls '%s' | grep '%s')\"", scratch_folder, pattern);
  return system(command) != 0;
}

static void test_cache(void **state) {
  (void)state;
  ms_source *s = opened(config()), *c;
  ms_scratch room = {0};
  const void *x, *y;
  const uint64_t key = 1;
  size_t n, m;
  write_cache(s, scratch("one.npy"), 1);
  write_cache(s, scratch("four.npy"), 4);
  unsigned char *one = get_file(scratch("one.npy"), &n), *four = get_file(scratch("four.npy"), &m);
  assert_int_equal(n, m);
  assert_memory_equal(one, four, n);
  assert_int_equal(n, 128 + N * bytes_of(s));
  assert_memory_equal(one + 10,
                      sizeof(ms_real) == 4 ? "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 4, 8, 16, 2), }"
                                           : "{'descr': '<f8', 'fortran_order': False, 'shape': (5, 4, 8, 16, 2), }",
                      69);
  assert_int_equal(ms_source_cached(&c, scratch("one.npy"), s, &E), MS_OK);
  assert_ptr_equal(c->labels, labels);
  assert_false(ms_source_has_events(c));
  for (int i = 0; i < N; i++) {
    assert_int_equal(s->read(s, i, NULL, &room, &x, &E), MS_OK);
    assert_int_equal(c->read(c, i, &key, NULL, &y, &E), MS_OK);
    assert_memory_equal(x, y, bytes_of(s));
    assert_int_equal((uintptr_t)y % sizeof(ms_real), 0);
  }
  /* a file that is replaced stays as it was mapped */
  write_cache(s, scratch("one.npy"), 2);
  assert_int_equal(c->read(c, N - 1, NULL, NULL, &y, &E), MS_OK);
  assert_memory_equal(x, y, bytes_of(s));
  ms_source_close(c);
  /* any other shape, any prefix, a byte more */
  ms_source other = *s;
  for (int field = 0; field < 5; field++) {
    other = *s;
    *(field == 0 ? &other.n : field == 1 ? &other.t : field == 2 ? &other.h : field == 3 ? &other.w : &other.c) += 1;
    failed(ms_source_cached(&c, scratch("four.npy"), &other, &E), MS_EFORMAT, "four.npy: expected <f");
    assert_null(c);
  }
  other = *s;
  other.dtype = MS_U8;
  failed(ms_source_cached(&c, scratch("four.npy"), &other, &E), MS_EFORMAT,
         "four.npy: expected |u1 [5, 4, 8, 16, 2], got <f");
  for (size_t k = 0; k < n; k += k < 200 ? 1 : 997) {
    put_file(scratch("cut.npy"), one, k);
    assert_int_equal(ms_source_cached(&c, scratch("cut.npy"), s, &E), MS_EFORMAT);
  }
  for (size_t bit = 0; bit < 8 * 128; bit++) { /* of the header: refused, or what it was */
    one[bit / 8] ^= (unsigned char)(1 << bit % 8);
    put_file(scratch("cut.npy"), one, n);
    if (ms_source_cached(&c, scratch("cut.npy"), s, &E) == MS_OK) {
      assert_int_equal(c->read(c, N - 1, NULL, NULL, &y, &E), MS_OK);
      assert_memory_equal(x, y, bytes_of(s));
      ms_source_close(c);
    }
    one[bit / 8] ^= (unsigned char)(1 << bit % 8);
  }
  failed(ms_source_cached(&c, scratch("none.npy"), s, &E), MS_EIO, "none.npy: No such file");
  failed(ms_source_cached(&c, scratch_folder, s, &E), MS_EFORMAT, "not a file of samples");
  assert_int_equal(mkfifo(scratch("pipe"), 0600), 0); /* does not block */
  failed(ms_source_cached(&c, scratch("pipe"), s, &E), MS_EFORMAT, "not a file of samples");
  free(one);
  free(four);
  ms_scratch_free(&room);
  ms_source_close(s);
}

/* A step that fails can be tried again; what is not finished leaves no file. */
static void test_cache_fails(void **state) {
  (void)state;
  ms_events_source_config lenient = config();
  lenient.read.policy = lenient.frames.policy = MS_LENIENT;
  ms_source *s = opened(lenient);
  ms_cache_writer *w;
  ms_repairs repairs;
  int64_t done = 0;
  assert_int_equal(ms_cache_begin(&w, s, scratch("f.npy"), &E), MS_OK);
  assert_int_equal(unlink(recording(3)), 0);
  failed(ms_cache_step(w, 3, &done, &E), MS_EIO, "/3.bin: No such file");
  assert_int_equal(done, 0);
  assert_true(files_like("f.npy.tmp"));
  failed(ms_cache_commit(w, &repairs, &E), MS_EINVAL, "cache: only 0 of 5 samples are written");
  assert_false(files_like("f.npy"));
  assert_int_equal(ms_cache_begin(&w, s, scratch("f.npy"), &E), MS_OK);
  assert_int_equal(ms_cache_step(w, 3, &done, &E), MS_EIO);
  write_recordings();
  size_t n;
  unsigned char *bytes = get_file(recording(3), &n);
  put_file(recording(3), bytes, n - 2); /* mended, and told */
  free(bytes);
  assert_int_equal(ms_cache_step(w, 3, &done, &E), MS_OK);
  assert_int_equal(done, N);
  assert_int_equal(ms_cache_commit(w, &repairs, &E), MS_OK);
  assert_int_equal(repairs.count[MS_REPAIR_TRUNCATED], 3);
  assert_true(files_like("f.npy"));
  assert_false(files_like("f.npy.tmp"));
  assert_int_equal(ms_cache_begin(&w, s, scratch("g.npy"), &E), MS_OK);
  ms_cache_abort(w);
  ms_cache_abort(NULL);
  assert_false(files_like("g.npy"));
  failed(ms_cache_begin(&w, s, scratch("no/where.npy"), &E), MS_EIO, "No such file");
  assert_null(w);
  ms_interrupt_request();
  assert_int_equal(ms_cache_begin(&w, s, scratch("h.npy"), &E), MS_OK);
  assert_int_equal(ms_cache_step(w, 1, &done, &E), MS_EINTR);
  ms_cache_abort(w);
  assert_false(files_like("h.npy"));
  write_recordings();
  ms_source_close(s);
}

static int setup(void **state) {
  int bad = scratch_setup(state);
  if (!bad)
    write_recordings();
  return bad;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_paths),       cmocka_unit_test(test_frames),         cmocka_unit_test(test_windows),
      cmocka_unit_test(test_duration),    cmocka_unit_test(test_threads),        cmocka_unit_test(test_refused),
      cmocka_unit_test(test_images),      cmocka_unit_test(test_images_refused), cmocka_unit_test(test_cache),
      cmocka_unit_test(test_cache_fails),
  };
  return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
