#include "damage.h"
#include "../../host/core/data/npz.h"
#include <zlib.h>

/* What CPython 3.11.7 and NumPy 1.24 write for t = >u4 {100, 250, 4294967280}, p = <i8 {0, 1, 0}. */
static const char stored64[] =
    "UEsDBC0AAAAAAAAAIQCy9oJH//////////8FABQAdC5ucHkBABAAjAAAAAAAAACMAAAAAAAAAJNOVU1QWQEAdgB7J2Rlc2NyJzogJz51NCcsICdm"
    "b3J0cmFuX29yZGVyJzogRmFsc2UsICdzaGFwZSc6ICgzLCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg"
    "ICAgICAgICAgICAgICAKAAAAZAAAAPr////wUEsDBC0AAAAAAAAAIQCKRzeo//////////8FABQAcC5ucHkBABAAmAAAAAAAAACYAAAAAAAAAJNO"
    "VU1QWQEAdgB7J2Rlc2NyJzogJzxpOCcsICdmb3J0cmFuX29yZGVyJzogRmFsc2UsICdzaGFwZSc6ICgzLCksIH0gICAgICAgICAgICAgICAgICAg"
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAKAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAUEsBAi0DLQAAAAAAAAAhALL2"
    "gkeMAAAAjAAAAAUAAAAAAAAAAAAAAIABAAAAAHQubnB5UEsBAi0DLQAAAAAAAAAhAIpHN6iYAAAAmAAAAAUAAAAAAAAAAAAAAIABwwAAAHAubnB5"
    "UEsFBgAAAAACAAIAZgAAAJIBAAAAAA==";
static const char deflated64[] =
    "UEsDBC0AAAAIAAAAIQCy9oJH//////////8FABQAdC5ucHkBABAAjAAAAAAAAABPAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG5XaqKuo6Ce"
    "ll9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GsY6mjoKtQoUAC4GBoYUIP71////DwBQSwMELQAAAAgAAAAhAIpHN6j//////////wUAFABwLm5w"
    "eQEAEACYAAAAAAAAAEoAAAAAAAAAm+wX6hsQychQxlCtnpJanFykbqWgbpNpoa6joJ6WX1RSlJgXn1+UkgoSd0vMKU4FihdnJBakAvkaxjqaOgq1"
    "ChQALgYoYGRABQBQSwECLQMtAAAACAAAACEAsvaCR08AAACMAAAABQAAAAAAAAAAAAAAgAEAAAAAdC5ucHlQSwECLQMtAAAACAAAACEAikc3qEoA"
    "AACYAAAABQAAAAAAAAAAAAAAgAGGAAAAcC5ucHlQSwUGAAAAAAIAAgBmAAAABwEAAAAA";

static size_t unbase64(unsigned char *out, const char *s) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  size_t n = 0;
  uint32_t bits = 0;
  for (int have = 0; *s && *s != '='; s++) {
    bits = bits << 6 | (uint32_t)(strchr(digits, *s) - digits);
    have += 6;
    if (have >= 8)
      out[n++] = (unsigned char)(bits >> (have -= 8));
  }
  return n;
}

static size_t golden(unsigned char out[640], int deflated) {
  size_t n = unbase64(out, deflated ? deflated64 : stored64);
  assert_int_equal(n, deflated ? 387 : 526);
  assert_int_equal(crc32(0, out, (uInt)n), deflated ? 0xa1c3db1b : 0x2e4f8724);
  return n;
}

static ms_repairs repairs;

static ms_input input(const unsigned char *p, size_t n, ms_policy policy) {
  memset(&repairs, 0, sizeof repairs);
  return (ms_input){.op = "read_npz", .path = "a.npz", .p = p, .n = n, .policy = policy, .repairs = &repairs};
}

/* Both arrays of the golden files, by value. */
static ms_status read_golden(void *ud, const unsigned char *p, size_t n, ms_error *err) {
  int64_t(*v)[3] = ud;
  uint8_t room[1024];
  ms_zip z = {0};
  ms_npz_member m;
  ms_input in = input(p, n, MS_STRICT);
  ms_status status = ms_zip_open(&z, &in, err);
  for (int k = 0; k < 2 && !status; k++) {
    const ms_zip_entry *e = ms_npz_find(&z, k ? "p.npy" : "t");
    if (!e || ms_zip_room(e) > sizeof room)
      status = ms_fail(err, MS_EFORMAT, "no entry, or too large a one");
    if (!status)
      status = ms_npz_member_open(&m, room, &z, e, err);
    if (!status && m.array.elements != 3)
      status = ms_fail(err, MS_EFORMAT, "not three");
    if (!status)
      status = ms_npy_read(v[k], MS_I64, NULL, &m.array, &m.in, err);
  }
  ms_zip_close(&z);
  return status;
}

