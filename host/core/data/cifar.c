#include "cifar.h"
#include "tar.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define OP "read_cifar"
#define PIXELS 1024
#define MEMBERS 7
#define MOST ((int64_t)1 << 30) /* bytes of an archive, unpacked; the official ones have 184 million */

/* One of the two sets as it is published. */
typedef struct edition {
  const char *name, *folder, *archive, *md5, *python;
  int64_t bytes; /* of the archive */
  int label_bytes, classes;
  struct {
    const char *file;
    int train;       /* 1, 0: records of this part; 2, 3: names, of classes and coarse classes */
    int64_t records; /* at most */
  } member[MEMBERS];
} edition;

static const edition editions[] = {
    {"CIFAR-10",
     "cifar-10-batches-bin",
     "cifar-10-binary.tar.gz",
     "c32a1d4ab5d03f1284b67883e8d87530",
     "cifar-10-batches-py",
     170052171,
     1,
     10,
     {{"data_batch_1.bin", 1, 10000},
      {"data_batch_2.bin", 1, 10000},
      {"data_batch_3.bin", 1, 10000},
      {"data_batch_4.bin", 1, 10000},
      {"data_batch_5.bin", 1, 10000},
      {"test_batch.bin", 0, 10000},
      {"batches.meta.txt", 2, 0}}},
    {"CIFAR-100",
     "cifar-100-binary",
     "cifar-100-binary.tar.gz",
     "03b5dce01913d631647c71ecec9e9cb8",
     "cifar-100-python",
     168513733,
     2,
     100,
     {{"train.bin", 1, 50000},
      {"test.bin", 0, 10000},
      {"fine_label_names.txt", 2, 0},
      {"coarse_label_names.txt", 3, 0}}},
};

/* The members' bytes, while they are gathered. */
typedef struct gathering {
  const edition *e;
  const ms_cifar_source *source;
  ms_cifar *out;
  ms_buffer bytes[MEMBERS];
  int there[MEMBERS];
} gathering;

static int wanted(const gathering *g, int k) {
  return g->e->member[k].file && (g->e->member[k].train > 1 || g->e->member[k].train == g->source->train);
}

/* ---- gathering ---- */

static int64_t most_bytes(const gathering *g, int k) {
  int64_t records = g->e->member[k].records;
  return records ? records * (3 * PIXELS + g->e->label_bytes) : 65536;
}

static ms_status too_long(const gathering *g, int k, const char *path, int64_t bytes, ms_error *err) {
  return ms_fail(err, MS_EFORMAT, "%s: %.300s: %s: expected at most %lld bytes, as in %s, got %lld", OP, path,
                 g->e->member[k].file, (long long)most_bytes(g, k), g->e->name, (long long)bytes);
}

static ms_status from_folder(gathering *g, ms_error *err) {
  for (int k = 0; k < MEMBERS; k++) {
    char path[600];
    struct stat st;
    if (!wanted(g, k))
      continue;
    snprintf(path, sizeof path, "%s/%s", g->out->path, g->e->member[k].file);
    if (stat(path, &st))
      continue;
    if (S_ISREG(st.st_mode) && st.st_size > most_bytes(g, k))
      return too_long(g, k, g->out->path, st.st_size, err);
    ms_status status = ms_file_read(&g->bytes[k], OP, path, (size_t)most_bytes(g, k), err);
    if (status)
      return status;
    g->there[k] = 1;
  }
  return MS_OK;
}

static ms_status take_member(gathering *g, ms_tar *tar, ms_error *err) {
  const char *slash = strrchr(tar->name, '/'), *file = slash ? slash + 1 : tar->name;
  int k = 0;
  while (k < MEMBERS && !(wanted(g, k) && strcmp(file, g->e->member[k].file) == 0))
    k++;
  if (k == MEMBERS)
    return MS_OK;
  if (g->there[k]++)
    return ms_fail(err, MS_EFORMAT, "%s: %.300s: damaged file: %s is there twice", OP, g->out->path, file);
  if (tar->bytes > most_bytes(g, k))
    return too_long(g, k, g->out->path, tar->bytes, err);
  if (tar->bytes > ms_stream_most(tar->stream))
    return ms_fail(err, MS_EFORMAT, "%s: %.300s: damaged file: %lld bytes cannot hold %s of %lld", OP, g->out->path,
                   (long long)tar->stream->file_bytes, file, (long long)tar->bytes);
  ms_status status = ms_buffer_resize(&g->bytes[k], (size_t)tar->bytes, OP, err);
  return status ? status : ms_tar_read(tar, g->bytes[k].p, (size_t)tar->bytes, err);
}

