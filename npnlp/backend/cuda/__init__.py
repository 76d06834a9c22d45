"""CuPy on a CUDA device: array calls, kernels of this project, and captured steps."""
