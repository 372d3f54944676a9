// Charts of the rows that the filter leaves, as SVG. A mark of one crystal opens it; a bar or an
// element filters by it.

const WIDTH = innerWidth < 720 ? 360 : 560; // a phone shows fewer units, so that text stays legible
const HEIGHT = 320;
const MARGIN = { left: 58, right: 14, top: 14, bottom: 44 };
const MAX_RANKED = 120; // crystals that a chart with one mark each can hold legibly
const MAX_BARS = 12;
const MAX_COLORS = 7; // categories with a colour of their own; the rest are "other"

/** A linear scale from values to pixels, with round ticks. */
function linearScale([low, high], [from, to], count = 5) {
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) ticks.push(k * step);
  const place = (value) => from + ((value - low) / (high - low)) * (to - from);
  return Object.assign(place, { ticks, step, low, high });
}

/** Range of values with a little air on both sides. */
function paddedRange(values, share = 0.05) {
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const air = share * (high - low) || Math.abs(high) * share || 0.5;
  return [low - air, high + air];
}

function tickText(value) {
  return String(Number(value.toPrecision(6))).replace("-", "−");
}

/** Frame with axes; returns the drawing and both scales. */
function frame({ x, y, xLabel, yLabel, integerY = false, noXTicks = false }) {
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const xScale = linearScale(x, [MARGIN.left, WIDTH - MARGIN.right], 6);
  const yScale = linearScale(y, [HEIGHT - MARGIN.bottom, MARGIN.top]);
  for (const tick of yScale.ticks.filter((value) => !integerY || Number.isInteger(value))) {
    drawing.append(
      svg("line", { class: "grid", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: yScale(tick), y2: yScale(tick) }),
      svg("text", { class: "tick", x: MARGIN.left - 7, y: yScale(tick) + 4, "text-anchor": "end" }, tickText(tick)),
    );
  }
  const bottom = HEIGHT - MARGIN.bottom;
  if (!noXTicks) drawing.append(svg("line", { class: "axis", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: bottom, y2: bottom }));
  for (const tick of noXTicks ? [] : xScale.ticks) {
    drawing.append(
      svg("line", { class: "axis", x1: xScale(tick), x2: xScale(tick), y1: bottom, y2: bottom + 4 }),
      svg("text", { class: "tick", x: xScale(tick), y: bottom + 17, "text-anchor": "middle" }, tickText(tick)),
    );
  }
  const middle = (MARGIN.top + bottom) / 2;
  drawing.append(
    svg("text", { class: "label", x: (MARGIN.left + WIDTH - MARGIN.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xLabel),
    svg("text", { class: "label", x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, yLabel),
  );
  return { drawing, xScale, yScale };
}

/** Say something beside the pointer while it is over a mark. */
function withTooltip(node, text) {
  node.addEventListener("pointermove", (event) => showTooltip(text, event));
  node.addEventListener("pointerleave", hideTooltip);
  return node;
}

/** A mark that stands for one crystal. */
function crystalMark(node, row, columns) {
  const lines = [`${cell(row, "name")}  ${cell(row, "formula") ?? ""}`];
  for (const name of columns) {
    lines.push(`${meta(name).label}: ${formatValue(name, cell(row, name))}${unitSuffix(meta(name).unit)}`);
  }
  node.classList.add("clickable");
  node.addEventListener("click", () => openRow(row));
  return withTooltip(node, lines.join("\n"));
}

function rowsWith(rows, ...columns) {
  return rows.filter((row) => columns.every((name) => typeof cell(row, name) === "number"));
}

function emptyChart(reason) {
  return el("p", { className: "quiet empty" }, reason);
}

/** Colour of a probability, from grey to the accent. */
function probabilityColor(probability) {
  if (probability === null) return "var(--quiet)";
  return `color-mix(in oklab, var(--good) ${(100 * probability).toFixed(0)}%, var(--bad))`;
}

// Distance to the hull

function thresholdLine(drawing, yScale, value, cssClass) {
  if (value < yScale.low || value > yScale.high) return;
  drawing.append(svg("line", { class: cssClass, x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: yScale(value), y2: yScale(value) }));
}

/** Crystals by energy above the hull, each with its standard error. */
function rankedHullChart(rows) {
  const ranked = rowsWith(rows, "e_above_hull").sort((p, q) => cell(p, "e_above_hull") - cell(q, "e_above_hull"));
  if (!ranked.length) return emptyChart("No crystal here has an energy above the hull.");
  const shown = ranked.slice(0, MAX_RANKED);
  const error = (row) => cell(row, "e_above_hull_std") ?? 0;
  const ends = shown.flatMap((row) => [cell(row, "e_above_hull") - error(row), cell(row, "e_above_hull") + error(row)]);
  const cut = shown.length < ranked.length ? `the ${shown.length} lowest of ${ranked.length} crystals` : "crystals";
  const { drawing, xScale, yScale } = frame({
    x: [0, shown.length + 1], y: paddedRange([0, ...ends]), xLabel: `${cut}, by energy above hull`,
    yLabel: axisLabel("e_above_hull"), noXTicks: true,
  });
  thresholdLine(drawing, yScale, 0, "axis");
  thresholdLine(drawing, yScale, data.metastable, "threshold");
  const size = shown.length > 60 ? 3 : 4.5;
  shown.forEach((row, place) => {
    const [x, value] = [xScale(place + 1), cell(row, "e_above_hull")];
    const color = probabilityColor(cell(row, "probability_metastable"));
    const group = svg("g", {},
      svg("line", { class: "error", x1: x, x2: x, y1: yScale(value - error(row)), y2: yScale(value + error(row)) }),
      svg("circle", { cx: x, cy: yScale(value), r: size, fill: color }));
    drawing.append(crystalMark(group, row, ["e_above_hull", "e_above_hull_std", "probability_metastable"]));
  });
  return el("div", {}, drawing, probabilityLegend());
}

function key(mark, ...text) {
  return el("span", { className: "key" }, mark, ...text);
}

function swatch(color) {
  return svg("svg", { viewBox: "0 0 10 10", class: "dot" }, svg("circle", { cx: 5, cy: 5, r: 5, fill: color }));
}

function probabilityLegend() {
  const dash = svg("svg", { viewBox: "0 0 22 10", class: "dash" }, svg("line", { class: "threshold", x1: 0, x2: 22, y1: 5, y2: 5 }));
  const shades = [0, 0.5, 1].map((probability) => key(swatch(probabilityColor(probability)), formatShare(probability)));
  return el("div", { className: "legend" }, key(dash, `${data.metastable} eV/atom`),
    el("span", { className: "quiet" }, "probability of lying below it:"), ...shades);
}

/** Equal bins of round width over values: [low, high, rows]. */
function binned(rows, name, wanted) {
  const values = rows.map((row) => cell(row, name));
  const scale = linearScale(paddedRange(values, 0), [0, 1], wanted);
  const first = Math.floor(scale.low / scale.step + 1e-9);
  const bins = new Map();
  for (const row of rows) {
    const bin = Math.floor(cell(row, name) / scale.step + 1e-9);
    bins.set(bin, [...(bins.get(bin) ?? []), row]);
  }
  const last = Math.max(first, ...bins.keys());
  return Array.from({ length: last - first + 1 }, (_, k) =>
    [(first + k) * scale.step, (first + k + 1) * scale.step, bins.get(first + k) ?? []]);
}

/** Histogram of a numeric column; a bar filters by its range. */
function histogram(rows, name, threshold = null) {
  const some = rowsWith(rows, name);
  if (!some.length) return emptyChart(`No crystal here has a value of ${meta(name).label.toLowerCase()}.`);
  const bins = binned(some, name, Math.min(30, Math.max(8, 2 * Math.sqrt(some.length))));
  const most = Math.max(...bins.map(([, , members]) => members.length));
  const { drawing, xScale, yScale } = frame({
    x: [bins[0][0], bins.at(-1)[1]], y: [0, 1.05 * most], xLabel: axisLabel(name), yLabel: "crystals", integerY: true,
  });
  for (const [low, high, members] of bins.filter(([, , found]) => found.length)) {
    const bar = svg("rect", {
      class: "bar clickable", x: xScale(low) + 0.5, width: Math.max(1, xScale(high) - xScale(low) - 1),
      y: yScale(members.length), height: yScale(0) - yScale(members.length),
    });
    bar.addEventListener("click", () => setFilter(`${name}>=${tickText(low).replace("−", "-")} ${name}<${tickText(high).replace("−", "-")}`));
    drawing.append(withTooltip(bar, `${tickText(low)} to ${tickText(high)}\n${members.length} crystals`));
  }
  if (threshold !== null && threshold > xScale.low && threshold < xScale.high) {
    drawing.append(svg("line", { class: "threshold", x1: xScale(threshold), x2: xScale(threshold), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }));
  }
  return drawing;
}

// Two properties of each crystal

/** Categories of a column among rows by falling count, and the colour of each. */
function categoryColors(rows, name) {
  const counts = countValues(rows, name).slice(0, MAX_COLORS);
  return new Map(counts.map(([value], index) => [value, `var(--c${index})`]));
}

/** Counts by value of a column, most frequent first; empty values are left out. */
function countValues(rows, name) {
  const counts = new Map();
  for (const row of rows) {
    const value = cell(row, name);
    if (value !== null && value !== "") counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return [...counts].sort((p, q) => q[1] - p[1]);
}

function scatter(rows, xName, yName, colorName) {
  const some = rowsWith(rows, xName, yName);
  if (!some.length) return emptyChart("No crystal here has both values.");
  const colors = categoryColors(some, colorName);
  const { drawing, xScale, yScale } = frame({
    x: paddedRange(some.map((row) => cell(row, xName))), y: paddedRange(some.map((row) => cell(row, yName))),
    xLabel: axisLabel(xName), yLabel: axisLabel(yName),
  });
  for (const row of some) {
    const color = colors.get(cell(row, colorName)) ?? "var(--quiet)";
    const mark = svg("circle", { class: "mark", cx: xScale(cell(row, xName)), cy: yScale(cell(row, yName)), r: some.length > 300 ? 3 : 4.5, fill: color });
    drawing.append(crystalMark(mark, row, [xName, yName, colorName]));
  }
  const entries = [...colors].map(([value, color]) => key(swatch(color), formatValue(colorName, value)));
  return el("div", {}, drawing, el("div", { className: "legend" }, ...entries));
}

// Categories

function barChart(rows, name) {
  const counts = countValues(rows, name);
  if (!counts.length) return emptyChart("No crystal here has a value.");
  const shown = counts.slice(0, MAX_BARS);
  const height = Math.min(34, (HEIGHT - 20) / shown.length);
  const most = shown[0][1];
  const left = 150;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${Math.max(120, shown.length * height + 20)}`, role: "img" });
  shown.forEach(([value, count], place) => {
    const y = place * height + 4;
    const length = Math.max(2, ((WIDTH - left - 60) * count) / most);
    const text = formatValue(name, value);
    const group = svg("g", { class: "clickable" },
      svg("rect", { class: "hit", x: 0, y, width: WIDTH, height }),
      svg("text", { class: "tick", x: left - 8, y: y + height / 2 + 4, "text-anchor": "end" }, text.length > 22 ? `${text.slice(0, 21)}…` : text),
      svg("rect", { class: "bar", x: left, y: y + 2, width: length, height: height - 6, rx: 2 }),
      svg("text", { class: "tick", x: left + length + 6, y: y + height / 2 + 4 }, String(count)));
    group.addEventListener("click", () => setFilter(`${name}=${/\s/.test(value) ? `"${value}"` : value}`));
    drawing.append(withTooltip(group, `${text}\n${count} crystals`));
  });
  const rest = counts.length - shown.length;
  return el("div", {}, drawing, rest ? el("p", { className: "quiet" }, `and ${rest} more values`) : "");
}

// Elements

function elementsOf(row) {
  const system = cell(row, "chemical_system");
  return system ? String(system).split("-") : [];
}

function periodicTable(rows) {
  const counts = new Map();
  for (const row of rows) for (const symbol of elementsOf(row)) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
  const most = Math.max(1, ...counts.values());
  const [width, height] = [46, 44];
  const drawing = svg("svg", { viewBox: `-2 -2 ${18 * width + 4} ${9.3 * height + 4}`, role: "img", class: "periodic" });
  for (const [symbol, line, column] of data.elements.slice(1)) {
    const count = counts.get(symbol) ?? 0;
    const share = count ? 0.12 + 0.88 * Math.sqrt(count / most) : 0;
    const [x, y] = [column * width, (line + (line > 6 ? 0.3 : 0)) * height];
    const group = svg("g", { class: count ? "clickable" : "absent" },
      svg("rect", { x, y, width: width - 3, height: height - 3, rx: 4, fill: count ? `color-mix(in oklab, var(--accent) ${(100 * share).toFixed(0)}%, var(--card))` : "var(--faint)" }),
      svg("text", { x: x + 21, y: y + 20, class: share > 0.55 ? "symbol on" : "symbol" }, symbol),
      svg("text", { x: x + 21, y: y + 34, class: share > 0.55 ? "number on" : "number" }, count ? String(count) : ""));
    if (count) group.addEventListener("click", () => toggleWord(symbol));
    drawing.append(withTooltip(group, `${symbol}: in ${count} of ${rows.length} crystals`));
  }
  return drawing;
}

// The section

function select(options, chosen, onChange, label) {
  const node = el("select", { "aria-label": label },
    ...options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
  node.addEventListener("change", () => onChange(node.value));
  return node;
}

const chartState = {};

/** A chart under its heading, with what can be chosen about it. */
function chartCard(title, body, ...controls) {
  return el("div", { className: "card" }, el("div", { className: "bar" }, el("h2", {}, title), ...controls), body);
}

function chosen(name, fallbacks, available) {
  chartState[name] ??= fallbacks.find((candidate) => available.includes(candidate)) ?? available[0];
  return chartState[name];
}

function chooser(name, columns, label, redraw) {
  const options = columns.map((column) => [column, meta(column).label]);
  return select(options, chartState[name], (value) => {
    chartState[name] = value;
    redraw();
  }, label);
}

/** Columns with few enough values to count. */
const categoricalColumns = data.columns.filter((name) => {
  if (["name", "formula", "cif", "relaxed_cif"].includes(name)) return false;
  if (["space_group", "relaxed_space_group", "num_atoms"].includes(name)) return true;
  const kinds = countValues(allRows, name);
  return !isNumeric.has(name) && kinds.length > 0 && kinds.length <= 40;
});

/** The energies of the listed crystals, beside the pictures. */
function drawEnergies(rows) {
  if (!columnOf.has("e_above_hull")) return;
  document.getElementById("energies").replaceChildren(chartCard("Energy above the hull", rankedHullChart(rows)));
  document.getElementById("best").hidden = false;
}

const chartsFold = document.getElementById("charts-fold");

/** Charts of rows, where the reader has unfolded them. */
function drawCharts(rows) {
  if (!chartsFold.open) return;
  const redraw = () => drawCharts(rows);
  const cards = [];
  if (columnOf.has("e_above_hull")) {
    const kind = chosen("hull", [data.rows.length > MAX_RANKED ? "histogram" : "ranked"], ["ranked", "histogram"]);
    const body = kind === "ranked" ? rankedHullChart(rows) : histogram(rows, "e_above_hull", data.metastable);
    const choice = select([["ranked", "Crystals"], ["histogram", "Histogram"]], kind, (value) => {
      chartState.hull = value;
      redraw();
    }, "Kind of chart");
    cards.push(chartCard("Distance to the hull", body, choice));
  }
  if (numericColumns.length) {
    const y = chosen("y", ["e_above_hull", "density"], numericColumns);
    const x = chosen("x", ["formation_energy_per_atom", "volume_per_atom"], numericColumns);
    const color = categoricalColumns.length ? chosen("color", ["crystal_system"], categoricalColumns) : null;
    cards.push(chartCard("Properties", scatter(rows, x, y, color),
      chooser("y", numericColumns, "Vertical axis", redraw), el("span", { className: "quiet" }, "against"),
      chooser("x", numericColumns, "Horizontal axis", redraw),
      ...(color ? [el("span", { className: "quiet" }, "by"), chooser("color", categoricalColumns, "Colour", redraw)] : [])));
  }
  if (columnOf.has("chemical_system")) cards.push(chartCard("Elements", periodicTable(rows)));
  if (categoricalColumns.length) {
    const name = chosen("bars", ["crystal_system"], categoricalColumns);
    cards.push(chartCard("Counts", barChart(rows, name), chooser("bars", categoricalColumns, "Column", redraw)));
  }
  document.getElementById("charts").replaceChildren(...cards);
}
