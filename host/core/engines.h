/* Convolution engines as a user sees them: which one ran where, which is forced, the table of break-evens, and the
** measurement that makes rows of it. Everything here goes through the backend table. */
#ifndef MS_ENGINES_H
#define MS_ENGINES_H

#include "device.h"

enum { MS_ENGINE_USES = 256, MS_ENGINE_FORCED = 256 };

/* One pass of one layer: what its last call ran, and why. */
typedef struct ms_engine_use {
  char layer[64]; /* name of the weight, "" where it has none */
  ms_device *device;
  ms_conv_desc desc;
  ms_conv_pass pass;
  const char *engine; /* static string of the backend */
  double density;     /* share of non-zero inputs; of an input gradient the share of ones in the mask; -1: not known */
  int counts;
  int64_t calls;
  uint64_t first, last; /* serial numbers of its first and last call */
  char why[MS_WHY];
} ms_engine_use;

/* Around a call of a convolution row and the question for its workspace: holds a plan to the engine that is forced on
** this layer, and notes the choice. a->plan is set. Allocates nothing. */
void ms_engines_hold(ms_device *d, const ms_conv_args *a, const char *layer);
void ms_engines_note(ms_device *d, const ms_conv_desc *desc, ms_conv_pass pass, const ms_conv_args *a,
                     const char *layer);
void ms_engines_end(ms_device *d, const ms_conv_args *a);

/* What ran since the last reset, in order of first use, up to MS_ENGINE_USES passes of layers: then the one unused for
** longest makes room. out[i] is borrowed until the next convolution. */
int ms_engines_uses(const ms_engine_use *out[MS_ENGINE_USES]);
void ms_engines_reset(void);

/* engine NULL: as usual; layer NULL: all layers, also those that were forced alone. */
ms_status ms_engines_force(ms_device *d, const char *engine, const char *layer, ms_error *err);
typedef struct ms_engine_forced {
  char layer[64];
  const char *engine;
} ms_engine_forced;
/* *all: the engine forced on all layers or NULL; returns how many layers have one of their own. */
int ms_engines_forced(ms_device *d, const char **all, const ms_engine_forced **layers);

/* Do results of this engine depend on the number of threads? */
int ms_engine_is_loose(const char *engine);

/* The table in use (borrowed), and where it came from: "shipped" or what set_table was told. */
int ms_engines_table(ms_device *d, const ms_break_even **rows, const char **origin);
ms_status ms_engines_set_table(ms_device *d, const ms_break_even *rows, int n, const char *origin, ms_error *err);

/* Times events against the dense engine on this shape (x is ignored) for about `seconds` and fills a row of the table:
** each limit is 0.9 times the density where the two cost the same, 0 where events never win or do not exist. Leaves
** random numbers and forced engines alone; an interrupt is MS_EINTR. */
ms_status ms_engines_measure(ms_break_even *row, ms_device *d, const ms_conv_desc *shape, double seconds,
                             ms_error *err);

#endif
