// What the page says, in the language that is chosen.

const STRINGS = JSON.parse(document.getElementById("string-data").textContent);
const shown = { language: navigator.language.startsWith("ko") ? "ko" : "en" };

/** A string, with its {places} filled. */
function say(key, values = {}) {
  return STRINGS[shown.language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Put the strings of data-text and data-label where they belong. */
function translate(root) {
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = say(node.dataset.text);
  for (const node of root.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", say(node.dataset.label));
  }
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const power = (exponent) => `10${[...String(exponent)].map((c) => SUPERSCRIPTS[c]).join("")}`;

/** A number as people write it: 0.0123, 4.56 × 10⁻⁷. */
function figure(value, digits = 3) {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return "∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 0.001 && size < 10000) return minus(String(Number(value.toPrecision(digits))));
  const [digitsOf, exponent] = value.toExponential(digits - 1).split("e");
  return `${minus(digitsOf)} × ${power(Number(exponent))}`;
}

const minus = (text) => text.replace("-", "−");
const percent = (value) => `${(100 * value).toFixed(1)} %`;

/** A new element with a text and classes. */
function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}
