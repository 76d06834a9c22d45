"""Choosing a backend, what each one has to do, and the strict stand-in itself."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import BACKEND_NAMES, Backend, get_backend
from npnlp.errors import DeviceError, InputError
from npnlp.layers import Layer
from tests.support import reference
from tests.support.reference import assert_close, draw
from tests.support.strict import StrictArray, StrictBackend
from tests.support.tables import SMALL, environment, read_json, write_table

REPOSITORY = Path(__file__).parents[2]
HAS_CUPY = importlib.util.find_spec("cupy") is not None


def test_a_name_chooses_its_backend() -> None:
    assert get_backend().name == get_backend("numpy").name == "numpy"
    assert get_backend("numpy").reason == ""


@pytest.mark.parametrize("name", ["tpu", "", "NumPy"])
def test_an_unknown_name_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(InputError) as caught:
        get_backend(name)
    assert repr(name) in str(caught.value)
    assert all(choice in str(caught.value) for choice in BACKEND_NAMES)


KEPT = """
import resource
import numpy as np
from npnlp.backend import get_backend

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for megabytes in (300, 40, 300):
        np.ones((megabytes, 2**20), dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given = faults()
get_backend("numpy").keep_memory()
faults()
print(given, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what keeps memory is glibc's")
def test_what_large_arrays_leave_is_kept_for_the_next_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KEPT], env=environment(NUMPY_MADVISE_HUGEPAGE="0"),
        capture_output=True, text=True, timeout=900, check=True,
    )  # fmt: skip
    given, kept = map(int, done.stdout.split())
    assert given > 300  # pages, of 2 MiB at most
    assert kept < given / 10


@pytest.mark.skipif(HAS_CUPY, reason="CuPy is installed here")
def test_cupy_without_cupy_names_the_remedy_in_one_line() -> None:
    with pytest.raises(DeviceError, match=r"not installed; pip install .*cuda") as caught:
        get_backend("cupy")
    (line,) = str(caught.value).splitlines()
    assert line.endswith("or use --backend numpy")


def test_auto_says_what_it_chose_and_why() -> None:
    chosen = get_backend("auto")
    assert chosen.name in ("numpy", "cupy")
    why = chosen.reason.removeprefix(f"auto chose {chosen.name}: ")
    assert why
    assert why != chosen.reason
    assert "\n" not in why


@pytest.mark.skipif(HAS_CUPY, reason="CuPy is installed here")
def test_auto_without_cupy_takes_numpy_because_cupy_is_not_installed() -> None:
    assert get_backend("auto").reason == "auto chose numpy: cupy is not installed"


CANNOT_IMPORT = """raise ImportError("libcudart.so: cannot open shared object file")"""
NO_DEVICE = """
__version__ = "14.0.0"

def arange(*arguments):
    raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
"""
NO_LIBRARY = """import cupy_parts_that_are_not_there"""
WRONG_SUM = """
__version__ = "14.0.0"

import numpy

def arange(*arguments):
    return numpy.zeros(6)

dot = numpy.dot
"""
WRONG_PRODUCT = """
__version__ = "14.0.0"

import numpy
from numpy import arange

def dot(a, b):
    return 0 * numpy.dot(a, b)
"""
NO_CUBLAS = """
__version__ = "14.0.0"

from numpy import arange

def dot(a, b):
    assert a.shape == (2, 3) and b.shape == (3, 2)  # of vectors CuPy asks cuBLAS nothing
    raise RuntimeError("libcublasLt.so.13: cannot open shared object file")
"""


