#include "scratch.h"
#include "../../host/core/safetensors.h"
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <zlib.h>

/* Golden bytes of the format's description: w F32 [1, 2] = {1.5, -2}, y U8 [3] = {1, 2, 255}. */
#define HEADER                                                         \
  "{\"w\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}," \
  "\"y\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}   "
#define GOLDEN_BYTES 131

static void golden(unsigned char *out) {
  memcpy(out, "\160\0\0\0\0\0\0\0" HEADER, 120);
  memcpy(out + 120, "\0\0\300\77\0\0\0\300\1\2\377", 11);
}

static ms_status open_bytes(ms_st_file **f, const void *bytes, size_t n, ms_error *err) {
  put_file(scratch("file"), bytes, n);
  err->text[0] = 0;
  ms_status status = ms_st_open(f, scratch("file"), err);
  if (status) {
    assert_null(*f);
    assert_true(strncmp(err->text, "safetensors: ", 13) == 0);
  }
  return status;
}

/* A file of this header and n zero bytes. */
static size_t compose(unsigned char *out, const char *header, size_t n) {
  uint64_t length = strlen(header);
  memcpy(out, &length, 8);
  memcpy(out + 8, header, length);
  memset(out + 8 + length, 0, n);
  return 8 + length + n;
}

static void refused(const char *header, size_t n, const char *why) {
  unsigned char bytes[4096];
  ms_st_file *f;
  ms_error err;
  assert_int_equal(open_bytes(&f, bytes, compose(bytes, header, n), &err), MS_EFORMAT);
  if (!strstr(err.text, why))
    fail_msg("expected '%s' in: %s", why, err.text);
}

static ms_tensor *tensor(ms_dtype dtype, int ndim, const int64_t *size, const void *values) {
  ms_tensor *t;
  ms_error err;
  assert_int_equal(ms_tensor_new(&t, ms_device_cpu(), dtype, ndim, size, &err), MS_OK);
  if (ms_numel(t))
    assert_int_equal(ms_write(t, values, &err), MS_OK);
  return t;
}

static int files_in_folder(void) {
  int n = 0;
  DIR *d = opendir(scratch_folder);
  assert_non_null(d);
  while (readdir(d))
    n++;
  closedir(d);
  return n - 2;
}

static void test_read_golden(void **state) {
  (void)state;
  unsigned char bytes[GOLDEN_BYTES], y[3];
  ms_real w[2];
  ms_st_file *f;
  ms_tensor *t;
  ms_error err;
  golden(bytes);
  assert_int_equal(crc32(0, bytes, sizeof bytes), 0xf5701568);
  assert_int_equal(open_bytes(&f, bytes, sizeof bytes, &err), MS_OK);
  assert_int_equal(ms_st_count(f), 2);
  assert_int_equal(ms_st_metadata_count(f), 0);
  assert_string_equal(ms_st_at(f, 0)->name, "w");
  assert_string_equal(ms_st_at(f, 0)->dtype, "F32");
  assert_int_equal(ms_st_find(f, "y"), 1);
  assert_int_equal(ms_st_find(f, "x"), -1);
  assert_int_equal(ms_st_tensor(&t, f, 0, &err), MS_OK);
  assert_string_equal(ms_tensor_text(t).s, "float32 [1, 2]");
  assert_int_equal(ms_read(t, w, &err), MS_OK);
  assert_true(w[0] == 1.5 && w[1] == -2);
  ms_release(t);
  assert_int_equal(ms_st_tensor(&t, f, 1, &err), MS_OK);
  assert_int_equal(ms_read(t, y, &err), MS_OK);
  assert_memory_equal(y, "\1\2\377", 3);
  ms_release(t);
  ms_st_close(f);
}

