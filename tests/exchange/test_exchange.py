"""State dicts without PyTorch: names, configurations from shapes, and the commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.exchange import Choices, read_state_dict, write_state_dict
from npnlp.exchange.differences import Names
from npnlp.exchange.layouts import from_layout, to_layout
from tests.support.exchange import (
    CASES,
    CELLS,
    OTHERS,
    VECTORIZER,
    bare,
    label,
    made,
    same_bits,
    vectorizer_file,
)
from tests.support.tables import (
    environment,
    frame_of,
    npnlp,
    read_json,
    refusal,
    run_main,
    small_rows,
    tree,
)

Capture = pytest.CaptureFixture[str]
State = dict[str, NDArray[Any]]


def choices_for(case: dict[str, Any]) -> Choices:
    names = ("nonlinearity", "reset", "num_heads")
    pooling = {} if case["pooling"] == "attention" else {"pooling": case["pooling"]}
    return Choices(**{name: case[name] for name in names if name in case}, **pooling)


@pytest.mark.parametrize("case", CASES + OTHERS, ids=label)
def test_names_and_shapes_say_all_but_the_choices(case: dict[str, Any], tmp_path: Path) -> None:
    classifier = made(**case)
    path = bare(tmp_path / "bare.safetensors", classifier.model.state_dict())
    back = read_state_dict(path, vectorizer_file(tmp_path), choices_for(case))
    assert back.model.config == classifier.model.config
    same_bits(classifier, back)


@pytest.mark.parametrize("case", OTHERS + [CELLS[cell] for cell in CELLS], ids=label)
def test_an_exported_file_says_all_itself(case: dict[str, Any], tmp_path: Path) -> None:
    fields: dict[str, Any] = {"pooling": "max", "num_layers": 2} | case
    classifier = made(**fields, dropout=0.25)
    write_state_dict(classifier, tmp_path / "out.safetensors")
    back = read_state_dict(tmp_path / "out.safetensors")
    assert back.model.config == classifier.model.config
    same_bits(classifier, back)


def test_a_saved_model_is_a_state_dict_too(tmp_path: Path) -> None:
    classifier = made()
    classifier.save(tmp_path / "model.safetensors")
    same_bits(classifier, read_state_dict(tmp_path / "model.safetensors"))


SEED_NAMES = [
    "emb.weight", "rnn.rnn_cell.weight_ih", "rnn.rnn_cell.weight_hh", "rnn.rnn_cell.bias_ih",
    "rnn.rnn_cell.bias_hh", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias",
]  # fmt: skip


def test_the_seeds_names_both_ways(tmp_path: Path) -> None:
    classifier = made()
    write_state_dict(classifier, tmp_path / "seed.safetensors", "notebook")
    with safetensors.safe_open(tmp_path / "seed.safetensors", framework="numpy") as file:
        assert sorted(file.keys()) == sorted(SEED_NAMES)
        theirs = {name: file.get_tensor(name) for name in SEED_NAMES}
    assert from_layout(theirs)[1] == "notebook"
    same_bits(classifier, read_state_dict(tmp_path / "seed.safetensors"))
    path = bare(tmp_path / "bare.safetensors", theirs)
    same_bits(classifier, read_state_dict(path, vectorizer_file(tmp_path)))


@pytest.mark.parametrize(
    "fields",
    [{"cell": "gru"}, {"nonlinearity": "relu"}, {"num_layers": 2}, {"bidirectional": True},
     {"pooling": "mean"}, {"pooling": "last+mean"}, {"hidden_layer": False}],
    ids=str,
)  # fmt: skip
def test_the_seeds_class_has_no_place_for_another_model(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    classifier, path = made(**fields), tmp_path / "seed.safetensors"
    with pytest.raises(InputError, match=f"layout notebook has no place for {next(iter(fields))}"):
        write_state_dict(classifier, path, "notebook")
    assert not path.exists()


@pytest.mark.parametrize("prefix", ["lstm", "encoder", "gru"])
def test_the_encoder_may_have_another_name(prefix: str) -> None:
    state = made(cell="lstm", num_layers=2, bidirectional=True).model.state_dict()
    renamed = {name.replace("rnn.", f"{prefix}."): value for name, value in state.items()}
    assert prefix != "rnn"
    back, layout = from_layout(renamed)
    assert layout == "pytorch"
    assert list(back) == list(state)
    assert to_layout(state, made(cell="lstm").model.config, "pytorch") == state


def test_other_floating_points_become_float32(tmp_path: Path) -> None:
    state = made().model.state_dict()
    for dtype in (np.float16, np.float64):
        changed = {name: value.astype(dtype) for name, value in state.items()}
        path = bare(tmp_path / "other.safetensors", changed)
        back = read_state_dict(path, vectorizer_file(tmp_path)).model.state_dict()
        for name, value in changed.items():
            np.testing.assert_array_equal(back[name], value.astype(np.float32))


def test_a_transposed_tensor_survives(tmp_path: Path) -> None:
    classifier = made()
    weight = classifier.model.parameters["fc1.weight"]
    state = classifier.model.state_dict() | {"fc1.weight": np.asfortranarray(weight)}
    back = read_state_dict(bare(tmp_path / "t.safetensors", state), vectorizer_file(tmp_path))
    same_bits(classifier, back)


def test_names_are_taken_evenly_from_the_test_split() -> None:
    frame = frame_of(small_rows())
    names = Names.of(frame, VECTORIZER, 6)
    test = frame[frame["split"] == "test"]
    assert sorted(names.targets) == [0, 0, 1, 1, 2, 2]
    assert len(Names.of(frame, VECTORIZER, 1000).lengths) == len(test)
    for tokens, length in zip(names.tokens, names.lengths, strict=True):
        assert tokens[0] == VECTORIZER.char_vocab.begin_seq_index
        assert tokens[length - 1] == VECTORIZER.char_vocab.end_seq_index
        assert (tokens[length:] == VECTORIZER.char_vocab.mask_index).all()
    foreign = frame.assign(nationality="Greek")
    with pytest.raises(InputError, match="no name of a nationality"):
        Names.of(foreign, VECTORIZER, 6)
    with pytest.raises(InputError, match="names is 0"):
        Names.of(frame, VECTORIZER, 0)


def test_export_and_import_as_commands_keep_every_bit(tmp_path: Path) -> None:
    classifier = made(cell="gru", reset="before", num_layers=2, bidirectional=True)
    (tmp_path / "run").mkdir()
    classifier.save(tmp_path / "run" / "model.safetensors")
    done = npnlp("export", "--save-dir", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, b"")
    exported = tmp_path / "run" / "state_dict.safetensors"
    assert str(exported).encode() in done.stdout
    done = npnlp("import", exported, "--save-dir", tmp_path / "new" / "folder")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gru, reset before, 2 x 6, both directions" in done.stdout
    made_files = tree(tmp_path / "new" / "folder")
    assert set(made_files) == {"model.safetensors", "vectorizer.json"}
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert made_files["model.safetensors"] == before
    assert read_json(tmp_path / "new" / "folder" / "vectorizer.json") == (
        VECTORIZER.to_serializable()
    )
    done = npnlp("predict", "--save-dir", tmp_path / "new" / "folder", "Ramini")
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_commands_need_no_other_framework() -> None:
    """Nor do they load one before it is needed."""
    check = (
        "import sys, npnlp.cli.commands, npnlp.exchange, npnlp.exchange.differences\n"
        "assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=900, env=environment())


@pytest.mark.parametrize(
    ("package", "module", "command"),
    [("onnx", "onnx_graph", ("export", "--format", "onnx", "--save-dir", "DIR")),
     ("onnxruntime", "onnx_run", ("verify", "DIR/model.onnx")),
     ("torch", "torch_model", ("verify", "DIR/model.safetensors"))],
)  # fmt: skip
def test_a_package_that_is_not_installed_is_named_with_its_remedy(
    package: str, module: str, command: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:  # fmt: skip
    for name in (module, "onnx_model", "onnx_recurrent", "onnx_transformer"):
        monkeypatch.delitem(sys.modules, f"npnlp.exchange.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    made().save(tmp_path / "model.safetensors")
    (tmp_path / "model.onnx").write_bytes(b"whatever")
    before = tree(tmp_path)
    assert run_main(*(word.replace("DIR", str(tmp_path)) for word in command)) == 2
    refusal(capsys.readouterr().err, f"npnlp {command[0]}:", package, f"pip install {package}")
    assert tree(tmp_path) == before