/* As read_golden: what a flipped bit does not spoil must be right. */
static ms_status read_right(void *ud, const unsigned char *p, size_t n, ms_error *err) {
  int64_t(*v)[3] = ud;
  ms_status status = read_golden(ud, p, n, err);
  if (!status)
    assert_true(v[0][0] == 100 && v[0][1] == 250 && v[0][2] == 4294967280 && v[1][0] == 0 && v[1][1] == 1 &&
                v[1][2] == 0);
  return status;
}

static void test_golden(void **state) {
  (void)state;
  for (int deflated = 0; deflated < 2; deflated++) {
    unsigned char b[640];
    int64_t v[2][3];
    size_t n = golden(b, deflated);
    assert_int_equal(damage_try(read_right, v, b, n), MS_OK);
    damage_prefixes(read_right, v, b, n);
    assert_true(damage_flips(read_right, v, b, n) > (int64_t)n);
  }
}

/* Changes the golden archive at `at` and expects to be refused. */
static void refused(int deflated, size_t at, const void *bytes, size_t length, const char *why) {
  unsigned char b[640];
  int64_t v[2][3];
  ms_error err;
  size_t n = golden(b, deflated);
  memcpy(b + at, bytes, length);
  assert_int_equal(read_golden(v, b, n, &err), MS_EFORMAT);
  if (!strstr(err.text, why))
    fail_msg("expected '%s' in: %s", why, err.text);
}

enum { ENTRY1 = 402, ENTRY2 = 453, END = 504 }; /* of the stored golden file */

static void test_refused(void **state) {
  (void)state;
  refused(0, ENTRY1 + 8, "\1", 1, "byte 402, record 0: zip: the member is encrypted");
  refused(0, ENTRY1 + 10, "\14", 1, "stored or deflated, got method 12");
  refused(0, ENTRY1 + 16, "\0", 1, "'t.npy': the check sum differs");
  refused(0, ENTRY1 + 24, "\215", 1, "140 bytes cannot unpack to 141");
  refused(0, ENTRY1 + 20, "\377\0\0\0\377", 5, "byte 195: zip: two members share these bytes");
  refused(0, ENTRY2 + 42, "\0\0\0", 3, "the member's header and the directory differ");
  refused(0, ENTRY2 + 42, "\377\377", 2, "lies outside of the archive");
  refused(0, END + 8, "\3\0\3", 3, "3 members do not fit into");
  refused(0, END + 8, "\1\0\1", 3, "holds more than its 1 members");
  refused(0, END + 8, "\377\0\377", 3, "255 members do not fit into a directory of 102 bytes");
  refused(0, END + 16, "\0\0", 2, "bytes in front of the archive");
  refused(0, END + 12, "\377\377\377", 3, "does not fit");
  refused(0, END + 4, "\1", 1, "an archive of several files");
  refused(0, 0, "x", 1, "byte 0, record 0: zip: expected a member's header");
  refused(0, END, "x", 1, "the zip archive has no end");
  refused(1, 263 + 24, "\0\2", 2, "does not unpack to the 512 bytes");
  refused(1, 263 + 24, "\377\377\377\7", 4, "79 bytes cannot unpack to 134217727");
}

static void test_same_name(void **state) {
  (void)state;
  unsigned char b[640];
  int64_t v[2][3];
  ms_error err;
  size_t n = golden(b, 0);
  b[195 + 30] = 't'; /* the second member's name, both times */
  b[ENTRY2 + 46] = 't';
  assert_int_equal(read_golden(v, b, n, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "two members are called 't.npy'"));
}

