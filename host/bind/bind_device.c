/* core.device: devices, memory, threads, versions. */
#include "bind_private.h"

#include <jansson.h>
#include <string.h>
#include "../core/data/image.h"
#include <zlib.h>

#ifndef MS_VERSION
#define MS_VERSION "0.1.0"
#endif

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static int device_current(lua_State *L) {
  lua_pushstring(L, ms_device_current()->name);
  return 1;
}

static int device_set(lua_State *L) {
  luaL_checkstring(L, 1);
  ms_device_set_current(ms_check_device(L, 1));
  return 0;
}

static void set_count(lua_State *L, const char *key, int64_t value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, key);
}

static int device_devices(lua_State *L) {
  ms_device *d;
  lua_newtable(L);
  for (int i = 0; (d = ms_device_at(i)) != NULL; i++) {
    ms_device_props props = {.memory = 0};
    if (d->k->properties(d->index, &props) != MS_OK)
      strcpy(props.name, "(does not answer)");
    lua_createtable(L, 0, 7);
    if (props.major > 0) {
      lua_pushfstring(L, "%d.%d", props.major, props.minor);
      lua_setfield(L, -2, "capability");
    }
    lua_pushboolean(L, d != ms_device_cpu() && !ms_device_is_real(d));
    lua_setfield(L, -2, "emulation");
    set_count(L, "cores", props.cores);
    lua_pushstring(L, d->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, props.name);
    lua_setfield(L, -2, "description");
    lua_pushinteger(L, props.memory);
    lua_setfield(L, -2, "memory");
    lua_pushboolean(L, props.bf16);
    lua_setfield(L, -2, "bf16");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int device_why(lua_State *L) {
  lua_pushstring(L, ms_device_why(luaL_checkstring(L, 1)));
  return 1;
}

static int device_synchronize(lua_State *L) {
  ms_error err;
  return ms_finish(L, ms_device_synchronize(ms_check_device(L, 1), &err), &err, 0);
}

static void push_live(lua_State *L) {
  ms_live live = ms_live_counts();
  lua_createtable(L, 0, 9);
  set_count(L, "tensors", live.tensors);
  set_count(L, "storages", live.storages);
  set_count(L, "nodes", live.nodes);
  set_count(L, "arenas", live.arenas);
  set_count(L, "bytes", live.bytes);
}

static int device_live(lua_State *L) {
  push_live(L);
  return 1;
}

static int device_memory(lua_State *L) {
  ms_device *d = ms_check_device(L, 1);
  ms_memory_info info = {0, 0, 0, 0};
  ms_error err;
  ms_finish(L, ms_row(d, d->k->memory(d->stream, &info), "memory", &err), &err, 0);
  push_live(L);
  set_count(L, "in_use", d->in_use);
  set_count(L, "peak", d->peak);
  set_count(L, "reserved", info.reserved);
  set_count(L, "free", info.free);
  return 1;
}

static int device_reset_peak(lua_State *L) {
  ms_device *d = ms_check_device(L, 1);
  d->peak = d->in_use;
  return 0;
}

static int device_tf32(lua_State *L) {
  ms_device *d = ms_check_device(L, 1);
  if (!d->k->tf32)
    return ms_arg_error(L, 1, lua_pushfstring(L, "tf32: %s has no TF32", d->name));
  lua_pushboolean(L, d->k->tf32(lua_isnoneornil(L, 2) ? -1 : lua_toboolean(L, 2)));
  return 1;
}

static int device_empty_cache(lua_State *L) {
  ms_device *d = ms_check_device(L, 1);
  lua_gc(L, LUA_GCCOLLECT);
  d->k->trim(d->stream);
  return 0;
}

static int device_fail_allocation(lua_State *L) {
  ms_fail_allocation(ms_check_integer(L, 1, "n"));
  return 0;
}

static int device_allocations(lua_State *L) {
  lua_pushinteger(L, ms_allocations());
  return 1;
}

static int device_threads(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) {
    int64_t n = ms_check_integer(L, 1, "n");
    if (n < 1 || n > 4096)
      ms_arg_error(L, 1, lua_pushfstring(L, "n: expected 1 to 4096, got %I", n));
    ms_threads((int)n);
  }
  lua_pushinteger(L, ms_threads(0));
  return 1;
}

static int device_float_width(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)sizeof(ms_real));
  return 1;
}

