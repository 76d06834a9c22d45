// From the states of the last layer to one vector, and back. hidden: the states of all steps;
// last: the last state of each direction, side by side.

const POOLINGS = {
  last: {
    pool: (hidden, last) => ({ y: last, memory: null }), // (1)
    undo: (dy, hidden) => ({ dHidden: hidden.map((h) => zeros(h.length)), dLast: dy }), // undoes (1)
  },
  mean: {
    pool(hidden) {
      return { y: scaled(hidden.reduce(plus), 1 / hidden.length), memory: null }; // (1)
    },
    undo(dy, hidden) {
      return { dHidden: hidden.map(() => scaled(dy, 1 / hidden.length)), dLast: null }; // undoes (1)
    },
  },
  max: {
    pool(hidden) {
      const steps = hidden[0].map((_, unit) => largestFirst(hidden.map((h) => h[unit]))[0]); // (1)
      return { y: steps.map((step, unit) => hidden[step][unit]), memory: steps }; // (2)
    },
    undo(dy, hidden, steps) {
      const at = (t) => dy.map((d, unit) => (steps[unit] === t ? d : 0));
      return { dHidden: hidden.map((_, t) => at(t)), dLast: null }; // undoes (2)
    },
  },
  attention: {
    pool(hidden, last, w) {
      const u = hidden.map((h) => plus(times(w.weight, h), w.bias).map(Math.tanh)); // (1), (2)
      const e = u.map((own) => dot(own, w.context)); // (3)
      const alpha = softmax(Float64Array.from(e)); // (4)
      const y = hidden.map((h, t) => scaled(h, alpha[t])).reduce(plus); // (5)
      return { y, memory: { u, alpha } };
    },
    undo(dy, hidden, { u, alpha }, w) {
      const dAlpha = Float64Array.from(hidden, (h) => dot(dy, h)); // undoes (5): alpha
      const mean = dot(alpha, dAlpha);
      const dHidden = hidden.map((h, t) => {
        const dE = alpha[t] * (dAlpha[t] - mean); // undoes (4)
        const dA = w.context.map((c, n) => dE * c * (1 - u[t][n] * u[t][n])); // undoes (3), (2)
        return plus(scaled(dy, alpha[t]), timesTransposed(w.weight, dA)); // undoes (5): h; (1)
      });
      return { dHidden, dLast: null };
    },
  },
};
