// Tables: what is believed after each letter, and the numbers of each drawing for whoever wants them.

/** A table with a caption, heads of its columns, and rows of a head and cells. */
function tableOf(caption, heads, rows) {
  const table = element("table");
  table.append(element("caption", caption, "unseen"));
  const head = table.createTHead().insertRow();
  for (const text of heads) head.append(headCell(text, "col"));
  const body = table.createTBody();
  for (const [first, ...cells] of rows) {
    const row = body.insertRow();
    row.append(headCell(first, "row"));
    for (const cell of cells) row.append(cell instanceof Node ? cell : element("td", cell));
  }
  return table;
}

function headCell(content, scope) {
  const cell = element("th");
  cell.append(content);
  cell.scope = scope;
  return cell;
}

/** Fill the details of a drawing with its table, once they are open. */
function offerTable(details, label, make) {
  const fill = () => {
    for (const old of details.querySelectorAll(".scroll")) old.remove();
    if (!details.open) return;
    const box = element("div", "", "scroll numbers");
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", label);
    box.append(make());
    details.append(box);
  };
  details.ontoggle = fill;
  fill();
}

/** A letter as a head, marked where the model has never seen it. */
function letterHead(letter, known) {
  const text = letter.trim() ? letter : "␣";
  if (known) return text;
  const mark = element("abbr", text, "unknown");
  mark.title = say("unknownLetter");
  return mark;
}

/** Rows: the classes that are the most probable after any letter; a bar and a number a cell. */
function believesTable(letters, heads, classes, probabilities, most) {
  const largest = classes.map((_, label) => Math.max(...probabilities.map((p) => p[label])));
  const last = probabilities.at(-1);
  const some = largestFirst(largest).slice(0, most);
  some.sort((one, other) => last[other] - last[one]);
  const best = probabilities.map((p) => largestFirst(p)[0]);
  const rows = some.map((label) => [
    classes[label],
    ...probabilities.map((p, n) => believesCell(p[label], best[n] === label)),
  ]);
  const table = tableOf(say("believesTitle"), [say("answerColumn"), ...heads], rows);
  table.style.setProperty("--letters", letters.length);
  return table;
}

function believesCell(probability, isBest) {
  const cell = element("td", "", isBest ? "best" : "");
  const bar = element("span", "", "bar");
  bar.style.height = `${100 * probability}%`;
  const track = element("span", "", "track");
  track.append(bar);
  const text = element("span", probability >= 0.005 ? (100 * probability).toFixed(0) : "·");
  cell.append(track, text);
  return cell;
}
