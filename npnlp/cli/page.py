"""``npnlp page``: a model, or two, in one HTML file to play with."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from npnlp.classifier.classifier import Classifier
from npnlp.cli.options import add_save_dir, load_saved, saved_or_own
from npnlp.cli.pictures import drawn_as
from npnlp.cli.script import loaded_plots
from npnlp.errors import InputError
from npnlp.page.html import PAGE, write_page

HELP = "write a page to play with: one HTML file that works without a network"
DESCRIPTION = (
    "Write one HTML file in which a name can be typed: what the model believes after each letter, "
    "its hidden states, and the gradient that flows back, computed in the page with the model's "
    "own weights. Sliders make the gradient vanish or explode. For models of recurrent layers."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_save_dir(parser)
    parser.add_argument(
        "--compare", type=Path, metavar="DIR",
        help="the folder of another run, shown beside the first (default: one model)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path(PAGE), metavar="FILE", help="where to")
    parser.set_defaults(backend="numpy")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.output.suffix not in (".html", ".htm"):
        raise InputError(f"output {options.output}: the name of a page has to end in .html")
    shown = [(saved_or_own(options, "npnlp page"), options.save_dir)]
    if options.compare is not None:
        other = load_saved(options.compare / options.model_state_file)
        shown.append((other, options.compare))
    write_page(options.output, _labelled(shown))
    print(f"{options.output}: {options.output.stat().st_size:,} bytes; open it in a browser")
    return 0


@dataclass(frozen=True)
class AfterRun:
    """What is made of a finished run; ``draw_run`` is None where nothing can be drawn."""

    draw_run: Callable[[Path], list[Path]] | None
    model_file: str

    def __call__(self, folder: Path, say: Callable[[str], None] | None = None) -> list[Path]:
        """The paths of its pictures and its page; ``say`` is told why it has no page."""
        made = self.draw_run(folder) if self.draw_run else []
        try:
            write_page(folder / PAGE, [(Classifier.load(folder / self.model_file), "")])
        except InputError as error:
            if say:
                say(f"note: {error}")
            return made
        return [*made, folder / PAGE]


def after_run(options: argparse.Namespace) -> AfterRun | None:
    """What is made of a finished run of ``npnlp train``, where pictures are wanted."""
    if not options.pictures:
        return None
    plots = loaded_plots("npnlp train")
    draw_run = partial(plots.draw_run, **drawn_as(options)) if plots else None
    return AfterRun(draw_run, options.model_state_file)


def _labelled(shown: list[tuple[Classifier, Path]]) -> list[tuple[Classifier, str]]:
    """Two models have the names of their folders above them; one needs none."""
    alone = len(shown) == 1
    return [(classifier, "" if alone else folder.name) for classifier, folder in shown]
