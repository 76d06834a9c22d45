// A pretend CUDA device: what CuPy asks of the driver and the runtime, answered from host memory.
//
// Work is done at once, by functions that a C++ compiler made of the kernels (kernels.h); while a
// stream is captured it is written down, with a copy of its arguments, and done when the graph is
// launched. What CUDA refuses in a capture is refused. Device memory is NaN until it is written.
// The declarations are those of the CUDA headers, so a wrong type does not compile.
#define __CUDA_FP16_H__  // cuBLAS wants the names of these types alone
#define __CUDA_BF16_H__
struct __half;
struct __nv_bfloat16;
#include <cublas_v2.h>
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#undef cudaGetDeviceProperties
#define ANSWER extern "C" __attribute__((visibility("default")))

namespace {

using Work = std::function<void()>;
constexpr size_t TOTAL = size_t(16) << 30, DEFAULT_SHARED = 48 * 1024, SHARED = 227 * 1024;
constexpr int CAPABILITY = 9, PROCESSORS = 132, THREADS = 1024;

struct Stream {
    bool capturing = false;
    std::vector<Work> tape;
};
struct Kernel {
    std::string name;
    const char* (*launch)(void**, const unsigned*, const unsigned*, size_t);
    const size_t* sizes;
    int shared = DEFAULT_SHARED;
};
struct Module {
    void* library;
    std::map<std::string, Kernel> kernels;
};

std::map<char*, size_t> memory;  // of the device
size_t used = 0;
long counts[5];  // launches of kernels and of graphs, graphs, captured nodes, allocations
enum { LAUNCHES, GRAPH_LAUNCHES, GRAPHS, NODES, ALLOCATIONS };
std::vector<Stream*> streams;

Stream* of(void* stream) {  // 0, 1 and 2 are the default streams, which are never captured
    static Stream usual;
    return reinterpret_cast<uintptr_t>(stream) < 3 ? &usual : static_cast<Stream*>(stream);
}

void perform(void* stream, Work work) {
    Stream* s = of(stream);
    if (s->capturing) {
        s->tape.push_back(std::move(work));
        ++counts[NODES];
    } else {
        work();
    }
}

bool any_capture() {
    for (Stream* stream : streams)
        if (stream->capturing) return true;
    return false;
}

bool on_device(const void* address) {
    auto after = memory.upper_bound(static_cast<char*>(const_cast<void*>(address)));
    if (after == memory.begin()) return false;
    --after;
    return static_cast<const char*>(address) < after->first + after->second;
}

template <class T>
void multiply(bool left, bool right, int m, int n, int k, double alpha, const T* a, int lda,
              const T* b, int ldb, double beta, T* c, int ldc) {  // by columns
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            T sum = 0;
            for (int d = 0; d < k; ++d)
                sum += a[left ? size_t(i) * lda + d : size_t(d) * lda + i] *
                       b[right ? size_t(d) * ldb + j : size_t(j) * ldb + d];
            T& out = c[size_t(j) * ldc + i];
            out = T(alpha * sum + (beta == 0 ? 0 : beta * out));
        }
}

}  // namespace

// For the tests.
ANSWER long pretend_count(int which) { return counts[which]; }
ANSWER size_t pretend_used() { return used; }

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

// cuBLAS, as far as CuPy asks it for products of real numbers.
ANSWER cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    return *handle = reinterpret_cast<cublasHandle_t>(new int(0)), CUBLAS_STATUS_SUCCESS;
}
ANSWER cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
ANSWER cublasStatus_t cublasSetStream_v2(cublasHandle_t, cudaStream_t) {
    return CUBLAS_STATUS_SUCCESS;
}
ANSWER cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) {
    return CUBLAS_STATUS_SUCCESS;
}
ANSWER cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
    const void* alpha, const void* a, cudaDataType, int lda, long long sa, const void* b,
    cudaDataType, int ldb, long long sb, const void* beta, void* c, cudaDataType kind, int ldc,
    long long sc, int batches, cublasComputeType_t, cublasGemmAlgo_t) {
    for (long long i = 0; i < batches; ++i) {
        if (kind == CUDA_R_32F)
            multiply(ta, tb, m, n, k, *static_cast<const float*>(alpha),
                     static_cast<const float*>(a) + i * sa, lda,
                     static_cast<const float*>(b) + i * sb, ldb,
                     *static_cast<const float*>(beta), static_cast<float*>(c) + i * sc, ldc);
        else if (kind == CUDA_R_64F)
            multiply(ta, tb, m, n, k, *static_cast<const double*>(alpha),
                     static_cast<const double*>(a) + i * sa, lda,
                     static_cast<const double*>(b) + i * sb, ldb,
                     *static_cast<const double*>(beta), static_cast<double*>(c) + i * sc, ldc);
        else
            return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}
ANSWER cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta,
                                   cublasOperation_t tb, int m, int n, int k, const void* alpha,
                                   const void* a, cudaDataType ka, int lda, const void* b,
                                   cudaDataType kb, int ldb, const void* beta, void* c,
                                   cudaDataType kc, int ldc, cublasComputeType_t how,
                                   cublasGemmAlgo_t algo) {
    return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, ka, lda, 0, b, kb, ldb, 0,
                                      beta, c, kc, ldc, 0, 1, how, algo);
}
ANSWER cublasStatus_t cublasSgemmEx(cublasHandle_t handle, cublasOperation_t ta,
                                    cublasOperation_t tb, int m, int n, int k, const float* alpha,
                                    const void* a, cudaDataType ka, int lda, const void* b,
                                    cudaDataType kb, int ldb, const float* beta, void* c,
                                    cudaDataType kc, int ldc) {
    return cublasGemmEx(handle, ta, tb, m, n, k, alpha, a, ka, lda, b, kb, ldb, beta, c, kc, ldc,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
ANSWER cublasStatus_t cublasDgemm_v2(cublasHandle_t handle, cublasOperation_t ta,
                                     cublasOperation_t tb, int m, int n, int k,
                                     const double* alpha, const double* a, int lda,
                                     const double* b, int ldb, const double* beta, double* c,
                                     int ldc) {
    return cublasGemmEx(handle, ta, tb, m, n, k, alpha, a, CUDA_R_64F, lda, b, CUDA_R_64F, ldb,
                        beta, c, CUDA_R_64F, ldc, CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT);
}
#define BATCHED(name, T)                                                                         \
    ANSWER cublasStatus_t name(cublasHandle_t, cublasOperation_t ta, cublasOperation_t tb, int m, \
                               int n, int k, const T* alpha, const T* const* a, int lda,         \
                               const T* const* b, int ldb, const T* beta, T* const* c, int ldc,  \
                               int batches) {                                                    \
        for (int i = 0; i < batches; ++i)                                                        \
            multiply(ta, tb, m, n, k, *alpha, a[i], lda, b[i], ldb, *beta, c[i], ldc);           \
        return CUBLAS_STATUS_SUCCESS;                                                            \
    }
BATCHED(cublasSgemmBatched, float)
BATCHED(cublasDgemmBatched, double)
