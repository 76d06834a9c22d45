// Elman: h_t = phi(u_t + W_hh h_{t-1}), phi tanh, or ReLU with -DRELU; see npnlp/layers/recurrent/elman.py.
#include "common.cuh"
#ifdef STEPWISE
#include "stepwise.cuh"
#else
#include "recurrence.cuh"
#endif

struct Forward {
    static constexpr int GATES = 1, SLOTS = 1;
    real* hidden;  // u on entry
    real h;

    __device__ real term(int, size_t row, int unit) const { return hidden[at(row, unit)]; }
    __device__ real finish(int, real a) const {
#ifdef RELU
        return a > 0 ? a : real(0);
#else
        return tanh(a);
#endif
    }
    __device__ void keep(int, size_t, int, real) const {}
    __device__ void begin(int, int) {}
    __device__ real step(const real (&number)[1]) { return h = number[0]; }
    __device__ void store(size_t row, int unit) const { hidden[at(row, unit)] = h; }
};

struct Backward {
    static constexpr int GATES = 1, DELTAS = 1, STATES = 1;
    struct Memory {
        real h;
    };
    const real* hidden;

    __device__ Memory load(size_t row, long long, int, int unit) const {
        return {hidden[at(row, unit)]};
    }
    __device__ void undo(const Memory& m, real (&d)[1], real (&delta)[1]) const {
#ifdef RELU
        delta[0] = m.h > 0 ? d[0] : real(0);
#else
        delta[0] = (1 - m.h * m.h) * d[0];  // phi'(a) = 1 - h^2
#endif
        d[0] = 0;  // all of it goes through the product
    }
};

#ifndef STEPWISE
extern "C" __global__ void KERNEL forward(
    real* hidden, long long rows, const real* w_hh, const real* initial, const int* offsets,
    const int* sizes, int batch, int steps) {
    Forward cell = {hidden, 0};
    forward_loop(cell, w_hh, initial, sizes, batch, steps);
    clear_spare_rows(hidden, HIDDEN, rows, offsets, sizes, steps);
}

extern "C" __global__ void KERNEL backward(
    const real* hidden, long long rows, const real* w_hh, const real* d_hidden, real* d,
    real* delta, real* kept, const int* offsets, const int* sizes, int batch, int steps,
    const real* initial) {
    const Backward cell = {hidden};
    backward_loop(cell, w_hh, d_hidden, {d}, delta, {kept}, offsets, sizes, batch, steps,
                  initial);
    clear_spare_rows(delta, Backward::DELTAS * HIDDEN, rows, offsets, sizes, steps);
}
#else
extern "C" __global__ void forward_step(
    real* hidden, long long rows, const real* w_hh, const real* initial, const int* offsets,
    const int* sizes, int /* batch */, int steps, int t) {
    const Forward cell = {hidden, 0};
    forward_of_step(cell, hidden, w_hh, initial, offsets, sizes, t);
    if (t == 0) clear_spare_rows(hidden, HIDDEN, rows, offsets, sizes, steps);
}

extern "C" __global__ void backward_step(
    const real* hidden, long long rows, const real* w_hh, const real* d_hidden, real* d,
    real* delta, real* kept, const int* offsets, const int* sizes, int /* batch */, int steps,
    const real* /* initial */, int t) {
    const Backward cell = {hidden};
    backward_of_step(cell, w_hh, d_hidden, {d}, delta, {kept}, offsets, sizes, steps, t);
    if (t == 0) clear_spare_rows(delta, Backward::DELTAS * HIDDEN, rows, offsets, sizes, steps);
}
#endif
