#!/usr/bin/env bash
# QuaPy 0.2.3, EMQ (class shares by EM, Saerens, Latinne and Decaestecker): wrong with many classes.
#
# EMQ looks for a class of share 0 in the training rows by the product of all shares. With 130 to 150
# classes or more the product of positive shares underflows to 0.0, so 1e-4 is added to each of them,
# and EM divides by other training shares than those of the classifier. There is no warning. Classes
# that are rarer than the average lose, the frequent ones gain.
#
# So with many classes do the EM yourself; it is three lines.
#
# Seen: a calibrated classifier (a tree that knows the class of one row in five, and of the others the
# training shares) on its own training rows, where EM stands still from the start. The shares are exact
# with 100 classes. With 200 the largest is 0.1839 for 0.1728, and the rarest 0.00065 for 0.00086.
# Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet QuaPy==0.2.3 scikit-learn==1.9.1 numpy==2.4.6
"$work/venv/bin/python" - <<'END'
import numpy as np
from quapy.method.aggregative import EMQ
from sklearn.tree import DecisionTreeClassifier


def shares(classes):
    """Zipf's law: true and estimated shares."""
    rows = 5 * (1000 // np.arange(1, classes + 1))
    y = np.repeat(np.arange(classes), rows)
    X = np.where(np.arange(len(y)) % 5 == 0, y, -1)[:, None]
    model = EMQ(DecisionTreeClassifier()).fit(X, y)
    assert np.allclose(model.classifier.predict_proba(X).mean(0), rows / len(y), rtol=1e-9)
    return rows / len(y), model.predict(X)


for classes in (100, 200):
    true, found = shares(classes)
    print(classes, "classes, largest", true[0], found[0], "rarest", true[-1], found[-1])
    assert np.allclose(true, found, rtol=1e-6) == (classes == 100)
assert (round(true[0], 4), round(found[0], 4)) == (0.1728, 0.1839)
assert (round(true[-1], 5), round(found[-1], 5)) == (0.00086, 0.00065)
END
