// One launch for all steps of a packed batch: the loop over time of npnlp/layers/recurrent/recurrent.py.
//
//     forward    h_t = cell(u_t, W_hh h_{t-1})        backward    d_{t-1} = W_hh^T delta_t + ...
//
// The sequences of a batch know nothing of each other, so a block takes PLACES of them (sorted
// places first .. first + PLACES - 1) through all of their steps and waits for no other block. W_hh
// is read once a block and stays on the multiprocessor: in registers, and what they do not hold in
// shared memory. h_{t-1} (backward: delta_t) goes from thread to thread through shared memory, in
// two buffers by turns, so that a step has one barrier. Where W_hh is too large for that, a cluster
// of CLUSTER blocks does the same: each has a part of the units, and writes them to all
// (exchange.cuh).
//
// Packed rows: step t has rows start .. start + sizes[t] - 1; place b is at start + b, and alive
// while b < sizes[t]. Places are sorted, longest first: a block stops with its first place. Steps
// may have no rows, and the arrays more rows than the steps have, so that one captured launch does
// for many batches: such rows of `hidden` and `delta` become zero.
//
// elman.cu, gru.cu and lstm.cu say what happens elementwise.
#include "common.cuh"
#include "exchange.cuh"

// Shared memory: what an exchange needs, two buffers of PLACES vectors, then the weights that
// registers do not hold.
__device__ __forceinline__ Four* clear_buffers(int numbers) {
    DYNAMIC_SHARED(Four, pool);
    real* buffers = reinterpret_cast<real*>(pool + Exchange::ROOM);
    for (int i = threadIdx.x; i < numbers; i += THREADS) buffers[i] = 0;
    return pool;
}

__device__ __forceinline__ void clear_spare_rows(
    real* array, int columns, size_t rows, const int* offsets, const int* sizes, int steps) {
    clear_rest(array, columns, rows, offsets, sizes, steps,
               static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x,
               static_cast<size_t>(gridDim.x) * THREADS);
}

// Of the places of this block: how many `left` sequences, from the first place on, fill.
__device__ __forceinline__ int alive(int left) { return left < PLACES ? left : PLACES; }

