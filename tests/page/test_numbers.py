"""The page computes what Python does: every cell, 100 names, forward and back."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp import jacobians
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.contributions import difference, inputs_of
from npnlp.classifier.explanation import exact_copy
from npnlp.classifier.ways import packed
from npnlp.gradients.chain_rule import products, tanh_orbit
from npnlp.gradients.jacobians import Jacobians
from npnlp.layers import Packing
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.models import SurnameClassifier
from npnlp.page import html
from npnlp.page.values import untrained
from npnlp.text import own_table_path
from npnlp.text.letter_case import LETTER_CASES
from npnlp.text.parts import BETWEEN, EVERYWHERE
from tests.page.conftest import Browser, written
from tests.page.models import KINDS, close, made, scaled

#: All numbers of these names, of every layer and direction, are compared.
COUNT = 100
#: The scales of ``W_hh`` at which some names are compared.
SCALES = (0.0, 0.5, 1.5)
ASKED = """args[0].map(([name, layer, way, scale, untrained = false]) => {
  const found = npnlp.explain(name, { layer, way, scale, untrained });
  return { ...found, hidden: found.hidden.map((h) => [...h]), whole: [...found.whole],
    probabilities: found.probabilities.map((p) => [...p]) };
})"""


def names_of_test() -> list[str]:
    """Names of the test split, evenly spaced, that are read whole."""
    table = pd.read_csv(own_table_path(), keep_default_na=False)
    names = [n for n in table.loc[table["split"] == "test", "surname"] if n.isalpha()]
    return names[:: len(names) // COUNT][:COUNT]


class Expected:
    """What Python computes of one name: ``classes`` are those of L."""

    def __init__(self, model: SurnameClassifier, tokens: Any, classes: tuple[int, int]) -> None:
        upto = [np.concatenate([tokens[: n + 2], tokens[-1:]]) for n in range(len(tokens) - 2)]
        lengths = np.array(list(map(len, upto)))
        self.probabilities = packed(model, np.concatenate(upto), lengths)[0]
        direction = np.zeros(model.config.num_classes)
        direction[classes[1]] -= 1
        direction[classes[0]] += 1
        inputs = inputs_of(model, tokens)
        g, d_x, _ = difference(model, inputs.embeddings[None], np.zeros((1, 0)), direction)
        self.difference = float(g[0])
        self.gradients = np.linalg.norm(d_x[0, 1:-1], axis=1)
        packing = Packing.of(np.array([len(tokens)]), model.backend)
        self.model, self.traces = model, list[Any]()
        _, self.cache = model.encoder.states(inputs.embeddings, packing=packing)
        _, cache = model.forward(tokens, packing=packing)
        model.backward(direction[None], cache, self.traces.append)

    def chain(self, layer: int, way: int) -> dict[str, Any]:
        """What the page says of one layer and direction, letter by letter."""
        rnn = self.model.encoder.rnn
        assert isinstance(rnn, RecurrentStack)
        cell = rnn.cells[layer][way]
        (trace,) = (each for each in self.traces if each.layer is cell)
        seen = jacobians(cell, np.asarray(self.cache.cells[layer][way].x))
        d = np.hstack(trace.d_states)
        end, size = len(seen) - 1, np.linalg.norm
        product, products = np.eye(seen.size), [1.0]
        factors: list[dict[str, Any] | None] = [None]
        for t in range(end, 2, -1):  # J_t leads from the letter before to that of step t
            product = product @ seen.step(t)
            products.insert(0, float(size(product, 2)))
            factors.insert(0, factor(cell, seen, t, d[t - 1]))
        at = size(d[1:end], axis=1)
        order = slice(None, None, -1 if way else 1)
        return {
            "hidden": seen.hidden[1:end][order], "products": products[order],
            "factors": factors[order], "atStates": at[order], "relative": (at / at[-1])[order],
        }  # fmt: skip


def factor(cell: Any, seen: Jacobians, t: int, d: Any) -> dict[str, Any]:
    """|J^T d| / |d|; of an Elman cell, whose J is diag(phi') W_hh, in two parts."""
    back, size = np.linalg.norm(seen.step(t).T @ d), np.linalg.norm(d)
    if not cell.kind().startswith("elman"):
        return {"factor": back / size}
    v = np.linalg.norm(seen.derivatives[t - 1] * d)
    return {"slope": v / size, "weights": back / v, "factor": back / size}


def first_two(model: SurnameClassifier, tokens: Any) -> tuple[int, int]:
    whole = packed(model, tokens, np.array([len(tokens)]))[0][0]
    first, second = np.argsort(-whole, kind="stable")[:2].tolist()
    return first, second


def check(classifier: Classifier, found: dict[str, Any], name: str, case: Any) -> None:
    """Everything of one name and one chain."""
    layer, way, scale, *first = case
    model = exact_copy(classifier.model)
    tokens = np.array(classifier.vectorizer.vectorize(name)[0])
    classes = first_two(model, tokens)  # of the trained weights, whichever are shown
    if any(first):
        model = exact_copy(untrained(classifier))
    with np.errstate(invalid="ignore", divide="ignore"):  # at scale 0 nothing comes back
        expected = Expected(scaled(model, scale), tokens, classes)
        chain = expected.chain(layer, way)
    assert tuple(found["classes"]) == classes
    close(found["probabilities"], expected.probabilities)
    close(found["whole"], expected.probabilities[-1])
    close(found["difference"], expected.difference)
    close(found["gradients"], expected.gradients)
    for key in ("hidden", "products", "atStates", "relative"):
        close(found[key], chain[key])
    close_factors(found["factors"], chain["factors"])


def close_factors(found: Any, expected: Any) -> None:
    """Check every part of every factor; of the last letter there is none."""
    assert found[-1] is None or found[0] is None
    assert [each and sorted(each) for each in found] == [each and sorted(each) for each in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for part in ours or ():
            close(ours[part], theirs[part])


@pytest.mark.parametrize("kind", [*KINDS, "own"])
def test_a_hundred_names(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    classifier = Classifier.load() if kind == "own" else made(kind)
    config, names = classifier.model.config, names_of_test()
    assert len(names) == COUNT
    chains = [(k, way) for k in range(config.num_layers) for way in range(config.directions)]
    cases: list[Any] = [(name, *chains[n % len(chains)], 1.0) for n, name in enumerate(names)]
    cases += [(name, *chains[-1], scale) for name in names[:5] for scale in SCALES]
    cases += [(name, *chains[n % len(chains)], 1.0, True) for n, name in enumerate(names[:10])]
    cases += [(name, *chains[0], scale, True) for name in names[:3] for scale in SCALES]
    browser.open(written(tmp_path_factory, [classifier]))
    for found, (name, *case) in zip(browser.run(ASKED, cases), cases, strict=True):
        check(classifier, found, name, case)
    assert browser.complaints() == []


def test_a_wrong_number_would_be_found(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One weight of the page's model is another one than Python's."""
    classifier, case = made("gru"), (0, 0, 1.0)
    browser.open(written(tmp_path_factory, [classifier]))
    (found,) = browser.run(ASKED, [("Nakamoto", *case)])
    check(classifier, found, "Nakamoto", case)
    classifier.model.parameters["rnn.weight_hh_l0"][3, 4] *= 1.01
    with pytest.raises(AssertionError):
        check(classifier, found, "Nakamoto", case)


#: A mistake in a line of cells.js or chain.js, and the kind of model that has to show it.
MISTAKES = {
    "a slope is left out": ("elman", "d * slope(h[n])", "d"),
    "a factor is another step's": ("elman", "steps[n + 2], d, w", "steps[n + 1], d, w"),
    "the state c": ("lstm", "map((d) => norm(beside(d)))", "map(([d]) => norm(d))"),
    "a product is one step longer": ("gru", "steps.slice(0, -1), w", "steps, w"),
    "a slope is left out of J v": ("elman", "slope(h[n]) * p", "p"),
    "ReLU at zero": ("relu", "h > 0 ? 1 : 0", "1"),
    "the direct part": ("gru", "d + dH[k] * z[k]);", "d);"),
    "the direct part of J v": ("gru", "+ z[k] * own;", "+ own;"),
    "the reset gate": ("gru before", "+ dM[k] * r[k]);", ");"),
    "the reset gate of J v": ("gru before", "+ r[k] * own);", ");"),
    "the forget gate": ("lstm", "d * f[k]);", "d);"),
    "the slope of the forget gate in J v": ("lstm", "f[k] * (1 - f[k]) * vF[k] * cBefore[k] +", ""),
    "the order of a direction": ("lstm, both", "reversed(undone.dX, way)", "undone.dX"),
    "attention's mean": ("attention", "(dAlpha[t] - mean)", "dAlpha[t]"),
    "the pooled step": ("max", "steps[unit] === t ? d : 0", "d"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_script_would_be_found(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, mistake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kind, right, wrong = MISTAKES[mistake]
    plain, changed = html._read, []

    def read(name: str) -> str:
        text = plain(name)
        if right in text and name.endswith(".js"):
            changed.append(name)
        return text.replace(right, wrong, 1) if name.endswith(".js") else text

    monkeypatch.setattr(html, "_read", read)
    classifier, case = made(kind), (0, 0, 1.0)
    browser.open(written(tmp_path_factory, [classifier]))
    assert len(changed) == 1
    (found,) = browser.run(ASKED, [("Nakamoto", *case)])
    with pytest.raises(AssertionError):
        check(classifier, found, "Nakamoto", case)


def test_the_page_says_what_explain_says(browser: Browser, own_page: Path) -> None:
    classifier = Classifier.load()
    browser.open(own_page)
    names = ("Nakamoto", "mcmahan", "Garcia-Lopez", "Şahin")
    for name in names:
        for part, expected in enumerate(classifier.explain(name)):
            found = browser.run("npnlp.explain(args[0], { part: args[1] })", name, part)
            assert found["parts"][part] == expected.surname
            labels = [expected.labels[label] for label in found["classes"]]
            assert labels == [expected.answer, expected.runner_up]
            close(found["difference"], expected.difference)
            close(found["gradients"], [letter.gradient for letter in expected.letters])
            said = [list(p.values()) for p in found["probabilities"]]
            close(said, [letter.probabilities for letter in expected.letters])
        (whole,) = classifier.probabilities([name])
        # Prediction is in float32, explanations and the page are in float64.
        np.testing.assert_allclose(list(found["whole"].values()), whole, rtol=1e-3, atol=1e-6)


def test_one_unit(browser: Browser, own_page: Path) -> None:
    browser.open(own_page)
    for w, first, steps in ((0.9, 0.5, 16), (-2.5, 1.0, 40), (0.0, 0.3, 3), (3.0, 0.0, 10)):
        found = browser.run("npnlp.orbit(...args)", w, first, steps)
        states, slopes = tanh_orbit(w, first, steps)
        close(found["states"], [first, *states])
        close(found["slopes"], slopes)
        close(found["products"], products(slopes))


# --- names

HARD = (
    "  Nakamoto ", "GARCIA LOPEZ", "o’brien-smith", "mu\u0308ller", "STRASSE", "straße", "İNCİ",
    "van der Berg", "van-der-berg", "d'Arc", "-", "--a--b", "McMAHAN", "ΑΣΣΟΣ", "ǆUNGLA", "ნინო",
    "Þór", "\u3000Kim\u00a0Lee", "a\x1f", "x" * 30, "🙂a", "김", "l'Étoile du-Nord", "ﬁ", "ŉ",
)  # fmt: skip
SPLITS: tuple[dict[str, str], ...] = (
    {}, {"hyphens": EVERYWHERE, "spaces": BETWEEN, "apostrophes": BETWEEN},
)  # fmt: skip


@pytest.mark.parametrize("split_at", SPLITS, ids=["whole", "in parts"])
@pytest.mark.parametrize("case", LETTER_CASES)
def test_names_are_read_as_python_reads_them(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, case: str, split_at: dict[str, str]
) -> None:
    classifier = Classifier.load()
    classifier.vectorizer.letter_case, classifier.vectorizer.split_at = case, split_at
    browser.open(written(tmp_path_factory, [classifier]))
    letters = [chr(point) for point in range(0x20, 0x2FFF) if known(chr(point))]
    pairs = [f"a{letter}" for letter in letters] + [f"A{letter}" for letter in letters]
    names = [*HARD, *letters, *pairs]
    found = browser.run("args[0].map((name) => npnlp.tokens(0, name))", names)
    vectorizer = classifier.vectorizer
    expected = [
        [vectorizer.tokens_of(part) for part in vectorizer.parts_as_read(name) if part]
        for name in names
    ]
    assert [each for each in zip(names, found, expected, strict=True) if each[1] != each[2]] == []


def known(character: str) -> bool:
    """Whether a character is a letter, a mark or punctuation of an old Unicode version."""
    return unicodedata.ucd_3_2_0.category(character)[0] in "LMPSZ"
