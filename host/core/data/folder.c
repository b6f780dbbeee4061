#include "folder.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { DEPTH = 64 }; /* folders inside each other */

typedef struct walk {
  ms_folder *out;
  const char *op;
  const ms_folder_options *opt;
  const char *root;
  char real_root[PATH_MAX]; /* without links */
  int32_t root_index, label;
  struct {
    dev_t device;
    ino_t inode;
  } above[DEPTH]; /* the folders that this one lies in: a link back into them would never end */
  int depth;
  char path[PATH_MAX]; /* relative to root */
  ms_error *err;
} walk;

/* Names of one folder, each behind a byte that says what it is: 'f' a file, 'd' a folder, 0 neither. */
typedef struct names {
  ms_buffer text, at; /* at: size_t[n] */
  size_t n;
} names;

static ms_status add_text(ms_buffer *b, const char *text, size_t *at, const char *op, ms_error *err) {
  size_t n = strlen(text) + 1;
  *at = b->bytes;
  ms_status status = ms_buffer_resize(b, b->bytes + n, op, err);
  if (!status)
    memcpy(b->p + *at, text, n);
  return status;
}

static ms_status add_name(names *to, char kind, const char *name, const char *op, ms_error *err) {
  size_t at = to->text.bytes, ignored;
  ms_status status = ms_buffer_resize(&to->text, at + 1, op, err);
  if (status || (status = add_text(&to->text, name, &ignored, op, err)) ||
      (status = ms_buffer_resize(&to->at, (to->n + 1) * sizeof at, op, err)))
    return status;
  to->text.p[at] = (uint8_t)kind;
  memcpy(to->at.p + to->n++ * sizeof at, &at, sizeof at);
  return MS_OK;
}

static char *entry(const names *n, size_t i) {
  return (char *)n->text.p + ((const size_t *)(const void *)n->at.p)[i];
}

static void free_names(names *n) {
  ms_buffer_free(&n->text);
  ms_buffer_free(&n->at);
}

static int by_name(const void *a, const void *b, void *text) {
  const char *one = (const char *)text + *(const size_t *)a, *two = (const char *)text + *(const size_t *)b;
  int order = strcmp(one + 1, two + 1);
  return order ? order : *one - *two;
}

static void sort(names *n) {
  if (n->n)
    qsort_r(n->at.p, n->n, sizeof(size_t), by_name, n->text.p);
}

static ms_status io_fail(const walk *w, const char *path) {
  char why[64];
  return ms_fail(w->err, MS_EIO, "%s: %.250s%s%.250s: %s", w->op, w->root, *path ? "/" : "", path,
                 strerror_r(errno, why, sizeof why));
}

static int inside(const char *path, const char *root) {
  size_t n = strlen(root);
  return strncmp(path, root, n) == 0 && (root[n - 1] == '/' || path[n] == '/' || path[n] == 0);
}

/* What root/folder/name is, where the listing did not say; links are followed as long as they stay below root. */
static ms_status look(const walk *w, const char *folder, char *kind, const char *name) {
  char full[2 * PATH_MAX + 260], real[PATH_MAX];
  struct stat st;
  *kind = 0;
  snprintf(full, sizeof full, "%s/%s/%s", w->root, folder, name);
  if (lstat(full, &st))
    return io_fail(w, folder);
  if (S_ISLNK(st.st_mode)) {
    int there = realpath(full, real) && !stat(full, &st);
    if (!there || !inside(real, w->real_root)) {
      if (w->opt->policy == MS_STRICT)
        return ms_fail(w->err, MS_EFORMAT, "%s: %.400s: a symbolic link %s", w->op, full,
                       there ? "that leaves the folder" : "to nothing");
      if (w->opt->repairs)
        w->opt->repairs->count[MS_REPAIR_LINK]++;
      return MS_OK;
    }
  }
  *kind = S_ISDIR(st.st_mode) ? 'd' : S_ISREG(st.st_mode) ? 'f' : 0;
  return MS_OK;
}

/* The names in root/folder, sorted, without "." and "..". */
static ms_status list(const walk *w, const char *folder, names *out) {
  char full[2 * PATH_MAX];
  ms_status status = MS_OK;
  snprintf(full, sizeof full, "%s/%s", w->root, folder);
  DIR *dir = opendir(full);
  if (!dir)
    return io_fail(w, folder);
  for (struct dirent *e; !status && (e = readdir(dir));)
    if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
      status = add_name(out, e->d_type == DT_REG ? 'f' : e->d_type == DT_DIR ? 'd' : '?', e->d_name, w->op, w->err);
  closedir(dir);
  sort(out);
  for (size_t i = 0; i < out->n && !status; i++)
    if (*entry(out, i) == '?')
      status = look(w, folder, entry(out, i), entry(out, i) + 1);
  return status;
}

