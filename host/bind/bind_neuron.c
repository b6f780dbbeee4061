/* The neuron row for core.nn: its options, and surrogates written in Lua. */
#include "bind_private.h"

static const char *const surrogate_names[] = {
#define MS_SURROGATE(name, text, alpha) text,
#include "../../kernels/surrogate.def"
#undef MS_SURROGATE
    NULL};

static const double surrogate_alphas[] = {
#define MS_SURROGATE(name, text, alpha) alpha,
#include "../../kernels/surrogate.def"
#undef MS_SURROGATE
};

static ms_neuron check_neuron(lua_State *L, int index, const char *op) {
  static const char *const keys[] = {"leak",      "gain", "bias",   "threshold", "v_reset", "v_init",     "alpha",
                                     "surrogate", "soft", "detach", "ge",        "plif",    "plif_input", NULL};
  ms_neuron p = {0};
  ms_check_options(L, index, op, keys);
  p.leak = (ms_real)ms_option_number(L, index, op, "leak", 0.5);
  p.gain = (ms_real)ms_option_number(L, index, op, "gain", 1);
  p.bias = (ms_real)ms_option_number(L, index, op, "bias", 0);
  p.threshold = (ms_real)ms_option_number(L, index, op, "threshold", 1);
  p.v_reset = (ms_real)ms_option_number(L, index, op, "v_reset", 0);
  p.v_init = (ms_real)ms_option_number(L, index, op, "v_init", 0);
  p.soft = ms_option_boolean(L, index, op, "soft", 0);
  p.detach = ms_option_boolean(L, index, op, "detach", 0);
  p.ge = ms_option_boolean(L, index, op, "ge", 0);
  p.plif = ms_option_boolean(L, index, op, "plif", 0);
  p.plif_input = ms_option_boolean(L, index, op, "plif_input", 0);
  return p;
}

/* Pushes the surrogate where it is a function and returns 1; else sets p->surrogate, pushes nil and returns 0. */
static int push_surrogate(lua_State *L, int index, const char *op, ms_neuron *p) {
  int custom = lua_istable(L, index) && lua_getfield(L, index, "surrogate") == LUA_TFUNCTION;
  if (!custom) {
    lua_pushnil(L);
    p->surrogate = ms_option_enum(L, index, op, "surrogate", MS_SURROGATE_TRIANGLE, surrogate_names);
  }
  p->alpha = (ms_real)ms_option_number(L, index, op, "alpha", surrogate_alphas[p->surrogate]);
  return custom;
}

static void push_report(lua_State *L, const ms_neuron_report *report) {
  lua_createtable(L, 0, 2);
  lua_pushinteger(L, report->fused);
  lua_setfield(L, -2, "fused");
  lua_pushstring(L, report->why_not ? report->why_not : "");
  lua_setfield(L, -2, "why_not");
}

static int nn_neuron(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *v0 = ms_opt_tensor(L, 2, "v0"), *w = ms_opt_tensor(L, 3, "w");
  ms_neuron_opts o = {.p = check_neuron(L, 4, "neuron"), .surrogate_retain = ms_callback_retain};
  ms_neuron_report report = {0, ""};
  ms_callback cb = {NULL, NULL, NULL};
  ms_error err;
  int custom = push_surrogate(L, 4, "neuron", &o.p), function = lua_gettop(L);
  ms_handle *s = ms_push_handle(L), *v = ms_push_handle(L), *counts = ms_push_handle(L);
  ms_status status = custom ? ms_make_callback(L, function, &cb, &err) : MS_OK;
  o.surrogate = custom ? &cb : NULL;
  if (!status)
    status = ms_neuron_forward(&s->tensor, &v->tensor, &counts->tensor, x, v0, w, &o, &report, &err);
  if (cb.release != NULL)
    cb.release(cb.ud);
  ms_finish(L, status, &err, 0);
  push_report(L, &report);
  return 4;
}

static int nn_neuron_membrane(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *v0 = ms_opt_tensor(L, 2, "v0"), *w = ms_opt_tensor(L, 3, "w");
  ms_neuron_opts o = {.p = check_neuron(L, 4, "neuron_membrane")};
  ms_error err;
  push_surrogate(L, 4, "neuron_membrane", &o.p);
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_neuron_membrane(&out->tensor, x, v0, w, &o, &err), &err, 1);
}

static int nn_surrogates(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; surrogate_names[i] != NULL; i++) {
    lua_pushnumber(L, surrogate_alphas[i]);
    lua_setfield(L, -2, surrogate_names[i]);
  }
  return 1;
}

#define NEURON                                                                                                        \
  "\nOne step: h = leak * v + gain * x + bias; a spike where h > threshold; then v = v_reset, or h - threshold "      \
  "(soft)."                                                                                                           \
  "\nopts: leak (0.5), gain (1), bias (0), threshold (1), v_reset (0), v_init (0; the membrane without v0), "         \
  "surrogate "                                                                                                        \
  "(\"triangle\"; a name of surrogates(), or a function of u = h - threshold that returns ds/dh as a tensor), alpha " \
  "(the "                                                                                                             \
  "surrogate's own), soft (false), detach (false; no gradient through the reset), ge (false; spike where h >= "       \
  "threshold), plif (false; leak comes from w), plif_input (false; the input is scaled as well)."

const ms_reg ms_neuron_functions[] = {
    {"neuron", nn_neuron,
     "neuron(x[, v0[, w[, opts]]]) -> spikes, v, counts, report\n\nT steps of spiking neurons. x [T, ...], v0 [...] "
     "the "
     "membrane before or nil, w [1] or nil. spikes [T, ...], v [...] the membrane after, both differentiable; counts "
     "[T, C] "
     "int64; report: a table, fused (0; 1: the normalisation before was taken in; 2: and a residual) and "
     "why_not." NEURON},
    {"neuron_membrane", nn_neuron_membrane,
     "neuron_membrane(x[, v0[, w[, opts]]]) -> h\n\nThe membrane of neuron before each reset, [T, ...]; not "
     "differentiable." NEURON},
    {"surrogates", nn_surrogates, "surrogates() -> table\n\nThe built-in surrogate derivatives: name = default alpha."},
    {NULL, NULL, NULL}};
