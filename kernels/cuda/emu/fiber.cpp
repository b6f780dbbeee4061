#include "fiber.h"
#include "counts.h"
#include "asan.h"
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>
#if !defined(__x86_64__) || defined(EMU_UCONTEXT)
#include <ucontext.h>
#define EMU_UC 1
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

#ifndef EMU_UC
// Saves the callee-saved registers and the stack pointer of one fiber and loads those of another: swapcontext without
// its two system calls.
extern "C" void emu_switch(void **save, void *load);
asm(".text\n.hidden emu_switch\n.globl emu_switch\n.type emu_switch,@function\nemu_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\nmov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size emu_switch,.-emu_switch\n");
#endif

namespace emu {

int lane_index, block_threads;
unsigned order = (unsigned)env("EMU_ORDER", 0);
bool in_kernel;
const char *kernel = "";
void *dynamic_shared;
uint64_t block_serial;

constexpr size_t STACK = 128 << 10, GUARD = 4096;

struct Fiber {
#ifdef EMU_UC
  ucontext_t context;
#endif
  void *sp = nullptr;
  char *stack = nullptr;
  uint3 tid = {0, 0, 0};
  int index = 0;
  bool busy = false;
  Barrier *at = nullptr;
  unsigned generation = 0;
  void *fake = nullptr;
};

static struct Pool : std::vector<Fiber *> {
  ~Pool() {
    for (Fiber *f : *this) {
      munmap(f->stack - GUARD, STACK + GUARD);
      delete f;
    }
  }
} pool;

static struct SharedArrays : std::vector<void *> {
  ~SharedArrays() {
    for (void *p : *this)
      free(p);
  }
} shared_arrays;

static Fiber *self, host;
[[maybe_unused]] static const void *host_stack; // of the scheduler, for the sanitizer
[[maybe_unused]] static size_t host_size;
static int next_thread, done_threads;
static std::vector<int> sequence;
static std::vector<Barrier> barriers; // 0: block, 1 + w: warp w
static std::vector<uint64_t> lanes;
static void (*job)(const void *);
static const void *job_arg;

void die(const char *what, ...) {
  fprintf(stderr, "emu: %s%s", kernel, *kernel ? ": " : "");
  va_list list;
  va_start(list, what);
  vfprintf(stderr, what, list);
  va_end(list);
  fputc('\n', stderr);
  if (in_kernel) {
    fprintf(stderr, "emu:   block %u,%u,%u; %d of %d threads finished\n", blockIdx.x, blockIdx.y, blockIdx.z,
            done_threads, block_threads);
    int shown = 0;
    for (Fiber *f : pool)
      if (f->busy && f->at && shown++ < 4)
        fprintf(stderr, "emu:   thread %d waits at line %d\n", f->index, abs(f->at->line));
  }
  abort();
}

// The switch is most of what a barrier costs, and touches nothing of a kernel's: it runs uninstrumented.
#define EMU_BARE __attribute__((no_sanitize("address", "undefined")))

EMU_BARE static void swap_to(Fiber &from, Fiber &to) {
#ifdef EMU_UC
  swapcontext(&from.context, &to.context);
#else
  emu_switch(&from.sp, to.sp);
#endif
}

EMU_BARE static void park() {
  Fiber *me = self;
  EMU_ASAN(__sanitizer_start_switch_fiber(&me->fake, host_stack, host_size));
  swap_to(*me, host);
  EMU_ASAN(__sanitizer_finish_switch_fiber(me->fake, &host_stack, &host_size));
}

EMU_BARE static void resume(Fiber *f) {
  self = f;
  threadIdx = f->tid;
  lane_index = f->index;
  EMU_ASAN(__sanitizer_start_switch_fiber(&host.fake, f->stack, STACK));
  swap_to(host, *f);
  EMU_ASAN(__sanitizer_finish_switch_fiber(host.fake, nullptr, nullptr));
}

EMU_BARE static void worker() {
  EMU_ASAN(__sanitizer_finish_switch_fiber(nullptr, &host_stack, &host_size));
  for (Fiber *me = self;;) {
    while (next_thread < block_threads) {
      unsigned i = (unsigned)sequence[next_thread++];
      me->index = lane_index = (int)i;
      me->tid = threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
      me->busy = true;
      job(job_arg);
      done_threads++;
    }
    me->busy = false;
    me->at = nullptr;
    park();
  }
}

static Fiber *new_fiber() {
  Fiber *f = new Fiber();
  char *m =
      (char *)mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m == MAP_FAILED || mprotect(m, GUARD, PROT_NONE))
    die("no memory for the stacks of threads");
  f->stack = m + GUARD;
#ifdef EMU_UC
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = STACK;
  makecontext(&f->context, worker, 0);
#else
  // six zero registers, worker as return address, then a zero one: the stack as behind a call
  void **top = (void **)(f->stack + STACK) - 1;
  top[-1] = (void *)worker;
  f->sp = top - 7;
#endif
  return f;
}

