// One unit, with its three sliders and three cases to try.

const unitControls = Object.fromEntries(
  ["w", "h", "t"].map((name) => [name, document.getElementById(`unit-${name}`)]),
);
/** The cases, with the weight and the first state of each. */
const CASES = { unitVanish: [0.9, 0.5], unitSaturate: [1.5, 0.5], unitExplode: [1.5, 0] };
const SEEN = { unitVanish: "unitVanishSeen", unitSaturate: "unitSaturateSeen", unitExplode: "unitExplodeSeen" };

function setUnit(key) {
  [unitControls.w.value, unitControls.h.value] = CASES[key];
  unitControls.t.value = 16;
  refresh();
}

function drawUnit(gutter) {
  const [w, first, steps] = ["w", "h", "t"].map((name) => Number(unitControls[name].value));
  const { states, slopes: factors, products } = orbit(w, first, steps);
  const texts = { w: minus(w.toFixed(2)), h: minus(first.toFixed(2)), t: String(steps) };
  for (const [name, text] of Object.entries(texts)) {
    document.getElementById(`unit-${name}-value`).textContent = text;
  }
  const product = products.at(-1);
  const said = [
    say("unitProduct", { product: figure(product), steps }),
    say("unitFactor", { factor: figure(Math.abs(product) ** (1 / steps)) }),
  ];
  document.getElementById("unit-figures").replaceChildren(...said.map((text) => element("span", text)));
  sayWhatIsSeen(w, first, states.at(-1), factors.at(-1));
  const labels = states.map((_, t) => String(t));
  const shared = { labels, gutter, height: 230, every: Math.ceil(steps / 8) };
  drawCurves(document.getElementById("unit-states"), [{ values: states, colour: colour("--product") }], {
    ...shared, range: [-1.05, 1.05], title: say("unitStates"),
  });
  const sizes = products.map(Math.abs);
  document.getElementById("unit-missing").textContent = sizes.every(isDrawable) ? "" : say("missing");
  drawCurves(document.getElementById("unit-products"), [{ values: sizes, colour: colour("--gradient") }], {
    ...shared, log: true, range: exponentsOf(sizes), title: said[0],
  });
  offerTable(document.getElementById("unit-table"), say("unitTitle"), () =>
    tableOf(say("unitTitle"), ["t", say("unitStates"), say("unitFactors"), say("unitProducts")],
      states.map((h, t) => [String(t), figure(h), t ? figure(factors[t - 1]) : "", figure(products[t])])));
}

/** The sentence of the case that the sliders are at, and the last factor in its two parts. */
function sayWhatIsSeen(w, first, h, factor) {
  const found = Object.keys(CASES).find((key) => CASES[key][0] === w && CASES[key][1] === first);
  for (const button of document.querySelectorAll("[data-case]")) {
    button.setAttribute("aria-pressed", String(button.dataset.case === found));
    button.onclick = () => setUnit(button.dataset.case);
  }
  const values = { w: minus(String(w)), h: figure(h, 2), slope: figure(1 - h * h, 2), factor: figure(factor, 2) };
  const texts = [found ? say(SEEN[found]) : "", say("unitLast", values)];
  const text = texts.filter(Boolean).join(" ");
  const box = document.getElementById("unit-seen");
  if (box.textContent !== text) box.textContent = text;
}
