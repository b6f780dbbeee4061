#include "augment.h"
#include "draws.h"
#include <math.h>

/* The planes of a kind: one for each of its rules (and holes). Of the first plane a crop takes words 0, 1 and 3 and a flip word 2. */
enum { PLANES = 256, GATE = 3 };

const char *ms_augment_kind_name(ms_augment_kind kind) {
  static const char *const name[] = {
#define MS_AUGMENT(name, text) #name,
#include "augment.def"
#undef MS_AUGMENT
      "choose"};
  return name[kind];
}

static int steps_of(const ms_augment_rule *rule) {
  return rule->kind == MS_AUGMENT_cutout ? rule->count : rule->kind != MS_AUGMENT_identity;
}

static int in_pixels(ms_augment_kind kind) {
  return kind == MS_AUGMENT_crop || kind == MS_AUGMENT_cutout ||
         (kind >= MS_AUGMENT_roll && kind <= MS_AUGMENT_translate_y);
}

static ms_status check_rule(const ms_augment_rule *rule, const char *op, int at, ms_error *err) {
  const char *name = ms_augment_kind_name(rule->kind);
  double most = in_pixels(rule->kind) ? MS_AUGMENT_SIDE - 1 : rule->kind == MS_AUGMENT_rotate ? 360 : 89;
  if (!(rule->p >= 0 && rule->p <= 1))
    return ms_fail(err, MS_ERANGE, "%s: step %d (%s): p: expected a number in [0, 1], got %g", op, at + 1, name,
                   rule->p);
  if (!(rule->lo <= rule->hi && rule->hi <= most && rule->lo >= -most))
    return ms_fail(err, MS_ERANGE, "%s: step %d (%s): expected a range within [-%g, %g], got %g to %g", op, at + 1,
                   name, most, most, rule->lo, rule->hi);
  if (in_pixels(rule->kind) && (rule->lo != floor(rule->lo) || rule->hi != floor(rule->hi)))
    return ms_fail(err, MS_ERANGE, "%s: step %d (%s): expected whole pixels, got %g to %g", op, at + 1, name, rule->lo,
                   rule->hi);
  if ((rule->kind == MS_AUGMENT_crop || rule->kind == MS_AUGMENT_cutout) && rule->lo < 0)
    return ms_fail(err, MS_ERANGE, "%s: step %d (%s): expected pixels >= 0, got %g", op, at + 1, name, rule->lo);
  if (rule->kind == MS_AUGMENT_cutout && (rule->count < 1 || rule->count > MS_AUGMENT_STEPS))
    return ms_fail(err, MS_ERANGE, "%s: step %d (cutout): holes: expected 1 to %d, got %d", op, at + 1,
                   MS_AUGMENT_STEPS, rule->count);
  return MS_OK;
}

ms_status ms_augment_check(const ms_augment_recipe *r, const char *op, ms_error *err) {
  int steps = 0;
  for (int i = 0; i < r->n; i++) {
    const ms_augment_rule *rule = &r->rule[i];
    int most = 0;
    ms_status status = check_rule(rule, op, i, err);
    if (status)
      return status;
    if (rule->kind != MS_AUGMENT_CHOOSE) {
      steps += steps_of(rule);
      continue;
    }
    if (rule->count < 1 || rule->count > r->n - 1 - i || rule->take < 1 || rule->take > MS_RECIPE_CHOICES ||
        rule->take > rule->count)
      return ms_fail(err, MS_ERANGE, "%s: step %d: expected a choice of 1 to %d of the steps in it, got %d of %d", op,
                     i + 1, MS_RECIPE_CHOICES, rule->take, rule->count);
    for (int j = 1; j <= rule->count; j++) {
      const ms_augment_rule *one = rule + j;
      if (one->kind == MS_AUGMENT_CHOOSE)
        return ms_fail(err, MS_ERANGE, "%s: step %d: expected no choice within a choice", op, i + 1);
      if ((status = check_rule(one, op, i + j, err)))
        return status;
      most = steps_of(one) > most ? steps_of(one) : most;
    }
    steps += most * rule->take;
    i += rule->count;
  }
  if (steps > MS_AUGMENT_STEPS)
    return ms_fail(err, MS_ERANGE, "%s: expected at most %d steps for a sample, got %d", op, MS_AUGMENT_STEPS, steps);
  return MS_OK;
}

/* ---- one sample ---- */

typedef struct drawing {
  ms_augment_program *out;
  int32_t h, w;
  uint64_t key, sample;
  uint8_t seen[MS_AUGMENT_KINDS + 1]; /* rules of each kind so far */
} drawing;

/* The plane of the next rule (or hole) of a kind. */
static ms_philox4 next_plane(drawing *d, ms_augment_kind kind) {
  uint32_t first = MS_PLANES_RECIPE + (kind <= MS_AUGMENT_flip ? 0 : (uint32_t)(kind - 1) * PLANES);
  return ms_philox_block(d->key, d->sample, first + d->seen[kind]++);
}

/* An integer in [lo, hi]. */
static int32_t whole(uint32_t word, double lo, double hi) {
  uint64_t places = (uint64_t)(hi - lo) + 1;
  return (int32_t)(word * places >> 32) + (int32_t)lo;
}

