// Streams and events.

#include "fake.h"

#include <stdlib.h>
#include <time.h>

struct stream *fake_streams;
struct event *fake_events;
long long fake_operations;

struct operation *fake_operation(int (*run)(void *), void *argument, void (*drop)(void *))
{
	struct operation *operation = calloc(1, sizeof *operation);
	operation->holders = 1;
	operation->run = run;
	operation->argument = argument;
	operation->drop = drop;
	fake_operations++;
	return operation;
}

void fake_let_go(struct operation *operation)
{
	if (--operation->holders > 0)
		return;
	if (operation->drop != NULL)
		operation->drop(operation->argument);
	free(operation);
	fake_operations--;
}

void fake_append(struct list *list, struct operation *operation)
{
	if (list->count == list->room) {
		list->room = list->room == 0 ? 16 : 2 * list->room;
		list->items = realloc(list->items, list->room * sizeof *list->items);
	}
	list->items[list->count++] = operation;
}

void fake_clear(struct list *list)
{
	for (size_t i = 0; i < list->count; i++)
		fake_let_go(list->items[i]);
	free(list->items);
	*list = (struct list){0};
}

struct stream *fake_find_stream(void *handle)
{
	for (struct stream *s = fake_streams; s != NULL; s = s->next)
		if (s == handle)
			return s;
	return NULL;
}

static struct event *find_event(void *handle)
{
	for (struct event *e = fake_events; e != NULL; e = e->next)
		if (e == handle)
			return e;
	return NULL;
}

int fake_spoil_captures(struct context *context)
{
	int code = SUCCESS;
	for (struct stream *s = fake_streams; s != NULL; s = s->next) {
		if (s->context == context && s->capturing) {
			s->spoilt = 1;
			code = CAPTURE_UNSUPPORTED;
		}
	}
	return code;
}

int fake_add_work(struct stream *stream, struct operation *operation)
{
	if (stream->capturing && stream->spoilt) {
		fake_let_go(operation);
		return CAPTURE_INVALIDATED;
	}
	fake_append(stream->capturing ? &stream->captured : &stream->work, operation);
	return SUCCESS;
}

// run_first does the oldest work of a stream.
static int run_first(struct stream *stream)
{
	struct operation *operation = stream->work.items[0];
	for (size_t i = 1; i < stream->work.count; i++)
		stream->work.items[i - 1] = stream->work.items[i];
	stream->work.count--;
	int code = fake_lose(stream->context, operation->run(operation->argument));
	fake_let_go(operation);
	return code;
}

int fake_run_all(struct stream *stream)
{
	int code = SUCCESS;
	while (stream->work.count > 0 && code == SUCCESS)
		code = run_first(stream);
	return code;
}

int fake_run_streams(struct context *context)
{
	int code = SUCCESS;
	for (struct stream *s = fake_streams; s != NULL && code == SUCCESS; s = s->next)
		if (s->context == context)
			code = fake_run_all(s);
	return code;
}

void fake_free_stream(struct stream *stream)
{
	for (struct event *e = fake_events; e != NULL; e = e->next)
		if (e->stream == stream)
			e->stream = NULL;
	fake_clear(&stream->work);
	fake_clear(&stream->captured);
	free(stream);
}

int cuStreamCreate(struct stream **stream, unsigned int flags)
{
	BEGIN(1);
	if (flags != 1) // one that waits for the default stream is a fault here
		END(INVALID_VALUE);
	struct stream *made = calloc(1, sizeof *made);
	made->context = current;
	made->next = fake_streams;
	fake_streams = made;
	*stream = made;
	END(SUCCESS);
}

int cuStreamDestroy_v2(void *handle)
{
	BEGIN(1);
	for (struct stream **place = &fake_streams; *place != NULL; place = &(*place)->next) {
		struct stream *stream = *place;
		if (stream != handle)
			continue;
		int ran = fake_run_all(stream);
		*place = stream->next;
		fake_free_stream(stream);
		END(ran);
	}
	END(INVALID_HANDLE);
}

int cuStreamSynchronize(void *handle)
{
	BEGIN(1);
	struct stream *stream = fake_find_stream(handle);
	if (stream == NULL)
		END(INVALID_HANDLE);
	if (stream->capturing) {
		stream->spoilt = 1;
		END(CAPTURE_UNSUPPORTED);
	}
	END(fake_run_all(stream));
}

// cuStreamQuery lets the stream get on by one piece of work.
int cuStreamQuery(void *handle)
{
	BEGIN(1);
	struct stream *stream = fake_find_stream(handle);
	if (stream == NULL)
		END(INVALID_HANDLE);
	if (stream->capturing) {
		stream->spoilt = 1;
		END(CAPTURE_UNSUPPORTED);
	}
	if (stream->work.count == 0)
		END(SUCCESS);
	int ran = run_first(stream);
	END(ran == SUCCESS ? NOT_READY : ran);
}

int cuEventCreate(struct event **event, unsigned int flags)
{
	BEGIN(1);
	struct event *made = calloc(1, sizeof *made);
	made->context = current;
	made->flags = flags;
	made->next = fake_events;
	fake_events = made;
	*event = made;
	END(SUCCESS);
}

int cuEventDestroy_v2(void *handle)
{
	BEGIN(1);
	for (struct event **place = &fake_events; *place != NULL; place = &(*place)->next) {
		struct event *event = *place;
		if (event != handle)
			continue;
		*place = event->next;
		free(event);
		END(SUCCESS);
	}
	END(INVALID_HANDLE);
}

static int happen(void *handle)
{
	struct event *event = find_event(handle);
	if (event == NULL) // destroyed before
		return SUCCESS;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	event->time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
	event->happened = 1;
	return SUCCESS;
}

int cuEventRecord(void *handle, void *stream_handle)
{
	BEGIN(1);
	struct event *event = find_event(handle);
	struct stream *stream = fake_find_stream(stream_handle);
	if (event == NULL || stream == NULL)
		END(INVALID_HANDLE);
	event->captured = stream->capturing;
	if (stream->capturing) // it is the graph's then, and does not happen
		END(SUCCESS);
	event->stream = stream;
	event->recorded = 1;
	event->happened = 0;
	END(fake_add_work(stream, fake_operation(happen, event, NULL)));
}

int cuEventSynchronize(void *handle)
{
	BEGIN(1);
	struct event *event = find_event(handle);
	if (event == NULL)
		END(INVALID_HANDLE);
	if (event->captured)
		END(CAPTURED_EVENT);
	int ran = SUCCESS;
	while (ran == SUCCESS && event->recorded && !event->happened && event->stream != NULL && event->stream->work.count > 0)
		ran = run_first(event->stream);
	END(ran);
}

int cuEventElapsedTime(float *milliseconds, void *start_handle, void *end_handle)
{
	BEGIN(1);
	struct event *start = find_event(start_handle), *end = find_event(end_handle);
	enum { DISABLE_TIMING = 2 };
	if (start == NULL || end == NULL || ((start->flags | end->flags) & DISABLE_TIMING) || !start->recorded || !end->recorded)
		END(INVALID_HANDLE);
	if (!start->happened || !end->happened)
		END(NOT_READY);
	*milliseconds = (float)(1e3 * (end->time - start->time));
	END(SUCCESS);
}
