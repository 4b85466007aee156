// A stream of one place: each work is done when the next one comes.
#include <cstdint>

namespace {
struct Work {
	void (*run)(void *) = nullptr;
	void (*drop)(void *) = nullptr;
	void *argument = nullptr;
	void finish() {
		if (run) {
			run(argument);
			drop(argument);
		}
	}
} waiting;
} // namespace

extern "C" int fake_cuda_enqueue(void *stream, void (*run)(void *), void *argument, void (*drop)(void *)) {
	if (reinterpret_cast<uintptr_t>(stream) == 13) {
		drop(argument);
		return 1;
	}
	waiting.finish();
	waiting.run = run;
	waiting.drop = drop;
	waiting.argument = argument;
	return 0;
}
