// The table of one ABI of TensorRT. Compiled once per ABI: each shim_*.cpp names
// its ABI in GLADD_TRT_ABI (8, 10, 11 or 1, TensorRT for RTX), the name of its
// table in GLADD_TRT_TABLE, and includes this.
//
// TensorRT's classes are called through their virtual tables, which differ from
// ABI to ABI. All of 10.x has the slots that are used here since 10.0, those
// excepted that ask for the library's version below.

#include "state.hpp"

#include <new>
#include <utility>

// Inline functions of two ABIs have the same names, and the linker would keep
// one of them for both. Each ABI therefore gets namespaces of its own.
#define GLADD_TRT_JOIN2(a, b) a##_abi##b
#define GLADD_TRT_JOIN(a, b) GLADD_TRT_JOIN2(a, b)
#define nvinfer1 GLADD_TRT_JOIN(nvinfer1, GLADD_TRT_ABI)
#define nvonnxparser GLADD_TRT_JOIN(nvonnxparser, GLADD_TRT_ABI)

#if !__has_include(GLADD_TRT_INFER)
#error "TensorRT's headers are missing: run scripts/tensorrt-headers.sh; those of 8.x come with the system"
#endif
#include GLADD_TRT_INFER
#include GLADD_TRT_PARSER

namespace {

using namespace gladd_trt;
using namespace nvinfer1;

class Logger final : public ILogger {
public:
	explicit Logger(gladd_trt_log *log) : lines(log) {}
	void log(Severity severity, AsciiChar const *text) noexcept override { lines->write(static_cast<int>(severity), text); }

private:
	gladd_trt_log *lines;
};

#if GLADD_TRT_ABI != 8
class Monitor final : public IProgressMonitor {
public:
	explicit Monitor(gladd_trt_build *build) : build(build) {}
	void phaseStart(char const *name, char const *parent, int32_t steps) noexcept override { build->start(name, parent, steps); }
	bool stepComplete(char const *name, int32_t step) noexcept override { return build->step(name, step); }
	void phaseFinish(char const *name) noexcept override { build->finish(name); }

private:
	gladd_trt_build *build;
};
#endif

// Owns an object of TensorRT.
template <typename T> class Own {
public:
	explicit Own(T *object) : object(is_object(object) ? object : nullptr) {}
	~Own() { delete object; }
	Own(Own &&other) noexcept : object(other.object) { other.object = nullptr; }
	Own &operator=(Own &&) = delete;
	T *operator->() const { return object; }
	T &operator*() const { return *object; }
	explicit operator bool() const { return object != nullptr; }
	T *release() {
		T *released = object;
		object = nullptr;
		return released;
	}

private:
	T *object;
};

using Create = void *(*)(void *, int32_t);

// create calls one of TensorRT's exported constructors. The version is the
// library's own: it accepts no other, and its ABI was chosen by it.
template <typename T> T *create(const gladd_trt_library *library, void *function, gladd_trt_failure *failure) {
	if (!function) {
		copy(failure->cause, "the library has no such function");
		return nullptr;
	}
	void *object = reinterpret_cast<Create>(function)(library->logger, library->version);
	return is_object(object) ? static_cast<T *>(object) : nullptr;
}

bool to_dims(const int64_t *shape, int n, Dims &dims) {
	if (n < 0 || n > Dims::MAX_DIMS) {
		return false;
	}
	dims.nbDims = n;
	for (int i = 0; i < n; i++) {
		dims.d[i] = static_cast<std::remove_reference_t<decltype(dims.d[0])>>(shape[i]);
		if (dims.d[i] != shape[i]) {
			return false; // 8.x counts in 32 bits
		}
	}
	return true;
}

int from_dims(const Dims &dims, int64_t *shape) {
	if (dims.nbDims < 0 || dims.nbDims > Dims::MAX_DIMS) {
		return -1;
	}
	for (int i = 0; i < dims.nbDims; i++) {
		shape[i] = dims.d[i];
	}
	return dims.nbDims;
}

#if GLADD_TRT_ABI == 10
// since says whether a 10.x library is new enough for a slot.
bool since(const gladd_trt_library *library, int version) { return library->version >= version; }
constexpr int v10_1 = 100100; // setDeviceMemoryV2, getDeviceMemorySizeV2
#endif

#include "shim_build.hpp"
#include "shim_run.hpp"

void *make_logger(gladd_trt_log *log) { return new (std::nothrow) Logger(log); }

} // namespace

extern "C" const gladd_trt_shim GLADD_TRT_TABLE = {
	make_logger, build, runtime, engine, engine_info, engine_tensor, engine_range, context, kernels, free_object<IHostMemory>, set_profile, set_memory,
	set_shape, set_address, shape, enqueue, repeat, free_object<IRuntime>, free_object<ICudaEngine>, free_object<Context>,
};
