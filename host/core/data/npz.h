/* npz: NumPy's zip of arrays, as SpikingJelly caches recordings (t, x, y, p) and frames. Usable in any thread. */
#ifndef MS_NPZ_H
#define MS_NPZ_H

#include "events.h"
#include "npy.h"
#include "picture.h"
#include "zip.h"

#define MS_NPZ_MOST ((uint64_t)1 << 30) /* bytes that the members of one sample may unpack to */

/* The array `name`, or `name`.npy; its input (for ms_npy_read) and the name in it live as long as the member does. */
typedef struct ms_npz_member {
  ms_npy array;
  ms_input in;
  char path[256]; /* "x.npz: t.npy" */
} ms_npz_member;
const ms_zip_entry *ms_npz_find(const ms_zip *z, const char *name);
/* room: ms_zip_room(e) bytes. */
ms_status ms_npz_member_open(ms_npz_member *m, uint8_t *room, const ms_zip *z, const ms_zip_entry *e, ms_error *err);

/* Members t, x, y, p of equal length and of any integer type. width, height 0: as large as the events need.
** MS_LENIENT drops events outside of the sensor or with p other than 0 and 1, and raises clocks that run backwards.
** MS_ORACLE is SpikingJelly's integration: t as it is, any p but 0 is ON, the pixel is number y * width + x. */
ms_status ms_npz_events(ms_events *out, ms_buffer *scratch, const ms_input *in, int width, int height, ms_error *err);
/* Member frames [T, C, H, W]: MS_U8 of bool and u1, else MS_F32, whatever the values: resizing rounds bytes. */
ms_status ms_npz_frames(ms_picture *out, ms_buffer *scratch, const ms_input *in, ms_error *err);

/* Such a file: *out is {0} before and a whole archive afterwards, to be freed by ms_buffer_free. */
ms_status ms_npz_events_write(ms_buffer *out, const ms_events *e, const char *op, ms_error *err);

#endif
