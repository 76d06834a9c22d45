"""What a user meets first: the package's own help, and one short line about every object."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import pydoc
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

import npnlp
from npnlp.backend import Array
from npnlp.classifier.prediction import Prediction
from npnlp.gradients import GradientReport, check_gradients, jacobians
from npnlp.gradients.heads import head_flow
from npnlp.layers import (
    Dropout,
    Elman,
    Linear,
    MultiHeadAttention,
    Packing,
    RecurrentStack,
)
from npnlp.models import ClassifierConfig, SequenceConfig, SequenceModel, SurnameClassifier
from npnlp.summary import LONGEST, nbytes, one_line, summarized, summary
from npnlp.text import (
    SequenceVocabulary,
    SplitArrays,
    SurnameDataset,
    SurnameVectorizer,
    Vocabulary,
    own_table_path,
)
from npnlp.text.name_file import Names

CONFIG = ClassifierConfig(num_embeddings=40, num_classes=3, cell="gru", ngram_orders=(1, 2),
                          num_ngrams=50)  # fmt: skip
LAYER = Elman(3, 5, dtype=np.float64)
X = np.cos(np.arange(18.0)).reshape(6, 3)
VECTORIZER = SurnameVectorizer(SequenceVocabulary(), Vocabulary({"Thai": 0}))
PACKING = Packing.of(np.array([4, 2]), LAYER.backend)


def attention() -> tuple[Any, Any]:
    """The cache of an attention layer, and what its probe saw."""
    layer = MultiHeadAttention(4, 2)
    y, cache = layer.forward(np.ones((6, 4), dtype=np.float32), packing=PACKING)
    traces: list[Any] = []
    layer.backward(y, cache, traces.append)
    return cache, traces[0]


def elman_trace() -> Any:
    """What a probe sees of the layer's backward pass."""
    (_, h_last), cache = LAYER.forward(X, packing=PACKING)
    traces: list[Any] = []
    LAYER.backward((None, np.ones_like(h_last)), cache, traces.append)
    return traces[0]


