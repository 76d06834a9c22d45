// What stands before a kernel that is compiled for the pretend device: the shim, what CuPy's own
// headers want besides, and how a kernel is found and called.
#pragma once
#include "cuda_shim.h"

#include <cassert>
#include <cfloat>
#include <cmath>

using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;
using ptrdiff_t = std::ptrdiff_t;

// Half precision is declared by CuPy's headers, and computed by no kernel here.
inline unsigned short __float2half_rn(float) { return 0; }
inline float __half2float(unsigned short) { return NAN; }
template <class T>
T __ldg(const T* address) { return *address; }
template <class T>
auto min(T a, T b) { return b < a ? b : a; }
template <class T>
auto max(T a, T b) { return a < b ? b : a; }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline float rsqrt(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
template <class T, class V>
T atomicCAS(T* address, T compare, V value) {
    const T before = *address;
    if (before == compare) *address = value;
    return before;
}

namespace pretend {

// A kernel whose threads never wait for each other: one after another.
template <class... A>
const char* each(void (*kernel)(A...), void** arguments, const unsigned* grid,
                 const unsigned* block) {
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    const unsigned blocks = grid[0] * grid[1] * grid[2], threads = block[0] * block[1] * block[2];
    for (unsigned b = 0; b < blocks; ++b)
        for (unsigned t = 0; t < threads; ++t) {
            blockIdx = shim::index_of(b, gridDim), threadIdx = shim::index_of(t, blockDim);
            shim::call(kernel, arguments, std::index_sequence_for<A...>{});
        }
    return nullptr;
}

template <class... A>
const size_t* sizes(void (*)(A...)) {
    static const size_t all[] = {sizeof(A)..., 0};
    return all;
}

}  // namespace pretend

// How a kernel is found: EACH where its threads never wait for each other, else in a cluster.
#define PRETEND_EXPORT(kernel, how)                                                           \
    extern "C" SHIM_VISIBLE const size_t* sizes_##kernel() { return pretend::sizes(kernel); } \
    extern "C" SHIM_VISIBLE const char* launch_##kernel(                                      \
        void** arguments, const unsigned* grid, const unsigned* block, size_t shared) {       \
        return how;                                                                           \
    }
#define PRETEND_EACH(kernel) \
    PRETEND_EXPORT(kernel, (void(shared), pretend::each(kernel, arguments, grid, block)))
#define PRETEND_CLUSTER(kernel, blocks) \
    PRETEND_EXPORT(kernel, shim::launch(kernel, arguments, grid, block, blocks, shared, 1))

// What stands before every kernel of CuPy; here it is compiled once.
#include <cupy/complex.cuh>
#include <cupy/carray.cuh>
#include <cupy/atomics.cuh>
#include <cupy/math_constants.h>
