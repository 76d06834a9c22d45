"""``python -m tests.support.compile_passes``: have Numba compile and store most of what tests use.

It takes two minutes of computing. Several test processes that start without it would each do it.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from npnlp.backend import Random
from npnlp.inference import make_predictor
from tests.backend.compiled import test_compiled_head as heads
from tests.backend.compiled import test_compiled_prediction as prediction
from tests.backend.compiled.test_compiled import BOUND, NUMBA, passes
from tests.inference.test_inference import CELLS, SHAPES, make, sequences


def main() -> None:
    cells = ("elman_tanh", "elman_relu", "gru", "lstm")
    for cell, dtype, initial, above in product(cells, BOUND, (True, False), (True, False)):
        passes(NUMBA, cell, [2, 1], 4, dtype, initial=initial, above=above)
    for cell, dtype in product(("tanh", "relu", "gru", "lstm"), BOUND):
        for shape in ("last", "wide"):
            model = prediction.compiled(make(dtype, **CELLS[cell], **SHAPES[shape]))
            make_predictor(model).probabilities(*sequences(700))
    for dtype in BOUND:
        given, targets = heads.inputs()
        model = heads.model_of(heads.SMALL, np.dtype(dtype))
        model.learn(targets=targets, random=Random(5, "training"), **given)


if __name__ == "__main__":
    main()