static void write_golden(const char *path, ms_status want, ms_error *err) {
  ms_st_writer *w;
  ms_real values[] = {1.5, -2};
  ms_tensor *tw = tensor(MS_F32, 2, (int64_t[]){1, 2}, values), *ty = tensor(MS_U8, 1, (int64_t[]){3}, "\1\2\377");
  assert_int_equal(ms_st_writer_new(&w, path, err), MS_OK);
  assert_int_equal(ms_st_writer_add(w, "y", ty, err), MS_OK); /* the writer brings them into order */
  assert_int_equal(ms_st_writer_add(w, "w", tw, err), MS_OK);
  assert_int_equal(ms_st_writer_finish(w, err), want);
  ms_st_writer_free(w);
  ms_release(tw);
  ms_release(ty);
}

static void test_write_golden(void **state) {
  (void)state;
  unsigned char bytes[GOLDEN_BYTES];
  size_t n;
  ms_error err;
  golden(bytes);
  write_golden(scratch("out"), MS_OK, &err);
  unsigned char *got = get_file(scratch("out"), &n);
#ifdef MS_REAL64
  assert_true(n > GOLDEN_BYTES); /* w is F64 */
#else
  assert_int_equal(n, sizeof bytes);
  assert_memory_equal(got, bytes, n);
#endif
  free(got);
  unlink(scratch("out"));
}

static void test_truncated(void **state) {
  (void)state;
  unsigned char bytes[GOLDEN_BYTES + 1];
  ms_st_file *f;
  ms_error err;
  golden(bytes);
  for (size_t n = 0; n < GOLDEN_BYTES; n++)
    assert_int_equal(open_bytes(&f, bytes, n, &err), MS_EFORMAT);
  bytes[GOLDEN_BYTES] = 0;
  assert_int_equal(open_bytes(&f, bytes, GOLDEN_BYTES + 1, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "1 bytes of data belong to no tensor"));
}

/* A flipped bit in the header gives an error or a file that is valid in itself: other names, or shapes of the same
** size. */
static void test_flipped(void **state) {
  (void)state;
  unsigned char bytes[GOLDEN_BYTES];
  int valid = 0;
  for (size_t bit = 0; bit < 120 * 8; bit++) {
    ms_st_file *f;
    ms_error err;
    golden(bytes);
    bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    if (open_bytes(&f, bytes, sizeof bytes, &err) != MS_OK)
      continue;
    valid++;
    assert_int_equal(ms_st_at(f, ms_st_count(f) - 1)->end, 11);
    for (int i = 0; i < ms_st_count(f); i++) {
      ms_tensor *t;
      if (ms_st_tensor(&t, f, i, &err) == MS_OK)
        ms_release(t);
    }
    ms_st_close(f);
  }
  assert_in_range(valid, 10, 40);
}

static void test_lengths(void **state) {
  (void)state;
  unsigned char bytes[GOLDEN_BYTES];
  static const uint64_t lengths[] = {UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 7, 100000001, 124, 0};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    ms_st_file *f;
    ms_error err;
    golden(bytes);
    memcpy(bytes, &lengths[i], 8);
    assert_int_equal(open_bytes(&f, bytes, sizeof bytes, &err), MS_EFORMAT);
    assert_non_null(strstr(err.text, "header"));
  }
}

