// The selected trial, the tables, and what is chosen.

const select = (id) => {
  state.selected = id;
  detail();
  draw();
  for (const row of document.querySelectorAll("#front tbody tr")) row.classList.toggle("selected", row.dataset.id === id);
};

// What bounds a candidate on the chosen device: shares of its time, beside the uncompressed model's, and its slowest kernels.
const BOUNDS = ["compute", "memory", "launch", "transfer"];

const stack = (title, shares) => {
  const kinds = BOUNDS.filter((kind) => shares[kind] >= 0.005), bar = el("div", { class: "stack" });
  for (const kind of kinds) {
    const part = el("i", { class: `of-${kind}` });
    part.style.width = `${100 * shares[kind]}%`;
    bar.append(part);
  }
  const key = el("div", { class: "key" });
  for (const kind of kinds) key.append(el("span", {}, el("i", { class: `of-${kind}` }), `${kind} ${Math.round(100 * shares[kind])} %`));
  return [el("p", { class: "muted stack-title" }, title), bar, key];
};

const bounds = (p) => {
  const found = p.bounds[state.device], plain = (data.points.find((q) => q.baseline === "fp32") || { bounds: {} }).bounds[state.device];
  if (!found) return [];
  const parts = [el("h3", {}, `What bounds it on ${state.device}`)];
  const compared = (title, of) => {
    if (!of(found)) return;
    parts.push(...stack(`${title}${placed(of(found))}`, of(found).bound_by));
    if (plain && of(plain) && p.baseline !== "fp32") parts.push(...stack("the same, uncompressed", of(plain).bound_by));
  };
  compared(found.decode ? "one forward pass" : "one inference", (of) => of);
  compared("one token", (of) => of.decode);
  const body = el("tbody"), of = found.decode || found;
  for (const k of of.kernels)
    body.append(el("tr", {}, el("td", { class: "kernel" }, k.module || k.name, el("small", {}, k.unit ? `${k.bound}, ${k.unit}` : k.bound)), el("td", { class: "number" }, `${digits(k.ms)} ms`, el("small", {}, `${Math.round(100 * k.share)} %`))));
  parts.push(el("p", { class: "muted stack-title" }, `slowest kernels${found.decode ? " of a token" : ""}`), el("div", { class: "scroll" }, el("table", {}, body)));
  return parts;
};
const placed = (of) => (of.units ? `: ${Object.entries(of.units).map(([unit, share]) => `${unit} ${Math.round(100 * share)} %`).join(", ")} of the time` : "");

const verdict = (p) => el("span", { class: `badge ${p.verification.verdict}`, title: p.verification.reasons.join("; ") || `as promised, in ${p.verification.runtime}` }, p.verification.verdict);

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
  if (p.verification) head.append(verdict(p));
  card.append(head);
  if (p.verification) for (const reason of p.verification.reasons) card.append(el("p", { class: "reason" }, `${demoted(p) ? "Does not count: " : ""}${reason}`));
  if (p.summary) card.append(el("p", {}, p.summary));
  if (p.tied.length) card.append(el("p", { class: "muted" }, `Tied: no better, as far as a t test can tell, than ${p.tied.join(", ")}, which cost${p.tied.length === 1 ? "s" : ""} less.`));
  if (p.seeds) for (const reason of p.seeds.failed) card.append(el("p", { class: "reason" }, `Unstable: ${reason}`));
  if (p.dominates.length) card.append(el("p", { class: "muted" }, `Better than ${p.dominates.join(", ")} in every objective, or equal.`));
  if (p.status === "ok" && !p.feasible) card.append(el("p", { class: "muted" }, "Breaks a constraint of the experiment."));
  const list = el("dl");
  for (const m of data.metrics) {
    const e = estimate(p, full(m.name)) || (m.knowledge === "observed" ? p.metrics[m.name] : null);
    if (!e) continue;
    const note = m.knowledge === "observed" && !estimate(p, full(m.name)) ? " (search split)" : "";
    const range = spread(m, e);
    const seen = found(p, full(m.name));
    const line = el("dd", {}, figure(m, e[0]), el("small", {}, range ? ` ${range}` : ""), note);
    if (p.seeds && p.seeds.count > 1 && m.name in p.seeds.mean) line.append(el("br"), el("small", {}, `mean of ${p.seeds.count} seeds ${figure(m, p.seeds.mean[m.name])}`));
    if (seen !== undefined) line.append(el("br"), el("small", {}, `found ${figure(m, seen)}`));
    list.append(el("dt", {}, words(m.name)), line);
  }
  card.append(list);
  if (data.metrics.some((m) => m.knowledge === "predicted") && state.device) card.append(el("p", { class: "muted" }, `Predicted for ${state.device}. Ranges are 90 % intervals.${p.verification ? ` Found: in its artifact, in ${p.verification.runtime}.` : ""}`));
  const copy = el("button", { type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(`recipe_version: 1\nrecipe:\n${p.recipe}`); copy.textContent = "Copied"; } catch { copy.textContent = "Select the text instead"; }
  });
  const heading = el("h3", {}, "Recipe ");
  if (navigator.clipboard) heading.append(copy);
  card.append(heading, el("pre", {}, p.recipe.trimEnd()));
  card.append(...bounds(p));
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
    for (const line of [device, better(metrics.get(short))]) if (line) cell.append(el("small", {}, line));
    head.append(cell);
  }
  head.append(el("th", {}, "recipe", el("small", {}, data.settings)), el("th", {}, "dominates"));
  const body = el("tbody");
  for (const id of data.order) {
    const p = data.points.find((q) => q.id === id);
    const row = el("tr", { tabindex: "0", "data-id": id, class: `${p.baseline !== null ? "uniform" : ""}${p.onFront ? "" : " off"}` });
    const first = el("td", { class: "name", "data-label": "id" }, p.baseline ?? id);
    if (p.baseline !== null) first.append(el("span", { class: "badge warm" }, "baseline"));
    if (p.knee) first.append(el("span", { class: "badge" }, "knee"));
    if (p.tied.length) first.append(el("span", { class: "badge", title: `no better, as far as a t test can tell, than ${p.tied.join(", ")}, which cost less` }, "tied"));
    if (p.seeds && p.seeds.failed.length) first.append(el("span", { class: "badge regressed", title: p.seeds.failed.join("; ") }, "unstable"));
    if (p.verification) first.append(verdict(p));
    row.append(first);
    for (const name of data.objectives) {
      const m = metricOf(name), e = estimate(p, name, data.split);
      const cell = el("td", { class: "number", "data-label": words(m.name) }, e ? figure(m, e[0]) : "–");
      if (e) {
        const range = spread(m, e), tier = m.knowledge === "predicted" ? e[3] : "";
        if (range || tier) cell.append(el("small", {}, [range, tier].filter(Boolean).join(", ")));
        if (found(p, name) !== undefined) cell.append(el("small", {}, `found ${figure(m, found(p, name))}`));
      }
      row.append(cell);
    }
    row.append(el("td", { class: "recipe", "data-label": "recipe" }, p.baseline !== null ? "" : p.brief), el("td", { class: "dominates", "data-label": "dominates" }, p.baseline !== null ? "" : p.dominates.join(", ")));
    const show = () => { select(id); if (matchMedia("(max-width: 960px)").matches) $("detail").scrollIntoView({ behavior: "smooth", block: "start" }); };
    row.addEventListener("click", show);
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") show(); });
    body.append(row);
  }
  table.append(el("thead", {}, head), body);
  const runtime = data.points.find((p) => p.verification)?.verification.runtime;
  $("verified").textContent = runtime ? `Points of the front were exported and measured again in ${runtime}: what was found stands below what is promised. Latency on devices that were not at hand stays as predicted.` : "";
  for (const line of data.fronts) $("fronts").append(el("li", {}, line));
  $("settings").textContent = data.settings ? `Recipes show ${data.settings}.` : "";
};

