//go:build linux && cgo

// The CUDA driver's calls that gladd uses, looked up in libcuda.so.1 at run
// time. The declarations are gladd's own, written after the CUDA Driver API
// reference; no header of CUDA is needed.
//
// Handles (CUcontext, CUstream, CUevent, CUgraph, CUgraphExec) are opaque
// pointers and travel as uintptr_t, so that Go never takes one for memory of
// its own. Device addresses (CUdeviceptr) are 64-bit numbers on all systems
// that CUDA 11.4 or newer runs on. Every call returns a CUresult: 0 is success.

#ifndef GLADD_CUDA_LIBRARY_H
#define GLADD_CUDA_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

// X(symbol, parameters, arguments) for each call.
#define GLADD_CUDA_CALLS(X)                                                                                            \
	X(cuDriverGetVersion, (int *version), (version))                                                                   \
	X(cuInit, (unsigned int flags), (flags))                                                                           \
	X(cuGetErrorName, (int code, const char **name), (code, name))                                                     \
	X(cuGetErrorString, (int code, const char **text), (code, text))                                                   \
	X(cuDeviceGetCount, (int *count), (count))                                                                         \
	X(cuDeviceGet, (int *device, int ordinal), (device, ordinal))                                                      \
	X(cuDeviceGetName, (char *name, int bytes, int device), (name, bytes, device))                                     \
	X(cuDeviceTotalMem_v2, (size_t *bytes, int device), (bytes, device))                                               \
	X(cuDeviceGetAttribute, (int *value, int attribute, int device), (value, attribute, device))                       \
	X(cuDevicePrimaryCtxRetain, (uintptr_t *context, int device), (context, device))                                   \
	X(cuDevicePrimaryCtxRelease_v2, (int device), (device))                                                            \
	X(cuDevicePrimaryCtxReset_v2, (int device), (device))                                                              \
	X(cuCtxSetCurrent, (uintptr_t context), (context))                                                                 \
	X(cuMemGetInfo_v2, (size_t *available, size_t *total), (available, total))                                         \
	X(cuMemAlloc_v2, (uint64_t *address, size_t bytes), (address, bytes))                                              \
	X(cuMemFree_v2, (uint64_t address), (address))                                                                     \
	X(cuMemHostAlloc, (void **memory, size_t bytes, unsigned int flags), (memory, bytes, flags))                       \
	X(cuMemFreeHost, (void *memory), (memory))                                                                         \
	X(cuMemcpyHtoDAsync_v2, (uint64_t to, const void *from, size_t bytes, uintptr_t stream), (to, from, bytes, stream)) \
	X(cuMemcpyDtoHAsync_v2, (void *to, uint64_t from, size_t bytes, uintptr_t stream), (to, from, bytes, stream))      \
	X(cuMemcpyDtoDAsync_v2, (uint64_t to, uint64_t from, size_t bytes, uintptr_t stream), (to, from, bytes, stream))   \
	X(cuMemsetD8Async, (uint64_t to, unsigned char value, size_t bytes, uintptr_t stream), (to, value, bytes, stream)) \
	X(cuStreamCreate, (uintptr_t *stream, unsigned int flags), (stream, flags))                                        \
	X(cuStreamDestroy_v2, (uintptr_t stream), (stream))                                                                \
	X(cuStreamSynchronize, (uintptr_t stream), (stream))                                                               \
	X(cuStreamQuery, (uintptr_t stream), (stream))                                                                     \
	X(cuStreamBeginCapture_v2, (uintptr_t stream, int mode), (stream, mode))                                           \
	X(cuStreamEndCapture, (uintptr_t stream, uintptr_t *graph), (stream, graph))                                       \
	X(cuGraphInstantiateWithFlags, (uintptr_t *executable, uintptr_t graph, unsigned long long flags),                 \
	  (executable, graph, flags))                                                                                      \
	X(cuGraphDestroy, (uintptr_t graph), (graph))                                                                      \
	X(cuGraphLaunch, (uintptr_t executable, uintptr_t stream), (executable, stream))                                   \
	X(cuGraphExecDestroy, (uintptr_t executable), (executable))                                                        \
	X(cuEventCreate, (uintptr_t *event, unsigned int flags), (event, flags))                                           \
	X(cuEventDestroy_v2, (uintptr_t event), (event))                                                                   \
	X(cuEventRecord, (uintptr_t event, uintptr_t stream), (event, stream))                                             \
	X(cuEventSynchronize, (uintptr_t event), (event))                                                                  \
	X(cuEventElapsedTime, (float *milliseconds, uintptr_t start, uintptr_t end), (milliseconds, start, end))

#define GLADD_CUDA_UNPACK(...) __VA_ARGS__

// gladd_cuda holds the library and the calls that were found in it.
typedef struct gladd_cuda {
	void *library;
#define GLADD_CUDA_MEMBER(symbol, parameters, arguments) int(*symbol) parameters;
	GLADD_CUDA_CALLS(GLADD_CUDA_MEMBER)
#undef GLADD_CUDA_MEMBER
	int (*cuDeviceGetUuid)(char uuid[16], int device); // the _v2 of it where there is one
} gladd_cuda;

enum gladd_cuda_status {
	GLADD_CUDA_OPENED = 0,
	GLADD_CUDA_NOT_LOADED = 1,     // problem: the loader's words
	GLADD_CUDA_SYMBOL_MISSING = 2, // problem: the symbol
	GLADD_CUDA_NO_MEMORY = 3,
};

typedef struct gladd_cuda_opening {
	enum gladd_cuda_status status;
	gladd_cuda *cuda; // NULL unless it was opened
	int version;      // that the driver says; 0: it cannot say
	char *problem;    // for the caller to free
} gladd_cuda_opening;

// gladd_cuda_open loads the library and looks up every call.
gladd_cuda_opening gladd_cuda_open(const char *path);

// gladd_cuda_close frees what gladd_cuda_open made. The library stays mapped.
void gladd_cuda_close(gladd_cuda *cuda);

// gladd_cuda_SYMBOL makes each call.
#define GLADD_CUDA_DECLARE(symbol, parameters, arguments)                                                              \
	int gladd_cuda_##symbol(const gladd_cuda *cuda, GLADD_CUDA_UNPACK parameters);
GLADD_CUDA_CALLS(GLADD_CUDA_DECLARE)
#undef GLADD_CUDA_DECLARE

// gladd_cuda_allocate_pinned calls cuMemHostAlloc; NULL unless code is 0 after it.
void *gladd_cuda_allocate_pinned(const gladd_cuda *cuda, size_t bytes, int *code);

// gladd_cuda_error_name and gladd_cuda_error_text give the driver's words for a
// code, which are not to be freed; NULL: it does not know the code.
const char *gladd_cuda_error_name(const gladd_cuda *cuda, int code);
const char *gladd_cuda_error_text(const gladd_cuda *cuda, int code);

int gladd_cuda_cuDeviceGetUuid(const gladd_cuda *cuda, char *uuid, int device);

#endif