#define U8(name, shape, begin, end) \
  "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static void test_damaged(void **state) {
  (void)state;
  refused("{" U8("a", "2", "0", "2") "," U8("a", "2", "2", "4") "}", 4, "duplicate object key");
  refused("{" U8("a", "2", "0", "2") "," U8("\\u0061", "2", "2", "4") "}", 4, "duplicate object key");
  refused("{" U8("a", "2", "0", "2") "," U8("b", "2", "3", "5") "}", 5, "'b': a hole at byte 2");
  refused("{" U8("a", "2", "0", "2") "," U8("b", "2", "1", "3") "}", 3, "'b': an overlap at byte 1");
  refused("{" U8("a", "2", "1", "3") "}", 3, "a hole at byte 0");
  refused("{" U8("a", "2", "0", "2") "}", 3, "1 bytes of data belong to no tensor");
  refused("{" U8("a", "3", "0", "2") "}", 2, "2 bytes do not hold U8 [3]");
  refused("{" U8("a", "4", "0", "4") "}", 3, "do not lie in the 3 bytes");
  refused("{" U8("a", "2", "2", "0") "}", 2, "a hole");
  refused("{" U8("a", "-1", "0", "2") "}", 2, "expected integers in [0, 2^53)");
  refused("{" U8("a", "2.0", "0", "2") "}", 2, "expected integers in [0, 2^53)");
  refused("{" U8("a", "02", "0", "2") "}", 2, "invalid token");
  refused("{" U8("a", "2", "0", "9007199254740992") "}", 2, "expected integers in [0, 2^53)");
  refused("{" U8("a", "2", "0", "18446744073709551618") "}", 2, "too big integer");
  refused("{" U8("a", "2", "0", "2,2") "}", 2, "1 array item(s) left unpacked");
  refused("{" U8("a", "1,1,1,1,1,1,1,1,2", "0", "2") "}", 2, "at most 8 numbers");
  refused("{" U8("a", "4294967296,4294967296", "0", "0") "}", 0, "do not hold");
  refused("{" U8("a", "2", "0", "2") "} x", 2, "end of file expected");
  refused("{" U8("a", "2", "0", "2") "", 2, "near end of file");
  refused("{" U8("a\\u0000b", "2", "0", "2") "}", 2, "NUL byte in object key");
  refused("{" U8("a\xff", "2", "0", "2") "}", 2, "unable to decode byte 0xff");
  refused("{" U8("\xed\xa0\x80", "2", "0", "2") "}", 2, "unable to decode byte 0xed");
  refused("{" U8("\\ud800", "2", "0", "2") "}", 2, "invalid Unicode");
  refused("{\"a\":{\"dtype\":\"U9\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "unknown dtype 'U9'");
  refused("{\"a\":{\"dtype\":\"U8\\u0000\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "\\u0000 is not allowed");
  refused("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "do not hold F4");
  refused("{\"a\":{\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "not found: dtype");
  refused("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 2, "duplicate object key");
  refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2],\"type\":\"U8\"}}", 2, "left unpacked: type");
  refused("{\"a\":{\"type\":\"U8\"}}", 2, "not found: dtype");
  refused("{\"a\":[[[[]]]]}", 0, "Expected object, got array");
  refused("{\"__metadata__\":{\"k\":1}}", 0, "expected a string");
  refused("{\"__metadata__\":{\"k\":\"a\",\"k\":\"b\"}}", 0, "duplicate object key");
  refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate object key");
  refused(" {}", 0, "begin with '{'");
}

static void test_hostile(void **state) {
  (void)state;
  static unsigned char bytes[1 << 20];
  static char header[sizeof bytes - 8];
  const struct {
    const char *piece, *why;
  } cases[] = {{"[", "brackets"},
               {"{},", "brackets"},
               {"\"[\\\"[\":{\"a\":", "brackets"},
               {"[                         ", "maximum parsing depth"},
               {"{\"                         \":", "maximum parsing depth"}};
  ms_st_file *f;
  ms_error err;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t end = (size_t)sprintf(header, "{\"a\":");
    while (end < sizeof header - 64)
      end += (size_t)sprintf(header + end, "%s", cases[i].piece);
    assert_int_equal(open_bytes(&f, bytes, compose(bytes, header, 0), &err), MS_EFORMAT);
    assert_non_null(strstr(err.text, cases[i].why));
  }
  /* brackets in text are no brackets */
  size_t at = (size_t)sprintf(header, "{\"__metadata__\":{\"\\\\\":\"\\\"");
  memset(header + at, '[', 1000);
  strcpy(header + at + 1000, "\\\\\"}}");
  size_t n = compose(bytes, header, 0);
  assert_int_equal(open_bytes(&f, bytes, n, &err), MS_OK);
  const char *key, *value;
  ms_st_metadata_at(f, 0, &key, &value);
  assert_string_equal(key, "\\");
  assert_int_equal(strlen(value), 1002);
  ms_st_close(f);
  /* one NUL anywhere */
  n = compose(bytes, "{" U8("a", "2", "0", "2") "}  ", 2);
  for (size_t i = 9; i < n - 2; i++) {
    unsigned char was = bytes[i];
    bytes[i] = 0;
    assert_int_equal(open_bytes(&f, bytes, n, &err), MS_EFORMAT);
    assert_non_null(strstr(err.text, "a NUL"));
    bytes[i] = was;
  }
}

static void test_legal(void **state) {
  (void)state;
  unsigned char bytes[1024];
  ms_st_file *f;
  ms_error err;
  size_t n = compose(bytes, "{}", 0);
  assert_int_equal(open_bytes(&f, bytes, n, &err), MS_OK);
  assert_int_equal(ms_st_count(f), 0);
  ms_st_close(f);
  /* any order, scalars, empty tensors, escapes */
  n = compose(
      bytes,
      "{" U8("b", "2", "1", "3") "," U8("a\\n\\u00e9\\ud83d\\ude00", "", "0", "1") "," U8("c", "0,5", "3", "3") "}  ",
      3);
  assert_int_equal(open_bytes(&f, bytes, n, &err), MS_OK);
  assert_string_equal(ms_st_at(f, 0)->name, "a\n\xc3\xa9\xf0\x9f\x98\x80");
  assert_int_equal(ms_st_at(f, 0)->ndim, 0);
  ms_tensor *t;
  assert_int_equal(ms_st_tensor(&t, f, 2, &err), MS_OK);
  assert_int_equal(ms_numel(t), 0);
  ms_release(t);
  ms_st_close(f);
}

/* One entry with `values` under a header of odd length, so that nothing is aligned; its first two values. */
static ms_status converted(const char *dtype, const void *values, size_t width, ms_dtype want, double out[2]) {
  char header[128];
  unsigned char bytes[256];
  ms_st_file *f;
  ms_tensor *t;
  ms_error err;
  double reals[2];
  snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[0,%zu]}}", dtype,
           2 * width);
  if (strlen(header) % 2 == 0)
    strcat(header, " ");
  size_t n = compose(bytes, header, 2 * width);
  memcpy(bytes + n - 2 * width, values, 2 * width);
  assert_int_equal(open_bytes(&f, bytes, n, &err), MS_OK);
  ms_status status = ms_st_tensor(&t, f, 0, &err);
  ms_st_close(f);
  if (status)
    return status;
  assert_int_equal(t->dtype, want);
  assert_int_equal(ms_read(t, reals, &err), MS_OK);
  for (int i = 0; i < 2; i++)
    out[i] = want == MS_F32    ? (double)((ms_real *)reals)[i]
             : want == MS_BF16 ? (double)ms_bf16_to(((ms_bf16 *)reals)[i])
             : want == MS_U8   ? (double)((uint8_t *)reals)[i]
                               : (double)((int64_t *)reals)[i];
  ms_release(t);
  return MS_OK;
}

