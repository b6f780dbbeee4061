#include "scratch.h"
#include "../../host/core/data/folder.h"
#include <limits.h>
#include <sys/stat.h>

static const char *const images[] = {".jpg", ".jpeg", ".png", NULL};
static ms_error err;

/* Makes a file or, where the path ends in '/', a folder, with all above it. */
static void make(const char *path) {
  char full[256];
  snprintf(full, sizeof full, "%s", scratch(path));
  for (char *p = full + 1; *p; p++)
    if (*p == '/') {
      *p = 0;
      mkdir(full, 0777);
      *p = '/';
    }
  if (full[strlen(full) - 1] != '/')
    put_file(full, "x", 1);
}

static ms_status list(ms_folder *out, const char *const *roots, int n, ms_policy policy, ms_repairs *repairs) {
  ms_folder_options opt = {.extensions = images, .policy = policy, .repairs = repairs};
  return ms_folder_list(out, "test", roots, n, &opt, &err);
}

static void expect(const ms_folder *f, const char *const *paths, const int *labels, int64_t n) {
  assert_int_equal(f->n, n);
  for (int64_t i = 0; i < n; i++) {
    assert_string_equal(ms_folder_name(f, f->file[i].path), paths[i]);
    assert_int_equal(f->file[i].label, labels[i]);
  }
}

/* Bytes are compared (B before a, 10 before 9); folders come in the order of their whole paths, as in torchvision. */
static void test_order(void **state) {
  static const char *const paths[] = {"B/x.JPEG", "a/10.jpg", "a/9.PNG", "a/s/0.png", "a/s-t/1.jpg", "a/s/t/2.jpg"};
  static const int labels[] = {0, 1, 1, 1, 1, 1};
  const char *root;
  ms_folder f;
  (void)state;
  make("one/a/9.PNG");
  make("one/a/10.jpg");
  make("one/a/notes.txt");
  make("one/a/s/t/2.jpg");
  make("one/a/s/0.png");
  make("one/a/s-t/1.jpg");
  make("one/B/x.JPEG");
  make("one/beside.jpg");
  root = scratch("one");
  if (list(&f, &root, 1, MS_STRICT, NULL))
    fail_msg("%s", err.text);
  expect(&f, paths, labels, 6);
  assert_int_equal(f.classes, 2);
  assert_string_equal(ms_folder_name(&f, f.class_of[1].name), "a");
  assert_int_equal(f.class_of[0].files, 1);
  assert_int_equal(f.class_of[1].files, 5);
  ms_folder_free(&f);
  ms_folder_free(&f);
}

static void test_union(void **state) {
  static const char *const paths[] = {"c/1.jpg", "d/2.jpg", "d/1.jpg", "e/1.jpg"};
  static const int labels[] = {0, 1, 1, 2}, root_of[] = {1, 0, 1, 0};
  char x1[160], x2[160];
  const char *roots[] = {x1, x2};
  ms_folder f;
  (void)state;
  snprintf(x1, sizeof x1, "%s", scratch("train.X1"));
  snprintf(x2, sizeof x2, "%s", scratch("train.X2"));
  make("train.X1/e/1.jpg");
  make("train.X1/d/2.jpg");
  make("train.X2/d/1.jpg");
  make("train.X2/c/1.jpg");
  if (list(&f, roots, 2, MS_STRICT, NULL))
    fail_msg("%s", err.text);
  expect(&f, paths, labels, 4);
  for (int i = 0; i < 4; i++)
    assert_int_equal(f.file[i].root, root_of[i]);
  ms_folder_free(&f);
}

static void fails(const char *root, ms_status status, const char *text) {
  ms_folder f;
  assert_int_equal(list(&f, &root, 1, MS_STRICT, NULL), status);
  if (!strstr(err.text, text))
    fail_msg("'%s' lacks '%s'", err.text, text);
  assert_true(f.n == 0 && f.classes == 0 && !f.names.p);
}

static void test_refusals(void **state) {
  (void)state;
  fails(scratch("none"), MS_EIO, "none: No such file");
  make("empty/");
  fails(scratch("empty"), MS_EFORMAT, "expected a folder for each class, got none");
  make("hollow/a/1.jpg");
  make("hollow/b/1.txt");
  fails(scratch("hollow"), MS_EFORMAT, "hollow/b: a class without files (.jpg ...)");
}

