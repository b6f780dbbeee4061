/* The CUDA backend, row by row. Contracts: kernels.h, struct ms_backend; one prototype for each of its fields but
** `threads`. */
#ifndef MS_CUDA_H
#define MS_CUDA_H

#include "../kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- services ---- */
ms_status ms_cuda_open(char why[MS_WHY]);
int ms_cuda_device_count(void);
ms_status ms_cuda_properties(int device, ms_device_props *out);
ms_status ms_cuda_stream_create(int device, ms_stream **out);
void ms_cuda_stream_destroy(ms_stream *s);
ms_status ms_cuda_synchronize(ms_stream *s);
const char *ms_cuda_error_text(ms_stream *s);
ms_status ms_cuda_alloc(ms_stream *s, void **out, size_t bytes);
void ms_cuda_free(ms_stream *s, void *p, size_t bytes);
ms_status ms_cuda_alloc_host(void **out, size_t bytes);
void ms_cuda_free_host(void *p, size_t bytes);
void ms_cuda_trim(ms_stream *s);
ms_status ms_cuda_memory(ms_stream *s, ms_memory_info *out);
ms_status ms_cuda_copy_bytes(ms_stream *s, void *dst, const void *src, size_t bytes, ms_copy_kind kind);
ms_status ms_cuda_event_create(ms_event **out);
void ms_cuda_event_destroy(ms_event *e);
ms_status ms_cuda_event_record(ms_stream *s, ms_event *e);
ms_status ms_cuda_event_wait(ms_stream *s, ms_event *e);
ms_status ms_cuda_event_synchronize(ms_stream *s, ms_event *e);
ms_status ms_cuda_capture_begin(ms_stream *s);
ms_status ms_cuda_capture_end(ms_stream *s, ms_graph **out);
ms_status ms_cuda_graph_launch(ms_stream *s, ms_graph *g);
void ms_cuda_graph_destroy(ms_graph *g);
ms_status ms_cuda_conv_plan(ms_stream *s, const ms_conv_desc *d, ms_conv_plan **out);
void ms_cuda_conv_plan_destroy(ms_conv_plan *plan);
size_t ms_cuda_conv_workspace(const ms_conv_plan *plan, ms_conv_pass pass);
const char *ms_cuda_conv_engine(const ms_conv_args *a, ms_conv_pass pass, char why[MS_WHY]);
const char *const *ms_cuda_conv_engines(void);
ms_status ms_cuda_conv_force(ms_conv_plan *plan, const char *name);
int ms_cuda_conv_deterministic(int on);
int ms_cuda_tf32(int on);
int ms_cuda_conv_loose(const char *engine);
int ms_cuda_conv_table(const ms_break_even **table);
ms_status ms_cuda_conv_table_set(const ms_break_even *table, int rows);

/* ---- rows ---- */
ms_status ms_cuda_unary(ms_stream *s, ms_unary_op op, const ms_loop *l);
ms_status ms_cuda_unary_grad(ms_stream *s, ms_unary_op op, const ms_loop *l);
ms_status ms_cuda_binary(ms_stream *s, ms_binary_op op, const ms_loop *l);
ms_status ms_cuda_binary_scalar(ms_stream *s, ms_binary_op op, const ms_loop *l, double value, int swapped);
ms_status ms_cuda_axpby(ms_stream *s, const ms_loop *l, double alpha, double beta);
ms_status ms_cuda_where(ms_stream *s, const ms_loop *l);
ms_status ms_cuda_clamp(ms_stream *s, const ms_loop *l, double lo, double hi);
ms_status ms_cuda_copy(ms_stream *s, const ms_loop *l);
ms_status ms_cuda_fill(ms_stream *s, const ms_loop *l, double value);
ms_status ms_cuda_arange(ms_stream *s, const ms_loop *l, double start, double step);
ms_status ms_cuda_random(ms_stream *s, ms_random_kind kind, const ms_loop *l, ms_philox_key key, double a, double b);
ms_status ms_cuda_reduce(ms_stream *s, ms_reduce_op op, const ms_reduction *r);
ms_status ms_cuda_gemm(ms_stream *s, const ms_gemm *g);
ms_status ms_cuda_log_softmax(ms_stream *s, ms_real *out, const ms_real *x, int64_t rows, int64_t n);
ms_status ms_cuda_log_softmax_grad(ms_stream *s, ms_real *dx, const ms_real *g, const ms_real *out, int64_t rows,
                                   int64_t n);
ms_status ms_cuda_gather(ms_stream *s, void *out, const void *x, const int64_t *index, int64_t outer, int64_t n,
                         int64_t m, int64_t inner, int width, int64_t *bad);
ms_status ms_cuda_scatter_add(ms_stream *s, ms_real *out, const ms_real *g, const int64_t *index, int64_t outer,
                              int64_t n, int64_t m, int64_t inner);
ms_status ms_cuda_topk(ms_stream *s, ms_real *value, int64_t *index, const ms_real *x, int64_t rows, int64_t n,
                       int64_t k, int largest);
ms_status ms_cuda_photos(ms_stream *s, const ms_photos_args *a);
ms_status ms_cuda_augment(ms_stream *s, const ms_augment_args *a);
ms_status ms_cuda_conv_forward(ms_stream *s, const ms_conv_args *a);
ms_status ms_cuda_conv_input_grad(ms_stream *s, const ms_conv_args *a);
ms_status ms_cuda_conv_weight_grad(ms_stream *s, const ms_conv_args *a);
ms_status ms_cuda_conv_synops(ms_stream *s, const ms_conv_desc *d, ms_data x, int64_t out[2]);
ms_status ms_cuda_unpack_bits(ms_stream *s, ms_data out, ms_data x, int64_t n);
ms_status ms_cuda_avg_pool(ms_stream *s, const ms_pool_desc *d, ms_data x, ms_data y);
ms_status ms_cuda_avg_pool_grad(ms_stream *s, const ms_pool_desc *d, ms_data g, ms_data dx);
ms_status ms_cuda_max_pool(ms_stream *s, const ms_pool_desc *d, ms_data x, ms_data y, int32_t *index);
ms_status ms_cuda_max_pool_grad(ms_stream *s, const ms_pool_desc *d, ms_data g, const int32_t *index, ms_data dx);
ms_status ms_cuda_norm_stats(ms_stream *s, const ms_norm *n);
ms_status ms_cuda_norm_apply(ms_stream *s, int64_t steps, int64_t rows, int64_t c, ms_data x, int64_t x_step,
                             ms_affine f, ms_data r, int64_t r_step, ms_data y);
ms_status ms_cuda_norm_grad(ms_stream *s, const ms_norm_grad *n);
ms_status ms_cuda_neuron(ms_stream *s, const ms_neuron_args *a);
ms_status ms_cuda_neuron_grad(ms_stream *s, const ms_neuron_grad_args *a);
ms_status ms_cuda_loss(ms_stream *s, const ms_loss_args *a);
ms_status ms_cuda_hyper_advance(ms_stream *s, ms_hyper *hyper, const ms_range *ranges, int nranges);
ms_status ms_cuda_sgd(ms_stream *s, const ms_optim_args *a);
ms_status ms_cuda_adam(ms_stream *s, const ms_optim_args *a);
ms_status ms_cuda_trt_value(ms_stream *s, const ms_real *param, const ms_range *ranges, int nranges, ms_trt trt,
                            ms_real *out);
ms_status ms_cuda_trt_grad(ms_stream *s, const ms_optim_args *a);

#ifdef __cplusplus
}
#endif

#endif
