#include "source_events.h"
#include "../tensor.h"
#include "npz.h"
#include "recording.h"
#include <string.h>

#define OP "recordings"

typedef struct recordings {
  ms_source source;
  ms_events_source_config c;
} recordings;

static void close_recordings(ms_source *s) {
  recordings *r = (recordings *)s;
  ms_paths_free(&r->c.paths);
  ms_shd_close(r->c.shd);
  ms_free(r);
}

static ms_status read_events(const recordings *r, int64_t i, ms_scratch *scratch, ms_error *err) {
  ms_events_options opt = r->c.read;
  if (r->c.shd)
    return ms_shd_read(&scratch->events, r->c.shd, i, r->c.read.policy, &scratch->repairs, err);
  if (r->c.start) {
    opt.start_us = r->c.start[i];
    opt.end_us = r->c.end[i];
  }
  return ms_events_read(&scratch->events, &scratch->file, ms_path(&r->c.paths, i), &opt, &scratch->repairs, err);
}

int ms_source_has_events(const ms_source *s) {
  return s->close == close_recordings && !((const recordings *)s)->c.frames_only;
}

ms_status ms_source_events_read(const ms_source *s, int64_t i, ms_scratch *scratch, ms_error *err) {
  return read_events((const recordings *)s, i, scratch, err);
}

static ms_status read_frames(const recordings *r, int64_t i, ms_scratch *scratch, ms_picture *out, ms_error *err) {
  const char *path = ms_path(&r->c.paths, i);
  ms_status status = ms_file_read(&scratch->file, OP, path, MS_NPZ_MOST, err);
  ms_input in = {.op = OP,
                 .path = path,
                 .p = scratch->file.p,
                 .n = scratch->file.bytes,
                 .policy = r->c.read.policy,
                 .repairs = &scratch->repairs};
  return status ? status : ms_npz_frames(out, &scratch->work, &in, err);
}

static const char *name_of(const recordings *r, int64_t i) {
  return r->c.shd ? "SHD" : ms_path(&r->c.paths, i);
}

/* Frames of sample i in *out, which is one of the scratch's pictures. */
static ms_status make_frames(const recordings *r, int64_t i, const uint64_t *key, ms_scratch *scratch, ms_picture **out,
                             ms_error *err) {
  ms_picture *frames = &scratch->picture[0], *resized = &scratch->picture[1];
  ms_status status;
  *out = frames;
  if (r->c.frames_only) {
    status = read_frames(r, i, scratch, frames, err);
  } else {
    status = read_events(r, i, scratch, err);
    if (!status && key)
      status = ms_events_augment(&scratch->events, &scratch->work, &r->c.augment, *key, (uint64_t)i, err);
    if (!status)
      status = ms_frames_integrate(frames, &scratch->work, &scratch->events, &r->c.frames, err);
  }
  if (status || !r->c.resizes)
    return status;
  *out = resized;
  return ms_resize(&scratch->image.resizer, resized, frames, NULL, &r->c.resize, OP, err);
}

/* Exactly `steps` frames. */
static ms_status fit(ms_picture *p, int64_t steps, ms_error *err) {
  int64_t had = p->t, frame = p->h * p->w * p->c * (int64_t)ms_dtype_size(p->dtype);
  if (had == steps)
    return MS_OK;
  ms_status status = ms_buffer_resize(&p->memory, (size_t)(steps * frame), OP, err);
  if (status)
    return status;
  p->t = steps;
  if (steps > had)
    memset(p->memory.p + had * frame, 0, (size_t)((steps - had) * frame));
  return MS_OK;
}

/* Its messages name the file. */
static ms_status frames_of(const recordings *r, int64_t i, const uint64_t *key, ms_scratch *scratch, ms_picture **out,
                           ms_error *err) {
  ms_error why;
  ms_status status = make_frames(r, i, key, scratch, out, &why);
  if (!status)
    return MS_OK;
  if (!strstr(why.text, name_of(r, i)))
    return ms_fail(err, status, "%s: %.250s: %.300s", OP, name_of(r, i), why.text);
  if (err)
    *err = why;
  return status;
}

