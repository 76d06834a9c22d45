// The whole classifier: tokens to logits, and the gradient of one difference of logits back.

/** The tensors t of a model by what uses them, every W_hh multiplied by scale. */
function weightsOf(model, scale, t = model.tensors) {
  const linear = (name) => t[`${name}.weight`] && { w: t[`${name}.weight`], b: t[`${name}.bias`] };
  const suffixes = model.bidirectional ? ["", "_reverse"] : [""];
  const layers = Array.from({ length: model.layers }, (_, k) =>
    suffixes.map((suffix) => {
      const of = (name) => t[`rnn.${name}_l${k}${suffix}`];
      const hh = scale === 1 ? of("weight_hh") : scaled(of("weight_hh"), scale);
      return { ih: of("weight_ih"), hh, bih: of("bias_ih"), bhh: of("bias_hh") };
    }),
  );
  const pool = { weight: t["pool.weight"], bias: t["pool.bias"], context: t["pool.context"] };
  return { embedding: t["emb.weight"], layers, pool, fc1: linear("fc1"), fc2: linear("fc2") };
}

const reversed = (list, direction) => (direction ? [...list].reverse() : list);

/** Logits of a sequence of tokens, with all that the way back needs. */
function forward(model, weights, tokens) {
  const cell = CELLS[model.cell];
  const size = model.embedding;
  let xs = tokens.map((token) => weights.embedding.subarray(token * size, (token + 1) * size));
  const layers = weights.layers.map((directions) => {
    const chains = directions.map((w, direction) => runChain(cell, reversed(xs, direction), w));
    xs = xs.map((_, t) => beside(chains.map((steps, way) => reversed(steps, way)[t].now[0])));
    return chains;
  });
  const last = beside(layers.at(-1).map((steps) => steps.at(-1).now[0]));
  const pools = model.poolings.map((name) => POOLINGS[name].pool(xs, last, weights.pool));
  const pooled = beside(pools.map((pool) => pool.y));
  const { fc1, fc2 } = weights;
  const a = fc1 ? plus(times(fc1.w, pooled), fc1.b) : pooled; // (a)
  const z = fc1 ? a.map((value) => Math.max(value, 0)) : a; // (b)
  const logits = plus(times(fc2.w, z), fc2.b); // (c)
  return { layers, hidden: xs, pools, a, logits };
}

/** dL/de of every token, and dL/d states of every step of every chain; L = logits . direction. */
function backward(model, weights, found, direction) {
  const cell = CELLS[model.cell];
  const { layers, hidden, pools, a } = found;
  const { fc1, fc2 } = weights;
  let d = timesTransposed(fc2.w, direction); // undoes (c)
  if (fc1) d = timesTransposed(fc1.w, d.map((value, n) => (a[n] > 0 ? value : 0))); // undoes (b), (a)
  let dXs = dHiddenOf(model, weights, hidden, pools, d);
  const dStates = layers.map(() => []);
  for (let k = layers.length - 1; k >= 0; k--) {
    const ways = layers[k].length;
    const ofWay = layers[k].map((steps, way) => {
      const dHidden = reversed(dXs.map((dX) => parts(dX, ways)[way]), way);
      const undone = undoChain(cell, steps, dHidden, weights.layers[k][way]);
      dStates[k][way] = undone.dStates;
      return reversed(undone.dX, way);
    });
    dXs = ofWay[0].map((dX, t) => ofWay.slice(1).reduce((sum, other) => plus(sum, other[t]), dX));
  }
  return { dX: dXs, dStates };
}

/** What the poolings pass to the states of the last layer. */
function dHiddenOf(model, weights, hidden, pools, d) {
  const dXs = hidden.map((h) => zeros(h.length));
  const ways = weights.layers.at(-1).length;
  parts(d, pools.length).forEach((dy, place) => {
    const pooling = POOLINGS[model.poolings[place]];
    const undone = pooling.undo(dy, hidden, pools[place].memory, weights.pool);
    undone.dHidden.forEach((dH, t) => dXs[t].set(plus(dXs[t], dH)));
    // The last state of the reversed direction is the one at the first token.
    parts(undone.dLast ?? zeros(dy.length), ways).forEach((dH, way) => {
      const own = parts(dXs[way ? 0 : dXs.length - 1], ways)[way];
      own.set(plus(own, dH));
    });
  });
  return dXs;
}

/** The logit of one class less that of another. */
function directionOf(classes, first, second) {
  const direction = zeros(classes);
  direction[second] -= 1;
  direction[first] += 1;
  return direction;
}

/** The probabilities after each letter of a name, the last ones those of the whole name. */
function probabilitiesAfter(model, weights, tokens) {
  const end = tokens.at(-1);
  return tokens.slice(1, -1).map((_, n) => {
    const upTo = [...tokens.slice(0, n + 2), end];
    return softmax(forward(model, weights, upTo).logits);
  });
}

/** All that is drawn of one name: tokens, the weights, the two classes of L, and the chain.
 *
 * Lists have an entry for each letter. The end is the letter that the chain reads last; relative and
 * products, which go back from there, are 1 at it, and factors are null.
 */
function look(model, weights, tokens, classes, layer, way) {
  const found = forward(model, weights, tokens);
  const direction = directionOf(model.classes.length, ...classes);
  const undone = backward(model, weights, found, direction);
  const steps = found.layers[layer][way];
  const [cell, w] = [CELLS[model.cell], weights.layers[layer][way]];
  const dStates = undone.dStates[layer][way];
  const inOrder = (list) => reversed(list.slice(1, -1), way);
  const atStates = dStates.slice(1, -1).map((d) => norm(beside(d)));
  const factors = dStates.slice(2, -1).map((d, n) => factorOf(cell, steps[n + 2], d, w));
  const products = productNorms(cell, steps.slice(0, -1), w);
  return {
    probabilities: probabilitiesAfter(model, weights, tokens),
    difference: dot(found.logits, direction),
    hidden: inOrder(steps.map((step) => step.now[0])),
    gradients: undone.dX.slice(1, -1).map(norm),
    atStates: reversed(atStates, way),
    relative: reversed(atStates.map((value) => value / atStates.at(-1)), way),
    factors: reversed([...factors, null], way),
    products: reversed(products.slice(1), way),
  };
}
