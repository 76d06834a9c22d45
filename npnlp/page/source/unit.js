// One unit without input: a chain that can be followed with a pencil.

/** h_t = tanh(w h_{t-1}) from h_0; its slopes dh_t/dh_{t-1} = w (1 - h_t^2); their products. */
function orbit(w, first, steps) {
  const [states, slopes, products] = [[first], [], [1]];
  for (let t = 0; t < steps; t++) {
    const h = Math.tanh(w * states[t]);
    slopes.push(w * (1 - h * h));
    states.push(h);
    products.push(products[t] * slopes[t]);
  }
  return { states, slopes, products };
}
