// What is on the page when it opens.

const tooltip = document.getElementById("tooltip");

function showTooltip(text, event) {
  tooltip.textContent = text;
  tooltip.hidden = false;
  const { width, height } = tooltip.getBoundingClientRect();
  const left = event.clientX + 14 + width > innerWidth ? event.clientX - 14 - width : event.clientX + 14;
  tooltip.style.left = `${Math.max(4, left)}px`;
  tooltip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4))}px`;
}

function hideTooltip() {
  tooltip.hidden = true;
}

// Summary

function figureText({ value, is_share: isShare }) {
  if (value === null) return "not judged";
  if (isShare) return `${(100 * value).toFixed(1)}%`;
  return typeof value === "number" ? formatNumber(value) : String(value);
}

function figureLabel(name) {
  const plain = name.replaceAll("_", " ").replace(/^num /, "").replace(/\bp1\b/, "P1");
  return plain.charAt(0).toUpperCase() + plain.slice(1);
}

function summaryCard(figure) {
  const node = el("div", { className: "figure", title: figure.protocol },
    el("div", { className: figure.value === null ? "value quiet" : "value" }, figureText(figure)),
    el("div", { className: "label" }, figureLabel(figure.name)));
  if (figure.is_share) {
    node.append(svg("svg", { viewBox: "0 0 100 3", preserveAspectRatio: "none", class: "share", "aria-hidden": "true" },
      svg("rect", { width: 100, height: 3, fill: "var(--faint)" }),
      svg("rect", { width: 100 * figure.value, height: 3, fill: "var(--accent)" })));
  }
  return node;
}

/** The six figures on top. */
function drawHeadline() {
  document.getElementById("headline").append(...data.headline.map(({ label, value, more }) =>
    el("div", { className: "figure" }, el("div", { className: "label" }, label),
      el("div", { className: "value" }, label === "Best" ? el("span", {}, ...formulaNodes(value)) : value),
      el("div", { className: "more" }, more))));
}

const NUM_PICTURES = 4;

/** The best crystals as pictures; each opens its crystal. */
function drawPictures() {
  const best = allRows.filter((row) => (isListed(row) && Object.keys(structuresOf(row)).length)).slice(0, NUM_PICTURES);
  if (!best.length) return;
  document.getElementById("best").hidden = false;
  for (const row of best) {
    const canvas = el("canvas", { "aria-hidden": "true" });
    const energy = cell(row, "e_above_hull");
    const chance = cell(row, "probability_metastable");
    const said = [energy === null ? "" : `${fixed(energy, 3)} eV/atom`, chance === null ? "" : `P\u00a0${formatShare(chance)}`];
    const link = el("a", { href: addressOf(row), className: "picture card", title: String(cell(row, "verdict") ?? "") }, canvas,
      el("span", { className: "formula" }, ...formulaNodes(cell(row, "formula") ?? keys[row])),
      el("span", { className: "quiet" }, said.filter(Boolean).join(", ")));
    document.getElementById("pictures").append(link);
    const { relaxed, raw } = structuresOf(row);
    const picture = new Viewer(canvas, () => {});
    picture.options.axes = false; // small: they would cover atoms
    picture.show(cellOf(relaxed ?? raw));
  }
}

/** A figure of the whole set, as in the folder of figures. */
function figureCard([name, text]) {
  const picture = el("img", { src: `data:image/svg+xml,${encodeURIComponent(text)}`, alt: name.replaceAll("_", " ") });
  return el("div", { className: "card" }, picture);
}

/** The energies beside the pictures, the other figures where the reader unfolds them. */
async function drawFigures() {
  const figures = Object.entries((await readFiles()).figures);
  const [energies, others] = [true, false].map((wanted) => figures.filter(([name]) => (name === "hull_distance") === wanted));
  document.getElementById("energies").append(...energies.map(figureCard));
  document.getElementById("charts").append(...others.map(figureCard));
  document.getElementById("charts-fold").hidden = !others.length;
  if (energies.length) document.getElementById("best").hidden = false;
}

function drawSummary() {
  document.getElementById("cards").append(...data.figures.map(summaryCard));
  const said = Object.entries(data.protocol).flatMap(([name, text]) => [el("dt", {}, figureLabel(name)), el("dd", {}, text)]);
  document.getElementById("protocol").append(...said);
}

// Record of the run

/** Names and values of a record, nested names joined by dots. */
function flattened(record, prefix = "") {
  return Object.entries(record).flatMap(([key, value]) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return flattened(value, `${prefix}${key}.`);
    return [[prefix + key, value]];
  });
}

function drawRecord() {
  const { model, ...rest } = data.provenance; // the network's sizes are in the full record
  const told = flattened(rest).filter(([, value]) => value !== null && String(value) !== "");
  document.getElementById("record").append(...told.flatMap(([name, value]) =>
    [el("dt", {}, name.startsWith("arguments.") ? name.replace("arguments.", "--").replaceAll("_", "-") : name), el("dd", {}, Array.isArray(value) ? value.join(", ") : String(value))]));
  document.getElementById("full-record").textContent = JSON.stringify(data.provenance, null, 2);
}

function drawSubtitle() {
  const { mattergen_lite: version, finished } = data.provenance;
  const facts = data.headline.length ? [] : [`${data.rows.length} crystals`];
  if (version) facts.push(`mattergen_lite ${version}`);
  if (finished) facts.push(String(finished).slice(0, 10));
  const errors = allRows.filter((row) => cell(row, "error")).length;
  const show = button(`${errors} with errors`, () => setFilter("error:"), { title: "Show only these" });
  document.getElementById("subtitle").append(facts.join("  ·  "), ...(errors ? ["  ·  ", show] : []));
}

// Keys of the page

function onKey(event) {
  if (openedRow() === undefined || event.target.closest("input, select, textarea")) return;
  if (event.key === "Escape") closeDetail();
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === "ArrowLeft") step(-1);
  else return;
  event.preventDefault();
}

function start() {
  drawSubtitle();
  drawHeadline();
  drawSummary();
  drawRecord();
  drawColumnMenu();
  drawRejectsSwitch();
  drawPictures();
  drawFigures();
  applyFilter();
  let waiting = 0;
  filterBox.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(applyFilter, 120);
  });
  tableBox.addEventListener("scroll", () => {
    if (tableBox.scrollTop + 2 * tableBox.clientHeight > tableBox.scrollHeight) drawMore();
  });
  document.getElementById("csv").addEventListener("click", saveTable);
  addEventListener("hashchange", drawDetail);
  addEventListener("popstate", drawDetail);
  addEventListener("keydown", onKey);
  drawDetail();
  document.documentElement.dataset.ready = "true"; // read by automatic checks
}

start();
