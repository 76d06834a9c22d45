// GRU with the reset after the product; see npnlp/layers/recurrent/gru.py. The rows of r and z in u and W_hh
// come negated, since sigma(a) = 1 / (1 + e^-a), which is 0 where e^-a overflows.
//     r, z = sigma(u + W h)    q = W_n h + b_n    n = tanh(u_n + r q)    h_t = n + z (h_{t-1} - n)
#include "common.cuh"
#ifdef STEPWISE
#include "stepwise.cuh"
#else
#include "recurrence.cuh"
#endif

struct Forward {
    static constexpr int GATES = 3, SLOTS = 4;  // slots r, z, q, and u_n on its way to all lanes
    real *gates, *product, *hidden;             // gates (3, N, H): u on entry
    const real *bias, *initial;
    size_t rows;
    real n, h;  // of the step before

    __device__ real term(int slot, size_t row, int unit) const {
        return slot == 2 ? bias[unit] : gates[at((slot < 2 ? slot : 2) * rows + row, unit)];
    }
    __device__ real finish(int slot, real a) const {
        return slot < 2 ? 1 / (1 + exp(a)) : a;
    }
    __device__ void keep(int slot, size_t row, int unit, real number) const {
        if (slot < 2) gates[at(slot * rows + row, unit)] = number;
        if (slot == 2) product[at(row, unit)] = number;
    }
    __device__ void begin(int place, int unit) { h = initial[at(place, unit)]; }
    __device__ real step(const real (&slots)[4]) {
        const real r = slots[0], z = slots[1], q = slots[2];
        n = tanh(slots[3] + r * q);
        return h = n + z * (h - n);
    }
    __device__ void store(size_t row, int unit) const {
        gates[at(2 * rows + row, unit)] = n;
        hidden[at(row, unit)] = h;
    }
};

struct Backward {
    static constexpr int GATES = 3, DELTAS = 4, STATES = 1;  // r, z, q, and n outside the product
    struct Memory {
        real r, z, n, q, h_before;
    };
    const real *gates, *product, *hidden, *initial;
    size_t rows;

    __device__ Memory load(size_t row, long long before, int place, int unit) const {
        return {gates[at(row, unit)], gates[at(rows + row, unit)], gates[at(2 * rows + row, unit)],
                product[at(row, unit)], state_before(hidden, initial, before, place, unit)};
    }
    __device__ void undo(const Memory& m, real (&d)[1], real (&delta)[4]) const {
        const real rest = 1 - m.z, of_n = rest * (1 - m.n * m.n), of_q = of_n * m.r;
        delta[0] = of_q * m.q * (1 - m.r) * d[0];
        delta[1] = m.z * (m.h_before - m.n) * rest * d[0];
        delta[2] = of_q * d[0];
        delta[3] = of_n * d[0];
        d[0] *= m.z;  // passes by the product
    }
};

#ifndef STEPWISE
extern "C" __global__ void KERNEL forward(
    real* gates, real* product, real* hidden, long long rows, const real* w_hh, const real* bias,
    const real* initial, const int* offsets, const int* sizes, int batch, int steps) {
    Forward cell = {gates, product, hidden, bias, initial, static_cast<size_t>(rows), 0, 0};
    forward_loop(cell, w_hh, initial, sizes, batch, steps);
    clear_spare_rows(hidden, HIDDEN, rows, offsets, sizes, steps);
}

extern "C" __global__ void KERNEL backward(
    const real* gates, const real* product, const real* hidden, long long rows, const real* w_hh,
    const real* d_hidden, real* d, real* delta, real* kept, const int* offsets, const int* sizes,
    int batch, int steps, const real* initial) {
    const Backward cell = {gates, product, hidden, initial, static_cast<size_t>(rows)};
    backward_loop(cell, w_hh, d_hidden, {d}, delta, {kept}, offsets, sizes, batch, steps,
                  initial);
    clear_spare_rows(delta, Backward::DELTAS * HIDDEN, rows, offsets, sizes, steps);
}
#else
extern "C" __global__ void forward_step(
    real* gates, real* product, real* hidden, long long rows, const real* w_hh, const real* bias,
    const real* initial, const int* offsets, const int* sizes, int /* batch */, int steps, int t) {
    const real* before = t > 0 ? hidden + at(offsets[t - 1], 0) : initial;
    const Forward cell = {gates, product, hidden, bias, before, static_cast<size_t>(rows), 0, 0};
    forward_of_step(cell, hidden, w_hh, initial, offsets, sizes, t);
    if (t == 0) clear_spare_rows(hidden, HIDDEN, rows, offsets, sizes, steps);
}

extern "C" __global__ void backward_step(
    const real* gates, const real* product, const real* hidden, long long rows, const real* w_hh,
    const real* d_hidden, real* d, real* delta, real* kept, const int* offsets, const int* sizes,
    int /* batch */, int steps, const real* initial, int t) {
    const Backward cell = {gates, product, hidden, initial, static_cast<size_t>(rows)};
    backward_of_step(cell, w_hh, d_hidden, {d}, delta, {kept}, offsets, sizes, steps, t);
    if (t == 0) clear_spare_rows(delta, Backward::DELTAS * HIDDEN, rows, offsets, sizes, steps);
}
#endif
