// Device memory: host blocks of exact size, filled with 0xFF (NaN, or an index far outside), and under the address
// sanitizer closed to the host while no device work runs.
#pragma once
#include "types.h"
#include <mutex>

#pragma GCC visibility push(hidden)

namespace emu {

// Of every API call: one at a time. Host threads may call at once.
extern std::recursive_mutex lock;

struct MemPool {
  size_t threshold = 0, reserved = 0, used = 0, reserved_high = 0, used_high = 0;
};

struct Device {
  size_t limit = 0, plain = 0; // bytes of the device, bytes taken by cudaMalloc
  MemPool pool;
};

struct Block {
  size_t size;
  int device;
  bool pooled;
  bool live;    // the stream has reached the allocation
  bool leaving; // cudaFreeAsync was called
  uint64_t serial;
};

int device_count();
Device &device(int i);
extern __thread int current_device;

// The block that holds all of [p, p + n), or NULL.
const Block *block_of(const void *p, size_t n = 1);
inline bool on_device(const void *p, size_t n = 1) {
  return block_of(p, n);
}

// Begins a block of pinned host memory, which kernels may use.
bool pinned(const void *p);

cudaError_t take(void **p, size_t n, int device, bool pooled, bool live);
void make_live(void *p);                // when its stream reaches the allocation
void leave(void *p);                    // cudaFreeAsync was called: the block must not be used from now on
void release(void *p);                  // frees it
void give_back(Device &d, size_t keep); // what the pool holds beyond `keep` bytes
bool out_of_memory(const Device &d, size_t n);

// Device code, or a copy, runs.
struct Open {
  Open();
  ~Open();
  Open(const Open &) = delete;
  Open &operator=(const Open &) = delete;
};

} // namespace emu

#pragma GCC visibility pop
