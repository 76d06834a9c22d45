"""Models of Keras and Flax, without these: the table, what is refused, and why."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.errors import InputError
from npnlp.exchange.choices import Choices
from npnlp.exchange.foreign import read_model, write_model
from npnlp.exchange.frameworks.cells import TENSORS, CellRow, from_torch, to_torch
from npnlp.exchange.frameworks.flax_msgpack import msgpack_of
from npnlp.exchange.frameworks.flax_write import flax_tree
from npnlp.exchange.frameworks.table import CELLS, conversions, row_for
from tests.support.exchange import bare, made, vectorizer_file
from tests.support.reference import draw
from tests.support.tables import ROOT, refusal, run_main, tree

PAGE = (ROOT / "docs/frameworks.md").read_text("utf-8")


def drawn_cell(row: CellRow, inputs: int, hidden: int) -> dict[str, Any]:
    rows = len(row.weight_ih) * hidden
    shapes = ((rows, inputs), (rows, hidden), (rows,), (rows,))
    return {t: draw(k, *shape) for k, (t, shape) in enumerate(zip(TENSORS, shapes, strict=True))}


@pytest.mark.parametrize("row", CELLS, ids=lambda row: f"{row.framework} {'.'.join(row.classes)}")
@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (3, 5), (7, 2)])
def test_every_row_goes_there_and_back(row: CellRow, inputs: int, hidden: int) -> None:
    cell = drawn_cell(row, inputs, hidden)
    if row.framework == "nnx" and row.cell == "gru":
        cell["bias_hh"][2 * hidden :] = 0
    arrays = from_torch(row, cell, "cell")
    assert arrays.keys() == row.names
    back = to_torch(row, arrays, "cell")
    for tensor in TENSORS[:2]:
        np.testing.assert_array_equal(back[tensor], cell[tensor])
    sums = back["bias_ih"] + back["bias_hh"], cell["bias_ih"] + cell["bias_hh"]
    np.testing.assert_allclose(*sums, rtol=1e-15)
    again = from_torch(row, back, "cell")  # now that the biases are where the framework has them
    for name, value in arrays.items():
        np.testing.assert_array_equal(again[name], value)
    with pytest.raises(InputError, match=r"cell: .* has shape \(.*\); that of .* with"):
        to_torch(row, arrays | {min(row.bias_names): np.zeros(5 * hidden + 1)}, "cell")
    with pytest.raises(InputError, match="'more' is none of"):
        to_torch(row, arrays | {"more": np.zeros(3)}, "cell")
    left = {name: value for name, value in arrays.items() if name != min(row.names)}
    if not (row.without_biases and min(row.names) in row.bias_names):
        with pytest.raises(InputError, match=f"'{min(row.names)}' is missing"):
            to_torch(row, left, "cell")


def test_the_page_has_the_table_of_the_code() -> None:
    found = re.search("<!-- conversions -->\n(.*)\n<!-- end of conversions -->", PAGE, re.DOTALL)
    assert found
    assert found[1] == conversions()
    assert len(CELLS) == 11


def test_a_framework_without_a_cell_has_no_row() -> None:
    assert row_for("linen", "gru", "before") is None
    assert row_for("Keras", "transformer", "after") is None


REFUSED_EXPORTS: list[tuple[dict[str, Any], str, str]] = [
    ({"cell": "transformer", "num_heads": 2}, "linen", "linen has no cell for transformer"),
    ({"cell": "gru", "reset": "before"}, "nnx", "nnx has no cell for gru with reset before"),
    ({"cell": "gru"}, "nnx", "b_hn is not zero"),
    ({"pooling": "attention"}, "linen", "no layer for pooling attention"),
    ({"ngram_orders": (1, 2)}, "linen", "no layer for n-grams"),
]


@pytest.mark.parametrize(("fields", "form", "words"), REFUSED_EXPORTS, ids=str)
def test_what_flax_has_no_place_for_is_refused(
    fields: dict[str, Any], form: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        write_model(made(**fields), tmp_path / "params.msgpack", "flax", form)
    assert not list(tmp_path.iterdir())


# --- Flax: what parameters do not say


def parameters(form: str = "linen", **fields: Any) -> dict[tuple[str, ...], Any]:
    model = made(**({"cell": "lstm"} | fields)).model
    return flax_tree(model.state_dict(), model.config, form)


def read(tmp_path: Path, params: Any, **choices: Any) -> Any:
    path = tmp_path / "params.msgpack"
    path.write_bytes(msgpack_of(params))
    return read_model(path, vectorizer_file(tmp_path), Choices(**choices))


def renamed(params: Any, *pairs: tuple[str, str]) -> Any:
    names = dict(pairs)
    return {tuple(names.get(part, part) for part in path): v for path, v in params.items()}


def test_parameters_may_have_any_names_whose_order_is_said(tmp_path: Path) -> None:
    params = renamed(parameters(num_layers=2), ("rnn_0", "a9"), ("rnn_1", "a10"), ("fc1", "hidden"),
                     ("fc2", "out"), ("emb", "letters"))  # fmt: skip
    plain = read(tmp_path, parameters(num_layers=2)).model.state_dict()
    for name, value in read(tmp_path, params).model.state_dict().items():
        np.testing.assert_array_equal(value, plain[name])


REFUSED_TREES = [
    ([("rnn_0", "first"), ("rnn_1", "second")], {"num_layers": 2}, "which of .* comes first"),
    ([("ii", "iii")], {}, "no cell of linen or nnx"),
    ([("emb", "norm"), ("embedding", "scale")], {}, "norm.scale' belongs to no module"),
]


@pytest.mark.parametrize(("pairs", "fields", "words"), REFUSED_TREES)
def test_parameters_that_say_no_order_or_are_not_known_are_refused(
    pairs: Any, fields: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, renamed(parameters(**fields), *pairs))


def test_other_trees_are_refused(tmp_path: Path) -> None:
    params = parameters(num_layers=2, bidirectional=True)
    one_way = {p: v for p, v in params.items() if "rnn_1" not in p or "forward_rnn" in p}
    with pytest.raises(InputError, match="forward_rnn without its backward_rnn"):
        read(tmp_path, one_way)
    with pytest.raises(InputError, match="0 linear layers"):
        read(tmp_path, {p: v for p, v in params.items() if not {"fc1", "fc2"} & set(p)})
    mixed = parameters(num_layers=1) | renamed(parameters(cell="gru"), ("rnn_0", "rnn_1"))
    with pytest.raises(InputError, match=r"cells of several kinds \(gru, lstm\)"):
        read(tmp_path, mixed)
    wide = parameters() | {("params", "fc1", "kernel"): np.zeros((6, 7), np.float32)}
    with pytest.raises(InputError, match="linear layers"):
        read(tmp_path, wide)
    deep = {("params", "a", *path[1:]): v for path, v in parameters().items()}
    assert read(tmp_path, deep).model.config.cell == "lstm"
    with pytest.raises(InputError, match="reset is 'after' in this file, not 'before'"):
        read(tmp_path, parameters(cell="gru", pooling="max"), reset="before")
    assert read(tmp_path, parameters(pooling="mean+max"), pooling="mean+max").model.config.pooling


def test_names_with_dots_in_safetensors_are_flaxs(tmp_path: Path) -> None:
    for mark in "./":
        flat = {mark.join(path): value for path, value in parameters(bidirectional=True).items()}
        path = bare(tmp_path / "params.safetensors", flat)
        assert read_model(path, vectorizer_file(tmp_path)).model.config.bidirectional
    with pytest.raises(InputError, match=r"params.safetensors: it has no vocabularies"):
        read_model(path)


def test_proj_size_is_refused_with_the_reason(tmp_path: Path) -> None:
    state = made(cell="lstm").model.state_dict()
    state["rnn.weight_hr_l0"] = np.zeros((3, 6), np.float32)
    state["rnn.weight_hh_l0"] = np.zeros((24, 3), np.float32)
    path = bare(tmp_path / "proj.safetensors", state)
    with pytest.raises(InputError, match="proj_size"):
        read_model(path, vectorizer_file(tmp_path))


# --- the commands


def test_without_h5py_a_keras_file_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.startswith("npnlp.exchange.frameworks.")]:
        if name.rsplit(".", 1)[-1] in ("hdf5", "keras_read", "keras_write"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "h5py", None)
    path = tmp_path / "theirs.keras"
    path.write_bytes(b"PK")
    made().save(tmp_path / "model.safetensors")
    before = tree(tmp_path)
    assert run_main("import", path, "--save-dir", tmp_path / "new") == 2
    refusal(capsys.readouterr().err, "npnlp import:", "h5py is not installed", "pip install h5py")
    assert run_main("export", "--save-dir", tmp_path, "--format", "keras") == 2
    refusal(capsys.readouterr().err, "npnlp export:", "h5py is not installed", "pip install h5py")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--format", "flax", "--layout", "notebook"), "has the layouts linen, nnx"),
     (("--format", "pytorch", "--layout", "nnx"), "has the layouts pytorch, notebook"),
     (("--format", "keras", "--layout", "linen"), "has no layouts"),
     (("--format", "keras", "--output", "x.onnx"), "has to end in .keras or .h5"),
     (("--format", "flax", "--output", "x.pt"), "has to end in .msgpack or .safetensors")],
)  # fmt: skip
def test_options_that_a_format_does_not_have_are_refused(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made().save(tmp_path / "model.safetensors")
    assert run_main("export", "--save-dir", tmp_path, *options) == 2
    refusal(capsys.readouterr().err, "npnlp export:", words)


def test_parameters_of_flax_by_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(cell="lstm", bidirectional=True).save(tmp_path / "model.safetensors")
    target = tmp_path / "out.safetensors"
    assert run_main("export", "--save-dir", tmp_path, "--format", "flax", "--layout", "nnx",
                    "--output", target) == 0  # fmt: skip
    assert run_main("import", target, "--save-dir", tmp_path / "new") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "read nnx LSTMCell from rnn.0.forward_rnn.cell, linear layers from fc1, fc2" in (
        printed.out
    )
