// One launch for each step of a packed batch: the loop over time where W_hh is too large to stay on
// chip. Between launches all states are in memory, so a step is a tiled product with the cell's
// elementwise mathematics at its end; captured in a graph, the launches cost little.
//
//     forward, t    h_t = cell(u_t, W_hh h_{t-1})
//     backward, t   d_t = d_states + W_hh^T delta_{t+1} + what the layer above gives,  delta_t of it
//
// A block of 16 x 16 threads has TILE sequences and TILE units, each thread 2 x 2 of them. A step
// may have no rows, and the arrays more rows than the steps have (see recurrence.cuh). Cells are
// those of recurrence.cuh.

constexpr int SIDE = 16, TILE = 32, DEPTH = 32, OWN = TILE / SIDE, CROWD = SIDE * SIDE;

__device__ __forceinline__ int thread_of_block() { return threadIdx.y * SIDE + threadIdx.x; }

__device__ __forceinline__ void clear_spare_rows(
    real* array, int columns, size_t rows, const int* offsets, const int* sizes, int steps) {
    const size_t block = static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    clear_rest(array, columns, rows, offsets, sizes, steps, block * CROWD + thread_of_block(),
               static_cast<size_t>(gridDim.x) * gridDim.y * CROWD);
}

// h_t of the rows of step t. `initial` are the sorted states before step 0, or NULL for zeros; the
// cell reads the states of the step before in the place it has for the initial ones.
template <class Cell>
__device__ __forceinline__ void forward_of_step(
    const Cell& cell, const real* hidden, const real* w_hh, const real* initial,
    const int* offsets, const int* sizes, int t) {
    constexpr int GATES = Cell::GATES, SLOTS = Cell::SLOTS;
    __shared__ real left[DEPTH][TILE + 1], right[GATES][DEPTH][TILE + 1];
    const int size = sizes[t], place = blockIdx.y * TILE, unit = blockIdx.x * TILE;
    if (place >= size) return;
    const real* before = t > 0 ? hidden + at(offsets[t - 1], 0) : initial;
    real sums[GATES][OWN][OWN] = {};
    for (int k = 0; before != nullptr && k < HIDDEN; k += DEPTH) {
        for (int i = thread_of_block(); i < TILE * DEPTH; i += CROWD) {
            const int column = k + i % DEPTH, line = i / DEPTH;
            const bool inside = column < HIDDEN;
            left[i % DEPTH][line] =
                inside && place + line < size ? before[at(place + line, column)] : real(0);
#pragma unroll
            for (int gate = 0; gate < GATES; ++gate)
                right[gate][i % DEPTH][line] =
                    inside && unit + line < HIDDEN
                        ? w_hh[at(static_cast<size_t>(gate) * HIDDEN + unit + line, column)]
                        : real(0);
        }
        __syncthreads();
#pragma unroll 4
        for (int p = 0; p < DEPTH; ++p)
#pragma unroll
            for (int i = 0; i < OWN; ++i)
#pragma unroll
                for (int j = 0; j < OWN; ++j)
#pragma unroll
                    for (int gate = 0; gate < GATES; ++gate)
                        sums[gate][i][j] += left[p][threadIdx.y + SIDE * i] *
                                            right[gate][p][threadIdx.x + SIDE * j];  // (2)
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < OWN; ++i)
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            const int b = place + threadIdx.y + SIDE * i, mine = unit + threadIdx.x + SIDE * j;
            if (b >= size || mine >= HIDDEN) continue;
            const size_t row = static_cast<size_t>(offsets[t] + b);
            Cell own = cell;
            if (before != nullptr) own.begin(b, mine);
            real numbers[SLOTS];  // (3)
#pragma unroll
            for (int slot = 0; slot < SLOTS; ++slot) {
                const real sum = slot < GATES ? sums[slot < GATES ? slot : 0][i][j] : real(0);
                numbers[slot] = own.finish(slot, own.term(slot, row, mine) + sum);
                own.keep(slot, row, mine, numbers[slot]);
            }
            own.step(numbers);
            own.store(row, mine);
        }
}

// delta_t of the rows of step t; t = -1: the gradients of the initial states. `d_states` holds, of
// each sorted sequence, what of dL/d of its states passes the product by.
template <class Cell>
__device__ __forceinline__ void backward_of_step(
    const Cell& cell, const real* w_hh, const real* d_hidden, real* const (&d_states)[Cell::STATES],
    real* delta, real* const (&kept)[Cell::STATES], const int* offsets, const int* sizes, int steps,
    int t) {
    constexpr int STATES = Cell::STATES, DELTAS = Cell::DELTAS, INPUTS = Cell::GATES * HIDDEN;
    __shared__ real left[DEPTH][TILE + 1], right[DEPTH][TILE + 1];
    const int size = sizes[t < 0 ? 0 : t], later = t + 1 < steps ? sizes[t + 1] : 0;
    const int place = blockIdx.y * TILE, unit = blockIdx.x * TILE;
    if (place >= size) return;
    real sums[OWN][OWN] = {};
    for (int k = 0; place < later && k < INPUTS; k += DEPTH) {
        for (int i = thread_of_block(); i < TILE * DEPTH; i += CROWD) {
            const int input = k + i % DEPTH, line = i / DEPTH;
            const size_t row = static_cast<size_t>(offsets[t + 1] + place + line);
            left[i % DEPTH][line] = input < INPUTS && place + line < later
                                        ? delta[row * DELTAS * HIDDEN + input]
                                        : real(0);
            const int column = i % TILE, other = k + i / TILE;
            right[i / TILE][column] =
                other < INPUTS && unit + column < HIDDEN ? w_hh[at(other, unit + column)] : real(0);
        }
        __syncthreads();
#pragma unroll 4
        for (int p = 0; p < DEPTH; ++p)
#pragma unroll
            for (int i = 0; i < OWN; ++i)
#pragma unroll
                for (int j = 0; j < OWN; ++j)
                    sums[i][j] += left[p][threadIdx.y + SIDE * i] *
                                  right[p][threadIdx.x + SIDE * j];  // undoes (2)
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < OWN; ++i)
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            const int b = place + threadIdx.y + SIDE * i, mine = unit + threadIdx.x + SIDE * j;
            if (b >= size || mine >= HIDDEN) continue;
            real d[STATES];
#pragma unroll
            for (int s = 0; s < STATES; ++s) d[s] = d_states[s][at(b, mine)];  // undoes (4)
            d[0] += sums[i][j];  // 0 where the sequence has ended
            if (t >= 0) {
                const size_t row = static_cast<size_t>(offsets[t] + b);
                if (d_hidden != nullptr) d[0] += d_hidden[at(row, mine)];
                if (kept[0] != nullptr)
#pragma unroll
                    for (int s = 0; s < STATES; ++s) kept[s][at(row, mine)] = d[s];
                real deltas[DELTAS];
                const long long before = t > 0 ? offsets[t - 1] + b : -1;
                cell.undo(cell.load(row, before, b, mine), d, deltas);  // undoes (3)
#pragma unroll
                for (int n = 0; n < DELTAS; ++n) delta[at(row * DELTAS + n, mine)] = deltas[n];
            }
#pragma unroll
            for (int s = 0; s < STATES; ++s) d_states[s][at(b, mine)] = d[s];
        }
}
