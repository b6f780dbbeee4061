#include "synthetic.h"
#include "hot.h"
#include <math.h>
#include <string.h>

const ms_synthetic ms_synthetic_nmnist = {.width = 34,
                                          .height = 34,
                                          .size = 28,
                                          .x0 = -128,
                                          .y0 = -128,
                                          .path = MS_PATH_SACCADES,
                                          .amplitude = 1792,
                                          .steps = 105,
                                          .loops = 1,
                                          .threshold = 16384,
                                          .phase = 1};
const ms_synthetic ms_synthetic_cifar10dvs = {.width = 128,
                                              .height = 128,
                                              .size = 112,
                                              .x0 = 1488,
                                              .y0 = 2048,
                                              .path = MS_PATH_LOOPS,
                                              .amplitude = 560,
                                              .steps = 50,
                                              .loops = 6,
                                              .threshold = 16384,
                                              .phase = 1};

/* ---- the path ---- */

int ms_synthetic_steps(const ms_synthetic *s) {
  return s->path == MS_PATH_SACCADES ? 3 * s->steps : 4 * s->steps * s->loops;
}

/* Rounded, halves away from zero. */
static int64_t divide(int64_t a, int64_t b) {
  return a < 0 ? -((-a + b / 2) / b) : (a + b / 2) / b;
}

void ms_synthetic_offset(const ms_synthetic *s, int k, int offset[2]) {
  int64_t a = s->amplitude, n = s->steps;
  const int64_t triangle[4][2] = {{0, 0}, {a / 2, a}, {a, 0}, {0, 0}};
  const int64_t rhomb[5][2] = {{0, 0}, {a, -a}, {2 * a, 0}, {a, a}, {0, 0}};
  int saccades = s->path == MS_PATH_SACCADES, segments = saccades ? 3 : 4;
  int64_t segment = (k + n - 1) / n - 1, j = k - segment * n; /* j: 1 to n */
  if (k == 0)
    segment = j = 0;
  const int64_t(*point)[2] = (saccades ? triangle : rhomb) + segment % segments;
  for (int axis = 0; axis < 2; axis++) {
    int64_t from = point[0][axis], to = point[1][axis];
    int64_t part = saccades ? j * j * j * (10 * n * n - 15 * n * j + 6 * j * j) : j;
    offset[axis] = (int)(from + divide((to - from) * part, saccades ? n * n * n * n * n : n));
  }
}

/* ---- what the sensor sees ---- */

void ms_synthetic_brightness(int32_t table[257]) {
  for (int i = 0; i <= 256; i++)
    table[i] = (int32_t)floor(65536 * log(32.0 + i) + 0.5);
}

typedef struct step_event {
  uint16_t t, x, y; /* t: us since the start of the step, 0 to 1000 */
  uint8_t p;
} step_event;

/* Memory of a run, all in one buffer. rows: the image stretched to the sensor's width, each [width], with a black one
** above and two below. */
typedef struct scene {
  const ms_synthetic *s;
  const uint8_t *image;
  int n;
  int32_t table[257];
  int32_t *rows, *now, *light, *reference; /* now: a row's light in this step, light: each pixel's in the step before */
  step_event *pending;                     /* of this step, in the order in which they were emitted */
  int64_t count, room;
} scene;

#define MARGIN 3

/* Place x of the sensor on the image: whole pixel, and 1/256 of the way to the next. */
static void place(const scene *c, int x, int origin, int offset, int64_t *whole, int32_t *part) {
  int64_t scale = ((int64_t)c->n << 16) / c->s->size;
  int64_t u = ((((int64_t)x << 8) + 128 - origin - offset) * scale >> 8) - 32768;
  *whole = u >> 16;
  *part = (int32_t)(u >> 8 & 255);
}

static int32_t pixel(const uint8_t *row, int64_t i, int n) {
  return i >= 0 && i < n ? row[i] : 0;
}

static void stretch_rows(const scene *c, int offset) {
  int width = c->s->width;
  for (int x = 0; x < width; x++) {
    int64_t i;
    int32_t f;
    place(c, x, c->s->x0, offset, &i, &f);
    for (int row = 0; row < c->n; row++) {
      const uint8_t *p = c->image + (size_t)row * (size_t)c->n;
      c->rows[(row + 1) * width + x] = pixel(p, i, c->n) * (256 - f) + pixel(p, i + 1, c->n) * f;
    }
  }
}

