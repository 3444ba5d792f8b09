// The shared worker: browsers open six connections to a server, and this one is enough for all tabs.
import { Stream } from "./stream.js";

// A tab that crashes says no goodbye; one that lives is heard of once a minute, even in the background.
const SILENT = 150_000;

const tabs = new Map();
const left = new Set(); // names that were too much for the stream
const stream = new Stream((of, news) => {
  if (news.event === "left") left.add(of);
  if (of === null && news.event === "online") left.clear();
  for (const [port, tab] of tabs) if (of === null || of === tab.name) port.postMessage(news);
});

// What was looked at last is asked for first: where there are too many, those in the background are left.
function tidy() {
  for (const [port, tab] of tabs) if (Date.now() - tab.heard > SILENT) tabs.delete(port);
  const latest = [...tabs.values()].sort((one, other) => other.seen - one.seen);
  stream.want(latest.map((tab) => tab.name));
}

self.addEventListener("connect", ({ ports: [port] }) => {
  port.addEventListener("message", ({ data: { name, seen } }) => {
    if (name === null) tabs.delete(port);
    else {
      const known = [...tabs.values()].some((tab) => tab.name === name);
      const before = tabs.get(port);
      const now = Date.now();
      tabs.set(port, { name, heard: now, seen: seen ? now : (before?.seen ?? 0) });
      if (!before) port.postMessage({ event: stream.state });
      if ((!before && known) || (seen && left.has(name))) stream.again();
    }
    tidy();
  });
  port.start();
});