SHOWN: dict[str, tuple[Callable[[], object], str]] = {
    "layer": (
        lambda: LAYER,
        "<Elman input_size=3, hidden_size=5, nonlinearity='tanh', float64, 50 parameters>",
    ),
    "layer without parameters": (lambda: Dropout(0.25), "<Dropout p=0.25, float32>"),
    "layer of layers": (
        lambda: RecurrentStack("lstm", 3, 4, num_layers=2, bidirectional=True),
        "<RecurrentStack hidden_size=4, 4 LSTM, 1 Dropout, float32, 736 parameters>",
    ),
    "configuration": (
        lambda: CONFIG,
        "<ClassifierConfig cell='gru', num_embeddings=40, num_classes=3, ngram_orders=(1, 2), "
        "num_ngrams=50>",
    ),
    "classifier": (
        lambda: SurnameClassifier(CONFIG),
        "<SurnameClassifier cell='gru', num_embeddings=40, num_classes=3, ngram_orders=(1, 2), "
        "num_ngrams=50, float32, 47,523 parameters>",
    ),
    "sequence model": (
        lambda: SequenceModel(SequenceConfig(2, 1, hidden_size=8)),
        "<SequenceModel input_size=2, output_size=1, hidden_size=8, float32, 105 parameters>",
    ),
    "packing": (lambda: PACKING, "<Packing of 2 sequences, 6 rows, longest 4>"),
    "cache": (
        lambda: attention()[0],
        "<AttentionCache x=float32 (6, 4), packing=Packing, parts=tuple of 1, heads=tuple of 1, "
        "out=LinearCache, 928 bytes>",
    ),
    "attention trace": (
        lambda: attention()[1],
        "<AttentionTrace cache=AttentionCache, d_heads=float32 (6, 2, 2), 1,024 bytes>",
    ),
    "head flow": (
        lambda: head_flow(attention()[1]),
        "<HeadFlow layer=0, lags=int64 (6,), attention=float64 (6, 2), head_grad=float64 (6, 2), "
        "240 bytes>",
    ),
    "recurrent cache": (
        lambda: elman_trace().cache,
        "<RecurrentCache x=float64 (6, 3), states=tuple of 1, memory=(), initial=None, "
        "packing=Packing, kind='elman_tanh', 240 bytes>",
    ),
    "gradient flow": (
        lambda: npnlp.gradient_flow(elman_trace()),
        "<GradientFlow lags=int64 (6,), hidden_grad=float64 (6,), saturation=float64 (6,), "
        "bound=float64 (6,), shares=float64 (4, 5, 5), sigma_max=0.97, spectral_radius=0.42, ",
    ),
    "names and a model": (
        lambda: npnlp.Classifier(SurnameClassifier(ClassifierConfig(4, 1)), VECTORIZER),
        "<Classifier <SurnameClassifier num_embeddings=4, num_classes=1, float32, 15,249 "
        "parameters>, <SurnameVectorizer of 4 characters and 1 nationalities>>",
    ),
    "prediction": (
        lambda: Prediction("Nakamoto", (("Japanese", 0.9375), *[("Thai", 0.01)] * 17)),
        "Prediction(surname='Nakamoto', nationality='Japanese', probability=0.938)",
    ),
    "dataset": (
        lambda: SurnameDataset.load_dataset_and_make_vectorizer(own_table_path(), "nationality"),
        "<SurnameDataset of ",
    ),
    "report": (
        lambda: check_gradients(Linear(3, 2, dtype=np.float64), X, bound=0.1),
        "<GradientReport of Linear: 4 rows, all passed, largest error",
    ),
    "row of a report": (
        lambda: check_gradients(Linear(3, 2, dtype=np.float64), X).rows[0],
        "<GradientRow quantity='repeatable', method='exact', error=0, index=(), bound=0>",
    ),
    "empty report": (
        lambda: GradientReport("layer"),
        "<GradientReport of layer: 0 rows, 0 failed, largest error nan>",
    ),
    "Jacobians": (
        lambda: jacobians(LAYER, X),
        "<Jacobians T=6, H=5, largest singular value of the product 1.9e-03>",
    ),
    "long Jacobians": (lambda: jacobians(Elman(2, 300), np.ones((4, 2))), "<Jacobians T=4, H=300>"),
    "split": (
        lambda: SplitArrays(np.arange(4), np.arange(4), np.arange(4), np.arange(4)),
        "<SplitArrays tokens=int64 (4,), starts=int64 (4,), lengths=int64 (4,), "
        "targets=int64 (4,), 128 bytes>",
    ),
    "names of a file": (
        lambda: Names(["Lee"] * 900, range(900), 3600),
        "<Names names=list of 900, rows=range, size=3600>",
    ),
    "vectorizer": (
        lambda: VECTORIZER,
        "<SurnameVectorizer of 4 characters and 1 nationalities>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_a_repr_is_one_short_line(name: str) -> None:
    make, expected = SHOWN[name]
    shown = repr(make())
    assert shown.startswith(expected)
    assert len(shown) <= LONGEST
    assert shown.isprintable()


def test_a_long_repr_keeps_its_beginning_and_its_last_part() -> None:
    shown = one_line("Name", [*(f"field{place}=1" for place in range(40)), "7 bytes"])
    assert len(shown) == LONGEST
    assert shown.startswith("<Name field0=1, field1=1, ")
    assert shown.endswith(" ..., 7 bytes>")


def test_a_summary_leaves_defaults_out_and_shows_no_number_of_an_array() -> None:
    @summarized
    @dataclass(frozen=True)
    class Pair:
        left: Array
        right: Array | None = None
        name: str = ""

    @summarized
    class Named(NamedTuple):
        pair: Pair
        share: float = 0.5

    array = np.ones((2, 3))
    assert repr(Pair(array)) == "<Pair left=float64 (2, 3), 48 bytes>"
    assert summary(Named(Pair(array, array, "x"), 1 / 3)) == (
        "<Named pair=Pair, share=0.333, 48 bytes>"
    )
    assert repr(Pair(array, name="y" * 99)).startswith("<Pair left=float64 (2, 3), name='yyy")
    assert nbytes({"a": array, "b": [array, array.copy()]}) == 96


def modules() -> Iterator[Any]:
    """Every module of the package that loads here."""
    for found in pkgutil.walk_packages(npnlp.__path__, "npnlp."):
        if not found.name.endswith("__main__"):
            try:
                yield importlib.import_module(found.name)
            except ImportError:  # of a package that is not installed here
                continue


#: Rooms whose objects stay inside the package.
INSIDE = ("npnlp.backend", "npnlp.inference")


def test_no_object_with_arrays_prints_their_numbers() -> None:
    classes = {
        kind
        for module in modules()
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__.startswith("npnlp.")
        if not kind.__module__.startswith(INSIDE)
        if is_dataclass(kind) or hasattr(kind, "_fields")
    }
    arrays = re.compile(r"\b(Array|NDArray|Floats|Integers|Steps|\w*Cache)\b")
    printing = [
        f"{kind.__module__}.{kind.__name__}"
        for kind in classes
        if any(map(arrays.search, map(str, inspect.get_annotations(kind).values())))
        if kind.__repr__ is not summary
        if not is_dataclass(kind) or kind.__dataclass_params__.repr  # type: ignore[attr-defined]
    ]
    assert sorted(printing) == []


def test_the_tour_of_the_package_runs() -> None:
    tried = doctest.testmod(npnlp)
    assert (tried.failed, tried.attempted > 10) == (0, True)


def test_dir_and_help_show_what_the_package_offers() -> None:
    offered = {
        "Classifier", "Decision", "DeviceError", "DivergenceError", "InputError",
        "SurnameClassifierEstimator",
        "check_adjoint", "check_gradients", "errors", "get_backend", "gradient_flow", "gradients",
        "jacobians", "layers", "models", "text", "training",
    }  # fmt: skip
    assert offered <= set(dir(npnlp))
    assert all(getattr(npnlp, name) is not None for name in dir(npnlp))
    text = pydoc.plain(pydoc.render_doc(npnlp))
    missing = [name for name in offered if name not in text]
    assert missing == []
    with pytest.raises(AttributeError, match="'npnlp' has no attribute 'Clasifier'"):
        npnlp.__getattr__("Clasifier")


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, npnlp; dir(npnlp); print(sorted(name for name in sys.modules "
        "if name == 'numpy' or name.startswith('npnlp')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["['npnlp',", "'npnlp.errors',", "'npnlp.version']"]


@pytest.mark.parametrize("cell", ["Elman", "GRU", "LSTM"])
def test_the_example_in_the_help_of_a_cell_runs(cell: str) -> None:
    kind: Any = getattr(npnlp.layers, cell)
    packing = npnlp.layers.Packing.of(np.array([3, 1]), npnlp.get_backend())
    d = np.ones((2, 2), dtype=np.float32)
    given = {
        cell: kind, "x": np.ones((4, 4), dtype=np.float32), "packing": packing, "d_last": d,
        "d_h_n": d,
    }  # fmt: skip
    test = doctest.DocTestParser().get_doctest(kind.__doc__, given, cell, None, None)
    assert len(test.examples) == 3
    assert doctest.DocTestRunner().run(test, clear_globs=False).failed == 0
    made = test.globs[cell.lower()]
    assert any(np.abs(grad).sum() > 0 for grad in made.grads.values())
