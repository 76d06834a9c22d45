"""What the page teaches: a factor's two parts, before and after training, and one unit's cases."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.classifier.classifier import Classifier
from npnlp.gradients.chain_rule import products, tanh_orbit
from npnlp.page.values import SEED, untrained
from tests.page.conftest import Browser, written
from tests.page.models import made
from tests.page.test_play import BACKSPACE, END, ENTER, HOME, STRINGS, numbers, opened, retype
from tests.support.tables import train_small


def rows(browser: Browser) -> dict[str, list[float]]:
    """The numbers below the letters, by what they are."""
    found: dict[str, list[float]] = {}
    for row in browser.all(".flow .factors"):
        kind = str(row.get_attribute("class")).split()[-1]
        cells = [cell.text for cell in row.find_elements("css selector", "span")[1:]]
        assert cells.pop() == ""  # nothing has been multiplied at the last letter
        found[kind] = [number for cell in cells for number in numbers(cell)]
    return found


def figures(browser: Browser) -> list[str]:
    return [str(each.text) for each in browser.all(".flow .figures > span")]


def share(browser: Browser) -> float:
    """The gradient at the first letter, relative to the last one."""
    return numbers(figures(browser)[0])[0]


@pytest.mark.parametrize("weights", ["trained", "untrained"])
def test_the_factors_below_the_letters_multiply_to_the_whole(
    browser: Browser, own_page: Path, weights: str
) -> None:
    opened(browser, own_page)
    browser.press(f"[data-weights={weights}]", ENTER)
    found = rows(browser)
    assert {kind: len(row) for kind, row in found.items()} == dict.fromkeys(
        ("weights", "slope", "factor"), 7
    )
    assert math.prod(found["factor"]) == pytest.approx(share(browser), rel=0.05)
    for one, other, both in zip(*found.values(), strict=True):
        assert one * other == pytest.approx(both, rel=0.1)
    assert max(found["slope"]) <= 1
    (steps, factor) = numbers(figures(browser)[0])[1:]
    assert steps == 7
    assert factor**steps == pytest.approx(share(browser), rel=0.02)


def test_a_gated_cell_has_the_factor_alone(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    opened(browser, written(tmp_path_factory, [made("gru before")]))
    found = rows(browser)
    assert [*found] == ["factor"]
    assert math.prod(found["factor"]) == pytest.approx(share(browser), rel=0.05)


def test_before_training_the_gradient_vanishes_sooner(browser: Browser, own_page: Path) -> None:
    opened(browser, own_page)
    strings, after = STRINGS["en"], share(browser)
    pressed = "document.querySelector('[data-weights][aria-pressed=true]').dataset.weights"
    assert browser.run(pressed) == "trained"
    assert browser.text(".panel.model > h2").endswith(f", {strings['trained']}")
    sizes = [
        float(np.linalg.norm(model.parameters["rnn.weight_hh_l0"]))
        for model in (untrained(Classifier.load()), Classifier.load().model)
    ]
    assert numbers(browser.text(".notes"))[:2] == pytest.approx(sizes, rel=0.01)
    said = numbers(figures(browser)[2])[-1]
    classes = browser.run("npnlp.explain('Nakamoto').classes")
    browser.press("[data-weights=untrained]", ENTER)
    assert browser.run(pressed) == "untrained"
    assert browser.text(".panel.model > h2").endswith(f", {strings['untrained']}")
    assert "hardly more than a guess" in browser.text(".notes")
    assert share(browser) == said < after / 4
    assert numbers(figures(browser)[2])[-1] == after
    assert max(rows(browser)["factor"]) < 1
    assert browser.run("npnlp.explain('Nakamoto', { untrained: true }).classes") == classes
    browser.press("[data-weights=trained]", ENTER)
    assert share(browser) == after
    assert browser.complaints() == []


def test_a_larger_scale_has_larger_weights_and_smaller_slopes(
    browser: Browser, own_page: Path
) -> None:
    """What the hint says: the two parts of the factor go opposite ways."""
    opened(browser, own_page)
    before = rows(browser)
    browser.press("#scale", END)
    after = rows(browser)
    for kind, grows in (("weights", True), ("slope", False)):
        one, other = (math.prod(found[kind]) for found in (before, after))
        assert (other > one) is grows, kind


def test_the_first_weights_are_those_that_a_run_begins_with(tmp_path: Path) -> None:
    """A run that learns nothing ends with them."""
    assert train_small(tmp_path / "run", "--no-pictures", "--seed", str(SEED),
                       "--learning-rate", "1e-30", epochs=1) == 0  # fmt: skip
    run = Classifier.load(tmp_path / "run" / "model.safetensors")
    first = untrained(run).parameters
    for name, value in run.model.parameters.items():
        np.testing.assert_array_equal(value, first[name])


@pytest.mark.parametrize(
    ("case", "w", "first"),
    [("unitVanish", 0.9, 0.5), ("unitSaturate", 1.5, 0.5), ("unitExplode", 1.5, 0.0)],
)
def test_the_cases_of_one_unit(
    browser: Browser, own_page: Path, case: str, w: float, first: float
) -> None:
    opened(browser, own_page)
    browser.press("#unit-w", HOME)
    browser.press(f"[data-case={case}]", ENTER)
    assert [numbers(browser.text(f"#unit-{name}-value")) for name in "wht"] == [[w], [first], [16]]
    states, factors = tanh_orbit(w, first, 16)
    seen = browser.text("#unit-seen")
    assert seen.startswith(STRINGS["en"][f"{case}Seen"])
    last: Any = [states[-1], w, 1 - states[-1] ** 2, factors[-1]]
    assert numbers(seen)[-4:] == pytest.approx(last, rel=0.06)
    end = products(factors)[-1]
    assert bool(end > 1) is (case == "unitExplode")
    assert numbers(browser.text("#unit-figures span"))[-1] == pytest.approx(end, rel=0.01)
    browser.press("#unit-w", HOME)
    assert not browser.all("[data-case][aria-pressed=true]")
    assert browser.text("#unit-seen").startswith(STRINGS["en"]["unitLast"].split("{")[0])


def test_one_letter_has_no_step(browser: Browser, own_page: Path) -> None:
    opened(browser, own_page)
    retype(browser, "x")
    assert figures(browser) == [STRINGS["en"]["noStep"]]
    assert rows(browser) == {"weights": [], "slope": [], "factor": []}
    assert browser.complaints() == []


def test_a_product_of_zero_is_said(browser: Browser, own_page: Path) -> None:
    opened(browser, own_page)
    assert browser.text("#unit-missing") == browser.text(".flow .missing") == ""
    browser.press("#scale", HOME)
    assert browser.text(".flow .missing") == STRINGS["en"]["missing"]
    assert figures(browser)[0] == STRINGS["en"]["zeroFigure"].format(last="o")
    browser.press("#unit-w", HOME, "\ue014" * 60)  # to w = 0
    assert browser.text("#unit-missing") == STRINGS["en"]["missing"]


def test_a_long_name_shows_its_end(browser: Browser, own_page: Path) -> None:
    """There the gradient starts."""
    opened(browser, own_page)
    browser.size(390, 800)
    retype(browser, "Wolfeschlegelsteinhausenberger")
    left = "(({ scrollLeft, scrollWidth, clientWidth }) => scrollWidth - clientWidth - scrollLeft)"
    assert browser.run(f"{left}(document.querySelector('.flow .scroll'))") < 2
    browser.press("#name", BACKSPACE)
    assert browser.run(f"{left}(document.querySelector('.flow .scroll'))") < 2


def test_what_is_followed_is_named(browser: Browser, own_page: Path) -> None:
    """The scores of the trained answer, whatever the answer has become."""
    opened(browser, own_page)
    browser.press(".flow .exact summary", ENTER)
    (prediction,) = Classifier.load().predict(["Nakamoto"], top_k=2)
    (first, _), (second, _) = prediction.top
    text = STRINGS["en"]["exactScore"].format(first=first, second=second)
    for scale in (HOME, END):
        browser.press("#scale", scale)
        assert text in browser.text(".flow .exact")
    browser.press("[data-weights=untrained]", ENTER)
    assert text in browser.text(".flow .exact")
