"""The page by keyboard, in a real browser: typing, sliders, languages, themes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from npnlp.classifier.classifier import Classifier
from npnlp.gradients.chain_rule import products, tanh_orbit
from npnlp.page.html import FOLDER
from tests.page.conftest import Browser, written
from tests.page.models import made

STRINGS: dict[str, dict[str, str]] = {
    name: json.loads((FOLDER / f"strings/{name}.json").read_text("utf-8")) for name in ("en", "ko")
}
BACKSPACE, HOME, END, RIGHT, LEFT, ENTER, TAB = (
    "\ue003", "\ue011", "\ue010", "\ue014", "\ue012", "\ue007", "\ue004",
)  # fmt: skip
FOCUSED = """(({ id, dataset, hash }) => id || dataset.weights || dataset.case || hash)(
  document.activeElement)"""
SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def numbers(text: str) -> list[float]:
    """The numbers of a text as the page writes them."""
    plain = text.replace("−", "-").translate(SUPERSCRIPTS)
    found = re.findall(r"(-?\d+(?:\.\d+)?)(?: × 10(-?\d+))?", plain)
    return [float(f"{digits}e{exponent or 0}") for digits, exponent in found]


def opened(browser: Browser, page: Path, language: str = "en") -> None:
    browser.size(1280, 1100)
    browser.open(page)
    browser.press(f"[data-language={language}]", ENTER)


def retype(browser: Browser, name: str) -> None:
    browser.press("#name", END, BACKSPACE * 40, name)


def letters_of(browser: Browser) -> str:
    return "".join(cell.text for cell in browser.all(".believes thead th")[1:])


def product(browser: Browser) -> float:
    """The norm of the product, where the chain that is shown has read its first letter."""
    return numbers(browser.all(".flow .figures > span")[1].text)[-1]


@pytest.mark.parametrize("name", ["McMahan", "O", "Šťastný", "Wolfeschlegelsteinhausenberger"])
def test_typing_a_name(browser: Browser, own_page: Path, name: str) -> None:
    opened(browser, own_page)
    retype(browser, name)
    assert letters_of(browser) == name
    (prediction,) = Classifier.load().predict([name], top_k=2)
    (first, probability), (second, _) = prediction.top
    assert browser.text(".answer strong").startswith(f"{first} ")
    assert numbers(browser.text(".answer strong"))[-1] == pytest.approx(100 * probability, abs=0.6)
    assert browser.text(".answer span").startswith(second)
    assert browser.complaints() == []


def test_letters_are_drawn_as_they_are_typed(browser: Browser, own_page: Path) -> None:
    opened(browser, own_page)
    browser.press("#name", END, BACKSPACE * 40)
    seen = []
    for letter in "Kim":
        browser.press("#name", letter)
        seen.append(letters_of(browser))
    assert seen == ["K", "Ki", "Kim"]
    browser.press("#name", BACKSPACE * 3)
    assert not browser.find("#models").is_displayed()
    assert browser.text("#nothing") == STRINGS["en"]["nothing"]
    browser.press("#name", "K")
    assert browser.find("#models").is_displayed()
    assert not browser.find("#nothing").is_displayed()


def test_what_the_model_has_never_seen_and_reads_in_parts_is_said(
    browser: Browser, own_page: Path
) -> None:
    opened(browser, own_page)
    retype(browser, "김Garcia-Lopez")
    assert "김Garcia + Lopez" in browser.text(".notes")
    assert "never seen 김" in browser.text(".notes")
    assert browser.text(".believes abbr") == "김"
    browser.press(".of-part select", "L")
    assert letters_of(browser) == "Lopez"


def test_a_screen_reader_is_told(browser: Browser, own_page: Path) -> None:
    opened(browser, own_page)
    retype(browser, "McMahan")
    said = ""
    for _ in range(200):
        browser.settle()
        said = str(browser.run("document.getElementById('said').textContent"))
        if "Irish" in said:
            break
    assert "Irish" in said
    assert "Gradient at M relative to n" in said
    assert browser.find("#said").get_attribute("role") == "status"


def test_the_scale_makes_it_vanish_or_explode(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    opened(browser, written(tmp_path_factory, [made("relu")]))
    trained = product(browser)
    expected = browser.run("npnlp.explain('Nakamoto').products[0]")
    assert trained == pytest.approx(expected, rel=0.01)
    browser.press("#scale", HOME)
    assert browser.text("#scale-value") == "0.00"
    assert product(browser) == 0
    assert browser.text(".flow .missing") == STRINGS["en"]["missing"]
    browser.press("#scale", END)
    assert browser.text("#scale-value") == "3.00"
    assert product(browser) > 1e3 * trained
    assert len(browser.all(".flow .legend > span")) == 4  # with both curves at scale 1
    browser.press("#reset", ENTER)
    assert product(browser) == trained
    assert browser.text(".flow .missing") == ""
    assert len(browser.all(".flow .legend > span")) == 2
    browser.press("#scale", LEFT)
    assert browser.text("#scale-value") == "0.95"
    assert browser.find("#scale").get_attribute("aria-valuetext") == "0.95 times the weights"
    assert product(browser) < trained
    assert browser.complaints() == []


def test_one_unit_by_keyboard(browser: Browser, own_page: Path) -> None:
    opened(browser, own_page)
    browser.press("#unit-w", END, LEFT)
    browser.press("#unit-h", HOME)
    browser.press("#unit-t", HOME, RIGHT * 9)
    assert [browser.text(f"#unit-{name}-value") for name in "wht"] == ["2.95", "−1.00", "10"]
    expected = products(tanh_orbit(2.95, -1.0, 10)[1])
    said = numbers(browser.text("#unit-figures span"))[-1]
    assert said == pytest.approx(expected[-1], rel=0.01)
    browser.press("#unit-table summary", ENTER)
    rows = [numbers(row.text) for row in browser.all("#unit-table tbody tr")]
    assert [row[-1] for row in rows] == pytest.approx(expected.tolist(), rel=0.01)


@pytest.mark.parametrize(("place", "cells"), [(".states", 64 * 8), (".flow", 8 * 7)])
def test_every_drawing_has_its_numbers_in_a_table(
    browser: Browser, own_page: Path, place: str, cells: int
) -> None:
    opened(browser, own_page)
    assert browser.find(f"{place} [role=img]").get_attribute("aria-label")
    assert browser.all(f"{place} details table") == []
    browser.press(f"{place} .graphic summary", ENTER)
    assert len(browser.all(f"{place} .graphic details td")) == cells
    (explained,) = Classifier.load().explain("Nakamoto")
    if place == ".flow":
        said = [numbers(row.text)[-1] for row in browser.all(f"{place} details tbody tr")]
        expected = [letter.gradient for letter in explained.letters]
        assert said == pytest.approx(expected, rel=0.01)


def test_both_languages(browser: Browser, own_page: Path) -> None:
    for language, strings in STRINGS.items():
        opened(browser, own_page, language)
        assert browser.find("html").get_attribute("lang") == language
        assert browser.driver.title == browser.text("h1") == strings["title"]
        for node in browser.all("[data-text]"):
            key, text = node.get_attribute("data-text"), node.get_attribute("textContent")
            assert text == strings[key], key
        for node in browser.all("[data-label]"):
            label = node.get_attribute("data-label")
            assert node.get_attribute("aria-label") == strings[label]
    shown = browser.find("body").get_property("innerText")
    told = set(re.findall(r"[A-Za-z]{4,}", shown)) - {*Classifier.load().vectorizer.
                                                      nationality_vocab.tokens}  # fmt: skip
    assert told <= {"English", "tanh", "ReLU", "LSTM", "diag", "Nakamoto"}


def test_the_theme_changes_by_keyboard(browser: Browser, own_page: Path) -> None:
    opened(browser, own_page)
    seen: set[Any] = set()
    for _ in range(2):
        browser.press("#theme", ENTER)
        seen.add(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert len(seen) == 2


def test_every_control_is_reached_with_tab(browser: Browser, own_page: Path) -> None:
    opened(browser, own_page)
    browser.run("document.body.focus() ?? null")
    reached = []
    for _ in range(60):
        browser.driver.switch_to.active_element.send_keys(TAB)
        reached.append(browser.run(FOCUSED))
    wanted = {"theme", "name", "scale", "reset", "unit-w", "unit-h", "unit-t", "trained",
              "untrained", "unitVanish", "unitSaturate", "unitExplode", "#unit",
              "#network"}  # fmt: skip
    assert wanted <= set(reached)


def test_two_models_side_by_side(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    classifiers = [made("elman"), made("lstm, both")]
    opened(browser, written(tmp_path_factory, classifiers))
    titles = [node.text for node in browser.all(".panel.model > h2")]
    assert [title.split(":")[0] for title in titles] == ["first", "second"]
    assert "Elman" in titles[0]
    assert "LSTM in both directions" in titles[1]
    left, right = (node.rect for node in browser.all(".panel.model"))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    names = [option.text for option in browser.all(".of-chain option")]
    assert names[-4:] == ["1, forwards", "1, backwards", "2, forwards", "2, backwards"]
    retype(browser, "Kim")
    for place, answer in enumerate(browser.all(".answer strong")):
        (prediction,) = classifiers[place].predict(["Kim"])
        assert answer.text.startswith(prediction.nationality)
    assert browser.complaints() == []


@pytest.mark.parametrize("language", STRINGS)
@pytest.mark.parametrize("width", [320, 390])
def test_nothing_stands_out_of_a_phone(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, width: int, language: str
) -> None:
    opened(browser, written(tmp_path_factory, [made("gru"), made("lstm")]), language)
    browser.size(width, 800)
    for name in ("Nakamoto", "Wolfeschlegelsteinhausenberger"):
        retype(browser, name)
        wide = browser.run("document.scrollingElement.scrollWidth")
        assert wide <= width
