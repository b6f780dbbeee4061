/* core.optim: an optimizer as a userdata "ms.Optimizer" with methods. */
#include "bind_private.h"
#include "../core/params.h"

#define OPTIMIZER "ms.Optimizer"

typedef struct optimizer {
  ms_optim *o;
  ms_optim_kind kind;
} optimizer;

static ms_optim *check_optimizer(lua_State *L) {
  optimizer *h = luaL_checkudata(L, 1, OPTIMIZER);
  if (h->o == NULL)
    ms_arg_error(L, 1, "optimizer is closed");
  return h->o;
}

static int optim_new(lua_State *L) {
  static const char *const kinds[] = {"sgd", "adam", NULL};
  ms_error err;
  ms_optim_kind kind = luaL_checkoption(L, 1, NULL, kinds) == 0 ? MS_OPTIM_SGD : MS_OPTIM_ADAM;
  optimizer *h = lua_newuserdatauv(L, sizeof *h, 0);
  *h = (optimizer){NULL, kind};
  luaL_setmetatable(L, OPTIMIZER);
  return ms_finish(L, ms_optim_new(&h->o, kind, &err), &err, 1);
}

static const char *const setting_names[] = {"lr",  "weight_decay", "momentum",  "dampening", "beta1", "beta2",
                                            "eps", "nesterov",     "decoupled", "maximize",  NULL};

/* Settings at `index` over those in `s`. */
static void check_settings(lua_State *L, int index, const char *op, ms_hyper *s) {
  ms_check_options(L, index, op, setting_names);
  s->lr = ms_option_number(L, index, op, "lr", s->lr);
  s->weight_decay = ms_option_number(L, index, op, "weight_decay", s->weight_decay);
  s->momentum = ms_option_number(L, index, op, "momentum", s->momentum);
  s->dampening = ms_option_number(L, index, op, "dampening", s->dampening);
  s->beta1 = ms_option_number(L, index, op, "beta1", s->beta1);
  s->beta2 = ms_option_number(L, index, op, "beta2", s->beta2);
  s->eps = ms_option_number(L, index, op, "eps", s->eps);
  s->nesterov = ms_option_boolean(L, index, op, "nesterov", s->nesterov);
  s->decoupled = ms_option_boolean(L, index, op, "decoupled", s->decoupled);
  s->maximize = ms_option_boolean(L, index, op, "maximize", s->maximize);
}

static int optim_add_group(lua_State *L) {
  int n, group;
  ms_optim *o = check_optimizer(L);
  ms_hyper s = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
  lua_settop(L, 3);
  ms_tensor **params = ms_check_tensors(L, 2, "params", &n);
  check_settings(L, 3, "add_group", &s);
  ms_error err;
  ms_finish(L, ms_optim_add_group(o, n, params, &s, &group, &err), &err, 0);
  lua_pushinteger(L, group + 1);
  return 1;
}

/* 1-based group -> 0-based; core says how many there are. */
static int check_group(lua_State *L) {
  int64_t group = ms_check_integer(L, 2, "group");
  luaL_argcheck(L, group >= 1 && group <= INT32_MAX, 2, "group: expected 1 or more");
  return (int)group - 1;
}

static int optim_set(lua_State *L) {
  ms_optim *o = check_optimizer(L);
  int group = check_group(L);
  ms_hyper s = {0};
  ms_error err;
  ms_finish(L, ms_optim_get(o, group, &s, &err), &err, 0);
  check_settings(L, 3, "set", &s);
  return ms_finish(L, ms_optim_set(o, group, &s, &err), &err, 0);
}

static void set_number(lua_State *L, const char *key, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, key);
}

static void set_boolean(lua_State *L, const char *key, int value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, key);
}

static int optim_get(lua_State *L) {
  ms_hyper s = {0};
  ms_error err;
  ms_finish(L, ms_optim_get(check_optimizer(L), check_group(L), &s, &err), &err, 0);
  lua_createtable(L, 0, 10);
  set_number(L, "lr", s.lr);
  set_number(L, "weight_decay", s.weight_decay);
  set_number(L, "momentum", s.momentum);
  set_number(L, "dampening", s.dampening);
  set_number(L, "beta1", s.beta1);
  set_number(L, "beta2", s.beta2);
  set_number(L, "eps", s.eps);
  set_boolean(L, "nesterov", s.nesterov);
  set_boolean(L, "decoupled", s.decoupled);
  set_boolean(L, "maximize", s.maximize);
  return 1;
}

static int optim_step(lua_State *L) {
  ms_error err;
  return ms_finish(L, ms_optim_step(check_optimizer(L), &err), &err, 0);
}

static int optim_zero_grad(lua_State *L) {
  ms_error err;
  return ms_finish(L, ms_optim_zero_grad(check_optimizer(L), &err), &err, 0);
}