// Forward. Four lanes share a unit, each with a quarter of the columns of its rows of W_hh. Of the
// sums, a lane finishes those of one place (PLACES = 4) or one slot of the only place (PLACES = 1):
// the tanh of the gates is shared out either way.
//
// A cell has GATES blocks of rows, SLOTS numbers a unit that are finished apart (1 or 4), and
//     term(slot, row, unit)           what is added to the sum: u, as a rule
//     finish(slot, a)                 the slot's number from that
//     keep(slot, row, unit, value)    into the memory of backward
//     begin(place, unit)              the states before step 0, from the initial ones
//     step(numbers)                   h_t from all slots, and the other states
//     store(row, unit)                them, into the memory of backward
template <class Cell>
__device__ __forceinline__ void forward_loop(
    Cell& cell, const real* w_hh, const real* initial, const int* sizes, int batch, int steps) {
    constexpr int LANES = 4, GATES = Cell::GATES, SLOTS = Cell::SLOTS;
    constexpr int CELLS = PLACES * SLOTS, SHARE = CELLS > LANES ? CELLS / LANES : 1;
    constexpr bool APART = SLOTS > SHARE;  // a unit's slots are in different lanes
    typedef Weights<GATES, HIDDEN, LANES, FORWARD_KEPT> Part;
    constexpr int WIDTH = Part::WIDTH;

    const int lane = threadIdx.x % LANES;
    const int unit = blockIdx.x % CLUSTER * UNITS + threadIdx.x / LANES;
    const int first = blockIdx.x / CLUSTER * PLACES, place = first + (PLACES == 1 ? 0 : lane);
    const bool real_unit = unit < HIDDEN;

    Four* pool = clear_buffers(2 * PLACES * WIDTH);
    const Exchange exchange(pool);
    real* buffers = reinterpret_cast<real*>(pool + Exchange::ROOM);
    Part weights;
    weights.load(reinterpret_cast<Four*>(buffers + 2 * PLACES * WIDTH), lane,
                 [&](int gate, int column) {
                     return real_unit && column < HIDDEN
                                ? w_hh[at(static_cast<size_t>(gate) * HIDDEN + unit, column)]
                                : real(0);
                 });
    __syncthreads();  // the zeros are there
    if (initial != nullptr) {
        const int there = batch - first < PLACES ? batch - first : PLACES;
        for (int i = threadIdx.x; i < there * HIDDEN; i += THREADS)
            buffers[i / HIDDEN * WIDTH + i % HIDDEN] = initial[at(first, 0) + i];
        if (real_unit && place < batch) cell.begin(place, unit);
    }

    int start = 0;
    int size = sizes[0], next = steps > 1 ? sizes[1] : 0;
    real term[SHARE];
    bool mine = real_unit && place < size;
#pragma unroll
    for (int i = 0; i < SHARE; ++i)
        term[i] = mine ? cell.term(APART ? lane : i, start + place, unit) : real(0);
    exchange.meet();  // h_{-1} is there
    for (int t = 0; size > first && exchange.takes_part(); ++t) {
        const real* before = buffers + (t % 2) * PLACES * WIDTH;
        real* now = buffers + ((t + 1) % 2) * PLACES * WIDTH;
        const int row = start + place;
        const int after = t + 2 < steps ? sizes[t + 2] : 0;
        const bool mine_next = real_unit && place < next, needed = next > first;
        if (needed) exchange.expect(t, HIDDEN * alive(size - first));
        real ahead[SHARE];  // of the next step, on its way while this one is computed
#pragma unroll
        for (int i = 0; i < SHARE; ++i)
            ahead[i] = mine_next ? cell.term(APART ? lane : i, row + size, unit) : real(0);

        real sums[CELLS] = {};
        weights.template multiply<SLOTS>(before, lane, sums);  // (2) of recurrent.py
        scatter_sum<CELLS, LANES / 2>(sums, lane);

        real own[SHARE], numbers[SLOTS];  // (3)
#pragma unroll
        for (int i = 0; i < SHARE; ++i) {
            numbers[i] = own[i] = cell.finish(APART ? lane : i, term[i] + sums[i]);
            term[i] = ahead[i];
        }
        if (APART)
#pragma unroll
            for (int slot = 0; slot < SLOTS; ++slot)
                numbers[slot] = __shfl_sync(ALL, own[0], slot, LANES);
        if (mine) {
            const real h = cell.step(numbers);
            if (needed)
                exchange.template publish<PLACES == 1 ? LANES : 1>(
                    t, now + (place - first) * WIDTH + unit, h, PLACES == 1 ? lane : 0);
        }
        if (needed) exchange.arrive();
        if (mine) {  // while the others are waited for
#pragma unroll
            for (int i = 0; i < SHARE; ++i) cell.keep(APART ? lane : i, row, unit, own[i]);
            if (PLACES > 1 || lane == LANES - 1) cell.store(row, unit);
        }
        start += size, size = next, next = after, mine = mine_next;
        if (needed) exchange.wait(t);  // h_t is there, and nobody needs h_{t-1} any more
    }
    exchange.end();
}

