// Runs CUDA kernels and the part of the CUDA runtime and libraries that the backend uses on the CPU, for tests under
// sanitizers; included instead of the toolkit's headers, and needs none of them. Link all of emu/*.cpp.
//   EMU_ORDER=n     order of threads: 0 forward, 1 reverse, else shuffled by n
//   EMU_LAZY=1, 2   streams run only when something waits for them; the newest, the oldest first
//   EMU_DEVICES=n   devices (1)
//   EMU_MEM=n       bytes of each device (1 GiB)
// Faults on order and counters: counts.h.
#pragma once

#ifdef __CUDACC__
#error "the emulation is for compilers without CUDA"
#endif

#include "types.h"
#include "device_code.h"
#include "launch.h"
#include "runtime.h"
#include "lt.h"
#include "dnn.h"
