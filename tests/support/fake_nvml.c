/* Stands in for libnvidia-ml.so.1, as far as `appliance doctor` asks it: the functions, structs and error numbers of
 * NVIDIA's nvml.h. What it answers is in the environment: FAKE_NVML_INIT (what nvmlInit returns), FAKE_NVML_GPUS (how
 * many), FAKE_NVML_FREE (free bytes of each), FAKE_NVML_FAIL (what every question about a GPU returns). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct {
    unsigned long long total, free, used;
} nvmlMemory_t;

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };

static int initialized;

static long long setting(const char *name, long long otherwise) {
    const char *value = getenv(name);
    return value ? atoll(value) : otherwise;
}

static nvmlReturn_t put(char *buffer, unsigned length, const char *text) {
    if (!initialized) return UNINITIALIZED;
    if (strlen(text) + 1 > length) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int result = (int)setting("FAKE_NVML_INIT", SUCCESS);
    initialized = result == SUCCESS;
    return result;
}

nvmlReturn_t nvmlShutdown(void) {
    if (!initialized) return UNINITIALIZED;
    initialized = 0;
    return SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result) {
    return result == DRIVER_NOT_LOADED ? "Driver Not Loaded" : result == 15 ? "GPU is lost" : "Unknown Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) { return put(version, length, "580.95.05"); }

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    if (!initialized) return UNINITIALIZED;
    *version = 13010;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    if (!initialized) return UNINITIALIZED;
    *count = (unsigned)setting("FAKE_NVML_GPUS", 1);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    if (!initialized) return UNINITIALIZED;
    if (index >= (unsigned)setting("FAKE_NVML_GPUS", 1)) return INVALID_ARGUMENT;
    *device = (nvmlDevice_t)(size_t)(index + 1);
    return (nvmlReturn_t)setting("FAKE_NVML_FAIL", SUCCESS);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
    if (!device) return INVALID_ARGUMENT;
    return put(name, length, "NVIDIA L4");
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    if (!initialized) return UNINITIALIZED;
    if (!device) return INVALID_ARGUMENT;
    memory->total = 24ULL << 30;
    memory->free = (unsigned long long)setting("FAKE_NVML_FREE", 20LL << 30);
    memory->used = memory->total - memory->free;
    return SUCCESS;
}
