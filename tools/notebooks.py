"""Make the notebooks from their sources, both languages at once, with what their cells print.

    python tools/notebooks.py [NAME ...] [--out DIR] [--widgets]

A source, ``notebooks/source/NAME.md``, has text in English and in Korean, below marks, and code
below both. The code runs once, in a folder of its own, and both notebooks get the same outputs.
Without ``--widgets`` it finds no ipywidgets: a slider that is stored shows nothing to a reader.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
#: The end of the file's name for each language.
LANGUAGES = {"en": ".ipynb", "ko": ".ko.ipynb"}
PART = re.compile(
    r"<!-- en -->\n(?P<en>.*?)<!-- ko -->\n(?P<ko>.*?)(?=<!-- en -->|```python\n|\Z)"
    r"|```python\n(?P<code>.*?)```\n\n?",
    re.DOTALL,
)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
#: Runs before the first cell, and is not stored.
WITHOUT_WIDGETS = "import sys\nsys.modules['ipywidgets'] = None"
#: Seconds that a cell may take before it is taken to hang, and how often to begin anew then: on a
#: busy machine a kernel (seen with ipykernel 7.4) may wait for a request that it was sent already.
PATIENCE, TRIES = 150, 3


@dataclass(frozen=True)
class Cell:
    """A cell: its text in each language, or its code, which is the same in both."""

    text: dict[str, str]
    code: str = ""


def cells_of(path: Path) -> list[Cell]:
    """The cells of a source; raises ``ValueError`` for what belongs to no cell."""
    source = path.read_text(encoding="utf-8")
    found, end = [], 0
    for part in PART.finditer(source):
        if source[end : part.start()].strip():
            break
        end = part.end()
        if part["code"] is not None:
            found.append(Cell({}, part["code"].rstrip("\n")))
        else:
            found.append(Cell({language: part[language].strip() for language in LANGUAGES}))
    if source[end:].strip():
        left = source[end:][:60]
        raise ValueError(f"{path.name}: no text in both languages and no code: {left!r}")
    return found


def notebook(cells: list[Cell], language: str, outputs: list[list[dict[str, Any]]]) -> str:
    """The notebook in a language, as the text of its file; ``outputs`` are those of each code."""
    made, of_code = list[dict[str, Any]](), iter(outputs)
    for number, cell in enumerate(cells):
        text = cell.code or cell.text[language]
        common = {"id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
        if cell.code:
            count = 1 + sum(bool(before.code) for before in cells[:number])
            made.append({"cell_type": "code", "execution_count": count, **common,
                         "outputs": next(of_code)})  # fmt: skip
        else:
            made.append({"cell_type": "markdown", **common})
    whole = {"cells": made, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def executed(cells: list[Cell], widgets: bool = False) -> list[list[dict[str, Any]]]:
    """The outputs of each code cell, from a kernel in a folder of its own."""
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    from nbclient.exceptions import CellTimeoutError

    codes = [*([] if widgets else [WITHOUT_WIDGETS]), *(cell.code for cell in cells if cell.code)]
    for tries in range(1, TRIES + 1):
        try:
            made = _run(codes)
            break
        except CellTimeoutError as error:
            if tries == TRIES:
                raise
            print(f"a cell hung; once more: {error}".split("\n")[0], file=sys.stderr)
    _require_drawn(made.metadata)
    count = sum(bool(cell.code) for cell in cells)
    of_cells = [cell.outputs for cell in made.cells[-count:]]
    return [[_stored(output, n + 1) for output in some] for n, some in enumerate(of_cells)]


def _run(codes: list[str]) -> Any:
    """A notebook of these cells, run in a kernel and a folder of its own."""
    from nbclient import NotebookClient
    from nbformat import v4

    made = v4.new_notebook(cells=list(map(v4.new_code_cell, codes)), metadata=METADATA)
    with TemporaryDirectory() as folder:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            os.environ[name] = folder  # no settings of whoever runs this
        client = NotebookClient(made, timeout=PATIENCE, record_timing=False, kernel_name="python3",
                                resources={"metadata": {"path": folder}})  # fmt: skip
        client.execute()
    return made


def _require_drawn(metadata: Any) -> None:
    """Raise ``RuntimeError`` where a slider shows an error, which ends no cell."""
    for state in metadata.get("widgets", {}).values():
        for widget in state["state"].values():
            for output in widget["state"].get("outputs", ()):
                if output["output_type"] == "error":
                    raise RuntimeError(f"a slider: {output['ename']}: {output['evalue']}")


def _stored(output: Any, count: int) -> dict[str, Any]:
    """An output as it is stored: texts by line, counted from the first cell of the notebook."""
    plain: dict[str, Any] = json.loads(json.dumps(output))
    if "execution_count" in plain:
        plain["execution_count"] = count
    if "text" in plain:
        plain["text"] = plain["text"].splitlines(keepends=True)
    for kind, value in plain.get("data", {}).items():
        if isinstance(value, str) and not kind.startswith("image/"):
            plain["data"][kind] = value.splitlines(keepends=True)
    return plain


def main() -> int:
    """Make the notebooks that are named, by default all."""
    known = sorted(path.stem for path in (FOLDER / "source").glob("*.md"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=known,
                        help="which notebooks (default: all)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="where to")
    parser.add_argument("--widgets", action="store_true", help="with ipywidgets, if installed")
    options = parser.parse_args()
    for name in options.names:
        cells = cells_of(FOLDER / "source" / f"{name}.md")
        outputs = executed(cells, options.widgets)
        for language, end in LANGUAGES.items():
            path = options.out / f"{name}{end}"
            path.write_text(notebook(cells, language, outputs), encoding="utf-8")
            print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
