"""When to lower the learning rate, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Schedules by the step alone, with the fraction of all steps in which the rate rises by default.
WARM_UP = {"onecycle": 0.3, "cosine": 0.15}
SCHEDULES = ("plateau", *WARM_UP)
#: The rate of the first step of a cycle, to the largest; that of the last step, to the first.
FIRST, LAST = 1 / 25, 1e-4


@dataclass
class ReduceLROnPlateau:
    """Multiply the learning rate by ``factor`` after more than ``patience`` bad epochs in a row.

    A good epoch is one with a loss below ``best * (1 - threshold)``, as in PyTorch; NaN is bad.
    The rate stays where it would change by no more than ``eps``, as there: it never gets to 0.
    """

    learning_rate: float
    factor: float = 0.5
    patience: int = 1
    threshold: float = 1e-4
    eps: float = 1e-8
    best: float = math.inf
    bad_epochs: int = 0

    def step(self, loss: float) -> float:
        """Take note of an epoch's loss; the learning rate of the next epoch."""
        if loss < self.best * (1 - self.threshold):
            self.best, self.bad_epochs = loss, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            lower = self.learning_rate * self.factor
            if self.learning_rate - lower > self.eps:
                self.learning_rate = lower
            self.bad_epochs = 0
        return self.learning_rate


def one_cycle(step: int, steps: int, warm_up: float) -> float:
    """The factor of the learning rate at ``step``, from 0 on, of ``steps``: ``OneCycleLR``'s.

    As in PyTorch, from 1/25 to 1 at step ``warm_up steps - 1``, then to 1e-4/25 at the last one,
    along half a cosine each; the momentum stays (``cycle_momentum=False`` there). Source: Smith and
    Topin, "Super-convergence", 2018.
    """
    top, end = warm_up * steps - 1, steps - 1
    if top > 0 and step <= top:
        return _half_a_cosine(FIRST, 1.0, step / top)
    return _half_a_cosine(1.0, FIRST * LAST, (step - top) / (end - top))


def _half_a_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))


def cosine(done: float, warm_up: float, start: float = FIRST) -> float:
    """The factor of the learning rate after a fraction ``done`` of all steps: up, and down to zero.

    From ``start`` to 1 over the first ``warm_up`` of the run, then to 0 once all steps are done,
    along half a cosine each. Source: Loshchilov and Hutter, 2017.
    """
    if done < warm_up:
        return start + (1 - start) * (1 - math.cos(math.pi * done / warm_up)) / 2
    return (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up))) / 2


@dataclass
class EarlyStopping:
    """Stop after ``patience`` epochs in a row that are not better than the best one."""

    patience: int
    best: float = math.inf
    bad_epochs: int = 0

    def step(self, loss: float) -> bool:
        """Take note of an epoch's loss; whether it is the best so far."""
        if loss < self.best:
            self.best, self.bad_epochs = loss, 0
            return True
        self.bad_epochs += 1
        return False

    @property
    def stop(self) -> bool:
        """Whether to stop."""
        return self.bad_epochs >= self.patience
