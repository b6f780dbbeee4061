#include "damage.h"
#include "tarfile.h"
#include "../fuzz/input.h"
#include "../../host/core/data/tar.h"

/* The members as "name=data;", links and the like refused. */
static ms_status list(char *out, size_t room, const unsigned char *p, size_t n, ms_error *err) {
  ms_stream_in s;
  int found;
  *out = 0;
  ms_status status = ms_stream_open(&s, "read", input_path(p, n), err);
  if (status)
    return status;
  ms_tar t = ms_tar_of(&s, 1 << 20);
  while (!(status = ms_tar_next(&t, &found, err)) && found) {
    char data[4096] = "";
    if (t.bytes < (int64_t)sizeof data && t.bytes != 7 && (status = ms_tar_read(&t, data, (size_t)t.bytes, err)))
      break;
    size_t at = strlen(out);
    snprintf(out + at, room - at, "%s=%s;", t.name, data);
  }
  ms_stream_close(&s);
  return status;
}

static ms_status any(void *ud, const unsigned char *p, size_t n, ms_error *err) {
  char out[8192];
  (void)ud;
  return list(out, sizeof out, p, n, err);
}

static unsigned char b[16384], z[16384];

static size_t plain(void) {
  size_t n = tar_add(b, 0, "d", '5', NULL, 0);
  n = tar_add(b, n, "d/a.txt", '0', "hello", 5);
  n = tar_add(b, n, "d/skip", '0', "skipped", 7); /* list() does not read it */
  return tar_end(b, tar_add(b, n, "d/empty", 0, NULL, 0));
}

static void test_members(void **state) {
  (void)state;
  char out[1024];
  ms_error err;
  size_t n = plain();
  assert_int_equal(list(out, sizeof out, b, n, &err), MS_OK);
  assert_string_equal(out, "d/a.txt=hello;d/skip=;d/empty=;");
  assert_int_equal(list(out, sizeof out, z, tar_gzip(z, sizeof z, b, n), &err), MS_OK);
  assert_string_equal(out, "d/a.txt=hello;d/skip=;d/empty=;");
  size_t half = tar_gzip(z, sizeof z, b, 700); /* gzip members may be joined */
  half += tar_gzip(z + half, sizeof z - half, b + 700, n - 700);
  assert_int_equal(list(out, sizeof out, z, half, &err), MS_OK);
  assert_int_equal(list(out, sizeof out, b, n + 512 * 9, &err), MS_OK); /* a tape's record */
}

static void test_names(void **state) {
  (void)state;
  char out[4096], name[301], pax[400], want[1024];
  ms_error err;
  memset(name, 'n', 300);
  name[300] = 0;
  size_t n = tar_add(b, 0, "././@LongLink", 'L', name, 301);
  n = tar_add(b, n, "nnn", '0', "gnu", 3);
  snprintf(pax, sizeof pax, "12 mtime=12\n310 path=%s\n9 size=3\n", name);
  n = tar_add(b, n, "PaxHeaders/x", 'x', pax, strlen(pax));
  n = tar_add(b, n, "short", '0', "pax", 3);
  n = tar_add(b, n, "g", 'g', "12 path=abc\n", 12); /* of the whole archive: not taken for a name */
  n = tar_add(b, n, "next", '0', "", 0);
  n = tar_add(b, n, "file", '0', "1", 1);
  memcpy(b + n - 1024 + 345, "some/folder", 11);
  tar_sum(b + n - 1024);
  n = tar_end(b, n);
  assert_int_equal(list(out, sizeof out, b, n, &err), MS_OK);
  snprintf(want, sizeof want, "%s=gnu;%s=pax;next=;some/folder/file=1;", name, name);
  assert_string_equal(out, want);
}

static void refused(const char *name, char type, const char *data, const char *why) {
  char out[1024];
  ms_error err;
  size_t n = tar_end(b, tar_add(b, tar_add(b, 0, name, type, data, strlen(data)), "x", '0', NULL, 0));
  assert_int_equal(list(out, sizeof out, b, n, &err), MS_EFORMAT);
  if (!strstr(err.text, why))
    fail_msg("expected '%s' in: %s", why, err.text);
}

static void test_refused(void **state) {
  (void)state;
  char out[1024];
  ms_error err;
  refused("/etc/passwd", '0', "", "a path that leads out of the folder: /etc/passwd");
  refused("a/../../b", '0', "", "a path that leads out");
  refused("..", '5', "", "a path that leads out");
  refused("", '0', "", "a path that leads out");
  refused("a", '1', "", "neither file nor folder: a");
  refused("a", '2', "", "neither file nor folder: a");
  refused("a", '3', "", "neither file nor folder: a");
  refused("p", 'L', "/abs", "a path that leads out");
  refused("p", 'x', "17 path=../../x..\n", "extended header");
  refused("p", 'x', "15 path=../../\n", "a path that leads out");
  refused("p", 'x', "0 path=x\n", "an extended header that is none");
  refused("p", 'x', "99 path=x\n", "an extended header that is none");
  refused("p", 'x', "8 pathx\n", "without =");
  refused("p", 'x', "11 size=-1\n", "strange size");
  refused("p", 'x', "20 size=99999999999\n", "expected at most 1048576 bytes unpacked");
  size_t n = plain();
  b[600] ^= 1;
  assert_int_equal(list(out, sizeof out, b, n, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "byte 1024 of the tar archive: a member's check sum differs"));
  n = plain();
  memcpy(b + 124, "\200\0\0\0\0\0\0\0\0\0\0\1", 12);
  tar_sum(b);
  assert_int_equal(list(out, sizeof out, b, n, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "no octal number"));
  assert_int_equal(list(out, sizeof out, b + 1, n - 1, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "not a tar archive"));
  n = plain();
  b[n] = 1;
  assert_int_equal(list(out, sizeof out, b, n + 512, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "data behind the end"));
  memset(b, 0, sizeof b);
  n = tar_gzip(z, sizeof z, b, sizeof b);
  for (int i = 0; i < 8; i++)
    n += tar_gzip(z + n, sizeof z - n, b, sizeof b);
  assert_int_equal(list(out, sizeof out, z, n, &err), MS_OK); /* zeros only: an empty archive */
}

static void test_damage(void **state) {
  (void)state;
  size_t n = plain();
  unsigned char *copy = malloc(n);
  assert_non_null(copy);
  memcpy(copy, b, n);
  damage_prefixes(any, NULL, copy, n);
  assert_true(damage_flips(any, NULL, copy, n) > 8 * 4 * 500);
  n = tar_gzip(z, sizeof z, copy, n);
  damage_prefixes(any, NULL, z, n);
  damage_flips(any, NULL, z, n);
  free(copy);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_members),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_damage),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
