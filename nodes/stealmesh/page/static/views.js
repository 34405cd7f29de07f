// The views, one a function. Each draws the last frame; the task stream also what it has kept of the last minute.
import { html, useEffect, useState } from "/vendor/htm-preact.js";
import { Chart, colour, Ring, STEALS_DRAWN, TaskStream } from "/drawing.js";
import { count, moment, octets, rate, seconds, several, short, size } from "/words.js";

const RING_MAX = 48, KEPT_SECONDS = 60, FAULTS_SHOWN = 60, NODES_NAMED = 3, STEALS_SECONDS = 10, LOG_MAX = 60, SAME_SECONDS = 10, NAMES_MAX = 24;

/** A table that is a list of cards on a narrow screen. `of`: how many rows there are in all. */
export function Table({ caption, columns, rows, of, none, kind = "" }) {
  if (!rows.length) return html`<p class="soft">${none}</p>`;
  const more = of > rows.length ? ` · ${count(rows.length)} of ${count(of)} are shown; the totals count all` : "";
  return html`<div class="scroll"><table class="cards ${kind}"><caption>${caption}${more}</caption>
    <thead><tr>${columns.map(([head, , kind]) => html`<th key=${head} scope="col" class=${kind || ""}>${head}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.key}>${columns.map(([head, cell, kind], i) => i === 0
      ? html`<th key=${head} scope="row">${cell(row)}</th>`
      : html`<td key=${head} data-label=${head} class=${kind || ""}>${cell(row)}</td>`)}</tr>`)}</tbody></table></div>`;
}

const Tile = ({ name, value, more }) => html`<div class="tile"><dt>${name}</dt><dd>${value}<small>${more}</small></dd></div>`;
const go = (...parts) => { location.hash = `#/${parts.map(encodeURIComponent).join("/")}`; };
const keyed = (rows, key) => rows.map((row) => ({ ...row, key: key(row) }));

export const ItemLink = ({ job, item, words }) => html`<a href="#/look/${encodeURIComponent(job)}${item === undefined ? "" : `/${item}`}">${words}</a>`;

function StatePill({ state }) {
  const kind = state === "alive" ? "good" : state === "leaving" ? "warn" : "bad";
  return html`<span class="pill ${kind}">${state}</span>`;
}

// ---------------------------------------------------------------- the mesh

export function MeshView({ frame, known }) {
  const { totals, nodes } = frame, { figures } = known;
  const states = Object.entries(totals.states).map(([state, n]) => `${count(n)}\u00a0${state}`).join(", ");
  return html`<dl class="tiles">
      <${Tile} name="Nodes" value=${count(totals.nodes)} more="${states}; ${several(totals.supers, "supernode")}, ${several(totals.clients, "client")}" />
      <${Tile} name="Workers busy" value="${count(totals.busy)} of ${count(totals.workers)}" more="to be done in 10 s: ${count(totals.desired_workers)}" />
      <${Tile} name="Tasks done" value=${count(totals.done)} more="${count(totals.failed)}\u00a0failed, ${count(totals.leased)} with\u00a0nodes, ${count(totals.free)}\u00a0free" />
      <${Tile} name="Work that waits" value=${seconds(totals.queued_seconds)} more="oldest job: ${totals.oldest_queued ? seconds(totals.oldest_queued) : "none waits"}" />
      <${Tile} name="Steals" value=${count(totals.steals_out)} more="given; ${count(totals.steals_asked)} asked for" />
      <${Tile} name="Memory" value=${octets(totals.memory)} more="nodes and workers; values:\u00a0${octets(totals.stored)}" />
    </dl>
    <div class="charts">
      <${Chart} title="Tasks a second" points=${[figures.at, figures.rate]} say=${rate} />
      <${Chart} title="Workers busy" points=${[figures.at, figures.busy]} say=${count} />
      <${Chart} title="Work that waits" points=${[figures.at, figures.queued]} say=${seconds} />
    </div>
    <h2>Nodes</h2>
    <div class="two">${nodes.length <= RING_MAX && html`<div class="panel"><${Ring} nodes=${nodes} steals=${steals(known)} />
      <p class="soft">Blue rim: busy workers. Shaded: supernode. Arrows: steals of the last ${STEALS_SECONDS} s${
        known.stream.of > known.stream.atOnce ? `, of the first ${known.stream.atOnce} nodes` : ""}.</p></div>`}
      <${Nodes} nodes=${nodes} of=${totals.nodes} /></div>
    <h2>Pages</h2><${OtherPages} frame=${frame} here=${known.here} />`;
}

