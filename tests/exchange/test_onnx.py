"""The exported ONNX file computes the same logits in onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.exchange.differences import BOUNDS, Names, from_onnx, own_pass
from npnlp.models import ClassifierConfig
from tests.support.exchange import CASES, CELLS, LONG, MANY, ONE, OTHERS, SHORTEST, V, label, made
from tests.support.tables import npnlp, refusal, run_main, tree

pytestmark = pytest.mark.peers
onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from npnlp.exchange import onnx_recurrent  # noqa: E402
from npnlp.exchange.onnx_model import onnx_model, write_onnx  # noqa: E402
from npnlp.exchange.onnx_run import onnx_logits  # noqa: E402

Capture = pytest.CaptureFixture[str]


def check_same(classifier: Classifier, content: bytes, names: Names) -> None:
    (found,) = from_onnx(classifier, content, names)
    assert (found.quantity, found.dtype) == ("logits", "float32")
    assert found.value <= BOUNDS["float32"], found
    assert found.largest > 0.01


@pytest.mark.parametrize("case", CASES + OTHERS, ids=label)
def test_onnxruntime_computes_the_same(case: dict[str, Any]) -> None:
    classifier = made(**case)
    content = onnx_model(classifier)
    for names in (MANY, ONE, SHORTEST):
        check_same(classifier, content, names)


@pytest.mark.parametrize("case", [*CASES[1::6], *OTHERS], ids=label)
def test_with_the_lengths_given_to_the_operators_it_is_the_same(case: dict[str, Any]) -> None:
    classifier = made(**case)
    content = onnx_model(classifier, sequence_lens=True)
    graph = onnx.load_model_from_string(content).graph
    recurrent = [node for node in graph.node if node.op_type in ("RNN", "GRU", "LSTM", "Scan")]
    layers = 0 if case["cell"] == "transformer" else case.get("num_layers", 1)
    assert [len(node.input) for node in recurrent] == [5] * layers
    for names in (MANY, SHORTEST):
        check_same(classifier, content, names)


@pytest.mark.parametrize("cell", CELLS)
def test_at_the_sizes_of_a_real_model(cell: str) -> None:
    classifier = made(**CELLS[cell], num_layers=2, embedding_size=100, rnn_hidden_size=64)
    content = onnx_model(classifier)
    for names in (MANY, LONG):
        check_same(classifier, content, names)


@pytest.mark.parametrize("case", [c for c in CASES if c["num_layers"] == 2] + OTHERS, ids=label)
def test_what_stands_after_a_name_has_no_part_in_it(case: dict[str, Any]) -> None:
    content = onnx_model(made(**case))
    other = MANY.tokens.copy()
    past = np.arange(other.shape[1]) >= MANY.lengths[:, None]
    other[past] = (other[past] + 5) % V
    expected = onnx_logits(content, MANY.tokens, MANY.lengths)
    np.testing.assert_array_equal(onnx_logits(content, other, MANY.lengths), expected)


@pytest.mark.parametrize(
    ("cell", "operator"),
    [("elman tanh", "RNN"), ("elman relu", "Scan"), ("gru after", "GRU"), ("gru before", "Scan"),
     ("lstm", "LSTM")],
)  # fmt: skip
def test_a_layer_is_an_operator_a_direction_that_other_runtimes_cannot_misread(
    cell: str, operator: str
) -> None:
    classifier = made(**CELLS[cell], num_layers=3, bidirectional=True)
    graph = onnx.load_model_from_string(onnx_model(classifier)).graph
    recurrent = [node for node in graph.node if node.op_type in ("RNN", "GRU", "LSTM", "Scan")]
    assert [node.op_type for node in recurrent] == [operator] * 6
    for node in recurrent:
        assert len(node.input) == (2 if operator == "Scan" else 4)  # no sequence_lens
        names = {each.name for each in node.attribute}
        assert not names & {"direction", "activations"}


@pytest.mark.parametrize("case", [*CASES[::5], *OTHERS], ids=label)
def test_no_node_is_there_that_converters_stumble_over(case: dict[str, Any]) -> None:
    graph = onnx.load_model_from_string(onnx_model(made(**case))).graph
    used = {name for node in graph.node for name in node.input}
    assert {each.name for each in graph.initializer} <= used
    assert not {"Cast", "Identity"} & {node.op_type for node in graph.node}
    assert [each.name for each in graph.output] == ["logits", "probabilities"]


def test_the_file_says_what_it_is() -> None:
    classifier = made(cell="lstm", pooling="attention")
    content = onnx_model(classifier)
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    dims = {each.name: [d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim]
            for each in (*model.graph.input, *model.graph.output)}  # fmt: skip
    assert dims == {"tokens": ["batch", "time"], "lengths": ["batch"], "logits": ["batch", 3],
                    "probabilities": ["batch", 3]}  # fmt: skip
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    (entry,) = model.metadata_props
    said = json.loads(entry.value)
    assert ClassifierConfig.from_dict(said["config"]) == classifier.model.config
    assert said["vectorizer"] == classifier.vectorizer.to_serializable()
    assert onnx_model(classifier) == content


@pytest.mark.parametrize("cell", ["gru after", "lstm"])
def test_gates_in_another_order_are_caught(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = made(**CELLS[cell])
    kind = classifier.model.config.cell
    plain = tuple(range(len(onnx_recurrent.ORDERS[kind])))
    monkeypatch.setitem(onnx_recurrent.ORDERS, kind, plain)
    (found,) = from_onnx(classifier, onnx_model(classifier), MANY)
    assert not found.passed


def test_export_and_verify_as_commands(tmp_path: Path) -> None:
    made(cell="gru", bidirectional=True, num_layers=2, pooling="mean").save(
        tmp_path / "model.safetensors"
    )
    done = npnlp("export", "--save-dir", tmp_path, "--format", "onnx")
    assert (done.returncode, done.stderr) == (0, b"")
    assert set(tree(tmp_path)) == {"model.safetensors", "model.onnx"}
    done = npnlp("verify", tmp_path / "model.onnx", "--names", "30")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert "onnxruntime" in lines[0]
    assert lines[3].split()[0] == "logits"
    assert float(lines[3].split()[-1]) <= 1e-5
    assert lines[-1] == "1 comparisons; all passed"


def test_the_file_of_another_model_fails(tmp_path: Path, capsys: Capture) -> None:
    made(seed=3).save(tmp_path / "model.safetensors")
    write_onnx(made(seed=4), tmp_path / "other.onnx")
    assert run_main("verify", tmp_path / "other.onnx", "--names", "30") == 1
    assert capsys.readouterr().out.endswith("1 comparisons; 1 FAILED\n")


def test_files_that_are_no_such_model_are_refused(tmp_path: Path, capsys: Capture) -> None:
    def refused(name: str, *words: str) -> None:
        assert run_main("verify", tmp_path / name) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        refusal(printed.err, "npnlp verify:", *words)

    made().save(tmp_path / "model.safetensors")
    refused("none.onnx", "none.onnx", "no such file")
    (tmp_path / "text.onnx").write_text("nothing of the kind", encoding="utf-8")
    refused("text.onnx", "text.onnx", "not an ONNX model")
    whole = onnx_model(made())
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    refused("cut.onnx", "cut.onnx")
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    (tmp_path / "relu.onnx").write_bytes(model.SerializeToString())
    refused("relu.onnx", "relu.onnx", "tokens", "lengths")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "good.onnx").write_bytes(whole)
    refused("good.onnx", "model.safetensors", "no such file")


def test_a_name_outside_the_vocabulary_is_one_line() -> None:
    names = Names(MANY.tokens + V, MANY.lengths, MANY.targets)
    with pytest.raises(InputError, match="does not run"):
        onnx_logits(onnx_model(made()), names.tokens, names.lengths)


def test_the_lengths_of_operators_are_an_option(tmp_path: Path, capsys: Capture) -> None:
    made(cell="gru").save(tmp_path / "model.safetensors")
    options = ("--save-dir", tmp_path, "--sequence-lens")
    assert run_main("export", *options, "--format", "onnx") == 0
    assert (tmp_path / "model.onnx").read_bytes() == onnx_model(
        made(cell="gru"), sequence_lens=True
    )
    capsys.readouterr()
    assert run_main("export", *options) == 2
    refusal(capsys.readouterr().err, "npnlp export:", "sequence-lens", "--format onnx")


def test_a_layout_is_of_a_state_dict(tmp_path: Path, capsys: Capture) -> None:
    made().save(tmp_path / "model.safetensors")
    options = ("--save-dir", tmp_path, "--format", "onnx", "--layout", "seed")
    assert run_main("export", *options) == 2
    refusal(capsys.readouterr().err, "npnlp export:", "layout")
    assert set(tree(tmp_path)) == {"model.safetensors"}


def test_own_pass_and_prediction_are_one() -> None:
    """The names that verify takes are those that predict would see."""
    classifier = made()
    names = Names(*(np.array(part) for part in ([[2, 4, 5, 3]], [4], [0])))
    spelled = "".join(classifier.vectorizer.char_vocab.tokens[4:6])
    logits = own_pass(classifier.model, names)[0]
    shares = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(classifier.probabilities([spelled]), shares, rtol=1e-5)
