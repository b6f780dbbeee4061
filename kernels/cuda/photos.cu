/* What is done to samples of a set in memory before they are moved. A block for each frame: one launch resizes boxes, another
** changes bytes, op by op. */
#include "../math/resize.h"
#include "launch.h"

enum { CHANNELS = 3 /* at most, of images that ops change */, BLOCKS_OF_A_CORE = 8 };

/* Scratch memory of each block: two axes, then a frame that is resized across only or was left by an op. */
typedef struct photo_room {
  uint8_t *p;
  int64_t bytes, down, spare; /* of a block; where its parts begin */
  int64_t first;              /* frame of a launch */
  int taps_across, taps_down;
} photo_room;

static int64_t axis_bytes(int64_t outputs, int taps) {
  return outputs * (2 + taps) * 4;
}

static photo_room room_of(const ms_photos_args *a) {
  photo_room r = {};
  if (a->boxes) { /* no box is larger than the image */
    r.taps_across = (int)ms_resize_taps(a->cubic, (double)a->w / (double)a->to_w);
    r.taps_down = (int)ms_resize_taps(a->cubic, (double)a->h / (double)a->to_h);
    r.down = axis_bytes(a->to_w, r.taps_across);
    r.spare = r.down + axis_bytes(a->to_h, r.taps_down);
  }
  int64_t rows = a->h > a->to_h ? a->h : a->to_h, width = a->x.dtype == MS_U8 ? 1 : 4;
  r.bytes = ms_div_up(r.spare + rows * a->to_w * a->c * width, 16) * 16;
  return r;
}

/* ---- resizing ---- */

/* One direction: output i is the sum of n[i] inputs from lo[i] on. W: int32_t of bytes, float of reals. */
template <class W> struct photo_axis {
  int *lo, *n;
  W *weights; /* [outputs, taps] */
  int outputs, taps;
};

template <class W> MS_DEVICE photo_axis<W> axis_at(uint8_t *p, int64_t outputs, int taps) {
  int *lo = (int *)p;
  return {lo, lo + outputs, (W *)(lo + 2 * outputs), (int)outputs, taps};
}

MS_DEVICE void weights_of(const ms_resize_reach &r, int cubic, int32_t *w) {
  ms_resize_weights(&r, cubic, w, nullptr);
}

MS_DEVICE void weights_of(const ms_resize_reach &r, int cubic, float *w) {
  ms_resize_weights(&r, cubic, nullptr, w);
}

template <class W> MS_DEVICE void plan_axis(const photo_axis<W> &a, int cubic, int in) {
  for (int i = threadIdx.x; i < a.outputs; i += MS_BLOCK) {
    ms_resize_reach reach = ms_resize_reach_of(cubic, in, 0, (double)in / (double)a.outputs, i);
    weights_of(reach, cubic, a.weights + (int64_t)i * a.taps);
    a.lo[i] = (int)reach.lo;
    a.n[i] = (int)reach.n;
  }
}

/* Inputs of output i, `step` elements apart, x being the first that there is. */
template <class T, class W> MS_DEVICE T weigh(const T *x, int64_t step, const photo_axis<W> &a, int i) {
  const W *w = a.weights + (int64_t)i * a.taps;
  W sum = sizeof(T) == 1 ? (W)MS_RESIZE_HALF : (W)0;
  x += a.lo[i] * step;
  for (int j = 0; j < a.n[i]; j++)
    sum += (W)x[j * step] * w[j];
  if constexpr (sizeof(T) == 1)
    return ms_resize_byte(sum);
  else
    return sum;
}

