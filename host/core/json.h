/* A strict reader of JSON (RFC 8259), one event at a time: no tree, no recursion, exact 64-bit integers, checked UTF-8.
** Own code because the common small libraries read integers as doubles and cut strings at \u0000; both lose data here.
*/
#ifndef MS_JSON_H
#define MS_JSON_H

#include <stddef.h>
#include <stdint.h>

#define MS_JSON_DEPTH 128

typedef enum ms_json_event {
  MS_JSON_ERROR, /* r->error says what; final */
  MS_JSON_END,
  MS_JSON_NULL,
  MS_JSON_FALSE,
  MS_JSON_TRUE,
  MS_JSON_INTEGER, /* r->integer; integers beyond 64 bits come as MS_JSON_REAL */
  MS_JSON_REAL,    /* r->real, finite */
  MS_JSON_STRING,  /* r->string, r->string_length */
  MS_JSON_KEY,     /* likewise; its value follows */
  MS_JSON_ARRAY,
  MS_JSON_ARRAY_END,
  MS_JSON_OBJECT,
  MS_JSON_OBJECT_END
} ms_json_event;

typedef struct ms_json {
  const char *text; /* borrowed */
  size_t length, at;
  int state, depth;
  uint8_t object[MS_JSON_DEPTH]; /* of each open bracket: 1 for an object */
  char *string;                  /* decoded, ends in NUL, valid until the next event; owned */
  size_t string_length, capacity;
  int64_t integer;
  double real;
  const char *error; /* static; found at byte r->at; ms_json_no_memory where that was the reason */
} ms_json;

extern const char ms_json_no_memory[];

void ms_json_init(ms_json *r, const char *text, size_t length);
ms_json_event ms_json_next(ms_json *r);
void ms_json_free(ms_json *r); /* twice is fine */

/* Bytes of the valid UTF-8 sequence at s, 0 where it is not one (overlong, surrogate, cut). */
size_t ms_utf8_next(const char *s, size_t n);
int ms_utf8_valid(const char *s, size_t n);

/* Writes the n bytes of s as a quoted JSON string into out (6 * n + 2 bytes at most); returns the bytes written. */
size_t ms_json_quote(char *out, const char *s, size_t n);

#endif