// Backward. Sixteen lanes share four units, each with a sixteenth of the gates: a number read from
// shared memory is used four times. A lane finishes one unit of one place; where there is only one
// place, four lanes finish the same, and the first of them stores it.
//
// A cell has DELTAS blocks of numbers in delta, of which the first GATES are multiplied, and
//     Memory, load(row, before, place, unit)    what forward kept; see state_before
//     states: d[STATES]                     dL/d of the states, in registers; d[0] is that of h
//     undo(memory, d, deltas)               deltas from d; d becomes what passes the product by
template <class Cell>
__device__ __forceinline__ void backward_loop(
    const Cell& cell, const real* w_hh, const real* d_hidden, real* const (&d_states)[Cell::STATES],
    real* delta, real* const (&kept)[Cell::STATES], const int* offsets, const int* sizes, int batch,
    int steps, const real* initial) {
    constexpr int LANES = 16, TILE = 4, GATES = Cell::GATES, STATES = Cell::STATES;
    constexpr int CELLS = PLACES * TILE, INPUTS = GATES * HIDDEN;
    typedef Weights<TILE, INPUTS, LANES, BACKWARD_KEPT> Part;
    constexpr int WIDTH = Part::WIDTH;

    const int lane = threadIdx.x % LANES;
    const int tile = blockIdx.x % CLUSTER * UNITS + threadIdx.x / LANES * TILE;
    const int unit = tile + (PLACES == 1 ? lane / 4 : lane % 4);
    const int first = blockIdx.x / CLUSTER * PLACES;
    const int place = first + (PLACES == 1 ? 0 : lane / 4);
    const bool keeper = PLACES > 1 || lane % 4 == 0;

    Four* pool = clear_buffers(2 * PLACES * WIDTH);
    const Exchange exchange(pool);
    real* buffers = reinterpret_cast<real*>(pool + Exchange::ROOM);
    Part weights;
    weights.load(reinterpret_cast<Four*>(buffers + 2 * PLACES * WIDTH), lane,
                 [&](int row, int input) {
                     return tile + row < HIDDEN && input < INPUTS ? w_hh[at(input, tile + row)]
                                                                  : real(0);
                 });

    const bool present = unit < HIDDEN && place < batch;
    real d[STATES] = {};
    if (present)
#pragma unroll
        for (int s = 0; s < STATES; ++s) d[s] = d_states[s][at(place, unit)];  // undoes (4)

    int length = 0;  // of the first place: the steps that have more rows than places before it
    for (int t = 0; t < steps; t += THREADS) {
        const int other = t + static_cast<int>(threadIdx.x);
        length += __syncthreads_count(other < steps && sizes[other] > first);
    }
    int last = length - 1, size = sizes[last], next = last > 0 ? sizes[last - 1] : 0;
    int start = offsets[last];
    bool mine = present && place < size;
    if (CLUSTER > 1) exchange.meet();  // the zeros of all blocks are there
    typename Cell::Memory memory = {};
    real above = 0;
    if (mine) {
        memory = cell.load(start + place, last > 0 ? start - next + place : -1, place, unit);
        if (d_hidden != nullptr) above = d_hidden[at(start + place, unit)];
    }
    for (int t = last; t >= 0 && exchange.takes_part(); --t) {
        real* now = buffers + (t % 2) * PLACES * WIDTH;
        const int row = start + place, turn = last - t;
        const bool needed = t > 0 || initial != nullptr;
        if (needed) exchange.expect(turn, INPUTS * alive(size - first));
        real deltas[Cell::DELTAS] = {};
        if (mine) {
            d[0] += above;
            if (keeper && kept[0] != nullptr)
#pragma unroll
                for (int s = 0; s < STATES; ++s) kept[s][at(row, unit)] = d[s];
            cell.undo(memory, d, deltas);  // undoes (3)
            if (needed)
#pragma unroll
                for (int i = 0; i < GATES; ++i)
                    exchange.template publish<PLACES == 1 ? 4 : 1>(
                        turn, now + (place - first) * WIDTH + i * HIDDEN + unit, deltas[i],
                        PLACES == 1 ? lane % 4 : 0);
        }
        if (needed) exchange.arrive();
        if (mine && keeper)  // while the others are waited for
#pragma unroll
            for (int i = 0; i < Cell::DELTAS; ++i)
                delta[at(row * Cell::DELTAS + i, unit)] = deltas[i];
        const int after = t > 1 ? sizes[t - 2] : 0;
        const bool mine_before = present && t > 0 && place < next;
        if (mine_before) {
            memory = cell.load(row - next, t > 1 ? row - next - after : -1, place, unit);
            if (d_hidden != nullptr) above = d_hidden[at(row - next, unit)];
        }
        if (needed) {
            exchange.wait(turn);  // delta_t is there, and nobody needs delta_{t+1} any more
            real sums[CELLS] = {};
            weights.template multiply<TILE>(now, lane, sums);  // undoes (2)
            scatter_sum<CELLS, LANES / 2>(sums, lane);
            if (mine) d[0] += sums[0];
        }
        start -= next, size = next, next = after, mine = mine_before;
    }
    if (initial != nullptr && present && keeper)
#pragma unroll
        for (int s = 0; s < STATES; ++s) d_states[s][at(anew(place), unit)] = d[s];
    exchange.end();
}
