"""Plots return a figure: from a DataFrame or its file, in a notebook, as PNG, SVG or PDF."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from npnlp import plots
from npnlp.drawing import FORMATS, Picture, picture, power_of_ten
from npnlp.drawing.korean import KOREAN
from npnlp.errors import InputError
from npnlp.files.pictures import Output, files_of, format_of
from tests.support.figures import outside, texts_of, without_legend
from tests.support.fonts import font_of, letters_of, only_own_fonts
from tests.support.tables import finished_run, refusal, run_main, train_small

DRAWN: dict[str, tuple[Callable[..., Figure], str]] = {
    "learning_curves": (plots.learning_curves, "history.csv"),
    "gradient_norms": (plots.gradient_norms, "history.csv"),
    "gradient_flow": (plots.gradient_flow, "gradient_flow.csv"),
    "confusion_matrix": (plots.confusion_matrix, "confusion_matrix.csv"),
    "reliability": (plots.reliability, "reliability.csv"),
}
each = pytest.mark.parametrize("name", list(DRAWN))
each_format = pytest.mark.parametrize("kind", FORMATS)
THEIRS: Any = {
    "text.usetex": True, "font.family": "No Such Font", "axes.facecolor": "red", "figure.dpi": 17,
    "xtick.color": "green", "axes.unicode_minus": False, "mathtext.fontset": "cm",
    "text.hinting": "none", "lines.antialiased": False, "savefig.dpi": 20,
    "savefig.facecolor": "blue", "svg.fonttype": "none", "pdf.compression": 0,
}  # fmt: skip


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


def figure_of(name: str, folder: Path, **options: Any) -> Figure:
    draw, table = DRAWN[name]
    return draw(folder / table, **options)


@each
def test_a_table_and_its_file_give_the_same_figure(finished: Path, name: str) -> None:
    draw, table = DRAWN[name]
    frame = pd.read_csv(finished / table)
    before = frame.copy()
    figure = draw(frame)
    assert isinstance(figure, Picture)
    assert figure._repr_png_() == (finished / f"{name}.png").read_bytes()
    pd.testing.assert_frame_equal(frame, before)


@each
def test_all_is_inside_the_frames_and_has_a_name(finished: Path, name: str) -> None:
    figure = figure_of(name, finished)
    assert list(outside(figure)) == []
    assert without_legend(figure) == []


@each_format
def test_the_same_table_gives_the_same_bytes_and_no_date(
    finished: Path, tmp_path: Path, kind: str
) -> None:
    paths = [tmp_path / f"{n}.{kind}" for n in range(2)]
    for path in paths:
        figure_of("learning_curves", finished, path=path)
    one, other = (path.read_bytes() for path in paths)
    assert one == other
    assert not re.search(rb"20\d\d-\d\d-\d\d|CreationDate|[Mm]atplotlib v", one)
    assert one[:5] == {"png": b"\x89PNG\r", "svg": b"<?xml", "pdf": b"%PDF-"}[kind]


@each_format
def test_a_user_s_settings_do_not_reach_a_figure_that_is_drawn_later(
    finished: Path, kind: str
) -> None:
    """A notebook draws a figure when the cell has ended, with the user's settings in force."""
    mine, theirs = (figure_of("learning_curves", finished) for _ in range(2))
    assert isinstance(mine, Picture)
    assert isinstance(theirs, Picture)
    whole = mine.content(kind)
    before = dict(mpl.rcParams)
    with mpl.rc_context(THEIRS):
        assert theirs.content(kind) == whole
        assert mpl.rcParams["text.usetex"] is True
    assert dict(mpl.rcParams) == before


def test_a_user_s_settings_do_not_reach_what_a_notebook_asks_the_canvas_for(
    finished: Path,
) -> None:
    """As IPython's inline backend does, whose settings are the user's."""
    drawn = []
    for settings in ({}, {name: THEIRS[name] for name in THEIRS if "savefig" not in name}):
        figure, stream = figure_of("gradient_norms", finished), io.BytesIO()
        with mpl.rc_context(settings):
            paper = figure.get_facecolor()
            figure.canvas.print_figure(stream, format="png", dpi=figure.dpi, facecolor=paper)
        drawn.append(matplotlib.image.imread(io.BytesIO(stream.getvalue())))
    assert np.array_equal(drawn[0], drawn[1])


def test_a_user_s_settings_do_not_reach_savefig(finished: Path, tmp_path: Path) -> None:
    for name, settings in (("mine", {}), ("theirs", THEIRS)):
        figure = figure_of("gradient_norms", finished)
        with mpl.rc_context(settings):
            figure.savefig(tmp_path / f"{name}.png")
    assert (tmp_path / "mine.png").read_bytes() == (tmp_path / "theirs.png").read_bytes()


def test_a_picture_without_a_file_that_fails_is_raised() -> None:
    with pytest.raises(ValueError, match="colour"), picture():
        raise ValueError("no such colour")


