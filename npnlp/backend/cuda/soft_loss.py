"""The objective with distributions as targets on a device (``kernels/soft_loss.cu``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.cuda.kernel_source import NULL, real_option
from npnlp.backend.soft_loss import SoftLearned, SoftTerms

#: Threads of a block, as in the source: a warp.
WARP = 32


class KernelSoftLoss:
    """See :class:`SoftLoss`; two launches."""

    def __init__(self, backend: Any) -> None:
        self.xp, self.kernels = backend.xp, backend.kernels

    def __call__(
        self, terms: SoftTerms, logits: Sequence[Array], targets: Array, shares: Array | None,
        weights: Array | None,
    ) -> SoftLearned:  # fmt: skip
        """See :meth:`SoftLoss.__call__`."""
        xp, get = self.xp, self.kernels.get
        logits = [xp.ascontiguousarray(one) for one in logits]
        (rows, columns), dtype = logits[0].shape, logits[0].dtype
        d_logits = [xp.empty_like(one) for one in logits]
        losses, hits = xp.empty(rows, dtype=dtype), xp.empty(rows, dtype=bool)
        sums, correct = xp.empty(2, dtype=dtype), xp.empty((), dtype=np.int64)
        of_classes = NULL if terms.class_weights is None else terms.class_weights
        two = len(logits) == 2
        get("soft_loss.cu", "soft_rows", real_option(dtype))((rows,), (WARP,), (
            logits[0], logits[1] if two else NULL, targets, NULL if shares is None else shares,
            NULL if weights is None else weights, terms.adjustment, of_classes,
            dtype.type(terms.smoothing), dtype.type(terms.consistency), np.int32(columns),
            d_logits[0], d_logits[1] if two else NULL, losses, hits,
        ))  # fmt: skip
        get("soft_loss.cu", "soft_sums", real_option(dtype))((1,), (WARP,), (
            losses, hits, targets, of_classes, np.int32(rows), sums, correct,
        ))  # fmt: skip
        return SoftLearned(sums[0], sums[1] if terms.class_weights is not None else rows, correct,
                           d_logits)  # fmt: skip
