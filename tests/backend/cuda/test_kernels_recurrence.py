"""The fused recurrences, run on the CPU through the C++ shim, against the loop in NumPy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import get_backend
from npnlp.backend.cuda import recurrence
from npnlp.backend.cuda.recurrence import STEP_SIDE, Limits, Plan, choose, plan, supports
from npnlp.backend.tuned.loop import TunedPasses
from npnlp.layers import GRU, LSTM, Elman, Packing
from tests.support.reference import draw
from tests.support.shim import KernelError, compiled

NUMPY = get_backend("numpy")
BOUND = {"float32": 1e-5, "float64": 1e-12}
KERNELS, STEPS = ("forward", "backward"), ("forward_step", "backward_step")
Variant = tuple[str, int, int, int, str]
#: Kind, H, sequences and blocks a cluster, dtype.
SMALL: list[Variant] = [
    ("elman_tanh", 20, 4, 1, "float32"), ("elman_tanh", 64, 1, 1, "float32"),
    ("elman_relu", 13, 4, 1, "float64"), ("elman_tanh", 20, 4, 2, "float32"),
    ("gru", 1, 1, 1, "float32"), ("gru", 13, 1, 1, "float64"), ("gru", 64, 4, 1, "float32"),
    ("gru", 30, 1, 4, "float64"), ("lstm", 13, 4, 1, "float64"), ("lstm", 20, 1, 2, "float32"),
    ("lstm", 64, 4, 1, "float32"),
]  # fmt: skip
#: Sizes at which some of the weights are in shared memory.
LARGE: list[Variant] = [
    ("elman_tanh", 256, 1, 1, "float32"), ("gru", 128, 4, 1, "float32"),
    ("lstm", 128, 1, 1, "float32"), ("lstm", 256, 4, 4, "float32"),
]  # fmt: skip
#: A launch for each step: one tile, parts of several, and more than one block of either.
STEPWISE: list[Variant] = [
    ("elman_tanh", 20, 0, 0, "float64"), ("elman_relu", 70, 0, 0, "float32"),
    ("gru", 1, 0, 0, "float32"), ("gru", 45, 0, 0, "float64"), ("lstm", 33, 0, 0, "float32"),
    ("lstm", 64, 0, 0, "float64"),
]  # fmt: skip
#: Another of these has the same kind and dtype, or as many sequences a block; each is compiled.
MORE = {SMALL[1], SMALL[5], SMALL[6], SMALL[10], STEPWISE[2], STEPWISE[4]}
#: Mistakes of the same sort as others, each of which is compiled, too.
MORE_MISTAKES = {"no barrier backward", "no zeros", "of another step", "the last step's state"}


def ordinary_and_slow(
    name: str, values: Iterable[Any], slow: Collection[Any]
) -> pytest.MarkDecorator:
    """A case each, those of ``slow`` left to the longer run."""
    return pytest.mark.parametrize(
        name,
        [pytest.param(v, id=str(v), marks=[pytest.mark.slow] * (v in slow)) for v in values],
    )


H100 = Limits(shared=227 * 1024, clusters=True, multiprocessors=132)


@dataclass
class ShimDevice:
    """In place of :class:`recurrence.Device`; ``seed`` orders the threads."""

    seed: int = 0
    edits: tuple[tuple[str, str], ...] = ()
    missing: int = 0
    limits: Limits = H100
    transfer: str = "barrier"

    def launch(self, chosen: Plan, name: str, blocks: int, arguments: Sequence[Any]) -> None:
        module = compiled(chosen.file, KERNELS, chosen.options, self.edits)
        shared = chosen.shared[name] - self.missing
        module.launch(
            name, (blocks,), (chosen.threads,), arguments, shared, self.seed, chosen.cluster
        )

    def launch_step(
        self, file: str, options: tuple[str, ...], name: str, grid: tuple[int, int],
        arguments: Sequence[Any],
    ) -> None:  # fmt: skip
        module = compiled(file, STEPS, options, self.edits)
        module.launch(name, grid, (STEP_SIDE, STEP_SIDE), arguments, 0, self.seed)


@contextmanager
def on_shim(device: ShimDevice, chosen: Plan | None) -> Iterator[None]:
    with (
        mock.patch.object(recurrence, "device_of", return_value=device),
        mock.patch.object(recurrence, "choose", return_value=chosen),
    ):
        yield


SHIM = ShimDevice()


def tuned(layer: Any) -> TunedPasses:
    passes = NUMPY.recurrent_passes(layer.kind(), layer.hidden_size, layer.dtype)
    assert isinstance(passes, TunedPasses)
    return passes


class Case:
    """A layer, a batch, and everything that NumPy says of them."""

    def __init__(
        self, variant: Variant, lengths: Sequence[int], *, seed: int = 0,
        initial: bool = True, above: bool = True, transfer: str = "barrier",
    ) -> None:  # fmt: skip
        kind, size, places, cluster, dtype = variant
        self.plan = plan(kind, size, places, cluster, dtype, transfer) if places else None
        self.bound = BOUND[dtype]
        cell, _, phi = kind.partition("_")
        kinds = {"elman": Elman, "gru": GRU, "lstm": LSTM}
        self.kind, self.batch = kind, len(lengths)
        self.spare_rows = self.spare_steps = 0
        options: Any = {"nonlinearity": phi} if phi else {}
        self.layer: Any = kinds[cell](3, size, dtype=np.dtype(dtype), **options)
        for index, parameter in enumerate(self.layer.parameters.values()):
            parameter[...] = draw(seed + index, *parameter.shape) / np.sqrt(size)
        self.packing = Packing.of(np.array(lengths), NUMPY)
        rows, states = self.packing.rows, range(len(self.layer.states))

        def drawn(offset: int, *shape: int) -> Any:
            return draw(seed + 20 + offset, *shape).astype(dtype)

        self.x = drawn(0, rows, 3)
        self.initial = [drawn(1 + s, self.batch, size) for s in states] if initial else []
        self.d_hidden = drawn(4, rows, size) if above else None
        self.d_last = tuple(drawn(5 + s, self.batch, size) for s in states)
        self.expected = self.numbers(self.layer)
        exact = self.numbers(self.layer.astype(np.float64))
        #: How far NumPy's own numbers are from those in float64: what no kernel can be held to.
        self.rounding = [
            np.abs(ours - true).max() for ours, true in zip(self.expected, exact, strict=True)
        ]

    def numbers(self, layer: Any) -> list[Any]:
        """What NumPy says, in the dtype of ``layer``."""
        packing, dtype, passes = self.packing, layer.dtype, tuned(layer)

        def sort(states: Any) -> Any:
            return tuple(packing.sort(state.astype(dtype)) for state in states)

        x, initial = self.x.astype(dtype), sort(self.initial) or None
        above = None if self.d_hidden is None else self.d_hidden.astype(dtype)
        arrays = passes._forward(x, layer.weights, initial, packing)
        delta = np.empty((len(x), passes.cell.deltas * layer.hidden_size), dtype)
        d, traces = sort(self.d_last), tuple(np.empty_like(arrays[-1]) for _ in layer.states)
        passes._backward(above, d, delta, arrays, x, layer.weights, layer.d_weights, initial,
                         packing, traces)  # fmt: skip
        return [*arrays, delta, *traces, *(packing.unsort(state) for state in d if initial)]

    def run(self, device: ShimDevice = SHIM, kept: bool = True) -> list[Any]:
        """The same from the kernels; what they leave unwritten is NaN."""
        layer, packing, like = self.layer, self.packing, self.expected[-1]
        rows, spare = packing.rows + self.spare_rows, [0] * self.spare_steps
        empty = np.full((rows, layer.hidden_size), np.nan, dtype=like.dtype)
        ends = [packing.rows] * self.spare_steps
        offsets = np.array([*packing.offsets, *ends], dtype=np.int32)
        sizes = np.array([*packing.batch_sizes, *spare], dtype=np.int32)
        common = (offsets, sizes, self.batch, len(sizes))
        w_hh = layer.weight("weight_hh")
        extra = layer.weight("bias_hh")[layer.rows_of("new")] if self.kind == "gru" else None
        states = tuple(packing.sort(state) for state in self.initial) or None
        x, above = (
            array if array is None else np.concatenate([array, array[: self.spare_rows]])
            for array in (self.x, self.d_hidden)
        )
        assert x is not None
        passes, (w_ih, _, b_ih, b_hh) = tuned(layer), layer.weights
        cell = passes.cell
        u = passes._project(x, cell.scaled(w_ih), cell.scaled(cell.bias_of_input(b_ih, b_hh)))
        memory = (u, *(empty.copy() for _ in cell.arrays[1:]))
        delta = np.full((rows, cell.deltas * layer.hidden_size), np.nan, like.dtype)
        d = tuple(packing.sort(state) for state in self.d_last)
        keep = tuple(empty.copy() for _ in layer.states) if kept else None
        with on_shim(device, self.plan):
            recurrence.forward(np, self.kind, memory, cell.scaled(w_hh), extra, states, *common)
            recurrence.backward(
                np, self.kind, memory, w_hh, above, d, delta, keep, *common, states,
            )  # fmt: skip
        d_initial = [packing.unsort(state) for state in d] if self.initial else []
        return [*memory, delta, *(keep or self.expected_kept), *d_initial]

    @property
    def expected_kept(self) -> list[Any]:
        first = len(tuned(self.layer).cell.arrays) + 1
        return self.expected[first : first + len(self.layer.states)]

    def error(self, found: Sequence[Any]) -> float:
        """The largest difference, relative to each array's largest number. NaN is infinite.

        A gradient that has all but vanished is held to a thousandth of the unit it started from.
        Where a gate is saturated, the last place of ``z`` is many of ``1 - z``: of a difference, as
        much is allowed as twice what NumPy itself is off.
        """
        worst = [
            np.maximum(np.abs(ours - theirs).max() - 2 * own, 0) / max(1e-3, np.abs(theirs).max())
            for ours, theirs, own in zip(found, self.expected, self.rounding, strict=True)
        ]
        return float(np.nan_to_num(worst, nan=np.inf).max())


def check(variant: Variant, lengths: list[int], seed: int, kept: bool, **options: Any) -> None:
    case = Case(variant, lengths, seed=seed, **options)
    assert case.error(case.run(ShimDevice(seed), kept)) < case.bound


LENGTHS = st.lists(st.integers(1, 17), min_size=1, max_size=9)
FLAGS = {"initial": st.booleans(), "above": st.booleans(), "kept": st.booleans()}


@ordinary_and_slow("variant", [*SMALL, *STEPWISE], MORE)
@settings(max_examples=12)
@given(lengths=LENGTHS, seed=st.integers(0, 1000), **FLAGS)
def test_kernels_equal_numpy(
    variant: Variant, lengths: list[int], seed: int, initial: bool, above: bool, kept: bool
) -> None:
    check(variant, lengths, seed, kept, initial=initial, above=above)


@pytest.mark.parametrize("variant", LARGE, ids=str)
@pytest.mark.parametrize("given_states", [True, False])
def test_large_kernels_equal_numpy(variant: Variant, given_states: bool) -> None:
    check(variant, [3, 17, 1, 5, 6], 3, kept=True, initial=given_states, above=given_states)


def test_a_long_batch_finds_its_lengths() -> None:
    """More steps than a block has threads: the lengths are counted in several rounds."""
    case = Case(("gru", 1, 1, 1, "float32"), [200, 3, 70, 64, 65])
    assert case.error(case.run()) < case.bound


def test_a_step_of_more_sequences_than_a_tile() -> None:
    lengths = np.random.default_rng(1).integers(1, 5, 40).tolist()
    check(("gru", 45, 0, 0, "float32"), lengths, 1, kept=True)


@ordinary_and_slow("variant", [*SMALL, LARGE[0], *STEPWISE], MORE)
def test_no_order_of_the_threads_changes_a_bit(variant: Variant) -> None:
    case = Case(variant, [5, 3, 5, 1, 2])
    first, *others = (case.run(ShimDevice(seed)) for seed in range(6))
    for other in others:
        for one, another in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("kind", ["elman_tanh", "lstm"])
def test_a_sequence_has_the_same_bits_in_any_batch_block_and_cluster(kind: str) -> None:
    """The order in which a sum is added up depends on H alone."""
    together = {"elman_tanh": (4, 2), "lstm": (1, 2)}[kind]
    apart = {"elman_tanh": (4, 1), "lstm": (4, 1)}[kind]
    without: Any = {"initial": False, "above": False}
    case = Case((kind, 20, *together, "float32"), [4, 4, 4, 4, 4], **without)
    alone = Case((kind, 20, *apart, "float32"), [4], **without)
    alone.x, alone.d_last = case.x[3::5], tuple(d[3:4] for d in case.d_last)
    for ours, theirs in zip(alone.run(), case.run(), strict=True):
        np.testing.assert_array_equal(ours, theirs[..., 3::5, :])


#: Mistakes planted in the source, each with what it is.
MISTAKES = {
    "no barrier forward": (
        "if (needed) exchange.wait(t);  // h_t is there, and nobody needs h_{t-1} any more", ""),
    "no barrier backward": (
        "exchange.wait(turn);  // delta_t is there, and nobody needs delta_{t+1} any more", ""),
    "one buffer": ("((t + 1) % 2)", "(t % 2)"),
    "no zeros": ("buffers[i] = 0;", "buffers[i] += 0;"),
    "a barrier that not all reach": (
        "if (needed) exchange.wait(t);", "if (needed && lane) exchange.wait(t);"),
    "a cluster that does not wait": ("            cluster_wait();", "            __syncthreads();"),
}  # fmt: skip


#: The same where each step is a launch.
STEP_MISTAKES = {
    "no barrier before the product": (
        "                        : real(0);\n        }\n        __syncthreads();",
        "                        : real(0);\n        }"),
    "a sequence that has ended goes on": (
        "input < INPUTS && place + line < later", "input < INPUTS && place + line < size"),
    "of another step": ("offsets[t + 1] + place + line", "offsets[t] + place + line"),
    "nothing passes by": ("d_states[s][at(b, mine)] = d[s]", "d_states[s][at(b, mine)] = 0 * d[s]"),
    "the last step's state": ("t > 0 ? hidden + at(offsets[t - 1], 0)", "t > 0 ? hidden"),
    "not cleared": ("array[i] = 0;", "(void)array[i];"),
}  # fmt: skip


@ordinary_and_slow("mistake", STEP_MISTAKES, MORE_MISTAKES)
def test_a_planted_mistake_in_a_step_is_caught(mistake: str) -> None:
    case = Case(("lstm", 40, 0, 0, "float32"), [6, 5, 6, 2, 1] * 7, initial=False)
    case.spare_rows = 5
    right = case.run()
    device = ShimDevice(3, (STEP_MISTAKES[mistake],))
    wrong = case.run(device)
    same = [np.array_equal(a, b, equal_nan=True) for a, b in zip(wrong, right, strict=True)]
    assert not all(same)


@ordinary_and_slow("mistake", MISTAKES, MORE_MISTAKES)
def test_a_planted_mistake_is_caught(mistake: str) -> None:
    cluster = 2 if "cluster" in mistake else 1
    case = Case(("elman_tanh", 20, 4, cluster, "float32"), [6, 5, 6, 2, 1], initial=False)
    caught, edits = 0, (MISTAKES[mistake],)
    for seed in range(10):
        try:
            caught += case.error(case.run(ShimDevice(seed, edits))) > case.bound
        except KernelError:
            caught += 1
    assert caught >= 9


@ordinary_and_slow("variant", [*SMALL, LARGE[3], *STEPWISE], MORE)
def test_rows_and_steps_to_spare_change_no_bit_and_become_zero(variant: Variant) -> None:
    """A captured launch is for more rows and steps than most batches have."""
    case = Case(variant, [5, 3, 5, 1, 2])
    tight, spare = case.run(), 7
    rows, arrays = case.packing.rows, len(tuned(case.layer).cell.arrays)
    case.spare_rows, case.spare_steps = spare, 4
    loose = case.run()
    for number, (few, many) in enumerate(zip(tight, loose, strict=True)):
        of_rows = number < 1 + arrays + len(case.layer.states)
        np.testing.assert_array_equal(many[..., :rows, :] if of_rows else many, few)
    for array in (loose[arrays - 1], loose[arrays]):
        np.testing.assert_array_equal(array[rows:], np.zeros((spare, array.shape[1])))


def test_too_little_shared_memory_is_caught() -> None:
    case = Case(SMALL[0], [2])
    with pytest.raises(KernelError, match="past the end"):
        case.run(ShimDevice(missing=16))


def test_what_is_on_chip_and_what_is_supported() -> None:
    a100 = {"elman_tanh": 256, "elman_relu": 256, "gru": 144, "lstm": 128}
    h100 = {"elman_tanh": 768, "elman_relu": 768, "gru": 448, "lstm": 384}
    turing = {"elman_tanh": 192, "gru": 120, "lstm": 96}  # 7.5
    ada = {"elman_tanh": 192, "gru": 128, "lstm": 112}  # 8.6 and 8.9
    blackwell = {"elman_tanh": 576, "gru": 320, "lstm": 256}  # 12.0
    for limits, largest in (
        (Limits(), a100), (H100, h100), (Limits(64 * 1024), turing), (Limits(99 * 1024), ada),
        (Limits(99 * 1024, clusters=True), blackwell),
    ):  # fmt: skip
        for kind, most in largest.items():
            sizes = [size for size in range(1, 800) if choose(kind, size, 1, limits)]
            assert sizes == list(range(1, most + 1))
            crowded = [choose(kind, size, 10**5, limits) for size in sizes]
            assert all(found is not None and found.fits(limits) for found in crowded)
    assert choose("gru", 64, 1, H100, "float64") is None
    assert choose("lstm", 128, 1, Limits(shared=99 * 1024)) is None
    assert supports("gru", "float64")
    assert not supports("gru_reset_before", "float32")
    assert not supports("lstm", "complex128")


def test_a_crowded_device_gets_four_sequences_a_block() -> None:
    def chosen(kind: str, size: int, batch: int) -> tuple[int, int]:
        found = choose(kind, size, batch, H100)
        assert found is not None
        return found.places, found.cluster

    assert [chosen("lstm", 64, batch)[0] for batch in (1, 264, 265, 9999)] == [1, 1, 4, 4]
    assert chosen("elman_tanh", 256, 9999) == (1, 1)
    assert chosen("lstm", 256, 66) == (1, 4)
    assert chosen("lstm", 256, 67) == (4, 4)


def test_a_result_never_goes_to_a_copy() -> None:
    w_hh, ints = np.zeros((20, 20), np.float32), np.ones(2, np.int32)
    turned = np.zeros((20, 2), dtype=np.float32).T
    with pytest.raises(ValueError, match="not contiguous"):
        recurrence.forward(np, "elman_tanh", (turned,), w_hh, None, None, ints, ints, 1, 2)


def test_a_launch_asks_for_shared_memory_once() -> None:
    cupy = mock.MagicMock()
    cupy.cuda.Device().compute_capability = "90"
    cupy.cuda.Device().attributes = {
        "MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 227 * 1024,
    }  # fmt: skip
    cupy.cuda.runtime.getDevice.return_value = 77
    with mock.patch.dict(recurrence._devices, clear=True):
        device = recurrence.device_of(cupy)
        assert recurrence.device_of(cupy) is device
    assert device.limits == H100
    kernel = cupy.RawModule().get_function()
    kernel.max_dynamic_shared_size_bytes = 48 * 1024
    large, small = plan("lstm", 128, 4), plan("lstm", 64, 1)
    device.launch(small, "forward", 3, [1])
    assert kernel.max_dynamic_shared_size_bytes == 48 * 1024
    device.launch(large, "forward", 3, [1])
    assert kernel.max_dynamic_shared_size_bytes == large.shared["forward"] > 48 * 1024
    kernel.assert_called_with((3,), (512,), (1,), shared_mem=large.shared["forward"])
    device.launch_step("lstm.cu", (), "forward_step", (4, 2), [1])
    kernel.assert_called_with((4, 2), (16, 16), (1,))
