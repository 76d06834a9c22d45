"""With ``exact`` a name has the same bits in any list, for every model and any BLAS kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.backend import Random, get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.ways import MANY
from npnlp.cli import main
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SurnameVectorizer

ROOT = Path(__file__).parents[2]
LETTERS = list("abcdefghij")
MODELS: dict[str, dict[str, Any]] = {
    "elman": {}, "gru": {"cell": "gru"}, "before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm"}, "both ways": {"cell": "gru", "bidirectional": True},
    "two layers": {"num_layers": 2}, "poolings": {"pooling": "mean+max"},
    "attention": {"pooling": "attention"}, "transformer": {"cell": "transformer"},
}  # fmt: skip
BACKENDS = ["numpy", pytest.param("numba", marks=pytest.mark.peers)]


def made(name: str, backend: str = "numpy") -> Classifier:
    rows = {"surname": ["".join(LETTERS)] * 3, "nationality": ["A", "B", "C"]}
    vectorizer = SurnameVectorizer.from_dataframe(pd.DataFrame(rows))
    sizes = len(vectorizer.char_vocab), len(vectorizer.nationality_vocab)
    config = ClassifierConfig(*sizes, 8, 8, **MODELS[name])
    model = SurnameClassifier(config, backend=get_backend(backend), random=Random(1))
    return Classifier(model, vectorizer)


def drawn(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return ["".join(random.choice(LETTERS, random.integers(1, 9))) for _ in range(count)]


def differing(classifier: Classifier) -> int:
    """How many of some names are not the same alone, in small lists and in a large one."""
    names = drawn(8, 0)
    alone = np.concatenate([classifier.probabilities([name]) for name in names])
    count = 0
    for seed, beside in enumerate((0, 1, 3, 40, MANY)):
        shuffled = np.random.default_rng(seed).permutation(len(names))
        given = [*drawn(beside, seed + 1), *(names[k] for k in shuffled), names[0]]
        found = classifier.probabilities(given, exact=True)[beside:]
        count += int((found != np.concatenate([alone[shuffled], alone[:1]])).sum())
    return count


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
def test_a_name_has_the_same_bits_in_any_list(name: str, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba", reason="Numba is not installed")
    assert differing(made(name, backend)) == 0


@pytest.mark.parametrize("kernels", ["Haswell", "Prescott"])
def test_with_other_blas_kernels_too(kernels: str) -> None:
    code = (
        "from tests.classifier.test_exact import *\n"
        "print(sum(differing(made(name)) for name in MODELS))"
    )
    environment = {**os.environ, "OPENBLAS_CORETYPE": kernels}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert found.stdout.split() == ["0"]


def test_all_three_ways_of_asking_agree() -> None:
    classifier, names = made("gru"), drawn(30, 5)
    probabilities = classifier.probabilities(names, exact=True)
    for top_k in (1, 3):
        classes, best = classifier.best(names, top_k, exact=True)
        np.testing.assert_array_equal(best, np.take_along_axis(probabilities, classes, axis=1))
        found = classifier.predict(names, top_k, exact=True)
        assert [[p for _, p in prediction.top] for prediction in found] == best.tolist()


def test_json_has_the_digits_that_mean_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier, names = made("gru"), drawn(5, 9)
    classifier.save(tmp_path / "model.safetensors")
    asked = ["predict", "--save-dir", str(tmp_path), "--json", *names]
    wanted = classifier.predict(names, exact=True)
    for exact in ([], ["--exact"]):
        assert main([*asked, *exact]) == 0
        for row, prediction in zip(json.loads(capsys.readouterr().out), wanted, strict=True):
            assert list(row) == ["surname", "nationality", "probability", "top"]
            if exact:
                assert row["probability"] == prediction.probability
            else:
                assert row["probability"] == pytest.approx(prediction.probability, rel=2e-6)
                assert row["probability"] == float(f"{row['probability']:.6g}")
