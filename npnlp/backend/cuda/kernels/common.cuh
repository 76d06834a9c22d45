// What the recurrences are made of: a matrix on chip, its products, and sums over lanes.
//
// Compile-time settings, chosen by npnlp/backend/cuda/recurrence.py:
//     HIDDEN                         H
//     STEPWISE                       a launch for each step: then no other setting matters
//     PLACES                         sequences a block (or cluster): 1 or 4
//     CLUSTER                        blocks that share them: 1; from compute capability 9.0 on also
//                                    2, 4 or 8
//     TRANSFER_ASYNC                 how these hand over their numbers; see exchange.cuh
//     FORWARD_KEPT, BACKWARD_KEPT    fours of a thread's weights that are in registers

#ifndef REAL
#define REAL float
#endif
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif
#ifndef CLUSTER
#define CLUSTER 1
#endif
#ifndef PLACES
#define PLACES 1
#endif
#if CLUSTER > 1  // what a kernel is launched as; a cluster has a multiprocessor for each block
#define KERNEL __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 1)
#else
#define KERNEL __launch_bounds__(THREADS)
#endif
typedef REAL real;

struct alignas(4 * sizeof(real)) Four {
    real x, y, z, w;
};

// Units of a block: whole warps; the threads of units >= H idle along.
constexpr int UNITS = (HIDDEN + 8 * CLUSTER - 1) / (8 * CLUSTER) * 8;
constexpr int THREADS = 4 * UNITS;
constexpr unsigned ALL = 0xffffffffu;
static_assert(PLACES == 1 || PLACES == 4, "the lanes below share out 1 or 4 sequences");

__device__ __forceinline__ size_t at(size_t row, int unit) { return row * HIDDEN + unit; }

// The same number, though the compiler does not know: what is computed from it is computed where
// it stands, and keeps no registers all through a loop.
__device__ __forceinline__ int anew(int number) {
    asm volatile("" : "+r"(number));
    return number;
}

// A state in the step before: row `before` of `state`; before step 0, where `before` is negative, the
// initial one of `place`, which is zero where `initial` is NULL.
__device__ __forceinline__ real state_before(
    const real* state, const real* initial, long long before, int place, int unit) {
    if (before >= 0) return state[at(before, unit)];
    return initial != nullptr ? initial[at(anew(place), unit)] : real(0);
}

// Zero in the rows that no step has, shared out over `threads` of which this one is `thread`.
__device__ __forceinline__ void clear_rest(
    real* array, int columns, size_t rows, const int* offsets, const int* sizes, int steps,
    size_t thread, size_t threads) {
    const size_t used = static_cast<size_t>(offsets[steps - 1] + sizes[steps - 1]);
    for (size_t i = used * columns + thread; i < rows * columns; i += threads) array[i] = 0;
}

__device__ __forceinline__ void add(const Four& a, const Four& b, real& sum) {
    sum = sum + a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}

// Sums over 2 MASK neighbouring lanes, shared out: of LEFT sums, each step hands half of what a
// lane has to the lane that keeps that half, so that lane l ends with those from
// l * LEFT / (2 MASK) on, in sums[0], ... Where there are fewer sums than lanes, several lanes get
// the same one. The order of additions is the same for any LEFT: a sequence's numbers do not depend
// on PLACES.
template <int LEFT, int MASK, int CELLS>
__device__ __forceinline__ void scatter_sum(real (&sums)[CELLS], int lane) {
    if constexpr (MASK > 0 && LEFT > 1) {
        const bool upper = lane & MASK;
#pragma unroll
        for (int i = 0; i < LEFT / 2; ++i) {
            const real give = upper ? sums[i] : sums[i + LEFT / 2];
            const real keep = upper ? sums[i + LEFT / 2] : sums[i];
            sums[i] = keep + __shfl_xor_sync(ALL, give, MASK);
        }
        scatter_sum<LEFT / 2, MASK / 2>(sums, lane);
    } else if constexpr (MASK > 0) {
        sums[0] += __shfl_xor_sync(ALL, sums[0], MASK);
        scatter_sum<1, MASK / 2>(sums, lane);
    }
}

// A thread's part of a matrix: ROWS rows by 4 columns a chunk; lane l has columns
// 4 (LANES chunk + l) .. + 3, so that lanes read neighbouring fours of the vector. The first KEPT
// fours, row by row of chunk by chunk, are in registers, the others in shared memory, where a
// thread reads again what it wrote itself.
template <int ROWS, int COLUMNS, int LANES, int KEPT>
struct Weights {
    static constexpr int CHUNKS = (COLUMNS + 4 * LANES - 1) / (4 * LANES);
    static constexpr int WIDTH = 4 * LANES * CHUNKS;  // columns, filled up with zeros
    static constexpr int UNROLLED = (KEPT + ROWS - 1) / ROWS;  // chunks that are kept in part

    Four kept[KEPT > 0 ? KEPT : 1];
    Four* spare;

    template <class Element>
    __device__ __forceinline__ void load(Four* shared, int lane, Element element) {
        spare = shared + threadIdx.x;
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; ++chunk) {
            const int column = 4 * (LANES * chunk + lane);
#pragma unroll
            for (int row = 0; row < ROWS; ++row) {
                const Four four = {element(row, column), element(row, column + 1),
                                   element(row, column + 2), element(row, column + 3)};
                const int place = chunk * ROWS + row;
                if (place < KEPT)
                    kept[place] = four;
                else
                    spare[(place - KEPT) * THREADS] = four;
            }
            __syncwarp();  // or the compiler reads all chunks at once, and runs out of registers
        }
    }

    // sums[p * STRIDE + row] += this thread's columns of row, times vector p, for all places.
    template <int STRIDE>
    __device__ __forceinline__ void multiply(
        const real* vectors, int lane, real (&sums)[PLACES * STRIDE]) const {
        const Four* fours = reinterpret_cast<const Four*>(vectors) + lane;
#pragma unroll
        for (int chunk = 0; chunk < UNROLLED; ++chunk) {
            Four part[ROWS];
#pragma unroll
            for (int row = 0; row < ROWS; ++row) {
                const int place = chunk * ROWS + row;
                part[row] = place < KEPT ? kept[place < KEPT ? place : 0]
                                         : spare[(place - KEPT) * THREADS];
            }
            add_chunk<STRIDE>(fours + chunk * LANES, part, sums);
        }
#pragma unroll 1  // or the compiler reads all of them ahead, and runs out of registers
        for (int chunk = UNROLLED; chunk < CHUNKS; ++chunk) {
            Four part[ROWS];
#pragma unroll
            for (int row = 0; row < ROWS; ++row)
                part[row] = spare[(chunk * ROWS + row - KEPT) * THREADS];
            add_chunk<STRIDE>(fours + chunk * LANES, part, sums);
        }
    }

private:
    template <int STRIDE>
    __device__ __forceinline__ static void add_chunk(
        const Four* fours, const Four (&part)[ROWS], real (&sums)[PLACES * STRIDE]) {
#pragma unroll
        for (int p = 0; p < PLACES; ++p) {
            const Four x = fours[p * CHUNKS * LANES];
#pragma unroll
            for (int row = 0; row < ROWS; ++row) add(part[row], x, sums[p * STRIDE + row]);
        }
    }
};
