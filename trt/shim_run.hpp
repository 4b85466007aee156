// Running an engine. Part of shim.hpp.

// Go hands in objects only that it got from the functions below.
template <typename T> T *as(void *object) { return static_cast<T *>(object); }

int runtime(const gladd_trt_library *library, void **runtime, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		*runtime = create<IRuntime>(library, library->create_runtime, failure);
		return *runtime ? nullptr : "createInferRuntime_INTERNAL";
	});
}

int engine(const gladd_trt_library *library, void *runtime, const void *plan, size_t size, void **engine, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		ICudaEngine *made = as<IRuntime>(runtime)->deserializeCudaEngine(plan, size);
		*engine = is_object(made) ? made : nullptr;
		return *engine ? nullptr : "deserializeCudaEngine";
	});
}

int engine_info(const gladd_trt_library *library, void *object, int *tensors, int *profiles, int64_t *memory, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		ICudaEngine &engine = *as<ICudaEngine>(object);
		*tensors = engine.getNbIOTensors();
		*profiles = engine.getNbOptimizationProfiles();
#if GLADD_TRT_ABI == 8
		*memory = static_cast<int64_t>(engine.getDeviceMemorySize());
#elif GLADD_TRT_ABI == 10
		*memory = since(library, v10_1) ? engine.getDeviceMemorySizeV2() : static_cast<int64_t>(engine.getDeviceMemorySize());
#else
		*memory = engine.getDeviceMemorySizeV2();
#endif
		return *tensors < 1 ? "getNbIOTensors" : *profiles < 1 ? "getNbOptimizationProfiles" : *memory < 0 ? "getDeviceMemorySizeV2" : nullptr;
	});
}

int engine_tensor(const gladd_trt_library *library, void *object, int index, gladd_trt_tensor *tensor, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		ICudaEngine &engine = *as<ICudaEngine>(object);
		char const *name = engine.getIOTensorName(index);
		if (!is_object(name)) {
			return "getIOTensorName";
		}
		if (strlen(name) >= sizeof tensor->name) {
			snprintf(failure->cause, sizeof failure->cause, "expected names of less than %d bytes, found %s", GLADD_TRT_NAME, name);
			return "getIOTensorName";
		}
		copy(tensor->name, name);
		TensorIOMode mode = engine.getTensorIOMode(name);
		if (mode != TensorIOMode::kINPUT && mode != TensorIOMode::kOUTPUT) {
			return "getTensorIOMode";
		}
		tensor->input = mode == TensorIOMode::kINPUT;
		tensor->type = static_cast<int>(engine.getTensorDataType(name));
		tensor->on_host = engine.getTensorLocation(name) == TensorLocation::kHOST;
		tensor->is_linear = engine.getTensorFormat(name) == TensorFormat::kLINEAR;
		tensor->dims = from_dims(engine.getTensorShape(name), tensor->shape);
		return tensor->dims < 0 ? "getTensorShape" : nullptr;
	});
}

int engine_range(const gladd_trt_library *library, void *object, gladd_trt_range *range, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		ICudaEngine &engine = *as<ICudaEngine>(object);
		range->dims = from_dims(engine.getProfileShape(range->input, range->profile, OptProfileSelector::kMIN), range->min);
		int opt = from_dims(engine.getProfileShape(range->input, range->profile, OptProfileSelector::kOPT), range->opt);
		int max = from_dims(engine.getProfileShape(range->input, range->profile, OptProfileSelector::kMAX), range->max);
		return range->dims < 0 || opt != range->dims || max != range->dims ? "getProfileShape" : nullptr;
	});
}

// Context is what Go holds for an execution context.
struct Context {
#if GLADD_TRT_ABI == 1
	Own<IRuntimeCache> kernels; // outlives what uses it; null: there is none
	Own<IRuntimeConfig> config; // outlives the context
#endif
	Own<IExecutionContext> execution;
};

