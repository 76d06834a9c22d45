// How the threads of a step hand h_t (backward: delta_t) to all blocks of a cluster.
//
// Turn n = 0, 1, ... of the exchange writes into one of two buffers, by turns:
//
//     expect(n, numbers)     so many will come to each block
//     publish(n, ...)        a number of this thread's, to the same place in every block
//     arrive()               all of this thread's are on their way
//     wait(n)                all numbers of turn n are there
//
// What a thread loads or stores between arrive and wait need not be done before others go on.
//
// One block (CLUSTER = 1): a barrier of its threads.
//
// A cluster, by its barrier. The compiler makes of arrive.release a fence of all the thread has
// stored and loaded so far, on the whole device; so what is not for the others comes after it.
//
// A cluster, with -DTRANSFER_ASYNC: each store adds its bytes to an mbarrier of the block it goes
// to, where a thread waits for all bytes of the turn: no fence, and no barrier. Why that is safe:
//
// (a) Buffers. A thread sends of turn n + 2 when it has all numbers of turn n + 1. Each of these is
//     a sum over what its warp read of turn n, from the buffer that now is written: every read of
//     turn n that some number needs is done. Reads for places that have ended, and of units >= H,
//     may come late, but nothing is made of them.
// (b) Turns. An mbarrier serves every second turn, and shows only whether the turn it is at is odd
//     or even. By (a), bytes of turn n + 2 come when all threads that send have seen the end of
//     turn n; whoever waits has to send in every turn, so warps without a unit stay out of the
//     loop. Bytes that come before the turn's `expect` count as well: it takes that, too, to end.
// (c) Numbers of a turn. Steps have fewer and fewer sequences (backward: more and more), the same
//     number in all blocks of a cluster, and a sequence has HIDDEN numbers, or GATES * HIDDEN.
// (d) The end. Nothing is sent that is not waited for, so that nothing comes to a block that is
//     done; nevertheless all blocks of a cluster end together.

#ifdef TRANSFER_ASYNC
constexpr bool ASYNC = CLUSTER > 1;
#else
constexpr bool ASYNC = false;
#endif
// Blocks of a cluster that have units; numbers go to no other.
constexpr int WITH_UNITS = (HIDDEN + UNITS - 1) / UNITS;
typedef unsigned long long Mbarrier;

#ifndef ON_SHIM  // the shim has its own
__device__ __forceinline__ void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Addresses in shared memory have 32 bits: of this block, and the same place of block `rank`.
__device__ __forceinline__ unsigned here(const void* address) {
    return static_cast<unsigned>(__cvta_generic_to_shared(address));
}
__device__ __forceinline__ unsigned there(const void* address, int rank) {
    unsigned place;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(place) : "r"(here(address)), "r"(rank));
    return place;
}
// Of floats alone: with doubles, whose clusters nobody chooses, it must not be made.
template <class Float>
__device__ __forceinline__ void cluster_store(Float* address, int rank, Float value) {
    static_assert(sizeof(Float) == 4, "clusters are for float");
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there(address, rank)), "f"(value)
                 : "memory");
}
// The same, and its bytes are counted by the mbarrier of block `rank`.
template <class Float>
__device__ __forceinline__ void cluster_send(
    Float* address, int rank, Float value, Mbarrier* counter) {
    static_assert(sizeof(Float) == 4, "clusters are for float");
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                     there(address, rank)),
                 "r"(__float_as_uint(value)), "r"(there(counter, rank))
                 : "memory");
}
// Of one thread that arrives, with the bytes of a turn; for all blocks to see, and all ways to
// shared memory, after the next barrier.
__device__ __forceinline__ void mbarrier_begin(Mbarrier* counter) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(here(counter)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void mbarrier_expect(Mbarrier* counter, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(
                     here(counter)),
                 "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void mbarrier_wait(Mbarrier* counter, unsigned parity) {
    unsigned done;
    do {
        asm volatile(
            "{\n\t.reg .pred done;\n\t"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%1], %2;\n\t"
            "selp.u32 %0, 1, 0, done;\n\t}"
            : "=r"(done)
            : "r"(here(counter)), "r"(parity)
            : "memory");
    } while (!done);
}
__device__ __forceinline__ void async_fence() {
    asm volatile("fence.proxy.async;" ::: "memory");
}
#endif

struct Exchange {
    static constexpr int ROOM = ASYNC ? 1 : 0;  // fours of shared memory ahead of the buffers
    Mbarrier* counters;                         // of even and odd turns

    __device__ __forceinline__ explicit Exchange(Four* pool)
        : counters(reinterpret_cast<Mbarrier*>(pool)) {
        if (ASYNC && threadIdx.x == 0)
            for (int i = 0; i < 2; ++i) mbarrier_begin(counters + i);
    }
    // All threads of all blocks are here, and see what the others have written.
    __device__ __forceinline__ void meet() const {
        if constexpr (ASYNC) async_fence();
        arrive_all();
        wait_all();
    }
    // Whether this warp has a unit to compute, or has to come along to the barriers.
    __device__ __forceinline__ bool takes_part() const {
        return !ASYNC || static_cast<int>(blockIdx.x % CLUSTER * UNITS + threadIdx.x / 32 * 8) < HIDDEN;
    }
    __device__ __forceinline__ void expect(int turn, int numbers) const {
        if (ASYNC && threadIdx.x == 0)
            mbarrier_expect(counters + turn % 2, numbers * static_cast<int>(sizeof(real)));
    }
    // SHARERS threads have the same number; number `share` of them sends it to its share of blocks.
    template <int SHARERS>
    __device__ __forceinline__ void publish(
        int turn, real* address, real value, int share) const {
        if constexpr (CLUSTER == 1) {
            if (share == 0) *address = value;
        } else {
#pragma unroll
            for (int i = 0; i < WITH_UNITS; i += SHARERS) {
                const int rank = i + share;
                if (SHARERS > 1 && rank >= WITH_UNITS) continue;
                if constexpr (ASYNC)
                    cluster_send(address, rank, value, counters + turn % 2);
                else
                    cluster_store(address, rank, value);
            }
        }
    }
    __device__ __forceinline__ void arrive() const {
        if constexpr (!ASYNC) arrive_all();
    }
    __device__ __forceinline__ void wait(int turn) const {
        if constexpr (ASYNC)
            mbarrier_wait(counters + turn % 2, turn / 2 % 2);
        else
            wait_all();
    }
    __device__ __forceinline__ void end() const {
        if constexpr (ASYNC) meet();
    }

private:
    __device__ __forceinline__ static void arrive_all() {
        if constexpr (CLUSTER > 1) cluster_arrive();
    }
    __device__ __forceinline__ static void wait_all() {
        if constexpr (CLUSTER > 1)
            cluster_wait();
        else
            __syncthreads();
    }
};
