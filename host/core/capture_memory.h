/* Memory of recordings. While a step is learnt, a pool without memory of its own follows each allocation and tells how
** much the step needs at once; while it is recorded, a pool of that size serves them, since the backend may not be
** asked. */
#ifndef MS_CAPTURE_MEMORY_H
#define MS_CAPTURE_MEMORY_H

#include "device.h"

typedef struct ms_pool ms_pool;

/* bytes 0: it has none and only counts. */
ms_status ms_pool_new(ms_pool **out, ms_device *d, size_t bytes, ms_error *err);
void ms_pool_release(ms_pool *p);
size_t ms_pool_most(const ms_pool *p); /* bytes that were in use at once, with what lay unused between them */
/* From now on allocations are followed (or, with memory, served) by p; NULL: by none. */
void ms_pool_use(ms_pool *p);
/* Gives back what was freed while a pool served. */
void ms_pool_settle(void);

#endif
