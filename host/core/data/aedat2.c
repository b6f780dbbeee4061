#include "aedat2.h"
#include "bytes.h"
#include "hot.h"
#include <string.h>

#define SPECIAL 0x80008000u /* bit 15: a sync signal; bit 31: not a change of brightness */
#define NO_PIXEL 0xffff8000u

static const char magic[] = "#!AER-DAT2.";
static const char header[] = "#!AER-DAT2.0\r\n# Timestamps tick is 1 us\r\n";

/* Where the records begin. */
static ms_status skip_header(size_t *at, const ms_input *in, ms_error *err) {
  size_t n = sizeof magic - 1;
  const char *other = ms_looks_like(in->p, in->n);
  *at = 0;
  if (in->n < n || memcmp(in->p, magic, n) != 0)
    return ms_damaged(in, 0, -1, err, "expected %s at the beginning of AEDAT 2.0%s%s", magic,
                      other ? ", got " : " (without it, version 1 with records of 6 bytes, which is not read)",
                      other ? other : "");
  while (*at < in->n && in->p[*at] == '#') {
    const uint8_t *end = memchr(in->p + *at, '\n', in->n - *at);
    if (!end)
      return ms_damaged(in, (int64_t)*at, -1, err, "the last line of the header does not end");
    *at = (size_t)(end - in->p) + 1;
  }
  return MS_OK;
}

/* Bits of the address that give x and y, then what turns the axis round. */
typedef struct axes {
  int x, flip_x, y, flip_y;
} axes;
static const axes layouts[] = {[MS_LAYOUT_SJ] = {8, 127, 1, 127},
                               [MS_LAYOUT_JAER] = {1, 127, 8, 127},
                               [MS_LAYOUT_ETF] = {1, 127, 8, 0},
                               [MS_LAYOUT_TRT] = {8, 0, 1, 127}};

typedef struct wound {
  uint32_t counter; /* of the record before */
  int64_t t;        /* unwrapped */
} wound;

enum { CHUNK = 256 };

/* CHUNK records at once, where nothing about them is odd; 0: they have to be looked at one by one. Twice as fast as that,
** since all but the sum of the clock is vectors. */
MS_HOT static int decode_plain(ms_sink *s, wound *clock, const uint8_t *r, axes l) {
  uint32_t address[CHUNK], counter[CHUNK], seen = 0, before = clock->counter;
  int32_t backwards = 0;
  int64_t t = clock->t, *times = s->t + s->n;
  uint16_t *x = s->x + s->n, *y = s->y + s->n;
  uint8_t *p = s->p + s->n;
  for (int i = 0; i < CHUNK; i++) {
    address[i] = ms_be32(r + 8 * i);
    counter[i] = ms_be32(r + 8 * i + 4);
    seen |= address[i];
  }
  if (seen & NO_PIXEL)
    return 0;
  for (int i = 0; i < CHUNK; i++) {
    int32_t rise = (int32_t)(counter[i] - before);
    before = counter[i];
    backwards |= rise;
    times[i] = t += rise;
  }
  if (backwards < 0 || times[0] < s->last || times[0] < s->start || t >= s->end)
    return 0;
  for (int i = 0; i < CHUNK; i++)
    x[i] = (uint16_t)((address[i] >> l.x & 127) ^ (unsigned)l.flip_x);
  for (int i = 0; i < CHUNK; i++)
    y[i] = (uint16_t)((address[i] >> l.y & 127) ^ (unsigned)l.flip_y);
  for (int i = 0; i < CHUNK; i++)
    p[i] = !(address[i] & 1);
  s->n += CHUNK;
  s->last = t;
  *clock = (wound){before, t};
  return 1;
}

