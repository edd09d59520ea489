// The list of runs and their curves, as server-sent events bring them. What runs say becomes text nodes, never markup.
"use strict";

const WIDTH = 460, HEIGHT = 250, LEFT = 62, RIGHT = 14, TOP = 12, BOTTOM = 34, COLOURS = 6, MOST = 4000;
const FIRST = ["rollout/ep_rew_mean", "eval/mean_reward", "rollout/success_rate", "rollout/ep_len_mean"];
const here = document.body.dataset;
const names = new URLSearchParams(here.runs).getAll("run");
const series = new Map();  // metric: run: [[steps, mean, least, most], ...]
const figures = new Map();  // metric: its figure
let due = null;

function make(name, attributes = {}, ...children) {
  const space = "svg polyline polygon line text".split(" ").includes(name) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);  // strings become text
  return element;
}

function ticks(low, high) {  // multiples of 1, 2 or 5 times a power of ten, at most six
  const power = 10 ** Math.floor(Math.log10((high - low) / 6));
  const step = [1, 2, 5, 10, 20].map((times) => times * power).find((size) => (high - low) / size <= 5);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= high / step + 1e-9 && found.length < 8; i++) found.push(i * step);
  return found;
}

function short(number) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(number) >= size) return Number((number / size).toPrecision(3)) + unit;
  }
  return String(Number(number.toPrecision(3)));
}

function ends(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const half = Math.max(0.5, 1e-6 * Math.abs(low));
  return high > low ? [low, high] : [low - half, high + half];
}

function chart(metric) {
  const lines = names.map((name) => series.get(metric).get(name) ?? []);
  const [x0, x1] = ends(lines.flatMap((points) => points.map((p) => p[0])));
  const [y0, y1] = ends(lines.flatMap((points) => points.flatMap((p) => [p[2], p[3]])));
  const px = (x) => (LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const py = (y) => (HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, role: "img", "aria-label": metric });
  for (const y of ticks(y0, y1)) {
    svg.append(make("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py(y), y2: py(y) }));
    svg.append(make("text", { x: LEFT - 6, y: Number(py(y)) + 4, "text-anchor": "end" }, short(y)));
  }
  for (const x of ticks(x0, x1)) {
    svg.append(make("text", { x: px(x), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, short(x)));
  }
  lines.forEach((points, i) => {
    if (points.some((p) => p[2] < p[3])) {
      const around = points.map((p) => `${px(p[0])},${py(p[2])}`);
      around.push(...points.map((p) => `${px(p[0])},${py(p[3])}`).reverse());
      svg.append(make("polygon", { class: `band f${i % COLOURS}`, points: around.join(" ") }));
    }
    svg.append(make("polyline", { class: `s${i % COLOURS}`, points: points.map((p) => `${px(p[0])},${py(p[1])}`).join(" ") }));
  });
  svg.append(make("text", { x: (WIDTH + LEFT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "environment steps"));
  return make("figure", {}, svg, make("figcaption", {}, metric));
}

function draw() {
  due = null;
  const metrics = [...series.keys()].sort((a, b) => (FIRST.indexOf(a) + 9) % 9 - (FIRST.indexOf(b) + 9) % 9 || (a < b ? -1 : 1));
  const open = document.querySelector("details").open;
  for (const metric of metrics) {
    const place = document.querySelector(FIRST.includes(metric) ? ".charts" : ".others");
    if (!FIRST.includes(metric) && !open) continue;
    const figure = chart(metric);
    if (figures.has(metric)) figures.get(metric).replaceWith(figure);
    else place.append(figure);
    figures.set(metric, figure);
  }
}

function add({ run, rows }) {
  for (const { steps, tags } of rows) {
    for (const [metric, [mean, least, most]] of Object.entries(tags)) {
      if (!series.has(metric)) series.set(metric, new Map());
      const runs = series.get(metric);
      if (!runs.has(run)) runs.set(run, []);
      let points = runs.get(run);
      points.push([steps, mean, least, most]);
      if (points.length > MOST) runs.set(run, points.filter((_, i) => i % 2 === 0));
    }
  }
  due ??= requestAnimationFrame(draw);
}

function forget(run) {
  for (const runs of series.values()) runs.delete(run);
}

function state(data) {
  const row = [...document.querySelectorAll("tr.run")].find((tr) => tr.dataset.run === data.run);
  if (!row) return;
  row.querySelector(".state").textContent = data.state + data.at;
  row.querySelector(".stop").disabled = data.can !== "stop";
  row.querySelector(".resume").disabled = row.querySelector(".steps").disabled = data.can !== "resume";
  row.querySelector(".said").textContent = data.said;
  if (names.length === 1 && data.picture) picture(data.run, ...data.picture);
}

function picture(run, file, changed) {
  const source = "/picture?" + new URLSearchParams({ run, file, changed });
  if (document.querySelector(".picture figure")?.dataset.source === source) return;  // a film begins anew otherwise
  const shown = file.toLowerCase().endsWith(".mp4")
    ? make("video", { src: source, controls: "", loop: "" }) : make("img", { src: source, alt: file });
  document.querySelector(".picture").replaceChildren(make("figure", { "data-source": source }, shown, make("figcaption", {}, file)));
}

function list(runs) {  // lines stay the same elements: one may be under the pointer
  const body = document.querySelector("tbody");
  const known = new Map([...body.rows].map((row) => [row.dataset.run, row]));
  runs.forEach(({ run, cells, error }, i) => {
    const row = known.get(run) ?? make("tr", { "data-run": run });
    const texts = cells ?? [run, "broken: " + error];
    if (row.cells.length !== texts.length + 1) {
      const box = make("input", { type: "checkbox", name: "run", value: run });
      const link = make("a", { href: "/show?" + new URLSearchParams({ run }) });
      row.replaceChildren(make("td", {}, cells ? box : ""), make("td", {}, cells ? link : ""), ...texts.slice(1).map(() => make("td")));
      if (!cells) { row.cells[2].className = "broken"; row.cells[2].colSpan = 8; }
    }
    texts.forEach((text, j) => {
      const place = row.cells[j + 1].firstElementChild ?? row.cells[j + 1];
      if (place.textContent !== text) place.textContent = text;
    });
    known.delete(run);
    if (body.rows[i] !== row) body.insertBefore(row, body.rows[i] ?? null);
  });
  for (const row of known.values()) row.remove();
}

async function ask(button) {
  const row = button.closest("tr"), said = row.querySelector(".said"), query = new URLSearchParams({ run: row.dataset.run });
  const steps = row.querySelector(".steps").value;
  if (button.className === "resume" && steps) query.set("steps", steps);
  button.disabled = true;
  try {
    const answer = await fetch(`/${button.className}?${query}`, { method: "POST", headers: { "x-thorndike": here.word } });
    said.textContent = answer.headers.get("content-type").startsWith("application/json") ? (await answer.json()).said : await answer.text();
    if (!answer.ok) button.disabled = false;
  } catch { said.textContent = "thorndike ui is not running any more"; }
}

const events = new EventSource("/events?" + here.runs);
const on = (kind, act) => events.addEventListener(kind, (message) => act(JSON.parse(message.data)));
events.addEventListener("error", () => document.body.classList.add("gone"));
on("hello", () => { document.body.classList.remove("gone"); names.forEach(forget); });
if (here.kind === "index") on("runs", list);
on("rows", add);
on("anew", ({ run }) => forget(run));
on("state", state);
document.addEventListener("click", ({ target }) => { if (target.matches("button.stop, button.resume")) ask(target); });
document.querySelector("details")?.addEventListener("toggle", draw);
