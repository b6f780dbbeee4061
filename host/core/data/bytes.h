/* Numbers of a given byte order, at any address. */
#ifndef MS_BYTES_H
#define MS_BYTES_H

#include "../../../kernels/math/convert.h"
#include <stdint.h>
#include <string.h>

/* width: 1 to 8 bytes. */
static inline __attribute__((always_inline)) uint64_t ms_bytes(const uint8_t *p, int width, int big) {
  uint64_t v = 0;
  for (int i = 0; i < width; i++)
    v |= (uint64_t)p[i] << 8 * (big ? width - 1 - i : i);
  return v;
}

/* The IEEE float of 2, 4 or 8 bytes that has these bits. */
static inline __attribute__((always_inline)) double ms_bytes_real(uint64_t bits, int width) {
  if (width == 2)
    return ms_half_to_float((uint16_t)bits);
  if (width == 8) {
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
  }
  float f;
  uint32_t low = (uint32_t)bits;
  memcpy(&f, &low, sizeof f);
  return f;
}

static inline uint32_t ms_be32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint16_t ms_le16(const uint8_t *p) {
  return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t ms_le32(const uint8_t *p) {
  return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

#endif