/* Two entries of the directory that point at one member: a bomb's way to grow without bytes. */
static void test_overlap(void **state) {
  (void)state;
  ms_zip_out z = {0};
  ms_error err;
  ms_zip r = {0};
  assert_int_equal(ms_zip_add(&z, "a", "1234", 4, NULL, 0, "w", &err), MS_OK);
  assert_int_equal(ms_zip_add(&z, "a", "1234", 4, NULL, 0, "w", &err), MS_OK);
  memset(z.directory.p + 47 + 42, 0, 4);
  assert_int_equal(ms_zip_finish(&z, "w", &err), MS_OK);
  ms_input in = input(z.archive.p, z.archive.bytes, MS_STRICT);
  assert_int_equal(ms_zip_open(&r, &in, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "two members share these bytes"));
  ms_zip_close(&r);
  ms_zip_out_free(&z);
}

static void test_prefix(void **state) {
  (void)state;
  unsigned char b[640], longer[700] = "#!/bin/sh\n";
  int64_t v[2][3];
  uint8_t room[8];
  ms_error err;
  ms_zip z = {0};
  const uint8_t *p;
  size_t n = golden(b, 0);
  memcpy(longer + 10, b, n);
  assert_int_equal(read_golden(v, longer, n + 10, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "10 bytes in front of the archive"));
  ms_input in = input(longer, n + 10, MS_LENIENT);
  assert_int_equal(ms_zip_open(&z, &in, &err), MS_OK);
  assert_int_equal(repairs.count[MS_REPAIR_EXTRA], 10);
  assert_int_equal(ms_zip_read(&p, room, &z, ms_zip_find(&z, "t.npy"), &err), MS_OK);
  ms_zip_close(&z);
}

/* A data descriptor behind the member (bit 3), as programs write that cannot go back in the file. */
static void test_descriptor(void **state) {
  (void)state;
  unsigned char b[640], out[700];
  int64_t v[2][3];
  size_t n = golden(b, 0), split = 195; /* where the second member begins */
  memcpy(out, b, split);
  out[6] |= 8;
  memset(out + 14, 0, 12);
  memcpy(out + split, "PK\7\10\262\366\202\107\214\0\0\0\214\0\0\0", 16);
  memcpy(out + split + 16, b + split, n - split);
  out[ENTRY1 + 16 + 8] |= 8;
  out[ENTRY2 + 16 + 42] += 16;
  uint32_t begin = ENTRY1 + 16;
  memcpy(out + END + 16 + 16, &begin, 4);
  assert_int_equal(damage_try(read_right, v, out, n + 16), MS_OK);
}

/* A directory whose 64-bit values lie in the ZIP64 records. */
static void test_zip64(void **state) {
  (void)state;
  unsigned char b[640], out[800];
  int64_t v[2][3];
  ms_error err;
  size_t n = golden(b, 0);
  const uint64_t first[] = {140, 140, 0};
  memcpy(out, b, ENTRY1 + 51);
  memset(out + ENTRY1 + 20, 0xff, 8);
  memset(out + ENTRY1 + 42, 0xff, 4);
  out[ENTRY1 + 30] = 4 + 24 + 5;
  memcpy(out + ENTRY1 + 51, "\7\0\1\0x\1\0\30\0", 9); /* another extra field in front */
  memcpy(out + ENTRY1 + 60, first, 24);
  size_t at = ENTRY1 + 84;
  memcpy(out + at, b + ENTRY2, 51);
  at += 51;
  const uint64_t end[] = {44, 45 << 16 | 45, 2, 2, at - ENTRY1, ENTRY1};
  memcpy(out + at, "PK\6\6", 4);
  memcpy(out + at + 4, &end[0], 8);
  memcpy(out + at + 12, &end[1], 4);
  memset(out + at + 16, 0, 8);
  memcpy(out + at + 24, &end[2], 32);
  memcpy(out + at + 56, "PK\6\7\0\0\0\0", 8);
  uint64_t record = at;
  memcpy(out + at + 64, &record, 8);
  memcpy(out + at + 72, "\1\0\0\0PK\5\6\0\0\0\0", 12);
  memset(out + at + 84, 0xff, 12);
  memset(out + at + 96, 0, 2);
  size_t total = at + 98;
  (void)n;
  assert_int_equal(read_right(v, out, total, &err), MS_OK);
  damage_prefixes(read_right, v, out, total);
  damage_flips(read_right, v, out, total);
}

