// The scatter: drawn at the size it has on the screen, so that its text is never scaled.

const nice = (low, high, about) => {
  const raw = (high - low) / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
};
const logTicks = (low, high, about) => {
  const all = (leads) => {
    const ticks = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
      for (const m of leads) {
        const t = Number((m * 10 ** p).toPrecision(6));
        if (t >= low && t <= high) ticks.push(t);
      }
    return ticks;
  };
  const finest = [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1, 3], [1]].map(all);
  return finest.find((ticks) => ticks.length <= about) || finest.at(-1).filter((_, i) => i % 2 === 0);
};
const axis = (values, start, end, log) => {
  let low = Math.min(...values), high = Math.max(...values);
  const about = Math.max(4, Math.round(Math.abs(end - start) / (end > start ? 80 : 60)));
  if (log && low > 0) {
    const margin = Math.max((high / low) ** 0.05, 1.02);
    low /= margin; high *= margin;
    const span = Math.log(high / low);
    return { at: (v) => start + (Math.log(Math.max(v, 1e-300) / low) / span) * (end - start), ticks: logTicks(low, high, about + 2) };
  }
  const margin = (high - low) / 20 || Math.abs(high) / 20 || 1, floor = low - margin;
  low = low >= 0 && floor < 0 ? 0 : floor;
  high += margin;
  return { at: (v) => start + ((v - low) / (high - low)) * (end - start), ticks: nice(low, high, about) };
};

// Names beside marks (search/report/names.py places those of the picture in the same way): of eight places the first that touches no other name and
// no other named mark, and covers as little of the unnamed marks as can be. A name without such a place is left out; hovering shows it.
const placeNames = (anchors, marks, frame) => {
  const taken = [];
  const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const around = ([x, y], r) => [x - r, y - r, x + r, y + r];
  return anchors.map((anchor) => {
    const [x, y, text] = anchor, w = 6.3 * text.length;
    let best = null;
    for (const [dx, dy] of [[9, -6], [9, 15], [-w / 2, -11], [-w / 2, 20], [-9 - w, -6], [-9 - w, 15], [9, 4], [-9 - w, 4]]) {
      const box = [x + dx - 1, y + dy - 10, x + dx + w + 1, y + dy + 3];
      const outside = box[0] < frame[0] || box[1] < frame[1] || box[2] > frame[2] || box[3] > frame[3];
      if (outside || taken.some((t) => overlap(t, box)) || anchors.some((a) => a !== anchor && overlap(box, around(a, 8)))) continue;
      const covered = marks.reduce((sum, mark) => sum + overlap(box, around(mark, 5)), 0);
      if (!best || covered < best.covered) best = { covered, box, x: x + dx, y: y + dy, text };
    }
    if (best) taken.push(best.box);
    return best;
  });
};