static void test_types(void **state) {
  (void)state;
  const struct {
    const char *dtype;
    size_t width;
    ms_dtype want;
    const void *values;
    double a, b;
  } cases[] = {
      {"BOOL", 1, MS_U8, "\0\7", 0, 1},
      {"I8", 1, MS_I64, "\200\1", -128, 1},
      {"I16", 2, MS_I64, (int16_t[]){-3, 300}, -3, 300},
      {"U16", 2, MS_I64, (uint16_t[]){65535, 1}, 65535, 1},
      {"I32", 4, MS_I64, (int32_t[]){-70000, 5}, -70000, 5},
      {"U32", 4, MS_I64, (uint32_t[]){4294967295u, 5}, 4294967295.0, 5},
      {"I64", 8, MS_I64, (int64_t[]){-1, 1}, -1, 1},
      {"U64", 8, MS_I64, (uint64_t[]){2, 3}, 2, 3},
      {"F16", 2, MS_F32, (uint16_t[]){0x3e00, 0x8001}, 1.5, -0x1p-24},
      {"F16", 2, MS_F32, (uint16_t[]){0x7bff, 0xfc00}, 65504, -INFINITY},
      {"BF16", 2, MS_BF16, (uint16_t[]){0x3fc0, 0xc000}, 1.5, -2},
      {"F32", 4, MS_F32, (float[]){1.5f, INFINITY}, 1.5, INFINITY},
      {"F64", 8, MS_F32, (double[]){1.5, -2}, 1.5, -2},
  };
  double out[2];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(converted(cases[i].dtype, cases[i].values, cases[i].width, cases[i].want, out), MS_OK);
    assert_true(out[0] == cases[i].a && out[1] == cases[i].b);
  }
  assert_int_equal(converted("U64", (uint64_t[]){UINT64_MAX, 0}, 8, MS_I64, out), MS_ERANGE);
  assert_int_equal(converted("F8_E4M3", "\1\2", 1, MS_U8, out), MS_ETYPE);
}

