// What all ABIs share: the log, a build's state, and the frame around calls.
#pragma once

#include "trt.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>

// A ring of log lines of a fixed size: TensorRT writes from threads of its own,
// as much as it likes.
struct gladd_trt_log {
	static constexpr int size = 256;
	std::mutex mutex;
	std::atomic<int> level{3};
	gladd_trt_line lines[size];
	int first = 0;
	std::atomic<int> count{0};
	uint64_t dropped = 0;
	// The first error since a build began from a thread that is in no call of
	// gladd's. Builders have such threads.
	char stray[GLADD_TRT_TEXT] = "";

	void write(int severity, const char *text) noexcept;
};

struct gladd_trt_build {
	std::atomic<bool> cancelled{false};
	std::mutex mutex;
	gladd_trt_phase phases[GLADD_TRT_PHASES];
	int count = 0;
	int layers = 0;
	struct {
		const void *data = nullptr;
		size_t size = 0;
		void *owner = nullptr; // TensorRT's IHostMemory
		void (*free)(void *owner) noexcept = nullptr;
	} plan, timing_cache;

	void start(const char *name, const char *parent, int steps) noexcept;
	bool step(const char *name, int step) noexcept;
	void finish(const char *name) noexcept;
};

namespace gladd_trt {

template <size_t n> void copy(char (&to)[n], const char *from) noexcept { snprintf(to, n, "%s", from ? from : ""); }

// Without a GPU, some versions return a small number where they should return
// null. No object lies in the first page.
inline bool is_object(const void *pointer) noexcept { return reinterpret_cast<uintptr_t>(pointer) >= 4096; }

// Keeps the first error that is logged by this thread during a call: it tells
// the cause, and a trail of others follows it.
class Collector {
public:
	explicit Collector(gladd_trt_log *log) noexcept;
	~Collector();
	Collector(const Collector &) = delete;
	Collector &operator=(const Collector &) = delete;
	static Collector *current() noexcept;
	void error(const char *text) noexcept;
	bool has_error() const noexcept { return has; }
	void forget() noexcept { has = false; }
	// From now on, errors of other threads are causes too, if this one has none.
	void begin_strays() noexcept;
	// The first error, or an empty text.
	const char *cause() noexcept;

private:
	gladd_trt_log *log;
	Collector *outer;
	bool has = false, strays = false;
	char first[GLADD_TRT_TEXT] = "";
};

// call runs body, which returns null or the name of TensorRT's function that
// failed. What body leaves out of failure is filled in from the log.
template <typename F> int call(gladd_trt_log *log, gladd_trt_failure *failure, F body) noexcept {
	Collector collector(log);
	failure->stage = failure->reason = 0;
	failure->call[0] = failure->node[0] = failure->operation[0] = failure->cause[0] = 0;
	const char *failed = "an unknown function"; // what an exception leaves
	char thrown[GLADD_TRT_TEXT] = "";
	try {
		failed = body(collector);
	} catch (const std::exception &e) {
		snprintf(thrown, sizeof thrown, "TensorRT threw an exception: %s", e.what());
	} catch (...) {
		copy(thrown, "TensorRT threw an exception of an unknown type");
	}
	int result = log->count.load(std::memory_order_relaxed) > 0 ? GLADD_TRT_LOGGED : 0;
	if (!failed) {
		return result;
	}
	copy(failure->call, failed);
	if (thrown[0]) {
		copy(failure->cause, thrown);
	} else if (!failure->cause[0]) {
		const char *logged = collector.cause();
		copy(failure->cause, logged[0] ? logged : "TensorRT gave no reason");
	}
	return result | GLADD_TRT_FAILED;
}

} // namespace gladd_trt