static ms_status from_archive(gathering *g, ms_error *err) {
  ms_stream_in s;
  int found;
  ms_status status = ms_stream_open(&s, OP, g->out->path, err);
  if (status)
    return status;
  ms_tar tar = ms_tar_of(&s, MOST);
  while (!(status = ms_tar_next(&tar, &found, err)) && found)
    if ((status = take_member(g, &tar, err)))
      break;
  ms_stream_close(&s);
  return status;
}

/* ---- what was gathered ---- */

static void damaged_at(const gathering *g, int k, char path[600]) {
  snprintf(path, 600, "%s: %s", g->out->path, g->e->member[k].file);
}

/* One name a line; an empty line ends them. */
static ms_status read_names(const gathering *g, int k, ms_error *err) {
  int coarse = g->e->member[k].train == 3, most = coarse ? 20 : g->e->classes, n = 0;
  char(*names)[MS_CIFAR_NAME] = coarse ? g->out->coarse_names : g->out->names, path[600];
  const ms_buffer *b = &g->bytes[k];
  ms_input in = {.op = OP, .path = path};
  damaged_at(g, k, path);
  for (size_t at = 0, end; at < b->bytes; at = end + 1) {
    const uint8_t *line = b->p + at, *stop = memchr(line, '\n', b->bytes - at);
    size_t length = stop ? (size_t)(stop - line) : b->bytes - at;
    end = at + length;
    if (length > 0 && line[length - 1] == '\r')
      length--;
    if (length == 0)
      continue;
    if (n == most || length >= MS_CIFAR_NAME || memchr(line, 0, length))
      return ms_damaged(&in, (int64_t)at, n, err, "expected %d names of at most %d bytes", most, MS_CIFAR_NAME - 1);
    memcpy(names[n], line, length);
    names[n++][length] = 0;
  }
  return n == most ? MS_OK : ms_damaged(&in, (int64_t)b->bytes, -1, err, "expected %d names, got %d", most, n);
}

/* Records of a member, after its tail is dealt with. */
static ms_status count_records(int64_t *n, const gathering *g, int k, ms_error *err) {
  char path[600];
  size_t record = (size_t)(3 * PIXELS + g->e->label_bytes), bytes = g->bytes[k].bytes, tail = bytes % record;
  ms_input in = {.op = OP, .path = path, .policy = g->source->policy, .repairs = g->source->repairs};
  damaged_at(g, k, path);
  *n = (int64_t)(bytes / record);
  if (tail && in.policy != MS_LENIENT && !(in.policy == MS_ORACLE && tail == 1))
    return ms_damaged(&in, (int64_t)(bytes - tail), *n, err, "the record of %zu bytes ends after %zu", record, tail);
  if (*n == 0 && in.policy != MS_ORACLE)
    return ms_damaged(&in, 0, -1, err, "no records");
  ms_repaired(&in, MS_REPAIR_TRUNCATED, (int64_t)tail);
  return MS_OK;
}

/* Planes R, G, B to pixels. */
static void interleave(uint8_t *to, const uint8_t *planes) {
  for (int i = 0; i < PIXELS; i++) {
    to[3 * i] = planes[i];
    to[3 * i + 1] = planes[PIXELS + i];
    to[3 * i + 2] = planes[2 * PIXELS + i];
  }
}

/* Where the next records go. */
typedef struct target {
  uint8_t *images;
  int64_t *labels, *coarse;
} target;

static ms_status decode(const gathering *g, int k, int64_t n, target *to, ms_error *err) {
  char path[600];
  int labels = g->e->label_bytes;
  int64_t record = 3 * PIXELS + labels;
  const uint8_t *p = g->bytes[k].p;
  ms_input in = {.op = OP, .path = path};
  damaged_at(g, k, path);
  for (int64_t i = 0; i < n; i++, p += record, to->images += 3 * PIXELS) {
    if (labels == 2 && p[0] >= 20)
      return ms_damaged(&in, i * record, i, err, "expected a coarse label from 0 to 19, got %d", p[0]);
    if (p[labels - 1] >= g->e->classes)
      return ms_damaged(&in, i * record + labels - 1, i, err, "expected a label from 0 to %d, got %d",
                        g->e->classes - 1, p[labels - 1]);
    if (labels == 2)
      *to->coarse++ = p[0];
    *to->labels++ = p[labels - 1];
    interleave(to->images, p + labels);
  }
  return MS_OK;
}

static ms_status new_tensor(ms_tensor **t, void *p, ms_dtype dtype, int ndim, const int64_t *size, ms_error *err) {
  ms_data data;
  ms_status status = ms_tensor_new(t, ms_device_cpu(), dtype, ndim, size, err);
  if (!status && !(status = ms_data_of(&data, *t, err)))
    memcpy(p, &data.p, sizeof data.p);
  return status;
}

