// One step of each cell, as npnlp/layers/recurrent has it: u = W_ih x + b_ih, w.hh and w.bhh.
//
// step   the states now, and what undo has to remember
// undo   from dL/d states now: dL/du and dL/d states before; each line names what it undoes
// push   J v: how the states now move when those before move by v
// sloped of Elman cells, the first half of undo: dL/dh times the slope of phi

/** 1 / (1 + e^-a); below 0 as e^a / (1 + e^a), so that nothing overflows. */
function sigmoid(a) {
  const e = Math.exp(-Math.abs(a));
  return (a < 0 ? e : 1) / (1 + e);
}

/** h = phi(u + W_hh h_before + b_hh); slope is phi' in terms of h. */
const elman = (phi, slope) => ({
  states: 1,
  sloped: ([dH], { now: [h] }) => dH.map((d, n) => d * slope(h[n])),
  step(u, [hBefore], w) {
    const p = plus(times(w.hh, hBefore), w.bhh); // (1)
    const a = plus(u, p); // (2)
    return { now: [a.map(phi)], memory: null }; // (3)
  },
  undo(d, step, w) {
    const dA = this.sloped(d, step); // undoes (3)
    const dU = dA; // undoes (2)
    return { dU, before: [timesTransposed(w.hh, dA)] }; // undoes (1)
  },
  push([v], { now: [h] }, w) {
    return [times(w.hh, v).map((p, n) => slope(h[n]) * p)];
  },
});

/** The reset gate after the product with W_hn, as PyTorch has it. */
const gru = {
  states: 1,
  step(u, [hBefore], w) {
    const [uR, uZ, uN] = parts(u, 3);
    const [pR, pZ, q] = parts(plus(times(w.hh, hBefore), w.bhh), 3); // (1)
    const r = plus(uR, pR).map(sigmoid); // (2)
    const z = plus(uZ, pZ).map(sigmoid); // (3)
    const n = uN.map((value, k) => Math.tanh(value + r[k] * q[k])); // (4)
    const h = n.map((value, k) => value + z[k] * (hBefore[k] - value)); // (5)
    return { now: [h], memory: { r, z, n, q } };
  },
  undo([dH], { before: [hBefore], memory: { r, z, n, q } }, w) {
    const dN = dH.map((d, k) => d * (1 - z[k])); // undoes (5): n
    const dZ = dH.map((d, k) => d * (hBefore[k] - n[k])); // undoes (5): z
    const dUn = dN.map((d, k) => d * (1 - n[k] * n[k])); // undoes (4): tanh
    const dUr = dUn.map((d, k) => d * q[k] * r[k] * (1 - r[k])); // undoes (4), (2): r
    const dQ = dUn.map((d, k) => d * r[k]); // undoes (4): q
    const dUz = dZ.map((d, k) => d * z[k] * (1 - z[k])); // undoes (3)
    const through = timesTransposed(w.hh, beside([dUr, dUz, dQ])); // undoes (1)
    const dBefore = through.map((d, k) => d + dH[k] * z[k]); // undoes (5): h_before
    return { dU: beside([dUr, dUz, dUn]), before: [dBefore] };
  },
  push([v], { before: [hBefore], memory: { r, z, n, q } }, w) {
    const [vR, vZ, vQ] = parts(times(w.hh, v), 3);
    const moved = v.map((own, k) => {
      const dR = r[k] * (1 - r[k]) * vR[k];
      const dZ = z[k] * (1 - z[k]) * vZ[k];
      const dN = (1 - n[k] * n[k]) * (dR * q[k] + r[k] * vQ[k]);
      return (1 - z[k]) * dN + dZ * (hBefore[k] - n[k]) + z[k] * own;
    });
    return [moved];
  },
};

/** The rows of W_hh, or of b_hh, of r and z, and those of n. */
function rowsOfReset(matrix) {
  const size = matrix.length / 3;
  return [matrix.subarray(0, 2 * size), matrix.subarray(2 * size)];
}

