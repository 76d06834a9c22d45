"""The house: imports point downwards, and what has no place in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import npnlp

ROOT = Path(npnlp.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

BASE = {"errors"}
#: What each part may import of the others, as DESIGN draws the arrows; None is everything.
MAY_IMPORT: dict[str, set[str] | None] = {
    "errors": set(),
    "version": set(),
    "files": BASE,
    "backend": BASE,
    "layers": BASE | {"backend"},
    "text": BASE | {"backend", "files"},
    "gradients": BASE | {"backend", "layers"},
    "models": BASE | {"backend", "layers"},
    "tasks": BASE | {"backend"},
    "training": BASE
    | {"backend", "files", "gradients", "layers", "models", "tasks", "text", "version"},
    "plots": set(),
    "cli": None,
    "__init__": None,
    "__main__": None,
}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """The full name of every module or member that is imported, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_arrows(part: str, source: str) -> list[str]:
    allowed = MAY_IMPORT[part]
    if allowed is None:
        return []
    inside = [name for name in imports(ast.parse(source)) if name.split(".")[0] == "npnlp"]
    return [name for name in inside if f"{name}.".split(".")[1] not in allowed | {part}]


def outsiders(source: str) -> set[str]:
    return {name.split(".")[0] for name in imports(ast.parse(source))}


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in FILES} == set(MAY_IMPORT)


@each_file
def test_imports_point_downwards(path: Path) -> None:
    assert forbidden_arrows(part_of(path), path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("backend", "from npnlp.layers import Linear"),
        ("layers", "from npnlp.models import SurnameClassifier"),
        ("layers", "import npnlp.training.trainer"),
        ("gradients", "def f():\n    from npnlp.models import SequenceModel"),
        ("models", "from npnlp import Classifier"),
        ("text", "import npnlp"),
        ("tasks", "from npnlp.layers import Packing"),
        ("plots", "from npnlp.files import write_csv"),
    ],
)
def test_an_upward_import_would_be_found(part: str, line: str) -> None:
    assert forbidden_arrows(part, line)


@each_file
def test_cupy_is_imported_in_one_place_only(path: Path) -> None:
    allowed = path.relative_to(ROOT).as_posix() == "backend/cupy_backend.py"
    found = outsiders(path.read_text("utf-8")) & {"cupy", "cupyx", "cupy_backends"}
    assert bool(found) == allowed


@each_file
def test_nothing_stored_is_ever_executed(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    unsafe = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "torch"}
    assert not outsiders(path.read_text("utf-8")) & unsafe
    for node in ast.walk(tree):
        name = getattr(node, "id", getattr(node, "attr", getattr(node, "arg", None)))
        assert name not in {"eval", "exec", "pickle", "allow_pickle", "__import__"}, name


@each_file
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 300


COMPUTING = [path for path in FILES if part_of(path) in {"layers", "models"}]
HOST_SIDE = {
    "layers/base.py",
    "layers/initialization.py",
    "layers/packing.py",
    "models/surname_classifier.py",
}


@pytest.mark.parametrize("path", COMPUTING, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers_compute_with_their_backend_only(path: Path) -> None:
    uses_numpy = "numpy" in set(imports(ast.parse(path.read_text("utf-8"))))
    assert not uses_numpy or path.relative_to(ROOT).as_posix() in HOST_SIDE


def test_the_classifier_takes_only_a_dtype_from_numpy() -> None:
    tree = ast.parse((ROOT / "models" / "surname_classifier.py").read_text("utf-8"))
    used = {node.attr for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name) and node.value.id == "np"}  # fmt: skip
    assert used <= {"float32"}
