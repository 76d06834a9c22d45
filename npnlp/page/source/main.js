// The page: its models, its controls, and when what is drawn.

/** A model of the page with its tensors unpacked; first are those before training. */
function unpacked(model) {
  const [tensors, first] = [model.data, model.untrained].map((data) => named(model, fromBase64(data)));
  return { ...model, tensors, first, tokens: new Map(Object.entries(model.tokens)) };
}

function named(model, all) {
  let at = 0;
  const tensors = {};
  for (const [name, size] of model.tensors) {
    tensors[name] = all.subarray(at, at + size);
    at += size;
  }
  return tensors;
}

const models = JSON.parse(document.getElementById("model-data").textContent).map(unpacked);
const [nameInput, scaleInput] = ["name", "scale"].map((id) => document.getElementById(id));
const modelsBox = document.getElementById("models");
const panels = models.map((model) => new Panel(model, modelsBox));
modelsBox.classList.toggle("two", panels.length > 1);

/** Milliseconds of rest after which a screen reader is told. */
const REST = 700;
let waiting = 0;
/** Which weights are shown: those before training, or those after it. */
let untrained = false;

function drawNames() {
  const scale = Number(scaleInput.value);
  document.getElementById("scale-value").textContent = scale.toFixed(2);
  scaleInput.setAttribute("aria-valuetext", say("scaleValue", { scale: scale.toFixed(2) }));
  const some = panels.map((panel) => panel.compute(nameInput.value, scale, untrained));
  modelsBox.hidden = !some.every(Boolean);
  document.getElementById("nothing").hidden = !modelsBox.hidden;
  if (modelsBox.hidden) return tell(say("nothing"));
  const range = exponentsOf(panels.flatMap((panel) => panel.sizes));
  for (const panel of panels) panel.draw(range);
  tell(panels.map((panel) => `${panel.title}. ${panel.get(".answer strong").textContent}. ` +
    flowFigures(panel)[0][1]).join(" "));
}

/** Tell a screen reader, once the typing rests. */
function tell(text) {
  clearTimeout(waiting);
  waiting = setTimeout(() => (document.getElementById("said").textContent = text), REST);
}

const gutterOf = (node) => parseFloat(getComputedStyle(node).getPropertyValue("--gutter"));

let asked = false;
/** Draw all of it again, at most once a frame. */
function refresh() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    drawNames();
    drawUnit(Math.min(64, gutterOf(document.getElementById("unit"))));
  });
}

function setLanguage(language) {
  shown.language = language;
  document.documentElement.lang = language;
  translate(document);
  document.title = say("title");
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
    button.onclick = () => setLanguage(button.dataset.language);
  }
  setTheme(document.documentElement.dataset.theme);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.textContent = say(theme === "dark" ? "light" : "dark");
  button.onclick = () => setTheme(theme === "dark" ? "light" : "dark");
  refresh();
}

function setWeights(which) {
  untrained = which === "untrained";
  for (const button of document.querySelectorAll("[data-weights]")) {
    button.setAttribute("aria-pressed", String(button.dataset.weights === which));
    button.onclick = () => setWeights(button.dataset.weights);
  }
  refresh();
}

nameInput.value = models[0].example;
for (const input of [nameInput, scaleInput, ...Object.values(unitControls)]) input.oninput = refresh;
document.querySelector("form").onsubmit = (event) => event.preventDefault();
document.getElementById("reset").onclick = () => {
  scaleInput.value = 1;
  refresh();
};
new ResizeObserver(refresh).observe(document.querySelector("main"));
const wantsDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
document.documentElement.dataset.theme = wantsDark ? "dark" : "light";
setLanguage(shown.language);
setWeights("trained");

/** For whoever wants the numbers themselves: type npnlp.explain("Nakamoto") into the console. */
window.npnlp = {
  models,
  orbit,
  tokens: (place, name) => asRead(models[place], name).map((part) => tokensOf(models[place], part)),
  explain(name, options = {}) {
    const { place = 0, scale = 1, layer = models[place].layers - 1, way = 0, part = 0 } = options;
    const panel = panels[place];
    const kept = { layer: panel.layer, way: panel.way, part: panel.part };
    Object.assign(panel, { layer, way, part });
    const read = panel.compute(name, scale, options.untrained);
    Object.assign(panel, kept);
    return read && { parts: panel.parts, whole: panel.whole, classes: panel.classes, ...panel.found };
  },
};
