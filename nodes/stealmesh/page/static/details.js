// One item's story: why it is where it is, where it has been tried, and the stacks of who runs it.
import { html, useEffect, useState } from "/vendor/htm-preact.js";
import { count, several, short, size } from "/words.js";

/** #/look, #/look/JOB, #/look/JOB/ITEM, #/look/node/ID. Asked once, and again when the visitor wants it. */
export function Look({ frame, rest }) {
  const [what, item] = rest, [found, setFound] = useState(null), [why, setWhy] = useState(""), [round, again] = useState(0);
  const query = what === "node" ? `node=${item}` : what ? `job=${what}${item === undefined ? "" : `&item=${item}`}` : "";
  useEffect(() => {
    let over = false;
    setFound(null);
    setWhy("");
    if (query) ask(`/look?${query}`).then((told) => over || setFound(told), (error) => over || setWhy(error.message));
    return () => { over = true; };
  }, [query, round]);
  const job = frame.jobs.find((each) => each.id === what), node = frame.nodes.find((each) => each.id === item);
  return html`<${Find} onWhy=${setWhy} jobs=${frame.jobs} />
    <p class="bad" role="alert">${why}</p>
    ${query && html`<h2>${what === "node" ? `Workers of ${node ? node.name : item}` : `${job ? job.name : short(what)}${item === undefined ? "" : `, item ${count(item)}`}`}</h2>
      <div class="tools"><button onClick=${() => again(round + 1)}>Look again</button></div>`}
    ${query && !found && !why && html`<p role="status">Asks the mesh …</p>`}
    ${found && found.story && html`<${Story} story=${found.story} job=${job} />`}
    ${found && html`<${Stacks} stacks=${found.stacks} />`}`;
}

async function ask(path) {
  const asked = await fetch(path);
  if (!asked.ok) throw new Error((await asked.text()).trim());
  return asked.json();
}

function Find({ onWhy }) {
  const find = async (event) => {
    event.preventDefault();
    onWhy("");
    try {
      const name = new FormData(event.target).get("name").trim(), told = await ask(`/look?name=${encodeURIComponent(name)}`);
      location.hash = `#/look/${told.job}${told.item === null ? "" : `/${told.item}`}`;
    } catch (error) { onWhy(error.message); }
  };
  return html`<form class="tools" onSubmit=${find}><label for="name">Job, or job/item</label>
    <input id="name" name="name" required placeholder="primes/417" autocomplete="off" /><button>Look</button></form>`;
}

function Story({ story, job }) {
  const others = story.facts.filter((fact) => fact.told !== story.told);
  return html`${story.item !== null && html`<p class="why">${story.node && !story.told.includes(story.node) ? `At ${story.node}: ` : ""}${
      story.told || "No node knows of it."}</p>`}
    ${story.tried.length > 0 && html`<h3>Before</h3><ul>${story.tried.map((told, i) => html`<li key=${i}>${told}</li>`)}</ul>`}
    ${others.length > 0 && html`<ul>${others.map((fact, i) => html`<li key=${i}>${factWords(fact)}</li>`)}</ul>`}
    ${story.facts_of > story.facts.length && html`<p class="soft">${count(story.facts.length)} of ${several(story.facts_of, "fact")} are shown.</p>`}
    ${!story.owner_answered && job && !job.ended && html`<p class="warn">Its ledger did not answer (the program ${job.owner || "?"}).</p>`}`;
}

function factWords({ told, node, lo, hi, many }) {
  const items = size(hi) <= size(lo) ? (size(many) ? `${several(many, "item")}: ` : "") :
    size(hi) === size(lo) + 1 ? `item ${count(lo)}: ` : `items ${count(lo)} to ${count(size(hi) - 1)}: `;
  return `${items}${node && !told.includes(node) ? `at ${node}, ` : ""}${told}`;
}

function Stacks({ stacks }) {
  if (!stacks.length) return html`<p class="soft">No worker runs it now.</p>`;
  return html`<h3>Where the Python stands</h3>${stacks.map((worker) => html`<section key="${worker.node}/${worker.worker}" aria-label="${worker.node}, worker ${worker.worker}">
    <b>${worker.node}, worker ${worker.worker}</b> <span class="soft">pid ${worker.pid}</span>
    ${worker.why && html`<p>${worker.why}</p>`}
    ${!worker.stacks.length && !worker.why && html`<p class="soft">It waits for work.</p>`}
    ${worker.stacks.map((stack, i) => html`<div class="stack" key=${i}><span>${stack.name}${stack.job && html`, runs${" "}
      <a href="#/look/${stack.job}${stack.item === null ? "" : `/${stack.item}`}">${stack.job_name} ${short(stack.job)}${stack.item === null ? "" : `/${stack.item}`}</a>`}</span>
      <ol>${stack.frames.map(([file, line, called, text], n) => html`<li key=${n}><span class="soft">${file}:${line} in</span> ${called}${text && html`<code>${text}</code>`}</li>`)}</ol>
      ${stack.left_out > 0 && html`<span class="soft">${stack.left_out} frames are left out</span>`}</div>`)}</section>`)}`;
}
