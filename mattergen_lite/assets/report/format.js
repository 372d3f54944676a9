"use strict";
// The data of the page, how its values read, and how elements get on the page. Values from files
// become text nodes, never markup.

// A page that fails says so: to the reader's console and, as an attribute, to automatic checks.
document.documentElement.dataset.errors = "0";
addEventListener("error", () => {
  document.documentElement.dataset.errors = String(Number(document.documentElement.dataset.errors) + 1);
});

const data = JSON.parse(document.getElementById("data").textContent);
const SVG_NAMESPACE = document.getElementById("svg").namespaceURI; // as the parser knows it
const MISSING = "–";
const columnOf = new Map(data.columns.map((name, index) => [name, index]));
const metaOf = new Map(data.groups.flatMap((group) => group.columns.map((column) => [column.name, column])));

/** Value of a column in a row; null where there is none. */
function cell(row, name) {
  const index = columnOf.get(name);
  return index === undefined ? null : data.rows[row][index];
}

/** Label, unit and format of a column, also of one that this page has never heard of. */
function meta(name) {
  const plain = name.replaceAll("_", " ");
  return metaOf.get(name) ?? { name, label: plain.charAt(0).toUpperCase() + plain.slice(1) };
}

const allRows = data.rows.map((_, row) => row);
const isNumeric = new Set(data.columns.filter((name) => {
  const values = allRows.map((row) => cell(row, name)).filter((value) => value !== null);
  return values.length > 0 && values.every((value) => typeof value === "number");
}));

/** A number in at most four significant digits, or as its column wants it. */
function formatNumber(value, { digits, percent } = {}) {
  if (percent) return formatShare(value);
  if (digits !== undefined) return fixed(value, digits);
  if (Number.isInteger(value)) return String(value).replace("-", "−");
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

/** A number with so many digits, and no sign where all of them are zero. */
function fixed(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** A share as a percentage; what is not quite nothing or all does not read as such. */
function formatShare(share) {
  const percent = 100 * share;
  if (percent > 0 && percent < 0.5) return "<1%";
  if (percent < 100 && percent > 99.5) return ">99%";
  return `${percent.toFixed(0)}%`.replace("-", "−");
}

/** Colour of a probability, from grey to the accent. */
function probabilityColor(probability) {
  if (probability === null) return "var(--quiet)";
  return `color-mix(in oklab, var(--good) ${(100 * probability).toFixed(0)}%, var(--bad))`;
}

/** A value as text. */
function formatValue(name, value) {
  if (value === null || value === "") return MISSING;
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? formatNumber(value, meta(name)) : String(value);
}

/** A unit as it follows a number. */
function unitSuffix(unit) {
  if (!unit) return "";
  return unit === "°" ? unit : ` ${unit}`;
}

/** An element with properties, attributes (aria-*, data-*) and children; strings become text. */
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** The same for SVG, where everything is an attribute. */
function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG_NAMESPACE, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Formula with its numbers as subscripts. */
function formulaNodes(formula) {
  return String(formula)
    .split(/(\d+(?:\.\d+)?)/)
    .filter(Boolean)
    .map((part) => (/^\d/.test(part) ? el("sub", {}, part) : part));
}

/** Hermann-Mauguin symbol: "-3" with a bar, "_1" as a subscript. */
function symbolNodes(symbol) {
  return String(symbol)
    .split(/(-\d|_\d)/)
    .filter(Boolean)
    .map((part) => {
      if (part[0] === "-") return el("span", { className: "overbar" }, part.slice(1));
      return part[0] === "_" ? el("sub", {}, part.slice(1)) : part;
    });
}

/** A value of a row as nodes, typeset as its column wants. */
function valueNodes(row, name) {
  const value = cell(row, name);
  if (value === null || value === "") return [el("span", { className: "quiet" }, MISSING)];
  if (name === "formula") return formulaNodes(value);
  if (meta(name).kind === "space group") return symbolNodes(value);
  return [formatValue(name, value)];
}

/** Parts of a text that joins several. */
function parts(text) {
  return text ? String(text).split("; ") : [];
}
