"""The notebooks are their sources, in both languages, and run from a clean environment."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.support.tables import environment

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/notebooks.py"
MAKE: dict[str, Any] = runpy.run_path(str(TOOL))
SOURCES = {path.stem: path for path in sorted((ROOT / "notebooks/source").glob("*.md"))}
NAMES = list(SOURCES)
ENDS: dict[str, str] = MAKE["LANGUAGES"]
FILES = [ROOT / "notebooks" / f"{name}{end}" for name in NAMES for end in ENDS.values()]
each_name = pytest.mark.parametrize("name", NAMES)
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
MISSING = [
    package
    for package in ("nbclient", "ipykernel", "ipywidgets", "onnxruntime")
    if importlib.util.find_spec(package) is None
]
SLIDER = "application/vnd.jupyter.widget-view+json"
#: What a stored output must not hold: folders of a machine, or a remark.
MACHINE = re.compile(r"/tmp/|/home/|/root/|/usr/|/work/|site-packages|[A-Z]:\\\\|Warning")


def stored(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def outputs_of(path: Path) -> list[list[dict[str, Any]]]:
    return [cell["outputs"] for cell in stored(path) if cell["cell_type"] == "code"]


def kinds(outputs: list[list[dict[str, Any]]]) -> list[list[list[str]]]:
    """What each cell shows: streams by their name, data by its types."""
    return [
        [sorted(output["data"]) if "data" in output else [str(output.get("name"))] for output in of]
        for of in outputs
    ]


def test_there_are_two_in_two_languages() -> None:
    assert NAMES == ["why_gradients_vanish", "your_own_table"]
    assert sorted((ROOT / "notebooks").glob("*.ipynb")) == sorted(FILES)


@each_name
def test_both_languages_are_their_source_with_the_same_code_and_outputs(name: str) -> None:
    """So a cell that is changed in one language alone, or not run again, is found."""
    cells = MAKE["cells_of"](SOURCES[name])
    english = ROOT / "notebooks" / f"{name}.ipynb"
    for language, end in ENDS.items():
        path = ROOT / "notebooks" / f"{name}{end}"
        made = MAKE["notebook"](cells, language, outputs_of(english))
        assert path.read_text(encoding="utf-8") == made, f"run tools/notebooks.py {name}"


def test_why_gradients_vanish_has_fifteen_cells() -> None:
    assert len(outputs_of(ROOT / "notebooks/why_gradients_vanish.ipynb")) == 15


@each_name
def test_every_code_cell_has_its_text_in_both_languages(name: str) -> None:
    cells = MAKE["cells_of"](SOURCES[name])
    assert [bool(cell.code) for cell in cells] == [False, True] * (len(cells) // 2)
    for cell in cells[::2]:
        assert not re.search("[가-힣]", cell.text["en"].replace("한국어", ""))
        assert len(re.findall("[가-힣]", cell.text["ko"])) > 15
        code = {language: re.findall(r"`[^`]+`", text) for language, text in cell.text.items()}
        assert code["en"] == code["ko"]


@each_name
def test_no_measured_figure_is_typed_into_the_text(name: str) -> None:
    """They stand in the outputs; settings stand in code marks."""
    for cell in MAKE["cells_of"](SOURCES[name]):
        for text in cell.text.values():
            plain = re.sub(r"`[^`]*`", "", text)
            assert not re.search(r"\d+[.,]\d|\d+ ?%|\d{3}", plain), plain


@each_file
def test_outputs_are_there_without_machine_or_remark(path: Path) -> None:
    outputs = outputs_of(path)
    assert all(outputs)
    for output in chain(*outputs):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr"
        data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
        assert not MACHINE.search(json.dumps([output.get("text"), data])), output
        assert SLIDER not in output.get("data", {})
    assert sum("image/png" in output.get("data", {}) for output in chain(*outputs)) >= 2
    assert path.stat().st_size < 500_000


def test_a_path_or_a_remark_would_be_found() -> None:
    assert MACHINE.search(json.dumps("wrote C:\\Users\\ann"))
    assert MACHINE.search(json.dumps(["<string>:1: UserWarning: no"]))
    assert MACHINE.search("/home/ann/run")
    assert not MACHINE.search("wrote model.onnx")


@each_file
def test_every_link_is_there(path: Path) -> None:
    for cell in stored(path):
        text = "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (path.parent / target).exists(), target


def test_a_source_with_text_in_one_language_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "half.md"
    source.write_text("<!-- en -->\nOne.\n\n```python\n1\n```\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"half\.md: no text in both languages"):
        MAKE["cells_of"](source)


def test_an_error_below_a_slider_would_be_found() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no"}
    drawn = {"output_type": "stream", "name": "stdout", "text": "1"}
    require = MAKE["_require_drawn"]
    widgets = {
        kind: {"widgets": {"view": {"state": {"a": {"state": {"outputs": [drawn, *more]}}, "b": {
            "state": {}}}}}}
        for kind, more in (("whole", []), ("broken", [error]))
    }  # fmt: skip
    require({})
    require(widgets["whole"])
    with pytest.raises(RuntimeError, match="a slider: ValueError: no"):
        require(widgets["broken"])


@pytest.mark.peers
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize(
    ("name", "widgets"), [*((name, False) for name in NAMES), ("why_gradients_vanish", True)]
)
def test_it_runs(name: str, widgets: bool, tmp_path: Path) -> None:
    """In a process of its own, in an empty folder; any error in a cell ends the tool."""
    done = subprocess.run(
        [sys.executable, str(TOOL), name, "--out", str(tmp_path),
         *(["--widgets"] if widgets else [])],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=1800,
        env=environment(PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folders = (tmp_path, ROOT / "notebooks")
    made, kept = (outputs_of(folder / f"{name}.ipynb") for folder in folders)
    assert [output for output in chain(*made) if output.get("name") == "stderr"] == []
    sliders = [n for n, of in enumerate(kinds(made)) if any(SLIDER in each for each in of)]
    assert len(sliders) == (2 if widgets else 0)
    for place, (shown, known) in enumerate(zip(kinds(made), kinds(kept), strict=True)):
        assert place in sliders or shown == known, f"cell {place + 1}: run tools/notebooks.py"
