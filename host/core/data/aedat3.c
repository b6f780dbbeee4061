#include "aedat3.h"
#include "bytes.h"
#include <string.h>

#define HEAD 28 /* bytes of a packet's header */
#define POLARITY 1

static int starts(const uint8_t *p, size_t n, const char *text) {
  size_t length = strlen(text);
  return n >= length && memcmp(p, text, length) == 0;
}

/* Where the packets begin, and the minor version: 0 or 1. */
static ms_status skip_header(size_t *at, int *minor, const ms_input *in, ms_error *err) {
  static const char magic[] = "#!AER-DAT3.", last[] = "#!END-HEADER\r\n", raw[] = "#Format: RAW";
  const char *other = ms_looks_like(in->p, in->n);
  size_t n = sizeof magic - 1;
  *at = 0;
  if (!starts(in->p, in->n, magic))
    return ms_damaged(in, 0, -1, err, "expected %s at the beginning of AEDAT 3%s%s", magic, other ? ", got " : "",
                      other ? other : "");
  if (in->n == n || (in->p[n] != '0' && in->p[n] != '1'))
    return ms_damaged(in, (int64_t)n, -1, err, "expected AEDAT 3.0 or 3.1");
  *minor = in->p[n] - '0';
  for (int ended = 0; !ended;) {
    const uint8_t *line = in->p + *at, *end = *at < in->n ? memchr(line, '\n', in->n - *at) : NULL;
    size_t length = end ? (size_t)(end - line) + 1 : 0;
    if (!end || line[0] != '#')
      return ms_damaged(in, (int64_t)*at, -1, err, "the header does not end with #!END-HEADER");
    if (starts(line, length, "#Format:") && !starts(line, length, raw))
      return ms_damaged(in, (int64_t)*at, -1, err, "only '%s' is read, not compressed packets", raw);
    ended = length == sizeof last - 1 && starts(line, length, last);
    *at += length;
  }
  return MS_OK;
}

typedef struct packet {
  int type, offset;
  int32_t size, overflow, capacity, number, valid; /* size: bytes of an event */
} packet;

static ms_status read_packet(packet *k, const ms_input *in, size_t at, ms_error *err) {
  const uint8_t *p = in->p + at;
  *k = (packet){.type = (int16_t)ms_le16(p),
                .size = (int32_t)ms_le32(p + 4),
                .offset = (int32_t)ms_le32(p + 8),
                .overflow = (int32_t)ms_le32(p + 12),
                .capacity = (int32_t)ms_le32(p + 16),
                .number = (int32_t)ms_le32(p + 20),
                .valid = (int32_t)ms_le32(p + 24)};
  if (k->type < 0)
    return ms_damaged(in, (int64_t)at, -1, err, "a compressed packet, which is not read");
  if (k->size < 0 || k->capacity < 0 || k->number < 0 || k->number > k->capacity || k->valid < 0 ||
      k->valid > k->number || k->overflow < 0)
    return ms_damaged(in, (int64_t)at, -1, err,
                      "an impossible packet: %d bytes an event, room for %d, %d events, %d valid", k->size, k->capacity,
                      k->number, k->valid);
  if (k->type == POLARITY && (k->size != 8 || k->offset != 4))
    return ms_damaged(in, (int64_t)at, -1, err, "expected polarity events of 8 bytes with the time at 4, got %d and %d",
                      k->size, k->offset);
  return MS_OK;
}

/* n events at `at`, of which the first is number `record` of the file. */
static ms_status decode(ms_sink *s, const packet *k, size_t at, int64_t n, int minor, int64_t record, ms_error *err) {
  const ms_input *in = s->in;
  const int oracle = in->policy == MS_ORACLE, xs = minor ? 17 : 18, ys = minor ? 2 : 4;
  const uint32_t mask = minor ? 0x7fff : 0x3fff;
  int64_t invalid = 0, past = (int64_t)k->overflow << 31;
  ms_status status = ms_sink_room(s, n, err);
  ms_sink own = *s;
  for (int64_t i = 0; i < n && !status; i++) {
    const uint8_t *r = in->p + at + 8 * i;
    uint32_t a = ms_le32(r), bits = ms_le32(r + 4);
    int64_t t = oracle ? past | bits : past + (int32_t)bits;
    if (!(a & 1) && !oracle)
      invalid++;
    else if (bits >> 31 && in->policy == MS_STRICT)
      status = ms_damaged(in, (int64_t)at + 8 * i, record + i, err, "a negative time");
    else
      status = ms_sink_add(&own, t, a >> xs & mask, a >> ys & mask, a >> 1 & 1, (int64_t)at + 8 * i, record + i, err);
  }
  *s = own;
  ms_repaired(in, MS_REPAIR_INVALID, invalid);
  return status;
}

/* Does a packet end before the window? By its last event alone. */
static int passed(ms_sink *s, const packet *k, size_t at) {
  if (k->number == 0 || s->in->policy == MS_ORACLE)
    return 0;
  int64_t t = ((int64_t)k->overflow << 31) + (int32_t)ms_le32(s->in->p + at + 8 * ((size_t)k->number - 1) + 4);
  if (t < s->last || t >= s->start)
    return 0;
  s->last = t;
  return 1;
}

ms_status ms_aedat3_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err) {
  ms_sink s;
  size_t at;
  int minor = 0;
  int64_t record = 0;
  ms_sink_open(&s, out, in, opt, 128, 128);
  ms_status status = skip_header(&at, &minor, in, err);
  while (!status && at < in->n && (s.last < s.end || in->policy == MS_ORACLE)) {
    packet k;
    size_t left = in->n - at, bytes;
    if (left < HEAD) {
      if (in->policy != MS_LENIENT)
        return ms_damaged(in, (int64_t)at, -1, err, "%zu bytes are no header of a packet", left);
      ms_repaired(in, MS_REPAIR_TRUNCATED, (int64_t)left);
      break;
    }
    if ((status = read_packet(&k, in, at, err)))
      break;
    left -= HEAD;
    bytes = (size_t)k.capacity * (size_t)k.size;
    if (bytes > left && in->policy != MS_LENIENT)
      return ms_damaged(in, (int64_t)at, -1, err, "a packet of %zu bytes, of which the file holds %zu", bytes, left);
    int64_t n = in->policy == MS_ORACLE ? k.capacity : k.number;
    if (bytes > left) {
      bytes = left;
      n = n < (int64_t)(left / 8) ? n : (int64_t)(left / 8);
      ms_repaired(in, MS_REPAIR_TRUNCATED, (int64_t)left - (k.type == POLARITY ? 8 * n : 0));
    }
    at += HEAD;
    if (k.type == POLARITY) {
      if (bytes < 8 * (size_t)k.number || !passed(&s, &k, at))
        status = decode(&s, &k, at, n, minor, record, err);
      record += n;
    }
    at += bytes;
  }
  return status ? status : ms_sink_close(&s, err);
}
