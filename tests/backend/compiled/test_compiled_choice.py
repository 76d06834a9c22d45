"""Asking for the compiled backend where Numba is missing or broken, and who may import it."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import npnlp
from tests.house.test_architecture import FILES, outsiders
from tests.support.tables import npnlp as npnlp_command
from tests.support.tables import refusal

ROOT = Path(npnlp.__file__).parent
MISSING = 'raise ModuleNotFoundError("No module named \'numba\'", name="numba")'
BROKEN = 'raise ImportError("Numba needs NumPy 2.4 or less.\\nGot NumPy 3.0.")'


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (MISSING, "backend numba: numba is not installed; pip install "),
        (
            BROKEN,
            "backend numba: numba or scipy is installed but cannot be imported (ImportError: Numba "
            "needs NumPy 2.4 or less. Got NumPy 3.0.); pip install --force-reinstall ",
        ),
    ],
)
def test_a_numba_that_cannot_be_imported_is_one_line(
    source: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(source)
    path = os.pathsep.join([str(tmp_path), str(ROOT.parent)])
    train = ("train", "--backend", "numba", "--quick", "--save-dir", "run")
    done = npnlp_command(*train, cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 2
    remedy = "numba scipy, or use --backend numpy"
    refusal(done.stderr.decode(), says, remedy)
    assert not (tmp_path / "run").exists()
    shown = npnlp_command("backends", cwd=tmp_path, PYTHONPATH=path)
    assert shown.returncode == 0
    (line,) = (line for line in shown.stdout.decode().splitlines() if line.startswith("numba"))
    assert line.startswith("numba  not usable: " + says.removeprefix("backend numba: "))


def test_numba_is_imported_by_the_compiled_backend_only() -> None:
    outside = [path for path in FILES if ROOT / "backend" / "compiled" not in path.parents]
    compilers = {"numba", "llvmlite", "scipy"}
    assert not [path for path in outside if outsiders(path.read_text("utf-8")) & compilers]


def test_only_the_choice_imports_the_compiled_backend() -> None:
    importers = {
        path.name
        for path in FILES
        if ROOT / "backend" / "compiled" not in path.parents
        and any(
            isinstance(node, ast.ImportFrom) and (node.module or "").startswith("npnlp.backend.com")
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
        )
    }
    assert importers == {"select.py"}
