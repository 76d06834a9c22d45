"""A layer at a point: its parameters and inputs there, and its gradient by two ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random
from npnlp.gradients.contract import Differentiable, collected, forward_of, in_dtype
from npnlp.gradients.variables import as_tuple, backend_of, copied, scalar, seeds, variables

COMPLEX_STEP = 1e-20
CENTRAL_STEP = 1e-6
#: The methods, and the types that they compute in.
TYPES: dict[str, Any] = {"complex": np.complex128, "central": np.float64}
#: The points nearby, and how near they are.
NEARBY, NEAR = 8, 2.0**-50


@dataclass(frozen=True)
class Point:
    """``layer`` with its inputs; ``step`` is a factor of the usual step, ``factor`` of ``dy``."""

    layer: Differentiable
    inputs: Sequence[Any]
    keywords: dict[str, Any]
    step: float = 1.0
    factor: float = 1.0

    @property
    def backend(self) -> Backend:
        """The layer's."""
        return backend_of(self.layer)

    def copies(self, dtype: Any) -> tuple[Any, list[Any]]:
        """The layer and its inputs in another dtype."""
        inputs = [copied(value, self.backend, dtype) for value in self.inputs]
        return in_dtype(self.layer, dtype), inputs

    def nearby(self) -> Iterator[Point]:
        """Points that differ in the last digits, with a smaller step and a larger ``dy``.

        So rounding differs, and what a step leaves out, too; a mistake hardly does, even one that
        does not depend on ``dy``.
        """
        for k in range(NEARBY):
            layer, inputs = self.copies(np.float64)
            for name, variable in variables(layer, inputs):
                nudge = NEAR * Random(k, f"nearby.{name}").normal(variable.shape)
                variable *= self.backend.asarray(1 + nudge)
            u = float(Random(k, "nearby").uniform((1,))[0])
            yield Point(layer, inputs, self.keywords, 0.25 + u / 4, 1 + u / 128)

    def backward(self) -> dict[str, NDArray[Any] | None]:
        """All gradients by the layer's own backward pass."""
        layer, inputs = self.copies(np.float64)
        outputs, cache = forward_of(layer, inputs, self.keywords)
        for grad in layer.grads.values():
            grad[...] = 0
        scaled = tuple(dy * self.factor for dy in as_tuple(seeds(outputs, self.backend)))
        returned = layer.backward(scaled if isinstance(outputs, tuple) else scaled[0], cache)
        found = collected(layer, inputs, as_tuple(returned), self.backend)
        return {name: None if g is None else g / self.factor for name, g in found.items()}

    def numerical(
        self, twin: Any, inputs: list[Any], variable: Array, method: str
    ) -> NDArray[np.float64]:
        """``dL/d variable``, entry by entry, of a parameter or an input of these copies."""

        def loss_at(flat: Array, index: int, step: complex) -> complex:
            before = flat[index].copy()
            flat[index] += step
            outputs, _ = forward_of(twin, inputs, self.keywords)
            loss = scalar(outputs, self.backend)  # before the reset: an output may be the input
            flat[index] = before
            return loss

        flat = variable.reshape(-1)  # a view: parameters and copied inputs are contiguous
        reference = np.empty(flat.size)
        for index in range(flat.size):
            if method == "complex":
                step = self.step * COMPLEX_STEP
                reference[index] = loss_at(flat, index, 1j * step).imag / step
            else:
                step = self.step * CENTRAL_STEP
                above, below = (loss_at(flat, index, s).real for s in (step, -step))
                reference[index] = (above - below) / (2 * step)
        return reference.reshape(variable.shape)

    def gap(self, quantity: str, method: str) -> NDArray[np.float64]:
        """What the backward pass gives, 0 for None, less the numerical gradient."""
        twin, inputs = self.copies(TYPES[method])
        variable = dict(variables(twin, inputs))[quantity]
        given = self.backward().get(quantity)
        numerical = self.numerical(twin, inputs, variable, method)
        return (0 if given is None else given) - numerical
