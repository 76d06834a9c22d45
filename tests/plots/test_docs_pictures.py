"""The pictures of the pages: drawn from the kept results, readable, and in the page's language."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from npnlp.drawing import CELL_COLOURS, LANGUAGES
from npnlp.drawing.korean import KOREAN
from npnlp.drawing.language import translated
from npnlp.lab.pictures import cures, vanishing
from tests.support.figures import exponents, outside, texts_of, without_legend
from tests.support.fonts import font_of, letters_of, only_own_fonts

ROOT = Path(__file__).resolve().parents[2]
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools/docs_pictures.py"))
BOTH, ENGLISH = TOOL["BOTH"], TOOL["ENGLISH"]
PAGES = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("README*.md")]
#: What is no word of English: names of cells, variants and functions, and letters of formulas.
NAMES = re.compile(
    r"\b(tanh|ReLU|relu|irnn|orthogonal|bidirectional|lstm|gru|chrono|attention|transformer|phi|"
    r"mathdefault|[A-Za-z]{1,2}(_[A-Za-z]+)?|W_hh|dh_T|dh_k|dW_hh)\b",
    re.ASCII,
)
#: Drawn by other tools, from a model.
ELSEWHERE = {"unrolled", "explained", "page", "mean_field"}
each = pytest.mark.parametrize("name", [*BOTH, *ENGLISH])
each_of_both = pytest.mark.parametrize("name", list(BOTH))


def figure_of(name: str, **options: Any) -> Figure:
    draw, result = (BOTH | ENGLISH)[name]
    found: Figure = draw(ROOT / f"docs/results/{result}.csv", **options)
    return found


@each
def test_no_curve_leaves_its_frame_and_every_curve_has_a_name(name: str) -> None:
    figure = figure_of(name)
    assert list(outside(figure)) == []
    assert without_legend(figure) == []


@each
def test_ticks_are_of_numbers_that_tell_something(name: str) -> None:
    assert all(abs(power) <= 30 for power in exponents(figure_of(name)))


def test_a_curve_outside_would_be_found() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [1e-40, 2], label="far")
    axes.plot([0, 1], [1, 1], label="near")
    axes.set(yscale="log", ylim=(1e-3, 10))
    assert list(outside(figure)) == [("far", 0.0, 1e-40)]
    assert without_legend(figure) == [""]
    axes.set_ylim(1e-300, 10)
    assert min(exponents(figure)) < -30


@pytest.fixture
def hangul(tmp_path: Path) -> Iterator[None]:
    """A machine with a font that has what Korean labels need."""
    with only_own_fonts(font_of(tmp_path / "some.ttf", letters_of(KOREAN.values()))):
        yield


@each_of_both
@pytest.mark.usefixtures("hangul")
def test_every_word_of_a_korean_picture_is_korean(name: str) -> None:
    texts = texts_of(figure_of(name, language="ko"))
    assert any("가" <= letter <= "힣" for text in texts for letter in text)
    left = {text for text in texts if re.search("[A-Za-z]{3}", NAMES.sub("", text))}
    assert left == set()


def test_what_is_not_known_stays_as_it_is() -> None:
    assert translated("Nakamoto", "ko") == "Nakamoto"
    assert translated("epoch", "en") == "epoch"
    assert translated("gradient, at first", "ko") == "기울기, 처음"
    assert translated("true label (test rows)", "ko") == "실제 label(테스트 행 수)"
    assert translated("What each letter adds to A, against B", "ko").startswith("각 글자가 B 대신")


def test_every_translation_fills_the_same_places() -> None:
    for english, korean in KOREAN.items():
        places = english.count("{}")
        assert korean.count("{}") in (0, places), english
        assert korean.count("{}") or all(f"{{{n}}}" in korean for n in range(places)), english


def shown() -> Iterator[tuple[Path, str]]:
    """Every picture of docs/images that a page shows."""
    for page in PAGES:
        for found in re.findall(r"\]\((?:docs/)?images/([\w.]+)\)", page.read_text("utf-8")):
            yield page, found


def test_each_page_shows_pictures_in_its_language_and_all_are_drawn_by_a_tool() -> None:
    pictures = list(shown())
    assert len(pictures) > 20
    for page, picture in pictures:
        name, *mark = picture.removesuffix(".png").split(".")
        assert name in BOTH or name in ENGLISH or name in ELSEWHERE, picture
        assert (mark == ["ko"]) == (".ko" in page.suffixes), (page.name, picture)
    drawn = {f"{name}{mark}.png" for name in BOTH for mark in LANGUAGES.values()}
    drawn |= {f"{name}.png" for name in (*ENGLISH, *ELSEWHERE)} | {"unrolled.ko.png"}
    assert {path.name for path in (ROOT / "docs/images").iterdir()} == drawn


def test_a_cell_has_the_same_colour_everywhere() -> None:
    """In the pictures of cures and of models compared, and apart from every other."""
    assert len(set(CELL_COLOURS.values())) == len(CELL_COLOURS)
    for variant, look in cures.LOOKS.items():
        cell = next((cell for cell in CELL_COLOURS if variant.startswith(cell)), "elman")
        assert look.colour == CELL_COLOURS[cell], variant
    assert len({look[:2] for look in cures.LOOKS.values()}) == len(cures.LOOKS)
    figure = figure_of("compare_models")
    entrants = pd.read_csv(ROOT / "docs/results/compare_models.csv")["entrant"].tolist()
    axes = figure.axes[0]
    for line in axes.lines:
        places = np.asarray(line.get_ydata(), float)
        if line.get_marker() == "o" and len(places):
            entrant = entrants[len(entrants) - 1 - round(float(places[0]))]
            cells = [cell for cell in CELL_COLOURS if cell in entrant]
            assert line.get_color() == (CELL_COLOURS[cells[0]] if cells else "#000000"), entrant


def test_the_panels_say_where_the_far_ends_are() -> None:
    texts = texts_of(vanishing.starts(ROOT / "docs/results/vanishing_starts.csv"))
    assert "lag 99: gradient 10⁻⁶¹, bound 2·10⁻³⁰" in texts


@pytest.mark.parametrize(("count", "maps"), [(2, 0), (4, 0), (5, 2)])
def test_heat_maps_over_training_are_of_five_epochs_at_least(count: int, maps: int) -> None:
    table = pd.read_csv(ROOT / "docs/results/vanishing_epochs.csv")
    figure = vanishing.epochs(table[table["epoch"] < count])
    assert sum(len(axes.images) for axes in figure.axes) == maps
    assert ("epoch 1" in texts_of(figure)) == (not maps)
    assert list(outside(figure)) == []


def test_the_tool_draws_what_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TOOL["main"].__globals__, "IMAGES", tmp_path / "docs")
    monkeypatch.setitem(TOOL["main"].__globals__, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    assert TOOL["main"](["book_protocol"]) == 0
    assert capsys.readouterr().out == "docs/book_protocol.png\n"
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["book_protocol.png"]
