"""Gradient flow against loops over sequences, its bound on every row, and the command."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from npnlp.backend import Backend, Random, get_backend
from npnlp.classifier import batches
from npnlp.classifier.flow import RIGHT, flow_of, flow_rows, write_flow
from npnlp.gradients.flow import COLUMNS, GradientFlow, gradient_flow, merge, spectral_radius
from npnlp.lab.starts import STARTS, flow_on_random, layer_at
from npnlp.layers import Elman, Packing, SoftmaxCrossEntropy
from npnlp.layers.recurrent.initialization import INITIALIZATIONS, initialize
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.plots import flow as flow_plots
from tests.support import tables
from tests.support.reference import (
    PHI_PRIME,
    Floats,
    assert_close,
    draw,
    elman,
    host,
    pack,
    packed_order,
)

D, H = 3, 5
ROUNDING = {"float64": 1e-12, "float32": 1e-5}
THROUGH = ("last", "all", "both")
KINDS = [*INITIALIZATIONS, "trained"]

each_phi = pytest.mark.parametrize("phi", ["tanh", "relu"])
each_kind = pytest.mark.parametrize("kind", KINDS)
each_through = pytest.mark.parametrize("through", THROUGH)
some_lengths = st.lists(st.integers(1, 8), min_size=1, max_size=5)
property_test = settings(max_examples=15)


@cache
def trained(phi: str) -> Elman:
    """A layer after some steps up the sum of its squared last states: neither random nor small."""
    layer = Elman(D, H, nonlinearity=phi, dtype=np.float64, random=Random(8))
    packing = Packing.of(np.array([6, 4, 2]), layer.backend)
    for step in range(30):
        (_, last), memory = layer.forward(draw(step, packing.rows, D), packing=packing)
        layer.zero_grads()
        layer.backward((None, last), memory)
        for name, value in layer.parameters.items():
            value += 0.05 * np.tanh(layer.grads[name])
    return layer


def layer_of(phi: str, kind: str, dtype: Any = np.float64) -> Elman:
    if kind == "trained":
        return trained(phi).astype(dtype)
    layer = Elman(D, H, nonlinearity=phi, dtype=dtype, random=Random(3))
    initialize(layer, kind, Random(3, "start"))
    return layer


@dataclass
class Pass:
    """A padded batch through a layer and back, in the layer's dtype."""

    layer: Elman
    lengths: list[int]
    with_h0: bool = False
    through: str = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        layer, batch, dtype = self.layer, len(self.lengths), self.layer.dtype
        inputs, units = layer.parameters["weight_ih_l0"].shape[1], layer.hidden_size
        padded = (max(self.lengths), batch)
        self.x = draw(self.seed, *padded, inputs).astype(dtype)
        self.h0 = draw(self.seed + 1, batch, units).astype(dtype) * self.with_h0
        self.d_hidden = draw(self.seed + 2, *padded, units).astype(dtype) * (self.through != "last")
        self.d_last = draw(self.seed + 3, batch, units).astype(dtype) * (self.through != "all")
        self.packing = Packing.of(np.array(self.lengths), layer.backend)

    def back(self, probed: bool = True) -> tuple[list[RecurrentTrace], dict[str, Floats]]:
        """What the probe saw, and every gradient."""
        layer, send = self.layer, self.layer.backend.asarray
        _, memory = layer.forward(
            send(pack(self.x, self.lengths)),
            send(self.h0) if self.with_h0 else None,
            packing=self.packing,
        )
        traces: list[RecurrentTrace] = []
        d_hidden = None if self.through == "last" else send(pack(self.d_hidden, self.lengths))
        d_last = None if self.through == "all" else send(self.d_last)
        layer.zero_grads()
        d_x, d_h0 = layer.backward((d_hidden, d_last), memory, traces.append if probed else None)
        found = {"x": d_x} | ({} if d_h0 is None else {"h0": d_h0}) | layer.grads
        return traces, host(layer.backend, found)

    def flow(self) -> GradientFlow:
        return gradient_flow(self.back()[0][0], products=10**6)

    def loops(self) -> dict[tuple[int, int], tuple[Floats, Floats, Floats]]:
        """``d_t``, ``delta_t`` and ``h_{t-1}`` at each (step, sequence), a sequence at a time."""
        weights = host(self.layer.backend, self.layer.parameters)
        phi = self.layer.nonlinearity
        hidden, _, a = elman(self.x, self.lengths, self.h0, weights, phi)
        found = {}
        for b, length in enumerate(self.lengths):
            d = self.d_last[b].astype(float)
            for t in reversed(range(length)):
                d = d + self.d_hidden[t, b]
                delta = np.array([PHI_PRIME[phi](value) for value in a[t, b]]) * d
                found[t, b] = d, delta, hidden[t - 1, b] if t else self.h0[b]
                d = weights["weight_hh_l0"].T @ delta
        return found