function steals(known) {
  const sums = new Map(), since = known.frame.now - STEALS_SECONDS;
  for (const mark of known.stream.marks) {
    if (mark.kind !== "steal" || !mark.to || mark.at < since) continue;
    const key = `${mark.id}/${mark.to}`, sum = sums.get(key) ?? { from: mark.id, to: mark.to, items: 0 };
    sum.items += size(mark.items);
    sums.set(key, sum);
  }
  return [...sums.values()];
}

function Nodes({ nodes, of }) {
  const columns = [
    ["Node", (n) => html`<a href="#/look/node/${n.id}" aria-label="Stacks of the workers of ${n.name}">${n.name}</a>`],
    ["State", (n) => html`<${StatePill} state=${n.state} />`, "s"],
    ["Role", (n) => (n.role === "super" ? "supernode" : n.role), "s"],
    ["Busy", (n) => `${count(n.busy)}/${count(n.workers)}`, "n"],
    ["Waits", (n) => seconds(n.queued), "n"],
    ["Ran", (n) => count(n.executed), "n"],
    ["Steals in/out", (n) => `${count(n.steals_in)}/${count(n.steals_out)}`, "n"],
    ["Links", (n) => count(n.links), "n"],
    ["Sees", (n) => count(n.sees), "n"],
    ["Address", (n) => n.address.replace("tcp://", ""), "a"],
  ];
  return html`<${Table} caption="All nodes that answer" columns=${columns} rows=${keyed(nodes, (n) => n.id)} of=${of} none="No node answers." />`;
}

function OtherPages({ frame, here }) {
  const others = frame.pages.filter((page) => page.url !== here.url);
  if (!others.length) return html`<p class="soft">No other node serves this page. <code>stealmesh node --dashboard</code> does.</p>`;
  return html`<p>If the server of this page dies, these show the same:</p><ul>${others.map(({ name, host, url }) => html`<li key=${url}>
    <a href=${url}>${name}: ${url}</a>${/127\.0\.0\.1|\[::1\]/.test(url) && host !== here.host && html`
      <span class="soft"> (for that host only; from here by ssh -L)</span>`}</li>`)}</ul>`;
}

// ---------------------------------------------------------------- the task stream

export function Stream({ known, frame }) {
  const [span, setSpan] = useState(30), [paused, setPaused] = useState(0), [hint, setHint] = useState("");
  const { stream } = known;
  const ran = stream.chunks.reduce((sum, n) => sum + (n ?? 0), 0);
  return html`<div class="tools">
      <label>Seconds <select value=${span} onChange=${(e) => setSpan(Number(e.target.value))}>
        ${[10, 30, 60].map((n) => html`<option key=${n} value=${n}>${n}</option>`)}</select></label>
      <button aria-pressed=${paused > 0} onClick=${() => setPaused(paused ? 0 : frame.now)}>${paused ? "Go on" : "Hold still"}</button>
      <${Windows} stream=${stream} />
    </div>
    <div class="panel"><${TaskStream} stream=${stream} span=${span} paused=${paused} onHint=${setHint}
      onPick=${(bar) => go("look", bar.job, bar.lo)} /></div>
    <p class="hint">${hint || `A bar is what a worker ran; pale: it still runs. Red: lost or stopped; amber foot: items failed; red triangle: a fault; arrows: the ${STEALS_DRAWN} largest steals, from victim to thief.`}</p>
    <p class="soft">These nodes have run ${several(ran, "chunk")} so far, counted by them.${
      stream.leftOut ? ` ${count(stream.leftOut)} bars and arrows were too many to draw.` : ""} Chunks that touch are one bar.</p>
    <${Functions} stream=${stream} />
    <h2>What went wrong</h2><${Faults} stream=${stream} />
    <h2>Who came and went, what was refused</h2><${Log} marks=${stream.marks} />`;
}

