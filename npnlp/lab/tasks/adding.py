"""The adding problem."""

from __future__ import annotations

import numpy as np

from npnlp.backend import Random
from npnlp.lab.tasks.base import Floats, Targets, Task, integers


class Adding(Task):
    """Add the two numbers that are marked.

    Channel 0 is uniform in [0, 1); channel 1 is 1 at exactly one step of the first half (steps 0
    to ``T // 2 - 1``) and at exactly one of the second, else 0. The target is the sum of the two
    values so marked, read at the last step. Always saying 1, the mean of the sum, has the sum's
    variance as its error: ``2 / 12 = 0.167``. Source: Hochreiter and Schmidhuber, "Long short-term
    memory", 1997, experiment 4; one marker in each half as in Arjovsky, Shah and Bengio, "Unitary
    evolution recurrent neural networks", 2016.
    """

    name = "adding"
    input_size = 2
    output_size = 1
    loss = "mse"
    read = "last"
    shortest = 2

    def draw(self, length: int, batch_size: int, random: Random) -> tuple[Floats, Targets]:
        """See :meth:`Task.draw`; targets ``(B, 1)``."""
        values = random.child("values").uniform((length, batch_size))
        half, columns = length // 2, np.arange(batch_size)
        first = integers(random.child("first"), (batch_size,), half)
        second = half + integers(random.child("second"), (batch_size,), length - half)
        markers = np.zeros((length, batch_size))
        markers[first, columns] = markers[second, columns] = 1.0
        targets = values[first, columns] + values[second, columns]
        return np.stack([values, markers], axis=2), targets[:, None]

    def baseline(self, length: int) -> float:
        """The variance of a sum of two uniform numbers."""
        return 1.0 / 6.0

    def solved(self, length: int, loss: float) -> bool:
        """Whether the mean squared error is at most 0.05.

        Who knows one of the two numbers has 1/12 = 0.083; below 0.05 both are remembered.
        """
        return loss <= 0.05
