#include "counts.h"
#include "memory.h"
#include "stream.h"
#include <cstdlib>
#include <cstring>

namespace emu {

long long counts[COUNTS];
bool sticky_launch = env("EMU_FAIL_STICKY", 0) != 0;

static long long left[FAULTS] = {(long long)env("EMU_FAIL_LAUNCH", 0)};

unsigned long long env(const char *name, unsigned long long otherwise) {
  const char *s = getenv(name);
  return s && *s ? strtoull(s, nullptr, 0) : otherwise;
}

bool due(Fault f) {
  return left[f] > 0 && --left[f] == 0;
}

} // namespace emu

using namespace emu;

void ms_emu_counts(long long out[8]) {
  Call call;
  memcpy(out, counts, sizeof counts);
}

int ms_emu_fail(const char *what, long long n) {
  static const struct {
    const char *name;
    Fault fault;
  } faults[] = {
      {"launch", FAIL_LAUNCH}, {"launch_sticky", FAIL_LAUNCH}, {"alloc", FAIL_ALLOC},   {"alloc_host", FAIL_ALLOC_HOST},
      {"sync", FAIL_SYNC},     {"library", FAIL_LIBRARY},      {"refuse", FAIL_REFUSE}, {"create", FAIL_CREATE}};
  Call call;
  for (auto &f : faults)
    if (strcmp(what, f.name) == 0) {
      left[f.fault] = n;
      if (f.fault == FAIL_LAUNCH)
        sticky_launch = strcmp(what, "launch_sticky") == 0;
      return 0;
    }
  if (strcmp(what, "memory") == 0) {
    for (int i = 0; i < device_count(); i++)
      device(i).limit = (size_t)n;
    return 0;
  }
  if (strcmp(what, "clear") == 0) {
    memset(left, 0, sizeof left);
    sticky = last = cudaSuccess;
    return 0;
  }
  return -1;
}