/* Logical row-major order whatever the memory order, every type, names and metadata that need escapes. */
static void test_round_trip(void **state) {
  (void)state;
  ms_st_writer *w;
  ms_st_file *f;
  ms_error err;
  ms_real reals[24], got[24];
  int64_t integers[] = {INT64_MIN, INT64_MAX};
  ms_bf16 halves[2] = {ms_bf16_from(1.5f), ms_bf16_from(-0.f)}, bgot[2];
  for (int i = 0; i < 24; i++)
    reals[i] = (ms_real)i;
  reals[3] = (ms_real)NAN;
  ms_tensor *t[4] = {tensor(MS_F32, 4, (int64_t[]){2, 3, 2, 2}, reals), tensor(MS_I64, 1, (int64_t[]){2}, integers),
                     tensor(MS_BF16, 1, (int64_t[]){2}, halves), tensor(MS_F32, 2, (int64_t[]){0, 4}, NULL)};
  const char *names[4] = {"conv \"1\"", "n\n\x01", "\xc3\xa9", "empty"};
  assert_int_equal(ms_st_writer_new(&w, scratch("out"), &err), MS_OK);
  for (int i = 0; i < 4; i++)
    assert_int_equal(ms_st_writer_add(w, names[i], t[i], &err), MS_OK);
  assert_int_equal(ms_st_writer_add(w, "empty", t[3], &err), MS_EINVAL);
  assert_int_equal(ms_st_writer_add(w, "__metadata__", t[3], &err), MS_EINVAL);
  assert_int_equal(ms_st_writer_add(w, "\xff", t[3], &err), MS_EINVAL);
  assert_int_equal(ms_st_writer_metadata(w, "b", "{\"x\":1}\\", &err), MS_OK);
  assert_int_equal(ms_st_writer_metadata(w, "a", "", &err), MS_OK);
  assert_int_equal(ms_st_writer_metadata(w, "a", "", &err), MS_EINVAL);
  assert_int_equal(ms_st_writer_finish(w, &err), MS_OK);
  ms_st_writer_free(w);
  assert_int_equal(ms_st_open(&f, scratch("out"), &err), MS_OK);
  assert_int_equal(ms_st_count(f), 4);
  const char *key, *value;
  assert_int_equal(ms_st_metadata_count(f), 2);
  ms_st_metadata_at(f, 1, &key, &value);
  assert_string_equal(key, "b");
  assert_string_equal(value, "{\"x\":1}\\");
  assert_int_equal(ms_st_find(f, names[1]), 0); /* I64 before F32 before BF16 */
  assert_int_equal(ms_st_find(f, names[0]), 1);
  assert_int_equal(ms_st_find(f, names[3]), 2);
  ms_tensor *back;
  assert_memory_equal(ms_st_bytes(f, 0), integers, sizeof integers);
  assert_memory_equal(ms_st_bytes(f, 1), reals, sizeof reals);
  assert_int_equal(ms_st_tensor(&back, f, 1, &err), MS_OK);
  assert_true(ms_same_shape(back, t[0]) && ms_is_default(back));
  assert_int_equal(ms_read(back, got, &err), MS_OK);
  assert_memory_equal(got, reals, sizeof reals);
  ms_release(back);
  assert_int_equal(ms_st_tensor(&back, f, 3, &err), MS_OK);
  assert_int_equal(ms_read(back, bgot, &err), MS_OK);
  assert_memory_equal(bgot, halves, sizeof halves);
  ms_release(back);
  ms_st_close(f);
  for (int i = 0; i < 4; i++)
    ms_release(t[i]);
  unlink(scratch("out"));
}

