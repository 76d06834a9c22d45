// One model: what it believes, its states, and the gradient that flows back.

/** The classes that are shown. */
const SHOWN = 5;
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

class Panel {
  constructor(model, box) {
    this.model = model;
    this.layer = model.layers - 1;
    [this.way, this.part] = [0, 0];
    this.trained = weightsOf(model, 1);
    box.append(document.getElementById("panel").content.cloneNode(true));
    this.root = box.lastElementChild;
    this.get = (selector) => this.root.querySelector(selector);
    this.get(".of-part select").onchange = (event) => this.choose({ part: Number(event.target.value) });
    this.get(".of-chain select").onchange = (event) => {
      const place = Number(event.target.value);
      const ways = model.bidirectional ? 2 : 1;
      this.choose({ layer: Math.floor(place / ways), way: place % ways });
    };
  }

  choose(chosen) {
    Object.assign(this, chosen);
    refresh();
  }

  /** Compute all that is drawn of a name; false where there is nothing to read. */
  compute(name, scale) {
    const { model, trained } = this;
    this.parts = asRead(model, name);
    if (!this.parts.length) return false;
    this.part = Math.min(this.part, this.parts.length - 1);
    const weights = scale === 1 ? trained : weightsOf(model, scale);
    const of = (some, tokens) => softmax(forward(model, some, tokens).logits);
    const tokens = this.parts.map((part) => tokensOf(model, part));
    const own = tokens[this.part];
    const classes = largestFirst(of(trained, own)).slice(0, 2);
    this.classes = classes.length > 1 ? classes : [0, 0];
    this.whole = averaged(this.parts, tokens.map((each) => of(weights, each)));
    this.found = look(model, weights, own, this.classes, this.layer, this.way);
    this.asTrained = scale === 1 ? null : this.lookAsTrained(own);
    this.letters = [...this.parts[this.part]];
    return true;
  }

  /** The same at scale 1, which a slider that moves leaves as it is. */
  lookAsTrained(tokens) {
    const asked = [...tokens, this.layer, this.way].join();
    if (this.asked !== asked) {
      this.asked = asked;
      this.kept = look(this.model, this.trained, tokens, this.classes, this.layer, this.way);
    }
    return this.kept;
  }

  /** The numbers that the y axis of the flow has to hold. */
  get sizes() {
    const looks = this.asTrained ? [this.found, this.asTrained] : [this.found];
    return looks.flatMap((each) => [...each.gradients, ...each.products]);
  }

  draw(range, scale) {
    this.shown = this.letters.map((letter) => (letter.trim() ? letter : "␣"));
    this.gutter = parseFloat(getComputedStyle(this.root).getPropertyValue("--gutter"));
    this.root.style.setProperty("--letters", this.letters.length);
    translate(this.root);
    this.drawHead();
    this.drawBelieves();
    this.drawStates();
    this.drawFlow(range, scale);
  }

  get title() {
    const { model } = this;
    const shape = say(model.bidirectional ? "shapeBoth" : "shape", {
      cell: say(`cell_${model.cell}`), units: model.units, layers: model.layers,
    });
    return model.label ? `${model.label}: ${shape}` : shape;
  }

  drawHead() {
    const { model, whole } = this;
    this.get("h2").textContent = this.title;
    const [first, second] = largestFirst(whole);
    this.get(".answer").replaceChildren(
      element("strong", `${model.classes[first]} ${percent(whole[first])}`),
      element("span", second === undefined ? "" : `${model.classes[second]} ${percent(whole[second])}`),
    );
    const unknown = [...new Set(this.parts.join(""))].filter((letter) => !model.tokens.has(letter));
    const notes = [
      this.parts.length > 1 && say("inParts", { parts: this.parts.join(" + ") }),
      unknown.length && say("neverSeen", { letters: unknown.join(" ") }),
    ];
    this.get(".notes").textContent = notes.filter(Boolean).join(" ");
    this.fillSelect(".of-part", this.parts, this.part);
    const chains = Array.from({ length: model.layers }, (_, k) =>
      (model.bidirectional ? ["forwards", "backwards"] : ["layer"]).map((key) => say(key, { layer: k + 1 })),
    ).flat();
    this.fillSelect(".of-chain", chains, this.layer * (model.bidirectional ? 2 : 1) + this.way);
  }

  fillSelect(selector, names, chosen) {
    const label = this.get(selector);
    label.hidden = names.length < 2;
    const options = names.map((name, n) => new Option(name, n, n === chosen, n === chosen));
    label.querySelector("select").replaceChildren(...options);
  }

