// Vectors are Float64Array. A matrix is one, row by row.

/** Numbers of float32, the lowest byte first, from base64. */
function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 4 }, (_, n) => view.getFloat32(4 * n, true));
}

const zeros = (size) => new Float64Array(size);

/** M x. */
function times(matrix, x) {
  const columns = x.length;
  const y = zeros(matrix.length / columns);
  for (let row = 0; row < y.length; row++) {
    const start = row * columns;
    let sum = 0;
    for (let column = 0; column < columns; column++) sum += matrix[start + column] * x[column];
    y[row] = sum;
  }
  return y;
}

/** M^T d, which undoes M x. */
function timesTransposed(matrix, d) {
  const columns = matrix.length / d.length;
  const y = zeros(columns);
  for (let row = 0; row < d.length; row++) {
    const start = row * columns;
    for (let column = 0; column < columns; column++) y[column] += matrix[start + column] * d[row];
  }
  return y;
}

const plus = (one, other) => one.map((value, n) => value + other[n]);
const scaled = (vector, factor) => vector.map((value) => value * factor);

/** A vector of equal parts, such as one for each gate, as views of it. */
function parts(vector, count) {
  const size = vector.length / count;
  return Array.from({ length: count }, (_, n) => vector.subarray(n * size, (n + 1) * size));
}

/** Undo parts. */
function beside(vectors) {
  const whole = zeros(vectors.reduce((size, vector) => size + vector.length, 0));
  let at = 0;
  for (const vector of vectors) {
    whole.set(vector, at);
    at += vector.length;
  }
  return whole;
}

function dot(one, other) {
  let sum = 0;
  for (let n = 0; n < one.length; n++) sum += one[n] * other[n];
  return sum;
}

/** The Euclidean norm; scaled first, since squares of small numbers would become zero. */
function norm(vector) {
  let most = 0;
  for (const value of vector) most = Math.max(most, Math.abs(value));
  if (most === 0 || !Number.isFinite(most)) return most;
  let sum = 0;
  for (const value of vector) sum += (value / most) ** 2;
  return most * Math.sqrt(sum);
}

function softmax(logits) {
  const most = logits.reduce((one, other) => Math.max(one, other), -Infinity);
  const exponentials = logits.map((value) => Math.exp(value - most));
  const sum = exponentials.reduce((one, other) => one + other, 0);
  return exponentials.map((value) => value / sum);
}

/** The places of the values, the largest first; of equal ones the first comes first. */
function largestFirst(values) {
  return Array.from(values.keys()).sort((one, other) => values[other] - values[one] || one - other);
}