int context(const gladd_trt_library *library, void *object, const void *kernels, size_t size, int *taken, void **context, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &collector) -> const char * {
		ICudaEngine &engine = *as<ICudaEngine>(object);
		(void)collector, (void)kernels, (void)size;
		*taken = 0;
#if GLADD_TRT_ABI == 8
		Context *made = new Context{Own<IExecutionContext>(engine.createExecutionContextWithoutDeviceMemory())};
#elif GLADD_TRT_ABI == 1
		// By default, kernels for a shape are compiled while others run it already, and
		// change the numbers in the middle of a shift when they are ready.
		Own<IRuntimeConfig> config(engine.createRuntimeConfig());
		if (!config) {
			return "createRuntimeConfig";
		}
		config->setExecutionContextAllocationStrategy(ExecutionContextAllocationStrategy::kUSER_MANAGED);
		config->setDynamicShapesKernelSpecializationStrategy(DynamicShapesKernelSpecializationStrategy::kEAGER);
		Own<IRuntimeCache> cache(config->createRuntimeCache());
		if (cache) {
			*taken = size > 0 && cache->deserialize(kernels, size);
			if (!config->setRuntimeCache(*cache)) {
				*taken = 0;
			}
			// It works without kernels, too: what was said of them is not the cause of what follows.
			collector.forget();
		}
		Own<IExecutionContext> execution(engine.createExecutionContext(&*config));
		Context *made = new Context{std::move(cache), std::move(config), std::move(execution)};
#else
		Context *made = new Context{Own<IExecutionContext>(engine.createExecutionContext(ExecutionContextAllocationStrategy::kUSER_MANAGED))};
#endif
		if (!made->execution) {
			delete made;
			return "createExecutionContext";
		}
		*context = made;
		return nullptr;
	});
}

int kernels(const gladd_trt_library *library, void *context, void **memory, const void **data, size_t *size, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		*memory = nullptr;
#if GLADD_TRT_ABI == 1
		Own<IRuntimeCache> &cache = as<Context>(context)->kernels;
		if (!cache) {
			return nullptr;
		}
		Own<IHostMemory> serialized(cache->serialize());
		if (!serialized || !is_object(serialized->data())) {
			return "IRuntimeCache::serialize";
		}
		*data = serialized->data();
		*size = serialized->size();
		*memory = serialized.release();
#else
		(void)context, (void)data, (void)size; // an engine holds its kernels
#endif
		return nullptr;
	});
}

IExecutionContext &execution_of(void *context) { return *as<Context>(context)->execution; }

cudaStream_t to_stream(uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }
void *to_address(uintptr_t address) { return reinterpret_cast<void *>(address); }

int set_profile(const gladd_trt_library *library, void *context, int profile, uintptr_t stream, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		return execution_of(context).setOptimizationProfileAsync(profile, to_stream(stream)) ? nullptr : "setOptimizationProfileAsync";
	});
}

int set_memory(const gladd_trt_library *library, void *context, uintptr_t address, int64_t size, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &collector) -> const char * {
		IExecutionContext &execution = execution_of(context);
#if GLADD_TRT_ABI == 8
		(void)size;
		execution.setDeviceMemory(to_address(address));
#elif GLADD_TRT_ABI == 10
		if (since(library, v10_1)) {
			execution.setDeviceMemoryV2(to_address(address), size);
		} else {
			execution.setDeviceMemory(to_address(address));
		}
#else
		execution.setDeviceMemoryV2(to_address(address), size);
#endif
		return collector.has_error() ? "setDeviceMemory" : nullptr; // it returns nothing
	});
}

int set_shape(const gladd_trt_library *library, void *context, const char *name, const int64_t *shape, int n, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		Dims dims;
		return to_dims(shape, n, dims) && execution_of(context).setInputShape(name, dims) ? nullptr : "setInputShape";
	});
}

int set_address(const gladd_trt_library *library, void *context, const char *name, uintptr_t address, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		return execution_of(context).setTensorAddress(name, to_address(address)) ? nullptr : "setTensorAddress";
	});
}

int shape(const gladd_trt_library *library, void *context, const char *name, int64_t *shape, int *n, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		*n = from_dims(execution_of(context).getTensorShape(name), shape);
		return *n < 0 ? "getTensorShape" : nullptr;
	});
}

int enqueue(const gladd_trt_library *library, void *context, uintptr_t stream, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		return execution_of(context).enqueueV3(to_stream(stream)) ? nullptr : "enqueueV3";
	});
}

// repeat enqueues some contexts one after the other, so many times: the least that can be
// done, which what gladd does around each call is measured against.
int repeat(const gladd_trt_library *library, void **contexts, int count, uintptr_t stream, int rounds, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		cudaStream_t queue = to_stream(stream);
		for (int round = 0; round < rounds; round++) {
			for (int i = 0; i < count; i++) {
				if (!execution_of(contexts[i]).enqueueV3(queue)) {
					return "enqueueV3";
				}
			}
		}
		return nullptr;
	});
}

template <typename T> int free_object(const gladd_trt_library *library, void *object, gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &) -> const char * {
		delete as<T>(object);
		return nullptr;
	});
}
