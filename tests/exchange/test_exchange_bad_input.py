"""State dicts that cannot be taken over are one line with the tensor, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.exchange import read_state_dict, write_state_dict
from tests.support.exchange import (
    V,
    bare,
    made,
    same_bits,
    vectorizer_file,
)
from tests.support.tables import (
    refusal,
    run_main,
    tree,
)

Capture = pytest.CaptureFixture[str]


def refused_import(capsys: Capture, folder: Path, *arguments: str | Path) -> str:
    """Check that nothing is written, and status and shape of the message; the message."""
    before = tree(folder)
    assert run_main("import", *arguments, "--save-dir", folder / "new") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert tree(folder) == before
    assert not (folder / "new").exists()
    return refusal(printed.err, "npnlp import:")


BAD_STATES: dict[str, tuple[dict[str, NDArray[Any] | None], tuple[str, ...]]] = {
    "a tensor missing": ({"fc1.bias": None}, ("'fc1.bias'", "missing")),
    "the embedding missing": ({"emb.weight": None}, ("'emb.weight'", "missing")),
    "a bias of the cell missing": ({"rnn.bias_hh_l0": None}, ("'rnn.bias_hh_l0'", "missing")),
    "the cell missing": (
        {f"rnn.{name}_l0": None for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
        ("'rnn.weight_hh_l0'", "missing"),
    ),
    "one too many": ({"fc3.weight": np.zeros(3, np.float32)}, ("'fc3.weight'",)),
    "transposed": ({"rnn.weight_ih_l0": np.zeros((5, 6), np.float32)}, ("weight_ih", "shape")),
    "another length": ({"fc2.bias": np.zeros(4, np.float32)}, ("'fc2.bias'", "(4,)", "(3,)")),
    "one axis": ({"emb.weight": np.zeros(V, np.float32)}, ("'emb.weight'", "two axes")),
    "no rows": ({"rnn.weight_hh_l0": np.zeros((0, 6), np.float32)}, ("'rnn.weight_hh_l0'",)),
    "two gates": ({"rnn.weight_hh_l0": np.zeros((12, 6), np.float32)}, ("(12, 6)", "3 (GRU)")),
    "not a number": ({"fc1.bias": np.full(6, np.nan, np.float32)}, ("'fc1.bias'", "finite")),
    "too large for float32": ({"fc1.bias": np.full(6, 1e300)}, ("'fc1.bias'", "finite")),
    "whole numbers": ({"fc1.bias": np.zeros(6, np.int64)}, ("'fc1.bias'", "int64")),
    "two encoders": (
        {"gru.weight_hh_l0": np.zeros((18, 6), np.float32)}, ("'gru'", "'rnn'")
    ),
    "a weight under two names": (
        {"rnn.rnn_cell.weight_ih": np.zeros((6, 5), np.float32)},
        ("'rnn.weight_ih_l0'", "twice"),
    ),
    "another vocabulary": (
        {"emb.weight": np.zeros((V + 1, 5), np.float32)},
        ("'emb.weight'", f"{V + 1} rows", f"{V} characters"),
    ),
    "another number of classes": (
        {"fc2.weight": np.zeros((4, 6), np.float32), "fc2.bias": np.zeros(4, np.float32)},
        ("'fc2.weight'", "4 rows", "3 nationalities"),
    ),
    "n-grams without their keys": (
        {"ngrams.weight": np.zeros((4, 2), np.float32)}, ("'ngrams.keys'", "whole numbers")
    ),
    "layers between missing": (
        {"rnn.weight_hh_l999999999": np.zeros((6, 6), np.float32)},
        ("'rnn.weight_hh_l1'", "missing"),
    ),
    "an LSTM with a projection": (
        {"rnn.weight_hr_l0": np.zeros((2, 6), np.float32)}, ("'rnn.weight_hr_l0'",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_STATES)
def test_a_bad_state_dict_is_refused(bad: str, tmp_path: Path, capsys: Capture) -> None:
    changes, words = BAD_STATES[bad]
    state = {**made().model.state_dict(), **changes}
    path = bare(tmp_path / "bad.safetensors", {k: v for k, v in state.items() if v is not None})
    file = vectorizer_file(tmp_path)
    message = refused_import(capsys, tmp_path, path, "--vectorizer-file", file)
    refusal(message, path, *words)


def test_a_missing_layer_is_named(tmp_path: Path, capsys: Capture) -> None:
    state = made(num_layers=3).model.state_dict()
    kept = {name: value for name, value in state.items() if "_l1" not in name}
    path, file = bare(tmp_path / "gap.safetensors", kept), vectorizer_file(tmp_path)
    message = refused_import(capsys, tmp_path, path, "--vectorizer-file", file)
    refusal(message, path, "_l1'", "missing")


BAD_FILES: dict[str, tuple[str, bytes | None, tuple[str, ...]]] = {
    "none": ("none.safetensors", None, ("no such file",)),
    "no safetensors": ("text.safetensors", b"nothing of the kind", ("safetensors",)),
    "empty": ("empty.safetensors", b"", ("safetensors",)),
    "an archive of torch.save": ("a.safetensors", b"PK\x03\x04data.pkl", ("pickle", "save_file")),
    "a bare pickle": ("b.safetensors", b"\x80\x04\x95\x00", ("pickle", "save_file")),
    "by its name": ("c.pth", b"anything", ("pickle", "save_file")),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_file_that_is_no_state_dict_is_refused(bad: str, tmp_path: Path, capsys: Capture) -> None:
    name, content, words = BAD_FILES[bad]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    message = refused_import(capsys, tmp_path, tmp_path / name)
    refusal(message, tmp_path / name, *words)


def test_a_folder_and_a_cut_file_are_refused(tmp_path: Path, capsys: Capture) -> None:
    refusal(refused_import(capsys, tmp_path, tmp_path), "folder")
    path = bare(tmp_path / "cut.safetensors", made().model.state_dict())
    path.write_bytes(path.read_bytes()[:-1])
    refusal(refused_import(capsys, tmp_path, path), path, "safetensors")


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x0580])
def test_the_length_of_a_header_is_not_taken_for_a_pickle(length: int, tmp_path: Path) -> None:
    """Its first bytes may be those that a pickle begins with."""
    path, state = tmp_path / "bare.safetensors", made().model.state_dict()
    plain = int.from_bytes(safetensors.numpy.save(state, metadata={"by": ""})[:8], "little")
    kept = state if plain <= length else {"emb.weight": state["emb.weight"]}
    for filling in range(length):
        content = safetensors.numpy.save(kept, metadata={"by": "x" * filling})
        if int.from_bytes(content[:8], "little") == length:
            break
    path.write_bytes(content)
    assert content[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05")
    if kept is state:
        same_bits(made(), read_state_dict(path, vectorizer_file(tmp_path)))
    else:
        with pytest.raises(InputError, match="missing"):
            read_state_dict(path, vectorizer_file(tmp_path))


def bfloat16(path: Path) -> Path:
    header = json.dumps(
        {"emb.weight": {"dtype": "BF16", "shape": [1, 1], "data_offsets": [0, 2]}}
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    return path


def test_a_dtype_that_numpy_does_not_have_is_named(tmp_path: Path, capsys: Capture) -> None:
    path = bfloat16(tmp_path / "half.safetensors")
    message = refused_import(capsys, tmp_path, path, "--vectorizer-file", vectorizer_file(tmp_path))
    refusal(message, path, "emb.weight", "float()")


def test_what_a_bare_state_dict_needs_is_said(tmp_path: Path, capsys: Capture) -> None:
    path = bare(tmp_path / "bare.safetensors", made().model.state_dict())
    refusal(refused_import(capsys, tmp_path, path), path, "--vectorizer-file")
    wrong = tmp_path / "wrong.json"
    for content in ("{}", "[1", '{"char_vocab": {}}'):
        wrong.write_text(content, encoding="utf-8")
        refusal(refused_import(capsys, tmp_path, path, "--vectorizer-file", wrong), wrong)
    refusal(refused_import(capsys, tmp_path, path, "--vectorizer-file", tmp_path / "no"), "no")
    file = vectorizer_file(tmp_path)
    for option, value in (("--reset", "before"), ("--num-heads", "2"), ("--pooling", "attention")):
        message = refused_import(capsys, tmp_path, path, "--vectorizer-file", file, option, value)
        refusal(message, path, "gru" if option == "--reset" else "")


def test_choices_that_contradict_the_file_are_refused(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "out.safetensors"
    write_state_dict(made(pooling="mean"), path)
    message = refused_import(capsys, tmp_path, path, "--pooling", "max")
    refusal(message, path, "pooling", "'mean'", "'max'")
    state = made(pooling="attention").model.state_dict()
    path, file = bare(tmp_path / "bare.safetensors", state), vectorizer_file(tmp_path)
    message = refused_import(capsys, tmp_path, path, "--vectorizer-file", file, "--pooling", "last")
    refusal(message, path, "'last'", "attention")


@pytest.mark.parametrize("field", ["config", "vectorizer"])
@pytest.mark.parametrize("value", [None, [], {}, 3, "text"], ids=repr)
def test_damaged_metadata_is_refused(
    field: str, value: object, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "out.safetensors"
    write_state_dict(made(), path)
    with safetensors.safe_open(path, framework="numpy") as file:
        said = json.loads(file.metadata()["npnlp"]) | {field: value}
    kept = {name: each for name, each in said.items() if each is not None}
    state = made().model.state_dict()
    path.write_bytes(safetensors.numpy.save(state, metadata={"npnlp": json.dumps(kept)}))
    refusal(refused_import(capsys, tmp_path, path), path)


def test_a_model_that_is_there_is_not_written_over(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "out.safetensors"
    write_state_dict(made(), path)
    (tmp_path / "run").mkdir()
    made(seed=4).save(tmp_path / "run" / "model.safetensors")
    before = tree(tmp_path)
    assert run_main("import", path, "--save-dir", tmp_path / "run") == 2
    refusal(capsys.readouterr().err, tmp_path / "run" / "model.safetensors", "there already")
    assert tree(tmp_path) == before


def test_the_vocabularies_may_lie_in_the_folder_already(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = bare(tmp_path / "bare.safetensors", made().model.state_dict())
    (folder / "vectorizer.json").write_bytes(vectorizer_file(tmp_path).read_bytes())
    file = folder / "vectorizer.json"
    assert run_main("import", path, "--save-dir", folder, "--vectorizer-file", file) == 0
    same_bits(made(), Classifier.load(folder / "model.safetensors"))


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--output", "DIR/model.safetensors"), ("model.safetensors", "run itself")),
     (("--output", "DIR/last.safetensors"), ("last.safetensors", "run itself")),
     (("--output", "DIR/model.pt"), ("model.pt", ".safetensors")),
     (("--output", "DIR/none/x.safetensors"), ("none",)),
     (("--layout", "nope"), ("nope",)), (("--format", "nope"), ("nope",)),
     (("--model-state-file", "none"), ("none", "no such file"))],
    ids=str,
)  # fmt: skip
def test_a_bad_export_writes_nothing(
    options: tuple[str, str], words: tuple[str, ...], tmp_path: Path, capsys: Capture
) -> None:
    made().save(tmp_path / "model.safetensors")
    before = tree(tmp_path)
    given = [option.replace("DIR", str(tmp_path)) for option in options]
    assert run_main("export", "--save-dir", tmp_path, *given) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    refusal(printed.err, "npnlp export:", *words)
    assert tree(tmp_path) == before