passes = st.builds(
    Pass,
    st.builds(layer_of, st.sampled_from(["tanh", "relu"]), st.sampled_from(KINDS)),
    some_lengths,
    st.booleans(),
    st.sampled_from(THROUGH),
    st.integers(0, 99),
)


@property_test
@given(passes)
def test_the_shares_add_up_to_the_gradient(made: Pass) -> None:
    traces, grads = made.back()
    flow = gradient_flow(traces[0])
    parts = np.sqrt((flow.shares**2).sum(axis=(1, 2)))
    assert_close(flow.shares.sum(axis=0), grads["weight_hh_l0"], floor=float(parts.max()))


@property_test
@given(passes)
def test_norms_and_shares_equal_the_loops(made: Pass) -> None:
    flow, loops = made.flow(), made.loops()
    expected = np.zeros_like(flow.shares)
    norms, lags = [], []
    for t, b in packed_order(made.lengths):
        d, delta, before = loops[t, b]
        lag = made.lengths[b] - 1 - t
        expected[lag] += np.outer(delta, before)
        norms.append(np.linalg.norm(d))
        lags.append(lag)
    np.testing.assert_array_equal(flow.lags, lags)
    assert_close(flow.hidden_grad, norms)
    assert_close(flow.shares, expected)


@property_test
@given(passes)
def test_the_bound_equals_the_loops(made: Pass) -> None:
    flow = made.flow()
    weights = made.layer.parameters
    _, _, a = elman(made.x, made.lengths, made.h0, weights, made.layer.nonlinearity)
    sigma = np.linalg.svd(weights["weight_hh_l0"], compute_uv=False)[0]
    bounds = {}
    for b, length in enumerate(made.lengths):
        bound = float(np.linalg.norm(made.d_last[b] + made.d_hidden[length - 1, b]))
        for t in reversed(range(length)):
            bounds[t, b] = bound
            slopes = [PHI_PRIME[made.layer.nonlinearity](value) for value in a[t, b]]
            above = np.linalg.norm(made.d_hidden[t - 1, b]) if t else 0.0
            bound = float(sigma * max(slopes) * bound + above)
    assert_close(flow.bound, [bounds[place] for place in packed_order(made.lengths)])


@each_phi
@each_kind
@each_through
def test_no_row_is_above_its_bound(phi: str, kind: str, through: str, dtype: np.dtype[Any]) -> None:
    for with_h0 in (False, True):
        made = Pass(layer_of(phi, kind, dtype), [9, 1, 12, 5, 12], with_h0, through)
        flow = made.flow()
        assert (flow.hidden_grad <= flow.bound).all()
        last = flow.lags == 0
        np.testing.assert_array_equal(flow.hidden_grad[last], flow.bound[last])


@pytest.mark.parametrize("name", STARTS)
def test_the_bound_holds_over_long_sequences(name: str, dtype: np.dtype[Any]) -> None:
    layer = layer_at(STARTS[name], Random(0)).astype(dtype)
    flow = flow_on_random(layer, 60, 4, Random(1))
    assert (flow.hidden_grad <= flow.bound).all()
    assert_close(flow.hidden_grad[flow.lags == 0], np.ones(4), ROUNDING[dtype.name])


def test_a_bound_that_leaves_out_the_weights_is_broken() -> None:
    flow = Pass(layer_of("tanh", "large"), [6, 3], through="last").flow()
    assert (flow.hidden_grad > flow.bound / 2.0 ** (flow.lags + 1)).any()


@each_phi
def test_saturation_and_the_size_of_the_weights(phi: str) -> None:
    made = Pass(layer_of(phi, "default"), [4, 2, 5])
    flow = made.flow()
    weights = made.layer.parameters
    _, _, a = elman(made.x, made.lengths, made.h0, weights, phi)
    slopes = [np.mean([PHI_PRIME[phi](v) for v in a[place]]) for place in packed_order([4, 2, 5])]
    assert_close(flow.saturation, slopes)
    assert_close(flow.sigma_max, np.linalg.norm(weights["weight_hh_l0"], 2))
    exact = np.abs(np.linalg.eigvals(weights["weight_hh_l0"])).max()
    assert_close(flow.spectral_radius, exact, bound=1e-5)  # what its docstring promises


def test_the_spectral_radius_of_matrices_whose_it_is_known() -> None:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for matrix, radius in ((turn, 1.0), (3e-20 * turn, 3e-20), (np.diag([0.5, -2.0, 1.0]), 2.0)):
        assert_close(spectral_radius(matrix), radius, bound=1e-5)
    assert spectral_radius(np.array([[0.0, 1.0], [0.0, 0.0]])) == 0.0


