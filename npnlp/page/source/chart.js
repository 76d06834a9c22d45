// Curves, drawn by uPlot.

/** The chart in each box, which the next one replaces. */
const charts = new WeakMap();

/** Curves over 0, 1, 2, ...: {values, colour, dash, width, points}; values of a log axis above 0.
 *
 * labels stand below the places; range is that of the y axis, in exponents of ten with log.
 */
function drawCurves(box, curves, { labels, range, log, gutter, height, every = 1, title }) {
  charts.get(box)?.destroy();
  const count = labels.length;
  const [text, grid] = [colour("--text"), colour("--line")];
  const shared = { stroke: text, font: `13px ${colour("--font")}`, ticks: { show: false } };
  const marks = log ? decades(range) : null;
  const options = {
    width: box.clientWidth,
    height,
    padding: [12, 0, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    select: { show: false },
    scales: {
      x: { time: false, range: [-0.5, count - 0.5] },
      y: log ? { distr: 3, range: range.map((exponent) => 10 ** exponent) } : { range },
    },
    axes: [
      {
        ...shared,
        font: `600 16px ${colour("--font")}`,
        size: 34,
        grid: { show: false },
        splits: () => labels.map((_, n) => n).filter((n) => n % every === 0),
        values: (_, places) => places.map((n) => labels[n]),
      },
      {
        ...shared,
        size: gutter,
        grid: { stroke: grid, width: 1 },
        ...(log && {
          splits: () => marks.map((exponent) => 10 ** exponent),
          filter: (_, splits) => splits,
          values: () => marks.map(power),
        }),
      },
    ],
    series: [
      {},
      ...curves.map((curve) => ({
        stroke: curve.colour,
        width: curve.width ?? 3,
        dash: curve.dash,
        points: { show: curve.points ?? true, size: 9, fill: curve.colour },
      })),
    ],
  };
  const drawable = (value) => (Number.isFinite(value) && (!log || value > 0) ? value : null);
  const data = [labels.map((_, n) => n), ...curves.map((c) => Array.from(c.values, drawable))];
  charts.set(box, new uPlot(options, data, box));
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", title);
}

/** The exponents of ten that hold all values; at least two decades. */
function exponentsOf(values) {
  const sizes = values.filter((value) => value > 0 && Number.isFinite(value)).map(Math.log10);
  if (!sizes.length) return [-1, 1];
  const [low, high] = [Math.floor(Math.min(...sizes)), Math.ceil(Math.max(...sizes))];
  return high - low < 2 ? [low - 1, Math.max(high, low + 1)] : [low, high];
}

/** At most eight of them, evenly spaced. */
function decades([low, high]) {
  const step = Math.ceil((high - low) / 7);
  const found = [];
  for (let exponent = high; exponent >= low; exponent -= step) found.unshift(exponent);
  return found;
}
