#include "onednn.h"
#include "parallel.h"
#include <dnnl.h>
#include <stdlib.h>
#include <string.h>

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static dnnl_primitive_attr_t attributes; /* scratch memory comes from us */
static int holders;

static void stop(void) {
  if (attributes)
    dnnl_primitive_attr_destroy(attributes);
  if (stream)
    dnnl_stream_destroy(stream);
  if (engine)
    dnnl_engine_destroy(engine);
  attributes = NULL;
  stream = NULL;
  engine = NULL;
}

int ms_dnn_hold(void) {
  if (holders == 0 &&
      (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success ||
       dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success ||
       dnnl_primitive_attr_create(&attributes) != dnnl_success ||
       dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) != dnnl_success)) {
    stop();
    return 0;
  }
  holders++;
  return 1;
}

void ms_dnn_drop(void) {
  if (--holders == 0)
    stop();
}

/* ---- what differs between version 2 (descriptions are structures) and 3 (they are objects) ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t layout_ref;
typedef dnnl_memory_desc_t layout;
#define layout_of(l) (l)

static int plain_layout(layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides) {
  return dnnl_memory_desc_create_with_strides(l, n, dims, type, strides) == dnnl_success;
}

static int tagged_layout(layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag) {
  return dnnl_memory_desc_create_with_tag(l, n, dims, type, tag) == dnnl_success;
}

static void free_layout(layout *l) {
  if (*l)
    dnnl_memory_desc_destroy(*l);
}
#else
typedef const dnnl_memory_desc_t *layout_ref;
typedef dnnl_memory_desc_t layout;
#define layout_of(l) (&(l))

static int plain_layout(layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides) {
  return dnnl_memory_desc_init_by_strides(l, n, dims, type, strides) == dnnl_success;
}

static int tagged_layout(layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag) {
  return dnnl_memory_desc_init_by_tag(l, n, dims, type, tag) == dnnl_success;
}

static void free_layout(layout *l) {
  (void)l;
}
#endif

typedef struct geometry {
  dnnl_dims_t stride, dilation, before, after;
  layout x, weight, bias, y;
} geometry;

static dnnl_status_t forward_desc(dnnl_primitive_desc_t *out, const geometry *g, int bias) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_convolution_forward_primitive_desc_create(out, engine, dnnl_forward_training, dnnl_convolution_direct,
                                                        g->x, g->weight, bias ? g->bias : NULL, g->y, g->stride,
                                                        g->dilation, g->before, g->after, attributes);
#else
  dnnl_convolution_desc_t op;
  dnnl_status_t status = dnnl_dilated_convolution_forward_desc_init(&op, dnnl_forward_training, dnnl_convolution_direct,
                                                                    &g->x, &g->weight, bias ? &g->bias : NULL, &g->y,
                                                                    g->stride, g->dilation, g->before, g->after);
  return status == dnnl_success ? dnnl_primitive_desc_create(out, &op, attributes, engine, NULL) : status;
#endif
}

static dnnl_status_t weight_grad_desc(dnnl_primitive_desc_t *out, const geometry *g, dnnl_primitive_desc_t hint) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_convolution_backward_weights_primitive_desc_create(out, engine, dnnl_convolution_direct, g->x, g->weight,
                                                                 NULL, g->y, g->stride, g->dilation, g->before,
                                                                 g->after, hint, attributes);
#else
  dnnl_convolution_desc_t op;
  dnnl_status_t status = dnnl_dilated_convolution_backward_weights_desc_init(
      &op, dnnl_convolution_direct, &g->x, &g->weight, NULL, &g->y, g->stride, g->dilation, g->before, g->after);
  return status == dnnl_success ? dnnl_primitive_desc_create(out, &op, attributes, engine, hint) : status;
#endif
}

/* ---- one convolution ---- */

enum { X, PLAIN, PACKED, BIAS, Y, SCRATCH, REORDER_SCRATCH, MEMORIES };

struct ms_dnn {
  int weight_grad;
  dnnl_primitive_desc_t desc, reorder_desc; /* reorder_desc NULL: the library reads our order of weights */
  dnnl_primitive_t conv, reorder;
  dnnl_memory_t memory[MEMORIES];
  size_t packed, scratch; /* bytes in the room */
};

