"""The chain rule on paper, as a program: four pages of a study note on recurrent networks.

a. a chain of local derivatives multiplied out, b. two partial derivatives against numerical ones,
c. gradient descent with three learning rates, d. one Elman step by hand and through the layer.
Status 1 if a derivative by hand is not what the numerical one or the layer says.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from npnlp.backend import Random
from npnlp.cli.failure import DONE, FAILED
from npnlp.cli.pictures import add_format, add_language, output_of
from npnlp.cli.script import guarded, script_parser
from npnlp.files import write_csv
from npnlp.gradients import chain_rule as notes
from npnlp.gradients.check import BOUNDS
from npnlp.lab.pictures import chain_rule as pictures

Row = dict[str, Any]

SLIP = "dz/dy, second term forgotten"
NOTE = """
The study note's handwritten dz/dy disagrees with these checks. What is true is
dz/dy = 2 x^2 (1 - y^2) / (1 + y^2)^2. How such a slip shows: the rows above that forget the
quotient rule's second term fail at every point where x and y are not 0."""
FACTORS = (0.5, 0.9, 1.0, 1.1, 1.5)
ORBITS = ((0.5, 0.5), (1.0, 0.5), (1.5, 0.5), (1.5, 0.0))
DESCENTS = {
    "bowl": (notes.bowl, notes.bowl_gradient, (0.0,), (0.02, 0.3, 1.1)),
    "valley": (notes.valley, notes.valley_gradient, (-4.0, 1.0), (0.01, 0.17, 0.22)),
}
RATES = ("too small", "right", "too large")


def chains(steps: int) -> list[Row]:
    """a. Equal factors, and those of tanh along its own orbit, multiplied out."""
    kinds = {f"every factor {w}": np.full(steps, w) for w in FACTORS}
    for w, h0 in ORBITS:
        kinds[f"tanh: w = {w}, h_0 = {h0}"] = notes.tanh_orbit(w, h0, steps)[1]
    return [
        {"chain": chain, "step": step, "product": float(product)}
        for chain, factors in kinds.items()
        for step, product in enumerate(notes.products(factors))
    ]


def derivatives(points: Sequence[tuple[float, float]]) -> list[Row]:
    """b. Each derivative by hand against central difference and complex step, at each point."""
    rows = []
    for name, formula in (
        ("dz/dx", notes.dz_dx),
        ("dz/dy", notes.dz_dy),
        (SLIP, notes.dz_dy_first_term),
    ):
        for x, y in points:
            f, at = notes.along(name[4], x, y)
            hand = formula(x, y)
            central, exact = notes.central_difference(f, at), notes.complex_step(f, at)
            error = notes.relative_error(hand, central), notes.relative_error(hand, exact)
            agrees = error[0] <= BOUNDS["central"] and error[1] <= BOUNDS["complex"]
            rows.append({
                "derivative": name, "x": x, "y": y, "by_hand": hand, "central": central,
                "complex_step": exact, "error_central": error[0], "error_complex": error[1],
                "agrees": "yes" if agrees else "no",
            })  # fmt: skip
    return rows


def step_sizes() -> list[Row]:
    """b. The error of both numerical ways in ``dz/dy`` at (1, 0.5), by step size."""
    true = notes.dz_dy(1.0, 0.5)
    ways = {"central difference": notes.central_difference, "complex step": notes.complex_step}
    f, at = notes.along("y", 1.0, 0.5)
    return [
        {"way": way, "h": h, "error": notes.relative_error(derivative(f, at, h), true)}
        for way, derivative in ways.items()
        for h in (10.0**-power for power in range(1, 21))
    ]


def descents(steps: int) -> list[Row]:
    """c. Every path: two functions, three learning rates each."""
    return [
        {
            "function": name, "rate": rate, "eta": eta, "step": step,
            "w_1": point[0], "w_2": point[1] if len(point) > 1 else "", "J": function(point),
        }
        for name, (function, gradient, start, etas) in DESCENTS.items()
        for rate, eta in zip(RATES, etas, strict=True)
        for step, point in enumerate(notes.descend(gradient, start, eta, steps))
    ]  # fmt: skip


