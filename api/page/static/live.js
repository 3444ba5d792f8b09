// Live: keeps what a page shows of jobs up to date. Small things are set at once; for all else the page is fetched
// again, and what differs is exchanged: markup is made by the server alone, and text never becomes markup here.
import { listen } from "./line.js";
import { morph } from "./morph.js";

const MOVING = new Set(["running", "cancelling", "reverting", "overdue"]);
const FINAL = new Set(["completed", "failed", "cancelled"]);
const PAUSE = 400;
const PAUSE_UNSEEN = 2_000;
const LOOK = 3_000;
const TOLD = 8_000;

const shown = document.querySelector("[data-live]");
// What was said once is not in the address for ever.
let address = new URL(location.href);
const plain = new URL(address);
plain.searchParams.delete("told");
if (plain.href !== address.href) {
  history.replaceState(null, "", plain);
  setTimeout(() => (address = plain), TOLD);
}

// --- fetched again

let fetching = false;
let stale = false;

async function refresh() {
  stale = true;
  if (fetching) return;
  fetching = true;
  while (stale) {
    stale = false;
    try {
      await exchange();
    } catch {
      stale = true; // the line tells when the server is there again
    }
    await new Promise((done) => setTimeout(done, document.hidden ? PAUSE_UNSEEN : PAUSE));
  }
  fetching = false;
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
  online: () => offline(false),
  offline: () => offline(true),
};

function list({ jobs, ids: order, counts }) {
  for (const job of jobs) waiting.set(job.id, job);
  plan();
  if (counts) count(counts);
  if (order && order.join() !== ids().join()) refresh();
}

function offline(is) {
  let sign = document.querySelector(".offline");
  if (!is) {
    sign?.remove();
    return;
  }
  if (sign) return;
  sign = document.createElement("p");
  sign.className = "offline";
  sign.setAttribute("role", "status");
  sign.textContent = "Offline, trying again…";
  document.body.append(sign);
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
  const name = shown.dataset.live === "job" ? `job:${shown.dataset.job}` : `list:${shown.dataset.query}`;
  listen(name, ({ event, data }) => hearings[event]?.(data));
  // What takes long and says nothing grows all the same.
  setInterval(() => {
    const job = document.querySelector('[data-live="job"]');
    if (job && !document.hidden && MOVING.has(job.dataset.phase) && !document.querySelector(".offline")) refresh();
  }, LOOK);
}
