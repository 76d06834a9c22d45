"""Every kernel compiles for real devices, without one: NVRTC, where it is installed."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import re
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from npnlp.backend.cuda.kernel_source import kernel_source
from npnlp.backend.cuda.many import CELLS
from npnlp.backend.cuda.products import LARGE, SIDE, SMALL
from npnlp.backend.cuda.recurrence import KINDS, plan, step_options

RECURRENT = {file for file, _, _ in KINDS.values()}
#: Elman, GRU and LSTM at the sizes that they are made for: H, sequences and blocks a cluster.
DESIGN = [
    (kind, *sizes)
    for kind in ("elman_tanh", "gru", "lstm") for sizes in ((64, 4, 1), (128, 4, 1))
]  # fmt: skip
CLUSTERS = [("elman_tanh", 512, 1, 4), ("gru", 256, 4, 4), ("lstm", 256, 4, 4)]


@lru_cache(maxsize=1)
def nvrtc() -> Any:
    """NVRTC from NVIDIA's wheels (extra cuda13) or from the system, or None."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else list(spec.submodule_search_locations or ())
    wheels = [str(path) for root in roots for path in Path(root).glob("*/lib/libnvrtc.so.*")]
    for name in (*sorted(wheels, reverse=True), ctypes.util.find_library("nvrtc")):
        if name is not None:
            return ctypes.CDLL(name)
    return None


def targets() -> list[int]:
    """The oldest and the usual one, and the newest that this NVRTC knows."""
    count = ctypes.c_int()
    assert nvrtc().nvrtcGetNumSupportedArchs(ctypes.byref(count)) == 0
    known = (ctypes.c_int * count.value)()
    assert nvrtc().nvrtcGetSupportedArchs(known) == 0
    return sorted({80, 90, max(known)})


@pytest.fixture
def target(request: pytest.FixtureRequest) -> int:
    if nvrtc() is None:
        pytest.skip("NVRTC is not installed: pip install 'cupy-cuda13x[ctk]'")
    known = targets()
    return known[-1] if request.param == "newest" else int(request.param)


def shared_limit(target: int) -> int:
    """Bytes of shared memory a block can have there; 12.x are graphics cards."""
    return 1024 * (163 if target == 80 else 99 if target // 10 == 12 else 227)


def compile_for(target: int, file: str, *options: str) -> str:
    """Machine code is made and thrown away; the log is what the assembler says of it."""
    library, program = nvrtc(), ctypes.c_void_p()
    source = kernel_source(file).encode()
    assert library.nvrtcCreateProgram(
        ctypes.byref(program), source, file.encode(), 0, None, None
    ) == 0  # fmt: skip
    flags = [f"--gpu-architecture=sm_{target}", "-std=c++17", "--ptxas-options=-v", *options]
    encoded = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    status = library.nvrtcCompileProgram(program, len(flags), encoded)
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode()
    assert status == 0, f"{file} for sm_{target}: {text}"
    return text


TARGETS = pytest.mark.parametrize("target", ["80", "90", "newest"], indirect=True)
FOLDER = resources.files("npnlp.backend.cuda") / "kernels"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.name.endswith(".cu"))


@TARGETS
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("file", [file for file in FILES if file not in RECURRENT | {"many.cu"}])
def test_a_kernel_compiles(file: str, real: str, target: int) -> None:
    log = compile_for(target, file, f"-DREAL={real}")
    assert set(re.findall(r"(\d+) bytes spill (?:stores|loads)", log)) == {"0"}, log


@TARGETS
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("tile", [SMALL, LARGE])
@pytest.mark.parametrize("file", ["product.cu", "affine.cu", "gru_reset_before.cu"])
def test_a_product_spills_nothing_and_two_blocks_fit(
    file: str, real: str, tile: int, target: int
) -> None:
    log = compile_for(target, file, f"-DREAL={real}", f"-DTILE={tile}")
    assert set(re.findall(r"(\d+) bytes spill (?:stores|loads)", log)) == {"0"}, log
    assert max(map(int, re.findall(r"Used (\d+) registers", log))) <= 65536 // (2 * SIDE**2)


@TARGETS
@pytest.mark.parametrize("design", [*DESIGN, *CLUSTERS], ids=str)
def test_a_recurrence_compiles_and_spills_nothing(
    design: tuple[str, int, int, int], target: int
) -> None:
    if design[-1] > 1 and target < 90:
        pytest.skip("clusters are there from compute capability 9.0 on")
    chosen = plan(*design)
    log = compile_for(target, chosen.file, *chosen.options)
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    assert len(spilled) == 4, log  # forward and backward
    if max(chosen.shared.values()) <= shared_limit(target):  # elsewhere it never runs
        assert set(spilled) == {"0"}, log


@TARGETS
@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["elman_tanh", "elman_relu", "gru", "lstm"])
def test_a_launch_for_each_step_compiles_and_spills_nothing(
    kind: str, real: str, target: int
) -> None:
    log = compile_for(target, KINDS[kind][0], *step_options(kind, 1024, real))
    assert re.findall(r"(\d+) bytes spill (?:stores|loads)", log) == ["0"] * 4, log


@TARGETS
@pytest.mark.parametrize("cell", sorted({number for number, *_ in CELLS.values()}))
def test_many_models_compile_and_spill_nothing(cell: int, target: int) -> None:
    log = compile_for(target, "many.cu", "-DREAL=float", f"-DCELL={cell}")
    assert set(re.findall(r"(\d+) bytes spill (?:stores|loads)", log)) == {"0"}, log


def test_every_source_is_tested() -> None:
    assert set(FILES) >= RECURRENT
    assert {file for file, _, _ in KINDS.values()} == {plan(*design).file for design in DESIGN}
