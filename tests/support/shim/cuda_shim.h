// CUDA kernels on the CPU: blocks, threads, shared memory and barriers, for tests alone.
//
// Each thread of a block is a fiber with its own stack. It runs until it waits (at a barrier, or
// for its warp in a shuffle); then another runs. Which one is drawn anew between any two waits, and
// warps are held back at random, and for longer times one warp or block that only runs where no other
// can, so that a kernel that relies on an order without a barrier gives other numbers with another
// seed. Shared memory is filled with NaN before each block. Reported as
// errors: threads that wait at different barriers or not at all, and writing past dynamic shared
// memory.
// The blocks of a cluster run together, each with its own dynamic shared memory. What they send each
// other with an mbarrier (cluster_shim.h) is under way for a while, and comes in any order.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#define ON_SHIM
#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __shared__ static __attribute__((section("shim_shared")))
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(shim::dynamic_shared())

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

extern char __start_shim_shared[] __attribute__((weak));
extern char __stop_shim_shared[] __attribute__((weak));

namespace shim {

constexpr int WARP = 32;
constexpr size_t STACK = 128 * 1024, RED_ZONE = 512;
constexpr unsigned char POISON = 0xFF, RED = 0xA5;  // all ones is NaN

enum Waits { READY, AT_BARRIER, IN_WARP, AT_CLUSTER, AT_MBARRIER, ENDED };

struct Barrier {  // of a block
    int arrived, votes, result;
};

struct Fiber {
    ucontext_t context;
    jmp_buf here;
    char stack[STACK];
    bool begun;
    Waits waits;
    int line;            // where it waits
    unsigned turn;       // which of its two slots the next shuffle uses
    unsigned char slots[2][16];
    unsigned arrivals;    // at barriers of the cluster
    const void* awaited;  // the mbarrier it waits at
};

static std::vector<Fiber*> fibers;  // kept for the next launch
static std::vector<char> memory;
static jmp_buf scheduler;
static unsigned current, threads, cluster;  // fiber i is thread i % threads of block i / threads
static size_t stride;                       // from one block's dynamic shared memory to the next
static std::vector<Barrier> barriers;       // of each block
static std::vector<int> in_warp;
static void (*body)(void*);
static void* body_arguments;
static char message[256];
static uint64_t state;
static unsigned first_block;  // of the cluster that runs

inline uint64_t draw() {  // xorshift64*
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return state * 0x2545F4914F6CDD1DULL >> 16;
}

inline char* aligned(char* p) { return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64; }
inline char* dynamic_shared(unsigned block) { return aligned(memory.data()) + block * stride; }
inline char* dynamic_shared() { return dynamic_shared(current / threads); }

inline dim3 index_of(unsigned i, dim3 size) {
    return {i % size.x, i / size.x % size.y, i / size.x / size.y};
}

// Back to the scheduler, until it resumes this fiber.
__attribute__((noinline)) static void wait(Waits why, int line) {
    Fiber& me = *fibers[current];
    me.waits = why, me.line = line;
    if (!_setjmp(me.here)) _longjmp(scheduler, 1);
}

static void fail(const char* what, int line, int other) {
    if (!message[0]) snprintf(message, sizeof message, what, line, other);
}

// The last to come lets all go on. They have to have come to the same line.
static void release(unsigned from, unsigned to, Waits why, int line) {
    for (unsigned i = from; i < to; ++i) {
        if (fibers[i]->waits != why) continue;
        if (fibers[i]->line != line)
            fail("threads wait at different places: lines %d and %d", fibers[i]->line, line);
        fibers[i]->waits = READY;
    }
}

// Of all threads of a block.
__attribute__((noinline)) static int barrier(int vote, int line) {
    const unsigned block = current / threads, from = block * threads;
    Barrier& here = barriers[block];
    here.votes += vote != 0;
    if (++here.arrived == static_cast<int>(threads)) {
        here = {0, 0, here.votes};
        release(from, from + threads, AT_BARRIER, line);
        wait(READY, line);
    } else {
        wait(AT_BARRIER, line);
    }
    return here.result;
}

// A warp: the fibers from .. to - 1, and its number.
struct Warp {
    unsigned from, to, index;
};
static Warp warp_of(unsigned i) {
    const unsigned block = i / threads, local = i % threads / WARP, first = block * threads;
    const unsigned from = first + local * WARP, end = first + threads;
    const unsigned to = from + WARP < end ? from + WARP : end;
    return {from, to, block * ((threads + WARP - 1) / WARP) + local};
}

__attribute__((noinline)) static void warp_barrier(unsigned mask, int line) {
    const Warp warp = warp_of(current);
    const unsigned size = warp.to - warp.from;
    const unsigned whole = size == WARP ? 0xffffffffu : (1u << size) - 1;
    if ((mask & whole) != whole) fail("a mask leaves out lanes, at line %d", line, 0);
    if (++in_warp[warp.index] == static_cast<int>(size)) {
        in_warp[warp.index] = 0;
        release(warp.from, warp.to, IN_WARP, line);
        wait(READY, line);
    } else {
        wait(IN_WARP, line);
    }
}

template <class T>
T exchange(unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) <= 16, "too large for a shuffle");
    Fiber& me = *fibers[current];
    const unsigned turn = me.turn;
    const Warp warp = warp_of(current);
    me.turn ^= 1;
    memcpy(me.slots[turn], &value, sizeof(T));
    warp_barrier(mask, line);
    const unsigned from = warp.from + source;
    if (from < warp.to) memcpy(&value, fibers[from]->slots[turn], sizeof(T));
    return value;
}