template <class T, class W>
__global__ void __launch_bounds__(MS_BLOCK)
    resize_kernel(const __grid_constant__ ms_photos_args a, const __grid_constant__ photo_room room) {
  int64_t frame = room.first + blockIdx.x, sample = frame / a.steps, at = a.index ? a.index[sample] : sample;
  int c = (int)a.c, width = (int)a.to_w * c, out = (int)a.to_h * width;
  bool there = at >= 0 && at < a.samples;
  const T *x = (const T *)a.x.p + (there ? (at * a.steps + frame % a.steps) * a.h * a.w * c : 0);
  T *y = (T *)a.y.p + frame * out;
  if (!there)
    *a.bad = 1;
  if (!there || !a.boxes) {
    for (int e = threadIdx.x; e < out; e += MS_BLOCK)
      y[e] = there ? x[e] : (T)0;
    return;
  }
  ms_photo_box box = a.boxes[sample];
  uint8_t *memory = room.p + blockIdx.x * room.bytes;
  photo_axis<W> across = axis_at<W>(memory, a.to_w, room.taps_across),
                down = axis_at<W>(memory + room.down, a.to_h, room.taps_down);
  T *middle = (T *)(memory + room.spare);
  plan_axis(across, a.cubic, box.w);
  plan_axis(down, a.cubic, box.h);
  __syncthreads();
  for (int e = threadIdx.x; e < box.h * width; e += MS_BLOCK) {
    int row = e / width, column = (e - row * width) / c, k = e - row * width - column * c;
    middle[e] = weigh(x + ((box.y + row) * a.w + box.x) * c + k, c, across, column);
  }
  __syncthreads();
  for (int e = threadIdx.x; e < out; e += MS_BLOCK) {
    int row = e / width;
    y[e] = weigh(middle + (e - row * width), width, down, row);
  }
}

/* ---- ops ---- */

/* What the threads of a block share. */
typedef struct photo_tables {
  int32_t below[CHANNELS][256]; /* a histogram first */
  ms_photo_levels levels[CHANNELS];
  uint8_t table[CHANNELS][256];
  long long sums[MS_WARP];
} photo_tables;

MS_DEVICE void count(photo_tables *s, const uint8_t *from, int pixels, int c) {
  for (int v = threadIdx.x; v < c * 256; v += MS_BLOCK)
    s->below[v / 256][v % 256] = 0;
  __syncthreads();
  for (int e = threadIdx.x; e < pixels * c; e += MS_BLOCK)
    atomicAdd(&s->below[e % c][from[e]], 1);
  __syncthreads();
  if ((int)threadIdx.x < c)
    s->levels[threadIdx.x] = ms_photo_levels_of(s->below[threadIdx.x], pixels);
  __syncthreads();
}

MS_DEVICE int mean_grey(photo_tables *s, const uint8_t *from, int pixels, int c) {
  long long sum = 0;
  for (int i = threadIdx.x; i < pixels; i += MS_BLOCK)
    sum += ms_photo_grey(from + i * c, c);
  return ms_photo_mean(ms_block_sum(sum, s->sums), pixels);
}

MS_DEVICE void by_table(photo_tables *s, uint8_t *to, const uint8_t *from, const ms_photo_op *op, int pixels, int c) {
  int mean = 0;
  if (ms_photo_counts(op->kind))
    count(s, from, pixels, c);
  if (op->kind == MS_PHOTO_contrast)
    mean = mean_grey(s, from, pixels, c);
  for (int v = threadIdx.x; v < c * 256; v += MS_BLOCK)
    s->table[v / 256][v % 256] = ms_photo_entry(op, &s->levels[v / 256], s->below[v / 256], mean, v % 256);
  __syncthreads();
  for (int e = threadIdx.x; e < pixels * c; e += MS_BLOCK)
    to[e] = s->table[e % c][from[e]];
}

template <int TAPS>
MS_DEVICE void move(uint8_t *to, const uint8_t *from, const ms_photos_args &a, const ms_photo_op *op, int pixels) {
  int w = (int)a.to_w;
  for (int i = threadIdx.x; i < pixels; i += MS_BLOCK)
    ms_photo_moved(to + i * a.c, from, a.to_h, w, a.c, op, i % w, i / w, TAPS, a.fill);
}

