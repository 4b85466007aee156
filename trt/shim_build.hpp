// Building an engine. Part of shim.hpp.

// parse_error takes the parser's first error apart.
void parse_error(nvonnxparser::IParser &parser, gladd_trt_failure *failure) {
	if (parser.getNbErrors() < 1) {
		return;
	}
	nvonnxparser::IParserError const *error = parser.getError(0);
	if (!is_object(error)) {
		return;
	}
	copy(failure->cause, error->desc());
	int code = static_cast<int>(error->code());
	// NvOnnxParser.h: 3 is kMODEL_DESERIALIZE_FAILED, 7 to 13 are of the kind kUNSUPPORTED_NODE.
	failure->reason = code == 3 ? GLADD_TRT_CORRUPT : code >= 7 && code <= 13 ? GLADD_TRT_UNSUPPORTED : GLADD_TRT_OTHER;
	if (error->node() >= 0) {
		snprintf(failure->node, sizeof failure->node, "node %d", error->node());
	}
#if GLADD_TRT_ABI != 8
	if (is_object(error->nodeName()) && error->nodeName()[0]) {
		copy(failure->node, error->nodeName());
	}
	if (is_object(error->nodeOperator()) && error->nodeOperator()[0]) {
		copy(failure->operation, error->nodeOperator());
		// An operator that it has no code for is an invalid node to TensorRT for RTX.
		if (!parser.supportsOperator(failure->operation)) {
			failure->reason = GLADD_TRT_UNSUPPORTED;
		}
	}
#endif
}

const char *fail(gladd_trt_failure *failure, const char *function, int stage, int reason = GLADD_TRT_OTHER) {
	failure->stage = stage;
	if (reason) {
		failure->reason = reason;
	}
	return function;
}

// check_ranges finds inputs of a dynamic shape without a range, ranges without an
// input, and those of another shape. TensorRT's own text for the first names no
// input, and for the others it comes late.
const char *check_ranges(INetworkDefinition &network, const gladd_trt_range *ranges, const gladd_trt_build_options *options,
	gladd_trt_failure *failure) {
	int inputs = network.getNbInputs();
	for (int r = 0; r < options->ranges; r++) {
		const gladd_trt_range &range = ranges[r];
		bool found = false;
		for (int i = 0; i < inputs && !found; i++) {
			ITensor *input = network.getInput(i);
			if (!is_object(input) || !is_object(input->getName()) || strcmp(input->getName(), range.input) != 0) {
				continue;
			}
			found = true;
			int64_t shape[Dims::MAX_DIMS];
			bool fits = from_dims(input->getDimensions(), shape) == range.dims;
			for (int d = 0; fits && d < range.dims; d++) {
				fits = shape[d] < 0 || (shape[d] == range.min[d] && shape[d] == range.max[d]);
			}
			if (!fits) {
				snprintf(failure->cause, sizeof failure->cause, "the range of profile %d does not fit the shape that the network has", range.profile);
				copy(failure->node, range.input);
				return fail(failure, "setDimensions", GLADD_TRT_CONFIGURE, GLADD_TRT_RANGE);
			}
		}
		if (!found) {
			snprintf(failure->cause, sizeof failure->cause, "the network has no such input, for which profile %d has a range", range.profile);
			copy(failure->node, range.input);
			return fail(failure, "setDimensions", GLADD_TRT_CONFIGURE, GLADD_TRT_RANGE);
		}
	}
	for (int i = 0; i < inputs; i++) {
		ITensor *input = network.getInput(i);
		if (!is_object(input) || !is_object(input->getName())) {
			return fail(failure, "INetworkDefinition::getInput", GLADD_TRT_CONFIGURE);
		}
		int64_t shape[Dims::MAX_DIMS];
		int n = from_dims(input->getDimensions(), shape);
		bool dynamic = false;
		for (int d = 0; d < n; d++) {
			dynamic = dynamic || shape[d] < 0;
		}
		for (int profile = 0; dynamic && profile < (options->profiles > 0 ? options->profiles : 1); profile++) {
			bool found = false;
			for (int r = 0; r < options->ranges && !found; r++) {
				found = ranges[r].profile == profile && strcmp(input->getName(), ranges[r].input) == 0;
			}
			if (!found) {
				snprintf(failure->cause, sizeof failure->cause, "its shape is dynamic, but profile %d has no range for it", profile);
				copy(failure->node, input->getName());
				return fail(failure, "addOptimizationProfile", GLADD_TRT_CONFIGURE, GLADD_TRT_NO_PROFILE);
			}
		}
	}
	return nullptr;
}

