// What a test sets and asks, and what every call begins with.

#include "fake.h"

#include <stdlib.h>
#include <string.h>

// Recursive, for work that another library enqueued asks fake_cuda_valid while it
// runs.
pthread_mutex_t fake_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static struct {
	const char *key;
	long long value;
} settings[] = {
	{"device_count", 1},
	{"driver_version", 12040},
	{"memory_bytes", 64 << 20}, // of each device
	{"pinned_bytes", 64 << 20},
	{"compute_major", 8},
	{"compute_minor", 7},
	{"multiprocessors", 8},
	{"integrated", 1},
	{"uuid", 0},       // the second half of each device's; 0: as it is
	{"misaligned", 0}, // 1: addresses are not aligned to 256 bytes
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };

static char device_name[128] = "Fake Orin";

static struct fault {
	char symbol[64];
	int code;
	int after; // calls that succeed before
	int times; // failures that are left; below 0: without end
} faults[32];

static char hanging_symbol[64]; // empty: nothing hangs
static long long hanging;       // calls that hang now
static long long calls;

__thread struct context *fake_current;

long long fake_value(const char *key)
{
	for (int i = 0; i < SETTINGS; i++)
		if (strcmp(settings[i].key, key) == 0)
			return settings[i].value;
	return 0;
}

const char *fake_name(void) { return device_name; }

static int take_fault(const char *symbol)
{
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		struct fault *fault = &faults[i];
		if (fault->code == 0 || strcmp(fault->symbol, symbol) != 0)
			continue;
		if (fault->after > 0) {
			fault->after--;
			return 0;
		}
		int code = fault->code;
		if (fault->times > 0 && --fault->times == 0)
			fault->code = 0;
		return code;
	}
	return 0;
}

// breaks_context reports the codes after which a context gives nothing else.
static int breaks_context(int code)
{
	return code == 214 || code == 220 || code == 226 || code == 700 || code == 702 || code == 710 ||
	       (code >= 714 && code <= 719) || code == 721;
}

int fake_lose(struct context *context, int code)
{
	if (context != NULL && context->lost == 0 && breaks_context(code))
		context->lost = code;
	return code;
}

int fake_begin(const char *symbol, int needs_context, struct context **current)
{
	pthread_mutex_lock(&fake_lock);
	calls++;
	if (strcmp(symbol, hanging_symbol) == 0) {
		hanging++;
		pthread_cond_broadcast(&changed);
		while (strcmp(symbol, hanging_symbol) == 0)
			pthread_cond_wait(&changed, &fake_lock);
		hanging--;
		pthread_cond_broadcast(&changed);
	}
	if (needs_context) {
		if (fake_current == NULL || fake_current->retained == 0)
			return INVALID_CONTEXT;
		*current = fake_current;
		if (fake_current->lost != 0)
			return fake_current->lost;
	}
	int code = take_fault(symbol);
	return code == 0 ? SUCCESS : fake_lose(needs_context ? fake_current : NULL, code);
}

int fake_end(int code)
{
	pthread_mutex_unlock(&fake_lock);
	return code;
}

// fake_cuda_fail lets the calls of a symbol fail with the code, after so many
// that succeed and so many times; times below 0: always. Code 0 ends that.
// It returns 0, or 1 where there is no room.
int fake_cuda_fail(const char *symbol, int code, int after, int times)
{
	pthread_mutex_lock(&fake_lock);
	struct fault *room = NULL;
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		if (strcmp(faults[i].symbol, symbol) == 0)
			faults[i].code = 0;
		if (faults[i].code == 0 && room == NULL)
			room = &faults[i];
	}
	if (room != NULL) {
		strncpy(room->symbol, symbol, sizeof room->symbol - 1);
		room->code = code;
		room->after = after;
		room->times = times;
	}
	return fake_end(room == NULL);
}

// fake_cuda_set sets a value by its name; 1: there is none of this name.
int fake_cuda_set(const char *key, long long value)
{
	pthread_mutex_lock(&fake_lock);
	for (int i = 0; i < SETTINGS; i++) {
		if (strcmp(settings[i].key, key) == 0) {
			settings[i].value = value;
			return fake_end(0);
		}
	}
	return fake_end(1);
}

void fake_cuda_set_name(const char *name)
{
	pthread_mutex_lock(&fake_lock);
	strncpy(device_name, name, sizeof device_name - 1);
	fake_end(0);
}

// fake_cuda_hang lets the calls of a symbol wait until another is named; an
// empty name releases them all.
void fake_cuda_hang(const char *symbol)
{
	pthread_mutex_lock(&fake_lock);
	strncpy(hanging_symbol, symbol, sizeof hanging_symbol - 1);
	pthread_cond_broadcast(&changed);
	fake_end(0);
}

// fake_cuda_await_hang waits until a call hangs.
void fake_cuda_await_hang(void)
{
	pthread_mutex_lock(&fake_lock);
	while (hanging == 0)
		pthread_cond_wait(&changed, &fake_lock);
	fake_end(0);
}

// fake_cuda_get counts what lives in the fake; -1: nothing of this name.
long long fake_cuda_get(const char *key)
{
	pthread_mutex_lock(&fake_lock);
	long long streams = 0, events = 0, graphs = 0, executables = 0, retained = 0, pending = 0;
	long long blocks[2] = {0, 0}, bytes[2] = {0, 0};
	for (struct stream *s = fake_streams; s != NULL; s = s->next) {
		streams++;
		pending += s->work.count;
	}
	for (struct event *e = fake_events; e != NULL; e = e->next)
		events++;
	for (struct graph *g = fake_graphs; g != NULL; g = g->next)
		g->executable ? executables++ : graphs++;
	for (struct block *b = fake_blocks; b != NULL; b = b->next) {
		blocks[b->on_device]++;
		bytes[b->on_device] += b->size;
	}
	for (int i = 0; i < MAXIMUM_DEVICES; i++)
		retained += fake_contexts[i].retained;
	const struct {
		const char *key;
		long long value;
	} counts[] = {
		{"streams", streams},     {"events", events},        {"graphs", graphs},
		{"executables", executables}, {"retained", retained}, {"pending", pending},
		{"device_blocks", blocks[1]}, {"device_bytes", bytes[1]}, {"pinned_blocks", blocks[0]},
		{"pinned_bytes", bytes[0]},   {"operations", fake_operations}, {"hanging", hanging},
		{"calls", calls},
	};
	long long found = -1;
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
		if (strcmp(counts[i].key, key) == 0)
			found = counts[i].value;
	fake_end(0);
	return found;
}

// fake_cuda_valid reports whether all the bytes lie in one memory of a device.
int fake_cuda_valid(const void *address, size_t bytes)
{
	pthread_mutex_lock(&fake_lock);
	return fake_end(fake_find_block(address, bytes, 1) != NULL);
}
