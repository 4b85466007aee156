// The fake's builder and ONNX parser. Included by fake.cpp.
#pragma once

#include <unistd.h>

namespace fake {

struct Tensor : ITensor {
	Value value;
	Part<Tensor> part;
	explicit Tensor(Value of) : value(std::move(of)) {
		using V = apiv::VTensor;
		static Table table = Table()
			.set(&V::getName, +[](Part<Tensor> *p) -> char const * { return p->owner->value.name.c_str(); })
			.set(&V::getDimensions, +[](Part<Tensor> *p) -> Dims { return to_dims(p->owner->value.shape); });
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VTensor *>(&part);
	}
};

struct Network : INetworkDefinition {
	std::unique_ptr<Graph> graph; // null: an empty file
	std::vector<std::unique_ptr<Tensor>> inputs;
	Part<Network> part;
	Network() {
		using V = apiv::VNetworkDefinition;
		using P = Part<Network>;
		static Table table = Table()
			.set(&V::getNbInputs, +[](P *p) -> int32_t { return p->owner->inputs.size(); })
			.set(&V::getInput, +[](P *p, int32_t i) -> ITensor * { return p->owner->inputs[i].get(); })
			.set(&V::getNbOutputs, +[](P *p) -> int32_t { return p->owner->graph ? p->owner->graph->outputs.size() : 0; })
			.set(&V::getNbLayers, +[](P *) -> int32_t { return 1; });
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VNetworkDefinition *>(&part);
	}
};

#if FAKE_ABI == 8
using DimsArgument = Dims;
#else
using DimsArgument = Dims const &;
#endif

struct ProfileObject : IOptimizationProfile {
	Profile ranges;
	Part<ProfileObject> part;
	ProfileObject() {
		using V = apiv::VOptimizationProfile;
		using P = Part<ProfileObject>;
		static Table table = Table()
			.set(&V::setDimensions, +[](P *p, char const *name, OptProfileSelector select, DimsArgument dims) -> bool {
				p->owner->ranges[name].shapes[int(select)] = to_shape(dims);
				return fault("setDimensions") != "false";
			})
			.set(&V::isValid, +[](P *p) -> bool {
				for (auto &entry : p->owner->ranges) {
					if (!entry.second.holds(entry.second.shapes[1])) {
						return false;
					}
				}
				return fault("isValid") != "false";
			});
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VOptimizationProfile *>(&part);
	}
};

struct TimingCache : ITimingCache {
	std::string bytes;
	Part<TimingCache> part;
	explicit TimingCache(std::string content) : bytes(std::move(content)) {
		static Table table = Table().set(&apiv::VTimingCache::serialize, +[](Part<TimingCache> *p) -> IHostMemory * {
			return fault("serialize") == "null" ? nullptr : new Memory(p->owner->bytes + "+");
		});
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VTimingCache *>(&part);
	}
};

struct Config : IBuilderConfig {
	ILogger *logger;
#if FAKE_ABI != 8
	IProgressMonitor *monitor = nullptr;
#endif
	std::vector<Profile> profiles;
	bool user_memory = FAKE_ABI != 1;
	Part<Config> part;
	explicit Config(ILogger *logger) : logger(logger) {
		using V = apiv::VBuilderConfig;
		using P = Part<Config>;
		static Table table = [] {
			Table t;
			t.set(&V::addOptimizationProfile, +[](P *p, IOptimizationProfile const *profile) -> int32_t {
				if (fails(p->owner->logger, "addOptimizationProfile")) {
					return -1;
				}
				p->owner->profiles.push_back(static_cast<ProfileObject const *>(profile)->ranges);
				return p->owner->profiles.size() - 1;
			});
			t.set(&V::setMemoryPoolLimit, +[](P *p, MemoryPoolType pool, size_t bytes) {
				say(p->owner->logger, ILogger::Severity::kINFO, "memory pool " + std::to_string(int(pool)) + ": " + std::to_string(bytes) + " bytes");
			});
			t.set(&V::clearFlag, +[](P *, BuilderFlag) {});
#if FAKE_ABI == 8
			t.set(&V::setFlag, +[](P *, BuilderFlag) {});
#else
			t.set(&V::setProgressMonitor, +[](P *p, IProgressMonitor *monitor) { p->owner->monitor = monitor; });
#endif
			t.set(&V::setTimingCache, +[](P *p, ITimingCache const &, bool) -> bool { return !fails(p->owner->logger, "setTimingCache"); });
			t.set(&V::createTimingCache, +[](P *p, void const *data, size_t size) -> ITimingCache * {
				std::string bytes(static_cast<const char *>(data), size), own = "timings of " + version_text(version);
				if (size == 0) {
					return new TimingCache(own);
				}
				if (bytes.compare(0, own.size(), own) != 0) {
					error(p->owner->logger, "Error Code 1: Serialization (the timing cache is of another version)");
					return nullptr;
				}
				return new TimingCache(bytes);
			});
#if FAKE_ABI == 1
			t.set(&V::setFlag, +[](P *p, BuilderFlag flag) { p->owner->user_memory = flag == BuilderFlag::kREQUIRE_USER_ALLOCATION; });
			t.set(&V::setNbComputeCapabilities, +[](P *, int32_t n) -> bool { return n == 1; });
			t.set(&V::setComputeCapability, +[](P *p, ComputeCapability capability, int32_t) -> bool { return int(capability) == 86; });
#endif
			return t;
		}();
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VBuilderConfig *>(&part);
	}
};

struct Builder : IBuilder {
	ILogger *logger;
	std::vector<std::unique_ptr<ProfileObject>> profiles;
	Part<Builder> part;
	explicit Builder(ILogger *logger) : logger(logger) {
		using V = apiv::VBuilder;
		using P = Part<Builder>;
		static Table table = Table()
			.set(&V::createBuilderConfig, +[](P *p) -> IBuilderConfig * {
				return fails(p->owner->logger, "createBuilderConfig") ? no_object<IBuilderConfig>("createBuilderConfig") : new Config(p->owner->logger);
			})
			.set(&V::createNetworkV2, +[](P *p, NetworkDefinitionCreationFlags flags) -> INetworkDefinition * {
				// 8.x: kEXPLICIT_BATCH, the first flag; 10.x: kSTRONGLY_TYPED, the second; later ones: none.
				if (fails(p->owner->logger, "createNetworkV2") || flags != (FAKE_ABI == 8 ? 1u : FAKE_ABI == 10 ? 2u : 0u)) {
					return no_object<INetworkDefinition>("createNetworkV2");
				}
				return new Network;
			})
			.set(&V::createOptimizationProfile, +[](P *p) -> IOptimizationProfile * {
				p->owner->profiles.push_back(std::make_unique<ProfileObject>());
				return p->owner->profiles.back().get();
			})
			.set(&V::buildSerializedNetwork, +[](P *p, INetworkDefinition &network, IBuilderConfig &config) -> IHostMemory * {
				return p->owner->build(static_cast<Network &>(network), static_cast<Config &>(config));
			});
		part = {table.slots, this};
		mImpl = reinterpret_cast<apiv::VBuilder *>(&part);
	}
#if FAKE_ABI != 8
	// steps tells the progress of a build; false: it was cancelled. The fault slow
	// makes it a build of a minute that can be cancelled at every step.
	bool steps(Config &config) {
		int steps = fault("buildSerializedNetwork") == "slow" ? 60000 : 2;
		bool go_on = true;
		config.monitor->phaseStart("Building Engine", nullptr, 2);
		config.monitor->phaseStart("Tactic Selection", "Building Engine", steps);
		for (int step = 0; step < steps && go_on; step++) {
			usleep(1000);
			go_on = config.monitor->stepComplete("Tactic Selection", step);
		}
		config.monitor->phaseFinish("Tactic Selection");
		go_on = go_on && config.monitor->stepComplete("Building Engine", 0);
		config.monitor->phaseFinish("Building Engine");
		return go_on;
	}
#endif
	IHostMemory *build(Network &network, Config &config) {
		if (fails(logger, "buildSerializedNetwork") || !config.user_memory) {
			return no_object<IHostMemory>("buildSerializedNetwork");
		}
#if FAKE_ABI != 8
		if (!steps(config)) {
			error(logger, "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (build was cancelled)");
			return nullptr;
		}
#endif
		return new Memory(write_plan({version, gpu(), config.profiles, network.graph->bytes}));
	}
};

struct ParserError {
	void **table;
	int code, node;
	std::string text, name, operation;
};

// Parser is an IParser: that class is abstract itself, so its table is in the
// object, and holds the destructor too.
struct Parser {
	void **table;
	ILogger *logger;
	Network *network;
	std::vector<ParserError> errors;