const draw = () => {
  const [xn, yn] = [full(state.x), full(state.y)], [xm, ym] = [metrics.get(state.x), metrics.get(state.y)];
  const ended = data.points.filter((p) => p.status === "ok");
  const points = ended.filter((p) => Number.isFinite(value(p, xn)) && Number.isFinite(value(p, yn)));
  const plot = $("plot");
  plot.replaceChildren();
  const parts = [], hidden = ended.length - points.length;
  if (state.split === "report" && hidden) parts.push(`Only the front and the baselines were evaluated on the report split; quality on search shows ${hidden} more.`);
  else if (hidden) parts.push(`${hidden} trial${hidden > 1 ? "s" : ""} without these figures not shown.`);
  if (state.split === "search" && data.split === "report") parts.push("The search ranked trials by these figures; the front is judged on the report split.");
  for (const m of new Set([xm, ym])) if (m.knowledge === "predicted") parts.push(`${words(m.name).replace(/^./, (c) => c.toUpperCase())} is predicted for ${state.device}.`);
  $("note").textContent = parts.join(" ");
  if (!points.length) {
    plot.append(el("p", { class: "muted" }, "No trial has both figures."));
    return;
  }
  const W = Math.max(plot.clientWidth, 280), H = Math.round(Math.min(Math.max(0.56 * W, 300), 500)), R = 22, T = 12, B = 54;
  const y = axis(points.map((p) => value(p, yn)), H - B, T, false);
  const L = 34 + 6.8 * Math.max(...y.ticks.map((t) => tick(ym, t).length));
  const x = axis(points.map((p) => value(p, xn)), L, W - R, state.log);
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, role: "group", "aria-label": `${words(state.y)} against ${words(state.x)}` });
  for (const t of x.ticks) {
    root.append(svg("line", { class: "grid", x1: x.at(t), x2: x.at(t), y1: T, y2: H - B }));
    root.append(svg("text", { x: x.at(t), y: H - B + 18, "text-anchor": "middle" }, tick(xm, t)));
  }
  for (const t of y.ticks) {
    root.append(svg("line", { class: "grid", x1: L, x2: W - R, y1: y.at(t), y2: y.at(t) }));
    root.append(svg("text", { x: L - 8, y: y.at(t) + 4, "text-anchor": "end" }, tick(ym, t)));
  }
  const title = (m, room) => {
    const short = `${words(m.name)}, ${better(m)}`, long = `${words(m.name)}${m.knowledge === "predicted" ? ` on ${state.device} (predicted)` : ""}, ${better(m)}`;
    return long.length * 6.5 < room ? long : short;
  };
  root.append(svg("text", { x: (L + W - R) / 2, y: H - 12, "text-anchor": "middle" }, title(xm, W - L)));
  root.append(svg("text", { transform: `translate(14 ${(T + H - B) / 2}) rotate(-90)`, "text-anchor": "middle" }, title(ym, H - B)));

  const beats = (q, p) => loss(q, xn) <= loss(p, xn) && loss(q, yn) <= loss(p, yn) && (loss(q, xn) < loss(p, xn) || loss(q, yn) < loss(p, yn));
  const counts = (p) => p.feasible && !demoted(p);
  const best = points.filter((p) => counts(p) && !points.some((q) => counts(q) && beats(q, p))).sort((p, q) => loss(p, xn) - loss(q, xn));
  if (best.length > 1) {
    let path = `M${x.at(value(best[0], xn))} ${y.at(value(best[0], yn))}`;
    for (const p of best.slice(1)) path += `H${x.at(value(p, xn))}V${y.at(value(p, yn))}`;
    root.append(svg("path", { class: "stairs", d: path }));
  }
  const place = (p) => [x.at(value(p, xn)), y.at(value(p, yn))];
  for (const p of points) if (p.id === state.selected || (state.intervals && p.onFront)) whiskers(root, p, xn, yn, x, y, [L, T, W - R, H - B]);
  const rank = (p) => (p.id === state.selected ? 3 : p.baseline !== null ? 1 : p.onFront ? 2 : 0);
  for (const p of [...points].sort((a, b) => rank(a) - rank(b))) {
    const [px, py] = place(p);
    if (p.knee) root.append(svg("circle", { class: "knee", cx: px, cy: py, r: 9 }));
    const mark = p.baseline !== null
      ? svg("path", { class: `diamond${p.onFront ? " on" : ""}`, d: `M${px} ${py - 6}l6 6l-6 6l-6 -6z` })
      : svg("circle", { class: `dot ${p.onFront ? "front" : demoted(p) ? "demoted" : "other"}`, cx: px, cy: py, r: p.onFront ? 5.5 : 4 });
    for (const [key, text] of [["tabindex", "0"], ["role", "button"], ["aria-label", `${p.id}: ${figure(ym, value(p, yn))}, ${figure(xm, value(p, xn))}`]]) mark.setAttribute(key, text);
    mark.addEventListener("mouseenter", (event) => tip(p, event.clientX, event.clientY));
    mark.addEventListener("mouseleave", () => ($("tip").hidden = true));
    mark.addEventListener("focus", () => { const box = mark.getBoundingClientRect(); if (mark.matches(":focus-visible")) tip(p, box.right, box.bottom); });
    mark.addEventListener("blur", () => ($("tip").hidden = true));
    mark.addEventListener("click", () => select(p.id));
    mark.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(p.id); } });
    root.append(mark);
    if (p.id === state.selected) root.append(svg("circle", { class: "ring", cx: px, cy: py, r: 12 }));
  }
  const named = new Map();
  for (const p of points.filter((q) => q.baseline !== null)) {
    const at = place(p), key = at.map(Math.round).join();
    named.set(key, [...at, named.has(key) ? `${named.get(key)[2]}, ${p.baseline}` : p.baseline]);
  }
  for (const name of placeNames([...named.values()], points.map(place), [L, T - 6, W, H - B])) if (name) root.append(svg("text", { class: "baseline-name", x: name.x, y: name.y }, name.text));
  plot.append(root);
};

