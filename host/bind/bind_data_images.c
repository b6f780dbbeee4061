/* Still images for Lua: files and resizing. */
#include "../core/data/image_tensor.h"
#include "bind_private.h"

static int read_image(lua_State *L) {
  static const char *const keys[] = {"grey", "policy", NULL};
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  ms_check_options(L, 2, "read_image", keys);
  ms_image_options opt = {.grey = ms_option_boolean(L, 2, "read_image", "grey", 0)};
  ms_policy policy = (ms_policy)ms_option_enum(L, 2, "read_image", "policy", MS_STRICT, ms_policy_names);
  ms_handle *h = ms_push_handle(L);
  return ms_finish_env(L, ms_image_read(&h->tensor, path, &opt, policy, &err), &err, 1);
}

static int write_image(lua_State *L) {
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  ms_tensor *t = ms_check_tensor(L, 2, "image");
  ms_status status = ms_image_write(path, t, &err);
  lua_pushboolean(L, 1);
  return status == MS_EIO ? ms_finish_env(L, status, &err, 1) : ms_finish(L, status, &err, 1);
}

static int resize(lua_State *L) {
  static const char *const keys[] = {"h", "w", "filter", "antialias", "alpha", NULL};
  static const char *const filters[] = {"bilinear", "bicubic", "nearest", "bin", NULL};
  ms_error err;
  ms_tensor *t = ms_check_tensor(L, 1, "images");
  ms_check_options(L, 2, "resize", keys);
  ms_resize_options opt = {.filter = (ms_filter)ms_option_enum(L, 2, "resize", "filter", MS_FILTER_BILINEAR, filters),
                           .w = ms_option_integer(L, 2, "resize", "w", 0),
                           .h = ms_option_integer(L, 2, "resize", "h", 0),
                           .alpha = ms_option_boolean(L, 2, "resize", "alpha", 0),
                           .plain = t->dtype != MS_U8 && !ms_option_boolean(L, 2, "resize", "antialias", 1)};
  ms_handle *h = ms_push_handle(L);
  return ms_finish(L, ms_resize_tensor(&h->tensor, t, &opt, &err), &err, 1);
}

const ms_reg ms_data_images_functions[] = {
    {"read_image", read_image,
     "read_image(path[, {grey=false, policy='strict'}]) -> tensor, or nil, message\n\nA JPEG or PNG file as uint8 [3, "
     "h, "
     "w] ([1, h, w]), the pixels that Pillow gives. policy 'lenient' keeps what there is of a damaged one, 'oracle' "
     "what "
     "Pillow keeps."},
    {"write_image", write_image,
     "write_image(path, image) -> true, or nil, message\n\nA PNG file of uint8, or of floats from 0 to 1: [h, w], [1, "
     "h, "
     "w] or [3, h, w]."},
    {"resize", resize,
     "resize(images, {h=, w=, filter='bilinear', antialias=true, alpha=false}) -> tensor\n\n[..., h, w] uint8 (as "
     "Pillow) "
     "or float32 (as PyTorch). filter: 'bilinear', 'bicubic', 'nearest', 'bin' (sums, float32). alpha: [..., 2, h, w] "
     "uint8 as Pillow's mode LA."},
    {NULL, NULL, NULL}};
