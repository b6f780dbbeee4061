/* core.ops: every function on tensors. Each is a method too, and the arithmetic ones are operators. */
#include "bind_private.h"

static const struct {
  const char *event, *function;
} operators[] = {{"__add", "add"}, {"__sub", "sub"}, {"__mul", "mul"},
                 {"__div", "div"}, {"__pow", "pow"}, {"__unm", "neg"}};

int ms_open_ops(lua_State *L) {
  const ms_reg *const lists[] = {ms_math_functions, ms_reduce_functions, ms_view_functions, ms_inplace_functions,
                                 ms_tensor_functions};
  lua_newtable(L);
  for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
    ms_register(L, lists[i]);
  ms_push_methods(L);
  for (lua_pushnil(L); lua_next(L, -3);) { /* methods[name] = function */
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  lua_pop(L, 1);
  luaL_getmetatable(L, MS_TENSOR_TYPE);
  for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
    lua_getfield(L, -2, operators[i].function);
    lua_setfield(L, -2, operators[i].event);
  }
  lua_pop(L, 1);
  return 1;
}
