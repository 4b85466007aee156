// The C face of TensorRT: what Go calls. One table of functions per ABI stands
// behind it, see shim.hpp. No function throws, and none keeps memory of its
// caller after it returned.
#ifndef GLADD_TRT_H
#define GLADD_TRT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	GLADD_TRT_TEXT = 1024, // bytes of an error's text
	GLADD_TRT_LINE = 512,  // bytes of a log line
	GLADD_TRT_NAME = 256,  // bytes of a tensor's or node's name
	GLADD_TRT_DIMS = 8,    // TensorRT's Dims::MAX_DIMS
	GLADD_TRT_PHASES = 16, // phases of a build that are followed at once
};

// What a call returns, as bits.
enum {
	GLADD_TRT_FAILED = 1,
	GLADD_TRT_LOGGED = 2, // the log has lines
};

// Stages of a build.
enum { GLADD_TRT_PARSE = 1, GLADD_TRT_CONFIGURE, GLADD_TRT_BUILD, GLADD_TRT_SERIALIZE };

// Reasons of a build's failure that are known without reading its text.
enum {
	GLADD_TRT_OTHER = 0,
	GLADD_TRT_CORRUPT,
	GLADD_TRT_NO_OUTPUTS,
	GLADD_TRT_UNSUPPORTED,
	GLADD_TRT_NO_PROFILE,
	GLADD_TRT_RANGE,
	GLADD_TRT_CANCELLED,
};

// Why a call failed. The caller owns it.
typedef struct {
	int stage, reason; // of a build
	char call[64];     // TensorRT's function that failed
	char node[GLADD_TRT_NAME];
	char operation[GLADD_TRT_NAME];
	char cause[GLADD_TRT_TEXT];
} gladd_trt_failure;

typedef struct gladd_trt_log gladd_trt_log;

typedef struct {
	int severity; // ILogger::Severity: 0 internal error, 1 error, 2 warning, 3 info, 4 verbose
	char text[GLADD_TRT_LINE];
} gladd_trt_line;

// Lines of a severity above the given are dropped, and not counted.
void gladd_trt_log_level(gladd_trt_log *log, int severity);
// Moves up to max of the oldest lines to lines and returns how many. dropped is
// the number of lines that found the ring full since the last call.
int gladd_trt_log_drain(gladd_trt_log *log, gladd_trt_line *lines, int max, uint64_t *dropped);

// The range of one input in one optimization profile.
typedef struct {
	int profile; // counted from 0
	int dims;
	char input[GLADD_TRT_NAME];
	int64_t min[GLADD_TRT_DIMS], opt[GLADD_TRT_DIMS], max[GLADD_TRT_DIMS];
} gladd_trt_range;

typedef struct {
	int profiles;
	int ranges;
	int64_t workspace;      // bytes; 0: TensorRT's own limit
	int64_t tactics;        // bytes; 0: TensorRT's own limit; not for 8.x
	int fp16;               // 8.x only
	int compute_capability; // such as 86, TensorRT for RTX only; 0: that of the GPU
} gladd_trt_build_options;

// A build in progress and its result.
typedef struct gladd_trt_build gladd_trt_build;

typedef struct {
	char name[128], parent[128];
	int step, steps;
} gladd_trt_phase;

gladd_trt_build *gladd_trt_build_new(void);
void gladd_trt_build_free(gladd_trt_build *build);
// May be called from any thread while the build runs.
void gladd_trt_build_cancel(gladd_trt_build *build);
int gladd_trt_build_progress(gladd_trt_build *build, gladd_trt_phase *phases, int max);
// The results of a build that succeeded; they live as long as it.
const void *gladd_trt_build_plan(const gladd_trt_build *build, size_t *size);
const void *gladd_trt_build_timing_cache(const gladd_trt_build *build, size_t *size);
int gladd_trt_build_layers(const gladd_trt_build *build);

typedef struct {
	char name[GLADD_TRT_NAME];
	int input;      // 1: input, 0: output
	int type;       // nvinfer1::DataType
	int on_host;    // 1: the address must be the host's
	int is_linear;  // 0: a packed format
	int dims;       // -1: unknown
	int64_t shape[GLADD_TRT_DIMS];
} gladd_trt_tensor;

