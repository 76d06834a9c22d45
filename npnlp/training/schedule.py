"""When to lower the learning rate, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

SCHEDULES = ("plateau", "onecycle")


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


def one_cycle(done: float, warm_up: float, start: float = 0.04) -> float:
    """The factor of the learning rate after a fraction ``done`` of all steps: up, and down to zero.

    From ``start`` to 1 over the first ``warm_up`` of the run, then to 0, along half a cosine each.
    Source: Smith and Topin, "Super-convergence", 2018; cosine: Loshchilov and Hutter, 2017.
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
