"""Numbers between the blocks of a cluster (``exchange.cuh``): by barriers, and by counted bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend.cuda import recurrence
from npnlp.backend.cuda.recurrence import TRANSFERS, choose, plan
from tests.backend.cuda.test_kernels_recurrence import H100, Case, ShimDevice, ordinary_and_slow
from tests.support.shim import KernelError

#: Kind, H, sequences and blocks a cluster. Of 20 units a half of the last block's warps have none;
#: of 20 in clusters of 4 and 30 in clusters of 8, the last blocks have none.
VARIANTS = [
    ("elman_tanh", 20, 4, 2), ("elman_relu", 20, 1, 4), ("gru", 30, 4, 8), ("lstm", 20, 1, 4),
    ("lstm", 64, 4, 4),
]  # fmt: skip
MORE = {VARIANTS[1], VARIANTS[4]}
LENGTHS = [5, 3, 5, 1, 2, 7, 7, 1]


def case(variant: tuple[str, int, int, int], transfer: str, **options: Any) -> Case:
    return Case((*variant, "float32"), LENGTHS, transfer=transfer, **options)


@ordinary_and_slow("variant", VARIANTS, MORE)
@pytest.mark.parametrize("initial", [True, False])
def test_counted_bytes_give_what_a_barrier_gives_to_the_bit(
    variant: tuple[str, int, int, int], initial: bool
) -> None:
    expected = case(variant, "barrier", initial=initial)
    right, sending = expected.run(), case(variant, "async", initial=initial)
    assert expected.error(right) < expected.bound
    for seed in range(4):
        for ours, theirs in zip(sending.run(ShimDevice(seed)), right, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_one_step_and_steps_to_spare() -> None:
    """The first step of all is the last; and a captured launch has more steps than a batch."""
    one, more = (Case(("lstm", 20, 1, 4, "float32"), [1, 1], transfer="async") for _ in range(2))
    more.spare_steps, more.spare_rows = 3, 2
    assert one.error(one.run(ShimDevice(1))) < one.bound
    for few, many in zip(one.run(), more.run(ShimDevice(2)), strict=True):
        np.testing.assert_array_equal(few, many[..., : few.shape[-2], :])


#: Mistakes planted in the source, each with what it is.
MISTAKES = {
    "one buffer": ("((t + 1) % 2)", "(t % 2)"),
    "no wait": ("mbarrier_wait(counters + turn % 2, turn / 2 % 2);", "(void)turn;"),
    "the other parity": ("turn / 2 % 2);", "1 - turn / 2 % 2);"),
    "one mbarrier": ("cluster_send(address, rank, value, counters + turn % 2)",
                     "cluster_send(address, rank, value, counters + turn * 0)"),
    "bytes of sequences that have ended": (
        "return left < PLACES ? left : PLACES", "return left < PLACES ? PLACES : PLACES"),
    "warps without a unit wait, too": ("return !ASYNC ||", "return !ASYNC || ALL ||"),
    "to blocks without a unit": ("(HIDDEN + UNITS - 1) / UNITS;", "CLUSTER;"),
    "sent for nobody": (
        "            if (needed)\n                exchange.template publish<PLACES == 1 ? LANES",
        "            if (true)\n                exchange.template publish<PLACES == 1 ? LANES"),
    "not everybody is there yet": (
        "        arrive_all();\n        wait_all();", "        __syncthreads();"),
}  # fmt: skip
#: A warp has to lag two turns behind for this one.
RARE = {"warps without a unit wait, too"}
#: Mistakes of the same sort as others, each of which is compiled, too.
MORE_MISTAKES = {"the other parity", "one mbarrier", "one buffer"}


@ordinary_and_slow("mistake", MISTAKES, MORE_MISTAKES)
def test_a_planted_mistake_is_caught(mistake: str) -> None:
    """By other numbers, by threads that wait for ever, or by bytes that nobody expects."""
    places, cluster = (1, 4) if "blocks" in mistake else (4, 2)
    wrong = case(("elman_tanh", 20, places, cluster), "async", initial=False)
    caught = 0
    for seed in range(10):
        try:
            found = wrong.run(ShimDevice(seed, (MISTAKES[mistake],)))
            caught += wrong.error(found) > wrong.bound
        except KernelError:
            caught += 1
    assert caught >= (2 if mistake in RARE else 9)


def test_a_transfer_is_chosen_by_name() -> None:
    barrier, sending = (choose("lstm", 256, 1, H100, transfer=name) for name in TRANSFERS[:2])
    assert barrier is not None and sending is not None  # noqa: PT018
    assert barrier == choose("lstm", 256, 1, H100)
    assert set(sending.options) - set(barrier.options) == {"-DTRANSFER_ASYNC"}
    assert {sending.shared[name] - barrier.shared[name] for name in barrier.shared} == {16}
    assert plan("lstm", 64, 1) == plan("lstm", 64, 1, transfer="async")  # one block needs none
    assert choose("lstm", 64, 1, H100, transfer="stepwise") is None
    with pytest.raises(ValueError, match=r"transfer is 'fence'; .* barrier, async, stepwise"):
        choose("lstm", 64, 1, H100, transfer="fence")


def test_a_device_launches_with_its_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    """``device_of(xp).transfer`` is what a benchmark sets."""

    class Noting(ShimDevice):
        launched: list[str]

        def launch(self, chosen: Any, name: str, *_: Any) -> None:
            self.launched.append("async" if "-DTRANSFER_ASYNC" in chosen.options else "barrier")

        def launch_step(self, *_: Any) -> None:
            self.launched.append("stepwise")

    device = Noting()
    monkeypatch.setattr(recurrence, "device_of", lambda xp: device)
    w_hh, ints = np.zeros((512, 512), np.float32), np.ones(1, np.int32)
    rows = np.zeros((1, 512), np.float32)
    for device.transfer in TRANSFERS:
        device.launched = []
        recurrence.forward(np, "elman_tanh", (rows,), w_hh, None, None, ints, ints, 1, 1)
        assert device.launched == [device.transfer]
