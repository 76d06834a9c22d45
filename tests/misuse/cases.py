"""One misuse: drawn, done, and judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from npnlp.backend import Backend, Random, get_backend
from npnlp.errors import InputError
from npnlp.layers import Linear, Packing
from tests.misuse.guard import Guarded, Plain
from tests.misuse.mutations import Mutation, Values, real_mutations, whole_mutations
from tests.misuse.subjects import SUBJECTS, Draw, Subject

REFERENCE = get_backend("reference")
#: A loss's gradient, instead of 1.
NUMBERS = [
    Mutation("a list", lambda v: [1.0]), Mutation("an array", lambda v: np.ones(2)),
    Mutation("a text", lambda v: "1"), Mutation("None", lambda v: None),
    Mutation("True", lambda v: True), Mutation("int", lambda v: 1, right=True),
    Mutation("float32", lambda v: np.float32(1), right=True),
    Mutation("no axes", lambda v: np.array(1.0), right=True),
]  # fmt: skip


@dataclass
class Judged:
    """What a case was, whether it was refused, and what is wrong with that; empty for nothing."""

    what: str
    refused: bool
    finding: str = ""


def judge(backend: Backend, guard: Guarded, seed: int, number: int) -> Judged:
    """Draw case ``number``, and do it."""
    draw = np.random.default_rng((seed, number))
    guard.reset()
    maker = SUBJECTS[draw.integers(len(SUBJECTS))]
    subject = maker(draw)
    place = str(draw.choice([*subject.values] * 2 + ["packing"] * bool(subject.lengths is not None)
                            + ["gradient", "cache", "nothing"]))  # fmt: skip
    case = Case(backend, guard, subject, draw)
    try:
        chosen = case.run(place)
    except InputError as error:
        wrong = case.right or len(str(error)) < 20 or "\n" in str(error)
        finding = f"refused with: {error}" if wrong else ""
        return Judged(f"{maker.__name__}: {case.what}", True, finding)
    except Exception as error:
        return Judged(f"{maker.__name__}: {case.what}", True, f"{type(error).__name__}: {error}")
    finding = "" if case.right or case.what in subject.also_right else "was taken"
    if case.right:
        finding = difference(chosen, Case(REFERENCE, Plain(), subject, draw).run("nothing"))
    return Judged(f"{maker.__name__}: {case.what}", False, finding)


class Case:
    """A subject on a backend; :meth:`run` gives one argument wrongly."""

    def __init__(self, backend: Backend, guard: Any, subject: Subject, draw: Draw) -> None:
        self.backend, self.guard, self.subject, self.draw = backend, guard, subject, draw
        self.what, self.right = "nothing", True

    def run(self, place: str) -> list[Values]:
        """Outputs and gradients; ``place`` is what is given wrongly."""
        subject, array = self.subject, self.guard.array
        layer = subject.layer({"backend": self.backend, "dtype": np.float64, "random": Random(1)})
        given: dict[str, Any] = {name: array(values) for name, values in subject.values.items()}
        packing: Any = None
        if subject.lengths is not None:
            packing = Packing.of(subject.lengths, self.backend)
        if place in given:
            given[place] = self.mutated(place, self.mutations_of(place), subject.values[place])
        elif place == "packing":
            packing = self.other_packing(subject.lengths)
        y, cache = subject.call(layer, given, packing)
        seeds = np.random.default_rng(5)
        dy = gradient_like(y, seeds, array)
        if place == "gradient":
            dy = self.wrong_gradient(dy)
        elif place == "cache":
            cache = self.other_cache()
        dx = layer.backward(dy, cache)
        return [*flat(y), *flat(dx), *map(np.asarray, layer.grads.values())]

    def mutated(self, where: str, mutations: list[Mutation], values: Any) -> Any:
        mutation = mutations[self.draw.integers(len(mutations))]
        self.what, self.right = f"{where} is {mutation.name}", mutation.right
        made = mutation.make(values)
        if (
            isinstance(made, np.ndarray)
            and type(made) is np.ndarray
            and made.flags.carray
            and made.dtype.hasobject is False
        ):
            return self.guard.array(made)
        return made

    def mutations_of(self, place: str) -> list[Mutation]:
        subject, values = self.subject, self.subject.values[place]
        free = place in subject.free
        if place in subject.below:
            return whole_mutations(values, subject.below[place], free=free)
        optional = place.startswith("state")
        found = real_mutations(
            values, exact=subject.exact, free=free, any_shape=place in subject.any_shape
        )
        return [m for m in found if not (optional and m.name == "None")]

    def wrong_gradient(self, dy: Any) -> Any:
        if isinstance(dy, float):
            return self.mutated("d_loss", NUMBERS, dy)
        if isinstance(dy, tuple):
            place = int(self.draw.integers(len(dy)))
            mutations = [m for m in self.of_gradient(dy[place]) if m.name != "None"]
            wrong = self.mutated(f"dy[{place}]", mutations, dy[place])
            return (*dy[:place], wrong, *dy[place + 1 :])
        return self.mutated("dy", self.of_gradient(dy, "dy" in self.subject.free), dy)

    def of_gradient(self, dy: Values, free: bool = False) -> list[Mutation]:
        return real_mutations(dy, exact=self.subject.exact, free=free, any_shape=False)

    def other_packing(self, lengths: Any) -> Any:
        made = {"None": None, "lengths": lengths, "a list": lengths.tolist(), "a text": "packing",
                "larger": Packing.of(np.append(lengths, 1), self.backend),
                "longer": Packing.of(lengths + 1, self.backend)}  # fmt: skip
        name = str(self.draw.choice(list(made)))
        self.what, self.right = f"packing is {name}", False
        return made[name]

    def other_cache(self) -> Any:
        """That of a layer of another sort, or none."""
        self.right = False
        kind = int(self.draw.integers(4))
        self.what = f"cache is {('None', 'a tuple', 'a text', 'of Linear, 99 to 3')[kind]}"
        if kind < 3:
            return (None, (), "cache")[kind]
        return Linear(99, 3, backend=self.backend, dtype=np.float64).forward(np.zeros((2, 99)))[1]


def gradient_like(y: Any, draw: Draw, array: Any) -> Any:
    """A random gradient of each output."""
    if isinstance(y, tuple):
        return tuple(gradient_like(each, draw, array) for each in y)
    return array(draw.normal(size=y.shape)) if y.ndim else 1.0


def flat(values: Any) -> list[Values]:
    if values is None:
        return []
    return (
        [each for value in values for each in flat(value)]
        if isinstance(values, tuple)
        else [np.asarray(values)]
    )


def difference(found: list[Values], expected: list[Values]) -> str:
    """How the numbers differ; empty where they do not."""
    if [a.shape for a in found] != [a.shape for a in expected]:
        return f"shapes {[a.shape for a in found]}, not {[a.shape for a in expected]}"
    for a, b in zip(found, expected, strict=True):
        if not np.allclose(a, b, rtol=1e-9, atol=1e-9):
            return f"differs by {np.abs(a - b).max():.2e}"
    return ""
