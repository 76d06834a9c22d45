"""What axe-core finds in the page, in both languages and both themes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import Browser, written
from tests.page.models import made
from tests.page.test_play import ENTER, opened, retype

#: The package that brings axe-core, and where in it the script is.
PACKAGE, SCRIPT = "selenium_axe_python", "axe-core/axe.min.js"
RUN = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(done);"


@pytest.fixture(scope="module")
def axe() -> str:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip(f"{PACKAGE} is not installed")
    return Path(spec.origin).parent.joinpath(SCRIPT).read_text(encoding="utf-8")


def findings(browser: Browser, axe: str) -> list[str]:
    """The serious and the critical findings, each with where it is."""
    browser.driver.execute_script(axe)
    found: Any = browser.driver.execute_async_script(RUN)
    return [
        f"{each['id']}: {node['html'][:90]} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


CASES = [(language, theme, 1280) for language in ("en", "ko") for theme in ("light", "dark")]


@pytest.mark.parametrize(("language", "theme", "width"), [*CASES, ("ko", "dark", 390)])
def test_no_serious_finding(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, axe: str, language: str,
    theme: str, width: int,
) -> None:  # fmt: skip
    opened(browser, written(tmp_path_factory, [made("elman"), made("lstm, both")]), language)
    browser.size(width, 900)
    if browser.find("html").get_attribute("data-theme") != theme:
        browser.press("#theme", ENTER)
    assert browser.find("html").get_attribute("data-theme") == theme
    retype(browser, "Şahin-Müller")  # a letter that is unknown, and parts
    for summary in browser.all("summary"):
        summary.send_keys(ENTER)
    browser.settle()
    assert findings(browser, axe) == []


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("document.querySelector('label[for=name]').remove()", "label"),
        ("document.documentElement.removeAttribute('lang')", "html-has-lang"),
        ("document.querySelector('.states canvas').removeAttribute('aria-label')", "role-img-alt"),
        ("document.documentElement.style.setProperty('--soft', '#bbbbbb')", "color-contrast"),
    ],
)
def test_damage_would_be_found(
    browser: Browser, own_page: Path, axe: str, damage: str, rule: str
) -> None:
    opened(browser, own_page)
    browser.driver.execute_script(damage)
    assert rule in {finding.split(":")[0] for finding in findings(browser, axe)}