/* The two rows of c->rows between which row y of the sensor lies. */
static void rows_at(const scene *c, int y, int offset, const int32_t *rows[2], int32_t *part) {
  int64_t i;
  place(c, y, c->s->y0, offset, &i, part);
  if (i < -1 || i > c->n)
    i = c->n; /* both black */
  rows[0] = c->rows + (i + 1) * c->s->width;
  rows[1] = rows[0] + c->s->width;
}

/* now[x]: the light between a[x] and b[x], f / 256 of the way. */
MS_HOT
static void light_row(int32_t *restrict now, const int32_t *restrict a, const int32_t *restrict b, int32_t f, int n,
                      const int32_t *restrict table) {
  for (int x = 0; x < n; x++) {
    int32_t v = (a[x] * (256 - f) + b[x] * f) >> 8, i = v >> 8;
    now[x] = table[i] + (((table[i + 1] - table[i]) * (v & 255) + 128) >> 8);
  }
}

/* ---- events ---- */

static uint32_t mix(uint32_t h) {
  h ^= h >> 16;
  h *= 0x85EBCA6Bu;
  h ^= h >> 13;
  h *= 0xC2B2AE35u;
  return h ^ h >> 16;
}

static ms_status make_room(ms_buffer *pending, scene *c, int64_t more, ms_error *err) {
  if (c->count + more <= c->room)
    return MS_OK;
  c->room = 2 * (c->count + more);
  ms_status status = ms_buffer_resize(pending, (size_t)c->room * sizeof *c->pending, "synthesize", err);
  c->pending = (step_event *)(void *)pending->p;
  return status;
}

static void emit(scene *c, int32_t t, int x, int y, int p) {
  c->pending[c->count++] = (step_event){(uint16_t)t, (uint16_t)x, (uint16_t)y, (uint8_t)p};
}

/* The light of pixel q goes from a to b, over a threshold. */
static ms_status cross(ms_buffer *pending, scene *c, int q, int x, int y, int32_t a, int32_t b, ms_error *err) {
  int32_t C = (int32_t)c->s->threshold, r = c->reference[q];
  ms_status status = make_room(pending, c, (b > a ? b - a : a - b) / C + 2, err);
  if (status)
    return status;
  if (b > a)
    while (r + C <= b) {
      r += C;
      emit(c, (r - a) * 1000 / (b - a), x, y, 1);
    }
  else
    while (r - C >= b) {
      r -= C;
      emit(c, (a - r) * 1000 / (a - b), x, y, 0);
    }
  c->reference[q] = r;
  return MS_OK;
}

static ms_status noise(ms_buffer *pending, scene *c, int k, int q, int x, int y, uint64_t chance, ms_error *err) {
  uint32_t h = mix(c->s->seed + (uint32_t)k * (uint32_t)(c->s->width * c->s->height) + (uint32_t)q);
  if (h >= chance)
    return MS_OK;
  ms_status status = make_room(pending, c, 1, err);
  uint32_t g = mix(h ^ 0x9E3779B9u);
  if (!status)
    emit(c, (int32_t)((g >> 1) % 1000), x, y, g & 1);
  return status;
}

/* Whether one of n pixels is a threshold away from its reference: most rows of most steps have none. */
MS_HOT
static int any_fires(const int32_t *restrict now, const int32_t *restrict reference, int32_t threshold, int n) {
  int any = 0;
  for (int x = 0; x < n; x++)
    any |= now[x] - reference[x] >= threshold || reference[x] - now[x] >= threshold;
  return any;
}

static ms_status fire(ms_buffer *pending, scene *c, int k, int y, uint64_t chance, ms_error *err) {
  int32_t C = (int32_t)c->s->threshold;
  int q = y * c->s->width;
  ms_status status = MS_OK;
  if (!chance && !any_fires(c->now, c->reference + q, C, c->s->width))
    return MS_OK;
  for (int x = 0; x < c->s->width && !status; x++, q++) {
    int32_t now = c->now[x], r = c->reference[q];
    if (now - r >= C || r - now >= C)
      status = cross(pending, c, q, x, y, c->light[q], now, err);
    if (chance && !status)
      status = noise(pending, c, k, q, x, y, chance, err);
  }
  return status;
}