const failedTable = () => {
  const failed = data.points.filter((p) => p.status !== "ok");
  $("failed-card").hidden = !failed.length;
  const body = el("tbody");
  for (const p of failed) body.append(el("tr", {}, el("td", {}, p.id), el("td", {}, p.status), el("td", { class: "reason" }, p.reason), el("td", { class: "recipe" }, p.brief)));
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
  tile(digits(data.hypervolume[0]), "hypervolume, higher is better");
  tile(digits(data.hypervolume[1]), "of the baselines alone");
}
const verified = data.points.filter((p) => p.onFront && p.verification), lost = data.points.filter(demoted);
if (verified.length) tile(`${verified.filter((p) => p.verification.verdict === "kept").length} of ${data.points.filter((p) => p.onFront).length}`, "kept their promise when exported");
$("demoted-key").hidden = !lost.some((p) => p.baseline === null);
if (lost.length) tile(lost.length, "demoted: broke their promise");
tile(data.points.filter((p) => p.onFront && p.baseline === null && p.dominates.length).length, "points dominate a baseline");

const options = (id, entries, chosen, change) => {
  const node = $(id);
  for (const [key, text] of entries) node.append(el("option", { value: key }, text));
  node.value = chosen;
  node.addEventListener("change", () => { change(node.value); draw(); detail(); });
};
const choose = (mine, other) => (name) => {
  // The same metric on both axes shows nothing: the other axis takes what this one had.
  if (state[other] === name) $(other).value = state[other] = state[mine];
  state[mine] = name;
  spreadWide();
};
const spreadWide = () => {
  // A cost that spans more than a factor of ten is unreadable on a linear axis.
  const found = data.points.filter((p) => p.status === "ok").map((p) => value(p, full(state.x))).filter(Number.isFinite);
  $("log").checked = state.log = Math.min(...found) > 0 && Math.max(...found) / Math.min(...found) > 10;
};
const shorts = [...new Set(data.objectives.map((n) => n.split("@")[0]))].filter((n) => metrics.has(n));
const names = data.metrics.map((m) => m.name);
state.y = shorts[0] || names[0];
state.x = shorts[1] || names.find((n) => n !== state.y) || names[0];
const objectiveDevice = data.objectives.find((n) => n.includes("@"));
if (objectiveDevice) state.device = objectiveDevice.split("@")[1];
if (names.length) {
  options("y", names.map((n) => [n, words(n)]), state.y, choose("y", "x"));
  options("x", names.map((n) => [n, words(n)]), state.x, choose("x", "y"));
  options("device", data.devices.map((d) => [d, d]), state.device, (v) => (state.device = v));
  options("split", (data.split === "report" ? [["report", "report (front)"], ["search", "search (all trials)"]] : [["search", "search"]]), state.split, (v) => (state.split = v));
  $("log").addEventListener("change", () => { state.log = $("log").checked; draw(); });
  $("intervals").addEventListener("change", () => { state.intervals = $("intervals").checked; draw(); });
  if (!data.devices.length) $("device").parentElement.hidden = true;
  const knee = data.points.find((p) => p.knee);
  spreadWide();
  frontTable();
  select(knee ? knee.id : null);
  let drawn = $("plot").clientWidth;
  new ResizeObserver(() => { if ($("plot").clientWidth !== drawn) { drawn = $("plot").clientWidth; draw(); } }).observe($("plot"));
} else $("plot").append(el("p", { class: "muted" }, "No trial has ended yet."));
failedTable();
const list = $("provenance");
for (const [key, text] of data.provenance) list.append(el("dt", {}, key), el("dd", {}, text));