typedef struct gladd_trt_shim gladd_trt_shim;

// An opened library. It is never closed: TensorRT leaves threads and exit
// handlers behind.
typedef struct {
	const gladd_trt_shim *shim;
	int version; // of getInferLibVersion
	gladd_trt_log *log;
	void *logger; // the ABI's ILogger
	void *create_builder, *create_runtime, *create_parser;
	void *handle, *parser;
	char path[4096];
} gladd_trt_library;

// Opens a library and reads its version; null on failure.
gladd_trt_library *gladd_trt_open(const char *path, gladd_trt_failure *failure);
// Forgets a library that was opened a second time; it stays loaded.
void gladd_trt_forget(gladd_trt_library *library);
// Opens the ONNX parser's library.
int gladd_trt_open_parser(gladd_trt_library *library, const char *path, gladd_trt_failure *failure);
// Chooses the ABI 8, 10, 11 or 1 (TensorRT for RTX). 0: this build has it not.
int gladd_trt_use(gladd_trt_library *library, int abi);
int gladd_trt_has(int abi);

// The table of one ABI. Objects are TensorRT's own, as opaque pointers.
struct gladd_trt_shim {
	void *(*logger)(gladd_trt_log *log);
	int (*build)(const gladd_trt_library *library, const void *network, size_t size, const char *path,
		const gladd_trt_range *ranges, const void *timing_cache, size_t timing_cache_size,
		const gladd_trt_build_options *options, gladd_trt_build *build, gladd_trt_failure *failure);
	int (*runtime)(const gladd_trt_library *library, void **runtime, gladd_trt_failure *failure);
	int (*engine)(const gladd_trt_library *library, void *runtime, const void *plan, size_t size, void **engine, gladd_trt_failure *failure);
	int (*engine_info)(const gladd_trt_library *library, void *engine, int *tensors, int *profiles, int64_t *memory, gladd_trt_failure *failure);
	int (*engine_tensor)(const gladd_trt_library *library, void *engine, int index, gladd_trt_tensor *tensor, gladd_trt_failure *failure);
	int (*engine_range)(const gladd_trt_library *library, void *engine, gladd_trt_range *range, gladd_trt_failure *failure);
	// kernels are those of an earlier context, for TensorRT for RTX; taken says whether they are of use.
	int (*context)(const gladd_trt_library *library, void *engine, const void *kernels, size_t size, int *taken, void **context, gladd_trt_failure *failure);
	// The kernels that a context has now. memory is freed by free_memory; null: there are none.
	int (*kernels)(const gladd_trt_library *library, void *context, void **memory, const void **data, size_t *size, gladd_trt_failure *failure);
	int (*free_memory)(const gladd_trt_library *library, void *memory, gladd_trt_failure *failure);
	int (*set_profile)(const gladd_trt_library *library, void *context, int profile, uintptr_t stream, gladd_trt_failure *failure);
	int (*set_memory)(const gladd_trt_library *library, void *context, uintptr_t address, int64_t size, gladd_trt_failure *failure);
	int (*set_shape)(const gladd_trt_library *library, void *context, const char *name, const int64_t *shape, int dims, gladd_trt_failure *failure);
	int (*set_address)(const gladd_trt_library *library, void *context, const char *name, uintptr_t address, gladd_trt_failure *failure);
	int (*shape)(const gladd_trt_library *library, void *context, const char *name, int64_t *shape, int *dims, gladd_trt_failure *failure);
	int (*enqueue)(const gladd_trt_library *library, void *context, uintptr_t stream, gladd_trt_failure *failure);
	int (*repeat)(const gladd_trt_library *library, void **contexts, int count, uintptr_t stream, int rounds, gladd_trt_failure *failure);
	int (*free_runtime)(const gladd_trt_library *library, void *runtime, gladd_trt_failure *failure);
	int (*free_engine)(const gladd_trt_library *library, void *engine, gladd_trt_failure *failure);
	int (*free_context)(const gladd_trt_library *library, void *context, gladd_trt_failure *failure);
};