def run_with_cupy(source: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "cupy").mkdir()
    (folder / "cupy" / "__init__.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "npnlp", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            CANNOT_IMPORT,
            "imported (ImportError: libcudart.so: cannot open shared object file)",
        ),
        (NO_LIBRARY, "(ModuleNotFoundError: No module named 'cupy_parts_that_are_not_there')"),
        (NO_DEVICE, "no CUDA device is usable (cudaErrorNoDevice: no CUDA-capable device"),
        (WRONG_SUM, "the CUDA device gave a wrong sum or product"),
        (WRONG_PRODUCT, "the CUDA device gave a wrong sum or product"),
        (NO_CUBLAS, "does not find CUDA's libcublasLt (libcublasLt.so.13: cannot open"),
    ],
    ids=["import fails", "part missing", "no device", "wrong sum", "wrong product", "no cuBLAS"],
)
def test_a_broken_cupy_ends_training_with_its_own_line(
    source: str, says: str, tmp_path: Path
) -> None:
    arguments = ("train", "--backend", "cupy", "--quick", "--save-dir", "run")
    done = run_with_cupy(source, tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("npnlp train: backend cupy: ")
    assert says in line
    assert line.endswith("or use --backend numpy")
    assert not (tmp_path / "run").exists()


def test_auto_with_a_broken_cupy_computes_with_numpy(tmp_path: Path) -> None:
    where = ("--surname-csv", str(write_table(tmp_path / "small.csv")), "--save-dir", "run")
    done = run_with_cupy(
        NO_DEVICE, tmp_path, "train", *where, *SMALL, "--num-epochs", "1", "--backend", "auto"
    )
    assert (done.returncode, done.stderr) == (0, "")
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["environment"]["backend"] == "numpy"


@pytest.mark.parametrize("size", [1, 5, 96, 97, 1000])
@pytest.mark.parametrize("rows", [1, 40, 300])
def test_segment_sum_equals_a_loop(backend: Backend, size: int, rows: int) -> None:
    values = draw(size + rows, rows, 3)
    segments = np.random.default_rng(rows).integers(0, size, rows)
    segments[-1] = size - 1
    summed = backend.segment_sum(backend.asarray(values), backend.asarray(segments), size)
    expected = reference.segment_sum(values, segments.tolist(), size)
    assert_close(summed, expected, 1e-14, backend)


@pytest.mark.parametrize("size", [4, 300])
def test_segment_sum_of_no_rows_is_zero(backend: Backend, size: int) -> None:
    values, segments = np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    summed = backend.segment_sum(backend.asarray(values), backend.asarray(segments), size)
    assert_close(summed, np.zeros((size, 3)), 0.0, backend)


@pytest.mark.parametrize("size", [20, 300])
def test_segment_sum_repeats_to_the_same_bits(backend: Backend, size: int) -> None:
    values = backend.asarray(draw(0, 500, 7).astype(np.float32))
    segments = backend.asarray(np.random.default_rng(1).integers(0, size, 500))
    first, second = (
        backend.to_numpy(backend.segment_sum(values, segments, size)).copy() for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_arrays_go_to_the_backend_and_come_back(backend: Backend) -> None:
    host = draw(2, 3, 4)
    array = backend.asarray(host, dtype=np.float32)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(backend.to_numpy(array), host.astype(np.float32))
    zeros = backend.zeros((2, 5), np.float64)
    assert zeros.dtype == np.float64
    np.testing.assert_array_equal(backend.to_numpy(zeros), np.zeros((2, 5)))
    backend.synchronize()
    assert backend.describe()["backend"] == backend.name


PLAIN = np.arange(3.0)

MIXTURES: dict[str, Callable[[Any], Any]] = {
    "ufunc": lambda x: np.tanh(x),
    "ufunc of two": lambda x: np.add(x, x),
    "function": lambda x: np.dot(x, x),
    "concatenate": lambda x: np.concatenate([x, x]),
    "asarray": lambda x: np.asarray(x),
    "array": lambda x: np.array([x, x]),
    "array on the right": lambda x: x + PLAIN,
    "array on the left": lambda x: PLAIN * x,
    "comparison": lambda x: x > PLAIN,
    "in place": lambda x: x.__iadd__(PLAIN),
    "in place of an array": lambda x: PLAIN.copy().__iadd__(x),
    "index": lambda x: x[np.arange(2)],
    "mask": lambda x: x[PLAIN > 1],
    "index of a plain array": lambda x: PLAIN[x > 1],
    "index in a tuple": lambda x: x[None, np.arange(2)],
    "assigned value": lambda x: x.__setitem__(slice(None), PLAIN),
    "assigned to an array": lambda x: PLAIN.copy().__setitem__(slice(None), x),
    "take": lambda x: x.take(np.arange(2)),
    "xp of a plain array": lambda x: StrictBackend().xp.exp(PLAIN),
    "xp of both": lambda x: StrictBackend().xp.dot(x, PLAIN),
    "xp out": lambda x: StrictBackend().xp.tanh(x, out=PLAIN.copy()),
    "walking through": lambda x: list(x),
    "truth": lambda x: bool(x[0] > 0),
}


@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES.keys())
def test_the_strict_backend_refuses_plain_arrays(mixture: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError):
        mixture(StrictBackend().asarray(np.arange(3.0)))


def test_a_strict_array_computes_as_numpy_does() -> None:
    strict = StrictBackend()
    x, y = strict.asarray(draw(0, 3, 4)), strict.asarray(draw(1, 3, 4))
    a, b = draw(0, 3, 4), draw(1, 3, 4)
    computed = 2.0 * (x - y) / (1.0 + x * x) + abs(-y) ** 2 + x[0] + strict.xp.dot(x, y.T)[0, 1]
    expected = 2.0 * (a - b) / (1.0 + a * a) + abs(-b) ** 2 + a[0] + np.dot(a, b.T)[0, 1]
    np.testing.assert_array_equal(strict.to_numpy(computed), expected)
    x[1:][x[1:] > 0] -= 1
    a[1:][a[1:] > 0] -= 1
    x.reshape(-1)[:4] += y[2]
    a.reshape(-1)[:4] += b[2]
    np.testing.assert_array_equal(strict.to_numpy(x), a)
    assert float(x.sum()) == a.sum()


def test_a_strict_array_shares_no_memory_with_the_host() -> None:
    strict, plain = StrictBackend(), np.zeros(3)
    array = strict.asarray(plain)
    out = strict.to_numpy(array)
    array += 1
    assert (plain == 0).all()
    assert (out == 0).all()
    assert strict.to_numpy(array).tolist() == [1, 1, 1]


class StrayFunction(Layer):
    """Right on NumPy; on a device it calls NumPy on an array that is not NumPy's."""

    def forward(self, x: Any) -> Any:
        y = np.tanh(x)
        return y, y

    def backward(self, dy: Any, cache: Any) -> Any:
        return dy * (1 - cache * cache)


class StrayArray(StrayFunction):
    """Right on NumPy; on a device its backward pass multiplies with an array of the host."""

    def forward(self, x: Any) -> Any:
        y = self.backend.xp.tanh(x)
        return y, y

    def backward(self, dy: Any, cache: Any) -> Any:
        return dy * (np.ones(dy.shape) - cache * cache)


class StrayIndex(StrayArray):
    """Right on NumPy; on a device its index was never copied there."""

    def backward(self, dy: Any, cache: Any) -> Any:
        return (dy * (1 - cache * cache))[np.arange(len(dy))]


@pytest.mark.parametrize("wrong", [StrayFunction, StrayArray, StrayIndex])
def test_a_stray_numpy_call_in_a_layer_fails_without_a_device(
    wrong: type[StrayFunction],
) -> None:
    x = draw(3, 4, 2)
    layer = wrong(dtype=np.float64)
    _, cache = layer.forward(x)
    assert_close(layer.backward(np.ones((4, 2)), cache), 1 - np.tanh(x) ** 2)

    strict = StrictBackend()
    layer = wrong(backend=strict, dtype=np.float64)
    with pytest.raises(TypeError):
        layer.backward(strict.asarray(np.ones((4, 2))), layer.forward(strict.asarray(x))[1])


def test_the_strict_namespace_gives_strict_arrays() -> None:
    xp = StrictBackend().xp
    assert isinstance(xp.zeros((2, 3)), StrictArray)
    assert isinstance(xp.exp(xp.ones(2)).sum(), StrictArray)
    assert xp.float32 is np.float32
