"""Runs that several ranks share, for two test modules; also a program that each rank runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.classifier.building import make_classifier
from npnlp.models import SurnameClassifier
from npnlp.runs.checkpoint import align
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.distributed.shared import Communicator, Shared
from npnlp.training.ranks import ALONE, Alone
from npnlp.training.recipes import RECIPES
from npnlp.training.trainer import Trainer

NUMPY = get_backend("numpy")
EPOCHS = 3
ENCODER = {"embedding_size": 6, "rnn_hidden_size": 8}
GRU = {"cell": "gru", "bidirectional": True, "num_layers": 2, "rnn_dropout": 0.3}
WIDE = RECIPES["wide"]

#: Models and settings that draw every kind of mask, have every objective, and leave a last batch
#: that is smaller (42 rows of train), or smaller than the number of ranks.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "elman with dropout": ({}, {}),
    "sgd, class weights and clipping": (
        {}, {"class_weights": "inverse", "optimizer": "sgd", "momentum": 0.9, "clip_norm": 0.5},
    ),
    "variational dropout between layers": (GRU | {"variational": True}, {}),
    "dropout between layers": (GRU, {}),
    "dropout of embeddings and characters": (
        {"cell": "lstm", "embedding_dropout": 0.3, "char_dropout": 0.3},
        {"class_weights": "balanced"},
    ),
    # The gradient of the keys' bias is zero but for rounding, which Adam would divide by itself.
    "transformer": (
        {"cell": "transformer", "num_heads": 2, "rnn_dropout": 0.2},
        {"optimizer": "sgd", "momentum": 0.9},
    ),
    "smoothing and class weights": (
        {}, {"label_smoothing": 0.1, "class_weights": "balanced"}
    ),
    "smoothing and adjustment": ({}, {"label_smoothing": 0.1, "logit_adjustment": 1.0}),
    "wide": (
        {
            "cell": "gru", "bidirectional": True, "pooling": "max+mean", "hidden_layer": False,
            "ngram_orders": [1, 2, 3, 4], "ngram_size": 5, "ngram_dropout": 0.7, "dropout": 0.4,
            "embedding_dropout": 0.2, "char_dropout": 0.1,
        },
        {
            name: WIDE[name]
            for name in ("weight_decay", "label_smoothing", "consistency", "beta2", "schedule",
                         "warm_up", "clip_norm", "prior_correction", "store")
        } | {"bucket": 2, "merge_repeats": True},
    ),
    "typing errors": ({}, {"typing_errors": 0.5}),
    "last batch smaller than the ranks": ({}, {"batch_size": 5}),
    "fewer rows than ranks": ({"cell": "gru"}, {"batch_size": 2, "gradient_flow": False}),
}  # fmt: skip


def make_trainer(
    dataset: SurnameDataset, case: str, dtype: Any, ranks: Alone = ALONE, **config: Any
) -> Trainer:
    """The trainer of a case, in any dtype."""
    shape, own = CASES[case]
    settings = {"num_epochs": EPOCHS, "learning_rate": 0.02, "batch_size": 16, "seed": 5}
    training = TrainingConfig(**(settings | own | config))
    made = make_classifier(dataset, ENCODER | shape, NUMPY, training.seed)
    model = SurnameClassifier(made.config, dtype=dtype, random=Random(training.seed, "model"))
    if model.ngrams is not None and made.ngrams is not None:
        model.ngrams.keys = made.ngrams.keys
    weights = dataset.class_weights(training.class_weights)
    splits = dataset.arrays("train"), dataset.arrays("val")
    return Trainer(model, *splits, training, weights, ranks)


def outcome(trainer: Trainer) -> dict[str, NDArray[Any]]:
    """What a finished training leaves: weights, moments, flow, and all numbers of its history."""
    while not trainer.finished:
        trainer.run_epoch()
    trainer.finish()
    tensors, _ = trainer.state()
    clock = ("seconds", "names_per_second")
    history = [[v for k, v in row.items() if k not in clock] for row in trainer.progress.history]
    return tensors | {"history": np.array(history)}


def of_the_model(left: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in left.items() if k.startswith(("model.", "best.", "history"))}


def check_close(found: dict[str, Any], expected: dict[str, Any], bound: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(np.isnan(found[name]), np.isnan(value), err_msg=name)
        error = np.linalg.norm(np.nan_to_num(found[name] - value))
        assert error <= bound * max(float(np.linalg.norm(np.nan_to_num(value))), 1e-6), name


class Threads:
    """Ranks in one process, a thread each."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.meeting = threading.Barrier(size, timeout=900)
        self.given: list[Any] = [None] * size

    def run(self, work: Callable[[Communicator], Any]) -> list[Any]:
        """What ``work`` returns on each rank; raises what it raises on the first that fails."""
        results: list[Any] = [None] * self.size
        errors: list[BaseException] = []

        def of_rank(rank: int) -> None:
            try:
                results[rank] = work(ThreadRank(self, rank))
            except BaseException as error:
                errors.append(error)
                self.meeting.abort()

        threads = [threading.Thread(target=of_rank, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in errors:
            raise error
        return results


class ThreadRank:
    """A rank of :class:`Threads`, as a communicator."""

    def __init__(self, threads: Threads, rank: int) -> None:
        self.threads, self.rank, self.size = threads, rank, threads.size
        self.local_rank = rank

    def total(self, values: Array, backend: Backend) -> Array:
        summed = np.zeros_like(values)
        for given in self._exchange(values.copy()):
            summed += given
        return summed

    def from_first(self, content: bytes) -> bytes:
        first: bytes = self._exchange(content)[0]
        return first

    def _exchange(self, mine: Any) -> list[Any]:
        self.threads.given[self.rank] = mine
        self.threads.meeting.wait()
        given = list(self.threads.given)
        self.threads.meeting.wait()
        return given


def main() -> None:
    """All cases on this rank; rank 0 writes what is left of each: TABLE DTYPE FILE."""
    from npnlp.training.distributed.mpi import Mpi

    table, dtype, path = sys.argv[1:]
    mpi = Mpi()
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(table)
    found: dict[str, NDArray[Any]] = {}
    for case in CASES:
        trainer = make_trainer(dataset, case, np.dtype(dtype), Shared(mpi))
        align(trainer)
        for name, value in outcome(trainer).items():
            found[f"{case}/{name}"] = value
    if mpi.rank == 0:
        np.savez(Path(path), **found)  # type: ignore[arg-type]  # taken for allow_pickle


if __name__ == "__main__":
    main()
