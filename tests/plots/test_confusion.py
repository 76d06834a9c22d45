"""The confusion matrix: families together, white to one colour, numbers that can be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from npnlp.confusion import families_together, read_confusion
from npnlp.plots import confusion_matrix
from npnlp.plots.confusion import COLOURS, DARK


def with_families(families: list[list[int]], count: int) -> NDArray[np.int64]:
    """Counts where the classes of a family are taken for each other, and hardly for others."""
    counts = np.ones((count, count), np.int64)
    for family in families:
        counts[np.ix_(family, family)] = 20
    counts[np.diag_indices(count)] = 60
    return counts


@given(st.permutations(range(9)))
def test_classes_that_are_taken_for_each_other_stand_together(members: list[int]) -> None:
    families = [members[:3], members[3:5], members[5:]]
    line = families_together(with_families(families, 9))
    assert sorted(line) == list(range(9))
    for family in families:
        places = sorted(line.index(member) for member in family)
        assert places == list(range(places[0], places[0] + len(family)))


def test_one_way_is_enough_however_few_rows_there_are() -> None:
    """All of a small class go to a large one, and nothing comes back."""
    counts = np.diag([500, 400, 300, 0])
    counts[3, 1] = 4
    line = families_together(counts)
    assert abs(line.index(3) - line.index(1)) == 1


def test_a_line_is_turned_so_that_the_first_class_comes_early() -> None:
    """3 is near 0, 0 near 1, and 1 near 2: the line is found as 2, 1, 0, 3."""
    counts = np.diag([100, 100, 100, 100])
    for one, other, count in ((0, 1, 30), (1, 2, 25), (0, 3, 10)):
        counts[one, other] = counts[other, one] = count
    assert families_together(counts) == [3, 0, 1, 2]


@given(st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_every_class_stands_once_and_the_first_in_the_first_half(count: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 5, (count, count))
    line = families_together(counts)
    assert sorted(line) == list(range(count))
    assert line == families_together(counts.copy())
    assert not count or line.index(0) <= (count - 1) / 2


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, as in WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("value", np.linspace(0, 1, 101).round(2).tolist())
def test_a_number_can_be_read_on_every_colour(value: float) -> None:
    colour = to_rgb("white") if value > DARK else to_rgb("black")
    assert contrast(colormaps[COLOURS](value), colour) >= 4.39


def test_zero_is_all_but_white_and_more_is_darker() -> None:
    shades = [luminance(colormaps[COLOURS](value)) for value in np.linspace(0, 1, 11)]
    assert shades[0] > 0.9
    assert shades == sorted(shades, reverse=True)


def test_a_frame_is_read_by_position() -> None:
    frame = pd.DataFrame({"true label": ["x", "y"], "x": [3, 1], "y.1": [0, 2]})
    label, names, counts = read_confusion(frame)
    assert (label, names) == ("label", ["x", "y"])
    assert counts.tolist() == [[3, 0], [1, 2]]


def test_the_picture_has_the_order_and_the_numbers() -> None:
    names = [f"class {n}" for n in range(4)]
    counts = with_families([[0, 2], [1, 3]], 4)
    frame = pd.DataFrame(counts, columns=names)
    frame.insert(0, "true label", names)
    axes = confusion_matrix(frame).axes[0]
    order = [text.get_text().partition(" (")[0] for text in axes.get_yticklabels()]
    assert order == [text.get_text() for text in axes.get_xticklabels()]
    assert abs(order.index("class 0") - order.index("class 2")) == 1
    numbers = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    place = order.index("class 0"), order.index("class 2")
    assert numbers[place] == f"{100 * 20 / 82:.0f}"
