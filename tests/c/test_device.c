/* Why a GPU is not used: what the plugin's place and contents have to do with it. Each case is a process of its own,
** since devices are looked for once. */
#include "coretest.h"
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

static void why_with(const char *plugin, char *why, size_t n) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    if (plugin)
      setenv("MOONSPIKE_PLUGIN", plugin, 1);
    else
      unsetenv("MOONSPIKE_PLUGIN");
    const char *text = ms_device_why("cuda");
    ssize_t written = write(ends[1], text, strlen(text));
    _exit(written < 0);
  }
  assert_true(child > 0);
  close(ends[1]);
  size_t got = 0;
  for (ssize_t part; got + 1 < n && (part = read(ends[0], why + got, n - 1 - got)) > 0;)
    got += (size_t)part;
  why[got] = 0;
  close(ends[0]);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static void a_missing_or_damaged_plugin_is_explained(void **state) {
  (void)state;
  char why[4096], path[] = "/tmp/ms-plugin-XXXXXX";
  Dl_info info;
  why_with(NULL, why, sizeof why);
  if (!strstr(why, "was found neither"))
    skip(); /* a plugin lies beside this program */
  why_with("/nowhere/at/all", why, sizeof why);
  assert_non_null(strstr(why, "libmoonspike_cuda.so was found neither in $MOONSPIKE_PLUGIN nor beside the program"));
  int file = mkstemp(path);
  assert_true(file >= 0 && write(file, "text", 4) == 4);
  close(file);
  why_with(path, why, sizeof why);
  unlink(path);
  assert_non_null(strstr(why, "cannot be loaded"));
  union {
    double (*function)(double);
    void *address;
  } cosine = {cos};
  assert_true(dladdr(cosine.address, &info) != 0);
  why_with(info.dli_fname, why, sizeof why);
  assert_non_null(strstr(why, "is damaged: it has no ms_backend_get"));
}

static void unknown_names_are_explained(void **state) {
  (void)state;
  assert_string_equal(ms_device_why("cpu"), "");
  assert_string_equal(ms_device_why("tpu"), "no such device (known: cpu, cuda)");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_missing_or_damaged_plugin_is_explained),
      TEST(unknown_names_are_explained),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
