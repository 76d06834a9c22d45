"""The house: imports point downwards, and what has no place in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

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
    "plain_json": BASE,
    "backend": BASE,
    "layers": BASE | {"backend"},
    "text": BASE | {"backend", "files", "plain_json"},
    "gradients": BASE | {"backend", "layers"},
    "models": BASE | {"backend", "layers"},
    "inference": BASE | {"backend", "layers", "models"},
    "tasks": BASE | {"backend"},
    "training": BASE
    | {
        "backend",
        "files",
        "gradients",
        "inference",
        "layers",
        "models",
        "plain_json",
        "tasks",
        "text",
        "version",
    },
    "exchange": BASE | {"files", "layers", "models", "text", "training", "version"},
    "plots": BASE | {"files"},
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
        ("plots", "from npnlp.runs.run import Run"),
    ],
)
def test_an_upward_import_would_be_found(part: str, line: str) -> None:
    assert forbidden_arrows(part, line)


@each_file
def test_cupy_is_imported_in_one_place_only(path: Path) -> None:
    allowed = path.relative_to(ROOT).as_posix() == "backend/cupy_backend.py"
    found = outsiders(path.read_text("utf-8")) & {"cupy", "cupyx", "cupy_backends"}
    assert bool(found) == allowed


#: Packages that npnlp does without; each is met in one file, to compare or to exchange.
PEERS = {
    "torch": "exchange/torch_model.py",
    "onnx": "exchange/onnx_graph.py",
    "onnxruntime": "exchange/onnx_run.py",
    "mpi4py": "training/mpi.py",
}


@each_file
def test_a_peer_is_imported_in_one_place_only(path: Path) -> None:
    here = path.relative_to(ROOT).as_posix()
    found = outsiders(path.read_text("utf-8")) & PEERS.keys()
    assert found == {peer for peer, place in PEERS.items() if place == here}


@each_file
def test_nothing_stored_is_ever_executed(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    unsafe = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
    assert not outsiders(path.read_text("utf-8")) & unsafe
    forbidden = {"eval", "exec", "pickle", "allow_pickle", "__import__"}
    for node in ast.walk(tree):
        name = getattr(node, "id", getattr(node, "attr", getattr(node, "arg", None)))
        # A PyTorch module is set to evaluation by a method of that name.
        of_torch = path.name == "torch_model.py" and isinstance(node, ast.Attribute)
        assert name not in forbidden - ({"eval"} if of_torch else set()), name


@each_file
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 300


COMPUTING = [path for path in FILES if part_of(path) in {"layers", "models"}]
HOST_SIDE = {
    "layers/base.py",
    "layers/flat.py",
    "layers/initialization.py",
    "layers/ngrams.py",
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


LAYERS = ROOT / "layers"
CELL_FILES = ("elman.py", "lstm.py", "gru.py")
#: Cells side by side may differ in their mathematics only; a longer run in common belongs in the
#: one loop.
LONGEST_IN_COMMON = 5


def written_lines(source: str) -> list[str]:
    """Lines that say something, wherever they are indented; imports and docstrings count."""
    return [line.strip() for line in source.splitlines() if line.strip()]


def longest_common_run(one: str, two: str) -> list[str]:
    """The longest run of consecutive written lines that both have."""
    a, b = written_lines(one), written_lines(two)
    best: list[str] = []
    for i in range(len(a)):
        for j in range(len(b)):
            run = 0
            while i + run < len(a) and j + run < len(b) and a[i + run] == b[j + run]:
                run += 1
            if run > len(best):
                best = a[i : i + run]
    return best


def classes_of(path: Path) -> dict[str, str]:
    """The source of each class of a file."""
    source = path.read_text("utf-8")
    return {
        node.name: ast.get_source_segment(source, node) or ""
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


def cells_side_by_side() -> Iterator[Any]:
    """Both sources of what has to differ."""
    files = {name: (LAYERS / name).read_text("utf-8") for name in CELL_FILES}
    for sources in (files, classes_of(LAYERS / "gru.py")):
        for one, two in combinations(sources, 2):
            yield pytest.param(sources[one], sources[two], id=f"{one} {two}")


@pytest.mark.parametrize(("one", "two"), list(cells_side_by_side()))
def test_cells_side_by_side_differ_only_in_their_mathematics(one: str, two: str) -> None:
    assert one
    assert two
    run = longest_common_run(one, two)
    assert len(run) <= LONGEST_IN_COMMON, "\n".join(run)


def test_a_run_in_common_would_be_found() -> None:
    lines = [f"line {k}" for k in range(9)]
    assert longest_common_run("\n\n    ".join(lines), "\n".join(["x", *lines[2:8]])) == lines[2:8]
    source = (LAYERS / "lstm.py").read_text("utf-8")
    assert len(longest_common_run(source, source)) == len(written_lines(source))
    assert longest_common_run("a\nb\nc", "a\nx\nc") == ["a"]
    assert {"GRU", "GRUResetBefore"} <= classes_of(LAYERS / "gru.py").keys()


STEPS = {"offsets", "batch_sizes"}


def names_in(node: ast.AST) -> set[str]:
    return {getattr(inside, "id", getattr(inside, "attr", "")) for inside in ast.walk(node)}


def loops_over_steps(source: str) -> list[int]:
    """Lines of statements that repeat something for every step of a packing."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.For) and names_in(node.iter) & STEPS)
        or (isinstance(node, ast.While) and names_in(node) & STEPS)
    ]


def test_only_one_file_loops_over_steps() -> None:
    found = {path.name for path in LAYERS.glob("*.py") if loops_over_steps(path.read_text("utf-8"))}
    # segments.py cuts a batch into shorter ones, which the same loop then runs.
    assert found == {"recurrent.py", "segments.py"}
    assert len(loops_over_steps((LAYERS / "recurrent.py").read_text("utf-8"))) == 2  # and back


@pytest.mark.parametrize("name", [*CELL_FILES, "gates.py", "products.py"])
def test_a_cell_knows_neither_steps_nor_packing(name: str) -> None:
    tree = ast.parse((LAYERS / name).read_text("utf-8"))
    assert not names_in(tree) & (STEPS | {"packing", "steps", "previous_rows", "last_rows"})
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While)]


@pytest.mark.parametrize(
    "loop",
    [
        "for start, size in zip(packing.offsets, packing.batch_sizes): pass",
        "for t in range(len(offsets) - 1, -1, -1): pass",
        "while t < len(packing.batch_sizes): t += 1",
    ],
)
def test_a_second_loop_over_steps_would_be_found(loop: str) -> None:
    assert loops_over_steps(f"def f():\n    {loop}") == [2]
    assert loops_over_steps("for k in range(4): offsets[k] = 0") == []