// Intervals of 90 %; an arrow where one goes on outside the frame.
const whiskers = (root, p, xn, yn, x, y, [left, top, right, bottom]) => {
  const [px, py] = [x.at(value(p, xn)), y.at(value(p, yn))], [ex, ey] = [estimate(p, xn), estimate(p, yn)];
  const chosen = p.id === state.selected ? " selected" : "";
  // Predictions of one device err together: the interval of each, over the whole frame, would only hide the points.
  const drawn = (e) => e[1] !== e[2] && (chosen || e[3] === "measured");
  if (drawn(ex)) {
    const [a, b] = [x.at(ex[1]), x.at(ex[2])], [from, to] = [Math.max(Math.min(a, b), left), Math.min(Math.max(a, b), right)];
    const ends = `${Math.min(a, b) < left ? `M${left + 6} ${py - 4}l-6 4l6 4` : `M${from} ${py - 4}v8`}${Math.max(a, b) > right ? `M${right - 6} ${py - 4}l6 4l-6 4` : `M${to} ${py - 4}v8`}`;
    root.append(svg("path", { class: `whisker${chosen}`, d: `M${from} ${py}H${to}${ends}` }));
  }
  if (drawn(ey)) {
    const [a, b] = [y.at(ey[1]), y.at(ey[2])], [from, to] = [Math.max(Math.min(a, b), top), Math.min(Math.max(a, b), bottom)];
    const ends = `${Math.min(a, b) < top ? `M${px - 4} ${top + 6}l4 -6l4 6` : `M${px - 4} ${from}h8`}${Math.max(a, b) > bottom ? `M${px - 4} ${bottom - 6}l4 6l4 -6` : `M${px - 4} ${to}h8`}`;
    root.append(svg("path", { class: `whisker${chosen}`, d: `M${px} ${from}V${to}${ends}` }));
  }
};

const tip = (p, left, top) => {
  const node = $("tip"), shown = [...new Set([full(state.y), full(state.x), ...data.objectives])];
  node.replaceChildren(el("b", {}, p.id + (p.knee ? " (knee)" : "")), p.brief);
  for (const name of shown) {
    const e = estimate(p, name), m = metricOf(name);
    if (!e) continue;
    const range = spread(m, e), tier = ["exact", "measured"].includes(e[3]) ? "" : `, ${e[3]}`;
    const where = name.includes("@") ? ` on ${name.split("@")[1].split("/")[0]}` : "";
    node.append(el("br"), `${words(m.name)}${where} ${figure(m, e[0])}${range || tier ? ` (${[range, tier.slice(2)].filter(Boolean).join(", ")})` : ""}`);
  }
  node.hidden = false;
  const box = node.getBoundingClientRect();
  node.style.left = `${Math.max(8, Math.min(left + 14, innerWidth - box.width - 8))}px`;
  node.style.top = `${top + 18 + box.height > innerHeight ? Math.max(8, top - box.height - 12) : top + 18}px`;
};
