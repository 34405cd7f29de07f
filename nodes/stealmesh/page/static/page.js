// The page: its connection, which view is open, and what all views share.
// Decides what is kept here: the last frame, two minutes of figures, one minute of the task stream.
import { html, render, useEffect, useRef, useState } from "/vendor/htm-preact.js";
import { Counters, Jobs, Memory, MeshView, Slow, Stream } from "/views.js";
import { Look } from "/details.js";
import { count, several, size } from "/words.js";

const VIEWS = [
  ["mesh", "Mesh", MeshView], ["stream", "Task stream", Stream], ["jobs", "Jobs", Jobs], ["slow", "Slow or stuck", Slow],
  ["memory", "Memory", Memory], ["counters", "Counters", Counters], ["look", "Look at an item", Look],
];
const POINTS_MAX = 120, BARS_MAX = 12000, MARKS_MAX = 1500, FAULTS_MAX = 200, KEPT_SECONDS = 65, PAGES_KEPT_SECONDS = 600;
const RATE_SECONDS = 5, SILENT_MS = 4000, AGAIN_MS = 1000;

// ---------------------------------------------------------------- what is known

const known = {
  frame: null, here: {}, ahead: 0, trouble: "", connected: false, locked: false,
  figures: { at: [], busy: [], rate: [], queued: [] }, ran: [],
  stream: emptyStream(), pages: new Map(),
};

function emptyStream() {
  return { rows: [], bars: [], marks: [], running: [], chunks: [], faults: new Map(), faultsLeftOut: 0, first: 0, of: 0, atOnce: 16, ahead: 0, leftOut: 0 };
}

function heard(frame) {
  known.ahead = frame.now - Date.now() / 1000;
  const { totals } = frame, { figures } = known, rate = rateOf(frame);
  for (const [name, value] of [["at", frame.now], ["busy", size(totals.busy)], ["rate", rate], ["queued", totals.queued_seconds]]) {
    figures[name].push(value);
    if (figures[name].length > POINTS_MAX) figures[name].shift();
  }
  known.stream.running = frame.slow.map((each) => ({
    id: each.node_id, node: each.node, worker: size(each.worker), name: each.name, job: each.job, lo: each.lo, hi: each.hi,
    seconds: each.seconds, told: frame.now,
  }));
  rememberPages(frame);
  Object.assign(known, { frame, trouble: "", connected: true });
}

/** Of the last seconds: nodes answer at moments of their own, so from one frame to the next it jumps. */
function rateOf({ now, totals }) {
  const { ran } = known;
  ran.push({ now, executed: size(totals.executed) });
  while (ran.length > 2 && now - ran[1].now >= RATE_SECONDS) ran.shift();
  const [first, latest] = [ran[0], ran.at(-1)];
  return latest.now > first.now ? Math.max(0, (latest.executed - first.executed) / (latest.now - first.now)) : 0;
}

/** A node that is too busy to answer for a moment is missing in a frame. Its page is wanted when ours dies just then. */
function rememberPages({ pages, now }) {
  for (const page of pages) known.pages.set(page.url, { ...page, heard: now });
  for (const [url, page] of known.pages) if (now - page.heard > PAGES_KEPT_SECONDS) known.pages.delete(url);
}

function heardStream(news) {
  const { stream } = known, since = known.frame ? known.frame.now - KEPT_SECONDS : 0;
  const name = (row) => news.rows[row]?.[0] ?? "?", id = (row) => news.rows[row]?.[1];
  for (const [row, worker, begun, at, called, what, failed, job, lo, hi, chunks] of news.bars)
    stream.bars.push({ id: id(row), node: name(row), worker, begun, at, name: called, what, failed, job, lo, hi, chunks });
  for (const [row, at, kind, words, fault, worker, to, items, key, ofItems, job, item] of news.marks) {
    stream.marks.push({ id: id(row), node: name(row), at, kind, words, fault, worker, to: to < 0 ? null : id(to), items });
    if (key) heardFault(stream, { key, node: name(row), at, words, many: size(items), ofItems, job, item });
  }
  stream.bars = stream.bars.filter((bar) => bar.at >= since).slice(-BARS_MAX);
  stream.marks = stream.marks.slice(-MARKS_MAX);
  Object.assign(stream, {
    rows: news.rows, chunks: news.chunks, first: news.first, of: news.of, atOnce: news.at_once, ahead: known.ahead,
    leftOut: stream.leftOut + news.left_out,
  });
}

/** What is the same is one line, with how often, where, and the latest for an example. */
function heardFault(stream, { key, node, at, words, many, ofItems, job, item }) {
  const group = stream.faults.get(key) ?? { key, many: 0, nodes: new Set(), last: 0, ofItems };
  group.many += many;
  group.nodes.add(node);
  if (at >= group.last) Object.assign(group, { last: at, words, job, item });
  stream.faults.delete(key);
  stream.faults.set(key, group); // the latest is the last
  if (stream.faults.size > FAULTS_MAX) {
    const [oldest, { many: lost }] = stream.faults.entries().next().value;
    stream.faults.delete(oldest);
    stream.faultsLeftOut += lost;
  }
}

// ---------------------------------------------------------------- the connection