  drawBelieves() {
    const { model, found, letters } = this;
    const heads = letters.map((letter) => letterHead(letter, model.tokens.has(letter)));
    const table = believesTable(letters, heads, model.classes, found.probabilities, SHOWN);
    table.classList.add("wide");
    this.get(".believes .scroll").replaceChildren(table);
  }

  drawStates() {
    const { found, shown: letters } = this;
    const canvas = this.get("canvas");
    const most = drawStates(canvas, found.hidden, letters, this.gutter);
    canvas.setAttribute("aria-label", say("statesPicture", {
      units: found.hidden[0].length, name: this.parts[this.part],
    }));
    this.get(".low").textContent = `−${figure(most)}`;
    this.get(".high").textContent = figure(most);
    offerTable(this.get(".states details"), say("statesTitle"), () =>
      tableOf(say("statesTitle"), [say("unitColumn"), ...letters],
        Array.from(found.hidden[0], (_, unit) => [
          String(unit + 1), ...found.hidden.map((h) => minus(h[unit].toFixed(3))),
        ])));
  }

  drawFlow(range, scale) {
    const { model, found, asTrained, shown: letters } = this;
    const [gradient, product, soft] = ["--gradient", "--product", "--soft"].map(colour);
    const curves = [
      { values: found.gradients, colour: gradient },
      { values: found.products, colour: product, dash: [8, 6] },
    ];
    if (asTrained) {
      const ghost = { colour: soft, width: 2, points: false };
      curves.unshift({ ...ghost, values: asTrained.gradients },
        { ...ghost, values: asTrained.products, dash: [8, 6] });
    }
    this.get(".of-cell").textContent = say(`flow_${model.cell}`) + (this.way ? ` ${say("fromTheEnd")}` : "");
    this.get(".flow .formula").replaceChildren(formula(FORMULAS[model.cell]));
    const ofG = say("ofG", {
      first: model.classes[this.classes[0]], second: model.classes[this.classes[1]],
    });
    const several = model.layers > 1 || model.bidirectional;
    this.get(".of-g").textContent = several ? `${ofG} ${say("throughAll")}` : ofG;
    this.drawLegend(Boolean(asTrained));
    const said = this.figures(scale);
    drawCurves(this.get(".flow .chart"), curves, {
      labels: letters, range, log: true, gutter: this.gutter, height: 320, title: said.join(" "),
    });
    this.drawFactors();
    this.get(".figures").replaceChildren(...said.map((text) => element("span", text)));
    offerTable(this.get(".flow details"), say("flowTitle"), () =>
      tableOf(say("flowTitle"),
        [say("letterColumn"), say("gradientColumn"), say("stateColumn"), say("productColumn")],
        letters.map((letter, n) => [
          letter, ...[found.gradients, found.atStates, found.products].map((of) => figure(of[n])),
        ])));
  }

  /** Below each letter, what the gradient was multiplied by since the letter that it came from. */
  drawFactors() {
    const { gradients } = this.found;
    const from = this.way ? -1 : 1;
    const factors = gradients.map((value, n) => {
      const factor = value / gradients[n + from];
      return n + from in gradients && Number.isFinite(factor) ? figure(factor, 2) : "";
    });
    const row = [say("factorRow"), ...factors].map((text) => element("span", text));
    this.get(".factors").replaceChildren(...row);
  }

  drawLegend(withTrained) {
    const kinds = [["gradient", "gradientLegend"], ["product", "productLegend"]];
    if (withTrained) kinds.push(["trained", "trainedLegend"]);
    this.get(".legend").replaceChildren(...kinds.map(([name, key]) => {
      const item = element("span");
      item.append(element("span", "", `swatch ${name}`), say(key));
      return item;
    }));
  }

  /** What the flow comes to, in figures. */
  figures(scale) {
    const { found, letters, way } = this;
    const from = way ? letters.length - 1 : 0;
    const [product, steps] = [found.products[from], letters.length];
    const values = {
      letter: this.shown[from], product: figure(product), factor: figure(product ** (1 / steps)),
      share: figure(found.gradients[from] / found.gradients[letters.length - 1 - from]),
      last: this.shown[letters.length - 1 - from], scale: scale.toFixed(2),
    };
    return [say("productFigure", values), say("factorFigure", values), say("shareFigure", values)];
  }
}