def elman_step() -> list[Row]:
    """d. Every line of the hand calculation, and the layer's number where it gives one."""
    step = notes.ElmanStep()
    layer = step.by_layer()
    return [
        {
            "quantity": line.quantity, "numbers": line.numbers, "by_hand": line.value,
            "layer": layer.get(line.quantity, ""),
            "difference": abs(layer[line.quantity] - line.value) if line.quantity in layer else "",
        }
        for line in step.by_hand()
    ]  # fmt: skip


def show(title: str, rows: Sequence[Row], columns: dict[str, str]) -> None:
    """Print ``columns`` of the rows, each in its format, under a title."""
    cells = [[format(row[name], "" if row[name] == "" else form) for name, form in columns.items()]
             for row in rows]  # fmt: skip
    lines = [list(columns), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}\n")
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def report(parts: dict[str, list[Row]]) -> None:
    """Print every part as a table."""
    steps: dict[str, Row] = {}
    for row in parts["chain_rule_products"]:
        if row["step"] in (1, 5, 10, 20, 50):
            name = f"after {row['step']}"
            steps.setdefault(row["chain"], {"chain": row["chain"]})[name] = row["product"]
    rows = list(steps.values())
    show("a. A chain of local derivatives multiplied out: below one to zero, above one without end",
         rows, {name: "" if name == "chain" else ".3g" for name in rows[0]})  # fmt: skip
    show("b. z = 2 x^2 y / (1 + y^2), by hand and numerically", parts["chain_rule_derivatives"],
         {"derivative": "", "x": "g", "y": "g", "by_hand": ".6f", "complex_step": ".6f",
          "error_central": ".0e", "error_complex": ".0e", "agrees": ""})  # fmt: skip
    print(NOTE)
    last = max(row["step"] for row in parts["chain_rule_descent"])
    ends = [row for row in parts["chain_rule_descent"] if row["step"] == last]
    show("c. w <- w - eta dJ/dw, the last point of each path", ends,
         {"function": "", "rate": "", "eta": "g", "step": "d", "w_1": ".4g", "w_2": ".4g",
          "J": ".4g"})  # fmt: skip
    show("d. One Elman step by hand, and the same by npnlp.layers.Elman",
         parts["chain_rule_elman_step"],
         {"quantity": "", "numbers": "", "by_hand": ".6f", "layer": ".6f",
          "difference": ".0e"})  # fmt: skip


def sound(parts: dict[str, list[Row]]) -> bool:
    """Whether the right derivatives agree, the slip does not, and the layer says the same."""
    checks = [(row["agrees"] == "yes") == (row["derivative"] != SLIP)
              for row in parts["chain_rule_derivatives"]]  # fmt: skip
    differences = [row["difference"] for row in parts["chain_rule_elman_step"]]
    return all(checks) and all(value <= 1e-12 for value in differences if value != "")


def main() -> int:
    """Compute, write, draw and print every part."""
    parser = script_parser(__doc__, "out/chain_rule")
    add_format(parser)
    add_language(parser)
    options = parser.parse_args()
    output = output_of(options, options.out)
    steps, count, moves = (10, 1, 5) if options.quick else (50, 3, 15)
    drawn = Random(options.seed, "points").uniform((count, 2), 0.2, 2.0).round(2).tolist()
    parts = {
        "chain_rule_products": chains(steps),
        "chain_rule_derivatives": derivatives([(1.0, 1.0), (1.0, 2.0), *map(tuple, drawn)]),
        "chain_rule_step_sizes": step_sizes(),
        "chain_rule_descent": descents(moves),
        "chain_rule_elman_step": elman_step(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        write_csv(options.out / f"{name}.csv", rows)
    for name, (table, draw) in PICTURES.items():
        draw(options.out / f"{table}.csv", output.path(name), output.language)
    report(parts)
    return DONE if sound(parts) else FAILED


#: The table that each picture is drawn from.
PICTURES = {
    "chain_rule_products": ("chain_rule_products", pictures.products),
    "chain_rule_derivatives": ("chain_rule_step_sizes", pictures.derivatives),
    "chain_rule_descent": ("chain_rule_descent", pictures.descents),
}


if __name__ == "__main__":
    sys.exit(guarded("chain_rule.py", main))
