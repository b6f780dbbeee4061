/* Pillow's arithmetic of bytes. */
#ifndef MS_PILLOW_H
#define MS_PILLOW_H

#include "real.h"

/* a b / 255, rounded; both up to 255. */
MS_HD uint8_t ms_product255(unsigned a, unsigned b) {
  unsigned t = a * b + 128;
  return (uint8_t)(((t >> 8) + t) >> 8);
}

/* convert("L"): the luma of ITU-R 601-2. */
MS_HD uint8_t ms_luma(const uint8_t *rgb) {
  return (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000u) >> 16);
}

#endif
