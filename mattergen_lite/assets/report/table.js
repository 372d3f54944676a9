// The table: filter, sort, choice of columns. Rows are put on the page as they are scrolled to.

const CHUNK = 80; // rows put on the page at a time
// Beside the energy of the relaxed crystal stands its group, not that of the raw one.
const formPrefix = columnOf.has("relaxed_space_group_symbol") ? "relaxed_" : "";
// What was asked for is looked for first: values that are there of properties that had a target.
const ASKED = data.columns.filter((name) =>
  /^(measured|confirmed|predicted)_(?!.*_error$)/.test(name) && allRows.some((row) => cell(row, name) !== null));
const PREFERRED = [
  "rank", "formula", "e_above_hull", "probability_metastable", `${formPrefix}space_group_symbol`,
  ...ASKED, "verdict", "num_atoms", `${formPrefix}density`, "name", "error",
];
const view = {
  columns: PREFERRED.filter((name) => columnOf.has(name)),
  sort: columnOf.has("rank") ? { name: "rank", falling: false } : null,
  rows: allRows,
  drawn: 0,
};

// Filter

const searchText = data.rows.map((row) => row.filter((value) => typeof value === "string").join(" ").toLowerCase());
const symbols = new Set(data.elements.slice(1).map(([symbol]) => symbol));
const COMPARISONS = {
  "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
};

const COMPARED = /^(\w+)(<=|>=|<|>|=|:)(.*)$/;

function elementsOf(row) {
  return String(cell(row, "chemical_system") ?? "").split("-");
}

/** A test of one word of the filter: an element, a comparison or any text. */
function wordTest(word) {
  if (symbols.has(word)) return (row) => elementsOf(row).includes(word);
  const [, name, operator, quoted] = word.match(COMPARED) ?? [];
  if (!columnOf.has(name)) return (row) => searchText[row].includes(unquoted(word).toLowerCase());
  const wanted = unquoted(quoted).toLowerCase();
  if (wanted === "") return (row) => cell(row, name) !== null && cell(row, name) !== "";
  if (operator in COMPARISONS) {
    return (row) => typeof cell(row, name) === "number" && COMPARISONS[operator](cell(row, name), Number(wanted));
  }
  const text = (row) => formatPlain(cell(row, name)).toLowerCase();
  return operator === "=" ? (row) => text(row) === wanted : (row) => text(row).includes(wanted);
}

/** What is wrong with a filter: columns that there are not, and comparisons with no number. */
function filterProblem(filter) {
  for (const word of words(filter)) {
    const [, name, operator, wanted] = word.replace(/^!/, "").match(COMPARED) ?? [];
    if (name && !columnOf.has(name)) {
      const close = data.columns.filter((column) => column.includes(name.toLowerCase()) || name.toLowerCase().includes(column));
      const hint = close.length ? `Did you mean ${close.slice(0, 5).join(", ")}?` : "“Columns” lists those of this table.";
      return `There is no column “${name}”. ${hint} In quotes it is searched as text.`;
    }
    if (operator in COMPARISONS && wanted !== "" && Number.isNaN(Number(unquoted(wanted)))) {
      return `“${wanted}” is no number: ${name}${operator} compares numbers, ${name}:${wanted} finds text.`;
    }
  }
  return "";
}

/** A value as one types it: unrounded, "yes" or "no". */
function formatPlain(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return value === null ? "" : String(value);
}

function unquoted(text) {
  return text.replaceAll('"', "");
}

/** Words of a filter; quotes keep words together. */
function words(filter) {
  return filter.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? [];
}

// Crystals that fail a check are behind a switch, unless all do.
const hasRejects = data.passed.includes(true) && data.passed.includes(false);
const rejects = document.getElementById("rejects");
const rejectsBox = rejects.querySelector("input");

function isListed(row) {
  return !hasRejects || data.passed[row] || rejectsBox.checked;
}

/** Offer the crystals that fail a check. */
function drawRejectsSwitch() {
  rejects.hidden = !hasRejects;
  rejects.querySelector("span").textContent = `show the ${data.passed.filter((one) => !one).length} that fail a check`;
  rejectsBox.addEventListener("change", applyFilter);
}

