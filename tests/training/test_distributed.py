"""Several ranks share each batch: the same gradient, the same masks, the same run as one."""

from __future__ import annotations

import contextlib
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.classifier.batches import batches
from npnlp.classifier.evaluation import evaluate
from npnlp.errors import InputError
from npnlp.layers import Packing
from npnlp.layers.ngrams import NgramBag
from npnlp.runs.checkpoint import align
from npnlp.text import SurnameDataset
from npnlp.training.distributed.shared import BatchShare, Shared
from npnlp.training.interrupt import Interrupted
from npnlp.training.ranks import ALONE
from tests.support.distributed import (
    CASES,
    NUMPY,
    Threads,
    check_close,
    make_trainer,
    of_the_model,
    outcome,
)
from tests.support.tables import small_dataset, small_rows, write_table

RANKS = (1, 2, 3, 4, 5)
MASKS = Random(3, "masks")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SurnameDataset:
    return small_dataset(tmp_path_factory.mktemp("table"))


@pytest.mark.parametrize("size", RANKS)
@pytest.mark.parametrize("case", CASES)
def test_the_shares_of_a_gradient_sum_to_that_of_the_batch(
    dataset: SurnameDataset, case: str, size: int
) -> None:
    alone = make_trainer(dataset, case, np.float64)
    random = alone.random.at(4)
    rows = np.arange(len(alone.train))[::-1]  # one batch, in an order that packing changes
    whole = next(batches(alone.train, rows, len(rows), NUMPY))
    expected = alone.objective(alone.model, whole, random, None)
    assert np.linalg.norm(alone.model.flat.grads) > 1e-3

    def of_rank(communicator: Any) -> tuple[Any, NDArray[Any]]:
        trainer = make_trainer(dataset, case, np.float64, Shared(communicator))
        (part,) = trainer.ranks.batches(trainer.train, rows, len(rows), NUMPY, 0, None)
        found = trainer.objective(trainer.model, part, random, None)
        return found, trainer.model.flat.grads

    for found, grads in Threads(size).run(of_rank):
        error = np.linalg.norm(grads - alone.model.flat.grads)
        assert error <= 1e-12 * np.linalg.norm(alone.model.flat.grads)
        assert found.loss_sum == pytest.approx(float(expected.loss_sum), rel=1e-12)
        assert found.weight_sum == pytest.approx(float(expected.weight_sum), rel=1e-12)
        assert found.correct == expected.correct


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("case", CASES)
def test_a_run_is_the_same_for_any_number_of_ranks(
    dataset: SurnameDataset, case: str, size: int
) -> None:
    expected = outcome(make_trainer(dataset, case, np.float64))
    first, *others = Threads(size).run(
        lambda communicator: outcome(make_trainer(dataset, case, np.float64, Shared(communicator)))
    )
    check_close(first, expected, 1e-12)
    for other in others:  # all ranks hold the same bits; the flow is rank 0's
        for name in other.keys() - {"flow"}:
            assert other[name].tobytes() == first[name].tobytes(), name


@pytest.mark.parametrize("case", CASES)
def test_in_single_precision_a_run_stays_as_close(dataset: SurnameDataset, case: str) -> None:
    trainer = make_trainer(dataset, case, np.float32)
    expected, half = outcome(trainer), trainer.config.store == "float16"
    found = Threads(3).run(
        lambda communicator: outcome(make_trainer(dataset, case, np.float32, Shared(communicator)))
    )[0]
    # A weight that is stored in half precision may be rounded to its neighbour.
    check_close(of_the_model(found), of_the_model(expected), 1e-4 if half else 1e-6)


def test_the_same_number_of_ranks_repeats_to_the_bit(dataset: SurnameDataset) -> None:
    def twice() -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = Threads(3).run(
            lambda communicator: outcome(
                make_trainer(dataset, "wide", np.float32, Shared(communicator))
            )
        )[0]
        return found

    one, other = twice(), twice()
    for name, value in one.items():
        assert value.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("batches_before", [2, 3, 5])
def test_a_state_goes_on_with_another_number_of_ranks(
    dataset: SurnameDataset, batches_before: int
) -> None:
    class Enough(Exception):
        pass

    def part_of_a_run(communicator: Any) -> Any:
        trainer = make_trainer(dataset, "wide", np.float64, Shared(communicator))
        left = batches_before

        def on_batch() -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Enough

        with contextlib.suppress(Enough):
            while True:
                trainer.run_epoch(on_batch)
        assert left == 0
        return trainer.state()

    tensors, values = Threads(3).run(part_of_a_run)[0]

    def rest(communicator: Any) -> dict[str, NDArray[Any]]:
        trainer = make_trainer(dataset, "wide", np.float64, Shared(communicator))
        if trainer.ranks.first:  # the others are told
            trainer.load_state(tensors, values)
        align(trainer)
        return outcome(trainer)

    expected = outcome(make_trainer(dataset, "wide", np.float64))
    check_close(Threads(2).run(rest)[0], expected, 1e-12)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_an_evaluation_is_shared_and_the_same_to_the_bit(tmp_path: Path, size: int) -> None:
    rows = [(label, split, name * 2) for label, split, name in small_rows() * 20]
    table = write_table(tmp_path / "large.csv", rows)
    large = SurnameDataset.load_dataset_and_make_vectorizer(table)
    trainer = make_trainer(large, "sgd, class weights and clipping", np.float32)
    split = large.arrays("train")
    assert len(split) > 512
    expected = evaluate(trainer.model, split, trainer.criterion)

    def of_rank(communicator: Any) -> Any:
        ranks = Shared(communicator)
        own = make_trainer(large, "sgd, class weights and clipping", np.float32, ranks)
        return own.evaluate(split)

    for found in Threads(size).run(of_rank):
        assert found.loss == expected.loss
        np.testing.assert_array_equal(found.confusion, expected.confusion)


