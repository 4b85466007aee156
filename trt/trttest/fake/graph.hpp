// What all parts of the fake need: faults, and graphs that ONNX Runtime runs.
#pragma once

#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace fake {

using namespace nvinfer1;
using Shape = std::vector<int64_t>;

// Slots of a virtual table are filled by the index that a pointer to a member
// holds (Itanium C++ ABI, section 2.3; on Arm the lowest bit lies elsewhere). The
// slots that are not filled end the process: the fake never pretends.
template <typename M> size_t slot(M member) {
	struct {
		intptr_t pointer, adjustment;
	} raw;
	static_assert(sizeof raw == sizeof member, "");
	memcpy(&raw, &member, sizeof raw);
	return static_cast<size_t>(raw.pointer & ~intptr_t(1)) / sizeof(void *);
}

inline void unexpected() {
	fprintf(stderr, "fake TensorRT: a function was called that the fake does not have\n");
	abort();
}

struct Table {
	void *slots[200];
	Table() {
		for (void *&slot : slots) {
			slot = reinterpret_cast<void *>(unexpected);
		}
	}
	// set fills the slot of a member function with a function of the same signature
	// that takes the object's first word.
#define FAKE_SET(qualifiers) \
	template <typename R, typename C, typename S, typename... A> Table &set(R (C::*member)(A...) qualifiers, R (*function)(S *, A...)) { \
		slots[slot(member)] = reinterpret_cast<void *>(function); \
		return *this; \
	}
	FAKE_SET(noexcept)
	FAKE_SET(const noexcept)
	FAKE_SET()
	FAKE_SET(const)
#undef FAKE_SET
};

// Part stands where TensorRT's classes keep their implementation.
template <typename Owner> struct Part {
	void **table;
	Owner *owner;
};

// fault is what FAKE_TRT_FAULT, such as "enqueueV3=false,parse=throw", holds for a function.
inline std::string fault(const char *function) {
	const char *faults = getenv("FAKE_TRT_FAULT");
	std::string all = std::string(",") + (faults ? faults : "") + ",", key = std::string(",") + function + "=";
	size_t at = all.find(key);
	if (at == std::string::npos) {
		return "";
	}
	at += key.size();
	return all.substr(at, all.find(',', at) - at);
}

inline void say(ILogger *logger, ILogger::Severity severity, const std::string &text) { logger->log(severity, text.c_str()); }
inline void error(ILogger *logger, const std::string &text) { say(logger, ILogger::Severity::kERROR, text); }

// fails does what the fault of a function says, and tells whether it fails.
inline bool fails(ILogger *logger, const char *function) {
	std::string kind = fault(function);
	if (kind == "throw") {
		throw std::runtime_error("the fake's exception");
	}
	if (kind == "flood") {
		for (int i = 0; i < 100000; i++) {
			say(logger, ILogger::Severity::kWARNING, "line " + std::to_string(i) + std::string(1000, '.'));
		}
		return false;
	}
	if (kind == "trail") {
		error(logger, "the true cause");
		for (int i = 0; i < 20; i++) {
			error(logger, "cudaError 35");
		}
	}
	if (kind == "memory") {
		error(logger, "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)");
	}
	if (kind == "driver") {
		error(logger, "Error Code 1: Cuda Runtime (In ScopedCudaStream at cudaResources.cpp:25 (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))");
	}
	return kind == "driver" || kind == "null" || kind == "false" || kind == "garbage" || kind == "trail" || kind == "memory";
}

// no_object is null, or the small number that TensorRT returns without a GPU.
template <typename T> T *no_object(const char *function) {
	return reinterpret_cast<T *>(uintptr_t(fault(function) == "garbage" ? 0x228 : 0));
}

inline std::string version_text(int version) {
	int major = version >= 10000 ? version / 10000 : version / 1000;
	return std::to_string(major) + "." + std::to_string(version / 100 % (version >= 10000 ? 100 : 10)) + "." + std::to_string(version % 100);
}

// narrows says whether whole numbers of 64 bits are shown and taken as such of 32: 8.x
// does so, others by the fault int64=narrow.
inline bool narrows() { return FAKE_ABI == 8 || fault("int64") == "narrow"; }

inline std::string gpu() {
	const char *name = getenv("FAKE_TRT_GPU");
	return name ? name : "8.7";
}

