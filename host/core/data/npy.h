/* npy: NumPy's file of one array, versions 1 to 3; bool, integers and floats of either byte order, C or Fortran order.
** Python objects, structures and strings are refused; nothing is ever unpickled. Usable in any thread. */
#ifndef MS_NPY_H
#define MS_NPY_H

#include "input.h"

typedef struct ms_npy {
  char kind;        /* 'b' bool, 'u', 'i' integers, 'f' floats */
  int width;        /* bytes of an element */
  int big, fortran; /* byte order, element order */
  int ndim;         /* 0: one element */
  int64_t size[MS_MAX_DIMS], elements;
  const uint8_t *data; /* inside of the input */
} ms_npy;

/* Describes the array in `in`. Bytes behind it are damage, which the other policies skip, as numpy.load does. */
ms_status ms_npy_open(ms_npy *out, const ms_input *in, ms_error *err);

/* The values as MS_I64, MS_U8 or MS_F32 (ms_real), element i, j, ... at out[i * stride[0] + j * stride[1] + ...]; NULL:
** C order. By value: bool is 0 or 1, a real rounds to the nearest; what an integer type cannot hold is MS_EFORMAT, and
** what out holds then is undefined. */
ms_status ms_npy_read(void *out, ms_dtype dtype, const int64_t *stride, const ms_npy *a, const ms_input *in,
                      ms_error *err);
/* The type that holds every value as well as ours can: bool and u1 MS_U8, other integers MS_I64, floats MS_F32. */
ms_dtype ms_npy_dtype(const ms_npy *a);
ms_text ms_npy_text(const ms_npy *a); /* "<f8 [10, 2, 48, 48]" */

/* Appends the header that NumPy writes for an array in C order; descr = "<i8", "|u1". */
ms_status ms_npy_header(ms_buffer *out, const char *descr, int ndim, const int64_t *size, const char *op,
                        ms_error *err);

#endif
