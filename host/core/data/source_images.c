#include "source_images.h"
#include "../tensor.h"

#define OP "images"
#define MOST_BYTES ((size_t)1 << 30) /* of a file */

typedef struct images {
  ms_source source;
  ms_images_source_config c;
  ms_image_recipe still; /* for samples without a key */
} images;

static void close_images(ms_source *s) {
  images *m = (images *)s;
  ms_paths_free(&m->c.paths);
  ms_free(m);
}

static ms_status read_image(const ms_source *s, int64_t i, const uint64_t *key, ms_scratch *scratch, const void **out,
                            ms_error *err) {
  const images *m = (const images *)s;
  const char *path = ms_path(&m->c.paths, i);
  ms_picture *p = &scratch->picture[0];
  ms_status status = ms_file_read(&scratch->file, OP, path, MOST_BYTES, err);
  if (status)
    return status;
  ms_input in = {.op = OP,
                 .path = path,
                 .p = scratch->file.p,
                 .n = scratch->file.bytes,
                 .policy = m->c.policy,
                 .repairs = &scratch->repairs};
  status =
      ms_image_transform(&scratch->image, p, &in, key ? &m->c.recipe : &m->still, key ? *key : 0, (uint64_t)i, err);
  *out = p->memory.p;
  return status;
}

ms_status ms_source_images(ms_source **out, ms_images_source_config *config, ms_error *err) {
  images *m = ms_alloc(sizeof *m);
  *out = NULL;
  if (!m) {
    ms_paths_free(&config->paths);
    return ms_fail(err, MS_EMEM, "%s: out of memory", OP);
  }
  m->c = *config;
  config->paths = (ms_paths){0};
  m->source = (ms_source){.n = m->c.paths.n,
                          .t = 1,
                          .h = m->c.recipe.size,
                          .w = m->c.recipe.size,
                          .c = m->c.recipe.decode.grey ? 1 : 3,
                          .dtype = MS_U8,
                          .labels = m->c.labels,
                          .read = read_image,
                          .close = close_images};
  ms_status status = ms_image_recipe_check(&m->c.recipe, OP, err);
  if (!status && m->source.n == 0)
    status = ms_fail(err, MS_EINVAL, "%s: no files", OP);
  if (status) {
    close_images(&m->source);
    return status;
  }
  m->still = m->c.recipe;
  if (m->still.random) {
    ms_image_recipe usual = ms_image_recipe_test(256, 224);
    m->still.random = 0;
    m->still.shorter = (m->still.size * usual.shorter + usual.size / 2) / usual.size;
  }
  *out = &m->source;
  return MS_OK;
}
