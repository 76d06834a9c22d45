"""The number of threads of matrix products: as asked for, one by default, measured on request.

What is measured depends on who else computes: here a clock of the test's own says how long it took.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from npnlp.backend.threads import (
    THREAD_VARIABLES,
    TRIALS,
    _Libraries,
    blas_threads,
    in_one_blas_thread,
    measured_threads,
    one_blas_thread,
    threads_now,
)
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.evaluation import evaluate
from npnlp.errors import InputError
from npnlp.estimator.estimator import SurnameClassifierEstimator
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.text import SurnameDataset, SurnameVectorizer
from tests.support.tables import (
    SMALL,
    environment,
    frame_of,
    run_main,
    small_rows,
    train_small,
    write_table,
)


def threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("npnlp.backend.threads.ASKED", False)
    with blas_threads(2):
        yield


def test_one_by_default_and_as_before_afterwards() -> None:
    def unasked() -> None:
        with one_blas_thread():
            assert threads() == {1}
            in_one_blas_thread(lambda: None)()
            assert threads() == {1}

    Context().run(unasked)  # one that nobody has asked for a number
    assert threads() == {2}


def test_the_environment_is_left_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npnlp.backend.threads.ASKED", True)

    def unlimited() -> None:
        with one_blas_thread():
            assert threads() == {2}

    Context().run(unlimited)


@pytest.mark.parametrize("name", THREAD_VARIABLES)
def test_the_environment_asks_when_the_program_starts(name: str) -> None:
    code = "from npnlp.backend.threads import ASKED; print(ASKED)"
    asked = {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"}
    plain = {key: value for key, value in environment().items() if key not in asked}
    for variables, expected in ((plain, "False"), (plain | {name: "2"}, "True")):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_as_many_as_asked_for() -> None:
    with blas_threads(1):
        assert threads() == {1}


def test_what_is_asked_for_stands_in_all_that_is_called() -> None:
    with blas_threads(1), blas_threads(2), one_blas_thread():
        assert threads() == {2}
        assert threads_now() == 2


def test_regions_of_two_threads_may_end_in_any_order() -> None:
    """The one that opened first closes first: the other one has its one thread to the end."""
    opened, closed, found = threading.Event(), threading.Event(), []

    def second() -> None:
        with one_blas_thread():
            opened.set()
            assert closed.wait(60)
            found.append(threads())

    with ThreadPoolExecutor(1) as pool:

        def first() -> None:
            with one_blas_thread():
                done.append(pool.submit(second))
                assert opened.wait(60)

        done: list[Any] = []
        Context().run(first)
        closed.set()
        done[0].result()
    assert found == [{1}]
    assert threads() == {2}


class OfThreads(threading.local):
    """As OpenBLAS with OpenMP: a number for each thread."""

    count = 4

    def get_num_threads(self) -> int:
        return self.count

    def set_num_threads(self, count: int) -> None:
        self.count = count


def test_a_library_with_a_number_for_each_thread_gets_it_back_in_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library, meet = OfThreads(), threading.Barrier(2)
    libraries = _Libraries([], [library])
    monkeypatch.setattr("npnlp.backend.threads._libraries", lambda scipy: libraries)

    def work() -> list[int]:
        found = [library.count]
        with one_blas_thread():
            meet.wait(60)
            found.append(library.count)
            with blas_threads(3):
                found.append(library.count)
            found.append(library.count)
            meet.wait(60)
        return [*found, library.count]

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(work) for _ in range(2)]:
            assert each.result() == [4, 1, 3, 1, 4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_no_regions_of_other_threads() -> None:
    code = """if True:
        import os, threading
        from npnlp.backend import threads
        opened, over = threading.Event(), threading.Event()
        def other():
            with threads.one_blas_thread():
                opened.set()
                over.wait()
        thread = threading.Thread(target=other)
        thread.start()
        opened.wait()
        with threads.blas_threads(2):
            child = os.fork()
            if child == 0:
                os._exit(len(threads._OPEN))
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        over.set()
    """
    variables = {**environment(), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def fit(seed: int) -> bytes:
    """The weights of an estimator whose products are large enough for several threads."""
    names = [name for _, _, name in small_rows()]
    labels = [label for label, _, _ in small_rows()]
    made = SurnameClassifierEstimator(
        cell="gru", num_epochs=2, rnn_hidden_size=160, embedding_size=40, batch_size=64,
        random_state=seed,
    )  # fmt: skip
    return made.fit(names, labels).model_.flat.values.tobytes()


def test_fits_and_predictions_at_once_have_the_bits_of_one_after_the_other() -> None:
    frame = frame_of(small_rows())
    dataset = SurnameDataset(frame, SurnameVectorizer.from_dataframe(frame))
    made = SurnameClassifierEstimator(
        cell="gru", num_epochs=1, rnn_hidden_size=160, validation_fraction=0.0
    ).fit(frame["surname"], frame["nationality"])
    classifier = Classifier(made.model_, made.vectorizer_)
    criterion, split = SoftmaxCrossEntropy(), dataset.arrays("train")
    names = [*frame["surname"], *frame["surname"].str.lower()] * 5
    works: list[Any] = [
        lambda: fit(1),
        lambda: classifier.probabilities(names).tobytes(),
        lambda: fit(2),
        lambda: classifier.probabilities(names[:40]).tobytes(),
        lambda: np.float64(evaluate(made.model_, split, criterion).loss).tobytes(),
        lambda: made.predict_proba(names[:1]).tobytes(),
    ]
    expected = [Context().run(work) for work in works]
    with ThreadPoolExecutor(len(works)) as pool:
        for _ in range(3):
            found = [pool.submit(work) for work in works]
            assert [each.result() for each in found] == expected
            assert threads() == {2}


def test_fewer_than_one_is_refused() -> None:
    with pytest.raises(InputError, match="threads is 0; it has to be a whole number above 0"):
        blas_threads(0)


class Clock:
    """A clock that goes on by so much for a trial with each number of threads."""

    def __init__(self, taken: dict[int, float]) -> None:
        self.now, self.taken, self.trials = 0.0, taken, dict.fromkeys(taken, 0.0)

    def perf_counter(self) -> float:
        (count,) = threads()  # as many as the products of the trial get
        self.trials[count] += 0.5  # read before and after
        self.now += self.taken[count] / 2
        return self.now


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    ("one", "two", "chosen", "trials"),
    [
        (1.0, 0.5, 2, TRIALS), (1.0, 0.79, 2, TRIALS),  # by more than WORTH
        (1.0, 0.81, 1, TRIALS), (1.0, 1.0, 1, TRIALS), (1.0, 1.9, 1, TRIALS),
        (1.0, 50.0, 1, 1),  # another program holds a core: no second trial
    ],
)  # fmt: skip
def test_more_threads_are_chosen_where_they_are_faster_by_a_quarter(
    one: float, two: float, chosen: int, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock({1: one, 2: two})
    monkeypatch.setattr("npnlp.backend.threads.time", clock)
    assert measured_threads(8, 8) == chosen
    assert clock.trials == {1: trials, 2: trials}
    assert threads() == {2}


def test_what_is_measured_is_one_or_all_and_changes_nothing() -> None:
    found = measured_threads(64, 256)
    assert found in (1, len(os.sched_getaffinity(0)))
    assert threads() == {2}


@pytest.mark.parametrize(("wrong", "why"), [("0", "threads is 0"), ("many", "invalid")])
def test_the_command_refuses_a_wrong_number(
    wrong: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path / "run", "--threads", wrong) == 2
    assert why in capsys.readouterr().err


def test_the_command_measures_where_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "small.csv")
    run = ("train", "--surname-csv", table, "--save-dir", tmp_path / "run", *SMALL)
    assert run_main(*run, "--num-epochs", "1", "--threads", "auto") == 0
    said = capsys.readouterr().out
    assert re.search(r"^Threads: \d+, by measurement$", said, re.MULTILINE)
