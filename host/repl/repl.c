#include "repl.h"

#include <lauxlib.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef MS_READLINE
#include <readline/history.h>
#include <readline/readline.h>
#endif

#define PROMPT "> "
#define PROMPT_MORE ">> "
#define HISTORY_LINES 10000

static int colours(int fd) {
  const char *term = getenv("TERM");
  return isatty(fd) && !getenv("NO_COLOR") && term && strcmp(term, "dumb");
}

void ms_print_error(const char *program, const char *message) {
  const char *red = colours(STDERR_FILENO) ? "\033[31m" : "", *plain = *red ? "\033[0m" : "";
  fflush(stdout);
  fprintf(stderr, "%s%s: %s%s\n", red, program, message, plain);
  fflush(stderr);
}

/* ---- reading a line ---- */

static lua_State *completing;
static volatile sig_atomic_t cancelled;

#ifdef MS_READLINE

static void on_cancel(int number) {
  (void)number;
  cancelled = 1;
}

static char *complete_word(const char *text, int state) {
  char *word = ms_complete(completing, text, state);
  if (!word && state == 0)
    rl_attempted_completion_over = 1; /* no file names */
  return word;
}

static char **complete_line(const char *text, int start, int end) {
  (void)start, (void)end;
  rl_completion_append_character = '\0';
  return rl_completion_matches(text, complete_word);
}

static int inside_string(void) {
  int quote = 0;
  for (int i = 0; i < rl_point; i++) {
    char c = rl_line_buffer[i];
    if (quote && c == '\\')
      i++;
    else if (quote ? c == quote : c == '"' || c == '\'')
      quote = quote ? 0 : c;
  }
  return quote;
}

static char **complete_or_file(const char *text, int start, int end) {
  return inside_string() ? rl_completion_matches(text, rl_filename_completion_function)
                         : complete_line(text, start, end);
}

/* Reads a key; Ctrl-C becomes the end of an empty line, at once and not with the next key. */
static int read_key(FILE *in) {
  unsigned char c;
  for (;;) {
    ssize_t n = read(fileno(in), &c, 1);
    if (n == 1)
      return c;
    if (n == 0 || errno != EINTR)
      return EOF;
    if (cancelled || rl_pending_signal() == SIGINT) {
      cancelled = 1;
      rl_replace_line("", 0);
      return '\n';
    }
  }
}

static char *history_path(void) {
  const char *path = getenv("MOONSPIKE_HISTORY"), *home = getenv("HOME");
  if (path)
    return strdup(path);
  if (!home)
    return NULL;
  size_t n = strlen(home) + sizeof "/.moonspike_history";
  char *joined = malloc(n);
  if (joined)
    snprintf(joined, n, "%s/.moonspike_history", home);
  return joined;
}

static char *read_edited(const char *prompt) {
  struct sigaction cancel = {.sa_handler = on_cancel}, before;
  sigaction(SIGINT, &cancel, &before);
  char *line = readline(prompt);
  sigaction(SIGINT, &before, NULL);
  return line;
}

static void start_editing(const char *history) {
  rl_readline_name = "moonspike";
  rl_basic_word_break_characters = " \t\n\"\\'><=;+-*/%^~#{}(),&|";
  rl_attempted_completion_function = complete_or_file;
  rl_getc_function = read_key;
  using_history();
  stifle_history(HISTORY_LINES);
  if (history)
    read_history(history);
}

/* At once into the file, so that a prompt that is killed loses nothing. */
static void remember(const char *history, const char *text) {
  static int told;
  HIST_ENTRY *last = history_length > 0 ? history_get(history_base + history_length - 1) : NULL;
  if (!*text || (last && !strcmp(last->line, text)))
    return;
  add_history(text);
  if (history && !told && append_history(1, history) != 0 && (errno != ENOENT || write_history(history) != 0)) {
    told = 1;
    fprintf(stderr, "moonspike: cannot write history to %s: %s\n", history, strerror(errno));
  }
}

static void stop_editing(const char *history) {
  if (history)
    history_truncate_file(history, HISTORY_LINES);
}

void ms_repl_print_readline_version(void) {
  printf("  %-12s %s\n", "readline", rl_library_version);
}

#else

static char *history_path(void) {
  return NULL;
}
static char *read_edited(const char *prompt) {
  (void)prompt;
  return NULL;
}
static void start_editing(const char *history) {
  (void)history;
}
static void remember(const char *history, const char *text) {
  (void)history, (void)text;
}
static void stop_editing(const char *history) {
  (void)history;
}
void ms_repl_print_readline_version(void) {
  printf("  %-12s %s\n", "readline", "not built in: no line editing");
}

#endif

