// One model: what it believes, its states, and the gradient that flows back.

/** The classes that are shown. */
const SHOWN = 5;

class Panel {
  constructor(model, box) {
    this.model = model;
    this.layer = model.layers - 1;
    [this.way, this.part] = [0, 0];
    this.weights = { trained: weightsOf(model, 1), untrained: weightsOf(model, 1, model.first) };
    this.norms = [model.first, model.tensors].map(sizeOfRecurrent).map((size) => figure(size));
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

  /** Compute all that is drawn of a name; false where there is nothing to read.
   *
   * The classes of L are those of the trained weights at scale 1, whichever are shown.
   */
  compute(name, scale, untrained = false) {
    const { model } = this;
    this.untrained = untrained;
    this.parts = asRead(model, name);
    if (!this.parts.length) return false;
    this.part = Math.min(this.part, this.parts.length - 1);
    const [mine, others] = untrained ? ["untrained", "trained"] : ["trained", "untrained"];
    const weights =
      scale === 1 ? this.weights[mine] : weightsOf(model, scale, untrained ? model.first : model.tensors);
    const of = (some, tokens) => softmax(forward(model, some, tokens).logits);
    const tokens = this.parts.map((part) => tokensOf(model, part));
    const own = tokens[this.part];
    const classes = largestFirst(of(this.weights.trained, own)).slice(0, 2);
    this.classes = classes.length > 1 ? classes : [0, 0];
    this.whole = averaged(this.parts, tokens.map((each) => of(weights, each)));
    this.found = look(model, weights, own, this.classes, this.layer, this.way);
    this.atOne = scale === 1 ? null : this.lookAtOne(own, mine);
    this.other = this.lookAtOne(own, others);
    this.letters = [...this.parts[this.part]];
    return true;
  }

  /** The same at scale 1, which a slider that moves leaves as it is. */
  lookAtOne(tokens, which) {
    const asked = [...tokens, this.layer, this.way].join();
    if (this.asked !== asked) [this.asked, this.kept] = [asked, {}];
    this.kept[which] ??= look(this.model, this.weights[which], tokens, this.classes, this.layer, this.way);
    return this.kept[which];
  }

  /** The numbers that the y axis holds; with those of the other weights, so that it stays as it is. */
  get sizes() {
    const looks = [this.found, this.other, this.atOne ?? this.other];
    return looks.flatMap((each) => [...each.relative, ...each.products]);
  }

  draw(range) {
    this.shown = this.letters.map((letter) => (letter.trim() ? letter : "␣"));
    this.gutter = parseFloat(getComputedStyle(this.root).getPropertyValue("--gutter"));
    this.root.style.setProperty("--letters", this.letters.length);
    translate(this.root);
    this.drawHead();
    this.drawBelieves();
    this.drawStates();
    drawFlow(this, range);
    this.showEnd();
  }

  get title() {
    const { model } = this;
    const shape = say(model.bidirectional ? "shapeBoth" : "shape", {
      cell: say(`cell_${model.cell}`), units: model.units, layers: model.layers,
    });
    const whole = `${shape}, ${say(this.untrained ? "untrained" : "trained")}`;
    return model.label ? `${model.label}: ${whole}` : whole;
  }

  /** Where a new name is too wide, show the letter from which the gradient is read. */
  showEnd() {
    const read = [...this.parts, this.part, this.way].join();
    if (this.ended === read) return;
    this.ended = read;
    const box = this.get(".flow .scroll");
    box.scrollLeft = this.way ? 0 : box.scrollWidth;
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
    const [before, after] = this.norms;
    const notes = [
      say(this.untrained ? "untrainedNote" : "trainedNote", { before, after }),
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
}

/** The Frobenius norm of every W_hh among some tensors. */
function sizeOfRecurrent(tensors) {
  return norm(beside(Object.keys(tensors).filter((n) => n.includes("weight_hh")).map((n) => tensors[n])));
}
