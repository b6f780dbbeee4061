/* core.data: recipes of augmentation, batches by them, RandAugment, balanced orders. */
#include "../core/data/augment.h"
#include "../core/data/balance.h"
#include "../core/data/randaugment.h"
#include "bind_data_source.h"
#include "bind_private.h"
#include <string.h>

#define RECIPE_TYPE "ms.Recipe"

const ms_augment_recipe *ms_check_recipe(lua_State *L, int index, const char *arg) {
  const ms_augment_recipe *r = luaL_testudata(L, index, RECIPE_TYPE);
  if (!r)
    ms_expected(L, index, arg, "a recipe");
  return r;
}

static ms_augment_kind check_kind(lua_State *L, int index, int at) {
  const char *name = lua_tostring(L, index);
  for (int kind = 0; name && kind <= MS_AUGMENT_CHOOSE; kind++)
    if (strcmp(name, ms_augment_kind_name((ms_augment_kind)kind)) == 0)
      return (ms_augment_kind)kind;
  return (ms_augment_kind)ms_raise(L, "recipe: step %d: kind: expected the name of a step, got %s", at + 1,
                                   name ? name : ms_type_name(L, index));
}

static int recipe(lua_State *L) {
  static const char *const keys[] = {"kind", "p", "lo", "hi", "count", "take", NULL};
  ms_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  int64_t n = luaL_len(L, 1);
  if (n < 0 || n > MS_RECIPE_STEPS)
    return ms_raise(L, "recipe: expected at most %d steps, got %I", MS_RECIPE_STEPS, n);
  ms_augment_recipe *r = lua_newuserdatauv(L, sizeof *r, 0);
  memset(r, 0, sizeof *r);
  r->n = (int)n;
  for (int i = 0; i < r->n; i++) {
    ms_augment_rule *rule = &r->rule[i];
    lua_geti(L, 1, i + 1);
    ms_check_options(L, 3, "recipe", keys);
    lua_getfield(L, 3, "kind");
    rule->kind = check_kind(L, 4, i);
    rule->p = ms_option_number(L, 3, "recipe", "p", 1);
    rule->lo = ms_option_number(L, 3, "recipe", "lo", 0);
    rule->hi = ms_option_number(L, 3, "recipe", "hi", 0);
    int64_t count = ms_option_integer(L, 3, "recipe", "count", 1), take = ms_option_integer(L, 3, "recipe", "take", 1);
    rule->count = (int)(count < 0 || count > MS_RECIPE_STEPS ? -1 : count);
    rule->take = (int)(take < 0 || take > MS_RECIPE_STEPS ? -1 : take);
    lua_settop(L, 2);
  }
  ms_status status = ms_augment_check(r, "recipe", &err);
  luaL_setmetatable(L, RECIPE_TYPE);
  return ms_finish(L, status, &err, 1);
}

static int recipe_tostring(lua_State *L) {
  const ms_augment_recipe *r = luaL_checkudata(L, 1, RECIPE_TYPE);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, "recipe (");
  for (int i = 0; i < r->n; i++) {
    const ms_augment_rule *rule = &r->rule[i];
    if (rule->kind == MS_AUGMENT_CHOOSE)
      lua_pushfstring(L, "%s%d of the next %d", i ? ", " : "", rule->take, rule->count);
    else
      lua_pushfstring(L, "%s%s", i ? ", " : "", ms_augment_kind_name(rule->kind));
    luaL_addvalue(&b);
  }
  luaL_addstring(&b, ")");
  luaL_pushresult(&b);
  return 1;
}

static int augment(lua_State *L) {
  static const char *const keys[] = {"key", "scale", "mean", "std", NULL};
  ms_error err;
  ms_augment_opts o = {0};
  lua_settop(L, 4);
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *index = ms_check_tensor(L, 2, "index");
  o.recipe = lua_isnil(L, 3) ? NULL : ms_check_recipe(L, 3, "recipe");
  ms_check_options(L, 4, "augment", keys);
  if (lua_isnil(L, 4)) {
    lua_newtable(L);
    lua_replace(L, 4);
  }
  int64_t channels = x->ndim > 3 ? x->size[x->ndim - 3] : 1;
  o.key = (uint64_t)ms_option_integer(L, 4, "augment", "key", 0);
  o.scale = ms_option_number(L, 4, "augment", "scale", x->dtype == MS_U8 ? 255 : 1);
  o.mean = ms_option_channels(L, 4, "augment", "mean", channels);
  o.std = ms_option_channels(L, 4, "augment", "std", channels);
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_augment(&out->tensor, x, index, &o, &err), &err, 1);
}