const char *add_profiles(IBuilder &builder, IBuilderConfig &config, const gladd_trt_range *ranges,
	const gladd_trt_build_options *options, gladd_trt_failure *failure) {
	for (int index = 0; index < options->profiles; index++) {
		IOptimizationProfile *profile = builder.createOptimizationProfile(); // the builder owns it
		if (!is_object(profile)) {
			return fail(failure, "createOptimizationProfile", GLADD_TRT_CONFIGURE);
		}
		for (int r = 0; r < options->ranges; r++) {
			const gladd_trt_range &range = ranges[r];
			if (range.profile != index) {
				continue;
			}
			Dims min, opt, max;
			if (!to_dims(range.min, range.dims, min) || !to_dims(range.opt, range.dims, opt) || !to_dims(range.max, range.dims, max)
				|| !profile->setDimensions(range.input, OptProfileSelector::kMIN, min)
				|| !profile->setDimensions(range.input, OptProfileSelector::kOPT, opt)
				|| !profile->setDimensions(range.input, OptProfileSelector::kMAX, max)) {
				copy(failure->node, range.input);
				return fail(failure, "setDimensions", GLADD_TRT_CONFIGURE, GLADD_TRT_RANGE);
			}
		}
		if (!profile->isValid() || config.addOptimizationProfile(profile) < 0) {
			return fail(failure, "addOptimizationProfile", GLADD_TRT_CONFIGURE, GLADD_TRT_RANGE);
		}
	}
	return nullptr;
}

// with_cache gives the builder the timings of earlier builds. Those of another
// version are refused by TensorRT; new ones are taken then.
ITimingCache *with_cache(IBuilderConfig &config, const void *data, size_t size) {
#if GLADD_TRT_ABI == 1
	// TensorRT for RTX measures nothing while it builds.
	(void)config, (void)data, (void)size;
	return nullptr;
#else
	ITimingCache *cache = config.createTimingCache(data, size);
	if (is_object(cache) && config.setTimingCache(*cache, false)) {
		return cache;
	}
	if (is_object(cache)) {
		delete cache;
	}
	if (size == 0) {
		return nullptr;
	}
	return with_cache(config, nullptr, 0);
#endif
}

void free_memory(void *memory) noexcept { delete static_cast<IHostMemory *>(memory); }

// keep hands memory of TensorRT's to the build.
template <typename T> bool keep(IHostMemory *memory, T &to) {
	if (!is_object(memory)) {
		return false;
	}
	if (!is_object(memory->data()) || memory->size() == 0) {
		delete memory;
		return false;
	}
	to.data = memory->data();
	to.size = memory->size();
	to.owner = memory;
	to.free = free_memory;
	return true;
}

