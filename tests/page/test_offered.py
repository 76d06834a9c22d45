"""What ``npnlp page`` writes and refuses; without a browser."""

from __future__ import annotations

import hashlib
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.classifier.building import make_classifier
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.page.html import FOLDER, LANGUAGES, SCRIPTS, UPLOT, page_of, write_page
from npnlp.page.offered import KINDS as OFFERED
from npnlp.page.offered import LARGEST
from npnlp.page.values import EXAMPLE, values_of
from tests.page.models import KINDS, made
from tests.support.tables import refusal, run_main, small_dataset, train_small

Capture = pytest.CaptureFixture[str]
#: The published files of uPlot, by their SHA-256.
PUBLISHED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
#: The most that a page of npnlp's own model may have, in bytes.
MOST = 1_000_000


def test_the_library_is_the_published_one() -> None:
    assert {path.name for path in (FOLDER / "uplot").iterdir()} == set(PUBLISHED)
    for name, digest in PUBLISHED.items():
        assert hashlib.sha256((FOLDER / "uplot" / name).read_bytes()).hexdigest() == digest
    script = (FOLDER / "uplot/uPlot.iife.min.js").read_text("utf-8")
    assert f"(v{UPLOT})" in script


def test_every_source_is_in_the_page_and_short() -> None:
    names = {path.stem for path in (FOLDER / "source").glob("*.js")}
    assert names == set(SCRIPTS)
    for path in (*(FOLDER / "source").iterdir(), *(FOLDER / "strings").iterdir()):
        assert len(path.read_text("utf-8").splitlines()) <= 300, path
    content = page_of([(Classifier.load(), "")])
    for path in (FOLDER / "source").glob("*.js"):
        assert path.read_text("utf-8") in content


def test_both_languages_have_the_same_strings() -> None:
    english, korean = (json.loads((FOLDER / f"strings/{n}.json").read_text("utf-8"))
                       for n in LANGUAGES)  # fmt: skip
    assert list(english) == list(korean)
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", korean[key]))
        assert not re.search("[가-힣]", text)
    plain = {key for key, text in korean.items() if not re.search("[가-힣]", text)}
    assert plain == {"cell_gru", "cell_lstm", "layer"}


def test_every_string_is_used() -> None:
    sources = "".join(path.read_text("utf-8") for path in (FOLDER / "source").iterdir())
    strings = json.loads((FOLDER / "strings/en.json").read_text("utf-8"))
    by_cell = {f"{what}_{kind}" for kind in OFFERED for what in ("cell", "flow")}
    assert {key for key in strings if f'"{key}"' not in sources} == by_cell


