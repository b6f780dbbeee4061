#include "arrays.h"
#include "../file.h"
#include "npz.h"
#include <stdio.h>
#include <string.h>

static ms_status to_tensor(ms_tensor **out, const ms_npy *a, const ms_input *in, ms_error *err) {
  ms_data data;
  ms_tensor *t = NULL;
  ms_status status = ms_tensor_new(&t, ms_device_cpu(), ms_npy_dtype(a), a->ndim, a->size, err);
  if (!status)
    status = ms_data_of(&data, t, err);
  if (!status)
    status = ms_npy_read(data.p, t->dtype, t->stride, a, in, err);
  if (status)
    ms_release(t);
  else
    *out = t;
  return status;
}

ms_status ms_npy_tensor(ms_tensor **out, const char *path, ms_error *err) {
  ms_buffer b = {0};
  ms_npy a;
  *out = NULL;
  ms_status status = ms_file_read(&b, "read_npy", path, PTRDIFF_MAX, err);
  ms_input in = {.op = "read_npy", .path = path, .p = b.p, .n = b.bytes};
  if (!status)
    status = ms_npy_open(&a, &in, err);
  if (!status)
    status = to_tensor(out, &a, &in, err);
  ms_buffer_free(&b);
  return status;
}

/* ---- npz ---- */

struct ms_npz_file {
  char *path;
  ms_buffer bytes, scratch;
  ms_input in;
  ms_zip zip;
};

static ms_status check_size(const ms_zip *z, uint64_t most, ms_error *err) {
  uint64_t bytes = 0;
  for (int64_t i = 0; i < z->count; i++)
    bytes += z->entries[i].bytes; /* members share no bytes, so this is at most 1032 times the file */
  if (bytes <= most)
    return MS_OK;
  return ms_fail(err, MS_EFORMAT, "%s: %.400s: expected at most %llu bytes unpacked, got %llu", z->in->op, z->in->path,
                 (unsigned long long)most, (unsigned long long)bytes);
}

ms_status ms_npz_file_open(ms_npz_file **out, const char *path, uint64_t most, ms_error *err) {
  ms_npz_file *f = ms_alloc(sizeof *f);
  *out = NULL;
  if (f)
    f->path = ms_alloc(strlen(path) + 1);
  if (!f || !f->path) {
    ms_free(f);
    return ms_fail(err, MS_EMEM, "read_npz: %.400s: out of memory", path);
  }
  strcpy(f->path, path);
  ms_status status = ms_file_read(&f->bytes, "read_npz", path, PTRDIFF_MAX, err);
  f->in = (ms_input){.op = "read_npz", .path = f->path, .p = f->bytes.p, .n = f->bytes.bytes};
  if (!status)
    status = ms_zip_open(&f->zip, &f->in, err);
  if (!status)
    status = check_size(&f->zip, most, err);
  if (status)
    ms_npz_file_close(f);
  else
    *out = f;
  return status;
}

void ms_npz_file_close(ms_npz_file *f) {
  if (!f)
    return;
  ms_zip_close(&f->zip);
  ms_buffer_free(&f->bytes);
  ms_buffer_free(&f->scratch);
  ms_free(f->path);
  ms_free(f);
}

int64_t ms_npz_file_count(const ms_npz_file *f) {
  return f->zip.count;
}

const char *ms_npz_file_name(const ms_npz_file *f, int64_t i, size_t *bytes) {
  const ms_zip_entry *e = &f->zip.entries[i];
  int suffix = e->name_bytes > 4 && memcmp(e->name + e->name_bytes - 4, ".npy", 4) == 0;
  *bytes = e->name_bytes - (suffix ? 4 : 0);
  return e->name;
}

ms_status ms_npz_file_tensor(ms_tensor **out, ms_npz_file *f, int64_t i, ms_error *err) {
  const ms_zip_entry *e = &f->zip.entries[i];
  ms_npz_member m;
  *out = NULL;
  ms_status status = ms_buffer_resize(&f->scratch, ms_zip_room(e), f->in.op, err);
  if (!status)
    status = ms_npz_member_open(&m, f->scratch.p, &f->zip, e, err);
  return status ? status : to_tensor(out, &m.array, &m.in, err);
}

/* ---- writing ---- */

/* Values in logical order: ms_free. */
static ms_status values(void **out, size_t *bytes, const char **descr, ms_tensor *t, ms_error *err) {
  ms_tensor *real = NULL;
  ms_status status = MS_OK;
  if (t->dtype == MS_BF16 || t->dtype == MS_SPIKE)
    status = ms_dense(&real, t, MS_F32, err);
  else
    real = ms_retain(t);
  if (status)
    return status;
  *descr = t->dtype == MS_U8 ? "|u1" : t->dtype == MS_I64 ? "<i8" : sizeof(ms_real) == 8 ? "<f8" : "<f4";
  *bytes = (size_t)ms_numel(real) * ms_dtype_size(real->dtype);
  *out = ms_alloc(*bytes + 1);
  status = *out ? ms_read(real, *out, err) : ms_fail(err, MS_EMEM, "write_npz: out of memory for %zu bytes", *bytes);
  ms_release(real);
  return status;
}

static ms_status add_tensor(ms_zip_out *z, const char *name, ms_tensor *t, ms_error *err) {
  const char *descr;
  size_t bytes, room = strlen(name) + 5;
  void *data = NULL;
  ms_buffer head = {0};
  char *member = ms_alloc(room);
  ms_status status = member ? MS_OK : ms_fail(err, MS_EMEM, "write_npz: out of memory");
  if (!status)
    status = values(&data, &bytes, &descr, t, err);
  if (!status)
    status = ms_npy_header(&head, descr, t->ndim, t->size, "write_npz", err);
  if (!status) {
    snprintf(member, room, "%s.npy", name);
    status = ms_zip_add(z, member, head.p, head.bytes, data, bytes, "write_npz", err);
  }
  ms_buffer_free(&head);
  ms_free(data);
  ms_free(member);
  return status;
}

ms_status ms_npz_file_write(const char *path, int n, const char *const *names, ms_tensor *const *tensors,
                            ms_error *err) {
  ms_zip_out z = {0};
  ms_file f;
  ms_status status = ms_file_begin(&f, "write_npz", path, err);
  if (status)
    return status;
  for (int i = 0; i < n && !status; i++)
    status = add_tensor(&z, names[i], tensors[i], err);
  if (!status)
    status = ms_zip_finish(&z, "write_npz", err);
  if (!status)
    status = ms_file_append(&f, z.archive.p, z.archive.bytes, err);
  if (!status)
    status = ms_file_commit(&f, err);
  ms_file_abort(&f);
  ms_zip_out_free(&z);
  return status;
}