static ms_status see(ms_buffer *pending, scene *c, int k, ms_error *err) {
  const ms_synthetic *s = c->s;
  int offset[2];
  uint64_t chance = ((uint64_t)s->noise_hz * 1000 << 32) / 1000000;
  ms_synthetic_offset(s, k, offset);
  stretch_rows(c, offset[0]);
  ms_status status = MS_OK;
  for (int y = 0; y < s->height && !status; y++) {
    const int32_t *rows[2];
    int32_t f;
    rows_at(c, y, offset[1], rows, &f);
    light_row(c->now, rows[0], rows[1], f, s->width, c->table);
    if (k > 0)
      status = fire(pending, c, k, y, chance, err);
    memcpy(c->light + y * s->width, c->now, (size_t)s->width * sizeof *c->now);
  }
  return status;
}

static void start(scene *c) {
  const ms_synthetic *s = c->s;
  for (int q = 0; q < s->width * s->height; q++) {
    int64_t within = (int64_t)(mix((s->seed ^ 0x51ED270Bu) + (uint32_t)q) & 0xFFFF) * s->threshold >> 16;
    c->reference[q] = c->light[q] + (s->phase ? (int32_t)(within - (s->threshold >> 1)) : 0);
  }
}

/* Sorts the step's events by time, those of one time as they came, behind those of the steps before. */
static ms_status append(ms_events *out, const scene *c, int k, ms_error *err) {
  int64_t at[1002] = {0}, base = out->n, n = out->n + c->count;
  ms_status status = n <= out->room ? MS_OK : ms_events_reserve(out, 2 * n, "synthesize", err);
  if (status)
    return status;
  for (int64_t i = 0; i < c->count; i++)
    at[c->pending[i].t + 1]++;
  for (int t = 1; t < 1002; t++)
    at[t] += at[t - 1];
  for (int64_t i = 0; i < c->count; i++) {
    const step_event *v = &c->pending[i];
    int64_t to = base + at[v->t]++;
    out->t[to] = (int64_t)(k - 1) * 1000 + v->t;
    out->x[to] = v->x;
    out->y[to] = v->y;
    out->p[to] = v->p;
  }
  out->n = n;
  return MS_OK;
}

static ms_status check(int n, const ms_synthetic *s, ms_error *err) {
  const struct {
    const char *name;
    int64_t value, low, high;
  } range[] = {{"image", n, 1, 4096},
               {"width", s->width, 1, 4096},
               {"height", s->height, 1, 4096},
               {"size", s->size, 1, 8192},
               {"x0", s->x0, -(1 << 20), 1 << 20},
               {"y0", s->y0, -(1 << 20), 1 << 20},
               {"amplitude", s->amplitude, 0, 1 << 16},
               {"steps", s->steps, 1, 500}, /* amplitude * steps^5 stays below 2^63 */
               {"loops", s->loops, 1, 1000},
               {"threshold", s->threshold, 256, 1 << 20},
               {"noise_hz", s->noise_hz, 0, 1000}};
  for (size_t i = 0; i < sizeof range / sizeof *range; i++)
    if (range[i].value < range[i].low || range[i].value > range[i].high)
      return ms_fail(err, MS_ERANGE, "synthesize: %s: expected %lld to %lld, got %lld", range[i].name,
                     (long long)range[i].low, (long long)range[i].high, (long long)range[i].value);
  return MS_OK;
}

ms_status ms_synthesize(ms_events *out, ms_buffer *scratch, const uint8_t *image, int n, const ms_synthetic *s,
                        ms_error *err) {
  ms_buffer pending = {0};
  scene c = {.s = s, .image = image, .n = n};
  out->n = 0;
  ms_status status = check(n, s, err);
  if (status)
    return status;
  size_t pixels = (size_t)s->width * (size_t)s->height, rows = (size_t)(n + MARGIN) * (size_t)s->width;
  if ((status = ms_buffer_resize(scratch, (rows + (size_t)s->width + 2 * pixels) * sizeof *c.rows, "synthesize", err)))
    return status;
  c.rows = (int32_t *)(void *)scratch->p;
  c.now = c.rows + rows;
  c.light = c.now + s->width;
  c.reference = c.light + pixels;
  memset(scratch->p, 0, scratch->bytes);
  ms_synthetic_brightness(c.table);
  out->width = s->width;
  out->height = s->height;
  status = see(&pending, &c, 0, err);
  start(&c);
  for (int k = 1; k <= ms_synthetic_steps(s) && !status; k++) {
    c.count = 0;
    status = see(&pending, &c, k, err);
    if (!status && c.count > 0)
      status = append(out, &c, k, err);
  }
  ms_buffer_free(&pending);
  if (status)
    out->n = 0;
  return status;
}