NetworkDefinitionCreationFlags network_flags() {
#if GLADD_TRT_ABI == 8
	return 1U << static_cast<int>(NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#elif GLADD_TRT_ABI == 10
	return 1U << static_cast<int>(NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#else
	return 0; // all networks are strongly typed
#endif
}

const char *configure(IBuilderConfig &config, const gladd_trt_build_options *options, gladd_trt_failure *failure) {
	if (options->workspace > 0) {
		config.setMemoryPoolLimit(MemoryPoolType::kWORKSPACE, static_cast<size_t>(options->workspace));
	}
#if GLADD_TRT_ABI != 8
	if (options->tactics > 0) {
		config.setMemoryPoolLimit(MemoryPoolType::kTACTIC_DRAM, static_cast<size_t>(options->tactics));
	}
#endif
	// On by default, it rounds the factors of FP32 products to ten bits: what a graph
	// keeps in FP32 would be FP16's precision all the same.
	config.clearFlag(BuilderFlag::kTF32);
#if GLADD_TRT_ABI == 8
	if (options->fp16) {
		config.setFlag(BuilderFlag::kFP16);
	}
#endif
#if GLADD_TRT_ABI == 1
	// Gladd gives contexts their memory and captures CUDA graphs; without the flag
	// large tensors may be allocated while an engine runs.
	config.setFlag(BuilderFlag::kREQUIRE_USER_ALLOCATION);
#endif
	if (options->compute_capability) {
#if GLADD_TRT_ABI == 1
		auto capability = static_cast<ComputeCapability>(options->compute_capability);
		if (!config.setNbComputeCapabilities(1) || !config.setComputeCapability(capability, 0)) {
			return fail(failure, "setComputeCapability", GLADD_TRT_CONFIGURE);
		}
#else
		copy(failure->cause, "only TensorRT for RTX builds for a GPU that is not there; expected no compute capability");
		return fail(failure, "setComputeCapability", GLADD_TRT_CONFIGURE);
#endif
	}
	return nullptr;
}

int build(const gladd_trt_library *library, const void *network_data, size_t size, const char *path, const gladd_trt_range *ranges,
	const void *timing_cache, size_t timing_cache_size, const gladd_trt_build_options *options, gladd_trt_build *build,
	gladd_trt_failure *failure) {
	return call(library->log, failure, [&](Collector &collector) -> const char * {
		collector.begin_strays();
		failure->stage = GLADD_TRT_CONFIGURE; // an exception has a stage, too
		// Declared in the order in which they may not outlive each other.
		Own<IBuilder> builder(create<IBuilder>(library, library->create_builder, failure));
		if (!builder) {
			return fail(failure, "createInferBuilder_INTERNAL", GLADD_TRT_CONFIGURE);
		}
		Own<INetworkDefinition> network(builder->createNetworkV2(network_flags()));
		if (!network) {
			return fail(failure, "createNetworkV2", GLADD_TRT_CONFIGURE);
		}
		failure->stage = GLADD_TRT_PARSE;
		using CreateParser = void *(*)(void *, void *, int);
		void *parser_object = reinterpret_cast<CreateParser>(library->create_parser)(&*network, library->logger, NV_ONNX_PARSER_VERSION);
		Own<nvonnxparser::IParser> parser(is_object(parser_object) ? static_cast<nvonnxparser::IParser *>(parser_object) : nullptr);
		if (!parser) {
			return fail(failure, "createNvOnnxParser_INTERNAL", GLADD_TRT_PARSE);
		}
		bool parsed = network_data
			? parser->parse(network_data, size, path)
			: parser->parseFromFile(path, static_cast<int>(ILogger::Severity::kWARNING));
		if (!parsed) {
			parse_error(*parser, failure);
			return fail(failure, network_data ? "IParser::parse" : "IParser::parseFromFile", GLADD_TRT_PARSE);
		}
		if (network->getNbOutputs() < 1) {
			copy(failure->cause, "the network has no outputs: the file is empty");
			return fail(failure, "IParser::parse", GLADD_TRT_PARSE, GLADD_TRT_NO_OUTPUTS);
		}
		build->layers = network->getNbLayers();

		failure->stage = GLADD_TRT_CONFIGURE;
		Own<IBuilderConfig> config(builder->createBuilderConfig());
		if (!config) {
			return fail(failure, "createBuilderConfig", GLADD_TRT_CONFIGURE);
		}
		const char *failed = configure(*config, options, failure);
		failed = failed ? failed : check_ranges(*network, ranges, options, failure);
		failed = failed ? failed : add_profiles(*builder, *config, ranges, options, failure);
		if (failed) {
			return failed;
		}
		Own<ITimingCache> cache(with_cache(*config, timing_cache, timing_cache_size));
		// What was said of an old timing cache is not the cause of what follows.
		collector.forget();
#if GLADD_TRT_ABI != 8
		Monitor monitor(build);
		config->setProgressMonitor(&monitor);
#endif
		failure->stage = GLADD_TRT_BUILD;
		if (build->cancelled) {
			return fail(failure, "buildSerializedNetwork", GLADD_TRT_BUILD, GLADD_TRT_CANCELLED);
		}
		IHostMemory *plan = builder->buildSerializedNetwork(*network, *config);
		if (!keep(plan, build->plan)) {
			return fail(failure, "buildSerializedNetwork", GLADD_TRT_BUILD, build->cancelled ? GLADD_TRT_CANCELLED : GLADD_TRT_OTHER);
		}
		failure->stage = GLADD_TRT_SERIALIZE;
		// The plan is good without the timings, but the next build would be slow.
		if (cache && !keep(cache->serialize(), build->timing_cache)) {
			return fail(failure, "ITimingCache::serialize", GLADD_TRT_SERIALIZE);
		}
		return nullptr;
	});
}
