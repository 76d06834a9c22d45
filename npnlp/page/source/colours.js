// The page's colours, as its style sheet has them now.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** From -1, by way of 0, to 1: three colours, and what lies between them. */
function ramp() {
  const [low, middle, high] = ["--negative", "--zero", "--positive"].map((name) => channels(colour(name)));
  return (value) => {
    const [end, part] = [value < 0 ? low : high, Math.min(1, Math.abs(value))];
    return `rgb(${middle.map((from, n) => Math.round(from + part * (end[n] - from))).join(" ")})`;
  };
}
