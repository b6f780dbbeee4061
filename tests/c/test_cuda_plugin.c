/* The host with a CUDA plugin: what it says where there is no driver, and that "auto" never takes the emulation. Each
** case is a process of its own, since devices are looked for once. */
#include "coretest.h"
#include <dlfcn.h>
#include <libgen.h>
#include <sys/wait.h>
#include <unistd.h>

/* A file beside the folder of tests; NULL where it was not built. */
static const char *built(const char *name) {
  static char path[4200];
  char self[4000];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  assert_true(n > 0);
  self[n] = 0;
  snprintf(path, sizeof path, "%s/../%s", dirname(self), name);
  return access(path, F_OK) ? NULL : path;
}

/* "why|name of the device that auto finds" */
static void ask(const char *plugin, char *answer, size_t n) {
  int ends[2], status;
  assert_int_equal(pipe(ends), 0);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    ms_device *d = NULL;
    ms_error err;
    setenv("MOONSPIKE_PLUGIN", plugin, 1);
    const char *why = ms_device_why("cuda");
    if (ms_device_find(&d, "auto", &err))
      _exit(1);
    _exit(dprintf(ends[1], "%s|%s", why, d->name) < 0);
  }
  assert_true(child > 0);
  close(ends[1]);
  size_t got = 0;
  for (ssize_t part; got + 1 < n && (part = read(ends[0], answer + got, n - 1 - got)) > 0;)
    got += (size_t)part;
  answer[got] = 0;
  close(ends[0]);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static void the_plugin_says_what_is_missing(void **state) {
  (void)state;
  const char *plugin = built("libmoonspike_cuda.so");
  char answer[4096];
  if (!plugin)
    skip();
  ask(plugin, answer, sizeof answer);
  if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL))
    skip(); /* with a driver it depends on the machine */
  if (strncmp(answer, "no NVIDIA driver: libcuda.so.1: ", 32) != 0)
    fail_msg("%s", answer);
  assert_non_null(strstr(answer, "|cpu"));
}

static void the_emulation_is_only_used_when_named(void **state) {
  (void)state;
  const char *plugin = built("emu/libmoonspike_cuda.so");
  char answer[4096];
  if (!plugin)
    skip();
  ask(plugin, answer, sizeof answer);
  assert_string_equal(answer, "|cpu");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_plugin_says_what_is_missing),
      TEST(the_emulation_is_only_used_when_named),
  };
  return cmocka_run_group_tests_name("cuda plugin", tests, NULL, NULL);
}