inline const OrtApi *ort() {
	static const OrtApi *api = [] {
		const char *path = getenv("FAKE_TRT_ONNXRUNTIME");
		void *library = path ? dlopen(path, RTLD_NOW) : nullptr;
		auto base = library ? reinterpret_cast<const OrtApiBase *(*)()>(dlsym(library, "OrtGetApiBase")) : nullptr;
		const OrtApi *found = base ? base()->GetApi(ORT_API_VERSION) : nullptr;
		if (!found) {
			fprintf(stderr, "fake TensorRT: FAKE_TRT_ONNXRUNTIME names no usable ONNX Runtime: %s\n", path ? path : "(not set)");
			abort();
		}
		return found;
	}();
	return api;
}

inline void check(OrtStatus *status) {
	if (status) {
		std::string text = ort()->GetErrorMessage(status);
		ort()->ReleaseStatus(status);
		throw std::runtime_error(text);
	}
}

struct Value {
	std::string name;
	ONNXTensorElementDataType type;
	Shape shape; // -1: dynamic
	std::vector<std::string> symbols;
};

// Graph is an ONNX file that ONNX Runtime has loaded.
class Graph {
public:
	explicit Graph(const std::string &onnx) : bytes(onnx) {
		static OrtEnv *env = [] {
			OrtEnv *made;
			check(ort()->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "fake", &made));
			return made;
		}();
		OrtSessionOptions *options;
		check(ort()->CreateSessionOptions(&options));
		check(ort()->SetIntraOpNumThreads(options, 1));
		OrtStatus *status = ort()->CreateSession ? ort()->CreateSessionFromArray(env, bytes.data(), bytes.size(), options, &session) : nullptr;
		ort()->ReleaseSessionOptions(options);
		check(status);
		size_t n;
		check(ort()->SessionGetInputCount(session, &n));
		for (size_t i = 0; i < n; i++) {
			inputs.push_back(describe(i, ort()->SessionGetInputName, ort()->SessionGetInputTypeInfo));
		}
		check(ort()->SessionGetOutputCount(session, &n));
		for (size_t i = 0; i < n; i++) {
			outputs.push_back(describe(i, ort()->SessionGetOutputName, ort()->SessionGetOutputTypeInfo));
		}
	}
	~Graph() { ort()->ReleaseSession(session); }
	Graph(const Graph &) = delete;
	Graph &operator=(const Graph &) = delete;

	const Value &at(size_t i) const { return i < inputs.size() ? inputs[i] : outputs[i - inputs.size()]; }
	size_t size() const { return inputs.size() + outputs.size(); }

	// resolve puts the sizes of the inputs' dynamic dimensions into an output's.
	Shape resolve(const Value &output, const std::map<std::string, Shape> &shapes) const {
		Shape resolved = output.shape;
		for (size_t d = 0; d < resolved.size(); d++) {
			for (const Value &input : inputs) {
				auto set = shapes.find(input.name);
				for (size_t i = 0; set != shapes.end() && resolved[d] < 0 && i < input.shape.size(); i++) {
					if (input.shape[i] < 0 && (input.symbols[i] == output.symbols[d] || (i == 0 && d == 0))) {
						resolved[d] = set->second[i];
					}
				}
			}
		}
		if (std::find(resolved.begin(), resolved.end(), -1) != resolved.end()) {
			return observed(output, shapes, resolved);
		}
		return resolved;
	}

	// observed runs the graph on zeros to see the shape of an output that the ONNX
	// file leaves open. TensorRT infers it.
	Shape observed(const Value &output, const std::map<std::string, Shape> &shapes, const Shape &unknown) const {
		OrtMemoryInfo *memory;
		check(ort()->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
		std::vector<std::vector<char>> zeros(inputs.size());
		std::vector<OrtValue *> values(inputs.size());
		std::vector<const char *> names(inputs.size());
		bool known = true;
		for (size_t i = 0; i < inputs.size() && known; i++) {
			auto set = shapes.find(inputs[i].name);
			known = set != shapes.end();
			if (!known) {
				break;
			}
			size_t bytes = element_size(inputs[i].type);
			for (int64_t dimension : set->second) {
				bytes *= dimension;
			}
			zeros[i].resize(bytes);
			names[i] = inputs[i].name.c_str();
			check(ort()->CreateTensorWithDataAsOrtValue(memory, zeros[i].data(), bytes, set->second.data(), set->second.size(), inputs[i].type, &values[i]));
		}
		Shape found = unknown;
		if (known) {
			const char *name = output.name.c_str();
			OrtValue *value = nullptr;
			check(ort()->Run(session, nullptr, names.data(), values.data(), values.size(), &name, 1, &value));
			OrtTensorTypeAndShapeInfo *info;
			check(ort()->GetTensorTypeAndShape(value, &info));
			check(ort()->GetDimensions(info, found.data(), found.size()));
			ort()->ReleaseTensorTypeAndShapeInfo(info);
			ort()->ReleaseValue(value);
		}
		for (OrtValue *value : values) {
			ort()->ReleaseValue(value);
		}
		ort()->ReleaseMemoryInfo(memory);
		return found;
	}

	void run(const std::vector<void *> &addresses, const std::vector<Shape> &shapes) const {
		OrtMemoryInfo *memory;
		check(ort()->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
		std::vector<OrtValue *> values(size());
		std::vector<const char *> names(size());
		std::vector<std::vector<int64_t>> widened(size());
		for (size_t i = 0; i < size(); i++) {
			names[i] = at(i).name.c_str();
			size_t count = 1;
			for (int64_t dimension : shapes[i]) {
				count *= dimension;
			}
			void *address = addresses[i];
			if (at(i).type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 && i < inputs.size() && narrows()) {
				const int32_t *narrow = static_cast<const int32_t *>(address);
				widened[i].assign(narrow, narrow + count);
				address = widened[i].data();
			}
			check(ort()->CreateTensorWithDataAsOrtValue(memory, address, count * element_size(at(i).type), shapes[i].data(), shapes[i].size(), at(i).type, &values[i]));
		}
		size_t in = inputs.size();
		OrtStatus *status = ort()->Run(session, nullptr, names.data(), values.data(), in, names.data() + in, outputs.size(), values.data() + in);
		for (OrtValue *value : values) {
			ort()->ReleaseValue(value);
		}
		ort()->ReleaseMemoryInfo(memory);
		check(status);
	}

	static size_t element_size(ONNXTensorElementDataType type) {
		switch (type) {
		case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
			return 8;
		case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
			return 2;
		case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
			return 1;
		default:
			return 4; // float and int32
		}
	}

	const std::string bytes;
	std::vector<Value> inputs, outputs;

private:
	template <typename N, typename T> Value describe(size_t i, N get_name, T get_type) {
		OrtAllocator *allocator;
		check(ort()->GetAllocatorWithDefaultOptions(&allocator));
		char *name;
		check(get_name(session, i, allocator, &name));
		Value value;
		value.name = name;
		check(ort()->AllocatorFree(allocator, name));
		OrtTypeInfo *type;
		check(get_type(session, i, &type));
		const OrtTensorTypeAndShapeInfo *info;
		check(ort()->CastTypeInfoToTensorInfo(type, &info));
		check(ort()->GetTensorElementType(info, &value.type));
		size_t n;
		check(ort()->GetDimensionsCount(info, &n));
		value.shape.resize(n);
		check(ort()->GetDimensions(info, value.shape.data(), n));
		std::vector<const char *> symbols(n);
		check(ort()->GetSymbolicDimensions(info, symbols.data(), n));
		value.symbols.assign(symbols.begin(), symbols.end());
		ort()->ReleaseTypeInfo(type);
		return value;
	}

	OrtSession *session = nullptr;
};

inline DataType data_type(ONNXTensorElementDataType type) {
	switch (type) {
	case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
#if FAKE_ABI != 8
		if (!narrows()) {
			return DataType::kINT64;
		}
#endif
		return DataType::kINT32;
	case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
		return DataType::kINT32;
	case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
		return DataType::kHALF;
	case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
		return DataType::kBOOL;
	default:
		return DataType::kFLOAT;
	}
}

inline Dims to_dims(const Shape &shape) {
	Dims dims{};
	dims.nbDims = static_cast<int32_t>(shape.size());
	std::copy(shape.begin(), shape.end(), dims.d);
	return dims;
}

inline Shape to_shape(const Dims &dims) { return Shape(dims.d, dims.d + dims.nbDims); }

struct Range {
	Shape shapes[3]; // by OptProfileSelector: min, opt, max
	bool holds(const Shape &shape) const {
		for (size_t i = 0; i < shape.size(); i++) {
			if (shape.size() != shapes[0].size() || shape[i] < shapes[0][i] || shape[i] > shapes[2][i]) {
				return false;
			}
		}
		return true;
	}
};
using Profile = std::map<std::string, Range>;

// Memory is an IHostMemory.
struct Memory : IHostMemory {
	std::string bytes;
	Part<Memory> part;
	explicit Memory(std::string content) : bytes(std::move(content)) {
		static Table table = Table()
			.set(&apiv::VHostMemory::data, +[](Part<Memory> *p) -> void * { return &p->owner->bytes[0]; })
			.set(&apiv::VHostMemory::size, +[](Part<Memory> *p) -> size_t { return p->owner->bytes.size(); });
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VHostMemory *>(&part);
	}
};

} // namespace fake
