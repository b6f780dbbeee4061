/* Files of images as a source: read, decoded, cropped, resized, in the loader's threads. */
#ifndef MS_SOURCE_IMAGES_H
#define MS_SOURCE_IMAGES_H

#include "image_transform.h"
#include "paths.h"
#include "source.h"

typedef struct ms_images_source_config {
  ms_paths paths;        /* taken over, also by a failure */
  const int64_t *labels; /* borrowed */
  ms_policy policy;
  ms_image_recipe
      recipe; /* random: samples that are read without a key are cut as in a test, the same share of the image */
} ms_images_source_config;

ms_status ms_source_images(ms_source **out, ms_images_source_config *config, ms_error *err);

#endif