// Of every lane of the warp, whether its vote is not 0: a bit each.
static unsigned ballot(unsigned mask, int vote, int line) {
    const unsigned turn = fibers[current]->turn;
    const Warp warp = warp_of(current);
    exchange(mask, vote, 0, line);
    unsigned votes = 0;
    for (unsigned from = warp.from; from < warp.to; ++from) {
        int other;
        memcpy(&other, fibers[from]->slots[turn], sizeof other);
        votes |= (other ? 1u : 0u) << (from - warp.from);
    }
    return votes;
}
// In cluster_shim.h: what to do when a cluster starts, while it runs, and when it has ended.
static void cluster_begins();
static bool cluster_delivers(bool all);
static void cluster_ends();

static void enter() {
    body(body_arguments);
    fibers[current]->waits = ENDED;
    _longjmp(scheduler, 1);
}

__attribute__((noinline)) static void resume(unsigned i) {
    Fiber& fiber = *fibers[i];
    current = i;
    threadIdx = index_of(i % threads, blockDim);
    blockIdx = index_of(first_block + i / threads, gridDim);
    if (_setjmp(scheduler)) return;
    if (fiber.begun) _longjmp(fiber.here, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

static void run_cluster(size_t shared) {
    const unsigned all = threads * cluster;
    stride = (shared + RED_ZONE + 63) / 64 * 64;
    memory.assign(stride * cluster + 64, static_cast<char>(POISON));
    for (unsigned r = 0; r < cluster; ++r) memset(dynamic_shared(r) + shared, RED, RED_ZONE);
    if (__start_shim_shared)
        memset(__start_shim_shared, POISON, __stop_shim_shared - __start_shim_shared);
    barriers.assign(cluster, {0, 0, 0});
    cluster_begins();
    in_warp.assign((threads + WARP - 1) / WARP * cluster, 0);
    while (fibers.size() < all) fibers.push_back(new Fiber);
    for (unsigned i = 0; i < all; ++i) {
        Fiber& fiber = *fibers[i];
        fiber.begun = false, fiber.waits = READY, fiber.turn = 0, fiber.arrivals = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack;
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    std::vector<unsigned> ready;
    unsigned from = 0, to = 0;  // the fibers that run last
    for (unsigned round = 0;; ++round) {
        if (round % 64 == 0) {
            const Warp warp = warp_of(draw() % all);
            const unsigned block = warp.from / threads * threads;
            const bool whole = draw() & 1;
            from = whole ? block : warp.from, to = whole ? block + threads : warp.to;
        }
        const uint64_t held = draw();  // a bit a warp: these are held back this time
        bool any = false;
        ready.clear();
        for (unsigned i = 0; i < all; ++i) {
            if (fibers[i]->waits != READY || (from <= i && i < to)) continue;
            any = true;
            if (!(held >> i / WARP % 32 & 1)) ready.push_back(i);
        }
        any |= cluster_delivers(!any);
        for (unsigned i = from; i < to && !any; ++i)
            if (fibers[i]->waits == READY) ready.push_back(i);
        if (message[0] || (!any && ready.empty())) break;
        for (size_t i = ready.size(); i > 1; --i) std::swap(ready[i - 1], ready[draw() % i]);
        for (unsigned i : ready) {
            resume(i);
            if (message[0]) return;
        }
    }
    if (message[0]) return;
    for (unsigned i = 0; i < all; ++i)
        if (fibers[i]->waits != ENDED)
            return fail("threads wait at line %d for others that never come", fibers[i]->line, 0);
    for (unsigned r = 0; r < cluster; ++r)
        for (size_t i = 0; i < RED_ZONE; ++i)
            if (static_cast<unsigned char>(dynamic_shared(r)[shared + i]) != RED)
                return fail("written past the end of dynamic shared memory", 0, 0);
    cluster_ends();
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
}

// A parameter's type as NumPy says it: kind and bytes, after a * for a pointer.
template <class T>
char* write_code(char* to) {
    if constexpr (std::is_pointer_v<T>) {
        *to++ = '*';
        return write_code<std::remove_cv_t<std::remove_pointer_t<T>>>(to);
    } else {
        *to++ = std::is_same_v<T, bool> ? 'b' : std::is_floating_point_v<T> ? 'f'
                : std::is_unsigned_v<T> ? 'u' : 'i';
        *to++ = '0' + sizeof(T);
        *to++ = ' ';
        return to;
    }
}

template <class... A>
const char* signature(void (*)(A...)) {
    static char all[4 * sizeof...(A) + 1];
    char* to = all;
    ((to = write_code<std::remove_cv_t<A>>(to)), ...);
    *to = 0;
    return all;
}

// All blocks, one after another in any order. NULL, or what went wrong.
template <class... A>
const char* launch(void (*kernel)(A...), void** arguments, const unsigned* grid,
                   const unsigned* block, unsigned of_cluster, size_t shared, uint64_t seed) {
    static void (*chosen)(A...);
    chosen = kernel;
    body = [](void* a) { call(chosen, static_cast<void**>(a), std::index_sequence_for<A...>{}); };
    body_arguments = arguments;
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    threads = blockDim.x * blockDim.y * blockDim.z;
    cluster = of_cluster;
    state = seed * 2 + 0x9E3779B97F4A7C15ULL;
    for (int i = 0; i < 8; ++i) draw();
    message[0] = 0;
    const unsigned count = gridDim.x * gridDim.y * gridDim.z;
    if (count % cluster) fail("%d blocks are no whole number of clusters of %d", count, cluster);
    std::vector<unsigned> blocks(count / cluster);
    for (unsigned i = 0; i < blocks.size(); ++i) blocks[i] = i * cluster;
    for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[draw() % i]);
    for (unsigned i : blocks) {
        first_block = i;
        if (!message[0]) run_cluster(shared);
    }
    return message[0] ? message : nullptr;
}

}  // namespace shim

// All else is hidden: two kernels in one process may well have functions of the same name.
#define SHIM_VISIBLE __attribute__((visibility("default")))

// What `kernel` is to the outside: launch_KERNEL and signature_KERNEL.
#define SHIM_EXPORT(kernel)                                                                     \
    extern "C" SHIM_VISIBLE const char* signature_##kernel() { return shim::signature(kernel); } \
    extern "C" SHIM_VISIBLE const char* launch_##kernel(                                        \
        void** arguments, const unsigned* grid, const unsigned* block, unsigned cluster,        \
        size_t shared, uint64_t seed) {                                                         \
        return shim::launch(kernel, arguments, grid, block, cluster, shared, seed);             \
    }

