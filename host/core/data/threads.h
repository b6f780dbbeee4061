/* Threads that prepare samples. */
#ifndef MS_THREADS_H
#define MS_THREADS_H

#include <pthread.h>

/* Starts up to n threads of run(shared), with every signal blocked, so that an interrupt reaches the caller's thread.
** *started: how many there are now. Returns 0, or the errno number for which it stopped. */
int ms_threads_start(pthread_t *threads, int n, int *started, void *(*run)(void *), void *shared);

enum { MS_THREADS_MOST = 256 };
/* run(shared) in the caller's thread and in up to `extra` others, MS_THREADS_MOST at most, as many as can be had: one is
** enough. On return all are done. */
void ms_threads_run(int extra, void *(*run)(void *), void *shared);

#endif
