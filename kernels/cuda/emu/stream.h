// Streams, events and graphs. A stream is a queue of closures that runs when something waits for it (EMU_LAZY=1: newest
// stream first, 2: oldest first) or at once (0). A graph is the list recorded while a stream captured.
#pragma once
#include "memory.h"
#include "types.h"
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#pragma GCC visibility push(hidden)

namespace emu {

typedef std::function<void()> Op;

struct Graph {
  std::vector<Op> ops;
};

struct GraphExec {
  std::shared_ptr<const std::vector<Op>> ops;
};

struct Capture {
  Graph *graph = new Graph;
  Stream *origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool bad = false;
};

struct Stream {
  std::deque<Op> queue;
  Capture *capture = nullptr;
  int device = 0;
  bool blocking = true;            // waits for the default stream, and it for this one
  size_t captured = 0, joined = 0; // operations while capturing, those that another stream has waited for
};

// One cudaEventRecord.
struct Record {
  Stream *stream = nullptr; // NULL when done
  Capture *capture = nullptr;
  size_t captured = 0;
  double time = 0;
};

struct Event {
  std::shared_ptr<Record> record;
  bool timing = true;
  int device = 0;
};

extern bool lazy;
// __thread: thread_local would go through a wrapper, which not every linker finds when it is hidden
extern __thread cudaError_t last;
extern cudaError_t sticky;

cudaError_t fail(cudaError_t e); // becomes the last error
cudaError_t fail(cudaError_t e, const char *why);
Stream *stream_of(Stream *s);                                     // the default stream of the current device for NULL
cudaError_t enqueue(Stream *s, Op op);                            // or records it
cudaError_t not_capturing(const char *what, Stream *s = nullptr); // error 900 where a capture forbids it
bool step(Stream *s);
void drain(Stream *s);
void drain_all();

// The start of an API call: takes the lock; error is the sticky one.
struct Call {
  std::lock_guard<std::recursive_mutex> guard{lock};
  cudaError_t error = sticky;
};

} // namespace emu

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int priority);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamCreate(cudaStream_t *s);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamQuery(cudaStream_t s);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags = 0);
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void *arg);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s = nullptr);
cudaError_t cudaEventQuery(cudaEvent_t e);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags = 0);
cudaError_t cudaGraphUpload(cudaGraphExec_t x, cudaStream_t s);
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s);
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *nodes, size_t *n);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x);

#pragma GCC visibility pop
