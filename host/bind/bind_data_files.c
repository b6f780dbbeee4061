/* Data sets that lie in files: lists of folders, sources that decode in the loader's threads, caches. */
#include "../core/data/cache.h"
#include "../core/data/folder.h"
#include "../core/data/source_events.h"
#include "../core/data/source_images.h"
#include "bind_data_events.h"
#include "bind_data_source.h"
#include "bind_private.h"
#include <string.h>

#define WRITER_TYPE "ms.CacheWriter"
#define FOLDER_TYPE "ms.Folder"

/* ---- folders ---- */

static int folder_gc(lua_State *L) {
  ms_folder_free(luaL_checkudata(L, 1, FOLDER_TYPE));
  return 0;
}

static void push_folder(lua_State *L, const ms_folder *f, const char *const *roots) {
  lua_createtable(L, 0, 6);
  lua_createtable(L, (int)f->n, 0);
  lua_createtable(L, (int)f->n, 0);
  lua_createtable(L, (int)f->n, 0);
  for (int64_t i = 0; i < f->n; i++) {
    const ms_folder_file *file = &f->file[i];
    lua_pushstring(L, ms_folder_name(f, file->path));
    lua_pushfstring(L, "%s/%s", roots[file->root], lua_tostring(L, -1));
    lua_rawseti(L, -5, i + 1);
    lua_rawseti(L, -3, i + 1);
    lua_pushinteger(L, file->label);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -4, "labels");
  lua_setfield(L, -3, "names");
  lua_setfield(L, -2, "paths");
  lua_createtable(L, (int)f->classes, 0);
  for (int64_t i = 0; i < f->classes; i++) {
    lua_pushstring(L, ms_folder_name(f, f->class_of[i].name));
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "classes");
}

static int list_folder(lua_State *L) {
  static const char op[] = "list_folder", *const keys[] = {"roots", "extensions", "policy", "imagenet100", NULL};
  ms_error err;
  ms_repairs repairs = {{0}};
  int nroots, count;
  const char *which = NULL;
  luaL_checktype(L, 1, LUA_TTABLE);
  ms_check_options(L, 1, op, keys);
  lua_settop(L, 1);
  const char **roots = ms_option_strings(L, 1, op, "roots", &nroots);
  ms_folder_options opt = {.extensions = ms_option_strings(L, 1, op, "extensions", &count),
                           .policy = (ms_policy)ms_option_enum(L, 1, op, "policy", MS_STRICT, ms_policy_names),
                           .repairs = &repairs};
  if (count == 0)
    ms_raise(L, "%s: extensions: expected at least one, got none", op);
  int imagenet = ms_option_boolean(L, 1, op, "imagenet100", 0);
  ms_folder *f = lua_newuserdatauv(L, sizeof *f, 0);
  memset(f, 0, sizeof *f);
  luaL_setmetatable(L, FOLDER_TYPE);
  ms_status status = ms_folder_list(f, op, roots, nroots, &opt, &err);
  if (!status && imagenet)
    status = ms_imagenet100_which(&which, f, op, &err);
  if (status)
    return ms_finish_env(L, status, &err, 1);
  push_folder(L, f, roots);
  lua_pushstring(L, which);
  lua_setfield(L, -2, "which");
  ms_push_repairs(L, &repairs);
  lua_setfield(L, -2, "repairs");
  return 1;
}

static int imagenet100_classes(lua_State *L) {
  const char *name, *list = luaL_optstring(L, 1, "nothing");
  if (!ms_imagenet100_class(list, 0))
    ms_raise(L, "imagenet100_classes: list: expected CMC or Kaggle, got %s", list);
  lua_newtable(L);
  for (int i = 0; (name = ms_imagenet100_class(list, i)); i++) {
    lua_pushstring(L, name);
    lua_seti(L, -2, i + 1);
  }
  return 1;
}

/* ---- sources ---- */

/* What a source will take over, so that nothing is lost when something raises before. */
static int paths_gc(lua_State *L) {
  ms_paths_free(lua_touserdata(L, 1));
  return 0;
}

/* Field "paths" of the table at 1, in a userdata left on the stack. */
static ms_paths *option_paths(lua_State *L, const char *op) {
  ms_error err;
  ms_status status = MS_OK;
  int n;
  const char **list = ms_option_strings(L, 1, op, "paths", &n);
  ms_paths *p = lua_newuserdatauv(L, sizeof *p, 0);
  *p = (ms_paths){0};
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, paths_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  for (int i = 0; i < n && !status; i++)
    status = ms_paths_add(p, list[i], op, &err);
  ms_finish(L, status, &err, 0);
  return p;
}

