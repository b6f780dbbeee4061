#include "json.h"
#include "tensor.h"
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

const char ms_json_no_memory[] = "out of memory";

enum { VALUE, VALUE_OR_END, KEY, KEY_OR_END, AFTER };

void ms_json_init(ms_json *r, const char *text, size_t length) {
  memset(r, 0, sizeof *r);
  r->text = text;
  r->length = length;
}

void ms_json_free(ms_json *r) {
  ms_free(r->string);
  r->string = NULL;
  r->capacity = 0;
}

size_t ms_utf8_next(const char *text, size_t n) {
  const unsigned char *s = (const unsigned char *)text;
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (n == 0)
    return 0;
  if (s[0] < 0x80)
    return 1;
  size_t length = s[0] >= 0xf0 && s[0] < 0xf8   ? 4
                  : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                  : s[0] >= 0xc0 && s[0] < 0xe0 ? 2
                                                : 0;
  if (length == 0 || length > n)
    return 0;
  uint32_t code = s[0] & (0x7fu >> length);
  for (size_t i = 1; i < length; i++) {
    if ((s[i] & 0xc0) != 0x80)
      return 0;
    code = code << 6 | (s[i] & 0x3fu);
  }
  if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
    return 0;
  return length;
}

int ms_utf8_valid(const char *s, size_t n) {
  while (n > 0) {
    size_t step = ms_utf8_next(s, n);
    if (step == 0)
      return 0;
    s += step;
    n -= step;
  }
  return 1;
}

size_t ms_json_quote(char *out, const char *s, size_t n) {
  static const char hex[] = "0123456789abcdef";
  static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
  char *o = out;
  *o++ = '"';
  for (size_t i = 0; i < n; i++) {
    const char *special = s[i] ? strchr(plain, s[i]) : NULL;
    if (special) {
      *o++ = '\\';
      *o++ = letter[special - plain];
    } else if ((unsigned char)s[i] < 0x20) {
      memcpy(o, "\\u00", 4);
      o[4] = hex[s[i] >> 4];
      o[5] = hex[s[i] & 15];
      o += 6;
    } else {
      *o++ = s[i];
    }
  }
  *o++ = '"';
  return (size_t)(o - out);
}

static ms_json_event fail(ms_json *r, const char *what) {
  r->error = what;
  return MS_JSON_ERROR;
}

static int peek(const ms_json *r) {
  return r->at < r->length ? (unsigned char)r->text[r->at] : -1;
}

static int digit(const ms_json *r) {
  int c = peek(r);
  return c >= '0' && c <= '9';
}

static int reserve(ms_json *r, size_t n) {
  if (n <= r->capacity)
    return 1;
  char *s = ms_alloc(n + n / 2);
  if (!s)
    return 0;
  ms_free(r->string);
  r->string = s;
  r->capacity = n + n / 2;
  return 1;
}

/* Four hex digits at r->at, -1 where they are not. */
static int32_t hex4(ms_json *r) {
  int32_t v = 0;
  for (int i = 0; i < 4; i++) {
    int c = peek(r), h = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    if (c < 0 || h < 0)
      return -1;
    v = v << 4 | h;
    r->at++;
  }
  return v;
}

static char *put_utf8(char *o, uint32_t code) {
  if (code < 0x80) {
    *o++ = (char)code;
    return o;
  }
  int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  *o++ = (char)((0xff00u >> (more + 1)) | code >> (6 * more));
  while (more-- > 0)
    *o++ = (char)(0x80u | (code >> (6 * more) & 0x3fu));
  return o;
}

/* The escape behind a backslash, decoded to *o; NULL where it is none. */
static char *escape(ms_json *r, char *o) {
  static const char letter[] = "\"\\/bfnrt", plain[] = "\"\\/\b\f\n\r\t";
  int c = peek(r);
  r->at++;
  if (c == 'u') {
    int32_t code = hex4(r);
    if (code >= 0xd800 && code < 0xdc00) { /* first half of a pair */
      if (r->at + 2 > r->length || r->text[r->at] != '\\' || r->text[r->at + 1] != 'u')
        return NULL;
      r->at += 2;
      int32_t low = hex4(r);
      if (low < 0xdc00 || low >= 0xe000)
        return NULL;
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code < 0 || (code >= 0xdc00 && code < 0xe000)) {
      return NULL;
    }
    return put_utf8(o, (uint32_t)code);
  }
  const char *at = c > 0 ? strchr(letter, c) : NULL;
  if (!at)
    return NULL;
  *o++ = plain[at - letter];
  return o;
}

static ms_json_event read_string(ms_json *r, ms_json_event event) {
  size_t end = ++r->at;
  while (end < r->length && r->text[end] != '"')
    end += r->text[end] == '\\' ? 2 : 1;
  if (end >= r->length)
    return fail(r, "string without an end");
  if (!reserve(r, end - r->at + 1)) /* decoded text is never longer than its source */
    return fail(r, ms_json_no_memory);
  char *o = r->string;
  while (r->at < end) {
    unsigned char c = (unsigned char)r->text[r->at];
    if (c == '\\') {
      r->at++;
      o = escape(r, o);
      if (!o)
        return fail(r, "invalid escape in a string");
    } else {
      size_t n = ms_utf8_next(r->text + r->at, end - r->at);
      if (c < 0x20 || n == 0)
        return fail(r, c < 0x20 ? "control character in a string" : "invalid UTF-8 in a string");
      memcpy(o, r->text + r->at, n);
      o += n;
      r->at += n;
    }
  }
  *o = 0;
  r->string_length = (size_t)(o - r->string);
  r->at = end + 1;
  return event;
}