static int wanted(const ms_folder_options *opt, const char *name) {
  size_t n = strlen(name);
  for (const char *const *e = opt->extensions; *e; e++) {
    size_t k = strlen(*e);
    if (n >= k && strcasecmp(name + n - k, *e) == 0)
      return 1;
  }
  return 0;
}

static ms_status add_file(walk *w) {
  ms_folder *f = w->out;
  ms_folder_file file = {.root = w->root_index, .label = w->label};
  ms_status status = add_text(&f->names, w->path, &file.path, w->op, w->err);
  if (!status)
    status = ms_buffer_resize(&f->files_memory, (size_t)(f->n + 1) * sizeof file, w->op, w->err);
  if (!status)
    memcpy(f->files_memory.p + (size_t)f->n++ * sizeof file, &file, sizeof file);
  return status;
}

static ms_status enter(walk *w) {
  char full[2 * PATH_MAX];
  struct stat st;
  ms_status status = ms_interrupt_check(w->err); /* links make long walks of few folders */
  if (status)
    return status;
  snprintf(full, sizeof full, "%s/%s", w->root, w->path);
  if (stat(full, &st))
    return io_fail(w, w->path);
  for (int i = 0; i < w->depth; i++)
    if (w->above[i].device == st.st_dev && w->above[i].inode == st.st_ino)
      return ms_fail(w->err, MS_EFORMAT, "%s: %.400s: a symbolic link to a folder that it lies in", w->op, full);
  if (w->depth == DEPTH)
    return ms_fail(w->err, MS_EFORMAT, "%s: %.400s: more than %d folders inside each other", w->op, full, DEPTH);
  w->above[w->depth].device = st.st_dev;
  w->above[w->depth++].inode = st.st_ino;
  return MS_OK;
}

/* Everything in and below the folder w->path. */
static ms_status collect(walk *w) {
  size_t n = strlen(w->path);
  names all = {0};
  ms_status status = enter(w);
  if (status)
    return status;
  status = list(w, w->path, &all);
  for (size_t i = 0; i < all.n && !status; i++) {
    char kind = *entry(&all, i);
    const char *name = entry(&all, i) + 1;
    if (kind != 'd' && !(kind == 'f' && wanted(w->opt, name)))
      continue;
    if (n + 1 + strlen(name) >= sizeof w->path) {
      status = ms_fail(w->err, MS_EIO, "%s: %.200s/%.200s: the path is too long", w->op, w->root, w->path);
      break;
    }
    w->path[n] = '/';
    strcpy(w->path + n + 1, name);
    status = kind == 'f' ? add_file(w) : collect(w);
    w->path[n] = 0;
  }
  free_names(&all);
  w->depth--;
  return status;
}

/* By root, folder, name: "a/s", "a/s-t", "a/s/t" is the order of folders, as of any other strings. */
static int by_path(const void *a, const void *b, void *text) {
  const ms_folder_file *one = a, *two = b;
  const char *p = (const char *)text + one->path, *q = (const char *)text + two->path;
  size_t n = (size_t)(strrchr(p, '/') - p), m = (size_t)(strrchr(q, '/') - q);
  if (one->root != two->root)
    return one->root - two->root;
  int order = memcmp(p, q, n < m ? n : m);
  return order ? order : n != m ? (n < m ? -1 : 1) : strcmp(p + n, q + m);
}

static ms_status open_root(walk *w, const char *root, int32_t index) {
  w->root = root;
  w->root_index = index;
  return realpath(root, w->real_root) ? MS_OK : io_fail(w, "");
}

/* The folders of all roots, sorted; the byte in front of a name is its root's place. */
static ms_status classes(walk *w, const char *const *roots, int nroots, names *out) {
  ms_status status = MS_OK;
  for (int r = 0; r < nroots && !status; r++) {
    names here = {0};
    if (!(status = open_root(w, roots[r], r)))
      status = list(w, "", &here);
    for (size_t i = 0; i < here.n && !status; i++)
      if (*entry(&here, i) == 'd')
        status = add_name(out, (char)r, entry(&here, i) + 1, w->op, w->err);
    free_names(&here);
  }
  sort(out);
  return status;
}

static ms_status add_class(walk *w, const char *name) {
  ms_folder *f = w->out;
  ms_folder_class c = {0};
  ms_status status = add_text(&f->names, name, &c.name, w->op, w->err);
  if (!status)
    status = ms_buffer_resize(&f->classes_memory, (size_t)(f->classes + 1) * sizeof c, w->op, w->err);
  if (!status)
    memcpy(f->classes_memory.p + (size_t)f->classes++ * sizeof c, &c, sizeof c);
  return status;
}

