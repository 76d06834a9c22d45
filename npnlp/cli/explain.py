"""``npnlp explain``: why a name got its nationality, letter by letter."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unicodedata import east_asian_width

from npnlp.classifier.explanation import TOLERANCE, Explanation
from npnlp.cli.options import add_backend, add_save_dir, require_utf8, saved_or_own
from npnlp.cli.pictures import add_language, require_font
from npnlp.cli.script import loaded_plots
from npnlp.files.pictures import format_of
from npnlp.files.plain_json import to_json

HELP = "show letter by letter why a name got its nationality"
DESCRIPTION = (
    "Explain a prediction letter by letter: what the model believes after each letter, how much "
    "gradient reaches it, what it contributes to the answer against the runner-up by integrated "
    "gradients, which sum to the difference of their logits, and what is lost without it."
)
#: The width of a bar, in characters.
BAR = 12


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("name", metavar="NAME", help="a name")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, metavar="SHARE",
        help="what the contributions may miss of the difference, at least 1e-9",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE",
        help="draw it into a file that ends in .png, .svg or .pdf (default: no picture)",
    )  # fmt: skip
    add_language(parser)
    add_save_dir(parser)
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    require_utf8(options.name)
    if options.picture:
        format_of(options.picture)
        require_font(options.language)
    classifier = saved_or_own(options, "npnlp explain")
    found = classifier.explain(options.name, options.tolerance)
    if options.json:
        print(to_json([each.to_dict() for each in found], indent=2))
    else:
        print("\n\n".join("\n".join(table(each)) for each in found))
    drawing = "npnlp.cli.explain_picture"
    if options.picture and (plots := loaded_plots("npnlp explain", drawing)):
        plots.explanation(found, options.picture, language=options.language)
        if options.picture.exists():
            print(f"wrote {options.picture}", file=sys.stderr)
    if unknown := classifier.unknown_characters(options.name):
        print(f"npnlp explain: note: the model has never seen {unknown}", file=sys.stderr)
    return 0


def table(found: Explanation) -> Iterator[str]:
    """The lines of a table."""
    answer, second = found.answer, found.runner_up
    yield (
        f"{found.surname}: {answer} {found.probability:.3f}, "
        f"runner-up {second} {found.runner_up_probability:.3f}"
    )
    letters = found.letters
    best = [max(zip(each.probabilities, found.labels, strict=True)) for each in letters]
    believed = [f"{label} {probability:.2f}" for probability, label in best]
    width = max(map(len, [*believed, "the answer then"]))
    mark = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    yield (
        f"{'':<4}{'the answer then':<{width}}  {'gradient':>8}  {'contribution':<{BAR + 9}}left out"
    )
    bars = _bars([each.contribution for each in letters], mark)
    losses = _bars([each.left_out for each in letters], mark)
    for each, then, bar, loss in zip(letters, believed, bars, losses, strict=True):
        yield (
            f"{_wide(each.letter)}{then:<{width}}  {each.gradient:>8.2g}  "
            f"{each.contribution:>+7.2f} {bar:<{BAR + 1}}{each.left_out:>+7.2f} {loss}".rstrip()
        )
    total = sum(each.contribution for each in letters)
    yield (
        f"{found.difference:+.3f} = {found.nothing:+.3f} without letters {total:+.3f} by them "
        f"{found.residue:+.1e} residue: the logit of {answer} less that of {second}"
    )
    if places := found.disagreements:
        named = ", ".join(f"{letters[n].letter} ({n + 1})" for n in places)
        yield (
            f"The two methods disagree about {named}: what a letter adds on the way from nothing "
            "is not what the name loses without it."
        )


def _bars(values: Sequence[float], mark: str) -> list[str]:
    """A bar for each value: of one mark above zero, of another below."""
    most = max(map(abs, values), default=0.0) or 1.0
    return [(mark if v > 0 else "-") * round(BAR * abs(v) / most) for v in values]


def _wide(letter: str) -> str:
    """A letter in four columns of a terminal."""
    return letter + " " * (2 if east_asian_width(letter) in "WF" else 3)
