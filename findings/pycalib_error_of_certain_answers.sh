#!/usr/bin/env bash
# pycalib 0.1.0.dev6, conf_ECE: with some numbers of bins it leaves out rows of confidence 1, or counts
# them twice.
#
# The bounds of the bins are steps of 1 / bins from numpy.arange, whose last may lie just below 1, or
# which may have one too many. A row of confidence exactly 1 (a softmax in float32, a tree) is then in no
# bin, or in two. The default of 15 bins, 10 and 20 are right.
#
# So take 10, 15 or 20 bins, or bounds from numpy.linspace(0, 1, bins + 1).
#
# Seen: ten rows, each wrong with probability 1, have an expected calibration error of 1. With 6, 14, 24,
# 28, 29, 38 and 54 bins it comes out as 0, the best there is, and with 49 as 2. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pycalib==0.1.0.dev6 scikit-learn==1.9.1 numpy==2.4.6
"$work/venv/bin/python" - <<'END'
import numpy as np
from pycalib.metrics import conf_ECE

true = np.ones(10, dtype=int)
certain_of_0 = np.tile([1.0, 0.0], (10, 1))
found = {bins: float(conf_ECE(true, certain_of_0, bins=bins)) for bins in range(2, 60)}
wrong = {bins: error for bins, error in found.items() if abs(error - 1) > 1e-12}
print(wrong)
assert 0.0 in wrong.values() and 2.0 in wrong.values(), wrong
assert not {10, 15, 20} & set(wrong), wrong
END
