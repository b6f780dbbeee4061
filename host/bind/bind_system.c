/* core.system: what modules need of the operating system and stock Lua lacks. What the environment refuses gives nil,
** message, status name. */
#include "bind_private.h"
#include "../core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int finish_errno(lua_State *L, int failed, const char *op, const char *path) {
  ms_error err;
  if (failed)
    return ms_finish_env(L, ms_fail(&err, MS_EIO, "%s: %.400s: %s", op, path, strerror(errno)), &err, 0);
  lua_pushboolean(L, 1);
  return 1;
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int system_clock(lua_State *L) {
  lua_pushnumber(L, seconds_now());
  return 1;
}

/* A descriptor number or a Lua file; -1 for a closed file. */
static int check_fd(lua_State *L, int index) {
  luaL_Stream *s = luaL_testudata(L, index, LUA_FILEHANDLE);
  if (s != NULL)
    return s->closef ? fileno(s->f) : -1;
  return (int)ms_check_integer(L, index, "fd");
}

static int system_isatty(lua_State *L) {
  lua_pushboolean(L, isatty(check_fd(L, 1)));
  return 1;
}

static int system_columns(lua_State *L) {
  struct winsize size;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    lua_pushinteger(L, size.ws_col);
  else
    luaL_pushfail(L);
  return 1;
}

/* Does standard input have a byte within so many seconds? */
static int has_input(double seconds) {
  struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
  return seconds >= 0 && poll(&in, 1, (int)(1000 * seconds)) == 1 && (in.revents & POLLIN) != 0;
}

/* Reads up to the control sequence (ESC [ ...) that ends in `final`; its length, 0 where it does not come in time. */
static size_t read_reply(char *reply, size_t size, char final, double seconds) {
  double end = seconds_now() + seconds;
  int control = 0;
  for (size_t n = 0; n < size && has_input(end - seconds_now()) && read(STDIN_FILENO, reply + n, 1) == 1; n++) {
    if (reply[n] == '\033')
      control = 0;
    else if (n > 0 && reply[n - 1] == '\033')
      control = reply[n] == '[';
    else if (control && reply[n] == final)
      return n + 1;
  }
  return 0;
}

/* Nothing is asked from the background, where a change of the terminal's mode would stop the process, nor while keys wait to be read,
** which would be taken for the reply. */
static int system_ask(lua_State *L) {
  size_t n, got = 0;
  const char *query = luaL_checklstring(L, 1, &n), *final = luaL_checkstring(L, 2);
  double seconds = luaL_checknumber(L, 3);
  luaL_argcheck(L, seconds >= 0 && seconds <= 60, 3, "seconds: expected 0 to 60");
  char reply[512];
  struct termios before;
  if (isatty(STDOUT_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp() && tcgetattr(STDIN_FILENO, &before) == 0) {
    struct termios raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0) {
      if (!has_input(0) && write(STDOUT_FILENO, query, n) == (ssize_t)n)
        got = read_reply(reply, sizeof reply, *final, seconds);
      tcsetattr(STDIN_FILENO, TCSANOW, &before);
    }
  }
  if (got > 0)
    lua_pushlstring(L, reply, got);
  else
    luaL_pushfail(L);
  return 1;
}

/* Parents too; what exists already is fine. */
static int system_mkdir(lua_State *L) {
  size_t n;
  const char *path = luaL_checklstring(L, 1, &n);
  char *part = ms_push_scratch(L, n + 1);
  struct stat info;
  for (size_t i = 1; i <= n; i++) {
    if (path[i] != '/' && path[i] != '\0')
      continue;
    memcpy(part, path, i);
    part[i] = '\0';
    if (mkdir(part, 0777) != 0 && (stat(part, &info) != 0 || !S_ISDIR(info.st_mode)))
      return finish_errno(L, 1, "mkdir", path);
  }
  return finish_errno(L, 0, "mkdir", path);
}

static int system_exists(lua_State *L) {
  struct stat info;
  int found = stat(luaL_checkstring(L, 1), &info) == 0;
  lua_pushboolean(L, found);
  if (found)
    lua_pushstring(L, S_ISDIR(info.st_mode) ? "directory" : "file");
  return found ? 2 : 1;
}

static int system_remove(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  return finish_errno(L, remove(path) != 0, "remove", path);
}

static int system_rename(lua_State *L) {
  const char *from = luaL_checkstring(L, 1), *to = luaL_checkstring(L, 2);
  return finish_errno(L, rename(from, to) != 0, "rename", from);
}

static int system_size(lua_State *L) {
  struct stat info;
  const char *path = luaL_checkstring(L, 1);
  if (stat(path, &info) != 0)
    return finish_errno(L, 1, "size", path);
  lua_pushinteger(L, info.st_size);
  return 1;
}

static int system_modified(lua_State *L) {
  struct stat info;
  const char *path = luaL_checkstring(L, 1);
  if (stat(path, &info) != 0)
    return finish_errno(L, 1, "modified", path);
  lua_pushinteger(L, (lua_Integer)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec);
  return 1;
}

