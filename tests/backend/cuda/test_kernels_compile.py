"""Every kernel compiles for real devices, without one: NVRTC, where it is installed."""

from __future__ import annotations

import importlib.util
import re
from importlib import resources
from pathlib import Path

import pytest

from npnlp.backend.cuda.many import CELLS
from npnlp.backend.cuda.products import LARGE, SIDE, SMALL
from npnlp.backend.cuda.recurrence import KINDS, Limits, Plan, choose, plan, step_options
from tests.support.nvrtc import (
    OPTIONS,
    REPORT,
    TARGETS,
    compile_for,
    instructions,
    known_targets,
    limits_of,
    loop_around,
    nvrtc,
)

RECURRENT = {file for file, _, _ in KINDS.values()}
#: The sizes that recurrences are made for: each has to run without spills wherever it fits on chip.
DESIGN = [
    *(("elman_tanh", size) for size in (64, 100, 128, 256, 512)),
    *(("gru", size) for size in (64, 100, 128, 256, 384)),
    *(("lstm", size) for size in (64, 100, 128, 256, 300)),
]
FOLDER = resources.files("npnlp.backend.cuda") / "kernels"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.name.endswith(".cu"))
EVERY_TARGET = pytest.mark.parametrize("target", TARGETS, indirect=True)


@pytest.fixture
def target(request: pytest.FixtureRequest) -> int:
    known, named = known_targets(), [int(name) for name in TARGETS if name.isdigit()]
    if request.param == "newest":
        if known[-1] in named:
            pytest.skip(f"it is {known[-1]}")
        return known[-1]
    if int(request.param) not in known:
        pytest.skip("this NVRTC does not know it")
    return int(request.param)


def spilled(log: str, kernels: int) -> set[str]:
    """The bytes that a thread spills, of so many kernels."""
    found = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    assert len(found) == 2 * kernels, log
    return set(found)


@EVERY_TARGET
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("file", [file for file in FILES if file not in RECURRENT | {"many.cu"}])
def test_a_kernel_compiles(file: str, real: str, target: int) -> None:
    compiled = compile_for(target, file, f"-DREAL={real}")
    assert compiled.code.startswith(b"\x7fELF")
    assert set(re.findall(r"(\d+) bytes spill (?:stores|loads)", compiled.log)) == {"0"}


@EVERY_TARGET
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("tile", [SMALL, LARGE])
@pytest.mark.parametrize("file", ["product.cu", "affine.cu", "gru_reset_before.cu"])
def test_a_product_spills_nothing_and_two_blocks_fit(
    file: str, real: str, tile: int, target: int
) -> None:
    log = compile_for(target, file, f"-DREAL={real}", f"-DTILE={tile}").log
    assert set(re.findall(r"(\d+) bytes spill (?:stores|loads)", log)) == {"0"}, log
    assert max(map(int, re.findall(r"Used (\d+) registers", log))) <= 65536 // (2 * SIDE**2)


def plans(kind: str, hidden_size: int, limits: Limits) -> list[Plan]:
    """The different plans for a small batch and a large one, with each transfer."""
    found = [
        choose(kind, hidden_size, batch, limits, transfer=transfer)
        for batch in (1, 10**5) for transfer in ("barrier", "async")
    ]  # fmt: skip
    return [each for i, each in enumerate(found) if each is not None and each not in found[:i]]


@EVERY_TARGET
@pytest.mark.parametrize(("kind", "hidden_size"), DESIGN)
def test_a_recurrence_compiles_and_spills_nothing(kind: str, hidden_size: int, target: int) -> None:
    for chosen in plans(kind, hidden_size, limits_of(target)):
        log = compile_for(target, chosen.file, *chosen.options).log
        assert spilled(log, kernels=2) == {"0"}, f"{chosen}: {log}"


@EVERY_TARGET
@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["elman_tanh", "elman_relu", "gru", "lstm"])
def test_a_launch_for_each_step_compiles_and_spills_nothing(
    kind: str, real: str, target: int
) -> None:
    log = compile_for(target, KINDS[kind][0], *step_options(kind, 1024, real)).log
    assert spilled(log, kernels=2) == {"0"}, log


@pytest.mark.skipif(nvrtc() is None, reason="NVRTC is not installed")
@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_without_cupy_the_options_are_those_that_it_would_give() -> None:
    asked = compile_for(90, "softmax.cu", "-DREAL=float").options
    named = {option for option in asked if not option.startswith("-I")}
    assert named == {*OPTIONS, "-DREAL=float", REPORT, "-arch=sm_90"}


@EVERY_TARGET
@pytest.mark.parametrize("cell", sorted({number for number, *_ in CELLS.values()}))
def test_many_models_compile_and_spill_nothing(cell: int, target: int) -> None:
    log = compile_for(target, "many.cu", "-DREAL=float", f"-DCELL={cell}").log
    assert set(re.findall(r"(\d+) bytes spill (?:stores|loads)", log)) == {"0"}, log


@pytest.mark.parametrize("target", ["90", "100", "120"], indirect=True)
@pytest.mark.parametrize("kernel", ["forward", "backward"])
@pytest.mark.parametrize("places", [1, 4])
def test_a_step_waits_for_no_more_than_its_transfer_needs(
    places: int, kernel: str, target: int, tmp_path: Path
) -> None:
    """``exchange.cuh``: counted bytes need no fence; the barrier's has no stores of the step, and
    no loads of the next one, before it.
    """
    for transfer, mark in (("async", "STAS"), ("barrier", "UCGABAR_ARV")):
        chosen = plan("lstm", 256, places, 4, transfer=transfer)
        code = compile_for(target, chosen.file, *chosen.options).code
        step = loop_around(instructions(code, kernel, tmp_path), mark)
        fences = [i for i, line in enumerate(step) if "MEMBAR" in line]
        if transfer == "async":
            assert not fences
        else:
            own = "STG" if kernel == "forward" else "LDG"
            places_of_own = [i for i, line in enumerate(step) if re.search(rf"\b{own}\b", line)]
            assert len(fences) == 1
            assert places_of_own and min(places_of_own) > fences[0]  # noqa: PT018


def test_every_source_is_tested() -> None:
    assert set(FILES) >= RECURRENT
    assert {KINDS[kind][0] for kind, _ in DESIGN} == RECURRENT
    assert {plan(kind, 64, 1).file for kind in KINDS} == RECURRENT
