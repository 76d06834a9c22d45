"""The settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from npnlp.checks import (
    require_flag,
    require_fraction,
    require_not_negative,
    require_positive,
    require_whole,
)
from npnlp.errors import InputError, require_known
from npnlp.text.dataset import CLASS_WEIGHTS
from npnlp.training.applicable import require_applicable
from npnlp.training.optimizers import OPTIMIZERS
from npnlp.training.schedule import SCHEDULES, WARM_UP

STORES = ("float32", "float16")


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of a training, besides those of the model and the data.

    With ``schedule`` "plateau" the rate is halved where the validation loss stands still, and the
    weights of the best epoch are used; with "onecycle" (PyTorch's ``OneCycleLR``) and "cosine" it
    rises over the first ``warm_up`` of all steps, by default 0.3 and 0.15 of them, and falls to
    nearly zero or zero, and those of the last epoch are used. ``bucket`` batches at
    a time are sorted by length (0: none). ``merge_repeats`` makes one row of a name that occurs
    several times, with all its labels. ``label_smoothing``, ``logit_adjustment`` and
    ``consistency`` are the eps, tau and alpha of :mod:`npnlp.training.objective`. With
    ``prior_correction`` tau, ``tau log pi`` is taken off the logits once training is done, pi the
    classes' frequencies (Menon et al., 2021, equation 9). With ``calibrate`` the finished model
    gets a temperature (:mod:`npnlp.classifier.temperature`). ``typing_errors`` is the fraction of
    names that have one in each epoch (:mod:`npnlp.training.typing_errors`). With ``store``
    "float16" the weights of the trained model are rounded to it, before they are evaluated, and its
    file takes half.
    """

    num_epochs: int = 100
    learning_rate: float = 1e-3
    batch_size: int = 64
    seed: int = 1337
    early_stopping_criteria: int = 5
    class_weights: str = "none"
    optimizer: str = "adam"
    momentum: float = 0.0
    clip_norm: float | None = None
    gradient_flow: bool = True
    beta2: float = 0.999
    weight_decay: float = 0.0
    schedule: str = "plateau"
    warm_up: float | None = None
    bucket: int = 0
    merge_repeats: bool = False
    label_smoothing: float = 0.0
    logit_adjustment: float = 0.0
    consistency: float = 0.0
    prior_correction: float = 0.0
    calibrate: bool = True
    typing_errors: float = 0.0
    store: str = "float32"

    def __post_init__(self) -> None:
        for name in ("num_epochs", "batch_size", "early_stopping_criteria"):
            require_whole(name, getattr(self, name))
        require_whole("bucket", self.bucket, least=0)
        require_positive("learning_rate", self.learning_rate)
        if self.clip_norm is not None:
            require_positive("clip_norm", self.clip_norm)
        for name in ("weight_decay", "logit_adjustment", "consistency", "prior_correction"):
            require_not_negative(name, getattr(self, name))
        if self.warm_up is not None:
            require_fraction("warm_up", self.warm_up)
        for name in ("momentum", "beta2", "label_smoothing", "typing_errors"):
            require_fraction(name, getattr(self, name))
        require_whole("seed", self.seed, least=None)
        for name in ("gradient_flow", "merge_repeats", "calibrate"):
            require_flag(name, getattr(self, name))
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        require_known("schedule", self.schedule, SCHEDULES)
        require_known("class_weights", self.class_weights, CLASS_WEIGHTS)
        require_known("store", self.store, STORES)
        of_one = {name: getattr(self, name) for name in ("momentum", "weight_decay")}
        require_applicable(of_one, vars(self))
        others = self.merge_repeats or self.logit_adjustment or self.consistency
        if others and self.class_weights != "none":
            raise InputError(
                f"class_weights {self.class_weights!r} do not go with merged repeats, logit "
                "adjustment or consistency; use none"
            )

    @property
    def by_step(self) -> bool:
        """Whether the rate follows the steps to the end of the run, and not the validation loss."""
        return self.schedule in WARM_UP

    @property
    def rise(self) -> float:
        """``warm_up``, or the schedule's own."""
        return WARM_UP.get(self.schedule, 0.0) if self.warm_up is None else self.warm_up

    @property
    def soft(self) -> bool:
        """Whether the objective has distributions as targets."""
        parts = self.label_smoothing, self.logit_adjustment, self.consistency
        return self.merge_repeats or any(parts)

    @property
    def optimizer_options(self) -> dict[str, float]:
        """The options of :func:`make_optimizer`, besides the learning rate."""
        names = ("momentum", "beta2", "weight_decay")
        return {name: getattr(self, name) for name in names}