EMU_BARE static void wait(Barrier &b, int total, int line) {
  if (b.n++ == 0)
    b.line = line;
  else if (b.line != line)
    die("threads of one block wait at different barriers, lines %d and %d", abs(b.line), abs(line));
  if (b.n == total) {
    b.n = 0;
    b.generation++;
    return;
  }
  self->at = &b;
  self->generation = b.generation;
  park();
}

void block_wait(int line) {
  wait(barriers[0], block_threads, line);
}

int warp_threads() {
  return std::min(32, block_threads - lane_index / 32 * 32);
}

uint64_t *warp_lanes() {
  return lanes.data() + lane_index / 32 * 32;
}

void warp_wait(unsigned mask, int line) {
  int n = warp_threads();
  unsigned full = n < 32 ? (1u << n) - 1 : ~0u;
  if ((mask & full) != full)
    die("line %d: a warp operation without its full mask", abs(line));
  wait(barriers[(size_t)(1 + lane_index / 32)], n, line);
}

// The second barrier keeps an early thread of the next count from changing the counter before all have read it.
int count_block(int predicate, int line) {
  static int count;
  if (barriers[0].n == 0) // the first to come
    count = 0;
  count += predicate;
  wait(barriers[0], block_threads, line);
  int all = count;
  wait(barriers[0], block_threads, -line);
  return all;
}

EMU_BARE static void run_block() {
  next_thread = done_threads = 0;
  block_serial++;
  std::fill(barriers.begin(), barriers.end(), Barrier());
  size_t used = 0;
  while (done_threads < block_threads) {
    bool moved = false;
    if (next_thread < block_threads) {
      if (used == pool.size())
        pool.push_back(new_fiber());
      resume(pool[used]);
      used += pool[used]->busy;
      moved = true;
    } else {
      for (size_t i = 0; i < used; i++)
        if (Fiber *f = pool[i]; f->busy && f->at->generation != f->generation) {
          resume(f);
          moved = true;
        }
    }
    if (!moved)
      die("some threads wait at a barrier that others never reach");
  }
}

static void order_threads() {
  sequence.resize((size_t)block_threads);
  for (int i = 0; i < block_threads; i++)
    sequence[(size_t)i] = order == 1 ? block_threads - 1 - i : i;
  unsigned s = order;
  for (int i = block_threads - 1; order > 1 && i > 0; i--) {
    s = s * 1664525u + 1013904223u;
    std::swap(sequence[(size_t)i], sequence[(s >> 8) % (unsigned)(i + 1)]);
  }
}

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*each)(const void *), const void *arg) {
  gridDim = grid;
  blockDim = block;
  block_threads = (int)(block.x * block.y * block.z);
  job = each;
  job_arg = arg;
  barriers.resize((size_t)(1 + (block_threads + 31) / 32));
  lanes.resize((size_t)(block_threads + 31) / 32 * 32);
  order_threads();
  dynamic_shared = nullptr;
  if (shared_bytes && posix_memalign(&dynamic_shared, 16, shared_bytes))
    die("no memory for shared arrays");
  in_kernel = true;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        // blocks run in no order that a kernel may rely on: backwards where threads do
        blockIdx = order == 1 ? uint3{grid.x - 1 - x, grid.y - 1 - y, grid.z - 1 - z} : uint3{x, y, z};
        if (shared_bytes)
          memset(dynamic_shared, 0xFF, shared_bytes);
        run_block();
      }
  in_kernel = false;
  free(dynamic_shared);
  dynamic_shared = nullptr;
}

void *shared(Slot &slot, size_t bytes, size_t align) {
  if (!slot.p) {
    if (posix_memalign(&slot.p, std::max<size_t>(16, align), bytes))
      die("no memory for shared arrays");
    shared_arrays.push_back(slot.p);
  }
  if (slot.serial != block_serial) {
    memset(slot.p, 0xFF, bytes);
    slot.serial = block_serial;
  }
  return slot.p;
}

} // namespace emu