/* The disk is full from byte `limit` on: the message names path and reason, the old file is whole, no other is left. */
static void test_full_disk(void **state) {
  (void)state;
  ms_error err;
  struct rlimit old, small;
  size_t n;
  signal(SIGXFSZ, SIG_IGN);
  write_golden(scratch("out"), MS_OK, &err);
  unsigned char *before = get_file(scratch("out"), &n);
  int files = files_in_folder();
  getrlimit(RLIMIT_FSIZE, &old);
  for (rlim_t limit = 0; limit < n; limit += 13) {
    small = old;
    small.rlim_cur = limit;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    ms_st_writer *w;
    ms_tensor *t = tensor(MS_U8, 1, (int64_t[]){200}, (unsigned char[200]){1});
    assert_int_equal(ms_st_writer_new(&w, scratch("out"), &err), MS_OK);
    assert_int_equal(ms_st_writer_add(w, "t", t, &err), MS_OK);
    ms_status status = ms_st_writer_finish(w, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    ms_st_writer_free(w);
    ms_release(t);
    assert_int_equal(status, MS_EIO);
    assert_non_null(strstr(err.text, scratch("out")));
    assert_non_null(strstr(err.text, "File too large"));
    size_t m;
    unsigned char *after = get_file(scratch("out"), &m);
    assert_int_equal(m, n);
    assert_memory_equal(after, before, n);
    free(after);
    assert_int_equal(files_in_folder(), files);
  }
  free(before);
  write_golden("/dev/full", MS_EIO, &err);
  assert_non_null(strstr(err.text, "/dev/full: not a regular file"));
  write_golden(scratch("no/such/folder"), MS_EIO, &err);
  assert_non_null(strstr(err.text, "No such file"));
  write_golden(scratch_folder, MS_EIO, &err);
  unlink(scratch("out"));
}

static void test_links(void **state) {
  (void)state;
  ms_error err;
  struct stat st;
  write_golden(scratch("out"), MS_OK, &err);
  assert_int_equal(symlink("out", scratch("link")), 0);
  write_golden(scratch("link"), MS_OK, &err);
  assert_int_equal(lstat(scratch("link"), &st), 0);
  assert_true(S_ISLNK(st.st_mode));
  unlink(scratch("link"));
  unlink(scratch("out"));
}

static void test_memory(void **state) {
  (void)state;
  unsigned char bytes[GOLDEN_BYTES];
  int64_t before = ms_live_counts().bytes;
  golden(bytes);
  put_file(scratch("file"), bytes, sizeof bytes);
  int failures = 0;
  for (int64_t n = 0;; n++) {
    ms_st_file *f;
    ms_tensor *t = NULL;
    ms_error err;
    ms_fail_allocation(n);
    ms_status status = ms_st_open(&f, scratch("file"), &err);
    if (!status)
      status = ms_st_tensor(&t, f, 0, &err);
    ms_fail_allocation(-1);
    ms_release(t);
    ms_st_close(f);
    if (status == MS_OK)
      break;
    failures++;
    assert_int_equal(status, MS_EMEM);
  }
  assert_true(failures > 4);
  assert_int_equal(ms_live_counts().bytes, before);
}

static void test_missing(void **state) {
  (void)state;
  ms_st_file *f;
  ms_error err;
  assert_int_equal(ms_st_open(&f, scratch("none"), &err), MS_EIO);
  assert_non_null(strstr(err.text, "No such file"));
  assert_int_equal(ms_st_open(&f, scratch_folder, &err), MS_EIO);
  assert_non_null(strstr(err.text, "not a regular file"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_read_golden), cmocka_unit_test(test_write_golden), cmocka_unit_test(test_truncated),
      cmocka_unit_test(test_flipped),     cmocka_unit_test(test_lengths),      cmocka_unit_test(test_damaged),
      cmocka_unit_test(test_legal),       cmocka_unit_test(test_hostile),      cmocka_unit_test(test_types),
      cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_full_disk),    cmocka_unit_test(test_links),
      cmocka_unit_test(test_memory),      cmocka_unit_test(test_missing)};
  return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
