"""Gradient flow by attention head, against attention in loops and the chain rule by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.gradients.flow import COLUMNS, gradient_flow
from npnlp.gradients.flow import merge as merge_flows
from npnlp.gradients.heads import HEAD_COLUMNS, HeadFlow, head_flow, merge
from npnlp.layers import Packing
from npnlp.layers.attention.attention import AttentionTrace, MultiHeadAttention
from npnlp.layers.attention.transformer import TransformerEncoder
from tests.support.reference import Floats, assert_close, draw, pack, packed_order

E, HEADS = 6, 3
LENGTHS = [3, 5, 1, 5]


def traced(
    lengths: list[int], columns: slice = slice(None), backend: Backend | None = None
) -> tuple[MultiHeadAttention, Floats, Floats, AttentionTrace]:
    """The layer, ``x`` and ``dL/dy``, both padded ``(T, B, E)``, and what the probe saw."""
    layer = MultiHeadAttention(E, HEADS, backend=backend, dtype=np.float64, random=Random(1))
    padded = [draw(seed, 5, 4, E)[: max(lengths), columns] for seed in (0, 1)]
    x, dy = (layer.backend.asarray(pack(rows, lengths)) for rows in padded)
    packing = Packing.of(np.array(lengths), layer.backend)
    _, cache = layer.forward(x, packing=packing)
    traces: list[AttentionTrace] = []
    layer.backward(dy, cache, traces.append)
    return layer, padded[0], padded[1], traces[0]


def attention_of_the_last(layer: MultiHeadAttention, x: Floats, head: int) -> list[float]:
    """The weight of each step of one sequence ``x (L, E)`` for its last query, unit by unit."""
    weight, bias = layer.parameters["in_proj_weight"], layer.parameters["in_proj_bias"]
    size = E // HEADS
    projected = [[float(w @ row + b) for w, b in zip(weight, bias, strict=True)] for row in x]
    q = projected[-1][head * size : (head + 1) * size]
    scores = [
        sum(a * b for a, b in zip(q, row[E + head * size : E + (head + 1) * size], strict=True))
        / math.sqrt(size)
        for row in projected
    ]
    exponentials = [math.exp(score) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def test_the_attention_of_the_own_last_query_and_the_gradient_of_each_head() -> None:
    layer, x, dy, trace = traced(LENGTHS)
    table = head_flow(trace).table()
    out, size = layer.parameters["out_proj.weight"], E // HEADS
    expected = np.zeros((HEADS, max(LENGTHS), len(HEAD_COLUMNS)))
    for head in range(HEADS):
        for lag in range(max(LENGTHS)):
            running = [b for b, length in enumerate(LENGTHS) if length > lag]
            weights, norms = [], []
            for b in running:
                length, step = LENGTHS[b], LENGTHS[b] - 1 - lag
                weights.append(attention_of_the_last(layer, x[:length, b], head)[step])
                d_o = out.T @ dy[step, b]
                norms.append(np.linalg.norm(d_o[head * size : (head + 1) * size]))
            expected[head, lag] = lag, np.mean(weights), np.mean(norms)
    assert_close(table, expected)


def test_the_attention_of_a_sequence_adds_up_to_one() -> None:
    found = head_flow(traced(LENGTHS)[3])
    for b in range(len(LENGTHS)):
        rows = [row for row, place in enumerate(packed_order(LENGTHS)) if place[1] == b]
        assert_close(found.attention[rows].sum(axis=0), np.ones(HEADS))


def test_rows_are_the_table_with_layer_and_head() -> None:
    found = head_flow(traced(LENGTHS)[3])
    rows = pd.DataFrame(found.rows())
    assert list(rows) == ["layer", "head", *HEAD_COLUMNS]
    for head in range(HEADS):
        of_head = rows[rows["head"] == head][list(HEAD_COLUMNS)]
        np.testing.assert_array_equal(of_head, found.table()[head])


def test_two_batches_merged_are_one() -> None:
    traces = [traced(LENGTHS[rows], rows)[3] for rows in (slice(0, 1), slice(1, 4))]
    whole = traced(LENGTHS)[3]
    merged: HeadFlow = merge([head_flow(trace) for trace in traces])
    assert_close(merged.table(), head_flow(whole).table())
    flows = merge_flows([gradient_flow(trace) for trace in traces])
    np.testing.assert_allclose(flows.table(), gradient_flow(whole).table(), rtol=1e-12)


def test_every_backend_shows_the_same(backend: Backend) -> None:
    seen = [traced(LENGTHS, backend=place)[3] for place in (get_backend("numpy"), backend)]
    assert_close(head_flow(seen[1]).table(), head_flow(seen[0]).table())
    assert_close(gradient_flow(seen[1]).hidden_grad, gradient_flow(seen[0]).hidden_grad)


def test_the_flow_of_an_attention_layer_is_that_of_all_heads_and_the_rest_is_nan() -> None:
    trace = traced(LENGTHS)[3]
    flow, heads = gradient_flow(trace), head_flow(trace)
    np.testing.assert_array_equal(flow.lags, heads.lags)
    assert_close(flow.hidden_grad, np.sqrt((heads.head_grad**2).sum(axis=1)))
    table = pd.DataFrame(flow.table(), columns=list(COLUMNS))
    known = ["lag", *(name for name in COLUMNS if name.startswith("hidden_grad"))]
    assert table[known].notna().all(axis=None)
    assert table.drop(columns=known).isna().all(axis=None)


def test_the_last_layer_of_an_encoder_gets_a_gradient_at_the_last_step_alone() -> None:
    encoder = TransformerEncoder(
        E, E, num_layers=2, num_heads=HEADS, dtype=np.float64, random=Random(2)
    )
    packing = Packing.of(np.array(LENGTHS), encoder.backend)
    _, cache = encoder.forward(draw(0, packing.rows, E), packing=packing)
    traces: list[AttentionTrace] = []
    encoder.backward((None, draw(1, len(LENGTHS), E)), cache, traces.append)
    last, first = map(head_flow, traces)
    assert (last.layer, first.layer) == (1, 0)
    assert last.head_grad[last.lags == 0].all()
    assert not last.head_grad[last.lags > 0].any()
    assert first.head_grad.all()


@pytest.mark.parametrize("far", [4, 60])
def test_attention_has_one_step_to_any_lag(far: int) -> None:
    """Nothing shrinks on the way to a far key: only how many keys there are to share among."""
    layer = MultiHeadAttention(E, HEADS, dtype=np.float64, random=Random(1))
    layer.parameters["in_proj_weight"][...] = 0
    packing = Packing.of(np.array([far + 1]), layer.backend)
    _, cache = layer.forward(draw(0, far + 1, E), packing=packing)
    traces: list[AttentionTrace] = []
    layer.backward(draw(1, far + 1, E), cache, traces.append)
    assert_close(head_flow(traces[0]).attention, np.full((far + 1, HEADS), 1 / (far + 1)))