MS_DEVICE void sharpen(uint8_t *to, const uint8_t *from, int h, int w, int c, float factor) {
  int row = w * c;
  for (int e = threadIdx.x; e < h * row; e += MS_BLOCK) {
    int y = e / row, v = e - y * row, border = y == 0 || y == h - 1 || v < c || v >= row - c;
    to[e] = ms_photo_sharpness(from + e, row, c, border, factor);
  }
}

__global__ void __launch_bounds__(MS_BLOCK)
    change_kernel(const __grid_constant__ ms_photos_args a, const __grid_constant__ photo_room room) {
  SHARED(photo_tables, tables, [1]);
  int64_t frame = room.first + blockIdx.x, sample = frame / a.steps, at = a.index ? a.index[sample] : sample;
  int c = (int)a.c, pixels = (int)(a.to_h * a.to_w);
  uint8_t *y = (uint8_t *)a.y.p + frame * pixels * c, *from = y, *to = room.p + blockIdx.x * room.bytes + room.spare;
  if (at < 0 || at >= a.samples)
    return;
  for (const ms_photo_op *op = a.ops + sample * a.nops, *end = op + a.nops; op < end; op++) {
    if (op->kind == MS_PHOTO_KINDS)
      continue;
    if (ms_photo_by_table(op->kind)) {
      by_table(tables, to, from, op, pixels, c);
    } else if (op->kind == MS_PHOTO_color) {
      for (int i = threadIdx.x; i < pixels; i += MS_BLOCK)
        ms_photo_color(to + i * c, from + i * c, c, (float)op->v[0]);
    } else if (op->kind == MS_PHOTO_sharpness) {
      sharpen(to, from, (int)a.to_h, (int)a.to_w, c, (float)op->v[0]);
    } else if (op->taps == 4) {
      move<4>(to, from, a, op, pixels);
    } else {
      move<2>(to, from, a, op, pixels);
    }
    __syncthreads();
    uint8_t *was = from;
    from = to;
    to = was;
  }
  for (int e = threadIdx.x; from != y && e < pixels * c; e += MS_BLOCK)
    y[e] = from[e];
}

static ms_status run(ms_stream *s, const ms_photos_args *a, photo_room room, unsigned blocks) {
  if (a->x.dtype == MS_U8)
    LAUNCH((resize_kernel<uint8_t, int32_t>), dim3(blocks), MS_BLOCK, 0, s->id, *a, room);
  else
    LAUNCH((resize_kernel<float, float>), dim3(blocks), MS_BLOCK, 0, s->id, *a, room);
  MS_TRY(ms_cuda_launched(s, "resize"));
  if (a->nops == 0)
    return MS_OK;
  LAUNCH(change_kernel, dim3(blocks), MS_BLOCK, 0, s->id, *a, room);
  return ms_cuda_launched(s, "change");
}

/* As many frames at a time as fill the device: their rooms serve the next ones. */
ms_status ms_cuda_photos(ms_stream *s, const ms_photos_args *a) {
  int64_t frames = a->n * a->steps;
  if (frames * a->to_h * a->to_w * a->c == 0)
    return MS_OK;
  photo_room room = room_of(a);
  int cores;
  MS_TRY(ms_cuda_enter(s));
  MS_TRY(ms_cuda_check(s, cudaDeviceGetAttribute(&cores, cudaDevAttrMultiProcessorCount, s->device), "cudaDeviceGetAttribute"));
  int64_t most = (int64_t)cores * BLOCKS_OF_A_CORE;
  MS_TRY(ms_cuda_scratch(s, (size_t)((frames < most ? frames : most) * room.bytes), (void **)&room.p));
  for (; room.first < frames; room.first += most)
    MS_TRY(run(s, a, room, (unsigned)(frames - room.first < most ? frames - room.first : most)));
  return MS_OK;
}
