/* Images a second of the training pipeline: read, decode, random resized crop, flip, normalise. usage: images FOLDER
** THREADS SECONDS SIZE. Threads take files in turn and write float32 pixels into a batch of their own. For images.sh. */
#include "../../host/core/data/folder.h"
#include "../../host/core/data/image_transform.h"
#include "../../kernels/math/philox.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 64 };

static struct {
  ms_folder folder;
  const char *root;
  ms_image_recipe recipe;
  atomic_llong next, made;
  double until;
} all;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const ms_error *err) {
  fprintf(stderr, "images: %s\n", err->text);
  exit(1);
}

static void normalise(float *restrict to, const uint8_t *restrict from, int64_t size, int flip,
                      float (*restrict table)[256]) {
  for (int64_t y = 0; y < size; y++, to += 3 * size, from += 3 * size)
    for (int64_t x = 0; x < size; x++) {
      const uint8_t *p = from + 3 * (flip ? size - 1 - x : x);
      for (int c = 0; c < 3; c++)
        to[3 * x + c] = table[c][p[c]];
    }
}

static void *work(void *unused) {
  static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
  float table[3][256];
  ms_image_scratch scratch = {0};
  ms_picture picture = {0};
  ms_buffer bytes = {0};
  ms_error err;
  char path[4096];
  int64_t size = all.recipe.size, pixels = 3 * size * size;
  float *batch = malloc((size_t)(BATCH * pixels) * sizeof *batch);
  if (!batch)
    exit(1);
  for (int c = 0; c < 3; c++)
    for (int v = 0; v < 256; v++)
      table[c][v] = ((float)v / 255 - mean[c]) / std[c];
  while (now() < all.until) {
    int64_t i = atomic_fetch_add(&all.next, 1);
    const ms_folder_file *file = &all.folder.file[i % all.folder.n];
    snprintf(path, sizeof path, "%s/%s", all.root, ms_folder_name(&all.folder, file->path));
    if (ms_file_read(&bytes, "images", path, (size_t)1 << 30, &err))
      die(&err);
    ms_input in = {.op = "images", .path = path, .p = bytes.p, .n = bytes.bytes};
    if (ms_image_transform(&scratch, &picture, &in, &all.recipe, 1, (uint64_t)i, &err))
      die(&err);
    int flip = ms_philox_block(2, (uint64_t)i, 0).w[0] >> 31;
    normalise(batch + i % BATCH * pixels, ms_picture_bytes(&picture), size, flip, table);
    atomic_fetch_add(&all.made, 1);
  }
  free(batch);
  ms_buffer_free(&bytes);
  ms_picture_free(&picture);
  ms_image_scratch_free(&scratch);
  return unused;
}

int main(int argc, char **argv) {
  static const char *const extensions[] = {".jpg", ".jpeg", ".png", NULL};
  pthread_t thread[64];
  ms_error err;
  int threads = argc == 5 ? atoi(argv[2]) : 0;
  if (threads < 1 || threads > 64) {
    fprintf(stderr, "usage: images FOLDER THREADS SECONDS SIZE\n");
    return 2;
  }
  all.root = argv[1];
  all.recipe = ms_image_recipe_train(atoi(argv[4]));
  if (ms_image_recipe_check(&all.recipe, "images", &err) ||
      ms_folder_list(&all.folder, "images", &all.root, 1, &(ms_folder_options){.extensions = extensions}, &err))
    die(&err);
  double begin = now();
  all.until = begin + atof(argv[3]);
  for (int i = 0; i < threads; i++)
    if (pthread_create(&thread[i], NULL, work, NULL))
      return 1;
  for (int i = 0; i < threads; i++)
    pthread_join(thread[i], NULL);
  printf("%.1f\n", (double)atomic_load(&all.made) / (now() - begin));
  ms_folder_free(&all.folder);
  return 0;
}
