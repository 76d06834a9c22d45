"""Numbers that are functions of (seed, stream, step), and nothing else."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Random
from tests.support import reference

MANY = 100_000
property_test = settings(max_examples=25)

# These never change: a stored run has to be repeatable with every later version.
GOLDEN_WORDS = [
    7290349067309261659,
    7054978827972561364,
    9379299918713267863,
    15367928921519403965,
    7636308714853516979,
]
GOLDEN_UNIFORM = [[0.5722336307870358, 0.32993700140655], [0.7468771459635295, 0.3260591977524767]]
GOLDEN_RANGE = [-0.07082477690972311, -0.2525472489450875]
GOLDEN_NORMAL = [-0.025569255119729566, -0.41155333172774006, -1.3029590978697398]
GOLDEN_KEEP = [0, 1, 1, 1, 0, 1, 1, 0, 1, 0]
GOLDEN_PERMUTATION = [6, 8, 5, 7, 3, 1, 9, 4, 0, 2]


def words_by_the_paper(seed: int, name: str, step: int, count: int) -> list[int]:
    """Philox4x64-10 in Python's integers; the first block is that of counter (1, 0, step, 0)."""
    stream = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    words: list[int] = []
    while len(words) < count:
        counter = (len(words) // 4 + 1, 0, step, 0)
        words += reference.philox(counter, (seed % 2**64, stream))
    return words[:count]


def test_the_reference_gives_the_known_answer_of_random123() -> None:
    assert reference.philox((0, 0, 0, 0), (0, 0)) == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    ]  # fmt: skip


@property_test
@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    name=st.text(max_size=20),
    step=st.integers(0, 2**64 - 1),
    count=st.integers(0, 13),
)
def test_words_are_those_of_the_paper(seed: int, name: str, step: int, count: int) -> None:
    words = Random(seed, name).at(step).raw(count)
    assert words.dtype == np.uint64
    assert words.tolist() == words_by_the_paper(seed, name, step, count)


def test_stored_words() -> None:
    random = Random(1337, "rnn").child("weight_hh_l0").at(3)
    assert (random.seed, random.name, random.step) == (1337, "rnn.weight_hh_l0", 3)
    assert random.raw(5).tolist() == GOLDEN_WORDS


def test_stored_numbers() -> None:
    random = Random(0, "golden")
    assert random.uniform((2, 2)).tolist() == GOLDEN_UNIFORM
    assert random.uniform((2,), -0.5, 0.25).tolist() == GOLDEN_RANGE
    np.testing.assert_allclose(random.normal((3,)), GOLDEN_NORMAL, rtol=1e-14)
    assert random.keep((10,), 0.5).tolist() == [bool(bit) for bit in GOLDEN_KEEP]
    assert random.permutation(10).tolist() == GOLDEN_PERMUTATION


def draws(random: Random) -> list[list[float]]:
    return [
        random.uniform((7,)).tolist(),
        random.normal((7,)).tolist(),
        random.keep((70,), 0.5).tolist(),
        random.permutation(20).tolist(),
    ]


def test_the_same_place_gives_the_same_numbers_in_any_order() -> None:
    places = [Random(seed, name, step) for seed in (0, 1) for name in "ab" for step in (0, 5)]
    forwards = [draws(random) for random in places]
    backwards = [draws(random) for random in reversed(places)]
    assert forwards == backwards[::-1]


def test_another_seed_stream_or_step_gives_other_numbers() -> None:
    places = [Random(s, n, t) for s in (0, 1, -1) for n in ("", "a", "b", "a.b") for t in (0, 1, 9)]
    for kind in range(4):
        found = {tuple(draws(random)[kind]) for random in places}
        assert len(found) == len(places)


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    random = Random(3, "x")
    assert random.raw(100)[:9].tolist() == random.raw(9).tolist()
    np.testing.assert_array_equal(random.uniform((4, 5)).reshape(-1)[:7], random.uniform((7,)))