	static Table &make_table();
	static Table &error_table();
	Parser(Network *network, ILogger *logger) : table(make_table().slots), logger(logger), network(network) {}

	void fail(int code, int node, const std::string &text, const std::string &name, const std::string &operation) {
		error(logger, "ModelImporter: " + text);
		errors.push_back({error_table().slots, code, node, text, name, operation});
	}

	bool parse(const std::string &onnx) {
		if (fails(logger, "parse")) {
			fail(1, -1, "the fake's fault", "", "");
			return false;
		}
		if (onnx.empty()) {
			return true; // as TensorRT's parser does
		}
		try {
			network->graph = std::make_unique<Graph>(onnx);
		} catch (const std::exception &e) {
			// ONNX Runtime writes: In Node, ("name", Operator, "", -1) : ... Error No Op registered for Operator
			std::string text = e.what();
			size_t at = text.find("In Node, (\"");
			if (at == std::string::npos || text.find("No Op registered") == std::string::npos) {
				fail(3, -1, "Failed to parse the ONNX model: " + text, "", "");
				return false;
			}
			std::string rest = text.substr(at + 11);
			size_t quote = rest.find('"');
			std::string after = rest.substr(quote + 3);
			fail(FAKE_ABI == 8 ? 8 : 6, 0, "No importer registered for the operator", rest.substr(0, quote), after.substr(0, after.find(',')));
			return false;
		}
		for (const Value &input : network->graph->inputs) {
			network->inputs.push_back(std::make_unique<Tensor>(input));
		}
		return true;
	}
};

inline Table &Parser::error_table() {
	using E = nvonnxparser::IParserError;
	static Table table = Table()
		.set(&E::code, +[](ParserError *e) -> nvonnxparser::ErrorCode { return nvonnxparser::ErrorCode(e->code); })
		.set(&E::desc, +[](ParserError *e) -> char const * {
			if (fault("desc") == "throw") {
				throw std::runtime_error("the fake's exception");
			}
			return e->text.c_str();
		})
#if FAKE_ABI != 8
		.set(&E::nodeName, +[](ParserError *e) -> char const * { return e->name.c_str(); })
		.set(&E::nodeOperator, +[](ParserError *e) -> char const * { return e->operation.c_str(); })
#endif
		.set(&E::node, +[](ParserError *e) -> int { return e->node; });
	return table;
}

inline Table &Parser::make_table() {
	using I = nvonnxparser::IParser;
	static Table table = [] {
		Table t;
		t.set(&I::parse, +[](Parser *p, void const *data, size_t size, const char *) -> bool {
			return p->parse(std::string(static_cast<const char *>(data), size));
		});
		t.set(&I::parseFromFile, +[](Parser *p, const char *path, int) -> bool {
			std::ifstream file(path, std::ios::binary);
			if (!file) {
				p->fail(4, -1, std::string("cannot open ") + path, "", "");
				return false;
			}
			return p->parse(std::string(std::istreambuf_iterator<char>(file), {}));
		});
		t.set(&I::supportsOperator, +[](Parser *p, const char *name) -> bool { return p->errors.empty() || p->errors[0].operation != name; });
		t.set(&I::getNbErrors, +[](Parser *p) -> int { return p->errors.size(); });
		t.set(&I::getError, +[](Parser *p, int i) -> nvonnxparser::IParserError const * { return reinterpret_cast<nvonnxparser::IParserError const *>(&p->errors[i]); });
		// The destructor has two slots, the second of which frees; they follow clearErrors.
		t.slots[slot(&I::clearErrors) + 2] = reinterpret_cast<void *>(+[](Parser *p) { delete p; });
		return t;
	}();
	return table;
}

} // namespace fake
