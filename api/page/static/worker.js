// The shared worker: browsers open six connections to a server, and this one is enough for all tabs.
import { Stream } from "./stream.js";

// A tab that crashes says no goodbye; one that lives is heard of once a minute, even in the background.
const SILENT = 150_000;

const tabs = new Map();
const stream = new Stream((of, news) => {
  for (const [port, tab] of tabs) if (of === null || of === tab.name) port.postMessage(news);
});

function tidy() {
  for (const [port, tab] of tabs) if (Date.now() - tab.heard > SILENT) tabs.delete(port);
  stream.want([...tabs.values()].map((tab) => tab.name));
}

self.addEventListener("connect", ({ ports: [port] }) => {
  port.addEventListener("message", ({ data: name }) => {
    if (name === null) tabs.delete(port);
    else {
      const known = [...tabs.values()].some((tab) => tab.name === name);
      const fresh = !tabs.has(port);
      tabs.set(port, { name, heard: Date.now() });
      if (fresh) {
        port.postMessage({ event: stream.state });
        if (known) stream.again();
      }
    }
    tidy();
  });
  port.start();
});
