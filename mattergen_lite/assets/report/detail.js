// One crystal: its picture, what the judge says about it, and its files.

const panel = document.getElementById("detail");
const keys = rowKeys();
const rowOfKey = new Map(keys.map((key, row) => [key, row]));
const SAID_ABOVE = new Set(["name", "formula", "verdict", "flags", "flag_reasons", "error", "stability_error"]);
let viewer = null; // one for all crystals, made when the first is opened; it keeps its options
let shownForm = "relaxed"; // what the reader saw last: "raw" or "relaxed"
let shownCell = "conventional"; // or "as given", where that is another cell
let cameFrom = null; // what had the focus before the drawer
const OVERLAID = matchMedia("(max-width: 1179px)"); // where the drawer covers the page

/** What the address of each row ends in: its name, numbered where names are shared. */
function rowKeys() {
  const seen = new Map();
  return allRows.map((row) => {
    const name = String(cell(row, "name") ?? `row ${row + 1}`);
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return seen.get(name) === 1 ? name : `${name}~${seen.get(name)}`;
  });
}

/** The row that the page's address names; undefined if none. */
function openedRow() {
  const fragment = location.hash.slice(1);
  try {
    return rowOfKey.get(decodeURIComponent(fragment));
  } catch {
    return undefined; // an address that somebody has cut short
  }
}

function addressOf(row) {
  return `#${encodeURIComponent(keys[row])}`;
}

function openRow(row) {
  location.hash = addressOf(row);
}

function closeDetail() {
  const last = openedRow();
  history.pushState(null, "", location.pathname + location.search);
  drawDetail();
  const back = document.getElementById(`row-${last}`)?.querySelector("a") ?? cameFrom ?? filterBox;
  back.focus({ preventScroll: true });
}

/** Open the row before or after, in the order of the table. */
function step(by) {
  const next = view.rows[view.rows.indexOf(openedRow()) + by];
  if (next !== undefined) openRow(next);
}

/** Show the row that the address names, or nothing. */
function drawDetail() {
  const row = openedRow();
  hideTooltip();
  panel.hidden = row === undefined;
  document.body.classList.toggle("with-detail", row !== undefined);
  for (const node of body.querySelectorAll("tr.open")) node.classList.remove("open");
  panel.replaceChildren();
  document.querySelector("main").inert = row !== undefined && OVERLAID.matches;
  if (row === undefined) return;
  panel.append(detailHead(row), ...verdictNodes(row), pictureNode(row), downloadNodes(row), ...factGroups(row));
  panel.setAttribute("aria-label", `Crystal ${cell(row, "formula") ?? ""} ${keys[row]}`);
  panel.scrollTop = 0;
  revealRow(row);
  drawPicture(row);
  takeFocus();
}

/** Put the focus into the drawer; it goes back to where it was when the drawer closes. */
function takeFocus() {
  if (!panel.contains(document.activeElement) && document.activeElement !== document.body) cameFrom = document.activeElement;
  panel.focus({ preventScroll: true });
}

function button(text, onClick, properties = {}) {
  const node = el("button", { type: "button", ...properties }, text);
  node.addEventListener("click", onClick);
  return node;
}

function detailHead(row) {
  const place = view.rows.indexOf(row);
  return el("header", {},
    el("div", {},
      el("h2", {}, ...formulaNodes(cell(row, "formula") || "Unreadable")),
      el("p", { className: "quiet" }, String(cell(row, "name") ?? ""), place >= 0 ? `  (${place + 1} of ${view.rows.length})` : "")),
    el("nav", {},
      button("‹", () => step(-1), { title: "Previous (←)", "aria-label": "Previous", disabled: place <= 0 }),
      button("›", () => step(1), { title: "Next (→)", "aria-label": "Next", disabled: place < 0 || place === view.rows.length - 1 }),
      button("×", closeDetail, { title: "Close (Esc)", "aria-label": "Close" })));
}

// What the judge says

function verdictNodes(row) {
  const nodes = [];
  if (cell(row, "verdict")) nodes.push(el("p", { className: "lead" }, String(cell(row, "verdict"))));
  const problems = { error: "Error", stability_error: "Stability not judged" };
  for (const [name, label] of Object.entries(problems)) {
    if (cell(row, name)) nodes.push(el("p", { className: "warning" }, el("strong", {}, `${label}: `), String(cell(row, name))));
  }
  if (cell(row, "flags")) nodes.push(flagList(row));
  return nodes;
}

function flagList(row) {
  const flags = parts(cell(row, "flags"));
  const reasons = parts(cell(row, "flag_reasons"));
  const matched = reasons.length === flags.length;
  const items = flags.map((flag, index) => el("li", {},
    el("span", { className: "chip" }, flag.replaceAll("_", " ")), matched ? ` ${reasons[index]}` : ""));
  return el("ul", { className: "flags" }, ...items, matched ? null : el("li", {}, reasons.join("; ")));
}

// Picture

function pictureNode(row) {
  const forms = structuresOf(row);
  if (!Object.keys(forms).length) {
    return el("p", { className: "quiet empty" }, "There is no structure to draw.");
  }
  viewer ??= new Viewer(el("canvas", { tabIndex: 0, "aria-label": "Structure; drag to turn, scroll to zoom", role: "img" }), showAtom);
  return el("figure", {}, viewer.canvas, el("div", { className: "toolbar" }), el("figcaption", {}));
}

/** The structures that can be drawn, by what they are called. */
function structuresOf(row) {
  const forms = { raw: data.structures[row], relaxed: data.relaxed[row] };
  return Object.fromEntries(Object.entries(forms).filter(([, structure]) => structure));
}

