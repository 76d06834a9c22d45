// A name as the model reads it: clean, in its letter case, in parts; then its tokens.

/** Python's blanks; those of JavaScript are others. */
const BLANK = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const AROUND = new RegExp(`^${BLANK}+|${BLANK}+$`, "gu");
const clean = (name) => name.normalize("NFC").replace(AROUND, "");

/** Letters whose title case is a character of its own. */
const TITLED = { ǆ: "ǅ", Ǆ: "ǅ", ǉ: "ǈ", Ǉ: "ǈ", ǌ: "ǋ", Ǌ: "ǋ", ǳ: "ǲ", Ǳ: "ǲ", ŉ: "ʼN" };
const isCased = (character) => /\p{Cased}/u.test(character);

function titled(character) {
  if (/\p{Lt}/u.test(character)) return character;
  if (/[\u10d0-\u10ff]/u.test(character)) return character; // Georgian has no titles
  const [first, ...rest] = character.toUpperCase();
  // A Greek iota that is written below a vowel stays below it.
  if (rest.at(-1) === "\u0399") return [first, ...rest.slice(0, -1), "\u0345"].join("");
  return TITLED[character] ?? first + rest.join("").toLowerCase();
}

/** A capital at the beginning and after each character that has no case; as str.title. */
function title(name) {
  const lower = name.toLowerCase();
  let after = false;
  const characters = [...name].map((character) => {
    const behind = after;
    after = isCased(character);
    return behind ? character.toLowerCase() : titled(character);
  });
  const made = characters.join("");
  // A sigma at the end of a word has a form of its own.
  return lower.includes("ς") ? made.replace(/(?<=\p{Cased})σ(?!\p{Cased})/gu, "ς") : made;
}

/** Whether a name has letters of one case only, and some. */
const inOneCase = (name, lower) =>
  [...name].some(isCased) &&
  [...name].every(
    (c) => !isCased(c) || (lower ? /\p{Lowercase}/u : /\p{Uppercase}/u).test(c),
  );

const LETTER_CASES = {
  "as written": (name) => name,
  title: (name) =>
    inOneCase(name, true) || inOneCase(name, false)
      ? title(name).replaceAll("i\u0307", "i").normalize("NFC")
      : name,
  lower: (name) => name.toLowerCase().normalize("NFC"),
  upper: (name) => name.toUpperCase().normalize("NFC"),
};

/** The parts of a name that a model reads each by itself; see npnlp/text/parts.py. */
function partsOf(name, { ways, particles, between }) {
  const marks = Object.keys(ways);
  if (!marks.some((mark) => name.includes(mark))) return [name];
  let word = "";
  const found = [""];
  let mark = "";
  const end = (behind) => {
    const bare = word.replace(/^['’.]+|['’.]+$/gu, "").toLowerCase();
    if (!mark) found[0] = behind;
    else if (ways[mark] === between && particles.includes(bare)) found.push(found.pop() + mark + behind);
    else found.push(behind);
    word = behind || word;
  };
  let part = "";
  for (const character of name) {
    if (!(character in ways)) {
      part += character;
      continue;
    }
    end(part);
    [mark, part] = [character, ""];
  }
  end(part);
  const whole = found.map((own) => own.replace(AROUND, "")).filter((own) => /\p{L}/u.test(own));
  return whole.length > 1 ? whole : [name];
}

/** The parts of a name as the model reads them; none where there is nothing to read. */
function asRead(model, name) {
  const read = LETTER_CASES[model.letterCase];
  return partsOf(name, model.splitAt).map((part) => read(clean(part))).filter(Boolean);
}

function tokensOf(model, read) {
  const { begin, end, unknown } = model.special;
  return [begin, ...Array.from(read, (character) => model.tokens.get(character) ?? unknown), end];
}

/** The probabilities of a name from those of its parts: long parts say more. */
function averaged(parts, probabilities) {
  const sizes = parts.map((part) => [...part].length);
  const all = sizes.reduce((one, other) => one + other, 0);
  const logs = probabilities[0].map((_, label) =>
    probabilities.reduce((sum, p, n) => sum + (sizes[n] / all) * Math.log(Math.max(p[label], 1e-300)), 0),
  );
  return softmax(logs);
}
