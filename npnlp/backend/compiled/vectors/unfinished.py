"""Inner functions, compiled as far as their callers need them.

Numba optimizes a function, makes machine code of it, and then copies the optimized code into every
caller, where all of it is optimized again. An inner function is called from compiled code only, so
its own machine code is never run. Here its code goes to its callers, and is optimized there, once.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class Unfinished(JITCodeLibrary):  # type: ignore[misc]
    """Code to copy into other functions: not optimized as a whole, and not made ready to run.

    Numba's cheap passes over each function stay. They remove the counting of references to arrays,
    which nothing finds any more in the large function that the code becomes a part of.
    """

    def _optimize_final_module(self) -> None:
        """Left to the callers."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(NativeLowering):  # type: ignore[misc]
    """As Numba's, into :class:`Unfinished`."""

    _name = "npnlp_lowering"

    def run_pass(self, state: Any) -> bool:
        """Called by Numba."""
        state.library = Unfinished(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = state.flags.no_cfunc_wrapper = True
        super().run_pass(state)
        state.library.finalize()
        # Stands for the machine code: callers find the function by it.
        state.cr = state.cr._replace(cfunc=[].copy)
        state.targetctx.insert_user_function(state.cr.cfunc, state.cr.fndesc, [state.library])
        return True


class InnerCompiler(Compiler):  # type: ignore[misc]
    """Numba's compiler with :class:`Lowering`."""

    def define_pipelines(self) -> list[Any]:
        """Called by Numba."""
        pipelines: list[Any] = super().define_pipelines()
        for each in pipelines:
            each.passes = [
                (Lowering if kind is NativeLowering else kind, what) for kind, what in each.passes
            ]
            each.finalize()
        return pipelines


#: How an inner function is compiled.
UNFINISHED: dict[str, Any] = {"pipeline_class": InnerCompiler}