static int image_source(lua_State *L) {
  static const char op[] = "image_source";
  static const char *const keys[] = {"paths", "labels", "random", "size",   "shorter", "scale",
                                     "ratio", "filter", "grey",   "policy", NULL};
  static const char *const filters[] = {"bilinear", "bicubic", NULL};
  ms_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  ms_check_options(L, 1, op, keys);
  lua_settop(L, 1);
  int64_t size = ms_option_integer(L, 1, op, "size", 224), shorter = ms_option_integer(L, 1, op, "shorter", 256);
  ms_images_source_config c = {.recipe = ms_option_boolean(L, 1, op, "random", 0)
                                             ? ms_image_recipe_train(size)
                                             : ms_image_recipe_test(shorter, size)};
  c.policy = (ms_policy)ms_option_enum(L, 1, op, "policy", MS_STRICT, ms_policy_names);
  c.recipe.filter = ms_option_enum(L, 1, op, "filter", 0, filters) ? MS_FILTER_BICUBIC : MS_FILTER_BILINEAR;
  c.recipe.decode.grey = ms_option_boolean(L, 1, op, "grey", 0);
  ms_option_range(L, 1, op, "scale", c.recipe.scale);
  ms_option_range(L, 1, op, "ratio", c.recipe.ratio);
  ms_paths *paths = option_paths(L, op);
  ms_tensor *labels = ms_check_labels(L, 1, op, paths->n);
  ms_source_handle *h = ms_push_source(L);
  ms_status status = ms_source_labels(h, labels, &c.labels, &err);
  if (!status) {
    c.paths = *paths;
    *paths = (ms_paths){0};
    status = ms_source_images(&h->source, &c, &err);
  }
  return ms_finish(L, status, &err, 1);
}

/* ---- recordings ---- */

/* Field `key` as int64 [n], left on the stack; NULL (and nil) where it is not given. */
static ms_tensor *option_times(lua_State *L, const char *op, const char *key, int64_t n) {
  if (lua_getfield(L, 1, key) == LUA_TNIL)
    return NULL;
  ms_tensor *t = ms_test_tensor(L, -1);
  if (!t || t->ndim != 1 || t->size[0] != n || t->dtype != MS_I64)
    ms_raise(L, "%s: %s: expected int64 [%I], one for each path, got %s", op, key, n,
             t ? ms_tensor_text(t).s : ms_type_name(L, -1));
  return t;
}

/* Keeps t (or NULL) for the source. */
static ms_status keep_times(ms_tensor **keep, ms_tensor *t, const int64_t **out, ms_error *err) {
  ms_data d;
  ms_status status = t ? ms_on_host(keep, t, MS_I64, err) : MS_OK;
  if (t && !status && !(status = ms_data_of(&d, *keep, err)))
    *out = d.p;
  return status;
}

static ms_status fill_events(ms_source_handle *h, ms_events_source_config *c, ms_paths *paths, const char *shd,
                             ms_tensor *const window[2], ms_tensor *labels, ms_error *err) {
  ms_status status = MS_OK;
  if (shd && !(status = ms_shd_open(&c->shd, "event_source", shd, err)))
    c->labels = ms_shd_labels(c->shd);
  if (labels)
    status = ms_source_labels(h, labels, &c->labels, err);
  if (status || (status = keep_times(&h->start, window[0], &c->start, err)) ||
      (status = keep_times(&h->end, window[1], &c->end, err))) {
    ms_shd_close(c->shd);
    return status;
  }
  if (paths) {
    c->paths = *paths;
    *paths = (ms_paths){0};
  }
  return ms_source_events(&h->source, c, err);
}

/* resize and size, by default what the preset says. */
static void resize_options(lua_State *L, const char *op, const ms_frames_preset *preset, ms_events_source_config *c) {
  static const char *const kinds[] = {"none", "bilinear", "plain", "nearest", "LA", NULL};
  enum { NONE, BILINEAR, PLAIN, NEAREST, LA };
  int kind = ms_option_enum(L, 1, op, "resize", preset->size == 0 ? NONE : preset->alpha ? LA : BILINEAR, kinds);
  int64_t size = ms_option_integer(L, 1, op, "size", preset->size);
  if (kind != NONE && (size < 1 || size > 65536))
    ms_raise(L, "%s: size: expected 1 to 65536, got %I", op, size);
  c->resizes = kind != NONE;
  c->resize = (ms_resize_options){.filter = kind == NEAREST ? MS_FILTER_NEAREST : MS_FILTER_BILINEAR,
                                  .w = size,
                                  .h = size,
                                  .alpha = kind == LA,
                                  .plain = kind == PLAIN};
}

