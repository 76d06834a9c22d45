"""What a device has to know of an optimizer, to take its steps (``backend/cuda/update.py``)."""

from __future__ import annotations

from npnlp.backend.cuda.update import Rule
from npnlp.training.optimizers import SGD, Adam, Optimizer


def rule_of(optimizer: Optimizer) -> Rule | None:
    """Its moments and factors; None for an optimizer that no kernel takes steps of."""
    moments = optimizer.moments
    if isinstance(optimizer, Adam):
        return Rule("adam", (moments["first_sum"], moments["second_sum"]), optimizer.betas)
    if isinstance(optimizer, SGD):
        return Rule("sgd", (moments.get("momentum"),), (optimizer.momentum,))
    return None


def decayed_by(optimizer: Optimizer) -> set[str]:
    """The names of the parameters whose weights decay."""
    if not isinstance(optimizer, Adam) or not optimizer.weight_decay:
        return set()
    return {name for name, value in optimizer.flat.parameters.items() if value.ndim > 1}


def rates_of(optimizer: Optimizer, step: int, rate: float) -> tuple[float, float, float]:
    """Rate, eps and the factor of decay of step ``step``, from 1, at a learning rate ``rate``."""
    if not isinstance(optimizer, Adam):
        return rate, 0.0, 1.0
    numbers = optimizer.numbers(step, rate)
    return numbers.rate, numbers.eps, 1 - rate * optimizer.weight_decay