/* ---- RandAugment ---- */

static void check_fill(lua_State *L, int index, uint8_t fill[3]) {
  memset(fill, 128, 3);
  if (lua_getfield(L, index, "fill") != LUA_TNIL) {
    if (!lua_istable(L, -1) || luaL_len(L, -1) != 3)
      ms_raise(L, "rand_augment: fill: expected a table of 3 bytes, got %s", ms_type_name(L, -1));
    for (int k = 0; k < 3; k++) {
      int whole;
      lua_geti(L, -1, k + 1);
      lua_Integer v = lua_tointegerx(L, -1, &whole);
      if (!whole || v < 0 || v > 255)
        ms_raise(L, "rand_augment: fill[%d]: expected 0 to 255, got %s", k + 1, luaL_tolstring(L, -1, NULL));
      fill[k] = (uint8_t)v;
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

void ms_check_rand_augment(lua_State *L, int index, ms_rand_augment *out) {
  static const char *const keys[] = {"n", "m", "std", "p", "increasing", "filter", "fill", NULL};
  static const char *const filters[] = {"bilinear", "bicubic", "either", NULL};
  ms_error err;
  ms_check_options(L, index, "rand_augment", keys);
  luaL_checktype(L, index, LUA_TTABLE);
  int64_t n = ms_option_integer(L, index, "rand_augment", "n", 2);
  *out = (ms_rand_augment){
      .n = (int)(n < 0 || n > 1000 ? -1 : n),
      .magnitude = ms_option_number(L, index, "rand_augment", "m", 9),
      .std = ms_option_number(L, index, "rand_augment", "std", 0),
      .p = ms_option_number(L, index, "rand_augment", "p", .5),
      .increasing = ms_option_boolean(L, index, "rand_augment", "increasing", 0),
      .filter = (ms_photo_filter)ms_option_enum(L, index, "rand_augment", "filter", MS_PHOTO_EITHER, filters)};
  check_fill(L, index, out->fill);
  ms_finish(L, ms_rand_augment_check(out, "rand_augment", &err), &err, 0);
}

/* The bytes of a CPU tensor [C, H, W] through a picture [h][w][c], with which they agree in memory. */
static ms_status rand_augment_tensor(ms_tensor **out, ms_tensor *x, const ms_rand_augment *r, uint64_t key,
                                     uint64_t sample, ms_error *err) {
  ms_picture p = {0}, spare = {0};
  int64_t size[4] = {1, x->size[0], x->size[1], x->size[2]};
  ms_tensor *one = NULL, *dense = NULL, *y = NULL;
  ms_data from, to;
  ms_status st = ms_unsqueeze(&one, x, 0, err);
  if (st || (st = ms_dense(&dense, one, -1, err)) || (st = ms_data_of(&from, dense, err)) ||
      (st = ms_picture_shape(&p, x->dtype, 1, size[2], size[3], size[1], "rand_augment", err)))
    goto done;
  memcpy(ms_picture_bytes(&p), from.p, p.memory.bytes);
  if ((st = ms_rand_augment_apply(&p, &spare, r, key, sample, "rand_augment", err)) ||
      (st = ms_tensor_new(&y, ms_device_cpu(), MS_U8, 4, size, err)) || (st = ms_data_of(&to, y, err)))
    goto done;
  memcpy(to.p, ms_picture_bytes(&p), p.memory.bytes);
  st = ms_squeeze(out, y, 0, err);
done:
  ms_release(one);
  ms_release(dense);
  ms_release(y);
  ms_picture_free(&p);
  ms_picture_free(&spare);
  return st;
}

static int rand_augment(lua_State *L) {
  ms_error err;
  ms_rand_augment r;
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int64_t key = ms_check_integer(L, 3, "key"), sample = ms_check_integer(L, 4, "sample");
  if (x->ndim != 3 || x->dtype != MS_U8 || ms_numel(x) == 0 || ms_tensor_device(x) != ms_device_cpu())
    return ms_raise(L, "rand_augment: x: expected uint8 [C, H, W] on the CPU, nothing empty, got %s",
                    ms_tensor_text(x).s);
  ms_check_rand_augment(L, 2, &r);
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, rand_augment_tensor(&out->tensor, x, &r, (uint64_t)key, (uint64_t)sample, &err), &err, 1);
}

/* ---- orders ---- */

static ms_status balanced(ms_tensor **out, ms_tensor *labels, int64_t classes, uint64_t key, ms_error *err) {
  ms_tensor *here = NULL;
  ms_data from, to;
  ms_status st = ms_on_host(&here, labels, MS_I64, err);
  if (!st && !(st = ms_data_of(&from, here, err)) &&
      !(st = ms_tensor_new(out, ms_device_cpu(), MS_I64, 1, labels->size, err)) && !(st = ms_data_of(&to, *out, err)))
    st = ms_balanced_order(to.p, labels->size[0], from.p, classes, key, err);
  ms_release(here);
  return st;
}

static int balanced_order(lua_State *L) {
  ms_error err;
  ms_tensor *labels = ms_check_tensor(L, 1, "labels");
  int64_t classes = ms_check_integer(L, 2, "classes"), key = ms_check_integer(L, 3, "key");
  if (labels->ndim != 1)
    return ms_raise(L, "balanced_order: labels: expected [n], got %s", ms_tensor_text(labels).s);
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, balanced(&out->tensor, labels, classes, (uint64_t)key, &err), &err, 1);
}

static const ms_reg functions[] = {
    {"recipe", recipe,
     "recipe{ {kind=, p=1, lo=0, hi=0, count=1, take=1}, ... } -> recipe\n\nGeometric augmentation as a list of steps, "
     "in "
     "the order in which a sample goes through them, each done with probability p: crop, flip, vflip, roll, translate, "
     "translate_x, translate_y, rotate, shear_x, shear_y, cutout (count holes), identity. Pixels or degrees are drawn "
     "from "
     "lo to hi. choose takes `take` of the `count` steps behind it."},
    {"augment", augment,
     "augment(x, index[, recipe[, {key=0, scale=, mean=, std=}]]) -> tensor\n\nSamples index [n] (from 0) of x [s, H, "
     "W], [s, "
     "C, H, W] or [s, T, C, H, W], uint8 or float32, on x's device: each moved as the recipe has it, the same for all "
     "of "
     "its frames and channels, then (x / scale - mean) / std. scale: 255 for bytes, unused for reals. float32 [n, C, "
     "H, W] "
     "or [T, n, C, H, W]. The draws depend on key and the sample's index alone."},
    {"rand_augment", rand_augment,
     "rand_augment(x, opts, key, sample) -> tensor\n\nRandAugment as timm has it on an image of bytes [C, H, W], C 1 "
     "or 3, on "
     "the CPU.\nopts: n (2) ops drawn with replacement of 15, each done with probability p (0.5) at magnitude m (9, of "
     "10) "
     "with deviation std (0), increasing (false: timm's inc0), filter \"bilinear\", \"bicubic\" or \"either\" "
     "(default) for "
     "rotations, shears and translations, fill { 128, 128, 128 }."},
    {"balanced_order", balanced_order,
     "balanced_order(labels, classes, key) -> int64 [n]\n\nAs many samples (from 0) as there are labels, drawn with "
     "replacement so that each class that has samples is as likely as any other."},
    {NULL, NULL, NULL}};

void ms_open_data_augment(lua_State *L) {
  static const luaL_Reg meta[] = {{"__tostring", recipe_tostring}, {NULL, NULL}};
  if (luaL_newmetatable(L, RECIPE_TYPE))
    luaL_setfuncs(L, meta, 0);
  lua_pop(L, 1);
  ms_register(L, functions);
}