static int event_source(lua_State *L) {
  static const char op[] = "event_source";
  static const char *const of_files[] = {"paths", "labels", "start_us", "end_us", "frames",    "format", "layout",
                                         "width", "height", "flip_x",   "flip_y", "stabilize", NULL};
  static const char *const keys[] = {MS_READ_KEYS, MS_FRAME_KEYS, MS_DROP_KEYS, "paths",  "labels", "shd", "start_us",
                                     "end_us",     "steps",       "frames",     "resize", "size",   NULL};
  ms_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  ms_check_options(L, 1, op, keys);
  lua_settop(L, 1);
  ms_events_source_config c = {.steps = ms_option_integer(L, 1, op, "steps", 0),
                               .frames_only = ms_option_boolean(L, 1, op, "frames", 0)};
  const ms_frames_preset *preset = ms_check_frame_options(L, 1, op, &c.frames);
  ms_check_read_options(L, 1, op, preset->layout, &c.read);
  ms_check_event_augment(L, 1, op, &c.augment);
  resize_options(L, op, preset, &c);
  const char *shd = ms_option_string(L, 1, op, "shd", NULL);
  for (int i = 0; shd && of_files[i]; i++)
    if (lua_getfield(L, 1, of_files[i]) != LUA_TNIL)
      ms_raise(L, "%s: %s: expected nothing beside shd, got %s", op, of_files[i], ms_type_name(L, -1));
    else
      lua_pop(L, 1);
  ms_paths *paths = shd ? NULL : option_paths(L, op);
  ms_tensor *labels = shd ? NULL : ms_check_labels(L, 1, op, paths->n);
  ms_tensor *window[2] = {shd ? NULL : option_times(L, op, "start_us", paths->n),
                          shd ? NULL : option_times(L, op, "end_us", paths->n)};
  if (!window[0] != !window[1])
    ms_raise(L, "%s: start_us, end_us: expected both or neither, got one", op);
  ms_source_handle *h = ms_push_source(L);
  return ms_finish(L, fill_events(h, &c, paths, shd, window, labels, &err), &err, 1);
}

/* The events of one recording of a source, as tensors. */
static int source_events(lua_State *L) {
  ms_error err;
  ms_event_work *w = ms_push_event_work(L); /* first: a collection may run code that closes the source */
  const ms_source *s = ms_check_source(L, 1, "source_events");
  int64_t i = ms_check_index(L, 2, "i", s->n);
  if (!ms_source_has_events(s))
    return ms_raise(L, "source_events: the source has no recordings");
  ms_scratch scratch = {0};
  ms_status status = ms_source_events_read(s, i, &scratch, &err);
  w->events = scratch.events;
  scratch.events = (ms_events){0};
  ms_scratch_free(&scratch);
  return status ? ms_finish(L, status, &err, 1) : ms_push_events(L, &w->events);
}

/* ---- caches ---- */

/* Its user value is the source, which it has entered. */
typedef struct writer {
  ms_cache_writer *w;
  ms_source_handle *source;
} writer;

static writer *check_writer(lua_State *L) {
  writer *h = luaL_checkudata(L, 1, WRITER_TYPE);
  if (!h->w)
    ms_arg_error(L, 1, "the cache is finished");
  return h;
}

static int writer_gc(lua_State *L) {
  writer *h = luaL_checkudata(L, 1, WRITER_TYPE);
  ms_cache_abort(h->w);
  ms_source_leave(h->source);
  *h = (writer){0};
  return 0;
}

static int cache_writer(lua_State *L) {
  ms_error err;
  const char *path = luaL_checkstring(L, 2);
  writer *h = lua_newuserdatauv(L, sizeof *h, 1);
  *h = (writer){0};
  luaL_setmetatable(L, WRITER_TYPE);
  h->source = ms_source_enter(L, 1, "cache_writer: source");
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  return ms_finish_env(L, ms_cache_begin(&h->w, h->source->source, path, &err), &err, 1);
}