/* Classes [i, ...) of one name, in every root that has it; *i moves behind them. */
static ms_status collect_class(walk *w, const char *const *roots, const names *all, size_t *i) {
  const char *name = entry(all, *i) + 1;
  int64_t before = w->out->n;
  ms_status status = add_class(w, name);
  for (; !status && *i < all->n && strcmp(entry(all, *i) + 1, name) == 0; ++*i) {
    int root = *entry(all, *i);
    snprintf(w->path, sizeof w->path, "%s", name);
    if (!(status = open_root(w, roots[root], root)))
      status = collect(w);
  }
  int64_t files = w->out->n - before;
  if (!status && files == 0)
    return ms_fail(w->err, MS_EFORMAT, "%s: %.250s/%.100s: a class without files (%s ...)", w->op, w->root, name,
                   w->opt->extensions[0]);
  if (!status) {
    qsort_r(w->out->files_memory.p + (size_t)before * sizeof(ms_folder_file), (size_t)files, sizeof(ms_folder_file),
            by_path, w->out->names.p);
    ((ms_folder_class *)(void *)w->out->classes_memory.p)[w->label].files = files;
    w->label++;
  }
  return status;
}

static ms_status list_all(walk *w, const char *const *roots, int nroots) {
  names all = {0};
  ms_status status = classes(w, roots, nroots, &all);
  if (!status && all.n == 0)
    status = ms_fail(w->err, MS_EFORMAT, "%s: %.400s: expected a folder for each class, got none", w->op, roots[0]);
  for (size_t i = 0; i < all.n && !status;)
    status = collect_class(w, roots, &all, &i);
  free_names(&all);
  return status;
}

ms_status ms_folder_list(ms_folder *out, const char *op, const char *const *roots, int nroots,
                         const ms_folder_options *opt, ms_error *err) {
  *out = (ms_folder){0};
  if (nroots < 1 || nroots > 100)
    return ms_fail(err, MS_ERANGE, "%s: expected 1 to 100 folders, got %d", op, nroots);
  walk *w = malloc(sizeof *w); /* its paths would burden the stack */
  if (!w)
    return ms_fail(err, MS_EMEM, "%s: out of memory", op);
  *w = (walk){.out = out, .op = op, .opt = opt, .err = err};
  ms_status status = list_all(w, roots, nroots);
  free(w);
  if (status) {
    ms_folder_free(out);
    return status;
  }
  out->file = (ms_folder_file *)(void *)out->files_memory.p;
  out->class_of = (ms_folder_class *)(void *)out->classes_memory.p;
  return MS_OK;
}

void ms_folder_free(ms_folder *f) {
  ms_buffer_free(&f->names);
  ms_buffer_free(&f->files_memory);
  ms_buffer_free(&f->classes_memory);
  *f = (ms_folder){0};
}

/* ---- ImageNet-100 ---- */

enum { WNIDS = 100 };
static const char cmc[WNIDS][10] = {
#define MS_WNID(name) #name,
#include "imagenet100_cmc.def"
};
static const char kaggle[WNIDS][10] = {
#include "imagenet100_kaggle.def"
#undef MS_WNID
};

const char *ms_imagenet100_class(const char *list, int i) {
  return i < 0 || i >= WNIDS           ? NULL
         : strcmp(list, "CMC") == 0    ? cmc[i]
         : strcmp(list, "Kaggle") == 0 ? kaggle[i]
                                       : NULL;
}

static int among(const char (*wnids)[10], const char *name) {
  for (int i = 0; i < WNIDS; i++)
    if (strcmp(wnids[i], name) == 0)
      return 1;
  return 0;
}

static int count(const ms_folder *f, const char (*wnids)[10]) {
  int n = 0;
  for (int64_t i = 0; i < f->classes; i++)
    n += among(wnids, ms_folder_name(f, f->class_of[i].name));
  return n;
}

ms_status ms_imagenet100_which(const char **name, const ms_folder *f, const char *op, ms_error *err) {
  int c = count(f, cmc), k = count(f, kaggle), fork = 0;
  for (int64_t i = 0; i < f->classes; i++)
    fork |= strcmp(ms_folder_name(f, f->class_of[i].name), "n04347754") == 0;
  for (int64_t i = 0; i < f->classes; i++)
    fork &= strcmp(ms_folder_name(f, f->class_of[i].name), "n01847000") != 0;
  *name = NULL;
  if (f->classes == WNIDS && c == WNIDS)
    *name = "CMC";
  else if (f->classes == WNIDS && k == WNIDS)
    *name = "Kaggle";
  else if (f->classes == WNIDS && k == WNIDS - 1 && fork)
    *name = "Kaggle (n04347754 for n01847000)";
  return *name ? MS_OK
               : ms_fail(err, MS_EFORMAT,
                         "%s: expected the 100 classes of CMC's list or those of Kaggle's, got %lld classes, of which "
                         "%d are in CMC's and %d in Kaggle's",
                         op, (long long)f->classes, c, k);
}