/** The reset gate before the product, as first published. */
const gruResetBefore = {
  states: 1,
  step(u, [hBefore], w) {
    const [[wRz, wN], [bRz, bN]] = [rowsOfReset(w.hh), rowsOfReset(w.bhh)];
    const [uR, uZ, uN] = parts(u, 3);
    const [pR, pZ] = parts(plus(times(wRz, hBefore), bRz), 2); // (1)
    const r = plus(uR, pR).map(sigmoid); // (2)
    const z = plus(uZ, pZ).map(sigmoid); // (2)
    const m = r.map((value, k) => value * hBefore[k]); // (3)
    const pN = plus(times(wN, m), bN); // (4)
    const n = plus(uN, pN).map(Math.tanh); // (5)
    const h = n.map((value, k) => value + z[k] * (hBefore[k] - value)); // (6)
    return { now: [h], memory: { r, z, n } };
  },
  undo([dH], { before: [hBefore], memory: { r, z, n } }, w) {
    const [wRz, wN] = rowsOfReset(w.hh);
    const dZ = dH.map((d, k) => d * (hBefore[k] - n[k])); // undoes (6): z
    const dUn = dH.map((d, k) => d * (1 - z[k]) * (1 - n[k] * n[k])); // undoes (6): n; (5)
    const dM = timesTransposed(wN, dUn); // undoes (4)
    const dUr = dM.map((d, k) => d * hBefore[k] * r[k] * (1 - r[k])); // undoes (3): r; (2)
    const dUz = dZ.map((d, k) => d * z[k] * (1 - z[k])); // undoes (2)
    const dRz = beside([dUr, dUz]);
    const through = timesTransposed(wRz, dRz); // undoes (1)
    const dBefore = through.map((d, k) => d + dH[k] * z[k] + dM[k] * r[k]); // undoes (6), (3)
    return { dU: beside([dRz, dUn]), before: [dBefore] };
  },
  push([v], { before: [hBefore], memory: { r, z, n } }, w) {
    const [wRz, wN] = rowsOfReset(w.hh);
    const [vR, vZ] = parts(times(wRz, v), 2);
    const dM = v.map((own, k) => r[k] * (1 - r[k]) * vR[k] * hBefore[k] + r[k] * own);
    const vN = times(wN, dM);
    const moved = v.map((own, k) => {
      const dZ = z[k] * (1 - z[k]) * vZ[k];
      return (1 - z[k]) * (1 - n[k] * n[k]) * vN[k] + dZ * (hBefore[k] - n[k]) + z[k] * own;
    });
    return [moved];
  },
};

/** Two states, h and c. */
const lstm = {
  states: 2,
  step(u, [hBefore, cBefore], w) {
    const a = parts(plus(u, plus(times(w.hh, hBefore), w.bhh)), 4); // (1)
    const [i, f, o] = [a[0], a[1], a[3]].map((gate) => gate.map(sigmoid)); // (2)
    const g = a[2].map(Math.tanh); // (2)
    const c = cBefore.map((value, k) => f[k] * value + i[k] * g[k]); // (3)
    const tanhC = c.map(Math.tanh);
    const h = o.map((value, k) => value * tanhC[k]); // (4)
    return { now: [h, c], memory: { i, f, g, o, tanhC } };
  },
  undo([dH, dLater], { before: [, cBefore], memory: { i, f, g, o, tanhC } }, w) {
    const dO = dH.map((d, k) => d * tanhC[k]); // undoes (4): o
    const dC = dLater.map((d, k) => d + dH[k] * o[k] * (1 - tanhC[k] * tanhC[k])); // undoes (4)
    const dA = beside([
      dC.map((d, k) => d * g[k] * i[k] * (1 - i[k])), // undoes (3), (2): i
      dC.map((d, k) => d * cBefore[k] * f[k] * (1 - f[k])), // undoes (3), (2): f
      dC.map((d, k) => d * i[k] * (1 - g[k] * g[k])), // undoes (3), (2): g
      dO.map((d, k) => d * o[k] * (1 - o[k])), // undoes (2): o
    ]);
    const dCBefore = dC.map((d, k) => d * f[k]); // undoes (3): c_before
    return { dU: dA, before: [timesTransposed(w.hh, dA), dCBefore] }; // undoes (1)
  },
  push([v, vC], { before: [, cBefore], memory: { i, f, g, o, tanhC } }, w) {
    const [vI, vF, vG, vO] = parts(times(w.hh, v), 4);
    const dC = vC.map(
      (own, k) =>
        f[k] * own +
        f[k] * (1 - f[k]) * vF[k] * cBefore[k] +
        i[k] * (1 - i[k]) * vI[k] * g[k] +
        i[k] * (1 - g[k] * g[k]) * vG[k],
    );
    const dH = dC.map(
      (d, k) => o[k] * (1 - o[k]) * vO[k] * tanhC[k] + o[k] * (1 - tanhC[k] * tanhC[k]) * d,
    );
    return [dH, dC];
  },
};

/** By the kind of the layer in Python. */
const CELLS = {
  elman_tanh: elman(Math.tanh, (h) => 1 - h * h),
  elman_relu: elman(
    (a) => Math.max(a, 0),
    (h) => (h > 0 ? 1 : 0),
  ),
  gru,
  gru_reset_before: gruResetBefore,
  lstm,
};