@property_test
@given(passes)
def test_the_table_has_means_and_quartiles_by_lag(made: Pass) -> None:
    flow = made.flow()
    table = pd.DataFrame(flow.table(), columns=list(COLUMNS))
    np.testing.assert_array_equal(table["lag"], np.arange(max(made.lengths)))
    for lag, row in table.iterrows():
        norms = flow.hidden_grad[flow.lags == lag]
        assert_close(row["hidden_grad_mean"], norms.mean())
        for name, q in (("q25", 0.25), ("q50", 0.5), ("q75", 0.75)):
            assert_close(row[f"hidden_grad_{name}"], np.quantile(norms, q))
        share = flow.shares[flow.lags[flow.lags == lag][0]]
        assert_close(row["weight_hh_share"], np.linalg.norm(share))
        assert_close(row["saturation"], flow.saturation[flow.lags == lag].mean())
        assert_close(row["bound"], flow.bound[flow.lags == lag].mean())


@each_phi
@each_through
def test_two_batches_merged_are_one(phi: str, through: str) -> None:
    whole = Pass(layer_of(phi, "large"), [3, 7, 1, 7, 4], True, through)
    parts = []
    for rows in (slice(0, 1), slice(1, 5)):
        part = Pass(whole.layer, whole.lengths[rows], True, through)
        longest = max(part.lengths)
        part.x, part.d_hidden = whole.x[:longest, rows], whole.d_hidden[:longest, rows]
        part.h0, part.d_last = whole.h0[rows], whole.d_last[rows]
        parts.append(part.flow())
    assert len(parts[0].shares) < len(parts[1].shares)
    for merged in (merge(parts), merge(parts[::-1])):
        assert_close(merged.shares, whole.flow().shares)
        assert_close(merged.table(), whole.flow().table())


@each_phi
@each_through
def test_the_probe_changes_nothing(phi: str, through: str, dtype: np.dtype[Any]) -> None:
    made = Pass(layer_of(phi, "large", dtype), [5, 2, 6], True, through)
    traces, seen = made.back()
    gradient_flow(traces[0])
    _, unseen = made.back(probed=False)
    assert seen.keys() == unseen.keys()
    for name, gradient in seen.items():
        assert gradient.tobytes() == unseen[name].tobytes(), name


def test_every_backend_shows_the_same(backend: Backend) -> None:
    lengths, tables_of = [5, 2, 6, 1], []
    for place in (get_backend("numpy"), backend):
        layer = Elman(D, H, backend=place, dtype=np.float64, random=Random(3))
        tables_of.append(Pass(layer, lengths, True, "both").flow().table())
    assert_close(tables_of[1], tables_of[0])


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tables.finished_run(tmp_path_factory)


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to write into."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_training_run_stays_below_the_bound(finished: Path) -> None:
    recorded = pd.read_csv(finished / "gradient_flow.csv")
    assert list(recorded) == ["epoch", "layer", *COLUMNS, *RIGHT]
    assert list(recorded["epoch"].unique()) == [0, 1, 2]
    assert (recorded["hidden_grad_mean"] > 0).all()
    assert (recorded["hidden_grad_mean"] <= recorded["product_norm"]).all()
    assert (recorded["product_norm"] <= recorded["bound"]).all()
    assert (recorded["product_norm"] < recorded["bound"] / 2).any()
    assert recorded["surviving_share"].between(0, 1 + 1e-6).all()
    for _, of_epoch in recorded.groupby("epoch"):
        assert list(of_epoch["lag"]) == list(range(len(of_epoch)))


