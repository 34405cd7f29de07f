// Pictures: the task stream on a canvas, the mesh as a ring, figures over time by uPlot.
import { html, useEffect, useRef } from "/vendor/htm-preact.js";
import { count, moment, seconds, size } from "/words.js";

export const STEALS_DRAWN = 60;
const ROW = 15, GAP = 3, TOP = 18;
const dark = matchMedia("(prefers-color-scheme: dark)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Each function has its colour, on every page and in every run; red and amber are for what went wrong. */
export function colour(name) {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 9973;
  return `hsl(${75 + (hash * 47) % 250} 55% ${dark.matches ? 58 : 47}%)`;
}

const endedWell = (bar) => bar.what === "done" || bar.what === "step";

// ---------------------------------------------------------------- the task stream

/** `stream` has rows, bars, marks and the difference of the clocks; it is read anew for each picture. */
export function TaskStream({ stream, span, paused, onHint, onPick }) {
  const canvas = useRef(null), shown = useRef(null);
  const rows = rowsOf(stream);
  useEffect(() => {
    const draw = () => { shown.current = paint(canvas.current, stream, rowsOf(stream), span, paused); };
    draw();
    const timer = setInterval(() => { if (!document.hidden && !paused) draw(); }, calm.matches ? 1000 : 100);
    dark.addEventListener("change", draw);
    addEventListener("resize", draw);
    return () => { clearInterval(timer); dark.removeEventListener("change", draw); removeEventListener("resize", draw); };
  }, [stream, span, paused]);
  const find = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return shown.current?.at(event.clientX - box.left, event.clientY - box.top);
  };
  const label = `Task stream: ${stream.bars.length} bars of ${rows.length} workers in the last ${span} seconds. ` +
    "The tables below say the same in words.";
  return html`<canvas ref=${canvas} role="img" aria-label=${label}
    onMouseMove=${(e) => { const bar = find(e); onHint(bar ? words(bar) : ""); }}
    onMouseLeave=${() => onHint("")}
    onClick=${(e) => { const bar = find(e); if (bar && bar.job) onPick(bar); }}></canvas>`;
}

const words = (bar) => `${bar.name} ${bar.chunks > 1 ? `${count(bar.chunks)} chunks from item ${count(bar.lo)}` :
  `items ${count(bar.lo)} to ${count(bar.hi - 1)}`}, ${seconds(bar.at - bar.begun)}, ${bar.node} worker ${bar.worker}` +
  (endedWell(bar) ? "" : `, ${bar.what}`) + (bar.failed ? `, ${count(bar.failed)} failed` : "");

/** A row for each worker that has bars, and at least one for each node. */
function rowsOf(stream) {
  const workers = new Map(stream.rows.map(([name, id]) => [id, { name, seen: new Set() }]));
  for (const bar of stream.bars) workers.get(bar.id)?.seen.add(bar.worker);
  for (const run of stream.running) workers.get(run.id)?.seen.add(run.worker);
  const rows = [];
  for (const [id, { name, seen }] of workers) {
    const sorted = [...seen].sort((a, b) => a - b);
    for (const worker of sorted.length ? sorted : [0]) rows.push({ id, name, worker });
  }
  return rows;
}

