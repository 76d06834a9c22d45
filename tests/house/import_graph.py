"""Imports between the files of a package: their circles, and those that point upwards.

Every import counts: under ``TYPE_CHECKING``, inside a function, and by ``import_module`` of a name
that is written out. A file is named by its path below the package.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath

PACKAGE = "npnlp"
#: For each file, the files that it imports.
Graph = dict[str, set[str]]


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Of every import, wherever it stands: the module, and the member of it ("" for none)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            yield from ((a.value, "") for a in node.args
                        if isinstance(a, ast.Constant) and isinstance(a.value, str))  # fmt: skip


def _name(node: ast.AST) -> str:
    return str(getattr(node, "id", getattr(node, "attr", "")))


def graph_of(sources: Mapping[str, str]) -> Graph:
    """The imports between the files whose ``sources`` these are, by path below the package."""
    return {path: imported(source, sources) - {path} for path, source in sources.items()}


def imported(source: str, paths: Collection[str]) -> set[str]:
    """Those of the files ``paths`` that ``source`` imports."""
    files = {_module(path): path for path in paths}
    found = (
        files.get(f"{module}.{member}") or files.get(module)
        for module, member in imports(ast.parse(source))
    )
    return {path for path in found if path is not None}


@cache
def _module(path: str) -> str:
    parts = PurePosixPath(PACKAGE, path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(graph: Graph) -> list[list[str]]:
    """Sets of two or more nodes of which each reaches all others: strongly connected components."""
    reached = {node: _reachable(graph, node) for node in graph}
    found = []
    for node in sorted(graph):
        members = sorted(other for other in reached[node] if node in reached[other])
        if len(members) > 1 and members[0] == node:
            found.append(members)
    return found


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for node in graph[waiting.pop()] - seen:
            seen.add(node)
            waiting.append(node)
    return seen


def by_folder(graph: Graph, depth: int) -> Graph:
    """The graph of folders ``depth`` levels below the package; files above them stay themselves."""

    def folder(path: str) -> str:
        parts = PurePosixPath(path).parts
        return "/".join(parts[:depth]) if len(parts) > depth else path

    joined: Graph = {folder(path): set() for path in graph}
    for path, imported in graph.items():
        joined[folder(path)] |= {folder(other) for other in imported} - {folder(path)}
    return joined


def room_of(path: str) -> str:
    """The folder of a file, or the file's own name where it stands at the top."""
    return PurePosixPath(path).parts[0].removesuffix(".py")


def upward(graph: Graph, rooms: Sequence[set[str]]) -> list[tuple[str, str]]:
    """Imports that do not point down; ``rooms`` from the top, peers in one set.

    A file may import files of its own room, and of the rooms below it.
    """
    level = {room: place for place, peers in enumerate(rooms) for room in peers}
    return sorted(
        (path, other)
        for path, imported in graph.items()
        for other in imported
        if room_of(path) != room_of(other) and level[room_of(path)] >= level[room_of(other)]
    )