static ms_json_event read_number(ms_json *r) {
  size_t start = r->at;
  int integer = 1;
  if (peek(r) == '-')
    r->at++;
  if (!digit(r))
    return fail(r, "invalid value");
  if (peek(r) == '0')
    r->at++;
  else
    while (digit(r))
      r->at++;
  if (digit(r))
    return fail(r, "number with a leading zero");
  if (peek(r) == '.') {
    integer = 0;
    r->at++;
    if (!digit(r))
      return fail(r, "expected a digit behind the point");
    while (digit(r))
      r->at++;
  }
  if (peek(r) == 'e' || peek(r) == 'E') {
    integer = 0;
    r->at++;
    if (peek(r) == '+' || peek(r) == '-')
      r->at++;
    if (!digit(r))
      return fail(r, "expected a digit in the exponent");
    while (digit(r))
      r->at++;
  }
  size_t n = r->at - start;
  if (!reserve(r, n + 1))
    return fail(r, ms_json_no_memory);
  memcpy(r->string, r->text + start, n);
  r->string[n] = 0;
  errno = 0;
  if (integer) {
    r->integer = strtoll(r->string, NULL, 10);
    if (errno == 0)
      return MS_JSON_INTEGER;
  }
  char *point = strchr(r->string, '.');
  if (point)
    *point = localeconv()->decimal_point[0]; /* strtod follows the locale, JSON does not */
  r->real = strtod(r->string, NULL);
  if (r->real - r->real != 0) {
    r->at = start;
    return fail(r, "number out of range");
  }
  return MS_JSON_REAL;
}

static ms_json_event read_word(ms_json *r, const char *word, ms_json_event event) {
  size_t n = strlen(word);
  if (r->length - r->at < n || memcmp(r->text + r->at, word, n) != 0)
    return fail(r, "invalid value");
  r->at += n;
  return event;
}

static ms_json_event open_bracket(ms_json *r, int object) {
  if (r->depth == MS_JSON_DEPTH)
    return fail(r, "nested too deep");
  r->at++;
  r->object[r->depth++] = (uint8_t)object;
  r->state = object ? KEY_OR_END : VALUE_OR_END;
  return object ? MS_JSON_OBJECT : MS_JSON_ARRAY;
}

static ms_json_event close_bracket(ms_json *r) {
  r->at++;
  r->state = AFTER;
  return r->object[--r->depth] ? MS_JSON_OBJECT_END : MS_JSON_ARRAY_END;
}

static ms_json_event read_value(ms_json *r) {
  r->state = AFTER;
  switch (peek(r)) {
  case '{':
    return open_bracket(r, 1);
  case '[':
    return open_bracket(r, 0);
  case '"':
    return read_string(r, MS_JSON_STRING);
  case 'n':
    return read_word(r, "null", MS_JSON_NULL);
  case 't':
    return read_word(r, "true", MS_JSON_TRUE);
  case 'f':
    return read_word(r, "false", MS_JSON_FALSE);
  case -1:
    return fail(r, "text ends too early");
  default:
    return read_number(r);
  }
}

static void skip_space(ms_json *r) {
  while (r->at < r->length && memchr(" \t\n\r", r->text[r->at], 4))
    r->at++;
}

static ms_json_event read_key(ms_json *r) {
  if (peek(r) != '"')
    return fail(r, peek(r) < 0 ? "text ends too early" : "expected a key in quotes");
  ms_json_event event = read_string(r, MS_JSON_KEY);
  if (event == MS_JSON_ERROR)
    return event;
  skip_space(r);
  if (peek(r) != ':')
    return fail(r, "expected ':' behind a key");
  r->at++;
  r->state = VALUE;
  return event;
}

ms_json_event ms_json_next(ms_json *r) {
  if (r->error)
    return MS_JSON_ERROR;
  skip_space(r);
  int object = r->depth > 0 && r->object[r->depth - 1], close = object ? '}' : ']';
  if (r->state == AFTER) {
    if (r->depth == 0)
      return r->at == r->length ? MS_JSON_END : fail(r, "more text behind the value");
    if (peek(r) == close)
      return close_bracket(r);
    if (peek(r) != ',')
      return fail(r, peek(r) < 0 ? "text ends too early" : object ? "expected ',' or '}'" : "expected ',' or ']'");
    r->at++;
    skip_space(r);
    r->state = object ? KEY : VALUE;
  } else if ((r->state == KEY_OR_END || r->state == VALUE_OR_END) && peek(r) == close) {
    return close_bracket(r);
  }
  return r->state == KEY || r->state == KEY_OR_END ? read_key(r) : read_value(r);
}
