"""No line of the source can run what a file says."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.tables import ROOT

FOLDERS = ("npnlp", "experiments", "benchmarks", "tools")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

#: Modules that make objects, and so calls, of bytes.
MODULES = {"pickle", "_pickle", "cPickle", "pickletools", "dill", "cloudpickle", "joblib",
           "marshal", "shelve", "code", "codeop", "imp"}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__"}
#: Members of anything: how an object says which call makes it, and readers that make such calls.
MEMBERS = {"__reduce__", "__reduce_ex__", "read_pickle", "to_pickle", "unsafe_load", "full_load",
           "load_all", "unsafe_load_all"}  # fmt: skip
#: Functions that are harmless below another name.
CALLS = {("yaml", "load"), ("os", "system"), ("os", "popen")}


def faults(source: str) -> list[str]:
    """What in ``source`` could run what a file says, by line."""
    return [f"line {line}: {what}" for node in ast.walk(ast.parse(source))
            for line, what in faults_of(node)]  # fmt: skip


def faults_of(node: ast.AST) -> Iterator[tuple[int, str]]:
    line = getattr(node, "lineno", 0)
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names]
        modules = names if isinstance(node, ast.Import) else [node.module or ""]
        loaded = [name for name in modules if name.split(".")[0] in MODULES]
        loaded += [name for name in names if (modules[0], name) in CALLS | {("torch", "load")}]
        loaded += [name for name in names if name in MEMBERS | BUILTINS]
        yield from ((line, f"import {name}") for name in loaded)
    elif isinstance(node, ast.Name) and node.id in BUILTINS:
        yield line, node.id
    elif isinstance(node, ast.Attribute) and node.attr in MEMBERS:
        yield line, node.attr
    elif isinstance(node, ast.FunctionDef) and node.name in MEMBERS:
        yield line, node.name
    elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
        if not (isinstance(node.value, ast.Constant) and node.value.value is False):
            yield node.value.lineno, f"{node.arg} that is not False"
    elif isinstance(node, ast.Constant) and node.value in ("allow_pickle", *BUILTINS):
        yield line, f"the text {node.value!r}"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield from ((line, fault) for fault in faults_of_call(node, node.func))


def faults_of_call(call: ast.Call, method: ast.Attribute) -> Iterator[str]:
    owner = method.value.id if isinstance(method.value, ast.Name) else ""
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    # A module of PyTorch is set to evaluation by a method of that name, without arguments.
    if method.attr in ("eval", "exec", "query") and (call.args or call.keywords):
        yield f"{owner}.{method.attr} of something"
    if (owner, method.attr) == ("torch", "load"):
        only = arguments.get("weights_only")
        if not (isinstance(only, ast.Constant) and only.value is True):
            yield "torch.load without weights_only=True"
    if (owner, method.attr) in CALLS:
        yield f"{owner}.{method.attr}"


def test_nothing_here_runs_what_a_file_says() -> None:
    found = {str(path.relative_to(ROOT)): faults(path.read_text("utf-8")) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_every_folder_is_looked_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(FOLDERS)
    assert len(SOURCES) > 150


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "import pickle as p", "from pickle import loads", "import cloudpickle",
        "def f():\n    import marshal", "from joblib import load", "import shelve",
        "eval(text)", "exec(text)", "run = eval", "compile(text, 'x', 'exec')", "__import__(name)",
        "builtins.eval(text)", "frame.eval('a + b')", "frame.query('a > b')",
        "getattr(builtins, 'eval')(text)", "from builtins import exec as run",
        "np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=yes)",
        "np.load(path, **{'allow_pickle': True})", "pd.read_pickle(path)", "frame.to_pickle(path)",
        "torch.load(path)", "torch.load(path, weights_only=False)", "from torch import load",
        "torch.load(path, weights_only=flag)", "yaml.load(text)", "yaml.unsafe_load(text)",
        "from yaml import load", "os.system(command)", "subprocess.run(command, shell=True)",
        "class A:\n    def __reduce__(self): return print, ('x',)", "A.__reduce__ = f",
    ],
)  # fmt: skip
def test_a_line_that_could_would_be_found(line: str) -> None:
    assert len(faults(line)) >= 1


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()", "np.load(path, allow_pickle=False)", "re.compile(pattern)",
        "torch.load(path, weights_only=True)", "subprocess.run(command)", "json.loads(text)",
        "'''Nothing is pickled; see eval().'''",
    ],
)  # fmt: skip
def test_a_line_that_could_not_is_let_pass(line: str) -> None:
    assert faults(line) == []
