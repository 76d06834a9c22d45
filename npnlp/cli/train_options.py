"""The options of ``npnlp train``: those of the model, and those of the training."""

from __future__ import annotations

import argparse
from typing import Any

from npnlp.layers.recurrent.cells import RESETS
from npnlp.layers.recurrent.elman import NONLINEARITIES
from npnlp.models import MODEL_CELLS
from npnlp.text.dataset import CLASS_WEIGHTS
from npnlp.training.config import STORES, TrainingConfig
from npnlp.training.optimizers import OPTIMIZERS
from npnlp.training.schedule import SCHEDULES

DEFAULTS = TrainingConfig()


def norm_or_none(text: str) -> float | None:
    """A number, or None for ``none``."""
    return None if text == "none" else float(text)


def add_model(group: Any) -> None:
    """Those that decide the model."""
    add = group.add_argument
    add("--cell", choices=MODEL_CELLS, default="elman", help="the encoder's cell")
    add("--num-layers", type=int, default=1, metavar="N", help="number of stacked layers")
    add(
        "--bidirectional",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="encode in both directions",
    )
    add("--pooling", default="last", metavar="NAME",
        help="pooling of the states: last, mean, max or attention (a mean with learned "
        "weights); or several, as in max+mean")  # fmt: skip
    add("--char-embedding-size", type=int, default=100, metavar="D",
        help="embedding size of the characters")  # fmt: skip
    add("--rnn-hidden-size", type=int, default=64, metavar="H", help="hidden size")
    add("--dropout", type=float, default=0.5, metavar="P",
        help="fraction of units dropped before each linear layer")  # fmt: skip
    add("--rnn-dropout", type=float, default=0.0, metavar="P",
        help="fraction of units dropped between layers, and in a transformer's blocks")  # fmt: skip
    add("--variational", action=argparse.BooleanOptionalAction, default=False,
        help="between layers, drop the same units at all steps of a name")  # fmt: skip
    add("--embedding-dropout", type=float, default=0.0, metavar="P",
        help="fraction of the embedding dropped, the same for all steps of a name")  # fmt: skip
    add("--char-dropout", type=float, default=0.0, metavar="P",
        help="fraction of characters replaced by <UNK> in training")  # fmt: skip
    add("--hidden-layer", action=argparse.BooleanOptionalAction, default=True,
        help="a linear layer and ReLU before the last linear layer")  # fmt: skip
    add("--ngram-orders", type=int, nargs="*", default=[], metavar="N",
        help="lengths of n-grams in a bag beside the encoder (default: no n-grams)")  # fmt: skip
    add("--ngram-size", type=int, default=64, metavar="F", help="embedding size of the n-grams")
    add("--ngram-dropout", type=float, default=0.5, metavar="P", help="fraction of n-grams dropped")
    add("--ngram-min-count", type=int, default=1, metavar="N",
        help="leave out n-grams that fewer than N names of train contain")  # fmt: skip
    add("--nonlinearity", choices=NONLINEARITIES, default="tanh", help="of the Elman cell")
    add(
        "--reset",
        choices=list(RESETS),
        default="after",
        help="whether the GRU's reset gate acts after the product with its weights, or before",
    )
    add("--forget-bias", type=float, metavar="B",
        help="of the LSTM's forget gate at first (default: as drawn)")  # fmt: skip
    add("--num-heads", type=int, default=4, metavar="N", help="of the transformer")


def add_training(group: Any) -> None:
    """Those that decide the course of the training."""
    add = group.add_argument
    add(
        "--num-epochs",
        type=int,
        default=DEFAULTS.num_epochs,
        metavar="N",
        help="maximum number of epochs",
    )
    add("--learning-rate", type=float, default=DEFAULTS.learning_rate, metavar="ETA",
        help="initial learning rate, halved after two epochs without a better validation "
        "loss")  # fmt: skip
    add(
        "--batch-size",
        type=int,
        default=DEFAULTS.batch_size,
        metavar="B",
        help="batch size, in names; at most all of train",
    )
    add(
        "--seed",
        type=int,
        default=DEFAULTS.seed,
        help="random seed of weights, shuffles and dropout",
    )
    add("--early-stopping-criteria", type=int, default=DEFAULTS.early_stopping_criteria,
        metavar="N", help="stop after N epochs without a new best validation loss")  # fmt: skip
    add("--class-weights", choices=CLASS_WEIGHTS, default=DEFAULTS.class_weights,
        help="weight of a class in the loss: inverse 1/n, balanced n_all/(C n), or none; the "
        "loss is a weighted mean, to which inverse and balanced are the same")  # fmt: skip
    add("--optimizer", choices=OPTIMIZERS, default=DEFAULTS.optimizer, help="the optimizer")
    add("--momentum", type=float, default=DEFAULTS.momentum, help="momentum of sgd")
    add("--gradient-flow", action=argparse.BooleanOptionalAction, default=DEFAULTS.gradient_flow,
        help="record how much gradient reaches each step, on one batch an epoch")  # fmt: skip
    add("--clip-norm", type=norm_or_none, metavar="NORM",
        help="clip the gradient to this norm, or none (default: not clipped)")  # fmt: skip
    add("--beta2", type=float, default=DEFAULTS.beta2, help="beta2 of adam")
    add("--weight-decay", type=float, default=DEFAULTS.weight_decay, metavar="DECAY",
        help="of adam: weights, biases aside, shrink by ETA times this at every step")  # fmt: skip
    add("--schedule", choices=SCHEDULES, default=DEFAULTS.schedule,
        help="of the learning rate: halved where the validation loss stands still, with the "
        "best weights kept; or up and down over all epochs, the last kept: PyTorch's OneCycleLR, "
        "or half a cosine each, down to zero")  # fmt: skip
    add("--warm-up", type=float, metavar="FRACTION",
        help="the fraction of the run in which the rate rises (default: 0.3 of onecycle, 0.15 of "
        "cosine)")  # fmt: skip
    add(
        "--bucket",
        type=int,
        default=DEFAULTS.bucket,
        metavar="N",
        help="sort N batches at a time by length, so that names of like length meet (0: do not)",
    )
    add("--merge-repeats", action=argparse.BooleanOptionalAction, default=False,
        help="one row for a name that occurs several times, with all its labels")  # fmt: skip
    add("--label-smoothing", type=float, default=DEFAULTS.label_smoothing, metavar="EPS",
        help="fraction of each target that goes to all classes")  # fmt: skip
    add(
        "--logit-adjustment",
        type=float,
        default=DEFAULTS.logit_adjustment,
        metavar="TAU",
        help="add TAU times the logarithm of the classes' frequencies to the logits in training",
    )
    add("--consistency", type=float, default=DEFAULTS.consistency, metavar="ALPHA",
        help="two passes a batch with other dropout masks, and ALPHA times their difference in the "
        "loss")  # fmt: skip
    add(
        "--prior-correction",
        type=float,
        default=DEFAULTS.prior_correction,
        metavar="TAU",
        help="after training, take TAU times the logarithm of those frequencies off the logits",
    )
    add("--calibrate", action=argparse.BooleanOptionalAction, default=DEFAULTS.calibrate,
        help="after training, give the model the temperature at which its probabilities suit the "
        "validation split; answers stay the same")  # fmt: skip
    add("--typing-errors", type=float, default=DEFAULTS.typing_errors, metavar="P",
        help="in each epoch, the fraction of names that are given a typing error")  # fmt: skip
    add(
        "--store",
        choices=STORES,
        default=DEFAULTS.store,
        help="what the trained weights are rounded to, and stored as, in model.safetensors",
    )