function filteredRows(filter) {
  const tests = words(filter).map((word) => {
    const negated = word.length > 1 && word[0] === "!";
    const test = wordTest(negated ? word.slice(1) : word);
    return negated ? (row) => !test(row) : test;
  });
  return allRows.filter((row) => isListed(row) && tests.every((test) => test(row)));
}

// Order

/** Order of two rows by a column; rows without a value come last either way. */
function compareRows({ name, falling }) {
  const order = (a, b) => (typeof a === "string" && typeof b === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  return (p, q) => {
    const [a, b] = [cell(p, name), cell(q, name)];
    const [noA, noB] = [a === null || a === "", b === null || b === ""];
    if (noA || noB) return noA - noB || p - q;
    return (falling ? order(b, a) : order(a, b)) || p - q;
  };
}

function sortBy(name) {
  const again = view.sort?.name === name;
  view.sort = { name, falling: again && !view.sort.falling };
  updateTable();
}

// Drawing

const tableBox = document.getElementById("table");
const [head, body] = [tableBox.querySelector("thead"), tableBox.querySelector("tbody")];
const filterBox = document.getElementById("filter");

function drawHead() {
  const heads = view.columns.map((name) => {
    const { label, unit, help } = meta(name);
    const sorted = view.sort?.name === name;
    const button = el("button", { type: "button", title: help ?? "" }, label,
      el("span", { className: "arrow", "aria-hidden": "true" }, sorted ? (view.sort.falling ? "▼" : "▲") : ""));
    button.addEventListener("click", () => sortBy(name));
    const node = el("th", { scope: "col", className: isNumeric.has(name) ? "number" : "" }, button);
    if (unit) node.append(el("span", { className: "unit" }, unit));
    if (sorted) node.setAttribute("aria-sort", view.sort.falling ? "descending" : "ascending");
    return node;
  });
  head.replaceChildren(el("tr", {}, ...heads));
}

/** The cell of a row that the keyboard reaches: its formula, or its name where it has none. */
function linkColumn(row) {
  return view.columns.includes("formula") && cell(row, "formula") ? "formula" : "name";
}

/** The energy above the hull with its standard error; a share as a bar; flags one by one. */
function cellNodes(row, name) {
  const value = cell(row, name);
  if (value === null || value === "") return valueNodes(row, name);
  if (name === "e_above_hull") {
    const error = cell(row, "e_above_hull_std");
    return [formatValue(name, value), el("span", { className: "quiet" }, error === null ? "" : ` ± ${error.toFixed(3)}`)];
  }
  if (name.startsWith("probability_")) {
    const meter = svg("svg", { viewBox: "0 0 40 6", class: "meter", "aria-hidden": "true" },
      svg("rect", { width: 40, height: 6, rx: 3, fill: "var(--faint)" }),
      svg("rect", { width: 40 * value, height: 6, rx: 3, fill: probabilityColor(value) }));
    return [meter, el("span", { className: "percent" }, formatValue(name, value))];
  }
  if (name === "verdict") return verdictCell(row);
  if (name === linkColumn(row)) return [el("a", { href: addressOf(row) }, ...valueNodes(row, name))];
  return valueNodes(row, name);
}

/** What the verdict says beyond the other columns, and the flags. */
function verdictCell(row) {
  const said = parts(cell(row, "verdict")).flatMap(newInVerdict).join("; ");
  const chips = parts(cell(row, "flags")).map((flag) => el("span", { className: "chip" }, flag.replaceAll("_", " ")));
  return [el("span", {}, said), chips.length && said ? " " : "", ...chips];
}

/** A part of the verdict, without the energy and the probability, which have columns. */
function newInVerdict(part) {
  if (part.startsWith("flags: ") || part === "passes every check") return [];
  if (!part.includes(" above the hull, within ")) return [part];
  return [part.replace(/^.* with probability [\d.]+, /, "")];
}

const CELL_CLASSES = { name: "name", error: "error-text", verdict: "verdict", formula: "formula" };

function rowNode(row) {
  const cells = view.columns.map((name) => {
    const value = cell(row, name);
    const node = el("td", { className: isNumeric.has(name) ? "number" : CELL_CLASSES[name] ?? "" }, ...cellNodes(row, name));
    if (typeof value === "string" && value.length > 24) node.title = value;
    return node;
  });
  const node = el("tr", { id: `row-${row}`, className: cell(row, "error") ? "broken" : "" }, ...cells);
  if (row === openedRow()) node.classList.add("open");
  node.addEventListener("click", () => openRow(row));
  return node;
}

function drawMore(until = view.drawn + CHUNK) {
  const more = view.rows.slice(view.drawn, until);
  body.append(...more.map(rowNode));
  view.drawn += more.length;
}

/** Filter and sort anew, and draw the first rows. */
function updateTable() {
  view.rows = filteredRows(filterBox.value);
  if (view.sort) view.rows.sort(compareRows(view.sort));
  drawHead();
  body.replaceChildren();
  view.drawn = 0;
  drawMore();
  const problem = filterProblem(filterBox.value);
  const problemNode = document.getElementById("problem");
  problemNode.textContent = problem;
  problemNode.hidden = !problem;
  if (!view.rows.length && !problem) {
    body.append(el("tr", {}, el("td", { colSpan: view.columns.length, className: "quiet" }, "No crystal passes this filter.")));
  }
  tableBox.scrollTop = 0;
  const total = allRows.filter(isListed).length;
  document.getElementById("count").textContent = view.rows.length === total ? `${total}` : `${view.rows.length} of ${total}`;
}

/** Mark a row and scroll the table to it; the page stays where it is. */
function revealRow(row) {
  const place = view.rows.indexOf(row);
  if (place >= view.drawn) drawMore(place + CHUNK);
  for (const node of body.querySelectorAll("tr.open")) node.classList.remove("open");
  const node = document.getElementById(`row-${row}`);
  if (!node) return;
  node.classList.add("open");
  const [top, bottom] = [node.offsetTop - head.offsetHeight, node.offsetTop + node.offsetHeight];
  if (top < tableBox.scrollTop) tableBox.scrollTop = top;
  else if (bottom > tableBox.scrollTop + tableBox.clientHeight) tableBox.scrollTop = bottom - tableBox.clientHeight;
}

/** A value in a csv file; what a spreadsheet would take for a formula gets an apostrophe. */
function csvCell(value) {
  if (value === null) return "";
  if (typeof value === "boolean") return value ? "True" : "False";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The rows that the filter leaves, in their order, with all columns. */
function tableText() {
  const lines = [data.columns, ...view.rows.map((row) => data.rows[row])];
  return lines.map((line) => line.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function saveTable() {
  saveFile(new Blob([tableText()], { type: "text/csv" }), "candidates.csv");
}

function setFilter(text) {
  filterBox.value = text;
  applyFilter();
}

function applyFilter() {
  hideTooltip();
  updateTable();
}

/** A menu of all columns, grouped as in the detail. */
function drawColumnMenu() {
  const menu = el("div", { className: "column-list" });
  document.querySelector("#columns > div").append(menu);
  for (const { title, columns } of columnGroups()) {
    const boxes = columns.map((name) => {
      const box = el("input", { type: "checkbox", checked: view.columns.includes(name) });
      box.addEventListener("change", () => {
        view.columns = box.checked ? [...view.columns, name] : view.columns.filter((other) => other !== name);
        updateTable();
      });
      return el("label", {}, box, meta(name).label);
    });
    menu.append(el("fieldset", {}, el("legend", {}, title), ...boxes));
  }
}

/** The columns of this report by group; unknown ones under "Other". */
function columnGroups() {
  const groups = data.groups.map(({ title, prefix, columns }) => {
    const known = columns.map(({ name }) => name).filter((name) => columnOf.has(name));
    const unknown = data.columns.filter((name) => prefix && name.startsWith(prefix) && !metaOf.has(name));
    return { title, columns: [...known, ...unknown] };
  });
  const grouped = new Set(groups.flatMap(({ columns }) => columns));
  groups.push({ title: "Other", columns: data.columns.filter((name) => !grouped.has(name)) });
  return groups.filter(({ columns }) => columns.length);
}
