"""One Chromium without a screen for all tests of the page; they are skipped where it is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from npnlp.classifier.classifier import Classifier
from npnlp.page.html import write_page

#: What the browser is told; CI runs as root, with little shared memory.
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
    "--force-device-scale-factor=1", "--lang=en", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,1100",
)  # fmt: skip
PROGRAMS = "chromium", "chromedriver"


def missing() -> str:
    """What the tests need and is not there; empty where all is."""
    found = {name: shutil.which(name) for name in PROGRAMS}
    names = [name for name, path in found.items() if path is None]
    if importlib.util.find_spec("selenium") is None:
        names.append("selenium")
    return ", ".join(names)


class Browser:
    """What a test does with the page; ``driver`` is Selenium's."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path) -> None:
        """Open a file and wait until it is drawn."""
        self.driver.get_log("browser")  # what pages before it said
        self.driver.get(path.as_uri())
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for has been drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; const next = requestAnimationFrame;"
            "next(() => next(() => next(() => done())));"
        )

    def run(self, script: str, *arguments: Any) -> Any:
        """The result of ``return script`` in the page; numbers keep all of their digits."""
        code = f"const args = JSON.parse(arguments[0]); return JSON.stringify({script});"
        found = self.driver.execute_script(code, json.dumps(arguments))
        return None if found is None else json.loads(found)

    def find(self, selector: str) -> Any:
        """The first element of a selector."""
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        """All elements of a selector."""
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def text(self, selector: str) -> str:
        """The text that is seen of the first element."""
        return str(self.find(selector).text)

    def press(self, selector: str, *keys: str) -> None:
        """Press keys in an element, and wait until all is drawn."""
        self.find(selector).send_keys(*keys)
        self.settle()

    def size(self, width: int, height: int) -> None:
        """Give the page this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.settle()

    def requests(self) -> list[str]:
        """The addresses that the browser asked for since the last call."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def complaints(self) -> list[str]:
        """What the browser's console says of errors since the last call."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if what := missing():
        pytest.skip(f"the page is tested in a browser, and this is not installed: {what}")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=str(shutil.which("chromedriver")))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_script_timeout(60)
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def own_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the model that comes with npnlp."""
    return written(tmp_path_factory, [Classifier.load()])


def written(factory: pytest.TempPathFactory, classifiers: Sequence[Classifier]) -> Path:
    """A page in a folder of its own."""
    path = factory.mktemp("page") / "page.html"
    labels = ("first", "second") if len(classifiers) > 1 else ("",)
    write_page(path, list(zip(classifiers, labels, strict=True)))
    return path
