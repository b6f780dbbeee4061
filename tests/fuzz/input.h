/* What a fuzz target hands to a reader of paths: its bytes as a file in memory. */
#ifndef MS_FUZZ_INPUT_H
#define MS_FUZZ_INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Holds these bytes until the next call. */
static inline const char *input_path(const uint8_t *data, size_t size) {
  static int fd = -1;
  static char path[32];
  if (fd < 0) {
    fd = memfd_create("input", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  }
  if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
    abort();
  return path;
}

#endif
