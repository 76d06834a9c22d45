// In the place of CuPy's header: the shim has what atomics the kernels use.
#pragma once
