// The state of the pretend device, and how work is done, or written down.
#pragma once
#include <cuda.h>
#include <cuda_runtime_api.h>

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

}  // namespace
