// The line to the news: by the shared worker of all tabs; where browsers have none, a stream for this tab.
import { Stream } from "./stream.js";

const HEARTBEAT = 30_000;

// hear(news) is told whatever comes of `name`, and the events online and offline.
export function listen(name, hear) {
  const want = "SharedWorker" in window ? shared(hear) : own(hear);
  const look = () => want(name, !document.hidden);
  look();
  setInterval(() => want(name, false), HEARTBEAT);
  document.addEventListener("visibilitychange", look);
  addEventListener("pagehide", () => want(null, false));
  addEventListener("pageshow", (event) => event.persisted && look());
}

function shared(hear) {
  const worker = new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module", name: "ebbtide" });
  worker.port.addEventListener("message", ({ data }) => hear(data));
  worker.port.start();
  return (name, seen) => worker.port.postMessage({ name, seen });
}

function own(hear) {
  const stream = new Stream((_, news) => hear(news));
  return (name) => stream.want(name === null ? [] : [name]);
}
