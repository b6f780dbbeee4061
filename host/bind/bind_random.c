/* core.random: the seed, the default stream, keys. */
#include "bind_private.h"

static int random_manual_seed(lua_State *L) {
  ms_manual_seed((uint64_t)ms_check_integer(L, 1, "seed"));
  return 0;
}

static int random_seed(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)ms_rng_default()->seed);
  return 1;
}

static int random_state(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)ms_rng_default()->seed);
  lua_pushinteger(L, (lua_Integer)ms_rng_default()->draws);
  return 2;
}

static int random_set_state(lua_State *L) {
  uint64_t seed = (uint64_t)ms_check_integer(L, 1, "seed"), draws = (uint64_t)ms_check_integer(L, 2, "draws");
  ms_manual_seed(seed);
  ms_rng_default()->draws = draws;
  return 0;
}

static int random_key(lua_State *L) {
  const char *purpose = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
  lua_pushinteger(L, (lua_Integer)ms_rng_key(ms_rng_default()->seed, purpose, name));
  return 1;
}

static const ms_reg functions[] = {
    {"manual_seed", random_manual_seed, "manual_seed(n)\n\nSets the seed and starts the default stream anew."},
    {"seed", random_seed, "seed() -> integer\n\nThe seed of all random numbers."},
    {"state", random_state,
     "state() -> seed, draws\n\nThe seed and the number of draws that the default stream has made."},
    {"set_state", random_set_state, "set_state(seed, draws)\n\nPuts back what state gave."},
    {"key", random_key,
     "key(purpose, name) -> integer\n\nA key for random functions: values drawn with it depend on the seed, purpose "
     "and name "
     "alone. A plain name given to them means purpose \"init\"."},
    {NULL, NULL, NULL}};

int ms_open_random(lua_State *L) {
  lua_newtable(L);
  ms_register(L, functions);
  return 1;
}
