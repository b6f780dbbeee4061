/* moonspike: the stand-alone Lua 5.4 interpreter's command line, with the moonspike library inside and a prompt made
** for experiments. Options, environment variables, messages and exit codes are those of lua(1). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"
#include "repl/repl.h"

enum {
  BAD_OPTION = 1,
  INTERACTIVE = 2,
  SHOW_VERSION = 4,
  EXECUTE = 8,
  NO_ENVIRONMENT = 16,
  LONG_VERSION = 32,
  SHOW_HELP = 64
};

typedef struct command {
  char **argv;
  int argc;
  int options; /* bits above */
  int script;  /* index of the script in argv, or of the bad option; argc: none */
} command;

static const char *program = "moonspike";
static lua_State *running; /* the state a signal interrupts */

/* ---- running Lua ---- */

/* Silent where a kernel has raised already: this would be the first call of a __close that puts things back. */
static void raise_interrupt(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  if (ms_interrupt_check(NULL))
    luaL_error(L, "interrupted!");
}

/* Both ways out of a computation: a hook for Lua code, a flag that is read between kernels. */
static void on_interrupt(int number) {
  signal(number, SIG_DFL); /* a second Ctrl-C ends the process */
  ms_interrupt_request();
  lua_sethook(running, raise_interrupt, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static int message_handler(lua_State *L) {
  const char *message = lua_tostring(L, 1);
  if (!message) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
      return 1;
    message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
  }
  luaL_traceback(L, L, message, 1);
  return 1;
}

int ms_call(lua_State *L, int nargs, int nresults) {
  int base = lua_gettop(L) - nargs;
  lua_pushcfunction(L, message_handler);
  lua_insert(L, base);
  running = L;
  void (*before)(int) = signal(SIGINT, on_interrupt);
  int status = lua_pcall(L, nargs, nresults, base);
  signal(SIGINT, before);
  lua_sethook(L, NULL, 0, 0);
  ms_interrupt_check(NULL);
  lua_remove(L, base);
  return status;
}

int ms_report(lua_State *L, int status) {
  if (status != LUA_OK) {
    const char *message = lua_tostring(L, -1);
    ms_print_error(program, message ? message : "(error message is not a string)");
    lua_pop(L, 1);
  }
  return status;
}

static int run_loaded(lua_State *L, int status) {
  if (status == LUA_OK)
    status = ms_call(L, 0, 0);
  return ms_report(L, status);
}

static int run_string(lua_State *L, const char *source, const char *name) {
  return run_loaded(L, luaL_loadbuffer(L, source, strlen(source), name));
}

/* ---- command line ---- */

static void print_usage(const char *bad) {
  if (bad[1] == 'e' || bad[1] == 'l')
    fprintf(stderr, "%s: '%s' needs argument\n", program, bad);
  else
    fprintf(stderr, "%s: unrecognized option '%s'\n", program, bad);
  fprintf(stderr,
          "usage: %s [options] [script [args]]\n"
          "Available options are:\n"
          "  -e stat   execute string 'stat'\n"
          "  -i        enter interactive mode after executing 'script'\n"
          "  -l mod    require library 'mod' into global 'mod'\n"
          "  -l g=mod  require library 'mod' into global 'g'\n"
          "  -v        show version information\n"
          "  -E        ignore environment variables\n"
          "  -W        turn warnings on\n"
          "  --        stop handling options\n"
          "  -         stop handling options and execute stdin\n"
          "  --version show the versions of everything linked and the devices found\n"
          "  --help    show this text\n",
          program);
}

static void print_version(void) {
  printf("moonspike %s  (%s)\n", MS_VERSION, LUA_COPYRIGHT);
  fflush(stdout);
}

/* A value stands right behind its option (-lmod) or is the next word; returns how many words that makes, 0: missing. */
static int value_words(const command *c, int i) {
  if (c->argv[i][2] != '\0')
    return 1;
  return i + 1 < c->argc && c->argv[i + 1][0] != '-' ? 2 : 0;
}

static int parse_option(command *c, int i) {
  const char *word = c->argv[i];
  int alone = word[2] == '\0';
  switch (word[1]) {
  case 'E':
    c->options |= alone ? NO_ENVIRONMENT : BAD_OPTION;
    return 1;
  case 'W':
    c->options |= alone ? 0 : BAD_OPTION;
    return 1;
  case 'i':
    c->options |= alone ? INTERACTIVE | SHOW_VERSION : BAD_OPTION;
    return 1;
  case 'v':
    c->options |= alone ? SHOW_VERSION : BAD_OPTION;
    return 1;
  case 'e':
    c->options |= EXECUTE;
    break;
  case 'l':
    break;
  default:
    c->options |= BAD_OPTION;
    return 1;
  }
  int words = value_words(c, i);
  if (!words)
    c->options |= BAD_OPTION;
  return words;
}

static command parse(int argc, char **argv) {
  command c = {argv, argc, 0, argc};
  for (int i = 1; i < argc;) {
    const char *word = argv[i];
    if (word[0] != '-' || word[1] == '\0') {
      c.script = i;
      return c;
    }
    if (!strcmp(word, "--version")) {
      c.options |= LONG_VERSION;
      i++;
      continue;
    }
    if (!strcmp(word, "--help")) {
      c.options |= SHOW_HELP;
      i++;
      continue;
    }
    if (word[1] == '-') {
      if (word[2] == '\0')
        c.script = i + 1;
      else {
        c.options |= BAD_OPTION;
        c.script = i;
      }
      return c;
    }
    int words = parse_option(&c, i);
    if (c.options & BAD_OPTION) {
      c.script = i;
      return c;
    }
    i += words;
  }
  return c;
}

/* arg[0] is the script; what stands before it has negative indices. */
static void set_arg_table(lua_State *L, const command *c) {
  int script = c->script >= c->argc ? 0 : c->script;
  lua_createtable(L, c->argc > script ? c->argc - script : 0, script + 1);
  for (int i = 0; i < c->argc; i++) {
    lua_pushstring(L, c->argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
}

static int run_init(lua_State *L) {
  const char *name = "=LUA_INIT_" LUA_VERSION_MAJOR "_" LUA_VERSION_MINOR;
  const char *init = getenv(name + 1);
  if (!init) {
    name = "=LUA_INIT";
    init = getenv(name + 1);
  }
  if (!init)
    return LUA_OK;
  if (init[0] == '@')
    return run_loaded(L, luaL_loadfile(L, init + 1));
  return run_string(L, init, name);
}

/* -l mod, -l global=mod */
static int run_library(lua_State *L, const char *word) {
  const char *equals = strchr(word, '=');
  char *global = equals ? strndup(word, (size_t)(equals - word)) : strdup(word);
  if (!global)
    return LUA_ERRMEM;
  const char *module = equals ? equals + 1 : word;
  char *suffix = equals ? NULL : strchr(global, '-'); /* "name-version" loads the whole, names the first part */
  if (suffix)
    *suffix = '\0';
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  int status = ms_call(L, 1, 1);
  if (status == LUA_OK)
    lua_setglobal(L, global);
  free(global);
  return ms_report(L, status);
}

/* -e, -l and -W in the order they were given */
static int run_options(lua_State *L, const command *c) {
  for (int i = 1; i < c->script && i < c->argc; i++) {
    const char *word = c->argv[i];
    if (word[0] != '-' || word[1] == '-')
      continue;
    if (word[1] == 'W')
      lua_warning(L, "@on", 0);
    if (word[1] != 'e' && word[1] != 'l')
      continue;
    const char *value = word[2] ? word + 2 : c->argv[++i];
    int status = word[1] == 'e' ? run_string(L, value, "=(command line)") : run_library(L, value);
    if (status != LUA_OK)
      return status;
  }
  return LUA_OK;
}

static int run_script(lua_State *L, const command *c) {
  const char *name = c->argv[c->script];
  if (!strcmp(name, "-") && strcmp(c->argv[c->script - 1], "--"))
    name = NULL; /* standard input */
  int status = luaL_loadfile(L, name);
  if (status == LUA_OK) {
    int nargs = c->argc - c->script - 1;
    luaL_checkstack(L, nargs + 3, "too many arguments to script");
    for (int i = 1; i <= nargs; i++)
      lua_pushstring(L, c->argv[c->script + i]);
    status = ms_call(L, nargs, LUA_MULTRET);
  }
  return ms_report(L, status);
}

static int print_long_version(lua_State *L) {
  print_version();
  ms_repl_print_readline_version();
  return run_string(
      L,
      "local d = require 'moonspike.core'.device\n"
      "for _, v in ipairs(d.versions()) do if v[1] ~= 'moonspike' then print(('  %-12s %s'):format(v[1], v[2])) end "
      "end\n"
      "print 'devices'\n"
      "for _, v in ipairs(d.devices()) do print(('  %-12s %s'):format(v.name, v.description)) end\n"
      "if d.why 'cuda' ~= '' then print(('  %-12s %s'):format('cuda', 'not usable: ' .. d.why 'cuda')) end",
      "=(version)");
}

static void open_libraries(lua_State *L) {
  luaL_openlibs(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_moonspike_core);
  lua_setfield(L, -2, "moonspike.core");
  lua_pushcfunction(L, luaopen_moonspike);
  lua_setfield(L, -2, "moonspike");
  lua_pop(L, 1);
}

static int interactive_without_script(lua_State *L) {
  if (!isatty(STDIN_FILENO)) {
    run_loaded(L, luaL_loadfile(L, NULL)); /* lua(1) ends with 0 here, whatever happened */
    return 1;
  }
  print_version();
  ms_repl(L);
  return 1;
}

/* Everything that can raise; the result is true when all went well. */
static int protected_main(lua_State *L) {
  const command *c = lua_touserdata(L, 1);
  int ok = 0;
  luaL_checkversion(L);
  if (c->options & BAD_OPTION) {
    print_usage(c->argv[c->script]);
    return 0;
  }
  if (c->options & NO_ENVIRONMENT) {
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
  }
  open_libraries(L);
  set_arg_table(L, c);
  if (c->options & SHOW_HELP) {
    printf("usage: %s [options] [script [args]]; as lua(1), and --version; help(x) at the prompt explains x\n",
           program);
    lua_pushboolean(L, 1);
    return 1;
  }
  if (c->options & LONG_VERSION) {
    lua_pushboolean(L, print_long_version(L) == LUA_OK);
    return 1;
  }
  if (c->options & SHOW_VERSION)
    print_version();
  if (!(c->options & NO_ENVIRONMENT) && run_init(L) != LUA_OK)
    return 0;
  if (run_options(L, c) != LUA_OK)
    return 0;
  if (c->script < c->argc && run_script(L, c) != LUA_OK)
    return 0;
  if (c->options & INTERACTIVE) {
    ms_repl(L);
    ok = 1;
  } else if (c->script >= c->argc && !(c->options & (EXECUTE | SHOW_VERSION))) {
    ok = interactive_without_script(L);
  } else {
    ok = 1;
  }
  lua_pushboolean(L, ok);
  return 1;
}

/* GNU OpenMP lets idle threads spin for 3 ms, which on a busy machine takes the cores from those that have work: a
** training step took 180 to 270 ms beside two compilers, 56 ms with threads that sleep, and 50 ms either way on an idle
** machine. The library reads its environment when it is loaded, before main, hence the second start. Where threads are
** bound it has by then bound this one, and the second start would know no other core. */
static void sleep_when_idle(char **argv) {
  if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("OMP_PROC_BIND") || getenv("OMP_PLACES") ||
      getenv("GOMP_CPU_AFFINITY") || setenv("GOMP_SPINCOUNT", "1000", 1))
    return;
  execv("/proc/self/exe", argv);
}

int main(int argc, char **argv) {
  sleep_when_idle(argv);
  /* a file that grows past its limit is an error of the write, not the end of the session */
  signal(SIGXFSZ, SIG_IGN);
  lua_State *L = luaL_newstate();
  if (argc > 0 && argv[0] && argv[0][0])
    program = argv[0];
  if (!L) {
    fprintf(stderr, "%s: cannot create state: not enough memory\n", program);
    return EXIT_FAILURE;
  }
  command c = parse(argc, argv);
  lua_pushcfunction(L, protected_main);
  lua_pushlightuserdata(L, &c);
  int status = ms_report(L, lua_pcall(L, 1, 1, 0));
  int ok = status == LUA_OK && lua_toboolean(L, -1);
  lua_close(L);
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