class Reader(html.parser.HTMLParser):
    """The attributes of a page that lead elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.leads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        leads = [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self.leads += [value for value in leads if not value.startswith("#")]
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]


def test_the_page_stands_alone_and_is_small(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(path, [(Classifier.load(), "")])
    assert path.stat().st_size <= MOST
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    assert reader.leads == []


def test_the_weights_are_the_model_s_bits() -> None:
    import base64

    classifier = Classifier.load()
    values = values_of(classifier)
    flat = np.frombuffer(base64.b64decode(values["data"]), dtype="<f4")
    state = classifier.model.state_dict()
    assert [name for name, _ in values["tensors"]] == list(state)
    np.testing.assert_array_equal(flat, np.concatenate([v.reshape(-1) for v in state.values()]))


def test_a_class_with_a_tag_for_a_name_is_text() -> None:
    classifier = made("elman")
    tokens = [f"</script><script>{n}" for n in range(18)]
    classifier.vectorizer.nationality_vocab = type(classifier.vectorizer.nationality_vocab)(
        {token: n for n, token in enumerate(tokens)}
    )
    content = page_of([(classifier, "<b>")])
    assert content.count("</script>") == 3
    assert "<b>" not in content


@pytest.mark.parametrize("kind", KINDS)
def test_every_recurrent_model_is_offered(kind: str) -> None:
    classifier = made(kind)
    assert values_of(classifier)["cell"] in OFFERED
    assert "model-data" in page_of([(classifier, "")])


def test_every_kind_of_cell_is_tested() -> None:
    assert {values_of(made(kind))["cell"] for kind in KINDS} == set(OFFERED)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "transformer": ({"cell": "transformer"}, "--cell elman, gru or lstm"),
    "n-grams": ({"ngram_orders": (1, 2)}, "without --ngram-orders and without --recipe"),
    "large": ({"rnn_hidden_size": 2000}, f"{LARGEST:,}; train one with a smaller"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_models_are_refused_in_one_line(
    tmp_path: Path, what: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings, words = REFUSED[what]
    dataset = small_dataset(tmp_path)
    model = make_classifier(dataset, settings, get_backend("numpy"), seed=1)
    (tmp_path / "run").mkdir()
    Classifier(model, dataset.get_vectorizer()).save(tmp_path / "run" / "model.safetensors")
    assert run_main("page", "--save-dir", "run") == 2
    refusal(capsys.readouterr().err, "npnlp page: there is no page for this model", words)
    assert not (tmp_path / "page.html").exists()


def test_a_cell_of_one_s_own_is_refused() -> None:
    classifier = made("elman")
    cell = classifier.model.encoder.cells[0]
    own = type("Own", (type(cell),), {"step": lambda self, u, before: ((u,), ())})
    cell.__class__ = own
    with pytest.raises(InputError, match="a cell of your own"):
        page_of([(classifier, "")])


def test_the_number_of_models() -> None:
    for count in (0, 3):
        with pytest.raises(InputError, match="one, or two to compare"):
            page_of([(made("elman"), "")] * count)


def test_a_model_that_does_not_know_the_example_has_another() -> None:
    vectorizer = made("elman").vectorizer
    assert values_of(made("elman"))["example"] == EXAMPLE
    tokens = ["<MASK>", "<UNK>", "<BEGIN>", "<END>", "김", "-", "박", "이"]
    vectorizer.char_vocab = type(vectorizer.char_vocab)({t: n for n, t in enumerate(tokens)})
    config = ClassifierConfig(num_embeddings=8, num_classes=18, embedding_size=4, rnn_hidden_size=4)
    classifier = Classifier(SurnameClassifier(config), vectorizer)
    assert values_of(classifier)["example"] == "김박이"


# --- the command


def test_the_command_without_a_run_takes_npnlp_s_own_model(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main("page") == 0
    out, err = capsys.readouterr()
    size = (tmp_path / "page.html").stat().st_size
    assert out == f"page.html: {size:,} bytes; open it in a browser\n"
    assert "the model that comes with npnlp" in err


def test_the_command_compares_two_runs(tmp_path: Path, capsys: Capture) -> None:
    assert train_small(tmp_path / "plain", "--no-pictures") == 0
    assert train_small(tmp_path / "gated", "--no-pictures", "--cell", "gru") == 0
    output = tmp_path / "two.html"
    assert run_main("page", "--save-dir", tmp_path / "plain", "--compare", tmp_path / "gated",
                    "--output", output) == 0  # fmt: skip
    content = output.read_text("utf-8")
    assert '"label":"plain"' in content
    assert '"label":"gated"' in content
    assert str(tmp_path) not in content


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--save-dir", "gone"), ("gone/model.safetensors: no such file", "npnlp train")),
        (("--compare", "gone"), ("gone/model.safetensors: no such file", "npnlp train")),
        (("--output", "page.txt"), ("page.txt", "has to end in .html")),
        (("--output", "gone/page.html"), ("gone",)),
    ],
)
def test_bad_options_are_one_line(
    tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...], capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run_main("page", *options) == 2
    refusal(capsys.readouterr().err.splitlines()[-1] + "\n", "npnlp page: ", *words)
    assert list(tmp_path.iterdir()) == []


def test_a_run_has_a_page_beside_its_pictures(tmp_path: Path) -> None:
    assert train_small(tmp_path / "run", "--cell", "lstm", epochs=1) == 0
    content = (tmp_path / "run" / "page.html").read_text("utf-8")
    assert '"cell":"lstm"' in content
    model = Classifier.load(tmp_path / "run" / "model.safetensors")
    assert content == page_of([(model, "")])


@pytest.mark.parametrize("options", [("--cell", "transformer"), ("--ngram-orders", "1", "2")])
def test_a_run_without_a_page_says_so_and_is_done(
    tmp_path: Path, options: tuple[str, ...], capsys: Capture
) -> None:
    assert train_small(tmp_path / "run", *options, epochs=1) == 0
    assert not (tmp_path / "run" / "page.html").exists()
    assert (tmp_path / "run" / "confusion_matrix.png").exists()
