/* The interactive prompt. */
#ifndef MS_REPL_H
#define MS_REPL_H

#include <lua.h>

/* Reads, evaluates and prints until end of input. Expressions are printed without `=`; unfinished input continues
** on the next line; Ctrl-C returns to a fresh prompt with every value intact. Line editing, history
** ($MOONSPIKE_HISTORY, else ~/.moonspike_history) and Tab completion on a terminal only. */
void ms_repl(lua_State *L);
void ms_repl_print_readline_version(void);

/* Candidates for completing `text`, one a call, malloc'ed; NULL behind the last. state 0 starts. (complete.c) */
char *ms_complete(lua_State *L, const char *text, int state);

/* host/main.c */
int ms_call(lua_State *L, int nargs, int nresults); /* lua_pcall with traceback and Ctrl-C */
int ms_report(lua_State *L, int status);
void ms_print_error(const char *program, const char *message);

#endif