function drawPicture(row) {
  const forms = structuresOf(row);
  if (!Object.keys(forms).length) return;
  const shown = shownForm in forms ? shownForm : Object.keys(forms)[0];
  viewer.show(cellOf(forms[shown]));
  drawToolbar(forms, shown);
}

/** The cell to draw: the conventional one where there is one and the reader wants it. */
function cellOf(structure) {
  return (shownCell === "conventional" && structure.conventional) || structure;
}

function showAtom(atom, event) {
  if (!atom) {
    hideTooltip();
    return;
  }
  const place = atom.frac.map((value) => value.toFixed(3)).join("  ");
  showTooltip(`${data.elements[atom.number][0]}, site ${atom.site + 1}\n${place}`, event);
}

function toggle(text, pressed, onClick, title) {
  return button(text, onClick, { "aria-pressed": String(pressed), title });
}

function drawToolbar(forms, form) {
  const { repeat, bonds: withBonds, filled, polyhedra: withPolyhedra } = viewer.options;
  const redraw = () => drawToolbar(forms, form);
  const change = (options) => () => {
    viewer.set(options);
    redraw();
  };
  const choose = (name) => () => {
    shownForm = name;
    viewer.show(cellOf(forms[name]), true);
    drawToolbar(forms, name);
  };
  const chooseCell = (name) => () => {
    shownCell = name;
    viewer.show(cellOf(forms[form]));
    redraw();
  };
  const cellButtons = !forms[form].conventional ? [] : ["conventional", "as given"].map((name) =>
    toggle(name, name === shownCell, chooseCell(name), name === "as given" ? "The cell that was judged" : "The standard cell of the space group at 0.1 Å"));
  const formButtons = Object.keys(forms).length < 2 ? [] : Object.keys(forms).map((name) =>
    toggle(name, name === form, choose(name), `The crystal as ${name === "raw" ? "generated or read" : "relaxed"}`));
  const along = ["a", "b", "c"].map((name, axis) => button(name, () => viewer.lookAlong(axis), { title: `Look along ${name}`, className: "axis-name" }));
  panel.querySelector(".toolbar").replaceChildren(
    el("span", { className: "group" }, ...formButtons),
    el("span", { className: "group" }, ...cellButtons),
    el("span", { className: "group" },
      toggle("2×2×2", repeat === 2, change({ repeat: repeat === 2 ? 1 : 2 }), "Supercell"),
      toggle("bonds", withBonds, change({ bonds: !withBonds }), "Pairs closer than 1.15 times the sum of their covalent radii"),
      toggle("polyhedra", withPolyhedra, change({ polyhedra: !withPolyhedra }), "Bonded, more electronegative neighbours, those outside the cell too"),
      toggle("fill", filled, change({ filled: !filled }), "Balls of full covalent radius")),
    el("span", { className: "group" }, ...along));
  panel.querySelector("figcaption").replaceChildren(...captionNodes(cellOf(forms[form]), form, Object.keys(forms).length > 1));
}

/** Elements with their colours, and the cell. */
function captionNodes(structure, form, named) {
  const legend = elementCounts(structure).map(([number, count]) => {
    const [symbol, , , color] = data.elements[number];
    const dot = svg("svg", { viewBox: "0 0 12 12", class: "dot" }, svg("circle", { cx: 6, cy: 6, r: 5.5, fill: color, stroke: "var(--quiet)", "stroke-width": 0.6 }));
    return el("span", { className: "key" }, dot, `${symbol} × ${count}`);
  });
  const { lengths, angles } = cellParameters(structure.lattice);
  const cellText = [
    ...lengths.map((value, axis) => `${"abc"[axis]} ${value.toFixed(2)}`), "Å",
    ...angles.map((value, axis) => ` ${"αβγ"[axis]} ${value.toFixed(1)}°`),
  ].join(" ");
  return [el("div", { className: "legend" }, ...legend),
    el("div", { className: "quiet cell" }, `${named ? `Cell, ${form}: ` : "Cell: "}${cellText}`)];
}

// Files

let packedFiles = null; // CIFs of all rows and figures of the set, unpacked once

/** Files of the run that are compressed on the page: { cifs, figures }. */
async function readFiles() {
  packedFiles ??= unpack();
  return packedFiles;
}

async function unpack() {
  const packed = Uint8Array.from(atob(document.getElementById("files").textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function downloadNodes(row) {
  const forms = [["raw", data.has_cif[row][0]], ["relaxed", data.has_cif[row][1]]].filter(([, exists]) => exists);
  const nodes = forms.map(([form]) => button(forms.length > 1 ? `Download CIF, ${form}` : "Download CIF", () => saveCif(row, form)));
  return el("p", { className: "downloads" }, ...nodes);
}

async function saveCif(row, form) {
  const text = (await readFiles()).cifs[row][form === "raw" ? 0 : 1];
  const stem = keys[row].replace(/\.cif$/, "").replace(/[^\w.#-]+/g, "_");
  saveFile(new Blob([text], { type: "chemical/x-cif" }), `${stem}${form === "relaxed" ? "_relaxed" : ""}.cif`);
}

function saveFile(content, name) {
  const address = URL.createObjectURL(content);
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// Facts

function factGroups(row) {
  return columnGroups().flatMap(({ title, columns }) => {
    const facts = columns.filter((name) => !SAID_ABOVE.has(name) && cell(row, name) !== null && cell(row, name) !== "");
    if (!facts.length) return [];
    const pairs = facts.flatMap((name) => {
      const { label, unit, help, percent } = meta(name);
      const value = valueNodes(row, name);
      return [el("dt", { title: help ?? "" }, label), el("dd", {}, ...value, percent ? "" : unitSuffix(unit))];
    });
    return [el("section", {}, el("h3", {}, title), el("dl", { className: "facts" }, ...pairs))];
  });
}
