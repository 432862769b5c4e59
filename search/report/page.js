"use strict";
// Everything from the study is set as text (textContent, attributes of numbers), never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const metrics = new Map(data.metrics.map((m) => [m.name, m]));
const state = { x: "", y: "", device: data.devices[0] || "", split: data.split, log: false, selected: null };

const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};
const svg = (tag, attributes = {}, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};

// Figures

const digits = (v) => (Math.abs(v) >= 1000 ? v.toFixed(0) : String(Number(v.toPrecision(3))));
const scaleOf = (m, v) => {
  if (m.name === "accuracy") return [0.01, "%"];
  if (m.unit === "B" || (!m.unit && m.knowledge === "exact")) {
    const steps = m.unit === "B" ? [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]] : [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
    const found = steps.find(([size]) => Math.abs(v) >= size);
    if (found) return found;
  }
  return [1, m.unit];
};
const figure = (m, v) => {
  const [size, unit] = scaleOf(m, v);
  return unit ? `${digits(v / size)} ${unit}` : digits(v / size);
};
const spread = (m, e) => {
  if (e[1] === e[2]) return "";
  const [size] = scaleOf(m, e[0]);
  return `${digits(e[1] / size)}–${digits(e[2] / size)}`;
};
const words = (name) => name.replace(/_(ms|mj|bytes)$/, "").replaceAll("_", " ");
const full = (name) => (metrics.get(name).knowledge === "predicted" ? `${name}@${state.device}` : name);

// Values: quality from the chosen split, costs from the record.

const estimate = (point, name) => {
  const metric = metrics.get(name.split("@")[0]);
  if (metric && metric.knowledge === "observed" && state.split === "report") return point.report[name];
  return point.metrics[name];
};
const value = (point, name) => (estimate(point, name) || [])[0];
const loss = (point, name) => (metrics.get(name.split("@")[0]).direction === "min" ? 1 : -1) * value(point, name);

// Axes

const nice = (low, high, about) => {
  const raw = (high - low) / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
};
const logTicks = (low, high) => {
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
    for (const m of high / low > 50 ? [1] : high / low > 5 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]) {
      const t = Number((m * 10 ** p).toPrecision(6));
      if (t >= low && t <= high) ticks.push(t);
    }
  return ticks;
};
const axis = (values, start, end, log) => {
  let low = Math.min(...values), high = Math.max(...values);
  if (log && low > 0) {
    const margin = (high / low) ** 0.05 || 1.1;
    low /= Math.max(margin, 1.02); high *= Math.max(margin, 1.02);
    const span = Math.log(high / low);
    return { at: (v) => start + (Math.log(v / low) / span) * (end - start), ticks: logTicks(low, high) };
  }
  const margin = (high - low) / 20 || Math.abs(high) / 20 || 1;
  const floor = low - margin;
  low = low >= 0 && floor < 0 ? 0 : floor;
  high += margin;
  return { at: (v) => start + ((v - low) / (high - low)) * (end - start), ticks: nice(low, high, 6) };
};

// The plot

const W = 800, H = 460, L = 74, R = 18, T = 14, B = 56;