function paint(canvas, stream, rows, span, paused) {
  if (!canvas) return null;
  const wide = canvas.clientWidth, high = TOP + Math.max(1, rows.length) * (ROW + GAP), ratio = devicePixelRatio || 1;
  const left = wide < 600 ? 78 : 150;
  if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
    canvas.width = Math.round(wide * ratio); canvas.height = Math.round(high * ratio);
    canvas.style.height = `${high}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, high);
  const end = paused || Date.now() / 1000 + stream.ahead, start = end - span;
  const x = (at) => left + Math.max(0, (at - start) / span) * (wide - left - 4);
  const place = new Map(rows.map((row, i) => [`${row.id}/${row.worker}`, TOP + i * (ROW + GAP)]));
  const first = new Map();
  rows.forEach((row, i) => { if (!first.has(row.id)) first.set(row.id, TOP + i * (ROW + GAP)); });
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  grid(pen, wide, high, span, left);
  rows.forEach((row, i) => {
    const y = TOP + i * (ROW + GAP), again = i && rows[i - 1].id === row.id;
    pen.fillStyle = ink("--track");
    pen.fillRect(left, y, wide - left - 4, ROW);
    pen.fillStyle = ink("--ink");
    const many = rows.some((other) => other.id === row.id && other !== row);
    pen.fillText(fitted(pen, again ? `worker ${row.worker}` : many ? `${row.name} · ${row.worker}` : row.name, left - 8), 0, y + ROW / 2);
  });
  const found = [], lost = ink("--bad"), failed = ink("--warn");
  for (const bar of stream.bars) {
    const y = place.get(`${bar.id}/${bar.worker}`);
    if (y === undefined || bar.at < start || bar.begun > end) continue;
    const from = x(bar.begun), long = Math.max(1, x(Math.min(bar.at, end)) - from);
    pen.fillStyle = endedWell(bar) ? colour(bar.name) : lost;
    pen.fillRect(from, y, long, ROW);
    if (bar.failed) { pen.fillStyle = failed; pen.fillRect(from, y + ROW - 4, long, 4); }
    found.push([from, y, Math.max(3, long), bar]);
  }
  for (const run of paused ? [] : stream.running) {
    const y = place.get(`${run.id}/${run.worker}`), begun = end - run.seconds - (end - run.told);
    if (y === undefined) continue;
    const from = x(Math.max(start, begun)), long = Math.max(1, x(end) - from);
    pen.globalAlpha = 0.5; // not over yet
    pen.fillStyle = colour(run.name);
    pen.fillRect(from, y, long, ROW);
    pen.globalAlpha = 1;
    found.push([from, y, Math.max(3, long), { ...run, begun, at: end, what: "running", failed: 0, chunks: 1 }]);
  }
  marks(pen, stream, first, x, start, end);
  return { at: (px, py) => found.findLast(([from, y, long]) => px >= from && px <= from + long && py >= y && py <= y + ROW)?.[3] };
}

function grid(pen, wide, high, span, left) {
  const step = span <= 15 ? 3 : span <= 30 ? 5 : wide < 600 ? 20 : 10;
  pen.strokeStyle = ink("--line");
  pen.fillStyle = ink("--soft");
  pen.textAlign = "center";
  for (let ago = 0; ago < span; ago += step) {
    const at = left + (1 - ago / span) * (wide - left - 4);
    pen.beginPath(); pen.moveTo(at, TOP - 4); pen.lineTo(at, high); pen.stroke();
    if (ago) pen.fillText(`−${ago} s`, at, 7);
  }
  pen.textAlign = "right";
  pen.fillText("now", wide - 4, 7);
  pen.textAlign = "left";
}

function marks(pen, stream, first, x, start, end) {
  const seen = stream.marks.filter((mark) => first.has(mark.id) && mark.at >= start && mark.at <= end);
  const steals = seen.filter((mark) => mark.kind === "steal" && first.has(mark.to)).sort((a, b) => size(b.items) - size(a.items));
  pen.strokeStyle = pen.fillStyle = ink("--ink");
  pen.globalAlpha = 0.45;
  for (const mark of steals.slice(0, STEALS_DRAWN)) {
    const y = first.get(mark.id), at = x(mark.at), to = first.get(mark.to), tip = to + ROW / 2, way = to > y ? -1 : 1;
    pen.beginPath(); pen.moveTo(at, y + ROW / 2); pen.lineTo(at, tip); pen.stroke();
    pen.beginPath(); pen.moveTo(at, tip); pen.lineTo(at - 3, tip + way * 6); pen.lineTo(at + 3, tip + way * 6); pen.fill();
  }
  pen.globalAlpha = 1;
  pen.fillStyle = ink("--bad");
  for (const mark of seen.filter((each) => each.fault)) {
    const y = first.get(mark.id), at = x(mark.at);
    pen.beginPath(); pen.moveTo(at, y + 6); pen.lineTo(at - 5, y - 4); pen.lineTo(at + 5, y - 4); pen.fill();
  }
}

function fitted(pen, text, wide) {
  if (pen.measureText(text).width <= wide) return text;
  while (text.length > 1 && pen.measureText(`${text}…`).width > wide) text = text.slice(0, -1);
  return `${text}…`;
}

// ---------------------------------------------------------------- the mesh

/** Nodes on a ring, with how busy they are; arrows are the steals of the last seconds. */
export function Ring({ nodes, steals }) {
  const half = 190, out = nodes.length > 24 ? 160 : 140, r = Math.max(9, Math.min(26, 300 / Math.max(8, nodes.length)));
  const at = new Map(nodes.map((node, i) => {
    const turn = (i / nodes.length) * 2 * Math.PI - Math.PI / 2;
    return [node.id, [half + (nodes.length > 1 ? out * Math.cos(turn) : 0), half + (nodes.length > 1 ? out * Math.sin(turn) : 0)]];
  }));
  const busy = nodes.reduce((sum, node) => sum + size(node.busy), 0), label = `The mesh: ${nodes.length} nodes, ${busy} busy workers, ` +
    `${steals.length} pairs of nodes with steals in the last seconds. The table of nodes says the same in words.`;
  return html`<svg class="ring" viewBox="0 0 ${2 * half} ${2 * half}" role="img" aria-label=${label}>
    ${steals.map((each) => arrow(each, at, r, half))}
    ${nodes.map((node) => disc(node, at.get(node.id), r, nodes.length, half))}
  </svg>`;
}

/** Its name lies on the outer side, where no arrow goes. */
function disc(node, [x, y], r, many, half) {
  const above = many > 1 && y < half - 1;
  const share = size(node.workers) ? size(node.busy) / size(node.workers) : 0, round = 2 * Math.PI * r;
  return html`<g key=${node.id}>
    <circle class="rim ${node.role === "super" ? "super" : ""} ${node.state === "alive" ? "" : "unwell"}" cx=${x} cy=${y} r=${r} />
    <circle class="load" cx=${x} cy=${y} r=${r} stroke-dasharray="${Math.min(1, share) * round} ${round}" transform="rotate(-90 ${x} ${y})" />
    ${r >= 16 && html`<text class="in" x=${x} y=${y + 4}>${count(node.busy)}/${count(node.workers)}</text>`}
    ${many <= 24 && html`<text class="name" x=${x} y=${above ? y - r - 8 : y + r + 16}>${node.name.length > 14 ? `${node.name.slice(0, 13)}…` : node.name}</text>`}
    <title>${node.name}</title>
  </g>`;
}

function arrow({ from, to, items }, at, r, half) {
  const a = at.get(from), b = at.get(to);
  if (!a || !b) return null;
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]], long = Math.hypot(dx, dy) || 1, [ux, uy] = [dx / long, dy / long];
  // Bent towards one side, so that the arrow of the other direction lies beside it.
  const [mx, my] = [(a[0] + b[0]) / 2 - uy * 14, (a[1] + b[1]) / 2 + ux * 14];
  const [ex, ey] = [b[0] - ux * (r + 6), b[1] - uy * (r + 6)], wide = Math.min(5, 1 + Math.log10(1 + size(items)));
  return html`<g key="${from}/${to}">
    <path class="steal" stroke-width=${wide} d="M${a[0] + ux * (r + 3)} ${a[1] + uy * (r + 3)} Q${mx} ${my} ${ex} ${ey}" />
    <path class="tip" d="M${b[0] - ux * (r + 2)} ${b[1] - uy * (r + 2)} L${ex - ux * 6 - uy * 4} ${ey - uy * 6 + ux * 4} L${ex - ux * 6 + uy * 4} ${ey - uy * 6 - ux * 4}Z" />
  </g>`;
}

// ---------------------------------------------------------------- figures over time

/** `points`: [[times], [figures]]. */
export function Chart({ title, points, say }) {
  const box = useRef(null), plot = useRef(null);
  const latest = points[1].at(-1) ?? 0, told = say(latest);
  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(box.current.clientWidth, say), points, box.current);
    };
    make();
    const watch = new ResizeObserver(() => plot.current.setSize({ width: box.current.clientWidth, height: 120 }));
    watch.observe(box.current);
    dark.addEventListener("change", make);
    return () => { watch.disconnect(); dark.removeEventListener("change", make); plot.current.destroy(); plot.current = null; };
  }, []);
  useEffect(() => { plot.current?.setData(points); }, [points[0].at(-1)]);
  return html`<div class="chart"><h3>${title}<span>${told}</span></h3>
    <div ref=${box} role="img" aria-label="${title} over the last two minutes, now ${told}"></div></div>`;
}

function options(width, say) {
  const axis = { stroke: ink("--soft"), grid: { stroke: ink("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    width, height: 120, cursor: { show: false }, legend: { show: false },
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.15)] } },
    axes: [{ ...axis, size: 22, space: 90, values: (_, all) => all.map(moment) }, { ...axis, size: 62, values: (_, all) => all.map((n) => say(n)), space: 30 }],
    series: [{}, { stroke: ink("--accent"), width: 1.5, fill: ink("--on"), points: { show: false } }],
  };
}
