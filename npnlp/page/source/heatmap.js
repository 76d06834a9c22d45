// Hidden states, a row for each unit and a column for each letter.

/** The height of a row and of the whole, in CSS pixels. */
const [ROW, LEAST, MOST] = [5, 160, 420];

/** Draw states, one vector for each letter, with the letters below; the value of full colour. */
function drawStates(canvas, states, letters, gutter) {
  const units = states[0].length;
  const most = Math.max(1, ...states.map((h) => h.reduce((one, v) => Math.max(one, Math.abs(v)), 0)));
  const width = canvas.parentElement.clientWidth;
  const height = Math.min(MOST, Math.max(LEAST, units * ROW));
  const foot = 28;
  const dense = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * dense), Math.round((height + foot) * dense)];
  canvas.style.height = `${height + foot}px`;
  const draw = canvas.getContext("2d");
  draw.scale(dense, dense);
  const of = ramp();
  const column = (width - gutter) / letters.length;
  states.forEach((h, t) => {
    h.forEach((value, unit) => {
      draw.fillStyle = of(value / most);
      const [top, bottom] = [unit, unit + 1].map((n) => Math.round((n * height) / units));
      draw.fillRect(gutter + t * column + 0.5, top, column - 1, bottom - top);
    });
  });
  writeAround(draw, letters, gutter, column, height, units);
  return most;
}

function writeAround(draw, letters, gutter, column, height, units) {
  draw.fillStyle = colour("--text");
  draw.font = `600 16px ${colour("--font")}`;
  draw.textAlign = "center";
  letters.forEach((letter, t) => draw.fillText(letter, gutter + (t + 0.5) * column, height + 21));
  draw.fillStyle = colour("--soft");
  draw.font = `13px ${colour("--font")}`;
  draw.textAlign = "right";
  draw.fillText(say("unitRow", { unit: 1 }), gutter - 10, 13);
  if (units > 1) draw.fillText(say("unitRow", { unit: units }), gutter - 10, height - 3);
}
