#include "event_files.h"
#include "aedat2.h"
#include "atis.h"
#include "threads.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OP "make_events"

typedef struct pool {
  const ms_event_files *f;
  pthread_mutex_t lock;
  int64_t next, written, events;
  ms_status status;
  ms_error *err;
} pool;

static ms_status encode(ms_buffer *out, const ms_events *e, ms_events_format format, ms_error *err) {
  return format == MS_EVENTS_ATIS ? ms_atis_encode(out, e, err) : ms_aedat2_encode(out, e, err);
}

static int write_all(int fd, const ms_buffer *bytes) {
  for (size_t done = 0; done < bytes->bytes;) {
    ssize_t n = write(fd, bytes->p + done, bytes->bytes - done);
    if (n < 0 && errno != EINTR)
      return 0;
    done += n > 0 ? (size_t)n : 0;
  }
  return 1;
}

/* Renamed into place, not synced as checkpoints are: what a power cut spoils is empty and made again. */
static ms_status write_file(const char *path, const ms_buffer *bytes, ms_error *err) {
  char temp[PATH_MAX];
  int used = snprintf(temp, sizeof temp, "%s.tmp-%ld", path, (long)getpid());
  if (used >= (int)sizeof temp)
    return ms_fail(err, MS_EIO, OP ": %.400s: the name is too long", path);
  int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0)
    return ms_io_fail(OP, temp, err);
  int fine = write_all(fd, bytes);
  fine = close(fd) == 0 && fine && rename(temp, path) == 0;
  ms_status status = fine ? MS_OK : ms_io_fail(OP, path, err);
  if (status)
    unlink(temp);
  return status;
}

static ms_status make_one(const ms_event_files *f, int64_t i, ms_events *e, ms_buffer *scratch, ms_buffer *bytes,
                          ms_error *err) {
  ms_synthetic s = *f->synthetic;
  s.seed += ((uint32_t)f->first + (uint32_t)i) * 0x9E3779B9u;
  size_t pixels = (size_t)f->size * (size_t)f->size;
  ms_status status = ms_synthesize(e, scratch, f->images + (size_t)i * pixels, f->size, &s, err);
  if (!status)
    status = encode(bytes, e, f->format, err);
  return status ? status : write_file(f->paths[i], bytes, err);
}

static void *worker(void *shared) {
  pool *p = shared;
  const ms_event_files *f = p->f;
  ms_events e = {0};
  ms_buffer scratch = {0}, bytes = {0};
  ms_error err;
  pthread_mutex_lock(&p->lock);
  while (!p->status && !ms_interrupt_pending() && p->next < f->n) {
    int64_t i = p->next++;
    struct stat st;
    pthread_mutex_unlock(&p->lock);
    int there = stat(f->paths[i], &st) == 0 && st.st_size > 0;
    ms_status status = there ? MS_OK : make_one(f, i, &e, &scratch, &bytes, &err);
    pthread_mutex_lock(&p->lock);
    if (status && !p->status) {
      p->status = status;
      *p->err = err;
    } else if (!status && !there) {
      p->written++;
      p->events += e.n;
    }
  }
  pthread_mutex_unlock(&p->lock);
  ms_events_free(&e);
  ms_buffer_free(&scratch);
  ms_buffer_free(&bytes);
  return NULL;
}

ms_status ms_event_files_make(const ms_event_files *f, int64_t *written, int64_t *events, ms_error *err) {
  pool p = {.f = f, .lock = PTHREAD_MUTEX_INITIALIZER, .err = err};
  *written = *events = 0;
  if (f->workers < 1 || f->workers > MS_EVENT_FILES_MOST_WORKERS)
    return ms_fail(err, MS_ERANGE, OP ": workers: expected 1 to %d, got %d", MS_EVENT_FILES_MOST_WORKERS, f->workers);
  if (f->format != MS_EVENTS_ATIS && f->format != MS_EVENTS_AEDAT2)
    return ms_fail(err, MS_ERANGE, OP ": format: expected 'bin' or 'aedat'");
  ms_threads_run(f->workers - 1, worker, &p);
  *written = p.written;
  *events = p.events;
  return p.status ? p.status : ms_interrupt_check(err);
}
