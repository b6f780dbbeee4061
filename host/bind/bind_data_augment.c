/* core.data: recipes of augmentation, batches by them, balanced orders. */
#include "../core/data/augment.h"
#include "../core/data/balance.h"
#include "../core/data/photos.h"
#include "bind_data_source.h"
#include "bind_private.h"
#include <string.h>

#define RECIPE_TYPE "ms.Recipe"

typedef struct recipe_handle {
  ms_photo_recipe photo; /* what is done to a sample first */
  ms_augment_recipe moves;
} recipe_handle;

void ms_check_recipe(lua_State *L, int index, const char *arg, const ms_photo_recipe **photo,
                     const ms_augment_recipe **moves) {
  const recipe_handle *h = luaL_testudata(L, index, RECIPE_TYPE);
  if (!h)
    ms_expected(L, index, arg, "a recipe");
  *photo = &h->photo;
  *moves = &h->moves;
}

/* ---- what is done to a sample first ---- */

static void check_crop(lua_State *L, int index, ms_photo_recipe *out) {
  static const char op[] = "resized_crop";
  static const char *const keys[] = {"h", "w", "scale", "ratio", "filter", NULL};
  static const char *const filters[] = {"bilinear", "bicubic", NULL};
  luaL_checktype(L, index, LUA_TTABLE);
  ms_check_options(L, index, op, keys);
  out->crop = 1;
  out->h = ms_option_integer(L, index, op, "h", 0);
  out->w = ms_option_integer(L, index, op, "w", 0);
  out->scale[0] = 0.08;
  out->scale[1] = 1;
  out->ratio[0] = 3.0 / 4;
  out->ratio[1] = 4.0 / 3;
  ms_option_range(L, index, op, "scale", out->scale);
  ms_option_range(L, index, op, "ratio", out->ratio);
  out->cubic = ms_option_enum(L, index, op, "filter", 0, filters);
}

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

static void check_rand_augment(lua_State *L, int index, ms_rand_augment *out) {
  static const char op[] = "rand_augment";
  static const char *const keys[] = {"n", "m", "std", "p", "increasing", "filter", "fill", NULL};
  static const char *const filters[] = {"bilinear", "bicubic", "either", NULL};
  luaL_checktype(L, index, LUA_TTABLE);
  ms_check_options(L, index, op, keys);
  int64_t n = ms_option_integer(L, index, op, "n", 2);
  *out = (ms_rand_augment){.n = (int)(n < 0 || n > 1000 ? -1 : n),
                           .magnitude = ms_option_number(L, index, op, "m", 9),
                           .std = ms_option_number(L, index, op, "std", 0),
                           .p = ms_option_number(L, index, op, "p", .5),
                           .increasing = ms_option_boolean(L, index, op, "increasing", 0),
                           .filter = (ms_photo_filter)ms_option_enum(L, index, op, "filter", MS_PHOTO_EITHER, filters)};
  check_fill(L, index, out->fill);
}

static void check_photo(lua_State *L, int index, ms_photo_recipe *out) {
  static const char *const keys[] = {"resized_crop", "rand_augment", NULL};
  ms_error err;
  ms_check_options(L, index, "recipe", keys);
  if (lua_isnoneornil(L, index))
    return;
  if (lua_getfield(L, index, "resized_crop") != LUA_TNIL)
    check_crop(L, lua_gettop(L), out);
  if (lua_getfield(L, index, "rand_augment") != LUA_TNIL)
    check_rand_augment(L, lua_gettop(L), &out->rand);
  ms_finish(L, ms_photo_check(out, &err), &err, 0);
}

/* ---- recipes ---- */

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
  lua_settop(L, 2);
  int64_t n = luaL_len(L, 1);
  if (n < 0 || n > MS_RECIPE_STEPS)
    return ms_raise(L, "recipe: expected at most %d steps, got %I", MS_RECIPE_STEPS, n);
  recipe_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  *h = (recipe_handle){0};
  check_photo(L, 2, &h->photo);
  lua_settop(L, 3);
  ms_augment_recipe *r = &h->moves;
  r->n = (int)n;
  for (int i = 0; i < r->n; i++) {
    ms_augment_rule *rule = &r->rule[i];
    lua_geti(L, 1, i + 1);
    ms_check_options(L, 4, "recipe", keys);
    lua_getfield(L, 4, "kind");
    rule->kind = check_kind(L, 5, i);
    rule->p = ms_option_number(L, 4, "recipe", "p", 1);
    rule->lo = ms_option_number(L, 4, "recipe", "lo", 0);
    rule->hi = ms_option_number(L, 4, "recipe", "hi", 0);
    int64_t count = ms_option_integer(L, 4, "recipe", "count", 1), take = ms_option_integer(L, 4, "recipe", "take", 1);
    rule->count = (int)(count < 0 || count > MS_RECIPE_STEPS ? -1 : count);
    rule->take = (int)(take < 0 || take > MS_RECIPE_STEPS ? -1 : take);
    lua_settop(L, 3);
  }
  ms_status status = ms_augment_check(r, "recipe", &err);
  luaL_setmetatable(L, RECIPE_TYPE);
  return ms_finish(L, status, &err, 1);
}

