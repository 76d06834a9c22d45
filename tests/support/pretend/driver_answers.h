// What CuPy asks of the CUDA driver.
#pragma once
#include <dlfcn.h>

#include <cstdio>

#include "device.h"

// The driver: modules and kernels. An image is the path of a library that the compiler made.
ANSWER CUresult cuGetErrorName(CUresult, const char** text) {
    return *text = "CUDA_ERROR_PRETEND", CUDA_SUCCESS;
}
ANSWER CUresult cuGetErrorString(CUresult, const char** text) {
    return *text = "refused by the pretend device", CUDA_SUCCESS;
}
ANSWER CUresult cuCtxGetCurrent(CUcontext* context) {
    return *context = reinterpret_cast<CUcontext>(1), CUDA_SUCCESS;
}
ANSWER CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
ANSWER CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    void* library = dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL);
    if (!library) return fprintf(stderr, "pretend: %s\n", dlerror()), CUDA_ERROR_INVALID_IMAGE;
    *module = reinterpret_cast<CUmodule>(new Module{library, {}});
    return CUDA_SUCCESS;
}
ANSWER CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
ANSWER CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    Module& here = *reinterpret_cast<Module*>(module);
    Kernel& kernel = here.kernels[name];
    kernel.name = name;
    kernel.launch = reinterpret_cast<decltype(kernel.launch)>(
        dlsym(here.library, ("launch_" + kernel.name).c_str()));
    auto sizes = reinterpret_cast<const size_t* (*)()>(
        dlsym(here.library, ("sizes_" + kernel.name).c_str()));
    if (!kernel.launch || !sizes) return CUDA_ERROR_NOT_FOUND;
    kernel.sizes = sizes();
    *function = reinterpret_cast<CUfunction>(&kernel);
    return CUDA_SUCCESS;
}
ANSWER CUresult cuFuncGetAttribute(int* value, CUfunction_attribute which, CUfunction function) {
    const bool shared = which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    *value = shared ? reinterpret_cast<Kernel*>(function)->shared : THREADS;
    return CUDA_SUCCESS;
}
ANSWER CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
    if (which != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value > int(SHARED)) return CUDA_ERROR_INVALID_VALUE;
    reinterpret_cast<Kernel*>(function)->shared = value;
    return CUDA_SUCCESS;
}
ANSWER CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz,
                               unsigned bx, unsigned by, unsigned bz, unsigned shared,
                               CUstream stream, void** arguments, void**) {
    Kernel& kernel = *reinterpret_cast<Kernel*>(function);
    if (size_t(bx) * by * bz > THREADS || int(shared) > kernel.shared || gy > 65535 || gz > 65535)
        return CUDA_ERROR_INVALID_VALUE;
    std::vector<std::vector<char>> held;
    for (size_t i = 0; kernel.sizes[i]; ++i) {
        const char* from = static_cast<const char*>(arguments[i]);
        held.emplace_back(from, from + kernel.sizes[i]);
    }
    auto work = [&kernel, held, gx, gy, gz, bx, by, bz, shared]() mutable {
        std::vector<void*> pointers;
        for (auto& one : held) pointers.push_back(one.data());
        const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
        const char* wrong = kernel.launch(pointers.data(), grid, block, shared);
        ++counts[LAUNCHES];
        if (wrong) {
            fprintf(stderr, "pretend: %s: %s\n", kernel.name.c_str(), wrong);
            abort();
        }
    };
    perform(stream, work);
    return CUDA_SUCCESS;
}
ANSWER CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus* status,
                                          cuuint64_t*, CUgraph* graph, const CUgraphNode**,
                                          size_t*) {
    *status = of(stream)->capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                    : CU_STREAM_CAPTURE_STATUS_NONE;
    *graph = reinterpret_cast<CUgraph>(&of(stream)->tape);
    return CUDA_SUCCESS;
}
ANSWER CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode*, size_t* count) {
    return *count = reinterpret_cast<std::vector<Work>*>(graph)->size(), CUDA_SUCCESS;
}