static int optim_count(lua_State *L) {
  lua_pushinteger(L, ms_optim_count(check_optimizer(L)));
  return 1;
}

static int optim_state(lua_State *L) {
  ms_optim *o = check_optimizer(L);
  int i = (int)ms_check_index(L, 2, "parameter", ms_optim_count(o));
  double step = 0;
  ms_error err;
  ms_handle *param = ms_push_handle(L), *m = ms_push_handle(L), *v = ms_push_handle(L);
  ms_finish(L, ms_optim_state(o, i, &param->tensor, &m->tensor, &v->tensor, &step, &err), &err, 0);
  for (int h = -3; h < 0; h++) /* an empty handle stands for nil */
    if (ms_test_tensor(L, h) == NULL) {
      lua_pushnil(L);
      lua_replace(L, h - 1);
    }
  lua_pushnumber(L, step);
  return 4;
}

static int optim_set_state(lua_State *L) {
  ms_optim *o = check_optimizer(L);
  int i = (int)ms_check_index(L, 2, "parameter", ms_optim_count(o));
  ms_tensor *m = ms_opt_tensor(L, 3, "m"), *v = ms_opt_tensor(L, 4, "v");
  double step = ms_check_number(L, 5, "step");
  ms_error err;
  return ms_finish(L, ms_optim_set_state(o, i, m, v, step, &err), &err, 0);
}

static int optim_close(lua_State *L) {
  optimizer *h = luaL_checkudata(L, 1, OPTIMIZER);
  ms_optim *o = h->o;
  h->o = NULL;
  if (o != NULL)
    ms_optim_free(o);
  return 0;
}

static int optim_tostring(lua_State *L) {
  optimizer *h = luaL_checkudata(L, 1, OPTIMIZER);
  if (h->o == NULL)
    lua_pushliteral(L, "optimizer (closed)");
  else
    lua_pushfstring(L, "optimizer %s, %d parameters", h->kind == MS_OPTIM_SGD ? "sgd" : "adam", ms_optim_count(h->o));
  return 1;
}

static int optim_move(lua_State *L) {
  int n;
  ms_tensor **params = ms_check_tensors(L, 1, "params", &n);
  luaL_checkstring(L, 2);
  ms_device *d = ms_check_device(L, 2);
  ms_error err;
  return ms_finish(L, ms_move_params(n, params, d, &err), &err, 0);
}

static const ms_reg functions[] = {{"move", optim_move,
                                    "move(params, device)\n\nMoves parameters and buffers under the tensors that name "
                                    "them, with gradients and what optimizers keep; net:to is what to use."},
                                   {"new", optim_new,
                                    "new(kind) -> optimizer\n\nkind is \"sgd\" or \"adam\" (AdamW with the setting "
                                    "decoupled). Parameters come with add_group."},
                                   {NULL, NULL, NULL}};

static const ms_reg methods[] = {
    {"add_group", optim_add_group,
     "optimizer:add_group(params[, settings]) -> integer\n\nAdds a table of parameters; returns the group's number, "
     "from 1. A "
     "parameter twice raises.\nsettings: lr (1e-3), weight_decay (0), momentum (0), dampening (0), beta1 (0.9), beta2 "
     "(0.999), eps "
     "(1e-8), nesterov (false), decoupled (false), maximize (false)."},
    {"set", optim_set,
     "optimizer:set(group, settings)\n\nChanges settings of a group (1-based); those not named stay."},
    {"get", optim_get, "optimizer:get(group) -> table\n\nThe settings of a group (1-based), a fresh table."},
    {"step", optim_step,
     "optimizer:step()\n\nOne step over every parameter that has a gradient; all of it or, when it raises, nothing."},
    {"zero_grad", optim_zero_grad, "optimizer:zero_grad()\n\nForgets the gradients."},
    {"count", optim_count, "optimizer:count() -> integer\n\nThe number of parameters."},
    {"state", optim_state,
     "optimizer:state(i) -> param, m, v, step\n\nThe i-th parameter in order of addition (1-based), its moments "
     "(copies; nil "
     "before the first step) and the steps taken."},
    {"set_state", optim_set_state,
     "optimizer:set_state(i, m, v, step)\n\nPuts back what state(i) gave; moments are copied, nil means none."},
    {"close", optim_close, "optimizer:close()\n\nLets go of the moments and parameters now; each later use raises."},
    {NULL, NULL, NULL}};

int ms_open_optim(lua_State *L) {
  luaL_newmetatable(L, OPTIMIZER);
  lua_newtable(L);
  ms_register(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, optim_close);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__gc");
  lua_setfield(L, -2, "__close");
  lua_pushcfunction(L, optim_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
  lua_newtable(L);
  ms_register(L, functions);
  return 1;
}
