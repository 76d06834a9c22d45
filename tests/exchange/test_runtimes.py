"""One ONNX file in every runtime that is installed, by ``npnlp verify --runtime``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.exchange.runtimes import processes
from npnlp.exchange.runtimes.comparison import (
    ALL,
    BOUND,
    NAMES,
    Found,
    batches_of,
    compare,
    installed,
)
from tests.support.exchange import CELLS, OTHERS, label, made
from tests.support.tables import npnlp, refusal, run_main, write_table

pytestmark = pytest.mark.peers
onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from npnlp.exchange.onnx_model import onnx_model, write_onnx  # noqa: E402

Capture = pytest.CaptureFixture[str]
TEXTS = ["Nabokov", "Li", "Anna", "Bonanno", "Ab", "Baba Ana"]
KINDS = [
    CELLS["elman relu"], CELLS["gru before"], CELLS["transformer"], OTHERS[-1],
    {"cell": "lstm", "bidirectional": True, "num_layers": 2, "pooling": "attention"},
]  # fmt: skip
HERE = [name for name in NAMES if installed(name)]


@pytest.mark.parametrize("runtime", HERE)
def test_a_runtime_computes_the_same_or_refuses(runtime: str, tmp_path: Path) -> None:
    for case in KINDS:
        classifier = made(**case)
        write_onnx(classifier, tmp_path / "model.onnx")
        found = compare(tmp_path / "model.onnx", runtime, batches_of(classifier, TEXTS))
        assert not found.wrong, (label(case), found)
        if runtime in ("onnxruntime", "onnx.reference", "openvino"):
            assert not found.refused, (label(case), found)


def test_batches_have_unequal_names_one_letter_and_forty() -> None:
    classifier = made()
    batches = batches_of(classifier, TEXTS * 10)
    assert [len(batch.lengths) for batch in batches] == [60, 5, 1, 1, 1]
    assert min(len(set(batch.lengths)) for batch in batches[:2]) > 2
    assert [int(batch.lengths[0]) for batch in batches[3:]] == [3, 42]  # with begin and end
    for batch in batches:
        np.testing.assert_allclose(batch.expected.sum(axis=1), 1, atol=1e-6)


def test_lengths_that_are_ignored_would_be_found(tmp_path: Path) -> None:
    """A file that reads every name to the end of the longest is right for one alone."""
    classifier = made(cell="gru")
    model = onnx.load_model_from_string(onnx_model(classifier))
    # The row of the last state of each sequence is taken from T - 1 in place of L - 1.
    (ends,) = [n for n in model.graph.node if n.op_type == "Sub" and n.input[0] == "lengths"]
    longest = onnx.helper.make_node("ReduceMax", ["lengths"], ["longest"], axes=[0], keepdims=1)
    model.graph.node.insert(0, longest)
    zeros = onnx.helper.make_node("Sub", ["lengths", "lengths"], ["zeros"])
    everywhere = onnx.helper.make_node("Add", ["zeros", "longest"], ["everywhere"])
    model.graph.node.insert(1, zeros)
    model.graph.node.insert(2, everywhere)
    ends.input[0] = "everywhere"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    every, *others = batches_of(classifier, TEXTS)
    assert compare(path, "onnxruntime", [every]).wrong
    assert not compare(path, "onnxruntime", others[1:]).wrong


def test_a_runtime_that_raises_or_crashes_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = batches_of(made(), TEXTS)
    (tmp_path / "text.onnx").write_text("nothing of the kind", "utf-8")
    found = compare(tmp_path / "text.onnx", "onnxruntime", batches)
    assert found.difference is None
    assert "Error" in found.refused or "Fail" in found.refused or "Invalid" in found.refused
    ends = ["import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "raise SystemExit(3)"]
    python = sys.executable
    reasons = [processes.reason_of([python, "-c", source]) for source in ends]
    assert reasons == ["it crashes (signal 11)", "it ends with status 3"]
    monkeypatch.setattr(processes, "PATIENCE", 0.5)
    assert "no answer after" in processes.reason_of([python, "-c", "import time; time.sleep(9)"])


def test_an_answer_that_is_not_a_number_is_wrong() -> None:
    assert Found("x", "1", float("nan")).wrong
    assert Found("x", "1", 2 * BOUND).wrong
    assert not Found("x", "1", BOUND / 2).wrong
    assert not Found("x", "1", refused="no").wrong


def test_as_a_command(tmp_path: Path, capsys: Capture) -> None:
    table = write_table(tmp_path / "table.csv")
    made(cell="lstm").save(tmp_path / "model.safetensors")
    write_onnx(made(cell="lstm"), tmp_path / "model.onnx")
    options = ("--surname-csv", table, "--names", "20")
    done = npnlp("verify", tmp_path / "model.onnx", "--runtime", ALL, *options)
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode()
    assert said.count("right") + said.count("refused") == len(HERE)
    assert said.endswith("bound 1e-05; no wrong answer\n")
    write_onnx(made(seed=4, cell="lstm"), tmp_path / "other.onnx")
    assert run_main("verify", tmp_path / "other.onnx", "--runtime", "onnxruntime", *options) == 1
    assert "WRONG" in capsys.readouterr().out


def test_what_is_missing_or_unknown_is_one_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made().save(tmp_path / "model.safetensors")
    write_onnx(made(), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)  # where npm has installed nothing
    for runtime, word in {processes.WEB: "npm install", "numpy": "choose one of"}.items():
        assert run_main("verify", "model.onnx", "--runtime", runtime) == 2
        refusal(capsys.readouterr().err, "npnlp verify:", word)
    assert run_main("verify", "model.safetensors", "--runtime", ALL) == 2
    refusal(capsys.readouterr().err, "npnlp verify:", "no .onnx")
