#include "memory.h"
#include "asan.h"
#include "counts.h"
#include "fiber.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

namespace emu {

std::recursive_mutex lock;
__thread int current_device;

static std::map<const char *, Block> blocks;
static int open_depth;
static uint64_t serial;

static struct Devices {
  int n = (int)std::clamp<unsigned long long>(env("EMU_DEVICES", 1), 0, 8);
  Device all[8];
  Devices() {
    for (Device &d : all)
      d.limit = (size_t)env("EMU_MEM", 1u << 30);
  }
} devices;

int device_count() {
  return devices.n;
}
Device &device(int i) {
  return devices.all[i];
}

const Block *block_of(const void *p, size_t n) {
  auto i = blocks.upper_bound((const char *)p);
  if (i == blocks.begin())
    return nullptr;
  --i;
  return (size_t)((const char *)p - i->first) + n <= i->second.size ? &i->second : nullptr;
}

static void open(const char *p, const Block &b) {
  (void)p, (void)b;
  if (b.live)
    EMU_ASAN(ASAN_UNPOISON_MEMORY_REGION(p, b.size));
}

static void close(const char *p, const Block &b) {
  (void)p, (void)b;
  EMU_ASAN(ASAN_POISON_MEMORY_REGION(p, b.size));
}

Open::Open() {
  if (open_depth++ == 0)
    for (auto &b : blocks)
      open(b.first, b.second);
}

Open::~Open() {
  if (--open_depth == 0)
    for (auto &b : blocks)
      close(b.first, b.second);
}

bool out_of_memory(const Device &d, size_t n) {
  return n > d.limit - std::min(d.limit, d.plain + d.pool.reserved);
}

cudaError_t take(void **p, size_t n, int on, bool pooled, bool live) {
  Device &d = device(on);
  *p = nullptr;
  size_t cached = pooled ? d.pool.reserved - d.pool.used : 0;
  if (out_of_memory(d, n - std::min(n, cached)) || posix_memalign(p, 256, n)) {
    *p = nullptr;
    return cudaErrorMemoryAllocation;
  }
  memset(*p, 0xFF, n);
  if (pooled) {
    MemPool &pool = d.pool;
    pool.used += n;
    pool.reserved = std::max(pool.reserved, pool.used);
    pool.used_high = std::max(pool.used_high, pool.used);
    pool.reserved_high = std::max(pool.reserved_high, pool.reserved);
  } else {
    d.plain += n;
  }
  Block b = {n, on, pooled, live, false, ++serial};
  blocks[(char *)*p] = b;
  if (!open_depth || !live)
    close((char *)*p, b);
  return cudaSuccess;
}

void make_live(void *p) {
  auto i = blocks.find((char *)p);
  if (i == blocks.end())
    die("a block was freed before its stream reached the allocation");
  i->second.live = true;
  if (open_depth)
    open(i->first, i->second);
}

void leave(void *p) {
  auto i = blocks.find((char *)p);
  if (i == blocks.end())
    die("free of %p, which is not a device allocation (or was freed before)", p);
  if (i->second.leaving)
    die("second free of %p", p);
  i->second.leaving = true;
}

void release(void *p) {
  auto i = blocks.find((char *)p);
  if (i == blocks.end())
    die("free of %p, which is not a device allocation (or was freed before)", p);
  Device &d = device(i->second.device);
  counts[FREES]++;
  (i->second.pooled ? d.pool.used : d.plain) -= i->second.size;
  EMU_ASAN(ASAN_UNPOISON_MEMORY_REGION(p, i->second.size));
  // what a later allocation finds here is not this block's last contents
  memset(p, 0xFF, i->second.size);
  blocks.erase(i);
  free(p);
}

void give_back(Device &d, size_t keep) {
  d.pool.reserved = std::max(d.pool.used, std::min(keep, d.pool.reserved));
}

} // namespace emu
