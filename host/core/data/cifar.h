/* CIFAR-10 and CIFAR-100, binary version: a folder with its files, or the archive as it is downloaded, which is not
** unpacked to disk. On the main thread. */
#ifndef MS_CIFAR_H
#define MS_CIFAR_H

#include "../tensor.h"
#include "input.h"

typedef struct ms_cifar_source {
  int classes;              /* 10 or 100 */
  int train;                /* 1: the training part, 0: the test part */
  const char *const *roots; /* where to look, in this order: the archive, the folder, or a folder with either in it */
  int nroots;
  /* MS_LENIENT: bytes of an unfinished last record are dropped (TRUNCATED). MS_ORACLE: as TensorFlow Datasets, the published
  ** reader of this version, which ends before a last byte (dropped too), not before more, and takes a file without records. */
  ms_policy policy;
  ms_repairs *repairs; /* or NULL */
} ms_cifar_source;

#define MS_CIFAR_NAME 32

typedef struct ms_cifar {
  ms_tensor *images;              /* uint8 [n, 3, 32, 32], channels last in memory */
  ms_tensor *labels;              /* int64 [n]; of CIFAR-100 the fine ones */
  ms_tensor *coarse;              /* int64 [n], or NULL */
  char names[100][MS_CIFAR_NAME]; /* of the classes; "" where the file of names is not there */
  char coarse_names[20][MS_CIFAR_NAME];
  char path[400]; /* what was read */
} ms_cifar;

/* Files may be shorter than the official ones, but not longer. MS_EIO with what to do where there are none. */
ms_status ms_cifar_read(ms_cifar *out, const ms_cifar_source *source, ms_error *err);
void ms_cifar_free(ms_cifar *c); /* twice is fine */

#endif
