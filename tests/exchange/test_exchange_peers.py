"""The same outputs and gradients as PyTorch's modules, and state dicts both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.exchange import Choices, read_state_dict, write_state_dict
from npnlp.exchange.differences import BOUNDS, Names, difference, from_torch, own_pass
from npnlp.layers import Embedding
from npnlp.models import ClassifierConfig
from tests.support.exchange import (
    CASES,
    CELLS,
    LONG,
    MANY,
    ONE,
    OTHERS,
    SHORTEST,
    V,
    label,
    made,
    same_bits,
    vectorizer_file,
)
from tests.support.tables import npnlp

pytestmark = pytest.mark.peers
torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

from npnlp.exchange.torch_model import torch_model  # noqa: E402

nn: Any = torch.nn


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads on busy cores wait for each other: minutes instead of seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def check_same(model: Any, names: Names) -> None:
    found = from_torch(model, names)
    quantities = {each.quantity for each in found}
    assert {f"gradient of {name}" for name in model.parameters} < quantities
    assert {(each.quantity, dtype) for each in found for dtype in BOUNDS} == {
        (each.quantity, each.dtype) for each in found
    }
    for each in found:
        assert each.value <= BOUNDS[each.dtype], each


@pytest.mark.parametrize("case", CASES + OTHERS, ids=label)
def test_outputs_and_gradients_are_pytorchs(case: dict[str, Any]) -> None:
    model = made(**case).model
    check_same(model, MANY)
    assert np.abs(own_pass(model, MANY)[2]["emb.weight"]).max() > 1e-4


@pytest.mark.parametrize("case", [c for c in CASES if c["num_layers"] == 2] + OTHERS, ids=label)
def test_so_are_those_of_one_name(case: dict[str, Any]) -> None:
    check_same(made(**case).model, ONE)
    check_same(made(**case).model, SHORTEST)


@pytest.mark.parametrize("cell", CELLS)
def test_at_the_sizes_of_a_real_model(cell: str) -> None:
    classifier = made(**CELLS[cell], num_layers=2, embedding_size=100, rnn_hidden_size=64)
    check_same(classifier.model, MANY)
    check_same(classifier.model, LONG)


def test_a_gradient_off_by_a_thousandth_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Embedding.add_grad

    def wrong(self: Embedding, rows: Any, d_rows: Any) -> None:
        plain(self, rows, d_rows * 1.001)

    monkeypatch.setattr(Embedding, "add_grad", wrong)
    failed = [each for each in from_torch(made().model, MANY) if not each.passed]
    assert {each.quantity for each in failed} == {"gradient of emb.weight"}


def test_what_is_not_a_number_is_not_within_the_bound() -> None:
    assert not difference("logits", np.array([np.nan, 0.0]), np.zeros(2)).passed
    assert difference("logits", np.array([1e-13, 100.0]), np.array([0.0, 100.0])).passed
    with pytest.raises(InputError, match="logits"):
        difference("logits", np.zeros(2), np.zeros(3))


def logits_of(module: Any, names: Names) -> Any:
    with torch.no_grad():
        return module.eval()(torch.tensor(names.tokens), torch.tensor(names.lengths)).numpy()


ROUND_TRIPS = [c for c in CASES if c["num_layers"] == 2 and c["pooling"] in ("max", "attention")]
ROUND_TRIPS += OTHERS


@pytest.mark.parametrize("case", ROUND_TRIPS, ids=label)
def test_a_state_dict_goes_to_pytorch_and_back(case: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    classifier = made(**case)
    write_state_dict(classifier, tmp_path / "out.safetensors")
    module = torch_model(classifier.model.config)
    module.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
    assert difference("logits", own_pass(classifier.model, MANY)[0], logits_of(module, MANY)).passed
    save_file(module.state_dict(), tmp_path / "bare.safetensors")
    names = ("nonlinearity", "reset", "pooling", "num_heads")
    choices = Choices(**{name: case[name] for name in names if name in case})
    back = read_state_dict(tmp_path / "bare.safetensors", vectorizer_file(tmp_path), choices)
    assert back.model.config == classifier.model.config
    same_bits(classifier, back)


class SeedRNN(nn.Module):  # type: ignore[misc]
    """The loop over a cell of Rao and McMahan, chapter 6."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.rnn_cell = nn.RNNCell(input_size, hidden_size)

    def forward(self, x: Any) -> Any:
        hidden, h = [], x.new_zeros(len(x), self.rnn_cell.hidden_size)
        for step in x.permute(1, 0, 2):
            h = self.rnn_cell(step, h)
            hidden.append(h)
        return torch.stack(hidden).permute(1, 0, 2)


