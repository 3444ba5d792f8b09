// One stream of news for everything that is wanted: opened anew when something else is, and after it broke.
const SOON = 50;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;

export class Stream {
  #tell;
  #names = [];
  #source = null;
  #timer = 0;
  #wait = FIRST_WAIT;
  state = "online";

  // tell(of, news): `of` is a name, or null for what concerns all: the events online and offline.
  constructor(tell) {
    this.#tell = tell;
  }

  // Names are list:QUERY and job:ID, first those that matter most; in another order alone they are not asked for anew.
  want(names) {
    const before = new Set(this.#names);
    this.#names = [...new Set(names)];
    if (this.#names.length !== before.size || !this.#names.every((name) => before.has(name))) this.#later(SOON);
  }

  // Look again now: somebody has come to whom nothing was told yet.
  again() {
    this.#later(SOON);
  }

  #later(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), milliseconds);
  }

  #open() {
    this.#source?.close();
    this.#source = null;
    if (!this.#names.length) return;
    const query = new URLSearchParams(this.#names.map((name) => [name.slice(0, name.indexOf(":")), name.slice(name.indexOf(":") + 1)]));
    const source = new EventSource(`/live?${query}`);
    this.#source = source;
    source.addEventListener("open", () => {
      this.#wait = FIRST_WAIT;
      this.#become("online");
    });
    source.addEventListener("news", (event) => {
      const { of, ...news } = JSON.parse(event.data);
      this.#tell(of, news);
    });
    // Not left to the browser, which gives up for ever after an answer that is no stream.
    source.addEventListener("error", () => {
      if (source !== this.#source) return;
      source.close();
      this.#become("offline");
      this.#later(this.#wait * (0.75 + Math.random() / 2));
      this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
    });
  }

  #become(state) {
    this.state = state;
    this.#tell(null, { event: state });
  }
}
