"""The house: imports point downwards and make no circle, and what has no place in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import npnlp
from tests.house.import_graph import (
    Graph,
    by_folder,
    circles,
    graph_of,
    imported,
    imports,
    room_of,
    upward,
)

ROOT = Path(npnlp.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in FILES}

#: The rooms from the top. A file imports what lies below its room; those of one line are peers,
#: of which none imports another. The package itself names homes for its users, and nothing more.
ROOMS: list[set[str]] = [
    {"__main__"},
    {"__init__"},
    {"cli"},
    {"lab"},
    {"runs", "plots"},
    {"estimator"},
    {"diagnosis"},
    {"training"},
    {"exchange", "page"},
    {"classifier"},
    {"inference"},
    {"models", "gradients"},
    {"layers"},
    {"text", "drawing", "confusion"},
    {"backend"},
    {"files"},
    {"checks", "optional"},
    {"errors", "summary", "version"},
]
GRAPH = graph_of(SOURCES)


def modules(source: str) -> set[str]:
    """The full name of every module that a file imports, wherever the import stands."""
    return {module for module, _ in imports(ast.parse(source))}


def outsiders(source: str) -> set[str]:
    return {module.split(".")[0] for module in modules(source)}


#: The top-level packages that each file imports.
OUTSIDERS = {path: outsiders(source) for path, source in SOURCES.items()}


def test_every_part_has_its_place() -> None:
    assert {room_of(path) for path in SOURCES} == set.union(*ROOMS)


def test_no_file_imports_a_higher_room() -> None:
    assert upward(GRAPH, ROOMS) == []


@pytest.mark.parametrize("depth", [9, 2, 1], ids=["files", "folders of a room", "rooms"])
def test_no_imports_make_a_circle(depth: int) -> None:
    """A room's own files (depth 2) and the package's (depth 1) stay files beside its folders."""
    assert circles(by_folder(GRAPH, depth)) == []


def test_pictures_are_drawn_from_files() -> None:
    below = {room_of(to) for path in GRAPH if room_of(path) == "plots" for to in GRAPH[path]}
    assert below == {"plots", "confusion", "drawing"}
    below = {room_of(to) for path in GRAPH if room_of(path) == "drawing" for to in GRAPH[path]}
    assert below == {"drawing", "files", "errors"}


def planted(path: str, line: str) -> Graph:
    """The graph with one more line in a file."""
    return GRAPH | {path: GRAPH[path] | imported(line, SOURCES)}


UPWARD = [
    ("backend/base.py", "from npnlp.layers import Linear"),
    ("layers/linear.py", "from npnlp.models import SurnameClassifier"),
    ("layers/base.py", "import npnlp.training.trainer"),
    ("layers/base.py", "def f():\n    from npnlp.training import trainer"),
    ("layers/base.py", "def f():\n    import_module('npnlp.training.trainer')"),
    ("gradients/check.py", "def f():\n    from npnlp.models import SequenceModel"),
    ("models/encoder.py", "if TYPE_CHECKING:\n    from npnlp.gradients.check import f"),
    ("models/encoder.py", "from npnlp import Classifier"),
    ("text/table.py", "import npnlp"),
    ("classifier/evaluation.py", "from npnlp.training.trainer import Trainer"),
    ("training/trainer.py", "from npnlp.diagnosis.finding import examine"),
    ("training/trainer.py", "if TYPE_CHECKING:\n    from npnlp.runs.run import Run"),
    ("plots/run.py", "from npnlp.runs.run import Run"),
    ("files/writing.py", "from npnlp.backend import Backend"),
    ("errors.py", "from npnlp.checks import require_size"),
]


@pytest.mark.parametrize(("path", "line"), UPWARD)
def test_an_upward_import_would_be_found(path: str, line: str) -> None:
    found = upward(planted(path, line), ROOMS)
    assert found
    assert {here for here, _ in found} == {path}


CIRCLES = [
    ("from npnlp.runs.run import Run", "runs/checkpoint.py", "runs/run.py"),
    ("if TYPE_CHECKING:\n    from npnlp.training.trainer import Trainer",
     "training/schedule.py", "training/trainer.py"),
    ("def f():\n    from npnlp.training.trainer import Trainer",
     "training/schedule.py", "training/trainer.py"),
    ("def f():\n    import npnlp.training.trainer",
     "training/clipping.py", "training/trainer.py"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "path", "through"), CIRCLES)
def test_a_circle_would_be_found(line: str, path: str, through: str) -> None:
    assert [found for found in circles(planted(path, line)) if {path, through} <= set(found)]


def test_a_circle_of_folders_would_be_found() -> None:
    files = {
        "backend/tuned/loop.py": "import npnlp.backend.cuda.graphs",
        "backend/tuned/blocks.py": "",
        "backend/cuda/graphs.py": "",
        "backend/cuda/products.py": "from npnlp.backend.tuned import blocks",
    }
    graph = graph_of(files)
    assert circles(graph) == []
    assert circles(by_folder(graph, 2)) == [["backend/cuda", "backend/tuned"]]


#: Packages that npnlp does without; each is met in one file, to compute, compare or exchange.
PEERS = {
    "cupy": "backend/cuda/backend.py",
    "torch": "exchange/torch_model.py",
    "onnx": "exchange/onnx_graph.py",
    "onnxruntime": "exchange/onnx_run.py",
    "h5py": "exchange/frameworks/hdf5.py",
    "mpi4py": "training/distributed/mpi.py",
}


def test_a_peer_is_imported_in_one_place_only() -> None:
    found = {(peer, path) for path in SOURCES for peer in OUTSIDERS[path] & PEERS.keys()}
    assert found == set(PEERS.items())
    assert not [path for path in SOURCES if OUTSIDERS[path] & {"cupyx", "cupy_backends"}]


def test_nothing_stored_is_ever_executed() -> None:
    unsafe = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
    assert not [path for path in SOURCES if OUTSIDERS[path] & unsafe]
    forbidden = {"eval", "exec", "pickle", "allow_pickle", "__import__"}
    for path, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            name = getattr(node, "id", getattr(node, "attr", getattr(node, "arg", None)))
            # A PyTorch module is set to evaluation by a method of that name.
            of_torch = path == "exchange/torch_model.py" and isinstance(node, ast.Attribute)
            assert name not in forbidden - ({"eval"} if of_torch else set()), (path, name)


def test_files_are_short() -> None:
    assert not [path for path, source in SOURCES.items() if len(source.splitlines()) > 300]


HOST_SIDE = {
    "layers/base.py",
    "layers/arguments.py",
    "layers/flat.py",
    "layers/recurrent/initialization.py",
    "layers/ngrams.py",
    "layers/packing.py",
    "models/surname_classifier.py",
}


def test_layers_compute_with_their_backend_only() -> None:
    computing = [path for path in SOURCES if room_of(path) in {"layers", "models"}]
    assert {path for path in computing if "numpy" in modules(SOURCES[path])} == HOST_SIDE


def test_the_classifier_takes_only_a_dtype_from_numpy() -> None:
    tree = ast.parse((ROOT / "models" / "surname_classifier.py").read_text("utf-8"))
    used = {node.attr for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name) and node.value.id == "np"}  # fmt: skip
    assert used <= {"float32"}


LAYERS = ROOT / "layers"
RECURRENT = LAYERS / "recurrent"
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
    files = {name: (RECURRENT / name).read_text("utf-8") for name in CELL_FILES}
    for sources in (files, classes_of(RECURRENT / "gru.py")):
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
    source = (RECURRENT / "lstm.py").read_text("utf-8")
    assert len(longest_common_run(source, source)) == len(written_lines(source))
    assert longest_common_run("a\nb\nc", "a\nx\nc") == ["a"]
    assert {"GRU", "GRUResetBefore"} <= classes_of(RECURRENT / "gru.py").keys()


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
    sources = {path.name: path.read_text("utf-8") for path in LAYERS.rglob("*.py")}
    found = {name for name, source in sources.items() if loops_over_steps(source)}
    # segments.py cuts a batch into shorter ones, which the same loop then runs.
    assert found == {"through_time.py", "segments.py"}
    loop = (RECURRENT / "through_time.py").read_text("utf-8")
    assert len(loops_over_steps(loop)) == 2  # and back


#: Everything of a GRU's forward and backward pass through time.
REFERENCE = [RECURRENT / name for name in ("cell.py", "through_time.py", "gru.py")]
#: What serves speed, or watches; it lives elsewhere.
NOT_MATHEMATICS = re.compile(
    r"cupy|numba|cuda|device|kernel|compiled|tuned|fused|buffer|scratch|block|probe|out=", re.I
)


def test_the_reference_is_three_short_files_of_mathematics() -> None:
    sources = [path.read_text("utf-8") for path in REFERENCE]
    assert sum(len(source.splitlines()) for source in sources) <= 300
    for source in sources:
        assert not NOT_MATHEMATICS.findall(source)
    fast = (ROOT / "backend" / "tuned" / "loop.py").read_text("utf-8")
    assert NOT_MATHEMATICS.findall(fast)


@pytest.mark.parametrize("name", CELL_FILES)
def test_a_cell_knows_neither_steps_nor_packing(name: str) -> None:
    tree = ast.parse((RECURRENT / name).read_text("utf-8"))
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
