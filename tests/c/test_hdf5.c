#include "damage.h"
#include "../../host/core/data/hdf5.h"

/* Files of tests/ref/shd.py. */
typedef struct golden {
  unsigned char *p;
  size_t n;
} golden;

static golden get(const char *name) {
  golden g;
  char path[400];
  snprintf(path, sizeof path, MS_ROOT "/tests/ref/%s", name);
  g.p = get_file(path, &g.n);
  return g;
}

static const char *const arrays[] = {"/spikes/times", "/spikes/units", "/labels"};

/* The arrays of the file, all their lists, and every number of them: how many there are in the last array named. */
static ms_status read_arrays(void *count, const unsigned char *p, size_t n, ms_error *err) {
  ms_input in = {.op = "test", .path = "file", .p = p, .n = n};
  for (int k = 0; k < 3; k++) {
    ms_hdf5_array a;
    ms_buffer elements = {0};
    ms_status status = ms_hdf5_find(&a, arrays[k], &in, err);
    if (!status && !(status = ms_hdf5_read(&elements, &a, &in, err))) {
      int64_t numbers = 0, sum = 0;
      for (int64_t i = 0; i < a.n && !status && a.lists; i++) {
        const uint8_t *list;
        int64_t length;
        if (!(status = ms_hdf5_list(&list, &length, &a, elements.p + i * a.element, &in, err)))
          for (numbers += length; length > 0; length--)
            sum += (int64_t)ms_bytes(list + (length - 1) * a.width, a.width, a.big) & 1;
      }
      assert_true(sum <= numbers);
      *(int64_t *)count = a.lists ? numbers : a.n;
    }
    ms_buffer_free(&elements);
    if (status) {
      assert_true(strncmp(err->text, "test: file: damaged file: byte ", 31) == 0);
      return status;
    }
  }
  return MS_OK;
}

/* Times of sample i: k / 64 for k < i mod 3; units 5i + k; labels i mod 20. Big-endian, in chunks under two levels. */
static void test_chunks(void **state) {
  (void)state;
  golden g = get("shd_chunks.h5");
  ms_input in = {.op = "test", .path = "file", .p = g.p, .n = g.n};
  ms_hdf5_array a[3];
  ms_buffer elements[3] = {{0}};
  ms_error err;
  for (int k = 0; k < 3; k++) {
    assert_int_equal(ms_hdf5_find(&a[k], arrays[k], &in, &err), MS_OK);
    assert_int_equal(ms_hdf5_read(&elements[k], &a[k], &in, &err), MS_OK);
    assert_int_equal(a[k].n, 132);
  }
  assert_true(a[0].kind == 'f' && a[0].width == 4 && a[0].big && a[0].lists && a[0].filters == 0);
  assert_true(a[1].kind == 'i' && a[1].width == 4 && a[1].big && a[1].lists && a[1].filters == 2);
  assert_true(a[2].kind == 'i' && a[2].width == 1 && !a[2].lists && a[2].element == 1);
  for (int i = 0; i < 132; i++) {
    const uint8_t *time, *unit;
    int64_t n[2];
    assert_int_equal(ms_hdf5_list(&time, &n[0], &a[0], elements[0].p + 16 * i, &in, &err), MS_OK);
    assert_int_equal(ms_hdf5_list(&unit, &n[1], &a[1], elements[1].p + 16 * i, &in, &err), MS_OK);
    assert_true(n[0] == i % 3 && n[1] == i % 3);
    for (int k = 0; k < i % 3; k++) {
      assert_true(ms_bytes_real(ms_bytes(time + 4 * k, 4, 1), 4) == k / 64.0);
      assert_int_equal(ms_hdf5_integer(&a[1], unit + 4 * k), 5 * i + k);
    }
    assert_int_equal(ms_hdf5_integer(&a[2], elements[2].p + i), i % 20);
  }
  for (int k = 0; k < 3; k++)
    ms_buffer_free(&elements[k]);
  free(g.p);
}

