// The gradient that flows back through one panel's chain, with the factors below its letters.

const FORMULAS = {
  elman_tanh: "∂L/∂h<t−1> = W<hh>ᵀ diag(1 − h<t>²) ∂L/∂h<t>",
  elman_relu: "∂L/∂h<t−1> = W<hh>ᵀ diag(a<t> > 0) ∂L/∂h<t>",
  gru: "∂h<t>/∂h<t−1> = diag(z) + D<r> W<hr> + D<z> W<hz> + D<n> W<hn>",
  gru_reset_before: "∂h<t>/∂h<t−1> = diag(z) + D<z> W<hz> + D<n> W<hn> (diag(r) + D<r> W<hr>)",
  lstm: "∂c<t>/∂c<t−1> = diag(f)    ∂c<t>/∂h<t−1> = D<i> W<hi> + D<f> W<hf> + D<g> W<hg>",
};

/** What a text with <subscripts> looks like. */
function formula(text) {
  const line = element("span");
  line.append(...text.split(/<([^<>]+)>/).map((part, n) => (n % 2 ? element("sub", part) : part)));
  return line;
}

/** A text behind the mark of the curve that it belongs to. */
function marked(kind, text) {
  const item = element("span");
  if (kind) item.append(element("span", "", `swatch ${kind}`));
  item.append(text);
  return item;
}

function drawFlow(panel, range) {
  const { found, atOne, shown: letters } = panel;
  const [gradient, product, soft] = ["--gradient", "--product", "--soft"].map(colour);
  const dash = [8, 6];
  const curves = [
    { values: found.products, colour: product, width: 2, points: false, dash },
    { values: found.relative, colour: gradient, width: 4 },
  ];
  if (atOne) {
    const ghost = { colour: soft, width: 2, points: false };
    curves.unshift({ ...ghost, values: atOne.relative }, { ...ghost, values: atOne.products, dash });
  }
  writeWords(panel);
  const kinds = { gradient: "gradientLegend", product: "productLegend" };
  if (atOne) Object.assign(kinds, { "at-one": "gradientAtOne", "product at-one": "productAtOne" });
  const legend = Object.entries(kinds).map(([kind, key]) => marked(kind, say(key)));
  panel.get(".legend").replaceChildren(...legend);
  const drawn = [...found.relative, ...found.products];
  panel.get(".missing").textContent = drawn.every(isDrawable) ? "" : say("missing");
  const said = flowFigures(panel);
  drawCurves(panel.get(".flow .chart"), curves, {
    labels: letters, range, log: true, gutter: panel.gutter, height: 320,
    title: said.map(([, text]) => text).join(" "),
  });
  drawFactors(panel);
  panel.get(".figures").replaceChildren(...said.map((each) => marked(...each)));
  offerTable(panel.get(".flow details.table"), say("flowTitle"), () => flowTable(panel));
}

/** Whether an axis of powers of ten has a place for it. */
const isDrawable = (value) => value > 0 && Number.isFinite(value);

function writeWords(panel) {
  const { model, way, layer } = panel;
  panel.get(".of-cell").textContent = say(`flow_${model.cell}`) + (way ? ` ${say("fromTheEnd")}` : "");
  panel.get(".flow .formula").replaceChildren(formula(FORMULAS[model.cell]));
  panel.get(".axis").textContent = say(way ? "axisFromEnd" : "axis");
  const [first, second] = panel.classes.map((label) => model.classes[label]);
  const split = CELLS[model.cell].sloped;
  const direct = layer < model.layers - 1 || model.poolings.join() !== "last";
  const texts = [
    say("exactScore", { first, second }), say("exactLines"), say(split ? "exactParts" : "exactFactor"),
    direct && say("exactDirect"),
  ];
  const box = panel.get(".exact");
  for (const old of box.querySelectorAll("p")) old.remove();
  box.append(...texts.filter(Boolean).map((text) => element("p", text)));
}

/** What a factor has, each with its label: of an Elman cell the weights' part and the slope's too. */
const partsOfFactor = (model) => [
  ...(CELLS[model.cell].sloped ? [["weights", "weightsRow"], ["slope", "slopeRow"]] : []),
  ["factor", "factorRow"],
];

/** Below each letter, what the gradient was multiplied by on its way there, where it can in two parts. */
function drawFactors(panel) {
  const { model, found } = panel;
  const rows = partsOfFactor(model).map(([kind, key]) => {
    const cells = found.factors.map((each) => element("span", each ? figure(each[kind], 2) : ""));
    const row = element("p", "", `factors ${kind}`);
    row.append(element("span", say(key)), ...cells);
    return row;
  });
  panel.get(".rows").replaceChildren(...rows);
}

function flowTable({ model, way, found, shown: letters }) {
  const parts = partsOfFactor(model);
  const heads = [
    "letterColumn", "gradientColumn", way ? "relativeFromEnd" : "relativeColumn", "productColumn",
    ...parts.map(([, key]) => key), "embeddingColumn",
  ];
  const rows = letters.map((letter, n) => {
    const ofStep = parts.map(([kind]) => (found.factors[n] ? figure(found.factors[n][kind]) : ""));
    const before = [found.atStates, found.relative, found.products].map((of) => figure(of[n]));
    return [letter, ...before, ...ofStep, figure(found.gradients[n])];
  });
  return tableOf(say("flowTitle"), heads.map((key) => say(key)), rows);
}

/** What the flow comes to, in figures, each with the mark of its curve. */
function flowFigures({ found, other, shown: letters, way, untrained }) {
  const steps = letters.length - 1;
  if (!steps) return [["", say("noStep")]];
  const [from, to] = way ? [steps, 0] : [0, steps];
  const share = found.relative[from];
  const values = {
    letter: letters[from], last: letters[to], steps, share: figure(share),
    factor: figure(share ** (1 / steps)), product: figure(found.products[from]),
    other: figure(other.relative[from]),
  };
  return [
    ["gradient", say(found.atStates[to] ? "shareFigure" : "zeroFigure", values)],
    ["product", say("productFigure", values)],
    ["", say(untrained ? "afterFigure" : "beforeFigure", values)],
  ];
}