static void test_links(void **state) {
  static const char *const paths[] = {"a/1.jpg", "a/2.jpg"};
  static const int labels[] = {0, 0};
  ms_repairs repairs = {0};
  ms_folder f;
  const char *root;
  (void)state;
  make("links/a/1.jpg");
  make("outside/secret.jpg");
  assert_int_equal(symlink("1.jpg", scratch("links/a/2.jpg")), 0); /* inside: taken */
  root = scratch("links");
  if (list(&f, &root, 1, MS_STRICT, NULL))
    fail_msg("%s", err.text);
  expect(&f, paths, labels, 2);
  ms_folder_free(&f);
  assert_int_equal(symlink("../../outside/secret.jpg", scratch("links/a/3.jpg")), 0);
  fails(scratch("links"), MS_EFORMAT, "links/a/3.jpg: a symbolic link that leaves the folder");
  assert_int_equal(symlink("nowhere.jpg", scratch("links/a/4.jpg")), 0);
  assert_int_equal(symlink("../outside", scratch("links/b")), 0);
  root = scratch("links");
  if (list(&f, &root, 1, MS_LENIENT, &repairs))
    fail_msg("%s", err.text);
  expect(&f, paths, labels, 2);
  assert_int_equal(repairs.count[MS_REPAIR_LINK], 3);
  ms_folder_free(&f);
  make("round/a/1.jpg");
  assert_int_equal(symlink("../a", scratch("round/a/again")), 0);
  fails(scratch("round"), MS_EFORMAT, "round/a/again: a symbolic link to a folder that it lies in");
}

static void make_classes(const char *root, const char *const *names, int n) {
  char path[160];
  for (int i = 0; i < n; i++) {
    snprintf(path, sizeof path, "%s/%s/1.jpg", root, names[i]);
    make(path);
  }
}

static void test_imagenet100(void **state) {
  static const char *const cmc[] = {
#define MS_WNID(name) #name,
#include "../../host/core/data/imagenet100_cmc.def"
  };
  static const char *const kaggle[] = {
#include "../../host/core/data/imagenet100_kaggle.def"
#undef MS_WNID
  };
  const char *name, *root;
  ms_folder f;
  (void)state;
  make_classes("cmc", cmc, 100);
  make_classes("kaggle", kaggle, 100);
  root = scratch("cmc");
  assert_int_equal(list(&f, &root, 1, MS_STRICT, NULL), MS_OK);
  assert_int_equal(ms_imagenet100_which(&name, &f, "test", &err), MS_OK);
  assert_string_equal(name, "CMC");
  ms_folder_free(&f);
  root = scratch("kaggle");
  assert_int_equal(list(&f, &root, 1, MS_STRICT, NULL), MS_OK);
  assert_int_equal(ms_imagenet100_which(&name, &f, "test", &err), MS_OK);
  assert_string_equal(name, "Kaggle");
  ms_folder_free(&f);
  char from[200];
  snprintf(from, sizeof from, "%s", scratch("kaggle/n01847000"));
  assert_int_equal(rename(from, scratch("kaggle/n04347754")), 0);
  root = scratch("kaggle");
  assert_int_equal(list(&f, &root, 1, MS_STRICT, NULL), MS_OK);
  assert_int_equal(ms_imagenet100_which(&name, &f, "test", &err), MS_OK);
  assert_string_equal(name, "Kaggle (n04347754 for n01847000)");
  ms_folder_free(&f);
  char a[200], b[200];
  snprintf(a, sizeof a, "%s", scratch("cmc"));
  snprintf(b, sizeof b, "%s", scratch("kaggle"));
  assert_int_equal(list(&f, (const char *const[]){a, b}, 2, MS_STRICT, NULL), MS_OK);
  assert_int_equal(ms_imagenet100_which(&name, &f, "test", &err), MS_EFORMAT);
  assert_string_equal(err.text,
                      "test: expected the 100 classes of CMC's list or those of Kaggle's, got 192 classes, of "
                      "which 100 are in CMC's and 99 in Kaggle's");
  ms_folder_free(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_order), cmocka_unit_test(test_union),       cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_links), cmocka_unit_test(test_imagenet100),
  };
  return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
