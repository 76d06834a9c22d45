// What CUDA has only as PTX, for cuda_shim.h: clusters, and mbarriers that count bytes.
//
// A number that is sent (cluster_send) is under way: it is delivered at some time between two turns
// of the scheduler, in any order, and only then do memory and mbarrier change. Reported as errors
// are, beside threads that wait for ever: an arrival at a barrier of the cluster that is not waited
// for, a number that comes to a block all of whose threads have ended, and an mbarrier that has
// counted more or fewer bytes than were expected when the cluster ends.
#pragma once

namespace shim {

struct Counter {  // in the eight bytes of an mbarrier
    int32_t bytes;
    uint16_t to_arrive, phase;
};
static_assert(sizeof(Counter) == 8, "an mbarrier has eight bytes");

struct Delivery {
    unsigned block;
    void* to;
    uint32_t value;
    Counter* counter;
};

static std::vector<Delivery> under_way;
static std::vector<Counter*> counters;
static unsigned at_cluster;  // arrivals of all threads at barriers of the cluster, so far

static void cluster_begins() { under_way.clear(), counters.clear(), at_cluster = 0; }

static void cluster_ends() {
    for (const Counter* counter : counters)
        if (counter->bytes || counter->to_arrive != 1)
            fail("an mbarrier is left in the middle of a phase, with %d bytes", counter->bytes, 0);
}

// The same place in block `rank`.
template <class T>
T* place_in(int rank, T* address) {
    const auto offset = reinterpret_cast<char*>(address) - dynamic_shared();
    if (rank < 0 || rank >= static_cast<int>(cluster)) fail("there is no block %d", rank, 0);
    return reinterpret_cast<T*>(dynamic_shared(rank) + offset);
}

static void count(Counter* counter, unsigned block) {
    if (counter->to_arrive || counter->bytes) return;
    counter->phase ^= 1, counter->to_arrive = 1;
    for (unsigned i = block * threads; i < (block + 1) * threads; ++i)
        if (fibers[i]->waits == AT_MBARRIER && fibers[i]->awaited == counter)
            fibers[i]->waits = READY;
}

// Some of what is under way, or all of it, arrives. Whether anything did.
static bool cluster_delivers(bool all) {
    std::vector<Delivery> later;
    for (size_t i = under_way.size(); i > 1; --i) std::swap(under_way[i - 1], under_way[draw() % i]);
    const size_t before = under_way.size();
    for (const Delivery& sent : under_way) {
        if (!all && draw() & 1) {
            later.push_back(sent);
            continue;
        }
        bool ended = true;
        for (unsigned i = sent.block * threads; i < (sent.block + 1) * threads; ++i)
            ended &= fibers[i]->waits == ENDED;
        if (ended) fail("a number comes to block %d, which has ended", sent.block, 0);
        memcpy(sent.to, &sent.value, sizeof sent.value);
        sent.counter->bytes -= sizeof sent.value;
        count(sent.counter, sent.block);
    }
    under_way = later;
    return under_way.size() < before;
}

}  // namespace shim

inline void cluster_arrive(int line = __builtin_LINE()) {
    shim::Fiber& me = *shim::fibers[shim::current];
    const unsigned all = shim::threads * shim::cluster;
    if (me.arrivals * all > shim::at_cluster)
        shim::fail("a thread arrives again before it has waited, at line %d", line, 0);
    ++me.arrivals, ++shim::at_cluster;
    if (shim::at_cluster % all) return;
    for (unsigned i = 0; i < all; ++i)
        if (shim::fibers[i]->waits == shim::AT_CLUSTER) shim::fibers[i]->waits = shim::READY;
}
inline void cluster_wait(int line = __builtin_LINE()) {
    const shim::Fiber& me = *shim::fibers[shim::current];
    const bool there = me.arrivals * shim::threads * shim::cluster <= shim::at_cluster;
    shim::wait(there ? shim::READY : shim::AT_CLUSTER, line);
}
template <class T>
void cluster_store(T* address, int rank, T value) {
    *shim::place_in(rank, address) = value;
}
template <class T>
void cluster_send(T* address, int rank, T value, unsigned long long* counter) {
    static_assert(sizeof(T) == 4, "clusters are for float");
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    shim::under_way.push_back({static_cast<unsigned>(rank), shim::place_in(rank, address), bits,
                               reinterpret_cast<shim::Counter*>(shim::place_in(rank, counter))});
}
inline void mbarrier_begin(unsigned long long* counter) {
    auto* made = reinterpret_cast<shim::Counter*>(counter);
    *made = {0, 1, 0};
    shim::counters.push_back(made);
}
inline void mbarrier_expect(unsigned long long* counter, unsigned bytes) {
    auto* expecting = reinterpret_cast<shim::Counter*>(counter);
    if (!expecting->to_arrive) shim::fail("an mbarrier expects bytes twice in a phase", 0, 0);
    expecting->bytes += static_cast<int>(bytes), expecting->to_arrive = 0;
    shim::count(expecting, shim::current / shim::threads);
}
// Until the phase of this parity is over: the one before the present one, if that is the other.
inline void mbarrier_wait(unsigned long long* counter, unsigned parity, int line = __builtin_LINE()) {
    const auto* awaited = reinterpret_cast<shim::Counter*>(counter);
    shim::fibers[shim::current]->awaited = counter;
    while (awaited->phase == parity) shim::wait(shim::AT_MBARRIER, line);
}
inline void async_fence() {}
