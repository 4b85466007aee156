// A fake of libcuda.so.1: device memory is the computer's, a stream's work is
// done when it is waited for, so that a forgotten wait is seen in a test.

#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SUCCESS = 0,
	INVALID_VALUE = 1,
	OUT_OF_MEMORY = 2,
	NOT_INITIALIZED = 3,
	NO_DEVICE = 100,
	INVALID_DEVICE = 101,
	INVALID_CONTEXT = 201,
	INVALID_HANDLE = 400,
	NOT_READY = 600,
	ILLEGAL_ADDRESS = 700,
	CAPTURE_UNSUPPORTED = 900,
	CAPTURE_INVALIDATED = 901,
	CAPTURED_EVENT = 907,
};

enum { MAXIMUM_DEVICES = 8 };

// context is a device's primary context.
struct context {
	int retained; // count
	int lost;     // the code that every call gives; 0: it works
	size_t used;  // bytes of device memory
};

// operation is one piece of work. It belongs to all queues and graphs that hold
// it.
struct operation {
	int holders;
	int (*run)(void *argument); // returns a code
	void *argument;
	void (*drop)(void *argument); // NULL: nothing is to be freed
};

struct list {
	struct operation **items;
	size_t count, room;
};

struct stream {
	struct stream *next;
	struct context *context;
	struct list work;
	int capturing; // 0: no
	int spoilt;    // the capture cannot end well
	struct list captured;
};

struct event {
	struct event *next;
	struct context *context;
	unsigned int flags;
	struct stream *stream; // where it was recorded last; NULL: nowhere, or that stream is gone
	int recorded, happened, captured;
	double time; // seconds
};

struct graph {
	struct graph *next;
	struct context *context;
	int executable;
	struct list work;
};

struct block {
	struct block *next;
	struct context *context;
	char *address;
	size_t size;
	int on_device;
};

extern pthread_mutex_t fake_lock; // guards all that follows
extern struct context fake_contexts[MAXIMUM_DEVICES];
extern struct stream *fake_streams;
extern struct event *fake_events;
extern struct graph *fake_graphs;
extern struct block *fake_blocks;
extern long long fake_operations; // that live
extern int fake_initialized;

// fake_begin starts a call: it locks, hangs where it was told to, and gives
// the code that the call fails with, by a fault that was set or, where the call
// needs a context, by the context's state.
int fake_begin(const char *symbol, int needs_context, struct context **current);
int fake_end(int code); // unlocks

// The macros begin and end the body of each call.
#define BEGIN(needs_context)                                                                                           \
	struct context *current = NULL;                                                                                    \
	int code = fake_begin(__func__, needs_context, &current);                                                          \
	if (code != SUCCESS)                                                                                               \
		return fake_end(code);                                                                                         \
	(void)current
#define END(value) return fake_end(value)

long long fake_value(const char *key);
void fake_destroy_all(struct context *context);

struct block *fake_find_block(const void *address, size_t bytes, int on_device);
struct stream *fake_find_stream(void *handle);
int fake_lose(struct context *context, int code);
int fake_spoil_captures(struct context *context); // CAPTURE_UNSUPPORTED where there was one

struct operation *fake_operation(int (*run)(void *), void *argument, void (*drop)(void *));
void fake_append(struct list *list, struct operation *operation); // takes the holder's count
void fake_let_go(struct operation *operation);           // gives a holder's count back
void fake_clear(struct list *list);
int fake_add_work(struct stream *stream, struct operation *operation);
int fake_run_all(struct stream *stream);
int fake_run_streams(struct context *context);
void fake_free_stream(struct stream *stream);

#endif