@pytest.mark.parametrize("initialization", ["default", "small", "large", "orthogonal"])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"cell": "lstm", "pooling": "mean"},
        {"cell": "gru", "num_layers": 2, "bidirectional": True},
        {"cell": "gru", "reset": "before"},
    ],
    ids=str,
)
def test_a_trained_surname_model_stays_below_the_bound(
    tmp_path: Path, initialization: str, shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tables.make_run(tmp_path / "run", num_epochs=2, shape=shape)
    model, split = run.trainer.model, run.dataset.arrays("train")
    assert isinstance(model.encoder.rnn, RecurrentStack)
    for cell in model.encoder.rnn.all_cells:
        initialize(cell, initialization, Random(2))
    for _ in range(2):
        run.trainer.run_epoch()
    for dtype, allowed in ROUNDING.items():
        twin = model.astype(dtype)
        for name, flow in flow_of(twin, split, SoftmaxCrossEntropy(dtype=dtype)).items():
            assert (flow.hidden_grad <= flow.bound).all()
            gradient = twin.grads[name.replace("rnn.", "rnn.weight_hh_")]
            assert_close(flow.shares.sum(axis=0), gradient, 10 * allowed)
    monkeypatch.setattr(batches, "EVALUATION_BATCH", 5)
    apart = flow_of(twin.astype("float64"), split, SoftmaxCrossEntropy(dtype="float64"))
    whole = flow_of(model.astype("float64"), split, SoftmaxCrossEntropy(dtype="float64"))
    assert list(apart) == list(whole)
    for name, flow in apart.items():
        assert_close(flow.table(), whole[name].table())


def test_the_table_is_written_with_epoch_and_layer(tmp_path: Path) -> None:
    flow = Pass(layer_of("tanh", "default"), [3, 2]).flow()
    layers = ["rnn.l0", "rnn.l0_reverse"]
    write_flow(tmp_path / "flow.csv", flow_rows({"rnn.l0_reverse": flow}, layers, 7), layers)
    read = pd.read_csv(tmp_path / "flow.csv")
    assert set(read["epoch"]) == {7}
    assert set(read["layer"]) == {"rnn.l0_reverse"}
    assert_close(read[list(COLUMNS)].to_numpy(), flow.table(), 1e-15)
    assert (read["mean_slope"] == read["saturation"]).all()
    assert (read["weight_hh_grad_norm"] == read["weight_hh_share"]).all()
    assert_close(
        read["weight_hh_fraction"], read["weight_hh_share"] / read["weight_hh_share"].sum()
    )


def test_fractions_add_up_to_one_in_each_layer_and_epoch(finished: Path) -> None:
    recorded = pd.read_csv(finished / "gradient_flow.csv")
    totals = recorded.groupby(["epoch", "layer"])["weight_hh_fraction"].sum()
    assert_close(totals.to_numpy(), np.ones(len(totals)))
    assert recorded["weight_hh_fraction"].between(0, 1).all()


@pytest.mark.parametrize("saved", [True, False])
def test_the_picture_of_a_saved_model_is_of_no_epoch(finished: Path, saved: bool) -> None:
    recorded = pd.read_csv(finished / "gradient_flow.csv")
    axes = Figure().add_subplot()
    flow_plots.flow_by_lag(axes, recorded[recorded["epoch"] == 0], saved)
    labels = [str(label) for label in axes.get_legend_handles_labels()[1]]
    assert any("epoch 1" in label for label in labels) == (not saved)
    limits = {name for column, (name, _, _) in flow_plots.LIMITS.items() if column in recorded}
    assert {label.removesuffix(", epoch 1") for label in labels} == {
        "gradient, mean", "its quartiles", *limits,
    }  # fmt: skip
    assert "product of the norms, a bound" in limits


def test_the_command_writes_a_table_and_a_picture(
    run_folder: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = finished.parent / "small.csv"
    assert tables.run_main("gradient-flow", "--save-dir", run_folder, "--surname-csv", table) == 0
    written = pd.read_csv(run_folder / "gradient_flow_model.csv")
    assert list(written) == ["epoch", "layer", *COLUMNS, *RIGHT]
    assert list(written["lag"]) == list(range(len(written)))
    assert len(written) > 3
    assert (written["hidden_grad_mean"] <= written["bound"]).all()
    picture = (run_folder / "gradient_flow_model.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    printed = capsys.readouterr().out
    assert f"{written['weight_hh_fraction'][0]:.2e}" in printed
    assert printed.startswith("9 test rows")
    assert f"{written['sigma_max'][0]:.3f}" in printed
    train = run_folder / "train"
    shutil.copytree(finished, train)
    tables.run_main("gradient-flow", "--save-dir", train, "--surname-csv", table,
                    "--split", "train")  # fmt: skip
    other = pd.read_csv(train / "gradient_flow_model.csv")
    assert other["hidden_grad_mean"][0] != written["hidden_grad_mean"][0]


def test_a_missing_model_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tables.run_main("gradient-flow", "--save-dir", tmp_path / "nothing") == 2
    tables.refusal(capsys.readouterr().err, tmp_path / "nothing")


def test_an_empty_split_is_one_line_and_status_2(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for row in tables.small_rows() if row[1] != "val"]
    table = tables.write_table(tmp_path / "no_val.csv", rows)
    status = tables.run_main(
        "gradient-flow", "--save-dir", run_folder, "--surname-csv", table, "--split", "val"
    )
    assert status == 2
    tables.refusal(capsys.readouterr().err, table, "split", "val")
    assert not (run_folder / "gradient_flow_model.csv").exists()