def test_who_is_asked_to_stop_stops_all_after_the_next_batch(dataset: SurnameDataset) -> None:
    def of_rank(communicator: Any) -> tuple[int, int]:
        trainer = make_trainer(dataset, "elman with dropout", np.float64, Shared(communicator))
        calls = 0

        def check() -> None:
            nonlocal calls
            calls += 1
            if calls == 4 and communicator.rank == 2:
                raise Interrupted

        agreed = trainer.ranks.agreed(check)
        with contextlib.suppress(Interrupted):
            while True:
                trainer.run_epoch(agreed)
        return trainer.progress.epoch, trainer.progress.batch

    assert Threads(3).run(of_rank) == [(1, 2)] * 3  # 3 batches an epoch; asked after 4


LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=9)


def shares(lengths: list[int], size: int) -> list[tuple[NDArray[Any], BatchShare]]:
    """Of each rank that has rows: which, and its share; and the packing of the whole batch."""
    ordered = np.array(sorted(lengths, reverse=True))
    found = []
    for rank in range(min(size, len(ordered))):
        own = np.arange(len(ordered))[rank::size]
        packing = Packing.of(ordered[own], NUMPY)
        found.append((own, BatchShare(ordered, packing, rank, size)))
    return found


@given(LENGTHS, st.integers(1, 5))
def test_the_masks_of_all_ranks_make_up_that_of_the_batch(lengths: list[int], size: int) -> None:
    ordered = np.array(sorted(lengths, reverse=True))
    whole = Packing.of(ordered, NUMPY)
    heads, longest = 2, int(ordered[0])
    of_sequences = MASKS.keep((len(ordered), 3), 0.5)
    of_steps = MASKS.keep((whole.rows, 3), 0.5)
    of_pairs = MASKS.keep((len(ordered), heads, longest, longest), 0.5)
    for own, share in shares(lengths, size):
        stream, packing = MASKS.child("x").within(share), share.packing
        assert stream.child("y").at(3).share is share
        drawn = MASKS.within(share)
        np.testing.assert_array_equal(drawn.keep((len(own), 3), 0.5), of_sequences[own])
        rows = np.flatnonzero(np.isin(whole.places, own))
        np.testing.assert_array_equal(drawn.keep((packing.rows, 3), 0.5), of_steps[rows])
        steps = int(packing.lengths.max())
        found = drawn.keep((len(own), heads, steps, steps), 0.5)
        np.testing.assert_array_equal(found, of_pairs[own][:, :, :steps, :steps])


@given(LENGTHS, st.integers(1, 5), st.sets(st.integers(1, 7), min_size=1))
def test_a_rank_drops_the_ngrams_that_the_batch_drops(
    lengths: list[int], size: int, orders: set[int]
) -> None:
    ordered = np.array(sorted(lengths, reverse=True))
    packing = Packing.of(ordered, NUMPY)
    tokens = np.arange(packing.rows)  # all differ, and so do all n-grams
    keys, rows = NgramBag.keys_of(tokens, packing, sorted(orders), packing.rows)
    kept = MASKS.keep((len(keys),), 0.5)
    sequence = packing.sequences[rows]
    for own, share in shares(lengths, size):
        stream = MASKS.within(share).from_steps(*(n - 1 for n in sorted(orders)))
        _, mine = NgramBag.keys_of(
            tokens[: share.packing.rows], share.packing, sorted(orders), packing.rows
        )
        np.testing.assert_array_equal(stream.keep((len(mine),), 0.5), kept[np.isin(sequence, own)])


def test_a_stream_without_a_share_is_what_it_was() -> None:
    stream = Random(7, "a", 2)
    assert stream == Random(7, "a", 2, None)
    assert stream.from_steps(0, 1) is stream
    assert stream.within(None) == stream


def test_a_mask_of_other_rows_cannot_be_shared() -> None:
    _, share = shares([3, 2, 2], 2)[0]
    with pytest.raises(InputError, match=r"mask of shape \(7, 2\)"):
        MASKS.within(share).keep((7, 2), 0.5)


def test_one_process_has_batches_as_before(dataset: SurnameDataset) -> None:
    train, order = dataset.arrays("train"), np.arange(42)[::-1]
    ours = list(ALONE.batches(train, order, 16, NUMPY, 1, 1))
    for found, expected in zip(ours, batches(train, order, 16, NUMPY, 1), strict=True):
        np.testing.assert_array_equal(found.rows, expected.rows)
    trainer = make_trainer(dataset, "elman with dropout", np.float32)
    assert ALONE.objective(trainer.objective) is trainer.objective


@pytest.mark.parametrize("size", [2, 3, 4, 50])
def test_every_row_has_one_rank_and_the_probed_batch_is_the_first_ones(
    dataset: SurnameDataset, size: int
) -> None:
    train, order = dataset.arrays("train"), np.random.default_rng(0).permutation(42)

    def of_rank(communicator: Any) -> list[Any]:
        return list(Shared(communicator).batches(train, order, 16, NUMPY, 0, 1))

    by_rank = Threads(size).run(of_rank)
    for number, (whole, *parts) in enumerate(
        zip(batches(train, order, 16, NUMPY), *by_rank, strict=True)
    ):
        rows = [[] if part.batch is None else part.batch.rows.tolist() for part in parts]
        assert sorted(chain.from_iterable(rows)) == sorted(whole.rows.tolist())
        for part in parts:
            np.testing.assert_array_equal(part.rows, whole.rows)
        if number == 1:
            assert rows[0] == whole.rows.tolist()
            assert parts[0].share is None
        else:
            assert max(map(len, rows)) - min(map(len, rows)) <= 1
