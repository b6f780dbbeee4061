#include "stream.h"
#include "counts.h"
#include "fiber.h"
#include <algorithm>
#include <chrono>
#include <cstdio>

namespace emu {

bool lazy = env("EMU_LAZY", 0) != 0;
__thread cudaError_t last;
cudaError_t sticky;

static bool oldest_first = env("EMU_LAZY", 0) == 2;

static struct Streams : std::vector<Stream *> {
  Stream of_device[8];
  Streams() {
    for (int i = 0; i < 8; i++) {
      of_device[i].device = i;
      push_back(&of_device[i]);
    }
  }
} streams;

cudaError_t fail(cudaError_t e) {
  return last = e;
}

cudaError_t fail(cudaError_t e, const char *why) {
  fprintf(stderr, "emu: %s\n", why);
  return last = e;
}

Stream *stream_of(Stream *s) {
  return s ? s : &streams.of_device[current_device];
}

static bool is_default(const Stream *s) {
  return s >= streams.of_device && s < streams.of_device + 8;
}

bool step(Stream *s) {
  if (s->queue.empty())
    return false;
  Op op = std::move(s->queue.front());
  s->queue.pop_front();
  Open open;
  op();
  return true;
}

void drain(Stream *s) {
  while (step(s)) {
  }
}

void drain_all() {
  // an order that the program did not ask for: who relies on it has forgotten an event
  std::vector<Stream *> all = streams;
  if (!oldest_first)
    std::reverse(all.begin(), all.end());
  for (Stream *s : all)
    drain(s);
}

// The default stream and blocking streams of one device wait for each other.
static cudaError_t order_default(Stream *s) {
  if (!is_default(s) && !s->blocking)
    return cudaSuccess;
  for (Stream *o : streams) {
    if (o == s || o->device != s->device || (is_default(s) ? !o->blocking : !is_default(o)))
      continue;
    if (o->capture) {
      o->capture->bad = true;
      return fail(cudaErrorStreamCaptureImplicit, "work in the default stream while a blocking stream captures");
    }
    drain(o);
  }
  return cudaSuccess;
}

cudaError_t enqueue(Stream *s, Op op) {
  s = stream_of(s);
  if (s->capture) {
    s->capture->graph->ops.push_back(std::move(op));
    s->captured++;
    return cudaSuccess;
  }
  if (is_default(s))
    // stricter than CUDA, which allows it beside a capture in a non-blocking stream
    for (Stream *o : streams)
      if (o->capture && o->device == s->device) {
        o->capture->bad = true;
        return fail(cudaErrorStreamCaptureImplicit, "work in the default stream while another captures");
      }
  if (cudaError_t e = order_default(s))
    return e;
  s->queue.push_back(std::move(op));
  if (!lazy)
    drain(s);
  return cudaSuccess;
}

cudaError_t not_capturing(const char *what, Stream *only) {
  for (Stream *s : streams) {
    if (!s->capture || (only && s != only))
      continue;
    // another thread may go on with its own work beside a thread-local capture
    if (s != only && s->capture->mode != cudaStreamCaptureModeGlobal &&
        s->capture->thread != std::this_thread::get_id())
      continue;
    s->capture->bad = true;
    return fail(cudaErrorStreamCaptureUnsupported, what);
  }
  return cudaSuccess;
}

static double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static cudaError_t waited() {
  counts[SYNCS]++;
  // where the host waits pools give back what they hold beyond their threshold
  for (int i = 0; i < device_count(); i++)
    give_back(device(i), device(i).pool.threshold);
  if (due(FAIL_SYNC))
    return last = sticky = cudaErrorLaunchFailure;
  return sticky;
}

static void await(const std::shared_ptr<Record> &r) {
  while (r->stream && step(r->stream)) {
  }
}

} // namespace emu

using namespace emu;

// ---- streams ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
  Call call;
  if (call.error)
    return call.error;
  if (device_count() == 0)
    return fail(cudaErrorNoDevice);
  *s = new Stream;
  (*s)->device = current_device;
  (*s)->blocking = !(flags & cudaStreamNonBlocking);
  streams.push_back(*s);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int) {
  return cudaStreamCreateWithFlags(s, flags);
}