static ms_status read_sample(const ms_source *s, int64_t i, const uint64_t *key, ms_scratch *scratch, const void **out,
                             ms_error *err) {
  const recordings *r = (const recordings *)s;
  ms_picture *p;
  ms_status status = frames_of(r, i, key, scratch, &p, err);
  if (!status && r->c.frames.split == MS_SPLIT_DURATION && !r->c.frames_only)
    status = fit(p, s->t, err);
  if (status)
    return status;
  if (p->t != s->t || p->h != s->h || p->w != s->w || p->c != s->c)
    return ms_fail(err, MS_ESHAPE, "%s: %.250s: expected [t, h, w, c] = %s, as the first sample has, got %s", OP,
                   name_of(r, i), ms_shape_text(4, (int64_t[]){s->t, s->h, s->w, s->c}).s,
                   ms_shape_text(4, (int64_t[]){p->t, p->h, p->w, p->c}).s);
  if (p->dtype == s->dtype) {
    *out = p->memory.p;
    return MS_OK;
  }
  /* archives of frames hold bytes or reals, each as it may; resized as what they are */
  ms_picture *real = p == &scratch->picture[0] ? &scratch->picture[1] : &scratch->picture[0];
  if ((status = ms_picture_shape(real, MS_F32, p->t, p->h, p->w, p->c, OP, err)))
    return status;
  for (int64_t k = 0; k < p->t * p->h * p->w * p->c; k++)
    ms_picture_reals(real)[k] = ms_picture_bytes(p)[k];
  *out = real->memory.p;
  return MS_OK;
}

static ms_status take_shape(recordings *r, ms_error *err) {
  ms_scratch scratch = {0};
  ms_picture *p;
  ms_status status = frames_of(r, 0, NULL, &scratch, &p, err);
  if (!status) {
    int cut = r->c.frames.split == MS_SPLIT_DURATION && !r->c.frames_only;
    r->source.t = cut && r->c.steps > 0 ? r->c.steps : p->t;
    r->source.h = p->h;
    r->source.w = p->w;
    r->source.c = p->c;
    r->source.dtype = r->c.frames_only ? MS_F32 : p->dtype;
  }
  ms_scratch_free(&scratch);
  if (!status && r->c.steps > 0 && r->source.t != r->c.steps)
    status = ms_fail(err, MS_ESHAPE, "%s: %.250s: expected %lld frames, got %lld", OP, name_of(r, 0),
                     (long long)r->c.steps, (long long)r->source.t);
  return status;
}

static ms_status check(const recordings *r, ms_error *err) {
  const ms_events_source_config *c = &r->c;
  if (r->source.n == 0)
    return ms_fail(err, MS_EINVAL, "%s: no recordings", OP);
  if (!c->start != !c->end)
    return ms_fail(err, MS_EINVAL, "%s: expected start and end, or neither", OP);
  if (c->steps < 0 || c->steps > MS_FRAMES_MOST)
    return ms_fail(err, MS_ERANGE, "%s: steps: expected 0 to %d, got %lld", OP, MS_FRAMES_MOST, (long long)c->steps);
  if (c->frames_only &&
      (c->augment.drop || c->augment.flip_x > 0 || c->augment.flip_polarity > 0 || c->augment.reverse > 0))
    return ms_fail(err, MS_EINVAL, "%s: expected events to drop and mirror, got archives of frames", OP);
  return MS_OK;
}

ms_status ms_source_events(ms_source **out, ms_events_source_config *config, ms_error *err) {
  recordings *r = ms_alloc(sizeof *r);
  *out = NULL;
  if (!r) {
    ms_paths_free(&config->paths);
    ms_shd_close(config->shd);
    return ms_fail(err, MS_EMEM, "%s: out of memory", OP);
  }
  r->c = *config;
  config->paths = (ms_paths){0};
  config->shd = NULL;
  r->source = (ms_source){.n = r->c.shd ? ms_shd_count(r->c.shd) : r->c.paths.n,
                          .labels = r->c.labels,
                          .read = read_sample,
                          .close = close_recordings};
  ms_status status = check(r, err);
  if (!status)
    status = take_shape(r, err);
  if (status)
    close_recordings(&r->source);
  else
    *out = &r->source;
  return status;
}