static void test_write_golden(void **state) {
  (void)state;
  static const unsigned char t[] = {0, 0, 0, 100, 0, 0, 0, 250, 0xff, 0xff, 0xff, 0xf0};
  static const int64_t p[] = {0, 1, 0}, three = 3;
  unsigned char b[640];
  ms_buffer head = {0};
  ms_zip_out z = {0};
  ms_error err;
  assert_int_equal(ms_npy_header(&head, ">u4", 1, &three, "w", &err), MS_OK);
  assert_int_equal(ms_zip_add(&z, "t.npy", head.p, head.bytes, t, sizeof t, "w", &err), MS_OK);
  head.bytes = 0;
  assert_int_equal(ms_npy_header(&head, "<i8", 1, &three, "w", &err), MS_OK);
  assert_int_equal(ms_zip_add(&z, "p.npy", head.p, head.bytes, p, sizeof p, "w", &err), MS_OK);
  assert_int_equal(ms_zip_finish(&z, "w", &err), MS_OK);
  assert_int_equal(z.archive.bytes, golden(b, 0));
  assert_memory_equal(z.archive.p, b, z.archive.bytes);
  ms_buffer_free(&head);
  ms_zip_out_free(&z);
}

static void test_empty(void **state) {
  (void)state;
  ms_zip_out z = {0};
  ms_zip r = {0};
  ms_error err;
  assert_int_equal(ms_zip_finish(&z, "w", &err), MS_OK);
  assert_int_equal(z.archive.bytes, 22);
  ms_input in = input(z.archive.p, 22, MS_STRICT);
  assert_int_equal(ms_zip_open(&r, &in, &err), MS_OK);
  assert_null(ms_zip_find(&r, "t.npy"));
  ms_zip_close(&r);
  ms_zip_out_free(&z);
}

/* ---- events ---- */

/* An archive of t, x, y, p as int64. */
static ms_buffer recording(int64_t n, const int64_t *t, const int64_t *x, const int64_t *y, const int64_t *p) {
  const int64_t *from[] = {t, x, y, p};
  ms_zip_out z = {0};
  ms_error err;
  for (int k = 0; k < 4; k++) {
    ms_buffer head = {0};
    assert_int_equal(ms_npy_header(&head, "<i8", 1, &n, "w", &err), MS_OK);
    assert_int_equal(ms_zip_add(&z, ((const char *[]){"t.npy", "x.npy", "y.npy", "p.npy"})[k], head.p, head.bytes,
                                from[k], 8 * (size_t)n, "w", &err),
                     MS_OK);
    ms_buffer_free(&head);
  }
  assert_int_equal(ms_zip_finish(&z, "w", &err), MS_OK);
  ms_buffer out = z.archive;
  z.archive = (ms_buffer){0};
  ms_zip_out_free(&z);
  return out;
}

typedef struct want {
  ms_policy policy;
  int64_t n;
  int repair;
  const char *why; /* of an error */
} want;

static void expect(ms_events *e, const ms_buffer *b, int width, int height, want w) {
  ms_buffer scratch = {0};
  ms_error err = {0};
  ms_input in = input(b->p, b->bytes, w.policy);
  ms_status status = ms_npz_events(e, &scratch, &in, width, height, &err);
  ms_buffer_free(&scratch);
  assert_int_equal(e->n, w.n);
  if (!w.why)
    assert_int_equal(status, MS_OK);
  else if (status != MS_EFORMAT || !strstr(err.text, w.why))
    fail_msg("expected '%s' in: %s", w.why, err.text);
  for (int k = 0; k < MS_REPAIR_COUNT; k++)
    assert_int_equal(repairs.count[k], w.repair && k == w.repair - 1);
}

