// The driver, its devices and their contexts.

#include "fake.h"

#include <stdlib.h>
#include <string.h>

struct context fake_contexts[MAXIMUM_DEVICES];
int fake_initialized;
extern __thread struct context *fake_current;
const char *fake_name(void);

int cuDriverGetVersion(int *version)
{
	BEGIN(0);
	*version = (int)fake_value("driver_version");
	END(SUCCESS);
}

int cuInit(unsigned int flags)
{
	BEGIN(0);
	fake_initialized = 1;
	END(flags == 0 ? SUCCESS : INVALID_VALUE);
}

static const struct {
	int code;
	const char *name, *text;
} names[] = {
	{0, "CUDA_SUCCESS", "no error"},
	{1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
	{2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	{100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
	{201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
	{600, "CUDA_ERROR_NOT_READY", "device not ready"},
	{700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
	{803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
	{900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
	{901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};

int cuGetErrorName(int error, const char **name)
{
	*name = NULL;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (names[i].code == error)
			*name = names[i].name;
	return *name == NULL ? INVALID_VALUE : SUCCESS;
}

int cuGetErrorString(int error, const char **text)
{
	*text = NULL;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (names[i].code == error)
			*text = names[i].text;
	return *text == NULL ? INVALID_VALUE : SUCCESS;
}

static int known(int device)
{
	if (!fake_initialized)
		return NOT_INITIALIZED;
	return device >= 0 && device < fake_value("device_count") && device < MAXIMUM_DEVICES ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetCount(int *count)
{
	BEGIN(0);
	*count = (int)fake_value("device_count");
	END(fake_initialized ? SUCCESS : NOT_INITIALIZED);
}

int cuDeviceGet(int *device, int ordinal)
{
	BEGIN(0);
	*device = ordinal;
	END(known(ordinal));
}

int cuDeviceGetName(char *name, int bytes, int device)
{
	BEGIN(0);
	strncpy(name, fake_name(), bytes);
	END(known(device));
}

int cuDeviceGetUuid_v2(char *uuid, int device)
{
	BEGIN(0);
	for (int i = 0; i < 16; i++)
		uuid[i] = (char)(i + 16 * device);
	long long own = fake_value("uuid");
	if (own != 0)
		memcpy(uuid + 8, &own, 8);
	END(known(device));
}

int cuDeviceGetUuid(char *uuid, int device)
{
	BEGIN(0);
	memset(uuid, 0x11, 16);
	END(known(device));
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
	BEGIN(0);
	*bytes = (size_t)fake_value("memory_bytes");
	END(known(device));
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	BEGIN(0);
	switch (attribute) {
	case 16: *value = (int)fake_value("multiprocessors"); break;
	case 18: *value = (int)fake_value("integrated"); break;
	case 75: *value = (int)fake_value("compute_major"); break;
	case 76: *value = (int)fake_value("compute_minor"); break;
	default: END(INVALID_VALUE);
	}
	END(known(device));
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
	BEGIN(0);
	if (known(device) != SUCCESS)
		END(known(device));
	if (fake_contexts[device].lost != 0)
		END(fake_contexts[device].lost);
	fake_contexts[device].retained++;
	*context = &fake_contexts[device];
	END(SUCCESS);
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
	BEGIN(0);
	if (known(device) != SUCCESS)
		END(known(device));
	struct context *context = &fake_contexts[device];
	if (context->retained == 0)
		END(INVALID_CONTEXT);
	if (--context->retained == 0)
		fake_destroy_all(context);
	END(SUCCESS);
}

int cuDevicePrimaryCtxReset_v2(int device)
{
	BEGIN(0);
	if (known(device) != SUCCESS)
		END(known(device));
	fake_destroy_all(&fake_contexts[device]);
	END(SUCCESS);
}

int cuCtxSetCurrent(void *context)
{
	BEGIN(0);
	fake_current = context;
	END(SUCCESS);
}
