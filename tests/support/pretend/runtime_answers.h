// What CuPy asks of the CUDA runtime.
#pragma once
#include "device.h"

// The runtime: memory.
ANSWER cudaError_t cudaMalloc(void** pointer, size_t size) {
    if (used + size > TOTAL) return cudaErrorMemoryAllocation;
    const size_t whole = (size + 511) / 512 * 512;
    char* found = static_cast<char*>(aligned_alloc(512, whole ? whole : 512));
    memset(found, 0xFF, whole);
    memory[found] = size;
    used += size, ++counts[ALLOCATIONS];
    *pointer = found;
    return cudaSuccess;
}
ANSWER cudaError_t cudaFree(void* pointer) {
    auto found = memory.find(static_cast<char*>(pointer));
    if (!pointer) return cudaSuccess;
    if (found == memory.end()) return cudaErrorInvalidValue;
    used -= found->second;
    memory.erase(found);
    free(pointer);
    return cudaSuccess;
}
ANSWER cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
    *available = TOTAL - used, *total = TOTAL;
    return cudaSuccess;
}
ANSWER cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned) {
    *pointer = aligned_alloc(512, (size + 511) / 512 * 512 + 512);
    return cudaSuccess;
}
ANSWER cudaError_t cudaFreeHost(void* pointer) {
    free(pointer);
    return cudaSuccess;
}
ANSWER cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
    memmove(to, from, size);
    return cudaSuccess;
}
ANSWER cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind,
                                   cudaStream_t stream) {
    if (of(stream)->capturing && !(on_device(to) && on_device(from)))
        return cudaErrorStreamCaptureUnsupported;
    perform(stream, [=] { memmove(to, from, size); });
    return cudaSuccess;
}
ANSWER cudaError_t cudaMemset(void* to, int value, size_t size) {
    memset(to, value, size);
    return cudaSuccess;
}
ANSWER cudaError_t cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t stream) {
    perform(stream, [=] { memset(to, value, size); });
    return cudaSuccess;
}
ANSWER cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* address) {
    memset(found, 0, sizeof *found);
    const bool here = on_device(address);
    found->type = here ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    found->devicePointer = here ? const_cast<void*>(address) : nullptr;
    return cudaSuccess;
}

// The runtime: one device.
ANSWER cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
ANSWER cudaError_t cudaSetDevice(int device) {
    return device ? cudaErrorInvalidDevice : cudaSuccess;
}
ANSWER cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
ANSWER cudaError_t cudaDriverGetVersion(int* version) { return *version = 13020, cudaSuccess; }
ANSWER cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
ANSWER cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
    *value = which == cudaDevAttrComputeCapabilityMajor           ? CAPABILITY
             : which == cudaDevAttrMultiProcessorCount            ? PROCESSORS
             : which == cudaDevAttrMaxSharedMemoryPerBlockOptin   ? int(SHARED)
             : which == cudaDevAttrMaxSharedMemoryPerBlock        ? int(DEFAULT_SHARED)
             : which == cudaDevAttrMaxThreadsPerBlock             ? THREADS
             : which == cudaDevAttrWarpSize                       ? 32
             : which == cudaDevAttrMaxGridDimX                    ? 0x7fffffff
             : which == cudaDevAttrMaxGridDimY                    ? 65535
             : which == cudaDevAttrMaxGridDimZ                    ? 65535
                                                                  : 0;
    return cudaSuccess;
}
ANSWER cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
    memset(found, 0, sizeof *found);
    strcpy(found->name, "pretend");
    found->totalGlobalMem = TOTAL, found->major = CAPABILITY, found->warpSize = 32;
    found->multiProcessorCount = PROCESSORS, found->sharedMemPerBlockOptin = SHARED;
    found->maxThreadsPerBlock = THREADS;
    return cudaSuccess;
}
ANSWER cudaError_t cudaDeviceSynchronize() {
    return any_capture() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
ANSWER cudaError_t cudaGetLastError() { return cudaSuccess; }
ANSWER const char* cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorMemoryAllocation           ? "cudaErrorMemoryAllocation"
           : error == cudaErrorStreamCaptureUnsupported ? "cudaErrorStreamCaptureUnsupported"
                                                        : "cudaErrorPretend";
}
ANSWER const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation           ? "out of memory"
           : error == cudaErrorStreamCaptureUnsupported ? "operation not permitted in a capture"
                                                        : "refused by the pretend device";
}

// The runtime: streams, events and graphs.
ANSWER cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    streams.push_back(new Stream);
    *stream = reinterpret_cast<cudaStream_t>(streams.back());
    return cudaSuccess;
}
ANSWER cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}
ANSWER cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    return cudaStreamCreateWithFlags(stream, 0);
}
ANSWER cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    for (size_t i = 0; i < streams.size(); ++i)
        if (streams[i] == of(stream)) streams.erase(streams.begin() + i--);
    delete of(stream);
    return cudaSuccess;
}
ANSWER cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return of(stream)->capturing ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
ANSWER cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
ANSWER cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
ANSWER cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    const bool is = of(stream)->capturing;
    *status = is ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
ANSWER cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    if (mode != cudaStreamCaptureModeRelaxed || of(stream)->capturing)
        return cudaErrorStreamCaptureUnsupported;
    of(stream)->capturing = true;
    return cudaSuccess;
}
ANSWER cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    Stream* s = of(stream);
    if (!s->capturing) return cudaErrorIllegalState;
    s->capturing = false;
    *graph = reinterpret_cast<cudaGraph_t>(new std::vector<Work>(std::move(s->tape)));
    s->tape.clear();
    return cudaSuccess;
}
ANSWER cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph,
                                        unsigned long long) {
    auto* tape = reinterpret_cast<std::vector<Work>*>(graph);
    *ready = reinterpret_cast<cudaGraphExec_t>(new std::vector<Work>(*tape));
    ++counts[GRAPHS];
    return cudaSuccess;
}
ANSWER cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete reinterpret_cast<std::vector<Work>*>(graph);
    return cudaSuccess;
}
ANSWER cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
    delete reinterpret_cast<std::vector<Work>*>(ready);
    return cudaSuccess;
}
ANSWER cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream) {
    if (of(stream)->capturing) return cudaErrorStreamCaptureUnsupported;
    for (Work& work : *reinterpret_cast<std::vector<Work>*>(ready)) work();
    ++counts[GRAPH_LAUNCHES];
    return cudaSuccess;
}
ANSWER cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = reinterpret_cast<cudaEvent_t>(new double(0));
    return cudaSuccess;
}
ANSWER cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
ANSWER cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete reinterpret_cast<double*>(event);
    return cudaSuccess;
}
ANSWER cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
ANSWER cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
ANSWER cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
ANSWER cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) {
    return *ms = 1, cudaSuccess;
}