static void test_events(void **state) {
  (void)state;
  ms_events e = {0};
  ms_buffer b = recording(3, (int64_t[]){5, 5, 9}, (int64_t[]){0, 3, 2}, (int64_t[]){1, 0, 1}, (int64_t[]){1, 0, 1});
  expect(&e, &b, 4, 2, (want){MS_STRICT, 3, 0, NULL});
  assert_true(e.t[0] == 5 && e.t[2] == 9 && e.x[1] == 3 && e.y[2] == 1 && e.p[0] == 1 && e.p[1] == 0);
  expect(&e, &b, 0, 0, (want){MS_STRICT, 3, 0, NULL});
  assert_true(e.width == 4 && e.height == 2);
  expect(&e, &b, 3, 2,
         (want){MS_STRICT, 0, 0, "x.npy: damaged file: byte 136, record 1: expected x from 0 to 2, got 3"});
  expect(&e, &b, 4, 1, (want){MS_STRICT, 0, 0, "record 0: expected y from 0 to 0, got 1"});
  expect(&e, &b, 3, 2, (want){MS_LENIENT, 2, 1 + MS_REPAIR_RANGE, NULL});
  expect(&e, &b, 3, 2, (want){MS_ORACLE, 3, 0, NULL}); /* pixel number 0 * 3 + 3 */
  assert_true(e.x[1] == 0 && e.y[1] == 1);
  expect(&e, &b, 3, 1, (want){MS_ORACLE, 0, 0, "expected y"});
  ms_buffer_free(&b);
  b = recording(3, (int64_t[]){5, 4, 9}, (int64_t[]){0, 3, 2}, (int64_t[]){1, 0, 1}, (int64_t[]){1, 0, 1});
  expect(
      &e, &b, 4, 2,
      (want){MS_STRICT, 0, 0, "t.npy: damaged file: byte 136, record 1: expected t of at least 5, as before, got 4"});
  expect(&e, &b, 4, 2, (want){MS_LENIENT, 3, 1 + MS_REPAIR_TIME, NULL});
  assert_true(e.t[1] == 5);
  expect(&e, &b, 4, 2, (want){MS_ORACLE, 3, 0, NULL});
  assert_true(e.t[1] == 4);
  ms_buffer_free(&b);
  b = recording(2, (int64_t[]){5, 6}, (int64_t[]){0, 1}, (int64_t[]){1, 0}, (int64_t[]){1, -1});
  expect(&e, &b, 4, 2,
         (want){MS_STRICT, 0, 0, "p.npy: damaged file: byte 136, record 1: expected p of 0 or 1, got -1"});
  expect(&e, &b, 4, 2, (want){MS_LENIENT, 1, 1 + MS_REPAIR_INVALID, NULL});
  expect(&e, &b, 4, 2, (want){MS_ORACLE, 2, 0, NULL});
  assert_int_equal(e.p[1], 1);
  ms_buffer_free(&b);
  const int64_t huge = INT64_MAX;
  b = recording(1, &huge, &huge, &huge, &huge);
  expect(&e, &b, 4, 2, (want){MS_ORACLE, 0, 0, "got 9223372036854775807"});
  expect(&e, &b, 4, 2, (want){MS_LENIENT, 0, 1 + MS_REPAIR_RANGE, NULL});
  ms_buffer_free(&b);
  b = recording(0, &huge, &huge, &huge, &huge);
  expect(&e, &b, 4, 2, (want){MS_STRICT, 0, 0, NULL});
  ms_buffer_free(&b);
  ms_events_free(&e);
}

static void test_not_events(void **state) {
  (void)state;
  unsigned char g[640];
  ms_events e = {0};
  ms_buffer b = {g, golden(g, 1), 0};
  expect(&e, &b, 4, 2, (want){MS_STRICT, 0, 0, "expected an array 'x' among the 2 of this npz"});
  b = recording(1, (int64_t[]){5}, (int64_t[]){0}, (int64_t[]){1}, (int64_t[]){1});
  uint8_t *x = memmem(b.p, b.bytes, "(1,), }", 7); /* t becomes [1, 1], under a new check sum */
  memcpy(x, "(1, 1)}", 7);
  uint32_t crc = (uint32_t)crc32(0, b.p + 30 + 5 + 20, 136);
  memcpy((uint8_t *)memmem(b.p, b.bytes, "PK\1\2", 4) + 16, &crc, 4);
  expect(&e, &b, 4, 2, (want){MS_STRICT, 0, 0, "t.npy: damaged file: byte 0: expected [n], got <i8 [1, 1]"});
  ms_buffer_free(&b);
  ms_events_free(&e);
}