static int device_versions(lua_State *L) {
#ifdef _OPENMP
  const char *openmp = lua_pushfstring(L, "%d", _OPENMP);
#else
  const char *openmp = "none";
#endif
  const struct {
    const char *name, *version;
  } list[] = {{"moonspike", MS_VERSION},
              {"Lua", LUA_RELEASE + 4},
              {"compiler", COMPILER},
              {"OpenMP", openmp},
              {"zlib", zlibVersion()},
              {"jansson", jansson_version_str()},
              {"libjpeg-turbo", ms_image_jpeg_version()},
              {"libpng", ms_image_png_version()}};
  lua_newtable(L);
  for (int i = 0; i < (int)(sizeof list / sizeof list[0]); i++) {
    lua_createtable(L, 2, 0);
    lua_pushstring(L, list[i].name);
    lua_rawseti(L, -2, 1);
    lua_pushstring(L, list[i].version);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static const ms_reg functions[] = {
    {"current", device_current, "current() -> string\n\nThe name of the device on which tensors are made."},
    {"set", device_set,
     "set(name)\n\nMakes \"cpu\", \"cuda\", \"cuda:1\" or \"auto\" (a GPU where one works) the current device; raises "
     "with the "
     "reason when it does not work."},
    {"devices", device_devices,
     "devices() -> list\n\nThe devices that work: tables with name, description, memory (bytes), cores, capability (of "
     "a GPU), "
     "emulation (of a GPU on the CPU) and bf16: has it fast bfloat16 arithmetic?"},
    {"why", device_why, "why(name) -> string\n\nWhy a device cannot be used; \"\" where it can."},
    {"synchronize", device_synchronize,
     "synchronize([name])\n\nWaits until the device (the current one by default) has done all that was asked."},
    {"memory", device_memory,
     "memory([name]) -> table\n\nBytes of the device (the current one by default): in_use by tensors, peak since the "
     "start or reset_peak, reserved from the device, free; and what live() counts."},
    {"tf32", device_tf32,
     "tf32([name[, on]]) -> boolean\n\nMay products of float32 tensors round them to TF32 on this kind of device? With "
     "on: sets it and returns what it was."},
    {"reset_peak", device_reset_peak,
     "reset_peak([name])\n\nThe peak of memory() begins anew (of the current device by default)."},
    {"empty_cache", device_empty_cache,
     "empty_cache([name])\n\nCollects garbage and gives memory that is kept for later tensors back to the device (the "
     "current one by default)."},
    {"live", device_live,
     "live() -> table\n\nWhat exists now: tensors, storages, nodes (recorded ops), arenas, bytes."},
    {"fail_allocation", device_fail_allocation,
     "fail_allocation(n)\n\nFor tests: the n-th allocation from now fails once; a negative n: none does."},
    {"allocations", device_allocations, "allocations() -> integer\n\nAllocations so far, for tests."},
    {"threads", device_threads,
     "threads([n]) -> integer\n\nSets the threads that CPU kernels use (1 to 4096); returns how many they are. No "
     "result depends "
     "on it."},
    {"float_width", device_float_width,
     "float_width() -> integer\n\nBytes of a float32 element: 4, or 8 in the double-precision test build."},
    {"versions", device_versions,
     "versions() -> list\n\nPairs {name, version}: moonspike, Lua, compiler, OpenMP, zlib ..."},
    {NULL, NULL, NULL}};

int ms_open_device(lua_State *L) {
  lua_newtable(L);
  ms_register(L, functions);
  return 1;
}
