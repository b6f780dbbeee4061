// What tests may ask of the emulation, and faults that they may order. Both are the only exported symbols besides the
// backend's own; C programs find them with dlsym.
//
// ms_emu_counts writes totals since the library was loaded:
//   0 kernel launches (each one recorded in a capture counts once, when it is recorded)
//   1 calls that made the host wait: synchronisation of a stream, an event or the device, blocking copies, plain frees
//   2 allocations of device memory
//   3 copies, captured ones included
//   4 memsets
//   5 launches of graphs
//   6 frees of device memory
//   7 products and convolutions of the emulated libraries
//
// ms_emu_fail(what, n) orders a fault; it returns 0, or -1 for an unknown `what`. n counts from this call.
//   "launch"         the n-th launch fails with cudaErrorLaunchFailure (n 0: none)
//   "launch_sticky"  the same, and every later call fails with the same error, as after a fault on a GPU
//   "alloc"          the n-th allocation of device memory fails with cudaErrorMemoryAllocation
//   "alloc_host"     the n-th allocation of pinned memory fails
//   "sync"           the n-th call that waits fails with cudaErrorLaunchFailure, sticky
//   "library"        the n-th product or convolution is refused
//   "memory"         a device has n bytes
//   "clear"          no fault is ordered any more, and a sticky error is forgotten
// The environment orders at load: EMU_FAIL_LAUNCH=n with EMU_FAIL_STICKY=1, and EMU_MEM=bytes.
#pragma once

#define EMU_EXPORT extern "C" __attribute__((visibility("default")))

EMU_EXPORT void ms_emu_counts(long long out[8]);
EMU_EXPORT int ms_emu_fail(const char *what, long long n);

namespace emu {
enum Count { LAUNCHES, SYNCS, ALLOCS, COPIES, MEMSETS, GRAPH_LAUNCHES, FREES, LIBRARY, COUNTS };
enum Fault { FAIL_LAUNCH, FAIL_ALLOC, FAIL_ALLOC_HOST, FAIL_SYNC, FAIL_LIBRARY, FAIL_REFUSE, FAIL_CREATE, FAULTS };

#pragma GCC visibility push(hidden)
extern long long counts[COUNTS];
extern bool sticky_launch; // the ordered launch failure is sticky

// Counts down an ordered fault; true when it is due now.
bool due(Fault f);
unsigned long long env(const char *name, unsigned long long otherwise);
#pragma GCC visibility pop
} // namespace emu