#ifdef __cplusplus
}
#else
// Go cannot call through a pointer.
#define GLADD_TRT_CALL(name, parameters, ...) \
	static inline int gladd_trt_do_##name parameters { return library->shim->name(library, __VA_ARGS__, failure); }
#define GLADD_TRT_LIBRARY const gladd_trt_library *library
GLADD_TRT_CALL(build, (GLADD_TRT_LIBRARY, const void *network, size_t size, const char *path, const gladd_trt_range *ranges,
	const void *timings, size_t timings_size, const gladd_trt_build_options *options, gladd_trt_build *build, gladd_trt_failure *failure),
	network, size, path, ranges, timings, timings_size, options, build)
GLADD_TRT_CALL(runtime, (GLADD_TRT_LIBRARY, void **runtime, gladd_trt_failure *failure), runtime)
GLADD_TRT_CALL(engine, (GLADD_TRT_LIBRARY, void *runtime, const void *plan, size_t size, void **engine, gladd_trt_failure *failure),
	runtime, plan, size, engine)
GLADD_TRT_CALL(engine_info, (GLADD_TRT_LIBRARY, void *engine, int *tensors, int *profiles, int64_t *memory, gladd_trt_failure *failure),
	engine, tensors, profiles, memory)
GLADD_TRT_CALL(engine_tensor, (GLADD_TRT_LIBRARY, void *engine, int index, gladd_trt_tensor *tensor, gladd_trt_failure *failure),
	engine, index, tensor)
GLADD_TRT_CALL(engine_range, (GLADD_TRT_LIBRARY, void *engine, gladd_trt_range *range, gladd_trt_failure *failure), engine, range)
GLADD_TRT_CALL(context, (GLADD_TRT_LIBRARY, void *engine, const void *kernels, size_t size, int *taken, void **context, gladd_trt_failure *failure),
	engine, kernels, size, taken, context)
GLADD_TRT_CALL(kernels, (GLADD_TRT_LIBRARY, void *context, void **memory, const void **data, size_t *size, gladd_trt_failure *failure),
	context, memory, data, size)
GLADD_TRT_CALL(free_memory, (GLADD_TRT_LIBRARY, void *memory, gladd_trt_failure *failure), memory)
GLADD_TRT_CALL(set_profile, (GLADD_TRT_LIBRARY, void *context, int profile, uintptr_t stream, gladd_trt_failure *failure),
	context, profile, stream)
GLADD_TRT_CALL(set_memory, (GLADD_TRT_LIBRARY, void *context, uintptr_t address, int64_t size, gladd_trt_failure *failure),
	context, address, size)
GLADD_TRT_CALL(set_shape, (GLADD_TRT_LIBRARY, void *context, const char *name, const int64_t *shape, int dims, gladd_trt_failure *failure),
	context, name, shape, dims)
GLADD_TRT_CALL(set_address, (GLADD_TRT_LIBRARY, void *context, const char *name, uintptr_t address, gladd_trt_failure *failure),
	context, name, address)
GLADD_TRT_CALL(shape, (GLADD_TRT_LIBRARY, void *context, const char *name, int64_t *shape, int *dims, gladd_trt_failure *failure),
	context, name, shape, dims)
GLADD_TRT_CALL(enqueue, (GLADD_TRT_LIBRARY, void *context, uintptr_t stream, gladd_trt_failure *failure), context, stream)
GLADD_TRT_CALL(repeat, (GLADD_TRT_LIBRARY, void **contexts, int count, uintptr_t stream, int rounds, gladd_trt_failure *failure),
	contexts, count, stream, rounds)
GLADD_TRT_CALL(free_runtime, (GLADD_TRT_LIBRARY, void *runtime, gladd_trt_failure *failure), runtime)
GLADD_TRT_CALL(free_engine, (GLADD_TRT_LIBRARY, void *engine, gladd_trt_failure *failure), engine)
GLADD_TRT_CALL(free_context, (GLADD_TRT_LIBRARY, void *context, gladd_trt_failure *failure), context)
#endif

#endif
