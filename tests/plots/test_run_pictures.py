"""Pictures are redrawn from CSV files alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from npnlp.confusion import largest_classes
from npnlp.files import write_csv
from npnlp.plots import (
    confusion_matrix,
    draw_run,
    gradient_flow,
    gradient_norms,
    learning_curves,
    picture,
    reliability,
)
from tests.support.fonts import font_of
from tests.support.tables import finished_run, refusal

Draw = Callable[..., Figure]
PICTURES: dict[str, tuple[Draw, str]] = {
    "learning_curves": (learning_curves, "history.csv"),
    "gradient_norms": (gradient_norms, "history.csv"),
    "gradient_flow": (gradient_flow, "gradient_flow.csv"),
    "confusion_matrix": (confusion_matrix, "confusion_matrix.csv"),
    "reliability": (reliability, "reliability.csv"),
}
each = pytest.mark.parametrize("name", list(PICTURES))


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


@pytest.fixture
def tables(finished: Path, tmp_path: Path) -> Path:
    """A folder with the CSV files of a run that are drawn, and nothing else."""
    for name in {table for _, table in PICTURES.values()}:
        shutil.copy(finished / name, tmp_path / name)
    return tmp_path


def draw(name: str, folder: Path) -> Path:
    function, table = PICTURES[name]
    function(folder / table, folder / f"{name}.png")
    return folder / f"{name}.png"


def check_picture(path: Path) -> None:
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = matplotlib.image.imread(path)
    height, width = pixels.shape[:2]
    assert width >= 1000
    assert height >= 500
    bytes_of = (pixels[:, :, :3] * 255).round().astype(np.uint32).reshape(-1, 3)
    packed = bytes_of @ np.array([2**16, 2**8, 1], dtype=np.uint32)
    colours, counts = np.unique(packed, return_counts=True)
    strong = colours[counts > 50]
    channels = np.stack([strong >> 16, (strong >> 8) & 255, strong & 255]).astype(int)
    assert (np.ptp(channels, axis=0) > 80).sum() >= 2, "grey alone is no plot"
    assert counts.max() < 0.97 * counts.sum(), "empty paper is no plot"


@each
def test_a_picture_is_drawn_from_the_table_alone(tables: Path, name: str) -> None:
    check_picture(draw(name, tables))


@each
def test_the_same_table_gives_the_bytes_that_the_run_drew_and_another_does_not(
    finished: Path, tables: Path, name: str
) -> None:
    first = (finished / f"{name}.png").read_bytes()
    assert draw(name, tables).read_bytes() == first
    path = tables / PICTURES[name][1]
    frame = pd.read_csv(path)
    changed = frame.select_dtypes("number").iloc[:, 1:] * 2 + 1
    frame[changed.columns] = changed
    frame.to_csv(path, index=False)
    assert draw(name, tables).read_bytes() != first


@pytest.mark.parametrize("name", ["learning_curves", "gradient_norms"])
def test_a_history_of_one_epoch_is_drawn(tables: Path, name: str) -> None:
    frame = pd.read_csv(tables / "history.csv").iloc[:1]
    frame.to_csv(tables / "history.csv", index=False)
    check_picture(draw(name, tables))


@pytest.mark.parametrize("name", ["learning_curves", "gradient_norms"])
def test_a_long_history_is_drawn(tables: Path, name: str) -> None:
    frame = pd.concat([pd.read_csv(tables / "history.csv")] * 200, ignore_index=True)
    frame["epoch"] = range(len(frame))
    frame.to_csv(tables / "history.csv", index=False)
    check_picture(draw(name, tables))


def test_all_pictures_of_a_run(tables: Path) -> None:
    drawn = draw_run(tables)
    assert sorted(path.name for path in drawn) == sorted(f"{name}.png" for name in PICTURES)
    for path in drawn:
        check_picture(path)


def matrix_of(folder: Path, labels: list[str]) -> Path:
    rows = [
        {"true": true, **{name: 9 if name == true else 1 for name in labels}} for true in labels
    ]
    write_csv(folder / "confusion_matrix.csv", rows)
    return draw("confusion_matrix", folder)


@pytest.mark.parametrize(
    "count",
    [2, 18, pytest.param(40, marks=pytest.mark.slow), 600],
)
def test_a_confusion_matrix_of_any_size_is_drawn(tmp_path: Path, count: int) -> None:
    path = matrix_of(tmp_path, [f"class {i}" for i in range(count)])
    check_picture(path)
    assert matplotlib.image.imread(path).shape[0] <= 3400


def test_of_many_classes_the_largest_are_shown_and_the_others_together() -> None:
    table = np.array([[5, 1, 0, 2], [0, 0, 0, 1], [3, 4, 6, 0], [1, 1, 1, 1]])
    named, counts = largest_classes(table, 3)
    np.testing.assert_array_equal(named, [2, 0])
    np.testing.assert_array_equal(counts, [[6, 3, 4], [0, 5, 3], [1, 1, 3]])
    named, counts = largest_classes(table, 4)
    np.testing.assert_array_equal(named, [2, 0, 3, 1])
    np.testing.assert_array_equal(counts, table[named][:, named])


def test_a_class_without_rows_is_drawn(tables: Path) -> None:
    frame = pd.read_csv(tables / "confusion_matrix.csv")
    frame.iloc[1, 1:] = 0
    frame.to_csv(tables / "confusion_matrix.csv", index=False)
    check_picture(draw("confusion_matrix", tables))


@pytest.mark.parametrize(
    "labels",
    [["1", "2", "3"], ["NaN", "NA", "x"], ["$a_b_c$", "$", "%"], ["_a", "b", "c"],
     ["True", "False", "x"], ["2.50", "1e3", "x"], ["a\rb", "a\nb", 'a\t"b'],
     ["x" * 999, "y", "z"]],
    ids=lambda labels: ascii(" ".join(labels)[:20]),
)  # fmt: skip
def test_any_label_is_drawn(tmp_path: Path, labels: list[str]) -> None:
    check_picture(matrix_of(tmp_path, labels))


def test_a_user_s_settings_change_no_picture(finished: Path, tables: Path) -> None:
    theirs: Any = {"text.usetex": True, "font.family": "No Such Font", "axes.facecolor": "red",
              "figure.dpi": 17, "image.cmap": "gray", "lines.marker": "x"}  # fmt: skip
    with mpl.rc_context(theirs):
        for name in PICTURES:
            drawn = draw(name, tables).read_bytes()
            assert drawn == (finished / f"{name}.png").read_bytes(), name


def test_what_cannot_be_drawn_is_a_line_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.png"
    path.write_bytes(b"from before")
    with picture(path) as figure:
        figure.suptitle(r"$\no{such$")
    refusal(capsys.readouterr().err, path, "is not drawn (ValueError: ")
    assert not path.exists()
    with picture(path) as figure:
        figure.suptitle("well", usetex=True, color="none of them")
    refusal(capsys.readouterr().err, path, "is not drawn (ValueError: ", "none of them")
    with pytest.raises(OSError, match="its folder is not there"), picture(tmp_path / "no" / "it"):
        pass  # a disk that fails is none of Matplotlib's


def test_a_font_that_has_the_letters_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["가나", "다라", "x"]
    without = matrix_of(tmp_path, labels).read_bytes()
    note = capsys.readouterr().err
    if not note:
        pytest.skip("a font of this machine has them")
    refusal(note, "note: no font here has 4 of the characters in ", "(가나다라); frames")
    known = list(fontManager.ttflist)
    try:
        fontManager.addfont(font_of(tmp_path / "some.ttf", "가나다라"))
        fontManager.ttflist.insert(
            0, replace(fontManager.ttflist[-1], name="Gone", fname="gone.ttf")
        )
        assert matrix_of(tmp_path, labels).read_bytes() != without
    finally:
        fontManager.ttflist[:] = known
    assert capsys.readouterr().err == ""


def test_the_style_stays_inside(tables: Path) -> None:
    before = dict(mpl.rcParams)
    draw_run(tables)
    assert dict(mpl.rcParams) == before


def test_a_history_from_another_place_need_not_lie_beside_the_picture(tables: Path) -> None:
    (tables / "pictures").mkdir()
    learning_curves(str(tables / "history.csv"), str(tables / "pictures" / "curves.png"))
    assert [p.name for p in (tables / "pictures").iterdir()] == ["curves.png"]


def test_reliability_has_one_curve_where_nothing_changed(tables: Path) -> None:
    """Its picture differs from that of two curves, and is drawn from the numbers alone."""
    path = tables / "reliability.csv"
    table = pd.read_csv(path)
    same = draw("reliability", tables).read_bytes()
    before = table["calibrated"] == 0
    table.loc[before, "accuracy"] = (table.loc[before, "accuracy"] + 0.3) % 1
    table.to_csv(path, index=False)
    changed = draw("reliability", tables)
    check_picture(changed)
    assert changed.read_bytes() != same
