/* Of HDF5 what files of recordings need: arrays of one dimension, of numbers or of lists of numbers, found by name. The
** older format, which h5py and PyTables write unless they are told otherwise: superblock 0 or 1, groups as symbol tables,
** data in one piece or in chunks, plain or by gzip and shuffle, lists in global heaps. What else there is in HDF5 is an
** error that says so. Decodes from memory, in any thread; every address of the file is checked before it is followed. */
#ifndef MS_HDF5_H
#define MS_HDF5_H

#include "bytes.h"
#include "input.h"

enum { MS_HDF5_FILTERS = 4 };

typedef struct ms_hdf5_array {
  int64_t n;
  int lists;      /* an element is a list of numbers */
  char kind;      /* of a number: 'f' IEEE float, 'i', 'u' integer */
  int width, big; /* bytes of a number, byte order */
  int element;    /* bytes of an element in ms_hdf5_read: width, or those of a reference to a list */
  /* where it lies */
  const uint8_t *data; /* in one piece; NULL: in chunks */
  uint64_t tree;       /* the index of the chunks */
  int64_t chunk;       /* elements of one; 0: in one piece */
  int filters, filter[MS_HDF5_FILTERS];
} ms_hdf5_array;

/* Describes the array that path ("/spikes/times") names. */
ms_status ms_hdf5_find(ms_hdf5_array *out, const char *path, const ms_input *in, ms_error *err);

/* All elements, as they lie in the file, in place of what out held; no more than the file can hold. */
ms_status ms_hdf5_read(ms_buffer *out, const ms_hdf5_array *a, const ms_input *in, ms_error *err);

/* The *n numbers of the list to which an element refers, inside of the input. */
ms_status ms_hdf5_list(const uint8_t **out, int64_t *n, const ms_hdf5_array *a, const uint8_t *element,
                       const ms_input *in, ms_error *err);

/* A number of kind 'i' or 'u'. What int64 cannot hold is negative. */
static inline int64_t ms_hdf5_integer(const ms_hdf5_array *a, const uint8_t *p) {
  uint64_t bits = ms_bytes(p, a->width, a->big);
  int spare = 64 - 8 * a->width;
  return a->kind == 'i' ? (int64_t)(bits << spare) >> spare : (int64_t)bits;
}

#endif
