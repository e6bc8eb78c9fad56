/** The page's forms and lists. Whatever comes from outside is set as text, never as markup. */
import { call, query, Refused } from "./api.js";
import { Listed } from "./listed.js";
import { follow } from "./live.js";

const PAGE_EVENTS = 50;
const LIVE_SHOWN_MAX = 200;
const NODE_MS = 5_000;
/** While something shown is unsaved, the node is asked so often how far saving has come. */
const SAVED_MS = 2_000;

const at = (id) => document.getElementById(id);
const key = () => at("key").value.trim();

function tell(element, state, text) {
  element.className = state;
  element.textContent = text;
}

/** Runs what a person asked for; a refusal is told where they look. */
async function attempt(element, work) {
  try {
    await work();
  } catch (error) {
    tell(element, "bad", error instanceof Refused ? error.message : `This page failed: ${error}`);
  }
}

function part(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

/** @param listed tells whether it is saved, now and later; undefined: not known here, as for live events */
function shown(event, listed) {
  const item = document.createElement("li");
  const head = part("div", "head", "");
  const time = part("time", "", event.occurredAt);
  time.dateTime = event.occurredAt;
  head.append(time);
  if (listed !== undefined) {
    const mark = part("span", "", "");
    listed.add(event.cursor, (saved) => tell(mark, saved ? "mark good" : "mark wait", saved ? "saved" : "unsaved"));
    head.append(mark);
  }
  item.append(part("div", "type", event.type), head);
  if (event.data !== undefined) item.append(part("pre", "data", JSON.stringify(event.data)));
  item.append(part("div", "id", event.id), part("div", "cursor", event.cursor));
  return item;
}

// Post

/** @returns what is wrong with the text as JSON, or "" */
function dataFault() {
  const text = at("post-data").value.trim();
  try {
    if (text !== "") JSON.parse(text);
    return "";
  } catch (error) {
    return `The data is not JSON: ${error.message}`;
  }
}

at("post-data").addEventListener("input", () => {
  at("post-fault").textContent = dataFault();
  at("post-data").ariaInvalid = String(dataFault() !== "");
});

// What was acknowledged is not what stands in the form any more.
at("post").addEventListener("input", () => tell(at("post-answer"), "", ""));

at("post").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const fault = dataFault();
  tell(at("post-answer"), "", "");
  at("post-fault").textContent = fault;
  if (fault !== "") {
    at("post-data").focus();
    return;
  }
  const answer = at("post-answer");
  tell(answer, "wait", "posting…");
  void attempt(answer, async () => {
    // The text goes as it was typed: parsing it here could change a long number that the node would refuse.
    const data = at("post-data").value.trim();
    const names = JSON.stringify({ clientId: at("post-client").value, type: at("post-type").value });
    const text = data === "" ? names : `${names.slice(0, -1)},"data":${data}}`;
    const { body } = await call("/api/v1/events", { key: key(), body: text });
    tell(answer, "good", "acknowledged");
    answer.append(part("span", "id", `id ${body.id}`), part("span", "cursor", `cursor ${body.cursor}`));
  });
});

// Pages

let page = null;
let listed = new Listed();

async function load({ clientId, order, after, before, fresh }) {
  const search = { clientId, order, after, before, limit: String(PAGE_EVENTS) };
  const { body, headers } = await call(`/api/v1/events?${query(search)}`, { key: key() });
  if (fresh) {
    listed = new Listed();
    at("events").replaceChildren();
  }
  at("events").append(...body.events.map((event) => shown(event, listed)));
  listed.savedThrough(savedThrough(headers));
  tell(at("page-state"), "", listed.count);
  page = { clientId, order, next: body.next };
  at("more").hidden = !body.hasMore;
}

const savedThrough = (headers) => headers.get("spillway-saved-through") ?? "";

/** Marks what was saved since it was shown. Nobody has asked now: a refusal is not told, nor is one that stands there hidden. */
async function lookAtSaved() {
  const asked = listed;
  if (page !== null && asked.unsaved > 0 && !document.hidden) {
    const search = { clientId: page.clientId, limit: "1", consistency: "known" };
    const answer = await call(`/api/v1/events?${query(search)}`, { key: key() }).catch(() => null);
    const state = at("page-state");
    if (answer !== null && asked === listed) {
      listed.savedThrough(savedThrough(answer.headers));
      if (state.className === "" && state.textContent !== listed.count) tell(state, "", listed.count);
    }
  }
  setTimeout(lookAtSaved, SAVED_MS);
}

at("watch").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const order = submitted.submitter?.value === "first" ? "asc" : "desc";
  void attempt(at("page-state"), () => load({ clientId: at("watch-client").value, order, fresh: true }));
});

at("more").addEventListener("click", () => {
  const { clientId, order, next } = page;
  const from = order === "asc" ? { after: next } : { before: next };
  void attempt(at("page-state"), () => load({ clientId, order, ...from, fresh: false }));
});

// Live

let stop = null;

at("follow").addEventListener("click", () => {
  const button = at("follow");
  const wasFollowing = stop !== null;
  stop?.();
  stop = null;
  button.ariaPressed = String(!wasFollowing);
  button.textContent = wasFollowing ? "Follow live" : "Stop following";
  if (wasFollowing) {
    tell(at("live-state"), "", "not following");
    return;
  }
  const clientId = at("watch-client").value;
  at("live").replaceChildren();
  stop = follow({
    clientId,
    key: key(),
    onState: (state, text) => tell(at("live-state"), state, `${clientId}: ${text}`),
    onEvents: (events) => {
      for (const event of events) at("live").prepend(shown(event, undefined));
      while (at("live").children.length > LIVE_SHOWN_MAX) at("live").lastElementChild.remove();
    },
  });
});

// Node

async function lookAtNode() {
  const node = at("node");
  await attempt(node, async () => {
    const { body } = await call("/readyz");
    const degraded = body.degraded ?? [];
    if (!body.ready) tell(node, "bad", `not ready: ${(body.missing ?? []).join("; ")}`);
    else if (degraded.length > 0) tell(node, "wait", `ready, but ${degraded.join("; ")}`);
    else tell(node, "good", "ready");
  });
  setTimeout(lookAtNode, NODE_MS);
}

void lookAtNode();
void lookAtSaved();