const draw = () => {
  const [xn, yn] = [full(state.x), full(state.y)], [xm, ym] = [metrics.get(state.x), metrics.get(state.y)];
  const points = data.points.filter((p) => p.status === "ok" && Number.isFinite(value(p, xn)) && Number.isFinite(value(p, yn)));
  const plot = $("plot");
  plot.replaceChildren();
  const hidden = data.points.filter((p) => p.status === "ok").length - points.length;
  const parts = [];
  if (state.split === "report") parts.push("Figures on the report split exist for the front and the baselines.");
  else if (data.split === "report") parts.push("The search ranked trials by these figures; the front is judged on the report split.");
  if (hidden) parts.push(`${hidden} trial${hidden > 1 ? "s" : ""} without these figures not shown.`);
  if ([xm, ym].some((m) => m.knowledge === "predicted")) parts.push(`${words([xm, ym].find((m) => m.knowledge === "predicted").name)} is predicted; hover for interval and tier.`);
  $("note").textContent = parts.join(" ");
  if (!points.length) {
    plot.append(el("p", { class: "muted" }, "No trial has both figures."));
    return;
  }
  const x = axis(points.map((p) => value(p, xn)), L, W - R, state.log), y = axis(points.map((p) => value(p, yn)), H - B, T, false);
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": `${words(state.y)} against ${words(state.x)}` });
  for (const t of x.ticks) {
    root.append(svg("line", { class: "grid", x1: x.at(t), x2: x.at(t), y1: T, y2: H - B }));
    root.append(svg("text", { x: x.at(t), y: H - B + 18, "text-anchor": "middle" }, figure(xm, t)));
  }
  for (const t of y.ticks) {
    root.append(svg("line", { class: "grid", x1: L, x2: W - R, y1: y.at(t), y2: y.at(t) }));
    root.append(svg("text", { x: L - 8, y: y.at(t) + 4, "text-anchor": "end" }, figure(ym, t)));
  }
  const title = (m) => `${words(m.name)}${m.knowledge === "predicted" ? ` on ${state.device}` : ""}, ${m.direction === "min" ? "lower" : "higher"} is better`;
  root.append(svg("text", { x: (L + W - R) / 2, y: H - 12, "text-anchor": "middle" }, title(xm)));
  root.append(svg("text", { transform: `translate(16 ${(T + H - B) / 2}) rotate(-90)`, "text-anchor": "middle" }, title(ym)));

  const best = points.filter((p) => p.feasible && !points.some((q) => q.feasible && loss(q, xn) <= loss(p, xn) && loss(q, yn) <= loss(p, yn) && (loss(q, xn) < loss(p, xn) || loss(q, yn) < loss(p, yn))));
  best.sort((p, q) => loss(p, xn) - loss(q, xn));
  if (best.length > 1) {
    let path = `M${x.at(value(best[0], xn))} ${y.at(value(best[0], yn))}`;
    for (const p of best.slice(1)) path += `H${x.at(value(p, xn))}V${y.at(value(p, yn))}`;
    root.append(svg("path", { class: "stairs", d: path }));
  }
  const rank = (p) => (p.baseline !== null ? 1 : p.onFront ? 2 : 0);
  const labels = [];
  for (const p of [...points].sort((a, b) => rank(a) - rank(b))) {
    const px = x.at(value(p, xn)), py = y.at(value(p, yn));
    let mark;
    if (p.baseline !== null) {
      mark = svg("path", { class: `diamond${p.onFront ? " on" : ""}`, d: `M${px} ${py - 6}l6 6l-6 6l-6 -6z` });
      if (!labels.some(([lx, ly]) => Math.abs(lx - px) < 60 && Math.abs(ly - py) < 12)) {
        const left = px > W - R - 90;
        root.append(svg("text", { class: "baseline-name", x: px + (left ? -9 : 9), y: py - 7, "text-anchor": left ? "end" : "start" }, p.baseline));
        labels.push([px, py]);
      }
    } else mark = svg("circle", { class: `dot ${p.onFront ? "front" : "other"}`, cx: px, cy: py, r: p.onFront ? 5.5 : 4 });
    mark.setAttribute("tabindex", "0");
    mark.setAttribute("role", "button");
    mark.setAttribute("aria-label", `${p.id}: ${figure(ym, value(p, yn))}, ${figure(xm, value(p, xn))}`);
    mark.addEventListener("mouseenter", (event) => tip(p, event));
    mark.addEventListener("mousemove", (event) => tip(p, event));
    mark.addEventListener("mouseleave", () => ($("tip").hidden = true));
    mark.addEventListener("click", () => select(p.id));
    mark.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(p.id); } });
    root.append(mark);
    if (p.id === state.selected) {
      const [ex, ey] = [estimate(p, xn), estimate(p, yn)];
      const clip = (v, a, b) => Math.min(Math.max(v, Math.min(a, b)), Math.max(a, b));
      root.append(svg("line", { class: "whisker", x1: clip(x.at(Math.max(ex[1], 1e-12)), L, W - R), x2: clip(x.at(ex[2]), L, W - R), y1: py, y2: py }));
      root.append(svg("line", { class: "whisker", x1: px, x2: px, y1: clip(y.at(ey[1]), T, H - B), y2: clip(y.at(ey[2]), T, H - B) }));
      root.append(svg("circle", { class: "ring", cx: px, cy: py, r: 10 }));
    }
  }
  plot.append(root);
};

