// Threads of a block as fibers. One worker fiber runs them one after another in a loop; a thread that has to wait at a
// barrier keeps its fiber, and the next thread starts on a new one. A kernel without barriers is thus a plain loop.
#pragma once
#include "types.h"

#pragma GCC visibility push(hidden)

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emu {

struct Barrier {
  int n = 0, line = 0;
  unsigned generation = 0;
};

struct Fiber;

extern int lane_index;     // linear index of the running thread in its block
extern int block_threads;  // threads of a block
extern unsigned order;     // EMU_ORDER: 0 forward, 1 reverse, else shuffled by this number
extern bool in_kernel;     // device code runs now
extern const char *kernel; // its name, for messages
extern void *dynamic_shared;
extern uint64_t block_serial; // grows with each block of each launch

// Ends the process with a message: a mistake that a GPU would answer with wrong results or a hang.
[[noreturn]] void die(const char *what, ...) __attribute__((format(printf, 1, 2)));

// Runs job(arg) for every thread of every block.
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*job)(const void *), const void *arg);

void block_wait(int line);
void warp_wait(unsigned mask, int line);
int warp_threads();     // threads of the running thread's warp
uint64_t *warp_lanes(); // one word for each thread of the warp

// A shared array: NaN-filled once for every block, exact in size so that the sanitizer sees its ends.
struct Slot {
  uint64_t serial;
  void *p;
};
void *shared(Slot &slot, size_t bytes, size_t align);

} // namespace emu

#pragma GCC visibility pop