inline void __syncthreads(int line = __builtin_LINE()) { shim::barrier(0, line); }
inline int __syncthreads_count(int vote, int line = __builtin_LINE()) {
    return shim::barrier(vote, line);
}
inline int __syncthreads_or(int vote, int line = __builtin_LINE()) {
    return shim::barrier(vote, line) != 0;
}
inline int __syncthreads_and(int vote, int line = __builtin_LINE()) {
    return shim::barrier(vote, line) == static_cast<int>(shim::threads);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    shim::warp_barrier(mask, line);
}
inline int shim_lane() { return static_cast<int>(shim::current % shim::threads % shim::WARP); }
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, int line = __builtin_LINE()) {
    return shim::exchange(mask, value, shim_lane() / width * width + lane % width, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
    (void)width;
    return shim::exchange(mask, value, shim_lane() ^ bits, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, int width = 32, int line = __builtin_LINE()) {
    const int lane = shim_lane(), source = lane % width + by < width ? lane + by : lane;
    return shim::exchange(mask, value, source, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int by, int width = 32, int line = __builtin_LINE()) {
    const int lane = shim_lane(), source = lane % width >= by ? lane - by : lane;
    return shim::exchange(mask, value, source, line);
}
inline unsigned __ballot_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
    return shim::ballot(mask, vote, line);
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
template <class T, class V>
T atomicAdd(T* address, V value) {
    const T before = *address;
    *address = before + static_cast<T>(value);
    return before;
}
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}

#include "cluster_shim.h"