def test_an_ending_that_is_no_format_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = pytest.raises(InputError, match=r"a\.jpg: no picture is drawn as jpg; end the name")
    with wrong, picture(tmp_path / "a.jpg"):
        pass
    assert format_of("a") == "png"
    assert format_of("a.SVG") == "svg"
    assert run_main("explain", "Li", "--picture", tmp_path / "a.gif") == 2
    refusal(capsys.readouterr().err, "npnlp explain: ", "a.gif", "no picture is drawn as gif")
    assert run_main("evaluate", "--reliability", tmp_path / "a.gif") == 2
    refusal(capsys.readouterr().err, "npnlp evaluate: ", "a.gif")


def test_names_of_files() -> None:
    assert Output(Path("a"), "svg", "ko").path("flow") == Path("a/flow.ko.svg")
    assert Output(Path("a")).path("flow") == Path("a/flow.png")
    assert files_of("x") == ["x.png", "x.svg", "x.pdf", "x.ko.png", "x.ko.svg", "x.ko.pdf"]


def of_epochs(finished: Path, epochs: int) -> pd.DataFrame:
    first = pd.read_csv(finished / "gradient_flow.csv").query("epoch == 0")
    return pd.concat([first.assign(epoch=epoch) for epoch in range(epochs)])


@pytest.mark.parametrize(("epochs", "panels"), [(1, 2), (2, 1), (4, 1), (5, 3), (9, 3)])
def test_a_heat_map_is_of_five_epochs_at_least(finished: Path, epochs: int, panels: int) -> None:
    """A panel with shares for one epoch; from five on a heat map and its scale."""
    figure = plots.gradient_flow(of_epochs(finished, epochs))
    assert len(figure.axes) == panels
    assert any(axes.images for axes in figure.axes) == (epochs >= 5)


def test_the_product_of_jacobians_is_drawn_where_it_is_known(finished: Path) -> None:
    table = of_epochs(finished, 2).drop(columns="product_norm", errors="ignore")
    label = "norm of the product of Jacobians, epoch 2"
    assert label not in texts_of(plots.gradient_flow(table))
    with_it = table.assign(product_norm=np.sqrt(table["bound"] * table["hidden_grad_mean"]))
    assert label in texts_of(plots.gradient_flow(with_it))


def test_a_gradient_that_is_all_but_zero_leaves_the_ticks_readable(finished: Path) -> None:
    table = of_epochs(finished, 6)
    lag = table["lag"].clip(upper=6).to_numpy()
    table["hidden_grad_mean"] *= 10.0 ** (-40 * lag)
    table["bound"] *= 10.0 ** (40 * lag)
    figure = plots.gradient_flow(table)
    assert list(outside(figure)) == []
    low, high = figure.axes[0].get_ylim()
    assert np.log10(high / low) < 30


def test_each_gate_has_a_name() -> None:
    lags = np.tile(np.arange(4), 2)
    parts = pd.DataFrame({
        "layer": "rnn.l0", "part": np.repeat(["forget", "input"], 4), "lag": lags,
        "activation": 0.5, "delta_norm": 10.0**-lags,
    })  # fmt: skip
    figure = plots.flow_by_part(parts)
    assert {"forget", "input"} <= texts_of(figure)
    assert without_legend(figure) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.4e-61, "10⁻⁶¹"), (2e-30, "2·10⁻³⁰"), (0.26, "0.3"), (1.0, "1"), (6.5e6, "6·10⁶"),
     (0.0, "0"), (np.inf, "∞"), (9.7e53, "10⁵⁴")],
)  # fmt: skip
def test_numbers_are_written_as_powers_of_ten(value: float, text: str) -> None:
    assert power_of_ten(value) == text


def test_without_a_font_korean_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_own_fonts():
        assert run_main("train", "--save-dir", tmp_path / "run", "--language", "ko") == 2
        with pytest.raises(InputError, match="Hangul"), picture(language="ko"):
            pass
    refusal(capsys.readouterr().err, "npnlp train: language ko: no font here has Hangul; install",
            "fonts-nanum")  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_run_draws_in_another_format_and_language(finished: Path, tmp_path: Path) -> None:
    for name in {table for _, table in DRAWN.values()}:
        shutil.copy(finished / name, tmp_path / name)
    with only_own_fonts(font_of(tmp_path / "some.ttf", letters_of(KOREAN.values()))):
        drawn = plots.draw_run(tmp_path, "svg", "ko")
    assert {path.name for path in drawn} == {f"{name}.ko.svg" for name in DRAWN}
    assert all(path.read_bytes().startswith(b"<?xml") for path in drawn)


def test_a_run_asks_for_a_format_and_the_next_one_leaves_none_of_another(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def pictures() -> set[str]:
        return {path.name for path in run.iterdir() if path.suffix[1:] in FORMATS}

    assert train_small(run, "--picture-format", "svg", epochs=1) == 0
    assert pictures() == {f"{name}.svg" for name in DRAWN}
    assert train_small(run, "--overwrite", epochs=2) == 0
    assert pictures() == {f"{name}.png" for name in DRAWN}
