#!/usr/bin/env bash
# CuPy 14.2.0, wheel for CUDA 13: where CUDA's headers are missing, it advises the wheel for CUDA 12.
#
# cupy-cuda13x without its extra [ctk], on a machine without a CUDA toolkit, cannot compile a kernel:
# "Failed to find CUDA headers. Please install CUDA toolkit headers (e.g., pip install
# cupy-cuda12x[ctk])". The name is fixed in the source (cupy/_core/core.pyx,
# assemble_cupy_compiler_options). Who does as told has two CuPy packages in the same folder, of which
# the second overwrote the first, and which CuPy itself warns of at the next import.
#
# So install cupy-cuda13x[ctk], and show users that name and not CuPy's message.
#
# Shown without a device, with a machine's own headers hidden from CuPy. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet cupy-cuda13x==14.2.0
"$work/venv/bin/python" - <<'END'
import cuda.pathfinder

cuda.pathfinder.find_nvidia_header_directory = lambda name: None  # as where there are none

import cupy
from cupy._core.core import assemble_cupy_compiler_options

try:
    assemble_cupy_compiler_options(())
except RuntimeError as error:
    print(cupy.__version__, "for CUDA 13 says:", error)
    assert "pip install cupy-cuda12x[ctk]" in str(error), error
else:
    raise AssertionError("no error")
END