class SeedClassifier(nn.Module):  # type: ignore[misc]
    """The seed's class, in its own names."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        size = config.rnn_hidden_size
        self.emb = nn.Embedding(config.num_embeddings, config.embedding_size, padding_idx=0)
        self.rnn = SeedRNN(config.embedding_size, size)
        self.fc1 = nn.Linear(size, size)
        self.fc2 = nn.Linear(size, config.num_classes)

    def forward(self, tokens: Any, lengths: Any) -> Any:
        hidden = self.rnn(self.emb(tokens))
        last = hidden[torch.arange(len(hidden)), lengths - 1]
        return self.fc2(torch.relu(self.fc1(last)))


def test_the_seeds_own_class_both_ways(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    classifier = made()
    theirs = SeedClassifier(classifier.model.config)
    save_file(theirs.state_dict(), tmp_path / "seed.safetensors")
    taken = read_state_dict(tmp_path / "seed.safetensors", vectorizer_file(tmp_path))
    assert taken.model.config == classifier.model.config
    assert difference("logits", own_pass(taken.model, MANY)[0], logits_of(theirs, MANY)).passed

    write_state_dict(classifier, tmp_path / "back.safetensors", "notebook")
    theirs.load_state_dict(load_file(tmp_path / "back.safetensors"), strict=True)
    assert difference("logits", own_pass(classifier.model, MANY)[0], logits_of(theirs, MANY)).passed


def test_another_name_for_the_encoder(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    encoder = nn.LSTM(5, 6, num_layers=2, bidirectional=True)
    theirs = nn.ModuleDict({"emb": nn.Embedding(V, 5), "lstm": encoder, "fc1": nn.Linear(12, 6),
                            "fc2": nn.Linear(6, 3)})  # fmt: skip
    save_file(theirs.state_dict(), tmp_path / "mine.safetensors")
    taken = read_state_dict(tmp_path / "mine.safetensors", vectorizer_file(tmp_path))
    config = taken.model.config
    assert (config.cell, config.num_layers, config.bidirectional) == ("lstm", 2, True)
    padded = theirs["emb"](torch.tensor(ONE.tokens))
    _, (h_n, _) = encoder(padded.transpose(0, 1))
    expected = theirs["fc2"](torch.relu(theirs["fc1"](torch.cat((h_n[-2], h_n[-1]), 1))))
    assert difference("logits", own_pass(taken.model, ONE)[0], expected.detach().numpy()).passed


@pytest.mark.parametrize(
    ("cell", "drop"),
    [*((cell, "rnn_dropout") for cell in CELLS), ("lstm", "dropout"), ("lstm", "embedding_dropout"),
     ("lstm", "char_dropout"), ("lstm", "ngram_dropout")],
)  # fmt: skip
def test_dropout_of_the_twin_is_on_in_training_only(cell: str, drop: str) -> None:
    drops = ("dropout", "rnn_dropout", "embedding_dropout", "char_dropout", "ngram_dropout")
    chances: dict[str, Any] = dict.fromkeys(drops, 0.0) | {drop: 0.4}
    config = made(**CELLS[cell], num_layers=2, ngram_orders=(1, 2), **chances).model.config
    module = torch_model(config)
    tokens, lengths = torch.tensor(MANY.tokens), torch.tensor(MANY.lengths)
    torch.manual_seed(0)
    module.train()
    assert not torch.equal(module(tokens, lengths), module(tokens, lengths))
    module.eval()
    assert torch.equal(module(tokens, lengths), module(tokens, lengths))


def test_training_with_what_pytorch_does_not_have_is_refused() -> None:
    config = made(cell="lstm", num_layers=2, rnn_dropout=0.4, variational=True).model.config
    tokens, lengths = torch.tensor(MANY.tokens), torch.tensor(MANY.lengths)
    module = torch_model(config)
    assert module.eval()(tokens, lengths).shape == (len(lengths), config.num_classes)
    with pytest.raises(InputError, match="variational"):
        module.train()(tokens, lengths)


def torch_state() -> dict[str, Any]:
    return {name: torch.tensor(value) for name, value in made().model.state_dict().items()}


@pytest.mark.parametrize("nested", [(), ("state_dict",), ("model_state_dict",)])
@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_a_pickle_of_weights_is_read(tmp_path: Path, nested: tuple[str, ...], prefix: str) -> None:
    content: Any = {prefix + name: value for name, value in torch_state().items()}
    for key in nested:
        content = {"epoch": 3, "optimizer": {"lr": 0.1, "steps": [1, 2]}, key: content}
    torch.save(content, tmp_path / "model.pth")
    said: list[str] = []
    taken = read_state_dict(tmp_path / "model.pth", vectorizer_file(tmp_path), said=said)
    same_bits(taken, made())
    assert said == ([f"without the prefix {prefix!r} of all tensors"] if prefix else [])


@pytest.mark.parametrize("name", ["renamed.safetensors", "model.pkl"])
def test_a_pickle_by_another_name_is_refused_and_not_read(tmp_path: Path, name: str) -> None:
    torch.save(torch_state(), tmp_path / name)
    with pytest.raises(InputError, match=r"pickle.*save_file"):
        read_state_dict(tmp_path / name, vectorizer_file(tmp_path))


def test_an_averaged_model_is_read_from_the_real_wrapper(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(torch_model(made().model.config))
    averaged.module.load_state_dict(torch_state())
    torch.save(averaged.state_dict(), tmp_path / "swa.pt")
    vectorizer = vectorizer_file(tmp_path)
    done = npnlp("import", tmp_path / "swa.pt", "--save-dir", tmp_path / "new",
                 "--vectorizer-file", vectorizer)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert (
        "swa.pt: read without the counter n_averaged, without the prefix 'module.' of all tensors"
    ) in done.stdout.decode()
    same_bits(Classifier.load(tmp_path / "new" / "model.safetensors"), made())


def test_half_precision_and_strides_are_read(tmp_path: Path) -> None:
    halved = {name: value.to(torch.bfloat16) for name, value in torch_state().items()}
    halved["emb.weight"] = halved["emb.weight"].T.contiguous().T
    torch.save(halved, tmp_path / "half.pt")
    taken = read_state_dict(tmp_path / "half.pt", vectorizer_file(tmp_path)).model.state_dict()
    for name, value in taken.items():
        np.testing.assert_array_equal(value, halved[name].float().numpy())


@pytest.mark.parametrize("content", ["module", "list", "number", "deep", "damaged"])
def test_a_pickle_of_anything_else_is_refused_and_not_run(tmp_path: Path, content: str) -> None:
    path, state = tmp_path / "other.pt", torch_state()
    others: dict[str, Any] = {"module": torch_model(made().model.config), "list": [state],
                              "number": 3, "deep": {"a": {"b": state}},
                              "damaged": state}  # fmt: skip
    torch.save(others[content], path)
    if content == "damaged":
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"other.pt: a pickle .*state_dict\(\)"):
        read_state_dict(path, vectorizer_file(tmp_path))


def test_verify_prints_every_difference_and_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    made(cell="gru", reset="before", bidirectional=True, pooling="attention").save(path)
    done = npnlp("verify", path, "--names", "40")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert "PyTorch" in lines[0]
    assert "on 40 names" in lines[0]
    assert lines[2].split() == ["quantity", "largest", "entry", "float32", "float64"]
    rows = {line[:38].strip(): line.split()[-2:] for line in lines[3:-2]}
    assert len(rows) == 2 + 1 + 8 + 3 + 4 + 1  # logits, loss; emb, rnn, pool, fc1 and fc2; bound
    assert rows.pop("bound") == ["1e-05", "1e-12"]
    assert all(float(single) <= 1e-5 and float(double) <= 1e-12 for single, double in rows.values())
    assert lines[-1] == "36 comparisons; all passed"
