// Memory of the devices and page-locked memory.

#include "fake.h"

#include <stdlib.h>
#include <string.h>

struct block *fake_blocks;

enum { ALIGNMENT = 256, PAGE = 4096, MISALIGNMENT = 64 };

struct block *fake_find_block(const void *address, size_t bytes, int on_device)
{
	for (struct block *b = fake_blocks; b != NULL; b = b->next) {
		const char *first = address;
		if (b->on_device == on_device && first >= b->address && first <= b->address + b->size &&
		    bytes <= (size_t)(b->address + b->size - first))
			return b;
	}
	return NULL;
}

static size_t used(struct context *context, int on_device)
{
	size_t bytes = 0;
	for (struct block *b = fake_blocks; b != NULL; b = b->next)
		if (b->on_device == on_device && (!on_device || b->context == context))
			bytes += b->size;
	return bytes;
}

static size_t capacity(int on_device) { return (size_t)fake_value(on_device ? "memory_bytes" : "pinned_bytes"); }

static int allocate(struct context *context, char **address, size_t bytes, int on_device)
{
	if (fake_spoil_captures(context) != SUCCESS)
		return CAPTURE_UNSUPPORTED;
	if (bytes == 0)
		return INVALID_VALUE;
	if (bytes > capacity(on_device) - used(context, on_device))
		return OUT_OF_MEMORY;
	size_t alignment = on_device ? ALIGNMENT : PAGE;
	struct block *block = calloc(1, sizeof *block);
	// Room for a shift by MISALIGNMENT.
	block->address = aligned_alloc(alignment, (bytes + MISALIGNMENT + alignment - 1) / alignment * alignment);
	if (fake_value("misaligned"))
		block->address += MISALIGNMENT;
	memset(block->address, 0xA5, bytes); // whatever was in it
	block->size = bytes;
	block->context = context;
	block->on_device = on_device;
	block->next = fake_blocks;
	fake_blocks = block;
	*address = block->address;
	return SUCCESS;
}

static void free_block(struct block **place)
{
	struct block *block = *place;
	*place = block->next;
	size_t shift = (uintptr_t)block->address % ALIGNMENT == 0 ? 0 : MISALIGNMENT;
	free(block->address - shift);
	free(block);
}

static int release(struct context *context, const void *address, int on_device)
{
	for (struct block **place = &fake_blocks; *place != NULL; place = &(*place)->next) {
		if ((*place)->on_device != on_device || (*place)->address != address)
			continue;
		// The driver waits for the work that may use it.
		int code = fake_run_streams(context);
		free_block(place);
		return code;
	}
	return INVALID_VALUE;
}

int cuMemAlloc_v2(char **address, size_t bytes)
{
	BEGIN(1);
	END(allocate(current, address, bytes, 1));
}

int cuMemFree_v2(char *address)
{
	BEGIN(1);
	END(release(current, address, 1));
}

int cuMemHostAlloc(char **memory, size_t bytes, unsigned int flags)
{
	BEGIN(1);
	(void)flags;
	END(allocate(current, memory, bytes, 0));
}

int cuMemFreeHost(char *memory)
{
	BEGIN(1);
	END(release(current, memory, 0));
}

int cuMemGetInfo_v2(size_t *available, size_t *total)
{
	BEGIN(1);
	*total = capacity(1);
	*available = *total - used(current, 1);
	END(SUCCESS);
}

struct transfer {
	char *to, *from; // from NULL: value is written
	size_t bytes;
	int to_device, from_device;
	unsigned char value;
};

// transfer runs with the lock. An address that is not valid by then breaks the
// context, as on a device.
static int transfer(void *argument)
{
	struct transfer *t = argument;
	if (fake_find_block(t->to, t->bytes, t->to_device) == NULL)
		return ILLEGAL_ADDRESS;
	if (t->from == NULL)
		memset(t->to, t->value, t->bytes);
	else if (fake_find_block(t->from, t->bytes, t->from_device) == NULL)
		return ILLEGAL_ADDRESS;
	else
		memmove(t->to, t->from, t->bytes);
	return SUCCESS;
}

// enqueue checks the addresses now, too: a driver refuses most that are wrong.
static int enqueue(void *handle, struct transfer wanted)
{
	struct stream *stream = fake_find_stream(handle);
	if (stream == NULL)
		return INVALID_HANDLE;
	if (fake_find_block(wanted.to, wanted.bytes, wanted.to_device) == NULL ||
	    (wanted.from != NULL && fake_find_block(wanted.from, wanted.bytes, wanted.from_device) == NULL))
		return INVALID_VALUE;
	struct transfer *kept = malloc(sizeof *kept);
	*kept = wanted;
	return fake_add_work(stream, fake_operation(transfer, kept, free));
}

int cuMemcpyHtoDAsync_v2(char *to, char *from, size_t bytes, void *stream)
{
	BEGIN(1);
	END(enqueue(stream, (struct transfer){.to = to, .from = from, .bytes = bytes, .to_device = 1}));
}

int cuMemcpyDtoHAsync_v2(char *to, char *from, size_t bytes, void *stream)
{
	BEGIN(1);
	END(enqueue(stream, (struct transfer){.to = to, .from = from, .bytes = bytes, .from_device = 1}));
}

int cuMemcpyDtoDAsync_v2(char *to, char *from, size_t bytes, void *stream)
{
	BEGIN(1);
	END(enqueue(stream, (struct transfer){.to = to, .from = from, .bytes = bytes, .to_device = 1, .from_device = 1}));
}

int cuMemsetD8Async(char *to, unsigned char value, size_t bytes, void *stream)
{
	BEGIN(1);
	END(enqueue(stream, (struct transfer){.to = to, .bytes = bytes, .to_device = 1, .value = value}));
}

// fake_destroy_all takes everything that lives in the context away, and makes
// it work again.
void fake_destroy_all(struct context *context)
{
	for (struct stream **s = &fake_streams; *s != NULL;) {
		struct stream *stream = *s;
		if (stream->context != context) {
			s = &stream->next;
			continue;
		}
		*s = stream->next;
		fake_free_stream(stream);
	}
	for (struct event **e = &fake_events; *e != NULL;) {
		struct event *event = *e;
		if (event->context != context) {
			e = &event->next;
			continue;
		}
		*e = event->next;
		free(event);
	}
	for (struct graph **g = &fake_graphs; *g != NULL;) {
		struct graph *graph = *g;
		if (graph->context != context) {
			g = &graph->next;
			continue;
		}
		*g = graph->next;
		fake_clear(&graph->work);
		free(graph);
	}
	for (struct block **b = &fake_blocks; *b != NULL;) {
		if ((*b)->context == context)
			free_block(b);
		else
			b = &(*b)->next;
	}
	context->lost = 0;
}