static int writer_step(lua_State *L) {
  ms_error err;
  int64_t done = 0;
  writer *h = check_writer(L);
  int64_t threads = luaL_optinteger(L, 2, 1);
  if (threads < 1 || threads > INT32_MAX)
    ms_arg_error(L, 2, "threads: expected at least 1");
  ms_status status = ms_cache_step(h->w, (int)threads, &done, &err);
  lua_pushinteger(L, done);
  return ms_finish(L, status, &err, 1);
}

static int writer_commit(lua_State *L) {
  ms_error err;
  ms_repairs repairs;
  writer *h = check_writer(L);
  ms_status status = ms_cache_commit(h->w, &repairs, &err);
  h->w = NULL;
  writer_gc(L);
  if (!status)
    ms_push_repairs(L, &repairs);
  return ms_finish_env(L, status, &err, 1);
}

static int cached_source(lua_State *L) {
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  ms_source_handle *h = ms_push_source(L);
  h->like = ms_source_enter(L, 2, "cached_source: like"); /* whose labels it takes */
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 1);
  return ms_finish_env(L, ms_source_cached(&h->source, path, h->like->source, &err), &err, 1);
}

static const ms_reg functions[] = {
    {"list_folder", list_folder,
     "list_folder{roots={...}, extensions={\".png\"}, policy=\"strict\", imagenet100=false} -> { paths=, names=, "
     "labels=, "
     "classes=, which=, repairs= }, or nil, message\n\nFiles root/<class>/.../name with one of the endings, classes "
     "and "
     "files in the order of their bytes; several roots are one set. labels count from 0. A link that leaves its root "
     "is "
     "an error, or left out and counted by \"lenient\". imagenet100: the classes must be one of the two subsets of "
     "that "
     "name; which says which."},
    {"imagenet100_classes", imagenet100_classes,
     "imagenet100_classes(list) -> table\n\nThe 100 folder names of the subset of ImageNet that list says: \"CMC\" "
     "(TRT "
     "uses it too) or \"Kaggle\", which have 8 in common. Sorted: the label is the place."},
    {"image_source", image_source,
     "image_source{paths=, labels=, random=false, size=224, shorter=256, scale={0.08, 1}, ratio={3/4, 4/3}, "
     "filter=\"bilinear\", grey=false, policy=\"strict\"} -> source\n\nJPEG and PNG files, decoded in the "
     "loader's threads: a random resized crop where random, else the short side to `shorter` and the centre."},
    {"event_source", event_source,
     "event_source{paths= or shd=, labels=, start_us=, end_us=, steps=, frames=false, resize=, size=, ...} -> "
     "source\n\nRecordings, made into frames in the loader's threads. Further options: those of read_events, integrate "
     "and augment_events. start_us, end_us: int64 [n], the window of its file that a sample is. frames: npz archives "
     "of frames. resize: none, bilinear, plain (without antialias), nearest, LA."},
    {"source_events", source_events,
     "source_events(source, i) -> { t=, x=, y=, p=, width=, height= }\n\nThe events of sample i, from 1, of an event "
     "source."},
    {"cache_writer", cache_writer,
     "cache_writer(source, path) -> writer, or nil, message\n\nBegins an npy file [n, t, h, w, c] of all samples of a "
     "source."},
    {"cached_source", cached_source,
     "cached_source(path, like) -> source, or nil, message\n\nThe samples in a file that cache_writer wrote of "
     "`like`."},
    {NULL, NULL, NULL}};

static const ms_reg methods[] = {
    {"step", writer_step, "writer:step(threads) -> done\n\nReads and writes some more samples; done counts them."},
    {"commit", writer_commit,
     "writer:commit() -> repairs, or nil, message\n\nPuts the file into its place, after the last step."},
    {"discard", writer_gc, "writer:discard()\n\nLeaves no file. More than once is fine."},
    {NULL, NULL, NULL}};

void ms_open_data_files(lua_State *L) {
  static const luaL_Reg folder_meta[] = {{"__gc", folder_gc}, {NULL, NULL}};
  static const luaL_Reg writer_meta[] = {{"__gc", writer_gc}, {"__close", writer_gc}, {NULL, NULL}};
  if (luaL_newmetatable(L, FOLDER_TYPE))
    luaL_setfuncs(L, folder_meta, 0);
  if (luaL_newmetatable(L, WRITER_TYPE)) {
    luaL_setfuncs(L, writer_meta, 0);
    lua_newtable(L);
    ms_register(L, methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 2);
  ms_register(L, functions);
}
