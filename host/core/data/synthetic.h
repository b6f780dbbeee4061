/* Events from a still image that moves in front of an event camera: a generator in integers, the same bits everywhere.
** The screen shows the image with a black level, bilinearly scaled; a pixel fires for each `threshold` by which the
** logarithm of its brightness changes, at the time to which linear interpolation within a step of 1 ms points. */
#ifndef MS_SYNTHETIC_H
#define MS_SYNTHETIC_H

#include "events.h"

typedef enum ms_path {
  MS_PATH_SACCADES, /* three, around a triangle, with minimum jerk (N-MNIST) */
  MS_PATH_LOOPS,    /* a rhomb, several times, at constant speed (CIFAR10-DVS) */
  MS_PATH_COUNT
} ms_path;

typedef struct ms_synthetic {
  int width, height; /* of the sensor */
  int size;          /* sensor pixels that the image takes, each way */
  int x0, y0;        /* its top left corner, in 1/256 sensor pixel */
  ms_path path;
  int amplitude;     /* of the path, in 1/256 sensor pixel */
  int steps, loops;  /* ms for each segment; loops for MS_PATH_LOOPS */
  int64_t threshold; /* in 1/65536 of a unit of the natural logarithm */
  int64_t noise_hz;  /* spurious events of each pixel a second */
  uint32_t seed;
  int phase; /* each pixel begins somewhere within its threshold, else on the image */
} ms_synthetic;

/* As N-MNIST: 34 x 34, three saccades, 315 ms. As CIFAR10-DVS: 128 x 128, six loops, 1.2 s. */
extern const ms_synthetic ms_synthetic_nmnist, ms_synthetic_cifar10dvs;

int ms_synthetic_steps(const ms_synthetic *s);
/* Where the image is after step k, 0 to ms_synthetic_steps. */
void ms_synthetic_offset(const ms_synthetic *s, int k, int offset[2]);
/* Brightness 0 to 256 -> floor(65536 ln(32 + i) + 1/2). */
void ms_synthetic_brightness(int32_t table[257]);

/* image: [n][n]. Events in order of time, then y, x, and at one pixel as they come. */
ms_status ms_synthesize(ms_events *out, ms_buffer *scratch, const uint8_t *image, int n, const ms_synthetic *s,
                        ms_error *err);

#endif
