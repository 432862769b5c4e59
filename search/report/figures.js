"use strict";
// What the page shows, and how: values, units, intervals. Everything from the study is set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const metrics = new Map(data.metrics.map((m) => [m.name, m]));
const state = { x: "", y: "", device: data.devices[0] || "", split: data.split, log: false, intervals: false, selected: null };

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

// Figures: search/figures.py says the same to the terminal.

const digits = (v) => (Math.abs(v) >= 1000 ? v.toFixed(0) : String(Number(v.toPrecision(3))));
const scaleOf = (m, v) => {
  if (m.accuracy) return [0.01, "%"];
  if (m.unit === "B" || (!m.unit && m.knowledge === "exact")) {
    const steps = m.unit === "B" ? [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]] : [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
    const found = steps.find(([size]) => Math.abs(v) >= size);
    if (found) return found;
  }
  return [1, m.unit];
};
const written = (m, v) => (m.accuracy ? v.toFixed(1) : digits(v));
const figure = (m, v) => {
  const [size, unit] = scaleOf(m, v);
  return `${written(m, v / size)} ${unit}`.trim();
};
const tick = (m, v) => {
  const [size, unit] = scaleOf(m, v);
  return `${digits(v / size)} ${unit}`.trim();
};
const spread = (m, e) => {
  if (e[1] === e[2]) return "";
  const [size] = scaleOf(m, e[0]);
  return `${written(m, e[1] / size)}–${written(m, e[2] / size)}`;
};
const words = (name) => (name === "macs" ? "MACs" : name.replace(/_(ms|mj|bytes)$/, "").replaceAll("_", " "));
const better = (m) => (m.direction === "min" ? "lower is better" : "higher is better");
const metricOf = (name) => metrics.get(name.split("@")[0]);
const full = (name) => (metrics.get(name).knowledge === "predicted" ? `${name}@${state.device}` : name);

// Values: quality from the chosen split, costs from the record. An estimate is [value, low, high, tier].

const estimate = (point, name, split = state.split) => {
  const metric = metricOf(name);
  if (metric && metric.knowledge === "observed" && split === "report") return point.report[name];
  return point.metrics[name];
};
const value = (point, name) => (estimate(point, name) || [])[0];
const demoted = (point) => Boolean(point.verification && point.verification.demoted);
const found = (point, name) => (point.verification ? point.verification.found[name] : undefined);
const loss = (point, name) => (metricOf(name).direction === "min" ? 1 : -1) * value(point, name);
