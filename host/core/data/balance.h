/* The order of an epoch in which every class comes equally often. */
#ifndef MS_BALANCE_H
#define MS_BALANCE_H

#include "../error.h"

/* n draws with replacement: each a class by equal chance among those that have samples, then one of its samples, as a
** sampler with weights 1 / (size of the class) does. labels [n] in [0, classes). Depends on the arguments alone. */
ms_status ms_balanced_order(int64_t *order, int64_t n, const int64_t *labels, int64_t classes, uint64_t key,
                            ms_error *err);

#endif
