// A fake TensorRT and ONNX parser for tests, compiled with the headers of one
// ABI. Its engines run their ONNX graph with ONNX Runtime on what they take for
// device addresses, so that numbers are true.
//
// FAKE_ABI is 8, 10, 11 or 1 (TensorRT for RTX). The environment steers it:
//   FAKE_TRT_ONNXRUNTIME  path of ONNX Runtime's library
//   FAKE_TRT_CUDA         path of a library with fake_cuda_enqueue; unset: the process's, if any
//   FAKE_TRT_GPU          the GPU's compute capability, of which plans take note
//   FAKE_TRT_FAULT        such as "enqueueV3=false,parse=flood", see graph.hpp
#include <algorithm>

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include "graph.hpp"

namespace fake {
extern const int32_t version; // as getInferLibVersion gives it
} // namespace fake

#include "plan.hpp"
#include "run.hpp"
#include "build.hpp"

// The constructors' own declarations promise not to throw; the fault "throw" does.
extern "C" {
#define EXPORTED(name) __asm__(name) __attribute__((visibility("default")))
int32_t fake_version() EXPORTED("getInferLibVersion");
void *fake_builder(void *logger, int32_t version) EXPORTED("createInferBuilder_INTERNAL");
void *fake_runtime(void *logger, int32_t version) EXPORTED("createInferRuntime_INTERNAL");
void *fake_parser(void *network, void *logger, int version) EXPORTED("createNvOnnxParser_INTERNAL");

int32_t fake_version() { return fake::version; }

void *fake_builder(void *logger, int32_t version) {
	auto log = static_cast<nvinfer1::ILogger *>(logger);
	if (version != fake::version || fake::fails(log, "createInferBuilder")) {
		return fake::no_object<void>("createInferBuilder");
	}
	return static_cast<nvinfer1::IBuilder *>(new fake::Builder(log));
}

void *fake_runtime(void *logger, int32_t version) {
	auto log = static_cast<nvinfer1::ILogger *>(logger);
	if (version != fake::version || fake::fails(log, "createInferRuntime")) {
		return fake::no_object<void>("createInferRuntime");
	}
	return static_cast<nvinfer1::IRuntime *>(new fake::Runtime(log));
}

void *fake_parser(void *network, void *logger, int) {
	auto log = static_cast<nvinfer1::ILogger *>(logger);
	if (fake::fails(log, "createNvOnnxParser")) {
		return fake::no_object<void>("createNvOnnxParser");
	}
	return new fake::Parser(static_cast<fake::Network *>(static_cast<nvinfer1::INetworkDefinition *>(network)), log);
}
}