/* A line without its newline, malloc'ed; NULL at the end of input. Prompts only where somebody reads them. */
static char *read_plain(const char *prompt) {
  char *line = NULL;
  size_t size = 0;
  fputs(prompt, stdout);
  fflush(stdout);
  ssize_t n = getline(&line, &size, stdin);
  if (n < 0) {
    free(line);
    return NULL;
  }
  if (n && line[n - 1] == '\n')
    line[n - 1] = '\0';
  return line;
}

static const char *prompt_text(lua_State *L, int first) {
  if (lua_getglobal(L, first ? "_PROMPT" : "_PROMPT2") == LUA_TNIL)
    return first ? PROMPT : PROMPT_MORE;
  const char *text = luaL_tolstring(L, -1, NULL);
  lua_remove(L, -2);
  return text;
}

/* Pushes the line; 0 at the end of input. */
static int push_line(lua_State *L, int first, int edited) {
  int top = lua_gettop(L);
  const char *prompt = prompt_text(L, first);
  cancelled = 0;
  char *line = edited ? read_edited(prompt) : read_plain(prompt);
  lua_settop(L, top);
  if (!line)
    return 0;
  if (first && line[0] == '=') /* as older versions of Lua wrote it */
    lua_pushfstring(L, "return %s", line + 1);
  else
    lua_pushstring(L, line);
  free(line);
  return 1;
}

/* ---- compiling ---- */

static int unfinished(lua_State *L, int status) {
  static const char mark[] = "<eof>";
  size_t n;
  if (status != LUA_ERRSYNTAX)
    return 0;
  const char *message = lua_tolstring(L, -1, &n);
  return n >= sizeof mark - 1 && !strcmp(message + n - (sizeof mark - 1), mark);
}

static int load_chunk(lua_State *L, const char *text, size_t n) {
  return luaL_loadbuffer(L, text, n, "=stdin");
}

/* Tries `return <line>`; on success the function replaces nothing: it is pushed. */
static int load_expression(lua_State *L, const char *line) {
  const char *text = lua_pushfstring(L, "return %s", line);
  int status = load_chunk(L, text, strlen(text));
  lua_remove(L, -2);
  if (status != LUA_OK)
    lua_pop(L, 1);
  return status;
}

/* Reads until the chunk is whole; leaves text and function (or message) on the stack; -1 at the end of input. */
static int read_chunk(lua_State *L, int edited, const char *history) {
  lua_settop(L, 0);
  if (!push_line(L, 1, edited))
    return -1;
  const char *line = lua_tostring(L, 1);
  int expression = load_expression(L, line) == LUA_OK;
  int status = LUA_OK;
  while (!expression) {
    size_t n;
    const char *text = lua_tolstring(L, 1, &n);
    status = load_chunk(L, text, n);
    if (!unfinished(L, status))
      break;
    lua_settop(L, 1);
    if (!push_line(L, 0, edited))
      break;
    if (cancelled) {
      lua_settop(L, 0);
      lua_pushliteral(L, "");
      return load_chunk(L, "", 0);
    }
    lua_pushliteral(L, "\n");
    lua_insert(L, 2);
    lua_concat(L, 3);
  }
  if (edited)
    remember(history, lua_tostring(L, 1));
  return status;
}

/* ---- printing ---- */

static void print_results(lua_State *L) {
  int n = lua_gettop(L);
  if (n == 0)
    return;
  luaL_checkstack(L, LUA_MINSTACK, "too many results to print");
  if (lua_getfield(L, LUA_REGISTRYINDEX, "moonspike.repl.print") == LUA_TNIL) {
    lua_pop(L, 1);
    lua_getglobal(L, "print");
  }
  lua_insert(L, 1);
  if (lua_pcall(L, n, 0, 0) != LUA_OK)
    ms_print_error("moonspike", lua_pushfstring(L, "error calling 'print' (%s)", lua_tostring(L, -1)));
}

/* At a terminal the library is there from the start: global ms, help, and readable tables. */
static void load_library(lua_State *L) {
  luaL_loadstring(L, "return require 'moonspike'.repl.start()");
  if (ms_report(L, ms_call(L, 0, 1)) == LUA_OK)
    lua_setfield(L, LUA_REGISTRYINDEX, "moonspike.repl.print");
}

void ms_repl(lua_State *L) {
  int edited = 0, status;
#ifdef MS_READLINE
  edited = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
#endif
  char *history = edited ? history_path() : NULL;
  completing = L;
  load_library(L);
  if (edited)
    start_editing(history);
  while ((status = read_chunk(L, edited, history)) != -1) {
    lua_remove(L, 1); /* the text */
    if (status == LUA_OK)
      status = ms_call(L, 0, LUA_MULTRET);
    if (status == LUA_OK)
      print_results(L);
    else
      ms_report(L, status);
  }
  lua_settop(L, 0);
  if (edited)
    stop_editing(history);
  free(history);
  putchar('\n');
  fflush(stdout);
}
