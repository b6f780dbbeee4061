/* Data sets for Lua: readers, sources of samples, the loader of mini-batches. */
#include "../core/data/idx.h"
#include "../core/data/order.h"
#include "bind_private.h"
#include <zlib.h>

const char *const ms_policy_names[] = {"strict", "lenient", "oracle", NULL};

static int read_idx(lua_State *L) {
  ms_error err;
  ms_repairs repairs = {{0}};
  static const char *const keys[] = {"policy", NULL};
  const char *path = luaL_checkstring(L, 1);
  ms_check_options(L, 2, "read_idx", keys);
  ms_policy policy = (ms_policy)ms_option_enum(L, 2, "read_idx", "policy", MS_STRICT, ms_policy_names);
  ms_handle *h = ms_push_handle(L);
  ms_status status = ms_idx_read(&h->tensor, path, policy, &repairs, &err);
  ms_push_repairs(L, &repairs);
  return ms_finish_env(L, status, &err, 2);
}

static int crc(lua_State *L) {
  size_t n;
  char text[9];
  const char *bytes = luaL_checklstring(L, 1, &n);
  snprintf(text, sizeof text, "%08lx", (unsigned long)crc32_z(0, (const Bytef *)bytes, n));
  lua_pushstring(L, text);
  return 1;
}

static ms_status shuffled(ms_tensor **out, int64_t n, uint64_t key, ms_error *err) {
  ms_data order;
  ms_status status = ms_tensor_new(out, ms_device_cpu(), MS_I64, 1, &n, err);
  if (status || (status = ms_data_of(&order, *out, err)))
    return status;
  ms_order_shuffle(order.p, n, key);
  return MS_OK;
}

static int order(lua_State *L) {
  static const char *const keys[] = {"n", "seed", "purpose", "epoch", NULL};
  ms_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  ms_check_options(L, 1, "order", keys);
  int64_t n = ms_option_integer(L, 1, "order", "n", 0);
  if (n < 0)
    ms_raise(L, "order: n: expected at least 0, got %I", n);
  uint64_t key =
      ms_epoch_key((uint64_t)ms_option_integer(L, 1, "order", "seed", 0),
                   ms_option_string(L, 1, "order", "purpose", "shuffle"), ms_option_integer(L, 1, "order", "epoch", 0));
  ms_handle *h = ms_push_handle(L);
  return ms_finish(L, shuffled(&h->tensor, n, key, &err), &err, 1);
}

static int epoch_key(lua_State *L) {
  lua_pushinteger(
      L, (lua_Integer)ms_epoch_key((uint64_t)luaL_checkinteger(L, 1), luaL_checkstring(L, 2), luaL_checkinteger(L, 3)));
  return 1;
}

static const ms_reg functions[] = {
    {"epoch_key", epoch_key,
     "epoch_key(seed, purpose, epoch) -> integer\n\nThe key of what an epoch draws: for \"augment\", \"balance\", ..."},
    {"crc32", crc, "crc32(text) -> string\n\nThe CRC-32 of the bytes, as eight hexadecimal digits."},
    {"order", order,
     "order{n=, seed=0, purpose=\"shuffle\", epoch=0} -> int64 [n]\n\nThe numbers from 0 to n - 1 in the order in "
     "which a "
     "shuffling loader of this seed takes its samples in this epoch; purpose: another order of the same seed."},
    {"read_idx", read_idx,
     "read_idx(path[, {policy=\"strict\"}]) -> tensor, repairs, or nil, message\n\nReads an IDX file (MNIST), plain or "
     "gzip: uint8, int64 or float32 in the file's shape. policy: strict (every byte is accounted for), lenient (what "
     "follows the data is left out, and a file that ends too early keeps its whole items: bytes counted in repairs as "
     "extra, truncated), oracle (as torchvision: neither is read, nor is a file of 0 or more than 3 dimensions or "
     "without elements)."},
    {NULL, NULL, NULL}};

int ms_open_data(lua_State *L) {
  lua_newtable(L);
  ms_register(L, functions);
  ms_open_data_source(L);
  ms_open_data_loader(L);
  ms_open_data_files(L);
  ms_open_data_augment(L);
  ms_register(L, ms_data_events_functions);
  ms_register(L, ms_data_frames_functions);
  ms_register(L, ms_data_images_functions);
  ms_register(L, ms_data_arrays_functions);
  return 1;
}
