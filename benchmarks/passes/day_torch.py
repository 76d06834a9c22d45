"""A part of the first day: the step of training at the book's sizes beside PyTorch's nn.RNN."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

from npnlp.backend import Backend
from npnlp.errors import InputError
from npnlp.optional import needs
from passes.day import Day, LeftOut, Missed
from passes.gpu_case import Case, Clock, Way, measure, quartiles
from passes.gpu_ours import our_captured_way

#: The book's: names of up to 19 characters, 64 names, 64 units.
STEPS, BATCH, HIDDEN = 19, 64, 64
#: Whose time over ours has to be at least so much: lengths variable or not, and PyTorch's way.
BOUNDS = {
    (False, "torch, eager"): 5.0, (False, "torch, graph"): 2.0, (True, "torch, eager"): 5.0,
}  # fmt: skip
OURS = "npnlp, graph"
Makers = Iterator[tuple[str, Callable[[], Way]]]


def ways(case: Case, seed: int, backend: Backend) -> Makers:
    """Ours, and PyTorch's in float32, as ours is."""
    yield OURS, lambda: our_captured_way(case, seed, backend)
    from passes.gpu_torch import captured_way, torch_way

    yield "torch, eager", lambda: torch_way(case, seed, "cuda", with_tf32=False)
    if not case.variable:  # a capture holds the lengths of its batch
        yield "torch, graph", lambda: captured_way(case, seed, "cuda", with_tf32=False)


def require_torch() -> None:
    """Raise :class:`LeftOut` where PyTorch has no CUDA device."""
    try:
        with needs("PyTorch is not measured", "torch"):
            import torch
    except InputError as error:
        raise LeftOut(str(error)) from error
    if not torch.cuda.is_available():
        raise LeftOut("this PyTorch has no CUDA device")


def against_torch(
    day: Day, backend: Backend, clock: Clock, seed: int, rounds: int,
    made: Callable[[Case, int, Backend], Makers] = ways,
) -> str:  # fmt: skip
    """Medians of whole steps, every way taking its turn; each ratio beside its bound."""
    if made is ways:
        require_torch()
    rows, said, missed = day.table("against_torch"), [], False
    for variable in (False, True):
        case = Case("elman", STEPS, BATCH, HIDDEN, variable)
        steps = {
            name: {"step": make()["step"]} for name, make in made(case, seed, backend)
        }  # fmt: skip
        measured = {way: quartiles(taken) for way, _, taken in measure(steps, clock, rounds)}
        for way, taken in measured.items():
            ratio, bound = taken["ms"] / measured[OURS]["ms"], BOUNDS.get((variable, way), 0.0)
            rows.append(row_of(case, way, rounds, taken, ratio, bound))
            if bound:
                missed |= ratio < bound
                lengths = "variable length" if variable else "padded"
                said.append(f"{way}, {lengths} {ratio:.2f} times ours (bound {bound:g})")
        del steps
        gc.collect()
    if missed:
        raise Missed("; ".join(said))
    return "; ".join(said)


def row_of(
    case: Case, way: str, rounds: int, taken: dict[str, float], ratio: float, bound: float
) -> dict[str, Any]:
    """A row of against_torch.csv."""
    return {
        **case.described, "way": way, "rounds": rounds, **taken, "over_ours": ratio,
        "bound": bound or "",
    }  # fmt: skip