def test_steps_do_not_overlap() -> None:
    words = np.concatenate([Random(0, "x").at(step).raw(1000) for step in range(20)])
    assert len(np.unique(words)) == len(words)


def test_threads_draw_the_same_numbers() -> None:
    streams = [Random(seed, name) for seed in range(4) for name in ("dropout1", "shuffle")]
    places = [stream.at(step) for stream in streams for step in range(25)]
    alone = [draws(random) for random in places]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(draws, places * 5))
    assert together == alone * 5


def test_children_have_their_parents_name_and_step() -> None:
    child = Random(5).at(2).child("rnn").child("weight")
    assert child == Random(5, "rnn.weight", 2)
    assert child.at(0) == Random(5, "rnn.weight")


def test_uniform_moments_and_range() -> None:
    x = Random(0, "uniform").uniform((MANY,))
    assert x.min() >= 0
    assert x.max() < 1
    assert abs(x.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / MANY)
    assert abs(x.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / MANY)
    counts = np.histogram(x, bins=50, range=(0, 1))[0]
    chi_squared = ((counts - MANY / 50) ** 2 / (MANY / 50)).sum()
    assert chi_squared < 49 + 5 * np.sqrt(2 * 49)


def test_uniform_in_a_range() -> None:
    x = Random(0, "range").uniform((100, 100), -3.0, 5.0)
    np.testing.assert_allclose(x, -3 + 8 * Random(0, "range").uniform((100, 100)), rtol=1e-15)
    assert x.min() >= -3
    assert x.max() < 5


def test_normal_moments() -> None:
    x = Random(0, "normal").normal((MANY,))
    assert abs(x.mean()) < 5 / np.sqrt(MANY)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / MANY)
    assert abs((x**3).mean()) < 5 * np.sqrt(15 / MANY)
    assert abs((x**4).mean() - 3) < 5 * np.sqrt(96 / MANY)
    assert abs((np.abs(x) < 1).mean() - 0.6826895) < 5 * np.sqrt(0.217 / MANY)
    half = MANY // 2  # cosines and sines of the same angles
    assert abs((x[:half] * x[half:]).mean()) < 5 / np.sqrt(half)


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (2, 5), (2, 3, 4), ()])
def test_shapes(shape: tuple[int, ...]) -> None:
    random = Random(1)
    assert random.uniform(shape).shape == random.normal(shape).shape == shape
    assert random.keep(shape, 0.3).shape == shape
    assert random.uniform(shape).dtype == random.normal(shape).dtype == np.float64
    assert random.keep(shape, 0.3).dtype == bool


@pytest.mark.parametrize("p", [0.1, 0.5, 0.77])
def test_keep_keeps_its_share(p: float) -> None:
    keep = Random(0, "keep").keep((MANY,), p)
    assert abs(keep.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / MANY) + 1 / 65536
    both = (keep[1:] & keep[:-1]).mean()
    assert abs(both - (1 - p) ** 2) < 10 / np.sqrt(MANY)


def test_keep_by_hand() -> None:
    words = Random(0, "keep").raw(3)
    sixteens = [int(word) >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)]
    for p in (0.25, 0.5):
        expected = [bits >= p * 65536 for bits in sixteens]
        assert Random(0, "keep").keep((12,), p).tolist() == expected


@pytest.mark.parametrize(("p", "kept"), [(0.0, True), (1.0, False)])
def test_keep_at_the_ends(p: float, kept: bool) -> None:
    assert (Random(0, "keep").keep((4 * MANY,), p) == kept).all()


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_a_permutation_holds_every_number_once(count: int) -> None:
    order = Random(0, "shuffle").permutation(count)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(count))


def test_permutations_favour_no_place() -> None:
    firsts = [int(Random(0, "shuffle").at(step).permutation(5)[0]) for step in range(5000)]
    counts = np.bincount(firsts, minlength=5)
    assert (np.abs(counts - 1000) < 5 * np.sqrt(5000 * 0.2 * 0.8)).all()
