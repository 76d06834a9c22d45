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

from npnlp.classifier.classifier import Classifier
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


WRAPPED = {
    "module.": ("module.{}", "without the prefix 'module.'"),
    "_orig_mod.": ("_orig_mod.{}", "without the prefix '_orig_mod.'"),
    "model.": ("model.{}", "without the prefix 'model.'"),
    "a class of one's own": ("net.inner.{}", "without the prefix 'net.inner.'"),
    "DDP of a compiled model": ("module._orig_mod.{}", "without the prefix 'module._orig_mod.'"),
    "every part compiled": ("{}", "without '_orig_mod' in names such as"),
}


@pytest.mark.parametrize("case", WRAPPED)
@pytest.mark.parametrize("counted", [False, True])
def test_what_wrappers_put_into_names_is_left_out_and_said(
    case: str, counted: bool, tmp_path: Path
) -> None:
    pattern, words = WRAPPED[case]
    state = {pattern.format(n): v for n, v in made(cell="gru").model.state_dict().items()}
    if pattern == "{}":
        state = {n.replace(".", "._orig_mod.", 1): v for n, v in state.items()}
    if counted:
        state["n_averaged"] = np.array(7)
    path = bare(tmp_path / "wrapped.safetensors", state)
    said: list[str] = []
    back = read_state_dict(path, vectorizer_file(tmp_path), said=said)
    same_bits(back, made(cell="gru"))
    assert words in ", ".join(said)
    assert ("without the counter n_averaged" in said) == counted


@pytest.mark.parametrize("encoder", ["rnn._orig_mod.", "gru._orig_mod.", "gru.module."])
def test_a_wrapped_encoder_is_understood(encoder: str, tmp_path: Path) -> None:
    state = made(cell="gru").model.state_dict()
    named = {name.replace("rnn.", encoder): value for name, value in state.items()}
    path = bare(tmp_path / "encoder.safetensors", named)
    said: list[str] = []
    same_bits(read_state_dict(path, vectorizer_file(tmp_path), said=said), made(cell="gru"))
    assert encoder.split(".")[1] in said[0]


def test_the_command_says_how_names_were_read(tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in made().model.state_dict().items()}
    path = bare(tmp_path / "ddp.safetensors", state | {"n_averaged": np.array(7)})
    done = npnlp("import", path, "--save-dir", tmp_path / "new", "--vectorizer-file",
                 vectorizer_file(tmp_path))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"{path}: read without the counter n_averaged, without the prefix 'module.'" in (
        done.stdout.decode()
    )
    same_bits(Classifier.load(tmp_path / "new" / "model.safetensors"), made())


def test_a_refusal_lists_the_names_that_are_there(tmp_path: Path) -> None:
    state = made().model.state_dict()
    theirs = {name.replace("fc2", "head"): value for name, value in state.items()}
    path = bare(tmp_path / "theirs.safetensors", theirs)
    with pytest.raises(InputError, match=r"'fc2.weight' is missing.* there are .*head.weight"):
        read_state_dict(path, vectorizer_file(tmp_path))
    path = bare(tmp_path / "more.safetensors", {**state, "more.weight": state["fc2.bias"]})
    with pytest.raises(InputError, match=r"'more.weight' does not belong.* there are .*emb.weight"):
        read_state_dict(path, vectorizer_file(tmp_path))
    twice = bare(tmp_path / "twice.safetensors", {**state, "fc1.module.bias": state["fc1.bias"]})
    with pytest.raises(InputError, match=r"'fc1.bias' is there twice"):
        read_state_dict(twice, vectorizer_file(tmp_path))


@pytest.mark.parametrize("cause", [None, "half an install"], ids=["missing", "broken"])
def test_without_pytorch_a_pickle_is_refused_with_the_way_to_convert_it(
    cause: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ``torch`` on the path that is not there, or that raises, is asked for first."""
    for name in [n for n in sys.modules if n.split(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "npnlp.exchange.torch_model", raising=False)
    if cause is None:
        monkeypatch.setitem(sys.modules, "torch", None)
    else:
        (tmp_path / "torch.py").write_text(f"raise AttributeError({cause!r})\n", "utf-8")
        monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04data.pkl")
    with pytest.raises(InputError, match=r"model.pt: a PyTorch pickle.*convert it.*weights_only"):
        read_state_dict(tmp_path / "model.pt", vectorizer_file(tmp_path))
