// What CuPy asks of cuBLAS: products of real numbers.
#pragma once
#define __CUDA_FP16_H__  // cuBLAS wants the names of these types alone
#define __CUDA_BF16_H__
struct __half;
struct __nv_bfloat16;
#include <cublas_v2.h>

#include <cmath>

#include "device.h"

namespace {

// By columns; fused, as on a device: where a product overflows, this is not NaN at once.
template <class T>
void multiply(bool left, bool right, int m, int n, int k, double alpha, const T* a, int lda,
              const T* b, int ldb, double beta, T* c, int ldc) {
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            T sum = 0;
            for (int d = 0; d < k; ++d)
                sum = std::fma(a[left ? size_t(i) * lda + d : size_t(d) * lda + i],
                               b[right ? size_t(d) * ldb + j : size_t(j) * ldb + d], sum);
            T& out = c[size_t(j) * ldc + i];
            out = T(alpha * sum + (beta == 0 ? 0 : beta * out));
        }
}

}  // namespace

ANSWER cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    return *handle = reinterpret_cast<cublasHandle_t>(new int(0)), CUBLAS_STATUS_SUCCESS;
}
ANSWER cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
ANSWER cublasStatus_t cublasSetStream_v2(cublasHandle_t, cudaStream_t) {
    return CUBLAS_STATUS_SUCCESS;
}
ANSWER cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) {
    return CUBLAS_STATUS_SUCCESS;
}
ANSWER cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
    const void* alpha, const void* a, cudaDataType, int lda, long long sa, const void* b,
    cudaDataType, int ldb, long long sb, const void* beta, void* c, cudaDataType kind, int ldc,
    long long sc, int batches, cublasComputeType_t, cublasGemmAlgo_t) {
    for (long long i = 0; i < batches; ++i) {
        if (kind == CUDA_R_32F)
            multiply(ta, tb, m, n, k, *static_cast<const float*>(alpha),
                     static_cast<const float*>(a) + i * sa, lda,
                     static_cast<const float*>(b) + i * sb, ldb,
                     *static_cast<const float*>(beta), static_cast<float*>(c) + i * sc, ldc);
        else if (kind == CUDA_R_64F)
            multiply(ta, tb, m, n, k, *static_cast<const double*>(alpha),
                     static_cast<const double*>(a) + i * sa, lda,
                     static_cast<const double*>(b) + i * sb, ldb,
                     *static_cast<const double*>(beta), static_cast<double*>(c) + i * sc, ldc);
        else
            return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}
ANSWER cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta,
                                   cublasOperation_t tb, int m, int n, int k, const void* alpha,
                                   const void* a, cudaDataType ka, int lda, const void* b,
                                   cudaDataType kb, int ldb, const void* beta, void* c,
                                   cudaDataType kc, int ldc, cublasComputeType_t how,
                                   cublasGemmAlgo_t algo) {
    return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, ka, lda, 0, b, kb, ldb, 0,
                                      beta, c, kc, ldc, 0, 1, how, algo);
}
ANSWER cublasStatus_t cublasSgemmEx(cublasHandle_t handle, cublasOperation_t ta,
                                    cublasOperation_t tb, int m, int n, int k, const float* alpha,
                                    const void* a, cudaDataType ka, int lda, const void* b,
                                    cudaDataType kb, int ldb, const float* beta, void* c,
                                    cudaDataType kc, int ldc) {
    return cublasGemmEx(handle, ta, tb, m, n, k, alpha, a, ka, lda, b, kb, ldb, beta, c, kc, ldc,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
ANSWER cublasStatus_t cublasDgemm_v2(cublasHandle_t handle, cublasOperation_t ta,
                                     cublasOperation_t tb, int m, int n, int k,
                                     const double* alpha, const double* a, int lda,
                                     const double* b, int ldb, const double* beta, double* c,
                                     int ldc) {
    return cublasGemmEx(handle, ta, tb, m, n, k, alpha, a, CUDA_R_64F, lda, b, CUDA_R_64F, ldb,
                        beta, c, CUDA_R_64F, ldc, CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT);
}
#define BATCHED(name, T)                                                                         \
    ANSWER cublasStatus_t name(cublasHandle_t, cublasOperation_t ta, cublasOperation_t tb, int m, \
                               int n, int k, const T* alpha, const T* const* a, int lda,         \
                               const T* const* b, int ldb, const T* beta, T* const* c, int ldc,  \
                               int batches) {                                                    \
        for (int i = 0; i < batches; ++i)                                                        \
            multiply(ta, tb, m, n, k, *alpha, a[i], lda, b[i], ldb, *beta, c[i], ldc);           \
        return CUBLAS_STATUS_SUCCESS;                                                            \
    }
BATCHED(cublasSgemmBatched, float)
BATCHED(cublasDgemmBatched, double)