const line = (p, name) => {
  const e = estimate(p, name), m = metrics.get(name.split("@")[0]);
  if (!e) return null;
  const tier = ["exact", "measured"].includes(e[3]) ? "" : `, predicted (${e[3]})`;
  const range = spread(m, e);
  return `${words(m.name)} ${figure(m, e[0])}${range ? ` (${range})` : ""}${tier}`;
};

const tip = (p, event) => {
  const node = $("tip"), shown = [...new Set([full(state.y), full(state.x), ...data.objectives])];
  node.replaceChildren(el("b", {}, p.id + (p.knee ? " (knee)" : "")), p.brief);
  for (const name of shown) {
    const text = line(p, name);
    if (text) node.append(el("br"), text + (name.includes("@") ? ` on ${name.split("@")[1].split("/")[0]}` : ""));
  }
  node.hidden = false;
  const box = node.getBoundingClientRect();
  node.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
  node.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18}px`;
};

// One trial

const select = (id) => {
  state.selected = id;
  detail();
  draw();
  for (const row of document.querySelectorAll("#front tbody tr")) row.classList.toggle("selected", row.dataset.id === id);
};

const detail = () => {
  const card = $("detail"), p = data.points.find((q) => q.id === state.selected);
  card.replaceChildren();
  if (!p) {
    card.append(el("p", { class: "muted" }, "Choose a point to see its recipe."));
    return;
  }
  const head = el("h2", {}, p.id);
  if (p.knee) head.append(el("span", { class: "badge" }, "knee"));
  if (p.baseline !== null) head.append(el("span", { class: "badge warm" }, "baseline"));
  card.append(head);
  if (p.summary) card.append(el("p", {}, p.summary));
  if (p.dominates.length) card.append(el("p", { class: "muted" }, `Better than ${p.dominates.join(", ")} in every objective, or equal.`));
  if (p.status === "ok" && !p.feasible) card.append(el("p", { class: "muted" }, "Breaks a constraint of the experiment."));
  const list = el("dl");
  for (const m of data.metrics) {
    const e = estimate(p, full(m.name)) || (m.knowledge === "observed" ? p.metrics[m.name] : null);
    if (!e) continue;
    const note = m.knowledge === "observed" && !estimate(p, full(m.name)) ? " (search split)" : "";
    const range = spread(m, e);
    list.append(el("dt", {}, words(m.name)), el("dd", {}, `${figure(m, e[0])}${range ? ` (${range})` : ""}${note}`));
  }
  card.append(list);
  if (data.metrics.some((m) => m.knowledge === "predicted") && state.device) card.append(el("p", { class: "muted" }, `Predicted for ${state.device}. Ranges are 90 % intervals.`));
  const copy = el("button", { type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(`recipe_version: 1\nrecipe:\n${p.recipe}`); copy.textContent = "Copied"; } catch { copy.textContent = "Select the text instead"; }
  });
  const heading = el("h3", {}, "Recipe ");
  if (navigator.clipboard) heading.append(copy);
  card.append(heading, el("pre", {}, p.recipe.trimEnd()));
  if (p.widths.length) {
    const table = el("table"), body = el("tbody");
    for (const [name, before, after] of p.widths) {
      const bar = el("i");
      bar.style.width = `${(100 * after) / before}%`;
      body.append(el("tr", {}, el("td", {}, name), el("td", { class: "number" }, `${before} → ${after}`), el("td", {}, el("div", { class: "bar" }, bar))));
    }
    table.append(body);
    card.append(el("h3", {}, "Widths before and after"), el("div", { class: "scroll" }, table));
  }
};

// Tables

const frontTable = () => {
  const table = $("front"), head = el("tr", {}, el("th", {}, "id"));
  table.replaceChildren();
  for (const name of data.objectives) {
    const [short, device] = name.split("@");
    const cell = el("th", { class: "number" }, words(short));
    if (device) cell.append(el("small", {}, device));
    head.append(cell);
  }
  head.append(el("th", {}, "recipe", el("small", {}, data.settings)), el("th", {}, "dominates"));
  const body = el("tbody");
  for (const id of data.order) {
    const p = data.points.find((q) => q.id === id);
    const row = el("tr", { tabindex: "0", "data-id": id, class: `${p.baseline !== null ? "uniform" : ""}${p.onFront ? "" : " off"}` });
    const first = el("td", {}, id);
    if (p.knee) first.append(el("span", { class: "badge" }, "knee"));
    row.append(first);
    for (const name of data.objectives) {
      const m = metrics.get(name.split("@")[0]), e = m.knowledge === "observed" && data.split === "report" ? p.report[name] : p.metrics[name];
      const cell = el("td", { class: "number" }, e ? figure(m, e[0]) : "–");
      if (e) {
        const range = spread(m, e), tier = m.knowledge === "predicted" ? e[3] : "";
        if (range || tier) cell.append(el("small", {}, [range, tier].filter(Boolean).join(", ")));
      }
      row.append(cell);
    }
    row.append(el("td", {}, p.brief), el("td", {}, p.baseline !== null ? "" : p.dominates.join(", ")));
    row.addEventListener("click", () => { select(id); $("plot-card").scrollIntoView({ behavior: "smooth", block: "nearest" }); });
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") select(id); });
    body.append(row);
  }
  table.append(el("thead", {}, head), body);
};

const failedTable = () => {
  const failed = data.points.filter((p) => p.status !== "ok");
  $("failed-card").hidden = !failed.length;
  const body = el("tbody");
  for (const p of failed) body.append(el("tr", {}, el("td", {}, p.id), el("td", {}, p.status), el("td", {}, p.reason), el("td", {}, p.brief)));
  $("failed").append(el("thead", {}, el("tr", {}, ...["id", "status", "reason", "recipe"].map((t) => el("th", {}, t)))), body);
};

// The page

document.title = `${data.study} · compareto`;
$("title").textContent = data.study;
$("summary").textContent = data.summary ? `Knee against the uncompressed model: ${data.summary}` : "";
const tile = (number, text) => $("tiles").append(el("li", {}, el("b", {}, String(number)), el("span", {}, text)));
tile(data.points.filter((p) => p.onFront).length, "points on the front");
tile(data.points.filter((p) => p.baseline === null).length, "trials");
for (const [status, count] of Object.entries(data.statuses)) if (status !== "ok") tile(count, status);
if (data.hypervolume[0] !== null) {
  tile(digits(data.hypervolume[0]), "hypervolume of the front");
  tile(digits(data.hypervolume[1]), "of the baselines alone");
}
tile(data.points.filter((p) => p.onFront && p.baseline === null && p.dominates.length).length, "points dominate a baseline");

const options = (id, entries, chosen, change) => {
  const node = $(id);
  for (const [key, text] of entries) node.append(el("option", { value: key }, text));
  node.value = chosen;
  node.addEventListener("change", () => { change(node.value); draw(); detail(); });
};
const shorts = [...new Set(data.objectives.map((n) => n.split("@")[0]))].filter((n) => metrics.has(n));
const names = data.metrics.map((m) => m.name);
state.y = shorts[0] || names[0];
state.x = shorts[1] || names.find((n) => n !== state.y) || names[0];
const objectiveDevice = data.objectives.find((n) => n.includes("@"));
if (objectiveDevice) state.device = objectiveDevice.split("@")[1];
if (names.length) {
  options("y", names.map((n) => [n, words(n)]), state.y, (v) => (state.y = v));
  options("x", names.map((n) => [n, words(n)]), state.x, (v) => (state.x = v));
  options("device", data.devices.map((d) => [d, d]), state.device, (v) => (state.device = v));
  options("split", (data.split === "report" ? [["report", "report (front)"], ["search", "search (all trials)"]] : [["search", "search"]]), state.split, (v) => (state.split = v));
  $("log").addEventListener("change", () => { state.log = $("log").checked; draw(); });
  if (!data.devices.length) $("device").parentElement.hidden = true;
  const knee = data.points.find((p) => p.knee);
  frontTable();
  select(knee ? knee.id : null);
} else $("plot").append(el("p", { class: "muted" }, "No trial has ended yet."));
failedTable();
const list = $("provenance");
for (const [key, text] of data.provenance) list.append(el("dt", {}, key), el("dd", {}, text));
