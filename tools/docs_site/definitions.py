"""Where the package defines what a docstring names: modules, classes, functions, constants."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def module_file(module: str) -> Path | None:
    """The file of a module of the package, below the project's folder."""
    path = Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate
    return None


@cache
def definitions() -> dict[str, tuple[Path, int]]:
    """File and line of everything in the package, by its whole name."""
    found: dict[str, tuple[Path, int]] = {}
    for path in sorted(ROOT.glob("npnlp/**/*.py")):
        own = path.relative_to(ROOT)
        module = ".".join(own.with_suffix("").parts).removesuffix(".__init__")
        found[module] = own, 1
        for name, line in _names(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(f"{module}.{name}", (own, line))
    return found


def _names(tree: ast.AST, within: str = "") -> Iterator[tuple[str, int]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield within + node.name, node.lineno
            if isinstance(node, ast.ClassDef):
                yield from _names(node, f"{within}{node.name}.")
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield within + target.id, node.lineno


def defined(name: str, module: str, within: str = "") -> tuple[Path, int] | None:
    """What a docstring in ``module``, in the class ``within``, means by ``name``.

    The class's own member before the module's, that before one of the module's folder, and that
    before one of anywhere, where only one is called so. None where nothing or more is.
    """
    known, folders = definitions(), module.split(".")
    tried = [name, f"{module}.{within}.{name}"]
    tried += [f"{'.'.join(folders[:depth])}.{name}" for depth in range(len(folders), 0, -1)]
    for whole in tried:
        if whole in known:
            return known[whole]
    last = name.rpartition(".")[2]  # of what a folder hands on from one of its files
    for end in dict.fromkeys((name, last)):
        places = {place for whole, place in known.items() if whole.endswith(f".{end}")}
        if places:
            return places.pop() if len(places) == 1 else None
    return None