static dnnl_data_type_t type_of(ms_dtype t) {
  return t == MS_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* Dimensions with a group in front, or without where there is one group. */
static int weight_dims(dnnl_dims_t to, const ms_dnn_shape *s, int64_t group, int64_t out, int64_t in, int64_t y,
                       int64_t x) {
  const int64_t all[] = {group, out, in, y, x};
  int skip = s->groups == 1;
  for (int i = skip; i < 5; i++)
    to[i - skip] = all[i];
  return 5 - skip;
}

/* The layouts of a shape; weights packed as the library likes, or plain as ours. */
static int lay_out(geometry *g, layout *plain, const ms_dnn_shape *s) {
  dnnl_data_type_t operand = type_of(s->operand), result = type_of(s->result);
  const dnnl_dims_t x = {s->n, s->cin, s->h, s->w}, y = {s->n, s->cout, s->oh, s->ow}, bias = {s->cout};
  dnnl_dims_t dims, strides;
  int64_t cig = s->cin / s->groups, cog = s->cout / s->groups;
  int n = weight_dims(dims, s, s->groups, cog, cig, s->k[0], s->k[1]);
  weight_dims(strides, s, s->w_group, s->w_out, s->w_in, s->w_y, s->w_x);
  for (int i = 0; i < 2; i++) {
    g->stride[i] = s->stride[i];
    g->dilation[i] = s->dilation[i] - 1;
    g->before[i] = s->before[i];
    g->after[i] = s->after[i];
  }
  return tagged_layout(&g->x, 4, x, operand, dnnl_nhwc) &&
         tagged_layout(&g->y, 4, y, s->weight_grad ? operand : result, dnnl_nhwc) &&
         tagged_layout(&g->bias, 1, bias, dnnl_f32, dnnl_a) &&
         /* sums of a weight gradient stay float32 until they leave the library's order */
         tagged_layout(&g->weight, n, dims, s->weight_grad ? dnnl_f32 : operand, dnnl_format_tag_any) &&
         plain_layout(plain, n, dims, s->weight_grad ? result : operand, strides);
}

static int describe(ms_dnn *u, geometry *g, layout *plain, const ms_dnn_shape *s) {
  if (!lay_out(g, plain, s))
    return 0;
  if (s->weight_grad) {
    geometry f = *g;
    dnnl_dims_t dims;
    int n = weight_dims(dims, s, s->groups, s->cout / s->groups, s->cin / s->groups, s->k[0], s->k[1]);
    memset(&f.weight, 0, sizeof f.weight);
    dnnl_primitive_desc_t hint = NULL;
    int done = tagged_layout(&f.weight, n, dims, type_of(s->operand), dnnl_format_tag_any) &&
               forward_desc(&hint, &f, 0) == dnnl_success && weight_grad_desc(&u->desc, g, hint) == dnnl_success;
    free_layout(&f.weight);
    if (hint)
      dnnl_primitive_desc_destroy(hint);
    if (!done)
      return 0;
  } else if (forward_desc(&u->desc, g, s->bias) != dnnl_success) {
    return 0;
  }
  const char *info = "";
  dnnl_primitive_desc_query(u->desc, dnnl_query_impl_info_str, 0, &info);
  if (strstr(info, "ref"))
    return 0;
  layout_ref packed =
      dnnl_primitive_desc_query_md(u->desc, s->weight_grad ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
  if (dnnl_memory_desc_equal(packed, layout_of(*plain)))
    return 1;
  layout_ref from = s->weight_grad ? packed : layout_of(*plain), to = s->weight_grad ? layout_of(*plain) : packed;
  return dnnl_reorder_primitive_desc_create(&u->reorder_desc, from, engine, to, engine, attributes) == dnnl_success;
}

static size_t bytes_of(dnnl_primitive_desc_t desc, dnnl_query_t what) {
  layout_ref l = desc ? dnnl_primitive_desc_query_md(desc, what, 0) : NULL;
  return l ? (dnnl_memory_desc_get_size(l) + 63) / 64 * 64 : 0;
}

static int make_memory(ms_dnn *u, int which, layout_ref l) {
  return dnnl_memory_create(&u->memory[which], l, engine, DNNL_MEMORY_NONE) == dnnl_success;
}

static int make_memories(ms_dnn *u, const geometry *g, const layout *plain, const ms_dnn_shape *s) {
  dnnl_query_t weight = s->weight_grad ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
  size_t reorder = bytes_of(u->reorder_desc, dnnl_query_scratchpad_md);
  u->weight_grad = s->weight_grad;
  u->packed = u->reorder_desc ? bytes_of(u->desc, weight) : 0;
  u->scratch = bytes_of(u->desc, dnnl_query_scratchpad_md);
  if (!make_memory(u, X, layout_of(g->x)) || !make_memory(u, Y, layout_of(g->y)) ||
      !make_memory(u, PLAIN, layout_of(*plain)) ||
      !make_memory(u, PACKED, dnnl_primitive_desc_query_md(u->desc, weight, 0)) ||
      !make_memory(u, SCRATCH, dnnl_primitive_desc_query_md(u->desc, dnnl_query_scratchpad_md, 0)) ||
      (s->bias && !make_memory(u, BIAS, layout_of(g->bias))) ||
      (u->reorder_desc &&
       !make_memory(u, REORDER_SCRATCH, dnnl_primitive_desc_query_md(u->reorder_desc, dnnl_query_scratchpad_md, 0))))
    return 0;
  u->scratch = reorder > u->scratch ? reorder : u->scratch;
  return 1;
}

ms_dnn *ms_dnn_open(const ms_dnn_shape *s) {
  ms_dnn *u = calloc(1, sizeof *u);
  if (!u)
    return NULL;
  geometry g;
  layout plain;
  memset(&g, 0, sizeof g);
  memset(&plain, 0, sizeof plain);
  int done = describe(u, &g, &plain, s) && make_memories(u, &g, &plain, s);
  layout *all[] = {&g.x, &g.weight, &g.bias, &g.y, &plain};
  for (int i = 0; i < 5; i++)
    free_layout(all[i]);
  if (!done) {
    ms_dnn_close(u);
    u = NULL;
  }
  return u;
}

void ms_dnn_close(ms_dnn *u) {
  if (!u)
    return;
  for (int i = 0; i < MEMORIES; i++)
    if (u->memory[i])
      dnnl_memory_destroy(u->memory[i]);
  dnnl_primitive_t made[] = {u->conv, u->reorder};
  dnnl_primitive_desc_t descs[] = {u->desc, u->reorder_desc};
  for (int i = 0; i < 2; i++) {
    if (made[i])
      dnnl_primitive_destroy(made[i]);
    if (descs[i])
      dnnl_primitive_desc_destroy(descs[i]);
  }
  free(u);
}

size_t ms_dnn_room(const ms_dnn *u) {
  return u->packed + u->scratch;
}

/* Code is generated here, at the first run: many shapes are only asked about. */
static int make_primitives(ms_dnn *u) {
  return (u->conv || dnnl_primitive_create(&u->conv, u->desc) == dnnl_success) &&
         (!u->reorder_desc || u->reorder || dnnl_primitive_create(&u->reorder, u->reorder_desc) == dnnl_success);
}

static void point(ms_dnn *u, int which, const void *p) {
  if (u->memory[which])
    dnnl_memory_set_data_handle(u->memory[which], (void *)(uintptr_t)p);
}

static int execute(ms_dnn *u, dnnl_primitive_t what, int n, const int (*list)[2]) {
  dnnl_exec_arg_t args[6];
  for (int i = 0; i < n; i++)
    args[i] = (dnnl_exec_arg_t){list[i][0], u->memory[list[i][1]]};
  return dnnl_primitive_execute(what, stream, n, args) == dnnl_success;
}

static int move_weights(ms_dnn *u) {
  const int pack[][2] = {{DNNL_ARG_FROM, PLAIN}, {DNNL_ARG_TO, PACKED}, {DNNL_ARG_SCRATCHPAD, REORDER_SCRATCH}};
  const int unpack[][2] = {{DNNL_ARG_FROM, PACKED}, {DNNL_ARG_TO, PLAIN}, {DNNL_ARG_SCRATCHPAD, REORDER_SCRATCH}};
  return !u->reorder || execute(u, u->reorder, 3, u->weight_grad ? unpack : pack);
}

ms_status ms_dnn_run(ms_dnn *u, void *x, void *weight, const float *bias, void *y, char *room) {
  if (!make_primitives(u))
    return MS_EMEM;
  point(u, X, x);
  point(u, Y, y);
  point(u, BIAS, bias);
  point(u, PLAIN, weight);
  point(u, PACKED, u->reorder ? room : weight);
  point(u, SCRATCH, room + u->packed);
  point(u, REORDER_SCRATCH, room + u->packed);
  const int back[][2] = {
      {DNNL_ARG_SRC, X}, {DNNL_ARG_DIFF_WEIGHTS, PACKED}, {DNNL_ARG_DIFF_DST, Y}, {DNNL_ARG_SCRATCHPAD, SCRATCH}};
  const int forth[][2] = {{DNNL_ARG_SRC, X},
                          {DNNL_ARG_WEIGHTS, PACKED},
                          {DNNL_ARG_DST, Y},
                          {DNNL_ARG_SCRATCHPAD, SCRATCH},
                          {DNNL_ARG_BIAS, BIAS}};
  int done = u->weight_grad ? execute(u, u->conv, 4, back) && move_weights(u)
                            : move_weights(u) && execute(u, u->conv, u->memory[BIAS] ? 5 : 4, forth);
  return done && dnnl_stream_wait(stream) == dnnl_success ? MS_OK : MS_EBACKEND;
}