static void test_numbers(void **state) {
  (void)state;
  static const struct {
    char kind;
    int width, big;
    const char *bytes;
    int64_t want;
  } cases[] = {{'i', 1, 0, "\x80", -128},
               {'u', 1, 0, "\x80", 128},
               {'i', 2, 0, "\xfe\xff", -2},
               {'u', 2, 1, "\xff\xfe", 65534},
               {'i', 4, 1, "\x80\0\0\1", -2147483647},
               {'i', 8, 0, "\1\0\0\0\0\0\0\0", 1},
               {'u', 8, 0, "\xff\xff\xff\xff\xff\xff\xff\xff", -1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ms_hdf5_array a = {.kind = cases[i].kind, .width = cases[i].width, .big = cases[i].big};
    assert_int_equal(ms_hdf5_integer(&a, (const uint8_t *)cases[i].bytes), cases[i].want);
  }
}

typedef struct change {
  int at;
  uint8_t byte;
  const char *why; /* NULL: still read */
} change;

/* A golden file, one byte of it changed. */
static void try_changes(const char *name, const change *c, size_t n) {
  golden g = get(name);
  for (; n > 0; n--, c++) {
    ms_error err = {0};
    int64_t count;
    uint8_t was = g.p[c->at];
    g.p[c->at] = c->byte;
    ms_status status = damage_try(read_arrays, &count, g.p, g.n);
    if (status != (c->why ? MS_EFORMAT : MS_OK))
      fail_msg("byte %#x: %s", (unsigned)c->at, status ? err.text : "no error");
    if (status && (read_arrays(&count, g.p, g.n, &err), !strstr(err.text, c->why)))
      fail_msg("byte %#x: expected '%s' in: %s", (unsigned)c->at, c->why, err.text);
    g.p[c->at] = was;
  }
  free(g.p);
}

static void test_refused(void **state) {
  (void)state;
  static const change cases[] = {
      {0, 'h', "byte 0: expected HDF5, got something else"},
      {8, 2, "byte 8: superblock of version 2: HDF5 of the later format is not read"},
      {13, 4, "byte 13: expected addresses and sizes of 8 bytes"},
      {0x19, 1, "byte 24: expected no block of the user"},
      {0x29, 0x23, "byte 8956: the file is cut off: expected 9212 bytes"},
      {0x47, 1, "the file ends before 16 bytes at"},
      {0x60, 2, "byte 96: expected an object of version 1"},
      {0x70, 0x10, "a group's table: not found in its object"},
      {0x72, 0x18, "byte 112: a message that does not fit into its object"},
      {0x74, 2, "byte 112: messages that objects share are not read"},
      {0x88, 'F', "byte 136: expected 'TREE'"},
      {0x8c, 1, "expected the next level of a group"},
      {0x8e, 0, "expected /spikes/times, which is not in there"},
      {0x2a8, 'h', "expected 'HEAP'"},
      {0x2b0, 0x0a, "a name of a group is cut off"},
      {0x590, 'T', "expected /spikes/times, which is not in there"},
      {0x5e0, 's', "expected 'SNOD'"},
      {0x740, 3, "expected an array of one dimension"},
      {0x741, 2, "expected an array of one dimension"},
      {0x74f, 0x80, "an impossible size"},
      {0x748, 4, "expected 64 bytes of data, got 48"},
      {0x761, 1, "expected lists of numbers"},
      {0x768, 0x12, "expected IEEE floats or integers of whole bytes"},
      {0x769, 0x21, NULL}, /* big-endian */
      {0x769, 0x60, "expected IEEE floats"},
      {0x76c, 3, "expected IEEE floats"},
      {0x775, 4, "expected IEEE floats"},
      {0x778, 14, "expected IEEE floats"},
      {0x790, 9, "the layout of an array: not found in its object"},
      {0x798, 2, "expected an array that is compact, in one piece, or in chunks by the older index"},
      {0x799, 3, "expected an array that is compact"},
      {0x799, 2, "chunks that do not fit the array"},
      {0x9c1, 8, NULL}, /* signed */
      {0x9c4, 3, "expected IEEE floats or integers of whole bytes"},
      {0x9ca, 15, "expected IEEE floats or integers of whole bytes"},
      {0xa90, 5, "expected a list of 5 numbers, got 8 bytes"},
      {0xa90, 0, NULL}, /* an empty list refers to nothing */
      {0xa9c, 9, "byte 2752: no list 9 in this heap"},
      {0xac0, 'g', "expected 'GCOL'"},
      {0xaca, 0x10, "the file ends before"},
      {0xad8, 9, "expected a list of 4 numbers, got 9 bytes"},
      {0xada, 1, "a list that does not fit into its heap"}};
  static const change chunks[] = {{0x9e8, 3, "filters that are not known"},
                                  {0x9e9, 5, "filters that are not known"},
                                  {0x9e9, 3, "filters that are cut off"},
                                  {0x9f0, 3, "byte 2544: filter 3 is not read, only gzip (1) and shuffle (2) are"},
                                  {0x9f0, 1, NULL} /* the chunks say that they are not shuffled */,
                                  {0xa22, 3, "chunks that do not fit the array"},
                                  {0xa2f, 8, "chunks that do not fit the array"},
                                  {0xa2b, 59, "a chunk that gzip did not write"},
                                  {0xa2b, 61, "expected a chunk of 976 bytes, got 960"}};
  try_changes("shd.h5", cases, sizeof cases / sizeof *cases);
  try_changes("shd_chunks.h5", chunks, sizeof chunks / sizeof *chunks);
}

/* An index that leads back to itself ends, and a size that the file cannot hold asks for no memory. */
static void test_knots(void **state) {
  (void)state;
  golden g = get("shd_chunks.h5");
  ms_error err = {0};
  int64_t count, trees = 0;
  for (size_t i = 0; i + 8 < g.n; i++) {
    if (memcmp(g.p + i, "TREE\1", 5) != 0)
      continue;
    trees++;
    int level = g.p[i + 5];
    uint64_t self = i;
    unsigned char child[8];
    memcpy(child, g.p + i + 48, 8);
    memcpy(g.p + i + 48, &self, 8); /* its first child is the node itself */
    assert_int_equal(read_arrays(&count, g.p, g.n, &err), MS_EFORMAT);
    if (level > 0)
      assert_non_null(strstr(err.text, "expected the next level of an index of chunks"));
    memcpy(g.p + i + 48, child, 8);
  }
  assert_true(trees > 3);
  assert_int_equal(read_arrays(&count, g.p, g.n, &err), MS_OK);
  free(g.p);
  ms_input in = {.op = "test", .path = "file", .p = (const uint8_t *)"", .n = 1000};
  ms_hdf5_array a = {.n = 63, .element = 16, .chunk = 1};
  ms_buffer none = {0};
  assert_int_equal(ms_hdf5_read(&none, &a, &in, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "1000 bytes cannot hold an array of 1008"));
  a.filter[a.filters++] = 2; /* shuffled, they take no less */
  assert_int_equal(ms_hdf5_read(&none, &a, &in, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "1000 bytes cannot hold an array of 1008"));
  assert_null(none.p);
}

/* A heap numbers its lists by 16 bits: one of more entries is looked through no further, however often it is referred to. */
static void test_crowded_heap(void **state) {
  (void)state;
  enum { MOST = 65535 };
  size_t n = 16 + 16 * (size_t)(MOST + 1) + 8;
  unsigned char *p = calloc(1, n);
  assert_non_null(p);
  memcpy(p, "GCOL\1", 5);
  memcpy(p + 8, &n, 8);
  for (int i = 0; i <= MOST; i++)
    p[16 + 16 * i] = 1; /* empty */
  unsigned char element[16] = {1, [12] = 2};
  ms_input in = {.op = "test", .path = "file", .p = p, .n = n};
  ms_hdf5_array a = {.width = 8, .lists = 1};
  for (int at = MOST - 1; at <= MOST; at++) {
    unsigned char *entry = p + 16 + 16 * at;
    const uint8_t *list;
    int64_t length;
    ms_error err = {0};
    entry[0] = 2;
    entry[8] = 8;
    assert_int_equal(ms_hdf5_list(&list, &length, &a, element, &in, &err), at < MOST ? MS_OK : MS_EFORMAT);
    assert_true(at < MOST ? list == entry + 16 : strstr(err.text, "no list 2 in this heap") != NULL);
    entry[0] = 1;
    entry[8] = 0;
  }
  free(p);
}

/* The sanitizers take six times as long: every 7th bit, which are each bit of some byte. */
#ifdef __SANITIZE_ADDRESS__
#define STEP 7
#else
#define STEP 1
#endif

/* Prefixes that say that they are whole: what they lack is noticed where it is looked for. */
static void cut(unsigned char *p, size_t n) {
  int64_t count;
  for (uint64_t i = 100; i < n; i++) {
    memcpy(p + 40, &i, 8);
    ms_status status = damage_try(read_arrays, &count, p, i);
    assert_true(status == MS_OK || status == MS_EFORMAT);
  }
}

/* Every prefix is refused; no flip of a bit does anything but that or change what is read. */
static void test_damage(void **state) {
  (void)state;
  static const char *const names[] = {"shd.h5", "shd_chunks.h5", "shd_tables.h5"};
  static const int64_t labels[] = {3, 132, 3};
  for (int i = 0; i < 3; i++) {
    golden g = get(names[i]);
    int64_t count = 0;
    assert_int_equal(damage_try(read_arrays, &count, g.p, g.n), MS_OK);
    assert_int_equal(count, labels[i]);
    damage_prefixes(read_arrays, &count, g.p, g.n);
    assert_true(damage_some_flips(read_arrays, &count, g.p, g.n, STEP) > 1000 / STEP);
    cut(g.p, g.n);
    free(g.p);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_chunks),       cmocka_unit_test(test_numbers),
                                     cmocka_unit_test(test_refused),      cmocka_unit_test(test_knots),
                                     cmocka_unit_test(test_crowded_heap), cmocka_unit_test(test_damage)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
