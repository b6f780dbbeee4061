#include "threads.h"
#include <signal.h>

int ms_threads_start(pthread_t *threads, int n, int *started, void *(*run)(void *), void *shared) {
  sigset_t all, before;
  int code = 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (*started = 0; *started < n && !code; *started += !code)
    code = pthread_create(&threads[*started], NULL, run, shared);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return code;
}

void ms_threads_run(int extra, void *(*run)(void *), void *shared) {
  pthread_t threads[MS_THREADS_MOST];
  int n;
  ms_threads_start(threads, extra < MS_THREADS_MOST ? extra : MS_THREADS_MOST, &n, run, shared);
  run(shared);
  while (n > 0)
    pthread_join(threads[--n], NULL);
}