static double real(uint32_t word, double lo, double hi) {
  return lo + (hi - lo) * (double)ms_random_uniform(word);
}

static int happens(uint32_t word, double p) {
  return (double)word >= (1 - p) * 0x1p32;
}

static int32_t within(int32_t v, int32_t size) {
  return v < 0 ? 0 : v > size ? size : v;
}

static ms_augment_step linear(double a, double b, double c, double d) {
  return (ms_augment_step){.move = MS_MOVE_LINEAR, .m = {(float)a, (float)b, (float)c, (float)d}};
}

static int32_t modulo(int32_t a, int32_t n) {
  return (a % n + n) % n;
}

static ms_augment_step step_of(const drawing *d, const ms_augment_rule *rule, ms_philox4 r) {
  const double degree = 3.14159265358979323846 / 180;
  double lo = rule->lo, hi = rule->hi, angle = real(r.w[0], lo, hi) * degree;
  int32_t y, x, half;
  switch (rule->kind) {
  case MS_AUGMENT_crop:
    return (ms_augment_step){.move = MS_MOVE_SHIFT, .a = whole(r.w[0], -hi, hi), .b = whole(r.w[1], -hi, hi)};
  case MS_AUGMENT_flip:
    return (ms_augment_step){.move = MS_MOVE_FLIP};
  case MS_AUGMENT_vflip:
    return (ms_augment_step){.move = MS_MOVE_VFLIP};
  case MS_AUGMENT_roll:
    return (ms_augment_step){
        .move = MS_MOVE_ROLL, .a = modulo(whole(r.w[0], lo, hi), d->h), .b = modulo(whole(r.w[1], lo, hi), d->w)};
  case MS_AUGMENT_translate:
    return (ms_augment_step){.move = MS_MOVE_SHIFT, .a = -whole(r.w[0], lo, hi), .b = -whole(r.w[1], lo, hi)};
  case MS_AUGMENT_translate_x:
    return (ms_augment_step){.move = MS_MOVE_SHIFT, .b = -whole(r.w[0], lo, hi)};
  case MS_AUGMENT_translate_y:
    return (ms_augment_step){.move = MS_MOVE_SHIFT, .a = -whole(r.w[0], lo, hi)};
  case MS_AUGMENT_rotate:
    return linear(cos(angle), -sin(angle), sin(angle), cos(angle));
  case MS_AUGMENT_shear_x:
    return linear(1, tan(angle), 0, 1);
  case MS_AUGMENT_shear_y:
    return linear(1, 0, tan(angle), 1);
  default:
    y = whole(r.w[0], 0, d->h - 1);
    x = whole(r.w[1], 0, d->w - 1);
    half = whole(r.w[2], lo, hi) / 2;
    return (ms_augment_step){.move = MS_MOVE_CUT,
                             .a = within(y - half, d->h),
                             .b = within(x - half, d->w),
                             .c = within(y + half, d->h),
                             .d = within(x + half, d->w)};
  }
}

static void add_rule(drawing *d, const ms_augment_rule *rule, int wanted) {
  int holes = rule->kind == MS_AUGMENT_cutout ? rule->count : 1, done = 0;
  for (int i = 0; i < holes; i++) {
    ms_philox4 r = next_plane(d, rule->kind);
    if (i == 0)
      done = wanted && happens(r.w[rule->kind == MS_AUGMENT_flip ? 2 : GATE], rule->p);
    if (done && rule->kind != MS_AUGMENT_identity)
      d->out->step[d->out->n++] = step_of(d, rule, r);
  }
}

/* Bit j: step j of the group is taken. Each set of the size is as likely as any other. */
static uint32_t choose(const ms_augment_rule *group, ms_philox4 r) {
  uint32_t taken = 0;
  for (int i = 0; i < group->take && happens(r.w[GATE], group->p); i++) {
    int32_t left = whole(r.w[i], 0, group->count - 1 - i), j = 0; /* of those that are not taken */
    while (taken >> j & 1 || left-- > 0)
      j++;
    taken |= 1u << j;
  }
  return taken;
}

void ms_augment_draw(ms_augment_program *out, const ms_augment_recipe *r, int64_t h, int64_t w, uint64_t key,
                     uint64_t sample) {
  drawing d = {.out = out, .h = (int32_t)h, .w = (int32_t)w, .key = key, .sample = sample};
  *out = (ms_augment_program){0};
  for (int i = 0; i < r->n; i++) {
    const ms_augment_rule *rule = &r->rule[i];
    if (rule->kind != MS_AUGMENT_CHOOSE) {
      add_rule(&d, rule, 1);
      continue;
    }
    uint32_t taken = choose(rule, next_plane(&d, rule->kind));
    for (int j = 0; j < rule->count; j++)
      add_rule(&d, rule + 1 + j, taken >> j & 1);
    i += rule->count;
  }
}

void ms_augment_bytes(ms_real *bytes, int64_t c, double scale, const ms_real *mean, const ms_real *std) {
  for (int64_t k = 0; k < c; k++)
    for (int b = 0; b < 256; b++)
      bytes[k * 256 + b] = ((ms_real)b / MS_R(scale) - (mean ? mean[k] : 0)) / (std ? std[k] : 1);
}