function Windows({ stream }) {
  if (stream.of <= stream.atOnce) return null;
  const { first, atOnce, of } = stream, last = Math.min(of, first + atOnce);
  return html`<button disabled=${first === 0} onClick=${() => go("stream", String(Math.max(0, first - atOnce)))}>Earlier nodes</button>
    <span>nodes ${first + 1} to ${last} of ${count(of)}</span>
    <button disabled=${last >= of} onClick=${() => go("stream", String(first + atOnce))}>Later nodes</button>`;
}

function Functions({ stream }) {
  const sums = new Map();
  for (const bar of stream.bars) sums.set(bar.name, (sums.get(bar.name) ?? 0) + bar.at - bar.begun);
  for (const run of stream.running) sums.set(run.name, (sums.get(run.name) ?? 0) + Math.min(run.seconds, KEPT_SECONDS));
  const names = [...sums].sort((a, b) => b[1] - a[1]).slice(0, NAMES_MAX);
  return html`<ul class="legend" aria-label="Functions, with the time that workers spent on them in the last minute">
    ${names.map(([name, spent]) => html`<li key=${name}><${Swatch} colour=${colour(name)} />${name} <span class="soft">${seconds(spent)}</span></li>`)}</ul>`;
}

/** The policy of this page allows no style in the text of a page, so it is set from here. */
function Swatch({ colour: shade }) {
  return html`<i aria-hidden="true" ref=${(dot) => { if (dot) dot.style.background = shade; }}></i>`;
}

/** `bad`: what of it failed is red, behind the rest. */
export function Bar({ share, kind, bad = 0 }) {
  const wide = (part) => (dot) => { if (dot) dot.style.width = `${100 * Math.min(1, part)}%`; };
  return html`<div class="bar" aria-hidden="true"><i class=${kind} ref=${wide(share)}></i>${bad > 0 && html`<i class="bad" ref=${wide(bad)}></i>`}</div>`;
}

/** The same failure is one line: a job may fail a thousand times in one way. */
function Faults({ stream }) {
  const told = [...stream.faults.values()].sort((a, b) => b.last - a.last);
  const columns = [
    ["Last", (f) => moment(f.last)], ["What", (f) => html`<span class="bad">${f.words}</span>`, "w"],
    ["How often", (f) => (f.ofItems ? several(f.many, "item") : `${count(f.many)} ×`), "n"],
    ["For example", (f) => (f.job && f.item >= 0 ? html`<${ItemLink} job=${f.job} item=${f.item} words="item ${count(f.item)}" />` : "–"), "s"],
    ["At", (f) => named([...f.nodes].sort()), "w"],
  ];
  return html`<${Table} caption="Of the nodes above, the latest first; the same in other numbers is one line" kind="log" columns=${columns}
    rows=${told.slice(0, FAULTS_SHOWN)} of=${told.length} none="Nothing in the last minute, or since this page was opened." />
    ${stream.faultsLeftOut > 0 && html`<p class="soft">${count(stream.faultsLeftOut)} more, of older kinds, are not shown.</p>`}`;
}

const named = (names) => names.slice(0, NODES_NAMED).join(", ") + (names.length > NODES_NAMED ? ` and ${names.length - NODES_NAMED} more` : "");