/** Listens to /live, again and again, for as long as `first` stays the same; -1: without the task stream. */
function useLive(first, changed) {
  useEffect(() => {
    let source = null, timer = 0, watch = 0, over = false;
    const silent = () => { known.connected = false; changed(); };
    const alive = () => { clearTimeout(watch); watch = setTimeout(silent, SILENT_MS); };
    const again = () => { source?.close(); if (!over) { clearTimeout(timer); timer = setTimeout(open, AGAIN_MS); } };
    const hear = (name, tell) => source.addEventListener(name, (event) => { alive(); tell(JSON.parse(event.data)); changed(); });
    function open() {
      source = new EventSource(first >= 0 ? `/live?first=${first}` : "/live");
      known.stream = emptyStream();
      hear("hello", (here) => { known.here = here; known.locked = false; });
      hear("frame", heard);
      hear("stream", heardStream);
      hear("trouble", ({ text }) => { known.trouble = text; known.connected = true; });
      hear("login", () => { known.locked = true; source.close(); });
      source.onerror = async () => {
        source.close();
        try {
          const asked = await fetch("/meanings");
          known.locked = asked.status === 401;
        } catch { known.connected = false; } // nobody listens there: it is tried again
        changed();
        if (!known.locked) again();
      };
    }
    alive();
    if (!known.locked) open();
    return () => { over = true; source?.close(); clearTimeout(timer); clearTimeout(watch); };
  }, [first, known.locked]);
}

// ---------------------------------------------------------------- the page

function route() {
  const [view, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  return VIEWS.some(([name]) => name === view) ? [view, rest] : ["mesh", []];
}

function Page() {
  const [, tick] = useState(0), changed = () => tick((n) => n + 1);
  const [[view, rest], go] = useState(route()), main = useRef(null);
  useEffect(() => {
    const move = () => { go(route()); main.current?.focus({ preventScroll: true }); };
    addEventListener("hashchange", move);
    return () => removeEventListener("hashchange", move);
  }, []);
  const first = view === "stream" ? Math.max(0, parseInt(rest[0], 10) || 0) : view === "mesh" ? 0 : -1;
  useLive(first, changed);
  const title = VIEWS.find(([name]) => name === view)[1], View = VIEWS.find(([name]) => name === view)[2];
  useEffect(() => {
    document.title = `${title} · Stealmesh`;
    const row = document.querySelector("nav.views"), open = row?.querySelector("[aria-current=page]"); // on a narrow screen it may lie outside
    if (open) row.scrollLeft = open.offsetLeft - (row.clientWidth - open.clientWidth) / 2;
  }, [title, known.locked]);
  if (known.locked) return html`<${Login} done=${() => { known.locked = false; changed(); }} />`;
  return html`
    <header class="top"><h1><img src="/icon.svg" alt="" />Stealmesh</h1><${State} /></header>
    <nav class="views" aria-label="Views">${VIEWS.map(([name, words]) => html`
      <a key=${name} href="#/${name}" aria-current=${name === view ? "page" : null}>${words}</a>`)}</nav>
    <${Trouble} />
    <main ref=${main} tabindex="-1" aria-label=${title}>
      ${known.frame ? html`<${View} frame=${known.frame} known=${known} rest=${rest} />` : html`<p>Waits for the mesh …</p>`}
    </main>`;
}

function State() {
  const { frame, connected, here } = known;
  const words = frame ? `${answering(frame)}, ${count(frame.totals.busy)} of ${several(frame.totals.workers, "worker")} busy` : "";
  return html`<div class="state"><span class="dot ${connected ? "" : "off"}" aria-hidden="true"></span
    ><b>${connected ? "live" : "not connected"}</b>${here.name && ` ${connected ? "at" : "to"} ${here.name}`}${words && ` · ${words}`}</div>`;
}

/** Nodes that have not answered in time are known to the others. */
function answering({ totals, nodes }) {
  const there = size(totals.nodes), seen = nodes.reduce((most, node) => Math.max(most, size(node.sees)), 0);
  return seen > there ? `${count(there)} of ${several(seen, "node")} answering` : several(totals.nodes, "node");
}

/** Said to screen readers, too, when it changes. */
function Trouble() {
  const { connected, trouble, frame, here, pages } = known;
  const others = [...pages.values()].filter((page) => page.url !== here.url).sort((a, b) => b.heard - a.heard);
  const lost = !connected && frame;
  return html`<div role="status">${lost && html`<div class="banner"><b>The server of this page does not answer.</b> It is tried again every second;
      what you see is the last that was heard.
      ${others.length > 0 ? html`<div>Other nodes of this mesh serve the same page:</div><${Pages} pages=${others} />`
        : html`<div>No other node has said that it serves this page: start one with <code>stealmesh dashboard</code>.</div>`}</div>`}
    ${!lost && trouble && html`<div class="banner">${trouble}</div>`}</div>`;
}

export function Pages({ pages }) {
  return html`<ul>${pages.map(({ name, url }) => html`<li key=${url}><a href="${url}${location.hash}">${name}: ${url}</a></li>`)}</ul>`;
}

function Login({ done }) {
  const [why, setWhy] = useState("");
  const enter = async (event) => {
    event.preventDefault();
    const token = new FormData(event.target).get("token").replace(/[^\x21-\x7e]+/g, " ").trim();
    try {
      const asked = await fetch("/login", { headers: { Authorization: `Bearer ${token}` } });
      if (asked.ok) done();
      else setWhy(await asked.text());
    } catch { setWhy("The server of this page does not answer."); }
  };
  return html`<main class="login"><h1>Stealmesh</h1><form onSubmit=${enter}>
    <label for="token">This page shows a mesh to those who hold one of its view tokens. <code>stealmesh token --role view</code> prints one.</label>
    <input id="token" name="token" type="password" autocomplete="current-password" autofocus required placeholder="stealmesh1-…" />
    <button>Look</button><p class="bad" role="alert">${why}</p></form></main>`;
}

render(html`<${Page} />`, document.getElementById("page"));
