// Types and enumerators of the CUDA runtime that the backend uses, with CUDA's names and values.
#pragma once
#include <cstddef>
#include <cstdint>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(16) longlong2 {
  long long x, y;
};
struct alignas(16) ulonglong2 {
  unsigned long long x, y;
};
struct alignas(2) uchar2 {
  unsigned char x, y;
};
struct alignas(4) uchar4 {
  unsigned char x, y, z, w;
};
struct alignas(4) ushort2 {
  unsigned short x, y;
};
struct alignas(8) ushort4 {
  unsigned short x, y, z, w;
};

inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline int2 make_int2(int x, int y) {
  return {x, y};
}
inline int4 make_int4(int x, int y, int z, int w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}
inline double2 make_double2(double x, double y) {
  return {x, y};
}
inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) {
  return {x, y, z, w};
}

// name, value: one list for the enumerators and for cudaGetErrorName
#define EMU_ERRORS(X)                       \
  X(cudaSuccess, 0)                         \
  X(cudaErrorInvalidValue, 1)               \
  X(cudaErrorMemoryAllocation, 2)           \
  X(cudaErrorInitializationError, 3)        \
  X(cudaErrorInvalidConfiguration, 9)       \
  X(cudaErrorInvalidMemcpyDirection, 21)    \
  X(cudaErrorInsufficientDriver, 35)        \
  X(cudaErrorInvalidDeviceFunction, 98)     \
  X(cudaErrorNoDevice, 100)                 \
  X(cudaErrorInvalidDevice, 101)            \
  X(cudaErrorNoKernelImageForDevice, 209)   \
  X(cudaErrorInvalidResourceHandle, 400)    \
  X(cudaErrorNotReady, 600)                 \
  X(cudaErrorIllegalAddress, 700)           \
  X(cudaErrorLaunchOutOfResources, 701)     \
  X(cudaErrorPeerAccessAlreadyEnabled, 704) \
  X(cudaErrorLaunchFailure, 719)            \
  X(cudaErrorNotSupported, 801)             \
  X(cudaErrorStreamCaptureUnsupported, 900) \
  X(cudaErrorStreamCaptureInvalidated, 901) \
  X(cudaErrorStreamCaptureUnjoined, 904)    \
  X(cudaErrorStreamCaptureIsolation, 905)   \
  X(cudaErrorStreamCaptureImplicit, 906)    \
  X(cudaErrorCapturedEvent, 907)            \
  X(cudaErrorStreamCaptureWrongThread, 908) \
  X(cudaErrorUnknown, 999)

enum cudaError {
#define EMU_ERROR(name, value) name = value,
  EMU_ERRORS(EMU_ERROR)
#undef EMU_ERROR
};
typedef enum cudaError cudaError_t;

enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};

enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};

enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone,
  cudaStreamCaptureStatusActive,
  cudaStreamCaptureStatusInvalidated
};

enum {
  cudaStreamDefault = 0,
  cudaStreamNonBlocking = 1,
  cudaEventDefault = 0,
  cudaEventBlockingSync = 1,
  cudaEventDisableTiming = 2,
  cudaHostAllocDefault = 0,
  cudaHostAllocPortable = 1
};

enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxGridDimX = 5,
  cudaDevAttrMaxGridDimY = 6,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrMemoryPoolsSupported = 115
};

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};

enum cudaMemPoolAttr {
  cudaMemPoolReuseFollowEventDependencies = 1,
  cudaMemPoolReuseAllowOpportunistic = 2,
  cudaMemPoolReuseAllowInternalDependencies = 3,
  cudaMemPoolAttrReleaseThreshold = 4,
  cudaMemPoolAttrReservedMemCurrent = 5,
  cudaMemPoolAttrReservedMemHigh = 6,
  cudaMemPoolAttrUsedMemCurrent = 7,
  cudaMemPoolAttrUsedMemHigh = 8
};

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
  int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock, maxThreadsPerMultiProcessor, l2CacheSize;
  int maxThreadsDim[3], maxGridSize[3];
};

#pragma GCC visibility push(hidden)
namespace emu {
struct Stream;
struct Event;
struct Graph;
struct GraphExec;
struct MemPool;
} // namespace emu
#pragma GCC visibility pop

typedef emu::Stream *cudaStream_t;
typedef emu::Event *cudaEvent_t;
typedef emu::Graph *cudaGraph_t;
typedef emu::GraphExec *cudaGraphExec_t;
typedef emu::MemPool *cudaMemPool_t;
typedef struct emu_graph_node *cudaGraphNode_t;
typedef void (*cudaHostFn_t)(void *);