function Log({ marks }) {
  const told = folded(marks.filter((mark) => mark.kind !== "steal" && !mark.fault)), shown = told.slice(-LOG_MAX).reverse();
  const columns = [
    ["Time", (m) => moment(m.at)], ["What", (m) => m.words, "w"],
    ["Said by", (m) => (m.says > 1 ? `${m.node} and ${m.says - 1} more` : m.node), "s"],
  ];
  return html`<${Table} caption="The latest first, of the nodes above" kind="log" columns=${columns} rows=${keyed(shown, (m) => `${m.id}${m.at}${m.words}`)}
    of=${told.length} none="Nothing since this page was opened." />`;
}

/** What several nodes say of one node within a while is one line. */
function folded(marks) {
  const lines = [], latest = new Map();
  for (const mark of marks) {
    const key = mark.kind + mark.words.replace(/[:(].*$/, "").trim(), known = latest.get(key);
    if (mark.kind === "member" && known && mark.at - known.at < SAME_SECONDS) { known.says += 1; continue; }
    const line = { ...mark, says: 1 };
    latest.set(key, line);
    lines.push(line);
  }
  return lines;
}

// ---------------------------------------------------------------- jobs

export function Jobs({ frame }) {
  const { totals, jobs } = frame;
  const share = (job, items) => (size(job.total) ? Math.max(0, items) / size(job.total) : 0);
  const columns = [
    ["Job", (j) => html`<${ItemLink} job=${j.id} words=${j.name || short(j.id)} /><div class="soft">${short(j.id)} ${j.kind}${j.durable ? ", durable" : ""}</div>
      ${j.error && html`<div class="error">last error: ${j.error}</div>`}`],
    ["State", (j) => html`<span class=${j.state.includes("gone") || j.state.includes("lost") ? "bad" : ""}>${j.state}</span>`, "s"],
    ["Done", (j) => html`<div class="share">${count(j.done)} of ${count(j.total)}<${Bar} share=${share(j, size(j.done) - size(j.failed))} kind=${j.ended ? "done" : ""} bad=${share(j, size(j.failed))} /></div>`, "n"],
    ["Failed", (j) => html`<span class=${size(j.failed) ? "bad" : ""}>${count(j.failed)}</span>`, "n"],
    ["With nodes", (j) => count(j.leased), "n"], ["Free", (j) => count(j.free), "n"],
    ["Rate", (j) => (j.rate ? rate(j.rate) : "–"), "n"], ["Time left", (j) => (j.eta === null ? "–" : seconds(j.eta)), "n"],
    ["Started", (j) => moment(j.started), "s"],
    ["Owner", (j) => j.owner, "a"],
  ];
  return html`<dl class="tiles">
      <${Tile} name="Jobs" value=${count(totals.jobs)} more="${count(totals.jobs_open)} open" />
      <${Tile} name="Tasks" value=${count(totals.total)} more="${count(totals.done)} done" />
      <${Tile} name="Failed" value=${count(totals.failed)} more="of those done" />
      <${Tile} name="Free" value=${count(totals.free)} more="${count(totals.leased)} with nodes" />
    </dl>
    <${Table} caption="Open ones first, then those that ended last" columns=${columns} rows=${keyed(jobs, (j) => j.id)} of=${totals.jobs} none="No jobs." />`;
}

// ---------------------------------------------------------------- slow or stuck

export function Slow({ frame }) {
  const columns = [
    ["Item", (s) => html`<${ItemLink} job=${s.job} item=${s.lo} words="${short(s.job)}/${s.lo}" />`],
    ["Runs for", (s) => seconds(s.seconds), "n"], ["Function", (s) => s.name, "w"],
    ["Items", (s) => (size(s.hi) - size(s.lo) <= 1 ? count(s.lo) : `${count(s.lo)} to ${count(size(s.hi) - 1)}`), "n"],
    ["Node", (s) => html`<div><a href="#/look/node/${s.node_id}">${s.node}</a>, worker ${s.worker}</div>`],
  ];
  const waiting = frame.jobs.filter((job) => !job.ended && !size(job.leased) && size(job.free) && !job.rate);
  return html`<p>What has run longest comes first. An item's name leads to its story: why it is where it is, and the line of Python where it stands.</p>
    <${Table} caption="What runs now" columns=${columns} rows=${keyed(frame.slow, (s) => `${s.node_id}/${s.worker}/${s.job}/${s.lo}`)}
      of=${frame.slow_of} none="Nothing runs." />
    <h2>Jobs with nothing running</h2>
    ${waiting.length ? html`<ul>${waiting.map((job) => html`<li key=${job.id}><${ItemLink} job=${job.id} words=${job.name || short(job.id)} />:
      ${several(job.free, "item")} free, since ${moment(job.started)}</li>`)}</ul>` : html`<p class="soft">None.</p>`}`;
}

// ---------------------------------------------------------------- memory and store

export function Memory({ frame }) {
  const { totals, nodes } = frame;
  const largest = Math.max(1, ...nodes.flatMap((node) => node.worker_memory.map(size)));
  const columns = [
    ["Node", (n) => n.name], ["Node process", (n) => octets(n.memory), "n"],
    ["Workers", (n) => html`<div class="share">${n.worker_memory.map((m, i) => html`<div key=${i}>${octets(m)}<${Bar} share=${size(m) / largest} /></div>`)}
      ${n.worker_memory_of > n.worker_memory.length && `and ${n.worker_memory_of - n.worker_memory.length} more`}</div>`, "n"],
    ["Values", (n) => `${count(n.values.stored)} (${octets(n.values.stored_octets)})`, "n"],
    ["In memory", (n) => octets(n.values.memory_octets), "n"], ["On disk", (n) => octets(n.values.disk_octets), "n"],
    ["Fetched", (n) => octets(n.values.fetched_octets), "n"], ["Kept results", (n) => count(n.values.results), "n"],
    ["Made again", (n) => count(n.values.made_again), "n"],
    ["Lost", (n) => html`<span class=${size(n.values.lost_octets) ? "bad" : ""}>${octets(n.values.lost_octets)}</span>`, "n"],
  ];
  return html`<dl class="tiles">
      <${Tile} name="Memory" value=${octets(totals.memory)} more="nodes and workers, without shared pages" />
      <${Tile} name="Values in memory" value=${octets(totals.stored)} more="shared by the workers of a node" />
      <${Tile} name="Values on disk" value=${octets(totals.disk)} more="what did not fit" />
    </dl>
    <${Table} caption="Memory and store of each node; a bar compares a worker with the largest" columns=${columns} rows=${keyed(nodes, (n) => n.id)} of=${totals.nodes} none="No node answers." />`;
}

// ---------------------------------------------------------------- counters

export function Counters({ frame }) {
  const [known, setKnown] = useState({ names: {}, families: {} }), [all, setAll] = useState(false);
  useEffect(() => { fetch("/meanings").then((asked) => asked.json()).then(setKnown, () => {}); }, []);
  const named = all ? Object.keys(known.names) : [];
  const shown = [...new Set([...named, ...Object.keys(frame.counters)])].sort().map((name) => ({ name }));
  const meaning = ({ name }) => known.names[name] ?? known.families[name.split(/[-:]/)[0]] ?? "another version's counter";
  const columns = [["Counter", (c) => c.name], ["Count", (c) => count(frame.counters[c.name] ?? 0), "n"], ["What it counts", meaning, "w"]];
  return html`<p>What nodes refused, dropped or had to do again. A mesh on which nothing happened has none.</p>
    <div class="tools"><label><input type="checkbox" checked=${all} onChange=${(e) => setAll(e.target.checked)} /> Those at zero, too</label></div>
    <${Table} caption="Sums over all nodes that answer" columns=${columns} rows=${keyed(shown, (c) => c.name)} none="Nothing was counted." />`;
}