static ms_status assemble(gathering *g, ms_error *err) {
  int64_t records[MEMBERS] = {0}, n = 0;
  target to = {0};
  ms_status status = MS_OK;
  for (int k = 0; k < MEMBERS && !status; k++) {
    if (!wanted(g, k))
      continue;
    if (g->e->member[k].train > 1)
      status = g->there[k] ? read_names(g, k, err) : MS_OK;
    else if (!g->there[k])
      status = ms_fail(err, MS_EIO, "%s: %.300s: %s is not in there", OP, g->out->path, g->e->member[k].file);
    else
      status = count_records(&records[k], g, k, err);
    n += records[k];
  }
  if (!status && n == 0)
    status = ms_fail(err, MS_EFORMAT, "%s: %.300s: damaged file: no records", OP, g->out->path);
  const int64_t size[] = {n, 3, 32, 32};
  if (!status)
    status = new_tensor(&g->out->images, &to.images, MS_U8, 4, size, err);
  if (!status)
    status = new_tensor(&g->out->labels, &to.labels, MS_I64, 1, size, err);
  if (!status && g->e->label_bytes == 2)
    status = new_tensor(&g->out->coarse, &to.coarse, MS_I64, 1, size, err);
  for (int k = 0; k < MEMBERS && !status; k++) {
    if (records[k])
      status = decode(g, k, records[k], &to, err);
    ms_buffer_free(&g->bytes[k]);
  }
  return status;
}

/* ---- looking for it ---- */

static int is(const char *path, mode_t kind) {
  struct stat st;
  return stat(path, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}

/* Sets out->path to a folder or an archive; 0: nothing there. */
static int look(gathering *g, const char *root, int *python) {
  char *path = g->out->path;
  size_t room = sizeof g->out->path;
  char file[600];
  for (int i = 0; i < 2; i++) { /* the folder itself, or one in it */
    snprintf(path, room, "%s%s%s", root, i ? "/" : "", i ? g->e->folder : "");
    if (strlen(path) + 1 == room) /* too long for us, and another place where it is cut */
      return 0;
    for (int k = 0; k < MEMBERS; k++) {
      snprintf(file, sizeof file, "%s/%s", path, g->e->member[k].file ? g->e->member[k].file : "");
      if (wanted(g, k) && g->e->member[k].train < 2 && is(file, S_IFREG))
        return 1;
    }
  }
  snprintf(path, room, "%s/%s", root, g->e->archive);
  if (is(path, S_IFREG))
    return 1;
  snprintf(file, sizeof file, "%s/%s", root, g->e->python);
  *python |= is(file, S_IFDIR);
  snprintf(path, room, "%s", root);
  return is(path, S_IFREG);
}

static ms_status nothing(const gathering *g, int python, ms_error *err) {
  char where[280] = "";
  size_t n = 0;
  for (int i = 0; i < g->source->nroots && n < sizeof where; i++)
    n += (size_t)snprintf(where + n, sizeof where - n, "%s%s", i ? ", " : "", g->source->roots[i]);
  return ms_fail(
      err, MS_EIO,
      "%s: %s not found in %s; expected %s or a folder %s with %s ... %s\nhttps://www.cs.toronto.edu/~kriz/%s, "
      "%lld bytes, md5 %s; scripts/get-data.sh CIFAR%d gets it%s",
      OP, g->e->name, where[0] ? where : "(nowhere to look)", g->e->archive, g->e->folder, g->e->member[0].file,
      g->e->classes == 10 ? "test_batch.bin" : "test.bin", g->e->archive, (long long)g->e->bytes, g->e->md5,
      g->e->classes, python ? "\n(the Python version, which is there, is pickles: not read)" : "");
}

ms_status ms_cifar_read(ms_cifar *out, const ms_cifar_source *source, ms_error *err) {
  gathering g = {.e = &editions[source->classes == 100], .source = source, .out = out};
  int python = 0, found = 0;
  *out = (ms_cifar){0};
  for (int i = 0; i < source->nroots && !found; i++)
    found = look(&g, source->roots[i], &python);
  if (!found)
    return nothing(&g, python, err);
  ms_status status = is(out->path, S_IFDIR) ? from_folder(&g, err) : from_archive(&g, err);
  if (!status)
    status = assemble(&g, err);
  for (int k = 0; k < MEMBERS; k++)
    ms_buffer_free(&g.bytes[k]);
  if (status)
    ms_cifar_free(out);
  return status;
}

void ms_cifar_free(ms_cifar *c) {
  ms_release(c->images);
  ms_release(c->labels);
  ms_release(c->coarse);
  *c = (ms_cifar){0};
}
