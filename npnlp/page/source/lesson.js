// One unit, with its three sliders.

const unitControls = Object.fromEntries(
  ["w", "h", "t"].map((name) => [name, document.getElementById(`unit-${name}`)]),
);

function drawUnit(gutter) {
  const [w, first, steps] = ["w", "h", "t"].map((name) => Number(unitControls[name].value));
  const { states, slopes, products } = orbit(w, first, steps);
  const texts = { w: minus(w.toFixed(2)), h: minus(first.toFixed(2)), t: String(steps) };
  for (const [name, text] of Object.entries(texts)) {
    document.getElementById(`unit-${name}-value`).textContent = text;
  }
  const product = products.at(-1);
  const values = { product: figure(product), steps, factor: figure(Math.abs(product) ** (1 / steps)) };
  const said = [say("unitProduct", values), say("unitFactor", values)];
  document.getElementById("unit-figures").replaceChildren(...said.map((text) => element("span", text)));
  const labels = states.map((_, t) => String(t));
  const shared = { labels, gutter, height: 260, every: Math.ceil(steps / 8) };
  drawCurves(document.getElementById("unit-states"), [{ values: states, colour: colour("--product") }], {
    ...shared, range: [-1.05, 1.05], title: say("unitStates"),
  });
  const sizes = products.map(Math.abs);
  drawCurves(document.getElementById("unit-products"), [{ values: sizes, colour: colour("--gradient") }], {
    ...shared, log: true, range: exponentsOf(sizes), title: said[0],
  });
  offerTable(document.getElementById("unit-table"), say("unitTitle"), () =>
    tableOf(say("unitTitle"), ["t", say("unitStates"), say("unitSlopes"), say("unitProducts")],
      states.map((h, t) => [String(t), figure(h), t ? figure(slopes[t - 1]) : "", figure(products[t])])));
}
