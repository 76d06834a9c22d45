"""A barrier for threads inside a compiled loop."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.kernel import inner

#: Checks before a waiting thread yields its core: some microseconds.
PATIENCE = 2000


@intrinsic  # type: ignore[untyped-decorator]
def _arrive(context: Any, arrivals: Any) -> tuple[Any, Any]:
    """Add 1 to ``arrivals[0]``, atomically and sequentially consistent."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        one = ir.Constant(ir.IntType(64), 1)
        builder.atomic_rmw("add", array.data, one, "seq_cst")
        return context.get_dummy_value()

    return types.void(arrivals), generate


@intrinsic  # type: ignore[untyped-decorator]
def _arrived(context: Any, arrivals: Any) -> tuple[Any, Any]:
    """``arrivals[0]``, loaded atomically: what threads wrote before they arrived is visible."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(array.data, "seq_cst", 8)

    return types.int64(arrivals), generate


@intrinsic  # type: ignore[untyped-decorator]
def _let_others_run(context: Any) -> tuple[Any, Any]:
    """POSIX ``sched_yield()``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of_type = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, of_type, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@inner
def meet(arrivals: Array, threads: int, before: int) -> None:
    """Wait until all ``threads`` have arrived; they have met ``before`` times already.

    ``arrivals (1,)`` int64 is zero at first. To be woken by the system takes longer than a step, so
    a thread that arrives first spins, and yields the core after ``PATIENCE`` checks.
    """
    if threads > 1:
        _arrive(arrivals)
        turns = 0
        while _arrived(arrivals) < threads * (before + 1):
            turns += 1
            if turns > PATIENCE:
                _let_others_run()
