"""The transformer encoder: gradients, PyTorch, other batches, and its probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Array, Backend, Random
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import FlatParameters, Packing
from npnlp.layers.attention.attention import AttentionTrace
from npnlp.layers.attention.transformer import TransformerCache, TransformerEncoder
from npnlp.layers.attention.transformer_block import BlockCache, TransformerBlock
from npnlp.training.optimizers import SGD
from tests.support.packed import (
    NUMPY,
    Outputs,
    assert_gradients,
    batch,
    dependence,
    scrambled,
    set_parameters,
    stored,
    unbatch,
)
from tests.support.reference import Floats, assert_close, draw, host, pack, pad

LENGTHS = np.array([3, 1, 5])
MASK = Random(5, "mask")


def make(backend: Backend = NUMPY, kind: Any = np.float64, **changed: Any) -> Any:
    sizes = {"num_layers": 2, "num_heads": 2, "feedforward_size": 5, "max_positions": 4} | changed
    return scrambled(TransformerEncoder(3, 4, backend=backend, dtype=kind, **sizes))


def run(layer: Any, x: Sequence[Floats], seeds: Sequence[Floats]) -> tuple[Outputs, Outputs]:
    """Each output is the hidden states with the last one once more below them."""
    data, packing = batch(x, layer.backend)
    (hidden, last), cache = layer.forward(data, packing=packing)
    d_hidden, _ = batch([seed[:, :4] for seed in seeds], layer.backend)
    d_last = layer.backend.asarray(np.array([seed[0, :4] for seed in seeds]))
    d_x = layer.backward((d_hidden, d_last), cache)
    lasts = layer.backend.to_numpy(last)
    y = [np.vstack([h, lasts[b]]) for b, h in enumerate(unbatch(hidden, packing))]
    return y, unbatch(d_x, packing)


@pytest.mark.parametrize("random", [None, MASK])
def test_gradients(random: Random | None, backend: Backend) -> None:
    layer, packing = make(backend, dropout=0.3), Packing.of(LENGTHS, backend)
    x = backend.asarray(draw(0, 9, 3))
    report = check_gradients(layer, x, packing=packing, random=random)
    assert report.passed, str(report)


def test_gradients_by_central_difference() -> None:
    layer, packing = make(), Packing.of(LENGTHS, NUMPY)
    report = check_gradients(layer, draw(0, 9, 3), packing=packing, method="central")
    assert report.passed, str(report)


def test_gradients_through_a_table(backend: Backend) -> None:
    layer, packing = make(backend, num_layers=1), Packing.of(LENGTHS, backend)
    tokens = backend.asarray(np.array([0, 4, 1, 1, 0, 3, 1, 4, 4]))
    table = backend.asarray(draw(0, 5, 3))
    report = check_gradients(layer, LookedUp(table, tokens), packing=packing, random=MASK)
    assert report.passed, str(report)


def test_a_table_is_the_same_as_its_rows(backend: Backend) -> None:
    layer, packing = make(backend), Packing.of(LENGTHS, backend)
    tokens, table = np.array([0, 4, 1, 1, 0, 3, 1, 4, 4]), draw(0, 5, 3)
    dy = (backend.asarray(draw(1, 9, 4)), None)
    found = []
    for x, looked_up in ((table, backend.asarray(tokens)), (table[tokens], None)):
        layer.zero_grads()
        rows: Any = backend.asarray(x)
        rows = rows if looked_up is None else LookedUp(rows, looked_up)
        (hidden, last), cache = layer.forward(rows, packing=packing)
        d_x = backend.to_numpy(layer.backward(dy, cache))
        if looked_up is None:
            d_x = np.array([d_x[tokens == token].sum(axis=0) for token in range(5)])
        arrays = [backend.to_numpy(hidden), backend.to_numpy(last), d_x]
        found.append(arrays + list(host(backend, layer.grads).values()))
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, floor=1.0)


def test_adjoint_at_full_size() -> None:
    layer = scrambled(TransformerEncoder(8, 16, num_heads=2, max_positions=600, dtype=np.float64))
    packing = Packing.of(np.array([700, 1024]), NUMPY)
    report = check_adjoint(layer, draw(0, packing.rows, 8), packing=packing)
    assert report.passed, str(report)


def test_other_sequences_change_nothing(backend: Backend) -> None:
    layer = scrambled(
        TransformerEncoder(5, 4, num_heads=2, max_positions=4, backend=backend, dtype=np.float64)
    )
    assert dependence(run, layer, 5) < 1e-12


def test_positions_past_the_table_share_its_last_row() -> None:
    layer = make(max_positions=3)
    x, packing = draw(0, 6, 3), Packing.of(np.array([6]), NUMPY)
    (hidden, _), cache = layer.forward(x, packing=packing)
    assert cache.positions.tolist() == [0, 1, 2, 2, 2, 2]
    swapped = x.copy()
    swapped[[3, 4]] = x[[4, 3]]
    (other, _), _ = layer.forward(swapped, packing=packing)
    assert_close(other[[0, 1, 2, 4, 3, 5]], hidden)  # they do not know their order
    swapped = x.copy()
    swapped[[0, 1]] = x[[1, 0]]
    (other, _), _ = layer.forward(swapped, packing=packing)
    assert np.abs(other[5] - hidden[5]).max() > 1e-3  # the others do


def test_dropout_is_drawn_anew_for_every_place_and_not_in_evaluation(backend: Backend) -> None:
    layer, packing = make(backend, dropout=0.5), Packing.of(LENGTHS, backend)
    x = backend.asarray(draw(0, 9, 3))

    def hidden(random: Random | None) -> tuple[Floats, TransformerCache]:
        (found, _), cache = layer.forward(x, packing=packing, random=random)
        return backend.to_numpy(found), cache

    plain, _ = hidden(None)
    dropped, cache = hidden(MASK)
    np.testing.assert_array_equal(dropped, hidden(MASK)[0])
    assert np.abs(dropped - hidden(MASK.at(1))[0]).max() > 0.1
    assert np.abs(dropped - plain).max() > 0.1
    scales = [cache.dropout.scale] + [
        place.scale for block in cache.blocks for place in (block.dropout1, block.dropout2)
    ]
    masks = {backend.to_numpy(scale).tobytes() for scale in scales if scale is not None}
    assert len(masks) == 5


@pytest.mark.parametrize("given", [(True, False), (False, True), (False, False)])
def test_an_output_nobody_used_counts_as_zero(given: tuple[bool, bool], backend: Backend) -> None:
    layer, packing = make(backend), Packing.of(LENGTHS, backend)
    _, cache = layer.forward(backend.asarray(draw(0, 9, 3)), packing=packing)
    full = (backend.asarray(draw(1, 9, 4)), backend.asarray(draw(2, 3, 4)))
    before = backend.to_numpy(full[0]).copy()
    none = tuple(d if used else None for d, used in zip(full, given, strict=True))
    zero = tuple(d if used else d * 0 for d, used in zip(full, given, strict=True))
    assert_close(
        layer.backward(none, cache), backend.to_numpy(layer.backward(zero, cache)), backend=backend
    )
    np.testing.assert_array_equal(backend.to_numpy(full[0]), before)


def test_a_probe_sees_every_layer_from_the_last_to_the_first(backend: Backend) -> None:
    layer, packing = make(backend, num_layers=3), Packing.of(LENGTHS, backend)
    (hidden, _), cache = layer.forward(backend.asarray(draw(0, 9, 3)), packing=packing)
    dy = (hidden, None)
    plain = backend.to_numpy(layer.backward(dy, cache))
    traces: list[AttentionTrace] = []
    np.testing.assert_array_equal(plain, backend.to_numpy(layer.backward(dy, cache, traces.append)))
    assert [trace.layer for trace in traces] == [2, 1, 0]
    for trace in traces:
        assert trace.cache is cache.blocks[trace.layer].self_attn
        assert trace.d_heads.shape == (9, 2, 2)
        assert np.abs(backend.to_numpy(trace.d_heads)).max() > 0


def test_names_are_pytorchs() -> None:
    layer = TransformerEncoder(3, 8, num_layers=2)
    block = ["self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight",
             "self_attn.out_proj.bias", "linear1.weight", "linear1.bias", "linear2.weight",
             "linear2.bias", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
    ]  # fmt: skip
    assert list(layer.parameters) == [
        "input.weight", "input.bias", "position.weight",
        *(f"layers.{index}.{name}" for index in range(2) for name in block),
        "norm.weight", "norm.bias",
    ]  # fmt: skip
    assert layer.parameters["layers.1.linear1.weight"].shape == (32, 8)
    table = layer.parameters["position.weight"]
    assert table.shape == (64, 8)
    assert abs(table.std() / 0.02 - 1) < 0.1


def test_float32_stays_float32(backend: Backend) -> None:
    layer = make(backend, np.float32, dropout=0.5)
    x = backend.asarray(draw(0, 9, 3).astype(np.float32))
    packing = Packing.of(LENGTHS, backend)
    (hidden, last), cache = layer.forward(x, packing=packing, random=MASK)
    assert hidden.dtype == last.dtype == np.float32
    assert layer.backward((None, last), cache).dtype == np.float32
    assert all(grad.dtype == np.float32 for grad in layer.grads.values())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0; it has to be"),
        ({"max_positions": 0}, "max_positions is 0; it has to be"),
        ({"feedforward_size": 0}, "feedforward_size is 0; it has to be"),
        ({"num_heads": 3}, "num_heads is 3; .* divides embed_size, 4"),
        ({"dropout": 1.0}, "p of Dropout is 1.0"),
    ],
)
def test_bad_settings_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**changed)


@pytest.mark.parametrize("x", [draw(0, 4, 3), LookedUp(draw(0, 7, 3), np.zeros(4, dtype=int))])
def test_rows_of_another_packing_are_refused(x: Any) -> None:
    with pytest.raises(InputError, match="x has 4 rows for a packing of 9 rows"):
        make().forward(x, packing=Packing.of(LENGTHS, NUMPY))


def test_two_updates_through_one_buffer_equal_two_on_each_array(backend: Backend) -> None:
    layer, alone = make(backend), make(backend)
    updates = SGD(FlatParameters({"encoder": layer}, backend), backend, 0.05)
    x, packing = backend.asarray(draw(0, 9, 3)), Packing.of(LENGTHS, backend)
    dy = (None, backend.asarray(draw(1, 3, 4)))
    for _ in range(2):
        for each in (layer, alone):
            (_, last), cache = each.forward(x, packing=packing)
            each.zero_grads()
            each.backward(dy, cache)
        updates.step()
        for name, value in alone.parameters.items():
            value -= 0.05 * alone.grads[name]
    (_, expected), _ = alone.forward(x, packing=packing)
    (_, found), _ = layer.forward(x, packing=packing)
    assert np.abs(backend.to_numpy(found) - backend.to_numpy(last)).max() > 1e-3
    assert_close(found, backend.to_numpy(expected), backend=backend)


def encoder_of(o: dict[str, Any], heads: int, backend: Backend, kind: str) -> TransformerEncoder:
    positions, hidden = o["position.weight"].shape
    return TransformerEncoder(
        o["x"].shape[2], hidden,
        num_layers=len([name for name in o if name.startswith("layers.")]) // 12,
        num_heads=heads, feedforward_size=len(o["layers.0.linear1.bias"]),
        max_positions=positions, backend=backend, dtype=kind,
    )  # fmt: skip


def assert_encoder(
    o: dict[str, Any], heads: int, backend: Backend, kind: str = "float64", updates: int = 0
) -> None:
    lengths = o["lengths"].tolist()
    bound = 1e-12 if kind == "float64" else 3e-5  # float32 errors of a dozen layers add up
    layer = encoder_of(o, heads, backend, kind)
    first = {name: o[f"first_{name}" if updates else name] for name in layer.parameters}
    set_parameters(layer, first)
    descent = SGD(FlatParameters({"encoder": layer}, backend), backend, 0.1)
    x, d_hidden = (backend.asarray(pack(o[name], lengths).astype(kind)) for name in ("x", "dy"))
    for update in range(updates + 1):
        if update:
            descent.step()
        layer.zero_grads()
        (y, last), cache = layer.forward(x, packing=Packing.of(o["lengths"], backend))
        d_x = layer.backward((d_hidden, backend.asarray(o["d_last"].astype(kind))), cache)
    assert_close(backend.to_numpy(y), pack(o["y"], lengths), bound, floor=1.0)
    assert_close(last, o["last"], bound, backend, floor=1.0)
    assert_close(pad(backend.to_numpy(d_x), lengths), o["d_x"], bound, floor=1.0)
    assert_gradients(layer, o, bound)


def test_stored(backend: Backend, dtype: np.dtype[Any]) -> None:
    assert_encoder(stored("transformer"), 2, backend, dtype.name)


@pytest.mark.peers
@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    heads=st.integers(1, 3),
    size=st.integers(2, 3),
    layers=st.integers(1, 3),
    positions=st.integers(1, 9),
    seed=st.integers(0, 2**30),
)
def test_live(
    lengths: list[int], heads: int, size: int, layers: int, positions: int, seed: int
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.oracles.attention import make_oracles

    o = make_oracles.transformer(seed, lengths, heads, size, layers, positions)
    assert_encoder(o, heads, NUMPY)


@pytest.mark.peers
def test_live_through_two_updates() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.oracles.attention import make_oracles

    assert_encoder(make_oracles.transformer(3, updates=2), 2, NUMPY, updates=2)


class WithoutStraightWay(TransformerBlock):
    """Forgets that a sum hands its gradient to both of its terms."""

    def backward(self, dy: Array, cache: BlockCache, probe: Any = None) -> Array:
        wrong: Array = super().backward(dy, cache, probe) - dy
        return wrong


class WithoutShiftedLast(TransformerEncoder):
    """Puts the gradient of the last states at the caller's places, not at their rows."""

    def _join_gradients(self, dy: Any, cache: TransformerCache) -> Array:
        joined: Array = dy[0].copy()
        joined[: len(cache.packing.lengths)] += dy[1]
        return joined


def test_planted_mistakes_are_caught() -> None:
    x, packing = draw(0, 9, 3), Packing.of(LENGTHS, NUMPY)
    block = scrambled(WithoutStraightWay(4, num_heads=2, feedforward_size=5, dtype=np.float64))
    assert not check_gradients(block, draw(0, 9, 4), packing=packing).passed
    assert not check_adjoint(block, draw(0, 9, 4), packing=packing).passed
    encoder = scrambled(WithoutShiftedLast(3, 4, num_heads=2, dtype=np.float64))
    assert not check_gradients(encoder, x, packing=packing).passed
    assert not check_adjoint(encoder, x, packing=packing).passed


def test_two_norms_exchanged_are_caught() -> None:
    """Each has a right gradient wherever it stands: only an oracle tells."""
    o = stored("transformer")
    one, other = "layers.0.norm1.weight", "layers.0.norm2.weight"
    o[one], o[other] = o[other], o[one]
    with pytest.raises(AssertionError, match="relative error"):
        assert_encoder(o, 2, NUMPY)
