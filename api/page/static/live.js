// Live: keeps what a page shows of jobs up to date. Small things are set at once; for all else the page is fetched
// again, and what differs is exchanged: markup is made by the server alone, and text never becomes markup here.
import { listen } from "./line.js";
import { morph } from "./morph.js";

const MOVING = new Set(["running", "cancelling", "reverting", "overdue"]);
const FINAL = new Set(["completed", "failed", "cancelled"]);
// A job's page is fetched again soon, and its title tells in the background as well. A list is larger, and where
// jobs come and go all the time it would be fetched all the time, by every tab: unseen, it waits to be looked at.
const PAUSE = 400;
const PAUSE_UNSEEN = 2_000;
const PAUSE_LIST = 1_000;
const LOOK = 3_000;
const TOLD = 8_000;

const shown = document.querySelector("[data-live]");
const isJob = shown?.dataset.live === "job";
// What was said once is not in the address for ever.
let address = new URL(location.href);
const plain = new URL(address);
plain.searchParams.delete("told");
if (plain.href !== address.href) {
  history.replaceState(null, "", plain);
  setTimeout(() => {
    address = plain;
    refresh();
  }, TOLD);
}

// --- fetched again

let fetching = false;
let stale = false;

async function refresh() {
  stale = true;
  if (fetching) return;
  fetching = true;
  while (stale) {
    if (!isJob) await looked();
    stale = false;
    try {
      await exchange();
    } catch {
      stale = true; // the line tells when the server is there again
    }
    const pause = !isJob ? PAUSE_LIST : document.hidden ? PAUSE_UNSEEN : PAUSE;
    await new Promise((done) => setTimeout(done, pause));
  }
  fetching = false;
}

// Settled once somebody looks at this tab.
function looked() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

async function exchange() {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (answer.redirected) {
    location.assign(answer.url); // signed out
    return;
  }
  if (answer.status >= 429) throw new Error(`answered ${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const log = document.querySelector(".log");
  const atEnd = log && log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  morph(document.querySelector("main"), page.querySelector("main"));
  document.title = page.title;
  if (atEnd) log.scrollTop = log.scrollHeight;
  tick();
}

// --- set at once, in one go a frame

const waiting = new Map();
let planned = false;

function plan() {
  if (planned) return;
  planned = true;
  if (document.hidden) setTimeout(apply, 250);
  else requestAnimationFrame(apply);
}

function apply() {
  planned = false;
  let lacking = false;
  for (const job of waiting.values()) {
    const row = document.querySelector(`tr[data-job="${CSS.escape(job.id)}"]`);
    if (row) lacking = fill(row, job) || lacking;
  }
  waiting.clear();
  if (lacking) refresh();
}

// Fills in what is new of a job; returns whether its row lacks markup that the server has to make.
function fill(row, job) {
  Object.assign(row.dataset, { phase: job.phase, state: job.state, progress: job.progress });
  const field = (name) => row.querySelector(`[data-field="${name}"]`);
  const badge = field("phase");
  badge.dataset.phase = badge.textContent = job.phase;
  const bar = field("progress");
  const share = `${Math.floor(job.progress * 100 + 1e-9)} %`;
  bar.dataset.phase = job.phase;
  bar.value = job.progress;
  bar.textContent = share;
  bar.setAttribute("aria-label", bar.getAttribute("aria-label").replace(/[0-9]+ %$/, share));
  field("words").textContent = job.words;
  const cancel = field("cancel");
  const canBe = !job.asked && !FINAL.has(job.state);
  if (cancel) cancel.hidden = !canBe;
  const lacksCancel = canBe && !cancel && row.querySelector("td.act") !== null;
  return lacksCancel || Boolean(job.error) !== (row.querySelector(".error") !== null);
}

function count(counts) {
  let all = 0;
  for (const [phase, number] of Object.entries(counts)) {
    all += number;
    const place = document.querySelector(`[data-count="${CSS.escape(phase)}"]`);
    if (!place) continue;
    place.textContent = number;
    place.closest("a")?.toggleAttribute("data-none", number === 0);
  }
  const total = document.querySelector('[data-count="all"]');
  if (total) total.textContent = all;
}

// --- news

const ids = () => [...document.querySelectorAll("tr[data-job]")].map((row) => row.dataset.job);

const hearings = {
  snapshot: list,
  changes: list,
  touched: refresh,
  deleted: refresh,
};

// A page that was too much for the line of all tabs looks by itself, while somebody looks at it.
const SIGNS = {
  offline: "Offline, trying again…",
  left: "Many tabs are open: this one looks every few seconds",
};
let line = "online";

function hear({ event, data }) {
  line = event in SIGNS ? event : "online";
  sign(SIGNS[line]);
  hearings[event]?.(data);
}

function list({ jobs, ids: order, counts }) {
  for (const job of jobs) waiting.set(job.id, job);
  plan();
  if (counts) count(counts);
  if (order && order.join() !== ids().join()) refresh();
}

function sign(words) {
  const before = document.querySelector(".sign");
  if (before?.textContent === words) return;
  before?.remove();
  if (!words) return;
  const told = document.createElement("p");
  told.className = "sign";
  told.setAttribute("role", "status");
  told.textContent = words;
  document.body.append(told);
}

// The newest lines of a log are at its end.
const lines = document.querySelector(".log");
if (lines) lines.scrollTop = lines.scrollHeight;

// --- ages

const UNITS = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

function tick() {
  for (const time of document.querySelectorAll("time[data-age]")) {
    const seconds = Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000);
    const [, size, unit] = UNITS.find(([limit]) => seconds < limit);
    const words = `${Math.floor(seconds / size)} ${unit} ago`;
    if (time.textContent !== words) time.textContent = words;
  }
}

setInterval(tick, 1_000);
if (shown) {
  listen(isJob ? `job:${shown.dataset.job}` : `list:${shown.dataset.query}`, hear);
  setInterval(() => {
    const job = document.querySelector('[data-live="job"]');
    if (document.hidden || line === "offline") return;
    // What takes long and says nothing grows all the same.
    if (line === "left" || (job && MOVING.has(job.dataset.phase))) refresh();
  }, LOOK);
}
