#!/usr/bin/env bash
# safetensors 0.8.0 with NumPy 2.4.6: a view is saved as if its memory were contiguous.
#
# safetensors.numpy.save takes a transposed or strided array without an error and writes its memory in
# the order in which it lies there, under the shape of the view. What is loaded has the right shape and
# other numbers. (safetensors.torch.save refuses such a tensor and says what to do.)
#
# So save np.ascontiguousarray(array).
#
# Seen: of a (3, 4) matrix transposed, row 0 comes back as 0 1 2, where it is 0 4 8; every second of
# 0 1 2 3 comes back as 0 1. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
"$work/venv/bin/python" - <<'END'
import numpy as np
from safetensors.numpy import load, save

transposed = np.arange(12, dtype=np.float32).reshape(3, 4).T
strided = np.arange(4, dtype=np.float32)[::2]
back = load(save({"transposed": transposed, "strided": strided}))
print(transposed[0], "->", back["transposed"][0], "and", strided, "->", back["strided"])
assert back["transposed"].shape == transposed.shape
assert back["transposed"][0].tolist() == [0.0, 1.0, 2.0]
assert back["strided"].tolist() == [0.0, 1.0]
END
