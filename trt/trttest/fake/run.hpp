// The fake's runtime, engines and contexts. Included by fake.cpp.
#pragma once

namespace fake {

// device_memory is how many bytes every context of an engine wants.
inline int64_t device_memory() {
	std::string wanted = fault("deviceMemory");
	return wanted.empty() ? 4096 : std::stoll(wanted);
}

struct Engine : ICudaEngine {
	ILogger *logger;
	std::vector<Profile> profiles;
	std::shared_ptr<Graph> graph;
	const int64_t memory = device_memory();
	Part<Engine> part;
	Engine(ILogger *logger, const Plan &plan) : logger(logger), profiles(plan.profiles), graph(std::make_shared<Graph>(plan.onnx)) {
		if (profiles.empty()) {
			profiles.emplace_back();
		}
		part = {table().slots, this};
		mImpl = reinterpret_cast<apiv::VCudaEngine *>(&part);
	}
	const Value *find(const char *name, bool *input = nullptr) const {
		for (size_t i = 0; i < graph->size(); i++) {
			if (graph->at(i).name == name) {
				if (input) {
					*input = i < graph->inputs.size();
				}
				return &graph->at(i);
			}
		}
		return nullptr;
	}
	IExecutionContext *context();
	static Table &table();
};

// What fake_cuda_enqueue runs, once or each time that a captured graph is launched.
struct Job {
	ILogger *logger;
	std::shared_ptr<Graph> graph;
	std::vector<void *> addresses;
	std::vector<Shape> shapes;
	void *scratch;
	int64_t size;
	static void run(void *job) {
		Job &self = *static_cast<Job *>(job);
		try {
			self.use_scratch();
			self.graph->run(self.addresses, self.shapes);
		} catch (const std::exception &e) {
			error(self.logger, std::string("fake kernel: ") + e.what());
		}
	}
	static void drop(void *job) { delete static_cast<Job *>(job); }
	void use_scratch();
};

using Enqueue = int (*)(void *stream, void (*run)(void *), void *job, void (*drop)(void *));

inline void *find_cuda(const char *function) {
	const char *path = getenv("FAKE_TRT_CUDA");
	void *library = path ? dlopen(path, RTLD_NOW) : RTLD_DEFAULT;
	return library ? dlsym(library, function) : nullptr;
}

// use_scratch writes where an engine computes in. Where that is the fake CUDA's memory no
// more, what the engine gives is no number.
inline void Job::use_scratch() {
	auto valid = reinterpret_cast<int (*)(uintptr_t, size_t)>(find_cuda("fake_cuda_valid"));
	if (!valid) {
		return; // addresses are made up
	}
	if (valid(reinterpret_cast<uintptr_t>(scratch), size)) {
		memset(scratch, 0xA5, size);
		return;
	}
	for (size_t i = graph->inputs.size(); i < graph->size(); i++) {
		size_t bytes = Graph::element_size(graph->at(i).type);
		for (int64_t dimension : shapes[i]) {
			bytes *= dimension;
		}
		memset(addresses[i], 0xFF, bytes);
	}
	throw std::runtime_error("the memory to compute in is not the device's");
}

// find_enqueue returns the fake CUDA's function, or null where there is none.
inline Enqueue find_enqueue() {
	const char *path = getenv("FAKE_TRT_CUDA");
	Enqueue found = reinterpret_cast<Enqueue>(find_cuda("fake_cuda_enqueue"));
	if (path && !found) {
		fprintf(stderr, "fake TensorRT: FAKE_TRT_CUDA names no library with fake_cuda_enqueue: %s\n", path);
		abort();
	}
	return found;
}

struct Kernels;

struct Context : IExecutionContext {
	Engine *engine;
	Kernels *kernels = nullptr; // null: they are in the engine
	int32_t profile = 0;
	void *memory = nullptr;
	std::map<std::string, Shape> shapes;
	std::map<std::string, void *> addresses;
	Part<Context> part;
	explicit Context(Engine *engine) : engine(engine) {
		part = {table().slots, this};
		mImpl = reinterpret_cast<apiv::VExecutionContext *>(&part);
		reset();
	}
	// reset sets the shapes that are not dynamic.
	void reset() {
		shapes.clear();
		for (const Value &input : engine->graph->inputs) {
			if (std::find(input.shape.begin(), input.shape.end(), -1) == input.shape.end()) {
				shapes[input.name] = input.shape;
			}
		}
	}
	Shape shape(const Value &value) const {
		auto set = shapes.find(value.name);
		return set != shapes.end() ? set->second : engine->graph->resolve(value, shapes);
	}
	void take(void *given) {
		if (!fails(engine->logger, "setDeviceMemory")) {
			memory = given;
		}
	}
	bool enqueue(cudaStream_t stream) {
		ILogger *logger = engine->logger;
		if (fails(logger, "enqueueV3")) {
			return false;
		}
		if (!memory) {
			error(logger, "IExecutionContext::enqueueV3: Error Code 3: API Usage Error (device memory is not set)");
			return false;
		}
		auto job = std::make_unique<Job>();
		job->logger = logger;
		job->graph = engine->graph;
		job->scratch = memory;
		job->size = engine->memory;
		for (size_t i = 0; i < engine->graph->size(); i++) {
			const Value &value = engine->graph->at(i);
			Shape resolved = shape(value);
			if (std::find(resolved.begin(), resolved.end(), -1) != resolved.end()) {
				error(logger, "IExecutionContext::enqueueV3: Error Code 3: API Usage Error (the shape of " + value.name + " is not set)");
				return false;
			}
			auto address = addresses.find(value.name);
			if (address == addresses.end()) {
				error(logger, "IExecutionContext::enqueueV3: Error Code 3: API Usage Error (the address of " + value.name + " is not set)");
				return false;
			}
			job->addresses.push_back(address->second);
			job->shapes.push_back(resolved);
		}
		compile(job->shapes[0]);
		Enqueue enqueue = find_enqueue();
		if (enqueue) {
			return enqueue(stream, Job::run, job.release(), Job::drop) == 0;
		}
		Job::run(job.get());
		return true;
	}
	void compile(const Shape &shape);
	static Table &table();
};

// Kernels are what TensorRT for RTX compiles for each shape that it runs: here names.
struct Kernels
#if FAKE_ABI == 1
	: IRuntimeCache
#endif
{
	std::string names;
	static std::string head() { return "kernels of " + version_text(version) + " for " + gpu() + "\n"; }
#if FAKE_ABI == 1
	ILogger *logger;
	Part<Kernels> part;
	explicit Kernels(ILogger *logger) : logger(logger) {
		using V = apiv::VRuntimeCache;
		using P = Part<Kernels>;
		static Table table = Table()
			.set(&V::serialize, +[](P *p) -> IHostMemory * {
				return fails(p->owner->logger, "IRuntimeCache::serialize") ? nullptr : new Memory(head() + p->owner->names);
			})
			.set(&V::deserialize, +[](P *p, void const *data, size_t size) -> bool {
				std::string bytes(static_cast<const char *>(data), size);
				if (bytes.compare(0, head().size(), head()) != 0) {
					error(p->owner->logger, "IRuntimeCache::deserialize: the kernels are of another version or GPU");
					return false;
				}
				p->owner->names = bytes.substr(head().size());
				return true;
			});
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VRuntimeCache *>(&part);
	}
#endif
};

inline void Context::compile(const Shape &shape) {
	if (!kernels) {
		return;
	}
	std::string name = "kernel";
	for (int64_t size : shape) {
		name += " " + std::to_string(size);
	}
	name += "\n";
	if (kernels->names.find(name) == std::string::npos) {
		say(engine->logger, ILogger::Severity::kINFO, "compiling a " + name);
		kernels->names += name;
	}
}

inline Table &Context::table() {
	using P = Part<Context>;
	using V = apiv::VExecutionContext;
	static Table table = [] {
		Table t;
		t.set(&V::setOptimizationProfileAsync, +[](P *p, int32_t profile, cudaStream_t) -> bool {
			Context &c = *p->owner;
			if (fails(c.engine->logger, "setOptimizationProfileAsync") || profile < 0 || profile >= int32_t(c.engine->profiles.size())) {
				return false;
			}
			c.profile = profile;
			c.reset();
			return true;
		});
		t.set(&V::setInputShape, +[](P *p, char const *name, Dims const &dims) -> bool {
			Context &c = *p->owner;
			bool input = false;
			if (fails(c.engine->logger, "setInputShape") || !c.engine->find(name, &input) || !input) {
				return false;
			}
			const Profile &profile = c.engine->profiles[c.profile];
			auto range = profile.find(name);
			if (range != profile.end() && !range->second.holds(to_shape(dims))) {
				error(c.engine->logger, std::string("IExecutionContext::setInputShape: Error Code 3: API Usage Error (Set dimension of ") + name
					+ " is not in the range of profile " + std::to_string(c.profile) + ")");
				return false;
			}
			c.shapes[name] = to_shape(dims);
			return true;
		});
		t.set(&V::setTensorAddress, +[](P *p, char const *name, void *address) -> bool {
			Context &c = *p->owner;
			if (fails(c.engine->logger, "setTensorAddress") || !c.engine->find(name) || !address) {
				return false;
			}
			c.addresses[name] = address;
			return true;
		});
		t.set(&V::getTensorShape, +[](P *p, char const *name) -> Dims {
			const Value *value = p->owner->engine->find(name);
			if (fails(p->owner->engine->logger, "getTensorShape") || !value) {
				Dims none{};
				none.nbDims = -1;
				return none;
			}
			return to_dims(p->owner->shape(*value));
		});
		t.set(&V::enqueueV3, +[](P *p, cudaStream_t stream) -> bool { return p->owner->enqueue(stream); });
		t.set(&V::setDeviceMemory, +[](P *p, void *memory) { p->owner->take(memory); });
#if FAKE_ABI != 8
		if (FAKE_ABI != 10 || version >= 100100) {
			t.set(&V::setDeviceMemoryV2, +[](P *p, void *memory, int64_t size) { p->owner->take(size < p->owner->engine->memory ? nullptr : memory); });
		}
#endif
		return t;
	}();
	return table;
}

#if FAKE_ABI == 1
struct RuntimeConfig : IRuntimeConfig {
	ILogger *logger;
	bool user_managed = false, eager = false;
	Kernels *kernels = nullptr;
	Part<RuntimeConfig> part;
	explicit RuntimeConfig(ILogger *logger) : logger(logger) {
		using V = apiv::VRuntimeConfig;
		using P = Part<RuntimeConfig>;
		static Table table = Table()
			.set(&V::setExecutionContextAllocationStrategy, +[](P *p, ExecutionContextAllocationStrategy strategy) {
				p->owner->user_managed = strategy == ExecutionContextAllocationStrategy::kUSER_MANAGED;
			})
			.set(&V::setDynamicShapesKernelSpecializationStrategy, +[](P *p, DynamicShapesKernelSpecializationStrategy strategy) {
				p->owner->eager = strategy == DynamicShapesKernelSpecializationStrategy::kEAGER;
			})
			.set(&V::createRuntimeCache, +[](P *p) -> IRuntimeCache * {
				return fails(p->owner->logger, "createRuntimeCache") ? no_object<IRuntimeCache>("createRuntimeCache") : new Kernels(p->owner->logger);
			})
			.set(&V::setRuntimeCache, +[](P *p, IRuntimeCache const &cache) -> bool {
				if (fails(p->owner->logger, "setRuntimeCache")) {
					return false;
				}
				p->owner->kernels = const_cast<Kernels *>(static_cast<Kernels const *>(&cache));
				return true;
			});
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VRuntimeConfig *>(&part);
	}
	bool fits() const { return user_managed && eager; }
};
#endif

inline IExecutionContext *Engine::context() {
	return fails(logger, "createExecutionContext") ? no_object<IExecutionContext>("createExecutionContext") : new Context(this);
}

inline Table &Engine::table() {
	using P = Part<Engine>;
	using V = apiv::VCudaEngine;
	static Table table = [] {
		Table t;
		t.set(&V::getNbIOTensors, +[](P *p) -> int32_t { return fails(p->owner->logger, "getNbIOTensors") ? 0 : p->owner->graph->size(); });
		t.set(&V::getIOTensorName, +[](P *p, int32_t i) -> char const * {
			return fails(p->owner->logger, "getIOTensorName") ? nullptr : p->owner->graph->at(i).name.c_str();
		});
		t.set(&V::getTensorIOMode, +[](P *p, char const *name) -> TensorIOMode {
			bool input = false;
			const Value *value = p->owner->find(name, &input);
			return !value ? TensorIOMode::kNONE : input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
		});
		t.set(&V::getTensorDataType, +[](P *p, char const *name) -> DataType { return data_type(p->owner->find(name)->type); });
		t.set(&V::getTensorShape, +[](P *p, char const *name) -> Dims { return to_dims(p->owner->find(name)->shape); });
		t.set(&V::getTensorLocation, +[](P *p, char const *) -> TensorLocation {
			return fault("getTensorLocation") == "host" ? TensorLocation::kHOST : TensorLocation::kDEVICE;
		});
		t.set(&V::getTensorFormat, +[](P *p, char const *) -> TensorFormat { return TensorFormat::kLINEAR; });
		t.set(&V::getNbOptimizationProfiles, +[](P *p) -> int32_t { return p->owner->profiles.size(); });
		t.set(&V::getProfileShape, +[](P *p, char const *name, int32_t profile, OptProfileSelector select) -> Dims {
			const Value *value = p->owner->find(name);
			auto range = p->owner->profiles[profile].find(name);
			return to_dims(range == p->owner->profiles[profile].end() ? value->shape : range->second.shapes[int(select)]);
		});
#if FAKE_ABI == 8
		t.set(&V::createExecutionContextWithoutDeviceMemory, +[](P *p) -> IExecutionContext * { return p->owner->context(); });
#elif FAKE_ABI == 1
		t.set(&V::createRuntimeConfig, +[](P *p) -> IRuntimeConfig * {
			return fails(p->owner->logger, "createRuntimeConfig") ? no_object<IRuntimeConfig>("createRuntimeConfig") : new RuntimeConfig(p->owner->logger);
		});
		t.set(&V::createExecutionContextWithRuntimeConfig, +[](P *p, IRuntimeConfig *config) -> IExecutionContext * {
			IExecutionContext *made = static_cast<RuntimeConfig *>(config)->fits() ? p->owner->context() : nullptr;
			if (reinterpret_cast<uintptr_t>(made) >= 4096) {
				static_cast<Context *>(made)->kernels = static_cast<RuntimeConfig *>(config)->kernels;
			}
			return made;
		});
#else
		t.set(static_cast<IExecutionContext *(V::*)(ExecutionContextAllocationStrategy) noexcept>(&V::createExecutionContext),
			+[](P *p, ExecutionContextAllocationStrategy strategy) -> IExecutionContext * {
				return strategy == ExecutionContextAllocationStrategy::kUSER_MANAGED ? p->owner->context() : nullptr;
			});
#endif
#if FAKE_ABI != 8
		if (FAKE_ABI != 10 || version >= 100100) {
			t.set(&V::getDeviceMemorySizeV2, +[](P *p) -> int64_t { return p->owner->memory; });
		}
#endif
#if FAKE_ABI == 8 || FAKE_ABI == 10
		t.set(&V::getDeviceMemorySize, +[](P *p) -> size_t { return p->owner->memory; });
#endif
		return t;
	}();
	return table;
}

struct Runtime : IRuntime {
	ILogger *logger;
	Part<Runtime> part;
	explicit Runtime(ILogger *logger) : logger(logger) {
		using V = apiv::VRuntime;
		using P = Part<Runtime>;
#if FAKE_ABI == 8
		static Table table = Table().set(&V::deserializeCudaEngine,
			+[](P *p, void const *data, size_t size, IPluginFactory *) -> ICudaEngine * { return p->owner->load(data, size); });
#else
		static Table table = Table().set(static_cast<ICudaEngine *(V::*)(void const *, size_t) noexcept>(&V::deserializeCudaEngine),
			+[](P *p, void const *data, size_t size) -> ICudaEngine * { return p->owner->load(data, size); });
#endif
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VRuntime *>(&part);
	}
	ICudaEngine *load(void const *data, size_t size) {
		const std::string at = "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (";
		if (fails(logger, "deserializeCudaEngine")) {
			return no_object<ICudaEngine>("deserializeCudaEngine");
		}
		try {
			Plan plan = read_plan(std::string(static_cast<const char *>(data), size));
			if (plan.version != version) {
				throw std::runtime_error("The engine plan file is not compatible with this version of TensorRT, expecting library version "
					+ version_text(version) + " got " + version_text(plan.version) + ", please rebuild.");
			}
			if (plan.gpu != gpu()) {
				throw std::runtime_error("The engine plan file is generated on an incompatible device, expecting compute " + gpu()
					+ " got compute " + plan.gpu + ", please rebuild.");
			}
			return new Engine(logger, plan);
		} catch (const std::exception &e) {
			error(logger, at + e.what() + ")");
			return nullptr;
		}
	}
};

} // namespace fake