static int system_write_file(lua_State *L) {
  size_t n;
  const char *path = luaL_checkstring(L, 1), *bytes = luaL_checklstring(L, 2, &n);
  ms_file f = {.fd = -1};
  ms_error err;
  ms_status status = ms_file_begin(&f, "write_file", path, &err);
  if (!status)
    status = ms_file_append(&f, bytes, n, &err);
  if (!status)
    status = ms_file_commit(&f, &err);
  ms_file_abort(&f);
  lua_pushboolean(L, 1);
  return ms_finish_env(L, status, &err, 1);
}

static int system_list(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct dirent **found;
  int n = scandir(path, &found, NULL, alphasort), count = 0;
  if (n < 0)
    return finish_errno(L, 1, "list", path);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    if (strcmp(found[i]->d_name, ".") != 0 && strcmp(found[i]->d_name, "..") != 0) {
      lua_pushstring(L, found[i]->d_name);
      lua_seti(L, -2, ++count);
    }
    free(found[i]);
  }
  free(found);
  return 1;
}

/* ---- locks: the system gives one back when its process ends, however it ends ---- */
static const char lock_name[] = "moonspike.lock";

static int lock_close(lua_State *L) {
  int *fd = luaL_checkudata(L, 1, lock_name);
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
  return 0;
}

static int system_lock(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  int *fd = lua_newuserdatauv(L, sizeof *fd, 0);
  *fd = -1;
  luaL_setmetatable(L, lock_name);
  *fd = open(path, O_RDONLY | O_CLOEXEC);
  if (*fd < 0 || flock(*fd, LOCK_EX | LOCK_NB) != 0)
    return finish_errno(L, 1, "lock", path);
  return 1;
}

static int system_pid(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

static int system_hostname(lua_State *L) {
  char name[256];
  if (gethostname(name, sizeof name) != 0)
    return finish_errno(L, 1, "hostname", "localhost");
  name[sizeof name - 1] = '\0';
  lua_pushstring(L, name);
  return 1;
}

static int system_date(lua_State *L) {
  char text[32];
  time_t now = time(NULL);
  struct tm utc;
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  lua_pushstring(L, text);
  return 1;
}

#define REFUSED " Where the system refuses: nil, message, status name."

static const ms_reg functions[] = {
    {"clock", system_clock,
     "clock() -> number\n\nSeconds of a clock that never goes back; only differences mean something."},
    {"isatty", system_isatty, "isatty(fd) -> boolean\n\nIs a descriptor number or an open Lua file a terminal?"},
    {"columns", system_columns,
     "columns() -> integer\n\nThe width of the terminal behind standard output; nil where there is none."},
    {"ask", system_ask,
     "ask(query, final, seconds) -> reply\n\nWrites a query to the terminal and reads what it says, up to the control "
     "sequence (ESC [ ...) that ends in the character final. nil where none comes within so many seconds, where "
     "standard "
     "input or output is no terminal, and where keys wait to be read."},
    {"mkdir", system_mkdir,
     "mkdir(path) -> true\n\nMakes a directory and its parents; one that exists is fine." REFUSED},
    {"exists", system_exists, "exists(path) -> boolean[, kind]\n\nDoes path exist? kind is \"file\" or \"directory\"."},
    {"remove", system_remove, "remove(path) -> true\n\nRemoves a file or an empty directory." REFUSED},
    {"rename", system_rename, "rename(from, to) -> true\n\nRenames; a file at `to` is replaced in one step." REFUSED},
    {"size", system_size, "size(path) -> integer\n\nThe size of a file in bytes." REFUSED},
    {"modified", system_modified,
     "modified(path) -> integer\n\nWhen a file was last written, in nanoseconds since 1970." REFUSED},
    {"write_file", system_write_file,
     "write_file(path, bytes) -> true\n\nWrites a whole file: path holds the old content or the new one, never a "
     "part." REFUSED},
    {"list", system_list, "list(path) -> list\n\nThe sorted names in a directory, but for . and .. ." REFUSED},
    {"lock", system_lock,
     "lock(path) -> lock\n\nHolds a file or directory that exists until lock:close(), the end of a block (<close>) or "
     "of the program; while it is held, lock(path) is refused, here and in other programs." REFUSED},
    {"pid", system_pid, "pid() -> integer\n\nThe number of this process."},
    {"hostname", system_hostname, "hostname() -> string\n\nThe name of this machine."},
    {"date", system_date, "date() -> string\n\nNow, in UTC: 2026-01-31T12:00:00Z."},
    {NULL, NULL, NULL}};

int ms_open_system(lua_State *L) {
  static const luaL_Reg lock_meta[] = {{"close", lock_close}, {"__gc", lock_close}, {"__close", lock_close}, {NULL, NULL}};
  luaL_newmetatable(L, lock_name);
  luaL_setfuncs(L, lock_meta, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_newtable(L);
  ms_register(L, functions);
  return 1;
}