/* Long enough for several chunks; what is written is read back. */
static void test_events_round(void **state) {
  (void)state;
  ms_events e = {.width = 300, .height = 200}, back = {0};
  ms_buffer b = {0};
  ms_error err;
  assert_int_equal(ms_events_reserve(&e, 2000, "w", &err), MS_OK);
  for (e.n = 0; e.n < 2000; e.n++) {
    e.t[e.n] = e.n * 3 + (e.n > 1000 ? (int64_t)1 << 33 : 0);
    e.x[e.n] = (uint16_t)(e.n * 7 % 300);
    e.y[e.n] = (uint16_t)(e.n * 11 % 200);
    e.p[e.n] = e.n % 3 == 0;
  }
  assert_int_equal(ms_npz_events_write(&b, &e, "w", &err), MS_OK);
  expect(&back, &b, 300, 200, (want){MS_STRICT, 2000, 0, NULL});
  assert_memory_equal(back.t, e.t, 8 * 2000);
  assert_memory_equal(back.x, e.x, 2 * 2000);
  assert_memory_equal(back.y, e.y, 2 * 2000);
  assert_memory_equal(back.p, e.p, 2000);
  ms_buffer_free(&b);
  ms_events_free(&e);
  ms_events_free(&back);
}

/* ---- frames ---- */

static void test_frames(void **state) {
  (void)state;
  const int64_t size[] = {2, 2, 1, 2};
  const double values[] = {1, 2, 3, 4, 5, 6, 7, 255};
  const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 255};
  ms_picture p = {0};
  ms_buffer scratch = {0};
  ms_error err;
  for (int byte = 1; byte >= 0; byte--) { /* the type is the file's: whole numbers stay reals */
    ms_buffer head = {0};
    ms_zip_out z = {0};
    const void *data = byte ? (const void *)bytes : values;
    assert_int_equal(ms_npy_header(&head, byte ? "|u1" : "<f8", 4, size, "w", &err), MS_OK);
    assert_int_equal(
        ms_zip_add(&z, "frames.npy", head.p, head.bytes, data, byte ? sizeof bytes : sizeof values, "w", &err), MS_OK);
    assert_int_equal(ms_zip_finish(&z, "w", &err), MS_OK);
    ms_input in = input(z.archive.p, z.archive.bytes, MS_STRICT);
    assert_int_equal(ms_npz_frames(&p, &scratch, &in, &err), MS_OK);
    assert_int_equal(p.dtype, byte ? MS_U8 : MS_F32);
    assert_true(p.t == 2 && p.h == 1 && p.w == 2 && p.c == 2);
    static const int order[] = {0, 2, 1, 3, 4, 6, 5, 7}; /* [t][h][w][c] */
    for (int i = 0; i < 8; i++)
      assert_true((byte ? ms_picture_bytes(&p)[i] : ms_picture_reals(&p)[i]) == values[order[i]]);
    ms_buffer_free(&head);
    ms_zip_out_free(&z);
  }
  unsigned char g[640];
  ms_input in = input(g, golden(g, 0), MS_STRICT);
  assert_int_equal(ms_npz_frames(&p, &scratch, &in, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "expected an array 'frames'"));
  ms_buffer_free(&scratch);
  ms_picture_free(&p);
}

/* A megabyte of zeros is what its thousand bytes can hold; a limit on one sample is not passed either. */
static void test_bomb(void **state) {
  (void)state;
  unsigned char b[640];
  ms_error err;
  ms_events e = {0};
  ms_buffer scratch = {0};
  size_t n = golden(b, 0);
  memcpy(b + ENTRY1 + 10, "\10", 1); /* deflated, they say */
  b[8] = 8;
  memcpy(b + ENTRY1 + 24, "\377\377\377\377", 4);
  ms_input in = input(b, n, MS_LENIENT);
  assert_int_equal(ms_npz_events(&e, &scratch, &in, 4, 4, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "140 bytes cannot unpack to 4294967295"));
  assert_int_equal(scratch.room, 0);
  ms_events_free(&e);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_golden),  cmocka_unit_test(test_refused),    cmocka_unit_test(test_same_name),
      cmocka_unit_test(test_overlap), cmocka_unit_test(test_prefix),     cmocka_unit_test(test_descriptor),
      cmocka_unit_test(test_zip64),   cmocka_unit_test(test_empty),      cmocka_unit_test(test_write_golden),
      cmocka_unit_test(test_events),  cmocka_unit_test(test_not_events), cmocka_unit_test(test_events_round),
      cmocka_unit_test(test_frames),  cmocka_unit_test(test_bomb),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
