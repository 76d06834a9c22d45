// LSTM; see npnlp/layers/recurrent/lstm.py. The rows of i, f and o in u and W_hh come negated, since
// sigma(a) = 1 / (1 + e^-a), which is 0 where e^-a overflows.
//     i, f, o = sigma(u + W h)    g = tanh(u_g + W_g h)
//     c_t = f c_{t-1} + i g       h_t = o tanh(c_t)
#include "common.cuh"
#ifdef STEPWISE
#include "stepwise.cuh"
#else
#include "recurrence.cuh"
#endif

struct Forward {
    static constexpr int GATES = 4, SLOTS = 4;  // i, f, g, o
    real *gates, *cell, *tanh_cell, *hidden;    // gates (4, N, H): u on entry
    const real* initial;
    size_t rows;
    real c, tanh_c, h;  // of the step before

    __device__ real term(int slot, size_t row, int unit) const {
        return gates[at(slot * rows + row, unit)];
    }
    __device__ real finish(int slot, real a) const {
        return slot == 2 ? tanh(a) : 1 / (1 + exp(a));
    }
    __device__ void keep(int slot, size_t row, int unit, real number) const {
        gates[at(slot * rows + row, unit)] = number;
    }
    __device__ void begin(int place, int unit) { c = initial[at(place, unit)]; }
    __device__ real step(const real (&slots)[4]) {
        c = slots[1] * c + slots[0] * slots[2];
        tanh_c = tanh(c);
        return h = slots[3] * tanh_c;
    }
    __device__ void store(size_t row, int unit) const {
        cell[at(row, unit)] = c;
        tanh_cell[at(row, unit)] = tanh_c;
        hidden[at(row, unit)] = h;
    }
};

struct Backward {
    static constexpr int GATES = 4, DELTAS = 4, STATES = 2;
    struct Memory {
        real i, f, g, o, c_before, tanh_c;
    };
    const real *gates, *cell, *tanh_cell, *initial;
    size_t rows;

    __device__ Memory load(size_t row, long long before, int place, int unit) const {
        return {gates[at(row, unit)],            gates[at(rows + row, unit)],
                gates[at(2 * rows + row, unit)], gates[at(3 * rows + row, unit)],
                state_before(cell, initial, before, place, unit), tanh_cell[at(row, unit)]};
    }
    __device__ void undo(const Memory& m, real (&d)[2], real (&delta)[4]) const {
        const real added = m.i * m.g, h = m.o * m.tanh_c;
        const real d_c = d[1] + (m.o - h * m.tanh_c) * d[0];  // dh/dc = o (1 - tanh(c)^2)
        delta[0] = added * (1 - m.i) * d_c;
        delta[1] = m.f * m.c_before * (1 - m.f) * d_c;
        delta[2] = (m.i - added * m.g) * d_c;
        delta[3] = h * (1 - m.o) * d[0];
        d[0] = 0;  // all of it goes through the product
        d[1] = d_c * m.f;
    }
};

#ifndef STEPWISE
extern "C" __global__ void KERNEL forward(
    real* gates, real* cell, real* tanh_cell, real* hidden, long long rows, const real* w_hh,
    const real* initial, const real* initial_cell, const int* offsets, const int* sizes, int batch,
    int steps) {
    Forward of = {gates, cell, tanh_cell, hidden, initial_cell, static_cast<size_t>(rows), 0, 0, 0};
    forward_loop(of, w_hh, initial, sizes, batch, steps);
    clear_spare_rows(hidden, HIDDEN, rows, offsets, sizes, steps);
}

extern "C" __global__ void KERNEL backward(
    const real* gates, const real* cell, const real* tanh_cell, const real* /* hidden */,
    long long rows, const real* w_hh, const real* d_hidden, real* d, real* d_cell, real* delta,
    real* kept, real* kept_cell, const int* offsets, const int* sizes, int batch, int steps,
    const real* initial) {
    const Backward of = {gates, cell, tanh_cell, initial, static_cast<size_t>(rows)};
    backward_loop(of, w_hh, d_hidden, {d, d_cell}, delta, {kept, kept_cell}, offsets, sizes, batch,
                  steps, initial);
    clear_spare_rows(delta, Backward::DELTAS * HIDDEN, rows, offsets, sizes, steps);
}
#else
extern "C" __global__ void forward_step(
    real* gates, real* cell, real* tanh_cell, real* hidden, long long rows, const real* w_hh,
    const real* initial, const real* initial_cell, const int* offsets, const int* sizes,
    int /* batch */, int steps, int t) {
    const real* before = t > 0 ? cell + at(offsets[t - 1], 0) : initial_cell;
    const Forward of = {gates, cell, tanh_cell, hidden, before, static_cast<size_t>(rows), 0, 0, 0};
    forward_of_step(of, hidden, w_hh, initial, offsets, sizes, t);
    if (t == 0) clear_spare_rows(hidden, HIDDEN, rows, offsets, sizes, steps);
}

extern "C" __global__ void backward_step(
    const real* gates, const real* cell, const real* tanh_cell, const real* /* hidden */,
    long long rows, const real* w_hh, const real* d_hidden, real* d, real* d_cell, real* delta,
    real* kept, real* kept_cell, const int* offsets, const int* sizes, int /* batch */, int steps,
    const real* initial, int t) {
    const Backward of = {gates, cell, tanh_cell, initial, static_cast<size_t>(rows)};
    backward_of_step(of, w_hh, d_hidden, {d, d_cell}, delta, {kept, kept_cell}, offsets, sizes,
                     steps, t);
    if (t == 0) clear_spare_rows(delta, Backward::DELTAS * HIDDEN, rows, offsets, sizes, steps);
}
#endif
