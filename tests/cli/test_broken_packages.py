"""Optional packages that are installed and cannot be imported: one line with cause and fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from npnlp.errors import DeviceError, InputError
from npnlp.optional import needs
from tests.support.exchange import made
from tests.support.tables import ROOT, environment, npnlp, refusal

#: What the file of a broken package says, and what the message has to say of it.
WAYS = {
    "import": ("raise ImportError('libx.so: cannot open\\nshared object')", "libx.so: cannot open"),
    "attribute": ("import sys\nsys._no_such_thing", "_no_such_thing"),
    "system": ("raise OSError('WinError 126: a DLL\\n\\nis missing')", "a DLL is missing"),
    "runtime": ("raise RuntimeError('built for another NumPy')", "built for another NumPy"),
    "syntax": ("def broken(:", "SyntaxError"),
    "part": ("import no_such_part_of_it", "no_such_part_of_it"),
    "noisy": ("import sys\nsys.stderr.write('a\\nb\\n')\nraise ImportError('ABI')", "ABI"),
    "empty": ("", ""),
}
#: A command that needs each package, and what mends it; DIR holds a model.
NEEDED = {
    "onnx": ("export --save-dir DIR --format onnx", "install --force-reinstall onnx"),
    "onnxruntime": ("verify DIR/model.onnx", "install --force-reinstall onnxruntime"),
    "torch": ("verify DIR/model.safetensors", "install --force-reinstall torch"),
    "numba": ("predict --save-dir DIR Ramini --backend numba",
              "install --force-reinstall numba scipy, or use --backend numpy"),
    "mpi4py": ("train --save-dir DIR/run --distributed mpi", "install --force-reinstall mpi4py"),
    "cupy": ("predict --save-dir DIR Ramini --backend cupy", "or use --backend numpy"),
}  # fmt: skip
AUTO = "predict --save-dir DIR Ramini --backend auto"
#: Tries commands in one process; each import of a package is a new one, since it fails.
DRIVER = """
import contextlib, io, json, os, sys
from npnlp.cli import main

found = []
for way, package, line in json.load(sys.stdin):
    os.environ["WAY"] = way
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        del sys.modules[name]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(line.split())
        except SystemExit as stop:
            status = stop.code
    found.append((status, said.getvalue()))
json.dump(found, sys.stdout)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, something that is called an ONNX file, and every package, broken by $WAY."""
    made().save(tmp_path / "model.safetensors")
    (tmp_path / "model.onnx").write_bytes(b"whatever")
    (tmp_path / "site" / "scipy").mkdir(parents=True)  # with Numba; there, and of no use
    (tmp_path / "site" / "scipy" / "__init__.py").write_text("")
    for package in NEEDED:
        (tmp_path / "site" / package).mkdir(parents=True)
        chosen = "{way: source for way, (source, _) in %r.items()}" % WAYS  # noqa: UP031
        (tmp_path / "site" / package / "__init__.py").write_text(
            f"import os\nexec({chosen}[os.environ['WAY']])\n", encoding="utf-8"
        )
    return tmp_path


def search(folder: Path) -> dict[str, Any]:
    return {"PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)])}


def tried(folder: Path, cases: list[tuple[str, str, str]]) -> list[tuple[int, str]]:
    placed = [(way, package, line.replace("DIR", str(folder))) for way, package, line in cases]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(placed), capture_output=True, text=True,
        check=True, timeout=900, env=environment(**search(folder)),
    )  # fmt: skip
    return [tuple(found) for found in json.loads(done.stdout)]


def check_line(text: str, package: str, way: str) -> None:
    line = refusal(text, package, NEEDED[package][1], WAYS[way][1])
    assert line.startswith(f"npnlp {NEEDED[package][0].split()[0]}: ")
    assert "installed" in line or "a folder called cupy" in line


def test_a_broken_package_is_one_line_and_auto_goes_on(folder: Path) -> None:
    cases = [(way, package, line) for package, (line, _) in NEEDED.items() for way in WAYS]
    cases += [(way, "cupy", AUTO) for way in WAYS]
    for (way, package, line), (status, said) in zip(cases, tried(folder, cases), strict=True):
        if line == AUTO:
            assert (status, said) == (0, ""), way
        else:
            assert status == 2, (way, package, said)
            check_line(said, package, way)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("package", NEEDED)
def test_each_of_them_in_a_process_of_its_own(folder: Path, package: str, way: str) -> None:
    line = NEEDED[package][0].replace("DIR", str(folder))
    done = npnlp(*line.split(), cwd=folder, WAY=way, **search(folder))
    assert (done.returncode, done.stdout) == (2, b"")
    check_line(done.stderr.decode(), package, way)
    if package == "cupy":
        done = npnlp(*AUTO.replace("DIR", str(folder)).split(), WAY=way, **search(folder))
        assert (done.returncode, done.stderr) == (0, b"")


def test_what_backends_says_of_it(folder: Path) -> None:
    done = npnlp("backends", WAY="runtime", **search(folder))
    assert done.returncode == 0
    works, *broken = done.stdout.decode().splitlines()
    assert works.startswith("numpy  works")
    for package, line in zip(("cupy", "numba"), broken, strict=True):
        assert line.startswith(f"{package:<6} not usable: {package} ")
        assert "built for another NumPy" in line


@pytest.mark.parametrize(
    "script", ["against_frameworks.py", pytest.param("inference.py", marks=pytest.mark.slow)]
)
def test_a_script_that_needs_pytorch_says_so_in_a_line(script: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, "--quick", "--out", folder / "out"],
        capture_output=True, text=True, timeout=900, check=False, cwd=folder,
        env=environment(WAY="noisy", **search(folder)),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    refusal(done.stderr, f"{script}: torch is installed but cannot be imported (ImportError: ABI)")


@pytest.mark.slow
def test_a_script_that_can_do_without_pytorch_goes_on(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "sequence_lengths.py", "--quick", "--out", "out"],
        capture_output=True, text=True, timeout=900, check=False, cwd=folder,
        env=environment(WAY="system", **search(folder)),
    )  # fmt: skip
    assert done.returncode == 0
    assert "is left out: PyTorch: torch is installed but cannot be imported (OSError" in done.stdout


def test_a_failing_import_of_our_own_is_not_hidden() -> None:
    with pytest.raises(ImportError, match="ours"), needs("this", "torch"):
        raise ImportError("ours", name="npnlp.exchange.torch_model")
    with pytest.raises(InputError, match="this: torch is not installed; pip install torch"), \
            needs("this", "torch"):  # fmt: skip
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    with pytest.raises(DeviceError, match=r"imported \(KeyError\); pip install --force"), \
            needs("this", "torch", kind=DeviceError):  # fmt: skip
        raise KeyError


def test_what_an_import_that_works_prints_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with needs("this", "torch"):
        print("a note of theirs", file=sys.stderr)
    assert capsys.readouterr().err == "a note of theirs\n"
