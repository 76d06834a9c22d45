"""The options of ``npnlp predict`` that say when a name gets an answer."""

from __future__ import annotations

import argparse

from npnlp.classifier.decision import Decision


def add_decision(parser: argparse.ArgumentParser) -> None:
    """``--min-probability``, ``--precision``, ``--sets`` and ``--by-class``."""
    group = parser.add_argument_group(
        "when to answer",
        "A name without an answer has empty fields, and a reason. One of which the model knows no "
        "character never has one.",
    )
    group.add_argument(
        "--min-probability", type=float, default=0.0, metavar="P",
        help="no answer that is less probable",
    )  # fmt: skip
    group.add_argument(
        "--precision", type=float, metavar="P",
        help="no answer that is less probable than it takes for this share of the answers to be "
        "right; the threshold is found on the validation split (default: every name has an answer)",
    )  # fmt: skip
    group.add_argument(
        "--unlike", choices=("answer", "blank"), default="answer",
        help="a name that is unlike those of training, such as random letters or a company, has an "
        "answer, or none",
    )  # fmt: skip
    group.add_argument(
        "--sets", type=float, metavar="LEVEL",
        help="with each name the smallest set of classes that holds the truth for this share of "
        "names (default: no sets)",
    )  # fmt: skip
    group.add_argument(
        "--by-class", action="store_true",
        help="of --sets: for this share of the names of each class, where it has enough "
        "validation rows",
    )  # fmt: skip


def decision_of(options: argparse.Namespace) -> Decision:
    """What the options say; raises :class:`InputError` for one that is out of range."""
    return Decision(
        min_probability=options.min_probability,
        precision=options.precision,
        sets=options.sets,
        by_class=options.by_class,
        unread=True,
        unlike=options.unlike == "blank",
    )
