#!/usr/bin/env bash
# scikit-learn 1.9.1, CalibratedClassifierCV(method="temperature"): integer labels are taken for indices.
#
# The temperature is right where the labels are 0, 1, ..., K - 1, or text, or bool. With any other
# integers, such as 1, 2, 3 or -1, 1, each label is looked up as the index of a column: some rows count
# for a neighbouring class, and those whose label is no index lose the term of their class in the log
# loss. There is no error and no warning; classes_ and predict look right, but the probabilities come
# out near 1 / K (labels 1, 2, 3 of Iris: 0.33 each) or with a wrong temperature. method="sigmoid" gives
# the same answer for all these labels.
#
# So encode the labels (LabelEncoder) before fit, or give them as text.
#
# Seen: log loss on held-out rows, naive Bayes before calibration 0.23 (Iris) and 1.00 (breast cancer):
#   Iris           labels 0 1 2: 0.17   "1" "2" "3": 0.17   1 2 3: 1.10 = log(3)
#   breast cancer  labels 0 1:   0.18   "-1" "1":    0.18   1 2:   0.69 = log(2)   -1 1: 0.27
# Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6
"$work/venv/bin/python" -W error - <<'END'
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB


def held_out_log_loss(load, labels, method="temperature"):
    """Fits on every third row, calibrates on the next, and tests on the last."""
    X, y = load(return_X_y=True)
    y = np.array(labels)[y]
    model = FrozenEstimator(GaussianNB().fit(X[::3], y[::3]))
    calibrated = CalibratedClassifierCV(model, method=method).fit(X[1::3], y[1::3])
    assert calibrated.classes_.tolist() == sorted(labels)
    return round(float(log_loss(y[2::3], calibrated.predict_proba(X[2::3]))), 2)


iris = [[0, 1, 2], ["1", "2", "3"], [1, 2, 3]]
cancer = [[0, 1], ["-1", "1"], [1, 2], [-1, 1]]
found = [held_out_log_loss(load_iris, labels) for labels in iris]
found += [held_out_log_loss(load_breast_cancer, labels) for labels in cancer]
print(dict(zip(map(str, iris + cancer), found)))
assert found == [0.17, 0.17, 1.1, 0.18, 0.18, 0.69, 0.27], found
assert len({held_out_log_loss(load_iris, labels, "sigmoid") for labels in iris}) == 1
assert len({held_out_log_loss(load_breast_cancer, labels, "sigmoid") for labels in cancer}) == 1
END
