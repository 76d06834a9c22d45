"""The chain rule on paper, as a program: four pages of a study note on recurrent networks.

a. a chain of local derivatives multiplied out, b. two partial derivatives against numerical ones,
c. gradient descent with three learning rates, d. one Elman step by hand and through the layer.
Status 1 if a derivative by hand is not what the numerical one or the layer says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from npnlp.backend import Random
from npnlp.cli.failure import DONE, FAILED
from npnlp.cli.script import guarded, script_parser
from npnlp.files import write_csv
from npnlp.gradients import chain_rule as notes
from npnlp.gradients.check import BOUNDS
from npnlp.plots import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION, picture

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
LOOKS = [
    (BLUE, "-", "o"), (ORANGE, "--", "s"), (BLACK, ":", "D"), (GREEN, "-.", "^"),
    (VERMILION, (0, (5, 1)), "v"), (PURPLE, (0, (3, 1, 1, 1)), "P"),
]  # fmt: skip


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


def draw_chains(table: Path, path: Path) -> None:
    """Products by step on a logarithmic axis: equal factors left, tanh right."""
    rows = pd.read_csv(table)
    with picture(path) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, kind, looks in (
            (left, "every factor", LOOKS[:5]),
            (right, "tanh:", [LOOKS[0], LOOKS[2], LOOKS[4], LOOKS[5]]),
        ):
            found = rows[rows["chain"].str.startswith(kind)].groupby("chain", sort=False)
            for (chain, of_chain), (colour, style, _) in zip(found, looks, strict=True):
                label = str(chain).removeprefix("tanh: ").replace("h_0", "h₀")
                axes.plot(of_chain["step"], of_chain["product"], color=colour, linestyle=style,
                          label=label)  # fmt: skip
            axes.set(xlabel="number of factors", yscale="log")
            axes.legend(loc="lower left")
        left.set(title="The same factor each step", ylabel="product of the local derivatives")
        right.set(title="w times the slope of tanh, h ← tanh(w h)")


def draw_derivatives(table: Path, path: Path) -> None:
    """``dz/dy`` over y with the slip beside it, and the error of both numerical ways by h."""
    sizes = pd.read_csv(table)
    y = np.linspace(-3, 3, 241)
    with picture(path) as figure:
        left, right = figure.subplots(1, 2)
        left.plot(y, [notes.dz_dy(1, v) for v in y], color=BLUE, label="2x²(1 − y²)/(1 + y²)²")
        left.plot(y, [notes.dz_dy_first_term(1, v) for v in y], "--", color=VERMILION,
                  label="2x²/(1 + y²): second\nterm forgotten")  # fmt: skip
        left.plot(y[::20], [notes.complex_step(*notes.along("y", 1, v)) for v in y[::20]], "o",
                  color=BLACK, markersize=8, label="complex step")  # fmt: skip
        left.set(title="dz/dy at x = 1", xlabel="y", ylabel="dz/dy", ylim=(-0.6, 3.4))
        left.legend(loc="upper left")
        for (way, of_way), (colour, style, marker) in zip(
            sizes.groupby("way"), LOOKS, strict=False
        ):
            right.plot(of_way["h"], of_way["error"].clip(lower=1e-17), color=colour,
                       linestyle=style, marker=marker, label=way)  # fmt: skip
        right.set(
            title="Error in dz/dy by step size", xlabel="step size h",
            ylabel="relative error (0 drawn as 10⁻¹⁷)", xscale="log", yscale="log",
        )  # fmt: skip
        right.legend(loc="center left")


def draw_descents(table: Path, path: Path) -> None:
    """The paths on the parabola and over the contours of the valley."""
    rows = pd.read_csv(table)
    with picture(path) as figure:
        left, right = figure.subplots(1, 2)
        w = np.linspace(-2, 8, 201)
        left.plot(w, (w - 3) ** 2 + 1, color=BLACK, linewidth=1)
        u, v = np.meshgrid(np.linspace(-4.6, 2, 100), np.linspace(-1.7, 1.7, 100))
        right.contour(u, v, (u * u + 10 * v * v) / 2, levels=10, colors="grey", linewidths=0.8)
        for name, axes, up, top in (("bowl", left, "J", 26), ("valley", right, "w_2", 1.7)):
            of_function = rows[rows["function"] == name].groupby(["rate", "eta"], sort=False)
            for ((rate, eta), found), (colour, style, marker) in zip(
                of_function, [LOOKS[0], LOOKS[3], LOOKS[4]], strict=True
            ):
                seen = found[(found[up].abs() > top).cumsum() <= 1]  # until it leaves the picture
                axes.plot(seen["w_1"], seen[up], color=colour, linestyle=style, marker=marker,
                          linewidth=1.5, markersize=8, label=f"η = {eta}: {rate}")  # fmt: skip
        left.set(title="J(w) = (w − 3)² + 1", xlabel="w", ylabel="J(w)", xlim=(-2, 8), ylim=(0, 26))
        right.set(title="J(w) = (w₁² + 10 w₂²)/2", xlabel="w₁", ylabel="w₂",
                  xlim=(-4.6, 2), ylim=(-1.7, 1.7))  # fmt: skip
        for axes in (left, right):
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13))


def draw_elman_step(table: Path, path: Path) -> None:
    """Every number that the layer gives too: by hand a ring, by the layer a cross in it."""
    rows = pd.read_csv(table).dropna(subset=["layer"])
    with picture(path) as figure:
        axes = figure.add_subplot()
        axes.axhline(0, color=BLACK, linewidth=1)
        axes.plot(rows["quantity"], rows["by_hand"], "o", color=BLUE, markersize=16,
                  markerfacecolor="none", markeredgewidth=2.5, label="by hand")  # fmt: skip
        axes.plot(rows["quantity"], rows["layer"], "x", color=VERMILION, markersize=9,
                  markeredgewidth=2.5, label="npnlp.layers.Elman")  # fmt: skip
        axes.set_xticks(range(len(rows)), rows["quantity"], rotation=50, ha="right")
        axes.set(
            title="One Elman step, forward and back: two ways to the same numbers",
            xlabel="quantity, unit or entry in brackets", ylabel="value",
        )  # fmt: skip
        axes.legend()


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
    options = script_parser(__doc__, "out/chain_rule").parse_args()
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
        draw(options.out / f"{table}.csv", options.out / f"{name}.png")
    report(parts)
    return DONE if sound(parts) else FAILED


#: The table that each picture is drawn from.
PICTURES: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "chain_rule_products": ("chain_rule_products", draw_chains),
    "chain_rule_derivatives": ("chain_rule_step_sizes", draw_derivatives),
    "chain_rule_descent": ("chain_rule_descent", draw_descents),
    "chain_rule_elman_step": ("chain_rule_elman_step", draw_elman_step),
}


if __name__ == "__main__":
    sys.exit(guarded("chain_rule.py", main))
