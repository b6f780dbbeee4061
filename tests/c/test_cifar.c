#include "damage.h"
#include "tarfile.h"
#include "../fuzz/input.h"
#include "../../host/core/data/cifar.h"
#include <sys/stat.h>

static unsigned char record[3074];

/* The golden record: label bytes, then pixel byte i holds i mod 256. */
static void golden(int labels) {
  for (int i = 0; i < 3072; i++)
    record[labels + i] = (unsigned char)i;
  record[0] = 6;
  if (labels == 2) {
    record[0] = 11;
    record[1] = 19;
  }
}

static ms_repairs repairs;

static ms_status read_from(ms_cifar *c, const char *root, int classes, int train, ms_policy policy, ms_error *err) {
  memset(&repairs, 0, sizeof repairs);
  ms_cifar_source s = {classes, train, &root, 1, policy, &repairs};
  ms_status status = ms_cifar_read(c, &s, err);
  if (status)
    assert_true(!c->images && !c->labels && !c->coarse && strncmp(err->text, "read_cifar: ", 12) == 0);
  return status;
}

static const char *const batches[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                      "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};
static const char names10[] = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

static void in_folder(const char *folder, const char *file, const void *bytes, size_t n) {
  char path[400];
  snprintf(path, sizeof path, "%s/%s", folder, file);
  put_file(path, bytes, n);
}

/* A CIFAR-10 folder in which the batch k has the label k. */
static void make_folder(const char *folder) {
  mkdir(folder, 0777);
  golden(1);
  for (int k = 0; k < 6; k++) {
    record[0] = (unsigned char)k;
    in_folder(folder, batches[k], record, 3073);
  }
  in_folder(folder, "batches.meta.txt", names10, strlen(names10));
}

static void test_golden(void **state) {
  (void)state;
  char folder[200], inner[300];
  ms_cifar c;
  ms_error err;
  int64_t labels[5];
  uint8_t pixels[5 * 3072];
  ms_data data;
  golden(1);
  assert_int_equal(crc32(0, record, 3073), 0xdf2cc93c);
  snprintf(folder, sizeof folder, "%s/ten", scratch_folder);
  snprintf(inner, sizeof inner, "%s/cifar-10-batches-bin", folder);
  mkdir(folder, 0777);
  make_folder(inner);
  for (int i = 0; i < 2; i++) { /* the folder, or the one that holds it */
    assert_int_equal(read_from(&c, i ? inner : folder, 10, 1, MS_STRICT, &err), MS_OK);
    assert_string_equal(ms_tensor_text(c.images).s, "uint8 [5, 3, 32, 32]");
    assert_string_equal(ms_tensor_text(c.labels).s, "int64 [5]");
    assert_null(c.coarse);
    assert_int_equal(ms_read(c.labels, labels, &err), MS_OK);
    assert_int_equal(ms_read(c.images, pixels, &err), MS_OK);
    for (int k = 0; k < 5; k++) {
      assert_int_equal(labels[k], k);
      for (int j = 0; j < 3072; j++)
        assert_int_equal(pixels[3072 * k + j], j & 255);
    }
    assert_int_equal(pixels[1024 + 32 * 2 + 3], 67);
    assert_int_equal(ms_data_of(&data, c.images, &err), MS_OK);
    assert_int_equal(((uint8_t *)data.p)[3 * (32 * 2 + 3) + 1], 67); /* channels last */
    assert_string_equal(c.names[0], "airplane");
    assert_string_equal(c.names[9], "truck");
    assert_string_equal(c.path, inner);
    ms_cifar_free(&c);
    ms_cifar_free(&c);
  }
  assert_int_equal(read_from(&c, folder, 10, 0, MS_STRICT, &err), MS_OK);
  assert_int_equal(ms_read(c.labels, labels, &err), MS_OK);
  assert_true(c.labels->size[0] == 1 && labels[0] == 5);
  ms_cifar_free(&c);
}

static unsigned char tar[65536], z[65536];

/* In the order of the official archive, which is not that of the batches. */
static size_t archive(void) {
  static const int order[] = {0, 2, 3, 5, 4, 1};
  size_t n = tar_add(tar, 0, "cifar-10-batches-bin/", '5', NULL, 0);
  golden(1);
  for (int i = 0; i < 6; i++) {
    char name[64];
    record[0] = (unsigned char)order[i];
    snprintf(name, sizeof name, "cifar-10-batches-bin/%s", batches[order[i]]);
    n = tar_add(tar, n, name, '0', record, 3073);
  }
  n = tar_add(tar, n, "cifar-10-batches-bin/readme.html", '0', "<html>", 6);
  n = tar_add(tar, n, "cifar-10-batches-bin/batches.meta.txt", '0', names10, strlen(names10));
  return tar_gzip(z, sizeof z, tar, tar_end(tar, n));
}

static void test_archive(void **state) {
  (void)state;
  ms_cifar c;
  ms_error err;
  int64_t labels[5];
  char folder[200];
  size_t n = archive();
  snprintf(folder, sizeof folder, "%s/packed", scratch_folder);
  mkdir(folder, 0777);
  in_folder(folder, "cifar-10-binary.tar.gz", z, n);
  assert_int_equal(read_from(&c, folder, 10, 1, MS_STRICT, &err), MS_OK);
  assert_int_equal(ms_read(c.labels, labels, &err), MS_OK);
  for (int k = 0; k < 5; k++)
    assert_int_equal(labels[k], k);
  assert_string_equal(c.names[5], "dog");
  assert_non_null(strstr(c.path, "/packed/cifar-10-binary.tar.gz"));
  ms_cifar_free(&c);
}

static ms_status read_archive(void *ud, const unsigned char *p, size_t n, ms_error *err) {
  ms_cifar c;
  ms_status status = read_from(&c, input_path(p, n), 10, *(int *)ud, MS_STRICT, err);
  ms_cifar_free(&c);
  return status == MS_EIO ? MS_EFORMAT : status; /* a member's name that was changed */
}

static void test_damage(void **state) {
  (void)state;
  int train = 0;
  golden(1);
  size_t n = tar_add(tar, 0, "cifar-10-batches-bin/test_batch.bin", '0', record, 3073);
  n = tar_add(tar, n, "cifar-10-batches-bin/batches.meta.txt", '0', names10, strlen(names10));
  n = tar_gzip(z, sizeof z, tar, tar_end(tar, n));
  damage_prefixes(read_archive, &train, z, n);
  assert_true(damage_flips(read_archive, &train, z, n) > (int64_t)n * 7);
}

static void test_hundred(void **state) {
  (void)state;
  char folder[200], names[2000] = "";
  ms_cifar c;
  ms_error err;
  int64_t label;
  snprintf(folder, sizeof folder, "%s/hundred", scratch_folder);
  mkdir(folder, 0777);
  golden(2);
  in_folder(folder, "train.bin", record, 3074);
  record[1] = 49;
  record[0] = 10;
  in_folder(folder, "test.bin", record, 3074);
  assert_int_equal(read_from(&c, folder, 100, 1, MS_STRICT, &err), MS_OK);
  assert_int_equal(ms_read(c.labels, &label, &err), MS_OK);
  assert_int_equal(label, 19);
  assert_int_equal(ms_read(c.coarse, &label, &err), MS_OK);
  assert_int_equal(label, 11);
  assert_string_equal(c.names[0], "");
  ms_cifar_free(&c);
  for (int i = 0; i < 100; i++)
    snprintf(names + strlen(names), 20, "class %d\r\n", i);
  in_folder(folder, "fine_label_names.txt", names, strlen(names));
  assert_int_equal(read_from(&c, folder, 100, 0, MS_STRICT, &err), MS_OK);
  assert_int_equal(ms_read(c.labels, &label, &err), MS_OK);
  assert_int_equal(label, 49);
  assert_string_equal(c.names[99], "class 99");
  ms_cifar_free(&c);
  in_folder(folder, "coarse_label_names.txt", names, strlen(names));
  assert_int_equal(read_from(&c, folder, 100, 0, MS_STRICT, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "coarse_label_names.txt: damaged file: byte 190, record 20: expected 20 names"));
  unlink(scratch("hundred/coarse_label_names.txt"));
  record[0] = 20;
  in_folder(folder, "test.bin", record, 3074);
  assert_int_equal(read_from(&c, folder, 100, 0, MS_STRICT, &err), MS_EFORMAT);
  assert_non_null(
      strstr(err.text, "test.bin: damaged file: byte 0, record 0: expected a coarse label from 0 to 19, got 20"));
}

static void test_refused(void **state) {
  (void)state;
  char folder[200];
  unsigned char three[3 * 3073];
  ms_cifar c;
  ms_error err;
  snprintf(folder, sizeof folder, "%s/bad", scratch_folder);
  make_folder(folder);
  golden(1);
  for (int i = 0; i < 3; i++)
    memcpy(three + 3073 * i, record, 3073);
  in_folder(folder, batches[1], three, sizeof three - 1);
  assert_int_equal(read_from(&c, folder, 10, 1, MS_STRICT, &err), MS_EFORMAT);
  assert_non_null(strstr(
      err.text, "data_batch_2.bin: damaged file: byte 6146, record 2: the record of 3073 bytes ends after 3072"));
  assert_int_equal(read_from(&c, folder, 10, 1, MS_LENIENT, &err), MS_OK);
  assert_int_equal(c.labels->size[0], 6);
  assert_int_equal(repairs.count[MS_REPAIR_TRUNCATED], 3072);
  ms_cifar_free(&c);
  three[3073] = 10;
  in_folder(folder, batches[1], three, sizeof three);
  assert_int_equal(read_from(&c, folder, 10, 1, MS_LENIENT, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "byte 3073, record 1: expected a label from 0 to 9, got 10"));
  in_folder(folder, batches[1], three, 0);
  assert_int_equal(read_from(&c, folder, 10, 1, MS_LENIENT, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "no records"));
  /* as TensorFlow Datasets: no records are no error, nor is one byte too many, but two are */
  assert_int_equal(read_from(&c, folder, 10, 1, MS_ORACLE, &err), MS_OK);
  assert_int_equal(c.labels->size[0], 4);
  ms_cifar_free(&c);
  three[3073] = 6;
  in_folder(folder, batches[1], three, 2 * 3073 + 1);
  assert_int_equal(read_from(&c, folder, 10, 1, MS_STRICT, &err), MS_EFORMAT);
  assert_int_equal(read_from(&c, folder, 10, 1, MS_ORACLE, &err), MS_OK);
  assert_int_equal(c.labels->size[0], 6);
  ms_cifar_free(&c);
  in_folder(folder, batches[1], three, 2 * 3073 + 2);
  assert_int_equal(read_from(&c, folder, 10, 1, MS_ORACLE, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "record 2: the record of 3073 bytes ends after 2"));
  three[3073] = 10;
  in_folder(folder, batches[1], three, 2 * 3073);
  assert_int_equal(read_from(&c, folder, 10, 1, MS_ORACLE, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "expected a label from 0 to 9, got 10"));
  in_folder(folder, "test_batch.bin", three, 1);
  assert_int_equal(read_from(&c, folder, 10, 0, MS_ORACLE, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "no records"));
  in_folder(folder, "test_batch.bin", three, 3073);
  unlink(scratch("bad/data_batch_2.bin"));
  assert_int_equal(read_from(&c, folder, 10, 1, MS_STRICT, &err), MS_EIO);
  assert_non_null(strstr(err.text, "/bad: data_batch_2.bin is not in there"));
  assert_int_equal(read_from(&c, folder, 10, 0, MS_STRICT, &err), MS_OK);
  ms_cifar_free(&c);
  assert_int_equal(truncate(scratch("bad/test_batch.bin"), 40000000), 0);
  assert_int_equal(read_from(&c, folder, 10, 0, MS_STRICT, &err), MS_EFORMAT);
  assert_non_null(strstr(err.text, "test_batch.bin: expected at most 30730000 bytes, as in CIFAR-10, got 40000000"));
  put_file(scratch("bad.tar"), "\x89PNG", 4);
  assert_int_equal(read_from(&c, scratch("bad.tar"), 10, 1, MS_STRICT, &err), MS_EFORMAT);
}

static void test_missing(void **state) {
  (void)state;
  ms_cifar c;
  ms_error err;
  char folder[200];
  snprintf(folder, sizeof folder, "%s/none", scratch_folder);
  const char *roots[] = {folder, "/nowhere"};
  mkdir(folder, 0777);
  ms_cifar_source s = {10, 1, roots, 2, MS_STRICT, NULL};
  assert_int_equal(ms_cifar_read(&c, &s, &err), MS_EIO);
  for (int i = 0; i < 7; i++) {
    static const char *const parts[] = {"CIFAR-10 not found in",
                                        "/none, /nowhere",
                                        "cifar-10-batches-bin",
                                        "data_batch_1.bin",
                                        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                                        "170052171 bytes",
                                        "md5 c32a1d4ab5d03f1284b67883e8d87530"};
    if (!strstr(err.text, parts[i]))
      fail_msg("expected '%s' in: %s", parts[i], err.text);
  }
  strcat(folder, "/cifar-10-batches-py");
  mkdir(folder, 0777);
  *strrchr(folder, '/') = 0;
  assert_int_equal(ms_cifar_read(&c, &s, &err), MS_EIO);
  assert_non_null(strstr(err.text, "pickles: not read"));
  s.classes = 100;
  s.nroots = 0;
  assert_int_equal(ms_cifar_read(&c, &s, &err), MS_EIO);
  assert_non_null(strstr(err.text, "168513733 bytes, md5 03b5dce01913d631647c71ecec9e9cb8"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_golden),  cmocka_unit_test(test_archive), cmocka_unit_test(test_damage),
      cmocka_unit_test(test_hundred), cmocka_unit_test(test_refused), cmocka_unit_test(test_missing),
  };
  return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
