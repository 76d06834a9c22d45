"""Draw docs/images/unrolled.png: the network unrolled over a name, and the gradient shrinking.

Also with Korean labels, which takes a font with Hangul (Debian: fonts-nanum).

    python tools/unrolled_picture.py [NAME]

The network is the one that the main job trains, before its first step; the gradient is that of the
loss at the name's own nationality, with respect to each hidden state.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import get_backend
from npnlp.classifier.building import make_classifier, make_criterion
from npnlp.classifier.flow import flow_of
from npnlp.cli.failure import DONE
from npnlp.cli.script import guarded
from npnlp.drawing import LANGUAGES, Output, picture
from npnlp.drawing.look import BLUE, VERMILION
from npnlp.text import SplitArrays, SurnameDataset, own_table_path

ROOT = Path(__file__).resolve().parents[1]
FORWARD, BACKWARD, INK = BLUE, VERMILION, "#222222"
#: Points of the widest arrow.
WIDEST = 22


def gradient_of(name: str) -> NDArray[np.float64]:
    """``|dL/dh_t| (T,)`` of an untrained model, relative to that of the last letter."""
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    vectorizer, frame = dataset.get_vectorizer(), dataset.surname_df
    tokens, lengths = vectorizer.vectorize_many([name])
    label = frame["nationality"][frame["surname"] == name].iloc[0]
    target = vectorizer.nationality_vocab.lookup_token(label)
    row = SplitArrays(tokens, np.array([0]), lengths, np.array([target]))
    model = make_classifier(dataset, {}, get_backend("numpy"), seed=0)
    flow = flow_of(model, row, make_criterion(model))["rnn.l0"]
    norms = flow.hidden_grad[np.argsort(-flow.lags)]
    relative: NDArray[np.float64] = norms / norms[-1]
    return relative


def draw(name: str, shares: NDArray[np.float64], path: Path, language: str = "en") -> None:
    """The picture: a state for each letter, the way forward above, the way back below."""
    with picture(path, 13, 3.6, [name], language) as figure:
        axes = figure.add_subplot()
        axes.set(xlim=(-0.75, len(name) + 0.75), ylim=(-1.5, 1.15))
        axes.axis("off")
        for t, letter in enumerate(name):
            box: Any = {"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": INK}
            axes.text(t, 0, f"$h_{{{t + 1}}}$", ha="center", va="center", bbox=box, fontsize=17)
            axes.text(t, 0.95, letter, ha="center", va="center", fontsize=22, weight="bold")
            arrow(axes, (t, 0.78), (t, 0.26), FORWARD, 2)
            axes.text(t, -1.22, f"{shares[t]:.2g}", ha="center", color=BACKWARD, fontsize=16)
            arrow(axes, (t + 0.27, 0), (t + 0.73, 0), FORWARD, 2)
            width = max(0.6, WIDEST * shares[t])
            axes.plot([t + 0.5, t - 0.5], [-0.68, -0.68], color=BACKWARD, linewidth=width,
                      solid_capstyle="butt")  # fmt: skip
        arrow(axes, (0.9, -0.5), (-0.4, -0.5), BACKWARD, 2)
        axes.text(1.0, -0.5, "the gradient goes back", va="center", color=BACKWARD, fontsize=15)
        axes.text(len(name), 0, "loss", ha="center", va="center", fontsize=17)
        axes.text(len(name) - 0.45, -1.22, r"$\|\partial L/\partial h_t\|$", color=BACKWARD,
                  fontsize=16)  # fmt: skip


def main(name: str = "Nakamoto") -> int:
    """Draw it in every language."""
    shares = gradient_of(name)[-len(name) :]
    for language in LANGUAGES:
        path = Output(ROOT / "docs/images", language=language).path("unrolled")
        draw(name, shares, path, language)
        print(path.relative_to(ROOT))
    return DONE


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], color: str,
          width: float) -> None:  # fmt: skip
    """An arrow between two points."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": color, "lw": width})


if __name__ == "__main__":
    sys.exit(guarded("unrolled_picture.py", lambda: main(*sys.argv[1:2])))
