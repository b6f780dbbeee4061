/* Recipes of geometric augmentation and the programs (kernels/math/augment.h) that they give each sample. */
#ifndef MS_DATA_AUGMENT_H
#define MS_DATA_AUGMENT_H

#include "../../../kernels/kernels.h"
#include "../error.h"

#define MS_RECIPE_STEPS 32
#define MS_RECIPE_CHOICES 3 /* that a group may take */

typedef enum ms_augment_kind {
#define MS_AUGMENT(name, text) MS_AUGMENT_##name,
#include "augment.def"
#undef MS_AUGMENT
  MS_AUGMENT_KINDS,
  MS_AUGMENT_CHOOSE = MS_AUGMENT_KINDS /* `take` of the next `count` steps, in their order */
} ms_augment_kind;

/* Draws uniformly from [lo, hi]: integers (both ends included) for pixels, reals for angles. */
typedef struct ms_augment_rule {
  ms_augment_kind kind;
  double p; /* the probability that the step is done at all */
  double lo, hi;
  int count, take; /* MS_AUGMENT_CHOOSE; cutout: count is the number of holes */
} ms_augment_rule;

typedef struct ms_augment_recipe {
  int n;
  ms_augment_rule rule[MS_RECIPE_STEPS];
} ms_augment_recipe;

const char *ms_augment_kind_name(ms_augment_kind kind);
/* MS_ERANGE with the number of the rule that makes no sense, or where a program could get more than MS_AUGMENT_STEPS steps. */
ms_status ms_augment_check(const ms_augment_recipe *r, const char *op, ms_error *err);

/* The program of one sample. Draws come from planes (draws.h) of (key, sample), and from which plane a rule draws depends
** on its kind and on how many of that kind stand before it: rules of other kinds change nothing. */
void ms_augment_draw(ms_augment_program *out, const ms_augment_recipe *r, int64_t h, int64_t w, uint64_t key,
                     uint64_t sample);

/* What the row reads: bytes [c, 256] = (b / scale - mean[k]) / std[k]. mean, std NULL: 0 and 1. */
void ms_augment_bytes(ms_real *bytes, int64_t c, double scale, const ms_real *mean, const ms_real *std);

#endif
