//go:build tensorrt && linux

#include "state.hpp"

#include <dlfcn.h>
#include <new>

using namespace gladd_trt;

namespace {
thread_local Collector *collecting = nullptr;

void *symbol(void *handle, const char *name) noexcept { return dlsym(handle, name); }

const char *loader_error() noexcept {
	const char *text = dlerror();
	return text ? text : "the loader gave no reason";
}
} // namespace

Collector::Collector(gladd_trt_log *log) noexcept : log(log), outer(collecting) {
	collecting = this;
}

Collector::~Collector() { collecting = outer; }

Collector *Collector::current() noexcept { return collecting; }

void Collector::error(const char *text) noexcept {
	if (!has) {
		copy(first, text);
		has = true;
	}
}

void Collector::begin_strays() noexcept {
	std::lock_guard<std::mutex> lock(log->mutex);
	log->stray[0] = 0;
	strays = true;
}

const char *Collector::cause() noexcept {
	if (!has && strays) {
		std::lock_guard<std::mutex> lock(log->mutex);
		copy(first, log->stray);
		has = true;
	}
	return has ? first : "";
}

void gladd_trt_log::write(int severity, const char *text) noexcept {
	if (!text) {
		text = "";
	}
	if (severity <= 1 && Collector::current()) {
		Collector::current()->error(text);
	}
	if (severity > level.load(std::memory_order_relaxed)) {
		return;
	}
	std::lock_guard<std::mutex> lock(mutex);
	if (severity <= 1 && !Collector::current() && !stray[0]) {
		copy(stray, text);
	}
	if (count == size) {
		dropped++;
		return;
	}
	gladd_trt_line &line = lines[(first + count) % size];
	line.severity = severity;
	copy(line.text, text);
	count++;
}

void gladd_trt_log_level(gladd_trt_log *log, int severity) { log->level = severity; }

int gladd_trt_log_drain(gladd_trt_log *log, gladd_trt_line *lines, int max, uint64_t *dropped) {
	std::lock_guard<std::mutex> lock(log->mutex);
	int n = log->count < max ? log->count.load() : max;
	for (int i = 0; i < n; i++) {
		lines[i] = log->lines[(log->first + i) % log->size];
	}
	log->first = (log->first + n) % log->size;
	log->count -= n;
	*dropped = log->dropped;
	log->dropped = 0;
	return n;
}

void gladd_trt_build::start(const char *name, const char *parent, int steps) noexcept {
	std::lock_guard<std::mutex> lock(mutex);
	if (count == GLADD_TRT_PHASES) {
		return;
	}
	gladd_trt_phase &phase = phases[count++];
	copy(phase.name, name);
	copy(phase.parent, parent);
	phase.step = 0;
	phase.steps = steps;
}

bool gladd_trt_build::step(const char *name, int step) noexcept {
	std::lock_guard<std::mutex> lock(mutex);
	for (int i = count - 1; i >= 0; i--) {
		if (name && strncmp(phases[i].name, name, sizeof phases[i].name - 1) == 0) {
			phases[i].step = step + 1;
			break;
		}
	}
	return !cancelled;
}

void gladd_trt_build::finish(const char *name) noexcept {
	std::lock_guard<std::mutex> lock(mutex);
	for (int i = count - 1; i >= 0; i--) {
		if (name && strncmp(phases[i].name, name, sizeof phases[i].name - 1) == 0) {
			memmove(&phases[i], &phases[i + 1], (count - i - 1) * sizeof phases[0]);
			count--;
			return;
		}
	}
}

gladd_trt_build *gladd_trt_build_new(void) { return new (std::nothrow) gladd_trt_build; }

void gladd_trt_build_free(gladd_trt_build *build) {
	if (build->plan.owner) {
		build->plan.free(build->plan.owner);
	}
	if (build->timing_cache.owner) {
		build->timing_cache.free(build->timing_cache.owner);
	}
	delete build;
}

void gladd_trt_build_cancel(gladd_trt_build *build) { build->cancelled = true; }

int gladd_trt_build_progress(gladd_trt_build *build, gladd_trt_phase *phases, int max) {
	std::lock_guard<std::mutex> lock(build->mutex);
	int n = build->count < max ? build->count : max;
	memcpy(phases, build->phases, n * sizeof *phases);
	return n;
}

const void *gladd_trt_build_plan(const gladd_trt_build *build, size_t *size) {
	*size = build->plan.size;
	return build->plan.data;
}

const void *gladd_trt_build_timing_cache(const gladd_trt_build *build, size_t *size) {
	*size = build->timing_cache.size;
	return build->timing_cache.data;
}

int gladd_trt_build_layers(const gladd_trt_build *build) { return build->layers; }

gladd_trt_library *gladd_trt_open(const char *path, gladd_trt_failure *failure) {
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		copy(failure->cause, loader_error());
		return nullptr;
	}
	auto version = reinterpret_cast<int32_t (*)()>(symbol(handle, "getInferLibVersion"));
	if (!version) {
		copy(failure->cause, "it has no function getInferLibVersion: this is not TensorRT");
		return nullptr;
	}
	auto library = new (std::nothrow) gladd_trt_library{};
	auto log = new (std::nothrow) gladd_trt_log;
	if (!library || !log) {
		delete library;
		delete log;
		copy(failure->cause, "out of memory");
		return nullptr;
	}
	library->log = log;
	library->handle = handle;
	library->create_builder = symbol(handle, "createInferBuilder_INTERNAL");
	library->create_runtime = symbol(handle, "createInferRuntime_INTERNAL");
	int result = call(log, failure, [&](Collector &) -> const char * {
		library->version = version();
		return nullptr;
	});
	if (result & GLADD_TRT_FAILED) {
		gladd_trt_forget(library);
		return nullptr;
	}
	// A bare name was looked for by the loader: this is where it was found.
	Dl_info info;
	copy(library->path, dladdr(reinterpret_cast<void *>(version), &info) && info.dli_fname ? info.dli_fname : path);
	return library;
}

void gladd_trt_forget(gladd_trt_library *library) {
	delete library->log;
	delete library;
}

int gladd_trt_open_parser(gladd_trt_library *library, const char *path, gladd_trt_failure *failure) {
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		copy(failure->cause, loader_error());
		return GLADD_TRT_FAILED;
	}
	void *create = symbol(handle, "createNvOnnxParser_INTERNAL");
	if (!create) {
		copy(failure->cause, "it has no function createNvOnnxParser_INTERNAL: this is not TensorRT's ONNX parser");
		return GLADD_TRT_FAILED;
	}
	library->parser = handle;
	library->create_parser = create;
	return 0;
}

extern "C" const gladd_trt_shim gladd_trt_shim_10, gladd_trt_shim_11, gladd_trt_shim_rtx;
extern "C" const gladd_trt_shim gladd_trt_shim_8 __attribute__((weak));

static const gladd_trt_shim *shim(int abi) noexcept {
	switch (abi) {
	case 8:
		return &gladd_trt_shim_8;
	case 10:
		return &gladd_trt_shim_10;
	case 11:
		return &gladd_trt_shim_11;
	case 1:
		return &gladd_trt_shim_rtx;
	}
	return nullptr;
}

int gladd_trt_has(int abi) { return shim(abi) != nullptr; }

int gladd_trt_use(gladd_trt_library *library, int abi) {
	library->shim = shim(abi);
	if (!library->shim) {
		return 0;
	}
	library->logger = library->shim->logger(library->log);
	return library->logger != nullptr;
}
