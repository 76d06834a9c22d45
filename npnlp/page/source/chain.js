// A cell along a sequence, back through time, and the product of its Jacobians.

/** All steps of a cell along the inputs xs: their states, those before them, and their memory. */
function runChain(cell, xs, w) {
  let before = Array.from({ length: cell.states }, () => zeros(w.hh.length / w.bhh.length));
  return xs.map((x) => {
    const u = plus(times(w.ih, x), w.bih); // (1)
    const step = { before, ...cell.step(u, before, w) }; // (2)
    before = step.now;
    return step;
  });
}

/** From dL/dh of every step, dL/dx and dL/d states of every step: backpropagation in time. */
function undoChain(cell, steps, dHidden, w) {
  const [dX, dStates] = [new Array(steps.length), new Array(steps.length)];
  let d = steps[0].now.map((state) => zeros(state.length));
  for (let t = steps.length - 1; t >= 0; t--) {
    const [dH, ...others] = d;
    dStates[t] = [plus(dH, dHidden[t]), ...others]; // what later steps want, and what is above
    const undone = cell.undo(dStates[t], steps[t], w); // undoes (2)
    dX[t] = timesTransposed(w.ih, undone.dU); // undoes (1)
    d = undone.before;
  }
  return { dX, dStates };
}

/** What d = dL/d states of a step is multiplied by on its way to the step before: |J^T d| / |d|.
 *
 * Of an Elman cell, J^T d = W_hh^T v with v = phi'(a) d, in two parts whose product is the factor:
 * the slope's, |v| / |d|, and the weights', |W_hh^T v| / |v|. NaN where nothing is left to divide by.
 */
function factorOf(cell, step, d, w) {
  const [whole, back] = [norm(beside(d)), norm(beside(cell.undo(d, step, w).before))];
  if (!cell.sloped) return { factor: back / whole };
  const sloped = norm(cell.sloped(d, step));
  return { slope: sloped / whole, weights: back / sloped, factor: back / whole };
}

/** For every step k the norm of J_T ... J_{k+1}: the most by which any gradient can be kept. */
function productNorms(cell, steps, w) {
  const units = w.hh.length / w.bhh.length;
  return steps.map((_, k) => {
    const later = steps.slice(k + 1);
    const forth = (v) => beside(later.reduce((s, t) => cell.push(s, t, w), parts(v, cell.states)));
    const back = (d) =>
      beside(later.reduceRight((s, t) => cell.undo(s, t, w).before, parts(d, cell.states)));
    return later.length ? largestSingularValue(forth, back, units * cell.states) : 1;
  });
}

/** Golub and Kahan's steps at most, and the change at which they end. */
const [MOST_STEPS, SMALL_CHANGE] = [80, 1e-9];

/** The largest singular value of A, given v -> A v and d -> A^T d.
 *
 * A = U B V^T with a B of two diagonals, column by column, each made orthogonal to those before
 * (Golub and Kahan, 1965). The largest singular value of B's first columns rises to that of A.
 */
function largestSingularValue(forth, back, size) {
  const [us, vs, diagonal, above] = [[], [], [], []];
  const start = Float64Array.from({ length: size }, (_, n) => 1 + 0.5 * Math.sin(7.3 * n + 1));
  let v = scaled(start, 1 / norm(start));
  let [found, still] = [0, 0];
  for (let step = 0; step < Math.min(size, MOST_STEPS); step++) {
    vs.push(v);
    let u = orthogonal(forth(v), us);
    const alpha = norm(u);
    if (!Number.isFinite(alpha)) return Infinity;
    diagonal.push(alpha);
    const before = found;
    found = largestOfBidiagonal(diagonal, above);
    still = found - before <= SMALL_CHANGE * found ? still + 1 : 0;
    if (still === 3 || found === 0) return found;
    u = alpha > 0 ? scaled(u, 1 / alpha) : u;
    us.push(u);
    const next = orthogonal(back(u), vs);
    const beta = norm(next);
    if (!(beta > 1e-14 * found)) return found;
    above.push(beta);
    v = scaled(next, 1 / beta);
  }
  return found;
}

/** A vector less its parts along others that are orthonormal; twice, for what rounding leaves. */
function orthogonal(vector, others) {
  let rest = vector;
  for (let pass = 0; pass < 2; pass++) {
    for (const other of others) {
      const along = dot(rest, other);
      rest = rest.map((value, n) => value - along * other[n]);
    }
  }
  return rest;
}

/** The largest singular value of the matrix with this diagonal and this one above it. */
function largestOfBidiagonal(diagonal, above) {
  const most = Math.max(...diagonal, ...above);
  if (most === 0) return 0;
  const [a, b] = [diagonal.map((value) => value / most), above.map((value) => value / most)];
  // The eigenvalues of B^T B below x are as many as the pivots of B^T B - x below zero.
  const below = (x) => {
    let [count, pivot] = [0, 1];
    for (let n = 0; n < a.length; n++) {
      const off = n ? (a[n - 1] * b[n - 1]) ** 2 : 0;
      pivot = a[n] ** 2 + (n ? b[n - 1] ** 2 : 0) - x - (n ? off / pivot : 0);
      if (pivot === 0) pivot = 1e-300;
      if (pivot < 0) count++;
    }
    return count;
  };
  let [low, high] = [0, 4];
  for (let halving = 0; halving < 60; halving++) {
    const middle = (low + high) / 2;
    if (below(middle) === a.length) high = middle;
    else low = middle;
  }
  return most * Math.sqrt(high);
}