static int recipe_tostring(lua_State *L) {
  const recipe_handle *h = luaL_checkudata(L, 1, RECIPE_TYPE);
  int n = 0;
  lua_settop(L, 1);
  luaL_checkstack(L, 2 * MS_RECIPE_STEPS + 8, NULL);
  if (h->photo.crop)
    lua_pushliteral(L, "resized_crop");
  if (h->photo.rand.n > 0)
    lua_pushliteral(L, "rand_augment");
  for (int i = 0; i < h->moves.n; i++) {
    const ms_augment_rule *rule = &h->moves.rule[i];
    if (rule->kind == MS_AUGMENT_CHOOSE)
      lua_pushfstring(L, "%d of the next %d", rule->take, rule->count);
    else
      lua_pushstring(L, ms_augment_kind_name(rule->kind));
  }
  n = lua_gettop(L);
  lua_pushliteral(L, "recipe (");
  for (int i = 2; i <= n; i++) {
    lua_pushfstring(L, "%s%s%s", lua_tostring(L, -1), i > 2 ? ", " : "", lua_tostring(L, i));
    lua_replace(L, -2);
  }
  lua_pushliteral(L, ")");
  lua_concat(L, 2);
  return 1;
}

static int recipe_size(lua_State *L) {
  ms_error err;
  const ms_photo_recipe *photo;
  const ms_augment_recipe *moves;
  ms_check_recipe(L, 1, "recipe", &photo, &moves);
  ms_photos_args a = {.x = {.dtype = ms_dtype_of(L, "recipe_size", "dtype", luaL_checkstring(L, 2))},
                      .c = ms_check_integer(L, 3, "c"),
                      .h = ms_check_integer(L, 4, "h"),
                      .w = ms_check_integer(L, 5, "w")};
  ms_finish(L, ms_photo_plan(&a, photo, "recipe", &err), &err, 0);
  lua_pushinteger(L, a.to_h);
  lua_pushinteger(L, a.to_w);
  return 2;
}

static int augment(lua_State *L) {
  static const char *const keys[] = {"key", "scale", "mean", "std", NULL};
  ms_error err;
  ms_augment_opts o = {0};
  lua_settop(L, 4);
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *index = ms_check_tensor(L, 2, "index");
  if (!lua_isnil(L, 3))
    ms_check_recipe(L, 3, "recipe", &o.photo, &o.recipe);
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
     "recipe({ {kind=, p=1, lo=0, hi=0, count=1, take=1}, ... }[, {resized_crop=, rand_augment=}]) -> "
     "recipe\n\nAugmentation. "
     "The list: steps that move pixels, in the order in which a sample goes through them, each done with probability "
     "p: "
     "crop, flip, vflip, roll, translate, translate_x, translate_y, rotate, shear_x, shear_y, cutout (count holes), "
     "identity. Pixels or degrees are drawn from lo to hi. choose takes `take` of the `count` steps behind it.\nWhat "
     "is "
     "done before them: resized_crop = {h=, w=, scale={0.08, 1}, ratio={3/4, 4/3}, filter=\"bilinear\"}, a random part "
     "of "
     "the image that becomes h x w pixels (as many as before); rand_augment = {n=2, m=9, std=0, p=0.5, "
     "increasing=false, "
     "filter=\"either\", fill={128, 128, 128}}, on bytes of 1 or 3 channels: n ops of 15, drawn with replacement, each "
     "done with probability p at magnitude m (of 10) with deviation std. increasing: timm's inc1. filter: of "
     "rotations, "
     "shears and translations."},
    {"recipe_size", recipe_size,
     "recipe_size(recipe, dtype, c, h, w) -> h, w\n\nWhat images of such samples become; an error where they cannot go "
     "through the recipe."},
    {"augment", augment,
     "augment(x, index[, recipe[, {key=0, scale=, mean=, std=}]]) -> tensor\n\nSamples index [n] (from 0) of x [s, H, "
     "W], [s, "
     "C, H, W] or [s, T, C, H, W], uint8 or float32, on x's device: each moved as the recipe has it, the same for all "
     "of "
     "its frames and channels, then (x / scale - mean) / std. scale: 255 for bytes, unused for reals. float32 [n, C, "
     "H, W] "
     "or [T, n, C, H, W]. The draws depend on key and the sample's index alone."},
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
