// Graphs, and work of other libraries.

#include "fake.h"

#include <stdlib.h>

struct graph *fake_graphs;

static struct graph *find_graph(void *handle, int executable)
{
	for (struct graph *g = fake_graphs; g != NULL; g = g->next)
		if (g == handle && g->executable == executable)
			return g;
	return NULL;
}

int cuStreamBeginCapture_v2(void *handle, int mode)
{
	BEGIN(1);
	struct stream *stream = fake_find_stream(handle);
	if (stream == NULL)
		END(INVALID_HANDLE);
	if (stream->capturing || mode < 0 || mode > 2)
		END(INVALID_VALUE);
	stream->capturing = 1;
	stream->spoilt = 0;
	END(SUCCESS);
}

static struct graph *new_graph(struct context *context, int executable)
{
	struct graph *graph = calloc(1, sizeof *graph);
	graph->context = context;
	graph->executable = executable;
	graph->next = fake_graphs;
	fake_graphs = graph;
	return graph;
}

static int destroy_graph(void *handle, int executable)
{
	for (struct graph **place = &fake_graphs; *place != NULL; place = &(*place)->next) {
		struct graph *graph = *place;
		if (graph != handle || graph->executable != executable)
			continue;
		*place = graph->next;
		fake_clear(&graph->work);
		free(graph);
		return SUCCESS;
	}
	return INVALID_HANDLE;
}

int cuStreamEndCapture(void *handle, struct graph **graph)
{
	*graph = NULL;
	BEGIN(1);
	struct stream *stream = fake_find_stream(handle);
	if (stream == NULL)
		END(INVALID_HANDLE);
	if (!stream->capturing)
		END(401);
	stream->capturing = 0;
	if (stream->spoilt) {
		fake_clear(&stream->captured);
		END(CAPTURE_INVALIDATED);
	}
	*graph = new_graph(current, 0);
	(*graph)->work = stream->captured;
	stream->captured = (struct list){0};
	END(SUCCESS);
}

// hold_all appends all work of one list to another.
static void hold_all(struct list *to, const struct list *from)
{
	for (size_t i = 0; i < from->count; i++) {
		from->items[i]->holders++;
		fake_append(to, from->items[i]);
	}
}

int cuGraphInstantiateWithFlags(struct graph **executable, void *handle, unsigned long long flags)
{
	BEGIN(1);
	struct graph *graph = find_graph(handle, 0);
	if (graph == NULL)
		END(INVALID_HANDLE);
	*executable = new_graph(current, 1);
	hold_all(&(*executable)->work, &graph->work);
	END(flags == 0 ? SUCCESS : INVALID_VALUE);
}

int cuGraphDestroy(void *handle)
{
	BEGIN(1);
	END(destroy_graph(handle, 0));
}

int cuGraphExecDestroy(void *handle)
{
	BEGIN(1);
	END(destroy_graph(handle, 1));
}

int cuGraphLaunch(void *handle, void *stream_handle)
{
	BEGIN(1);
	struct graph *graph = find_graph(handle, 1);
	struct stream *stream = fake_find_stream(stream_handle);
	if (graph == NULL || stream == NULL)
		END(INVALID_HANDLE);
	hold_all(stream->capturing ? &stream->captured : &stream->work, &graph->work);
	END(SUCCESS);
}

struct foreign {
	void (*run)(void *argument);
	void *argument;
	void (*drop)(void *argument);
};

static int run_foreign(void *argument)
{
	struct foreign *foreign = argument;
	foreign->run(foreign->argument);
	return SUCCESS;
}

static void drop_foreign(void *argument)
{
	struct foreign *foreign = argument;
	if (foreign->drop != NULL)
		foreign->drop(foreign->argument);
	free(foreign);
}

// fake_cuda_enqueue gives a stream work of another library, or the graph that
// is captured from it. It runs with the argument whenever the stream gets
// there; drop, if there is one, is called once it cannot run any more, and at
// once where this fails. run may ask fake_cuda_valid, but must not call the
// driver. It returns a CUresult.
int fake_cuda_enqueue(void *handle, void (*run)(void *argument), void *argument, void (*drop)(void *argument))
{
	pthread_mutex_lock(&fake_lock);
	struct stream *stream = fake_find_stream(handle);
	struct foreign *foreign = malloc(sizeof *foreign);
	*foreign = (struct foreign){run, argument, drop};
	struct operation *operation = fake_operation(run_foreign, foreign, drop_foreign);
	int code = stream == NULL ? INVALID_HANDLE : stream->context->lost;
	if (code == SUCCESS)
		return fake_end(fake_add_work(stream, operation));
	fake_let_go(operation);
	return fake_end(code);
}
