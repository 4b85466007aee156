//go:build linux && cgo

#include "library.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// copy_text copies a text that belongs to the loader; NULL where there is no
// memory for it.
static char *copy_text(const char *text) { return strdup(text != NULL ? text : "no reason given"); }

gladd_cuda_opening gladd_cuda_open(const char *path)
{
	gladd_cuda_opening opening = {GLADD_CUDA_OPENED, NULL, 0, NULL};

	// The driver starts threads and registers handlers that run at exit; were it
	// unmapped, they would run into nothing. RTLD_NODELETE keeps it mapped.
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (library == NULL) {
		opening.status = GLADD_CUDA_NOT_LOADED;
		opening.problem = copy_text(dlerror());
		return opening;
	}
	gladd_cuda *cuda = calloc(1, sizeof *cuda);
	if (cuda == NULL) {
		dlclose(library);
		opening.status = GLADD_CUDA_NO_MEMORY;
		return opening;
	}
	cuda->library = library;

	const char *missing = NULL;
#define LOOK_UP(symbol, parameters, arguments)                                                                         \
	*(void **)&cuda->symbol = dlsym(library, #symbol);                                                                 \
	if (cuda->symbol == NULL && missing == NULL)                                                                       \
		missing = #symbol;
	GLADD_CUDA_CALLS(LOOK_UP)
#undef LOOK_UP
	*(void **)&cuda->cuDeviceGetUuid = dlsym(library, "cuDeviceGetUuid_v2");
	if (cuda->cuDeviceGetUuid == NULL)
		*(void **)&cuda->cuDeviceGetUuid = dlsym(library, "cuDeviceGetUuid");
	if (cuda->cuDeviceGetUuid == NULL && missing == NULL)
		missing = "cuDeviceGetUuid";

	// This call may be made before cuInit.
	if (cuda->cuDriverGetVersion != NULL && cuda->cuDriverGetVersion(&opening.version) != 0)
		opening.version = 0;
	if (missing != NULL) {
		opening.status = GLADD_CUDA_SYMBOL_MISSING;
		opening.problem = copy_text(missing);
		gladd_cuda_close(cuda);
		return opening;
	}
	opening.cuda = cuda;
	return opening;
}

void gladd_cuda_close(gladd_cuda *cuda)
{
	if (cuda == NULL)
		return;
	dlclose(cuda->library);
	free(cuda);
}

#define DEFINE(symbol, parameters, arguments)                                                                          \
	int gladd_cuda_##symbol(const gladd_cuda *cuda, GLADD_CUDA_UNPACK parameters) { return cuda->symbol arguments; }
GLADD_CUDA_CALLS(DEFINE)
#undef DEFINE

void *gladd_cuda_allocate_pinned(const gladd_cuda *cuda, size_t bytes, int *code)
{
	void *memory = NULL;
	*code = cuda->cuMemHostAlloc(&memory, bytes, 0);
	return *code == 0 ? memory : NULL;
}

const char *gladd_cuda_error_name(const gladd_cuda *cuda, int code)
{
	const char *name = NULL;
	return cuda->cuGetErrorName(code, &name) == 0 ? name : NULL;
}

const char *gladd_cuda_error_text(const gladd_cuda *cuda, int code)
{
	const char *text = NULL;
	return cuda->cuGetErrorString(code, &text) == 0 ? text : NULL;
}

int gladd_cuda_cuDeviceGetUuid(const gladd_cuda *cuda, char *uuid, int device)
{
	return cuda->cuDeviceGetUuid(uuid, device);
}
