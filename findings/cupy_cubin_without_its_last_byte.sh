#!/usr/bin/env bash
# CuPy 14.2.0 with NVRTC 13.5: the machine code that CuPy keeps is one byte short.
#
# nvrtcGetCUBIN fills as many bytes as nvrtcGetCUBINSize says. CuPy's getCUBIN gives all but the
# last, as it does for PTX, which is text and ends with a zero. A driver loads it, since the byte is
# padding of the last table; nvdisasm and cuobjdump refuse the file in CuPy's cache as no valid ELF.
#
# So before machine code from CuPy (or from ~/.cupy/kernel_cache) is looked at, fill it up to a
# multiple of 8 bytes.
#
# Seen: 1 byte less, the rest equal. Needs no device. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet cupy-cuda13x==14.2.0 nvidia-cuda-nvrtc==13.5.37 numpy==2.4.6
"$work/venv/bin/python" -W ignore - <<'END'
import ctypes
from pathlib import Path

import nvidia

roots = [Path(root) for root in nvidia.__path__]
(library,) = (str(f) for root in roots for f in root.glob("*/lib/libnvrtc.so.13"))
nvrtc = ctypes.CDLL(library)  # before CuPy looks for it

from cupy.cuda.compiler import _NVRTCProgram

source = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
ours, _ = _NVRTCProgram(source, "twice.cu", method="cubin").compile(("-arch=sm_90",))

program, size = ctypes.c_void_p(), ctypes.c_size_t()
create = nvrtc.nvrtcCreateProgram
create(ctypes.byref(program), source.encode(), b"twice.cu", 0, None, None)
options = (ctypes.c_char_p * 1)(b"-arch=sm_90")
assert nvrtc.nvrtcCompileProgram(program, 1, options) == 0
nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
whole = ctypes.create_string_buffer(size.value)
nvrtc.nvrtcGetCUBIN(program, whole)
print(f"CuPy {len(ours)} bytes, NVRTC {size.value}")
assert ours == whole.raw[:-1]
assert size.value % 8 == 0
END