cudaError_t cudaStreamCreate(cudaStream_t *s) {
  return cudaStreamCreateWithFlags(s, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t s) {
  Call call;
  auto i = std::find(streams.begin(), streams.end(), s);
  if (!s || i == streams.end())
    die("a stream is destroyed that does not exist");
  if (s->capture)
    die("a capturing stream is destroyed");
  drain(s);
  streams.erase(i);
  delete s;
  return call.error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  Call call;
  s = stream_of(s);
  if (call.error)
    return call.error;
  if (cudaError_t e = not_capturing("synchronisation of a stream while it captures", s))
    return e;
  if (cudaError_t e = not_capturing("synchronisation while a stream captures"))
    return e;
  drain(s);
  return waited();
}

cudaError_t cudaStreamQuery(cudaStream_t s) {
  Call call;
  s = stream_of(s);
  if (call.error)
    return call.error;
  if (cudaError_t e = not_capturing("query of a stream while it captures", s))
    return e;
  if (!s->queue.empty()) {
    step(s); // a program may poll
    return cudaErrorNotReady;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Call call;
  if (call.error)
    return call.error;
  if (cudaError_t e = not_capturing("synchronisation of the device while a stream captures"))
    return e;
  drain_all();
  return waited();
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void *arg) {
  Call call;
  return call.error ? call.error : enqueue(s, [=] { f(arg); });
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
  Call call;
  if (call.error)
    return call.error;
  *e = new Event;
  (*e)->timing = !(flags & cudaEventDisableTiming);
  (*e)->device = current_device;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *e) {
  return cudaEventCreateWithFlags(e, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t e) {
  Call call;
  delete e;
  return call.error;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  Call call;
  s = stream_of(s);
  if (call.error)
    return call.error;
  if (e->device != s->device)
    return fail(cudaErrorInvalidResourceHandle, "an event is recorded in a stream of another device");
  auto r = std::make_shared<Record>();
  r->stream = s;
  r->capture = s->capture;
  r->captured = s->captured;
  e->record = r;
  if (s->capture)
    return cudaSuccess;
  return enqueue(s, [r] {
    r->stream = nullptr;
    r->time = now();
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  Call call;
  s = stream_of(s);
  if (call.error)
    return call.error;
  std::shared_ptr<Record> r = e->record;
  if (!r)
    return cudaSuccess;
  if (r->capture) {
    Stream *from = r->stream;
    if (std::find(streams.begin(), streams.end(), from) == streams.end() || from->capture != r->capture)
      return fail(cudaErrorCapturedEvent, "wait for an event of a capture that has ended");
    if (!s->capture) {
      s->capture = r->capture; // the other stream joins the capture
      s->captured = s->joined = 0;
    }
    if (s != from)
      from->joined = std::max(from->joined, r->captured);
    s->captured++;
    return cudaSuccess;
  }
  if (s->capture) {
    s->capture->bad = true;
    return fail(cudaErrorStreamCaptureIsolation, "a capturing stream waits for an event from outside the capture");
  }
  return r->stream ? enqueue(s, [r] { await(r); }) : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e) {
  Call call;
  if (call.error || !e->record)
    return call.error;
  if (e->record->capture)
    return fail(cudaErrorCapturedEvent, "query of an event that was captured");
  if (cudaError_t err = not_capturing("query of an event while a stream captures"))
    return err;
  if (!e->record->stream)
    return cudaSuccess;
  step(e->record->stream); // a program may poll
  return cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  Call call;
  if (call.error)
    return call.error;
  if (e->record && e->record->capture)
    return fail(cudaErrorCapturedEvent, "synchronisation with an event that was captured");
  if (cudaError_t err = not_capturing("synchronisation with an event while a stream captures"))
    return err;
  if (e->record)
    await(e->record);
  return waited();
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
  Call call;
  if (call.error)
    return call.error;
  if (!a->record || !b->record || !a->timing || !b->timing)
    return fail(cudaErrorInvalidResourceHandle, "elapsed time of an event without a time");
  if (a->record->stream || b->record->stream)
    return cudaErrorNotReady;
  *ms = (float)(b->record->time - a->record->time);
  return cudaSuccess;
}

// ---- graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
  Call call;
  if (call.error)
    return call.error;
  if (!s || s->capture)
    return fail(cudaErrorStreamCaptureUnsupported, "a capture needs a stream of its own that does not capture yet");
  s->capture = new Capture;
  s->capture->origin = s;
  s->capture->mode = mode;
  s->capture->thread = std::this_thread::get_id();
  s->captured = s->joined = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) {
  Call call;
  *g = nullptr;
  Capture *c = s ? s->capture : nullptr;
  if (!c || c->origin != s)
    return fail(cudaErrorInvalidValue, "the end of a capture that did not begin in this stream");
  cudaError_t e = c->bad ? cudaErrorStreamCaptureInvalidated : call.error;
  for (Stream *o : streams) {
    if (o->capture != c)
      continue;
    if (o != s && o->joined < o->captured && !e)
      e = cudaErrorStreamCaptureUnjoined;
    o->capture = nullptr;
  }
  if (e)
    delete c->graph;
  else
    *g = c->graph;
  delete c;
  return e ? fail(e, e == cudaErrorStreamCaptureUnjoined ? "a stream of the capture was not joined to its origin"
                                                         : "the capture was invalidated")
           : cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status) {
  Call call;
  const Capture *c = stream_of(s)->capture;
  *status = !c       ? cudaStreamCaptureStatusNone
            : c->bad ? cudaStreamCaptureStatusInvalidated
                     : cudaStreamCaptureStatusActive;
  return call.error;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
  static thread_local cudaStreamCaptureMode own = cudaStreamCaptureModeGlobal;
  std::swap(own, *mode);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long) {
  Call call;
  if (call.error)
    return call.error;
  *x = new GraphExec{std::make_shared<const std::vector<Op>>(g->ops)};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return Call().error;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s) {
  Call call;
  if (call.error)
    return call.error;
  if (!x)
    return fail(cudaErrorInvalidValue, "launch of a graph that was not instantiated");
  counts[GRAPH_LAUNCHES]++;
  return enqueue(s, [ops = x->ops] {
    for (const Op &op : *ops)
      op();
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *nodes, size_t *n) {
  Call call;
  if (nodes)
    return fail(cudaErrorNotSupported, "nodes of a graph can only be counted");
  *n = g->ops.size();
  return call.error;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g) {
  Call call;
  delete g;
  return call.error;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x) {
  Call call;
  delete x;
  return call.error;
}