static ms_status decode(ms_sink *s, size_t at, size_t n, axes l, ms_error *err) {
  const ms_input *in = s->in;
  const int oracle = in->policy == MS_ORACLE, plain = !oracle && s->width >= 128 && s->height >= 128;
  ms_sink own = *s;
  wound clock = {0, 0};
  int64_t special = 0;
  for (size_t i = 0; i < n; i++) {
    const uint8_t *r = in->p + at + 8 * i;
    if (plain && i % CHUNK == 1 && n - i >= CHUNK && decode_plain(&own, &clock, r, l)) {
      i += CHUNK - 1;
      continue;
    }
    uint32_t a = ms_be32(r), now = ms_be32(r + 4);
    clock.t = i == 0 || oracle ? (int64_t)now : clock.t + (int32_t)(now - clock.counter);
    clock.counter = now;
    if ((a & NO_PIXEL) && !oracle) {
      if (a & SPECIAL)
        special++;
      else if (in->policy == MS_LENIENT)
        own.outside++;
      else
        return ms_damaged(in, (int64_t)(at + 8 * i), (int64_t)i, err,
                          "address 0x%08x, which a DVS128 does not have (a DAVIS?)", (unsigned)a);
      continue;
    }
    ms_status status = ms_sink_add(&own, clock.t, (int)(a >> l.x & 127) ^ l.flip_x, (int)(a >> l.y & 127) ^ l.flip_y,
                                   !(a & 1), (int64_t)(at + 8 * i), (int64_t)i, err);
    if (status)
      return status;
  }
  *s = own;
  ms_repaired(in, MS_REPAIR_SPECIAL, special);
  return MS_OK;
}

ms_status ms_aedat2_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err) {
  ms_sink s;
  size_t at;
  ms_sink_open(&s, out, in, opt, 128, 128);
  ms_status status = skip_header(&at, in, err);
  if (status)
    return status;
  size_t n = (in->n - at) / 8, rest = (in->n - at) % 8;
  if (rest && in->policy != MS_LENIENT)
    return ms_damaged(in, (int64_t)(at + 8 * n), (int64_t)n, err, "%zu bytes are no record of 8", rest);
  ms_repaired(in, MS_REPAIR_TRUNCATED, (int64_t)rest);
  if ((status = ms_sink_room(&s, (int64_t)n, err)) || (status = decode(&s, at, n, layouts[opt->layout], err)))
    return status;
  return ms_sink_close(&s, err);
}

ms_status ms_aedat2_encode(ms_buffer *out, const ms_events *e, ms_error *err) {
  static const char op[] = "aedat2";
  size_t at = sizeof header - 1, bytes;
  if (__builtin_mul_overflow((size_t)e->n, 8, &bytes) || __builtin_add_overflow(bytes, at, &bytes))
    return ms_fail(err, MS_ERANGE, "%s: %lld events are too many", op, (long long)e->n);
  ms_status status = ms_buffer_resize(out, bytes, op, err);
  if (status)
    return status;
  memcpy(out->p, header, at);
  for (int64_t i = 0, before = 0; i < e->n; before = e->t[i++]) {
    int64_t rise = e->t[i] - before;
    if (e->x[i] > 127 || e->y[i] > 127 || e->p[i] > 1)
      return ms_fail(err, MS_ERANGE, "%s: event %lld: expected x, y from 0 to 127 and p 0 or 1, got (%d, %d), %d", op,
                     (long long)i, e->x[i], e->y[i], e->p[i]);
    if (rise < 0 || rise > (i > 0 ? INT32_MAX : UINT32_MAX))
      return ms_fail(err, MS_ERANGE, "%s: event %lld: expected a time after %lld that 32 bits can tell, got %lld", op,
                     (long long)i, (long long)before, (long long)e->t[i]);
    uint32_t a = (uint32_t)(127 - e->x[i]) << 8 | (uint32_t)(127 - e->y[i]) << 1 | (uint32_t)(1 - e->p[i]);
    uint32_t word[2] = {__builtin_bswap32(a), __builtin_bswap32((uint32_t)e->t[i])};
    memcpy(out->p + at + 8 * (size_t)i, word, sizeof word);
  }
  return MS_OK;
}
