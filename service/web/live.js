// What changes while it is looked at: events where the API sends them, else asking again, politely.

import { Problem, get, reach, ready, refusals } from "./api.js";

const REFUSED_MS = 5000;

const wait = (milliseconds, signal) =>
  new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over); // else it would hold one for each time that was waited
      resolve();
    };
    const timer = setTimeout(over, milliseconds);
    signal.addEventListener("abort", over);
  });

const seen = () =>
  document.hidden
    ? new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }))
    : Promise.resolve();

// Calls `ask` again and again until the view is left or it returns null: it returns after how many milliseconds.
// Nobody asks for a page that is not seen, nor while the service is away, nor sooner than it wants to be asked.
export async function poll(ask, signal) {
  while (!signal.aborted) {
    let pause = 1000;
    try {
      pause = await ask();
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem) {
        if (!error.temporary) throw error;
        pause = 1000 * error.retryAfter;
      }
    }
    if (pause === null) return;
    await wait(pause, signal);
    await seen();
    await reach.back();
  }
}

async function refused() {
  const { name } = await get("/session").catch(() => ({}));
  if (name === null) refusals.dispatchEvent(new Event("refused"));
  return name === null;
}

// Follows an experiment's events: `on[type](data)`. When the service comes back the stream begins anew, so that a
// handler may be told twice what it knows. A page that nobody sees has none: a browser keeps six connections to a place.
// The service may have too many streams to give another: `without` is called now and then as long as there is none.
export function follow(path, on, signal, without) {
  let source;
  let over = false;
  const close = () => source?.close();
  const open = () => {
    close();
    if (over || signal.aborted || document.hidden) return;
    const stream = new EventSource(path);
    source = stream;
    for (const [type, tell] of Object.entries(on)) {
      stream.addEventListener(type, (event) => {
        over ||= type === "done" || type === "deleted";
        if (over) close();
        tell(JSON.parse(event.data));
      });
    }
    stream.addEventListener("error", async () => {
      const answered = stream.readyState === EventSource.CLOSED; // by no stream; with which status, browsers do not say
      stream.close();
      if (answered && (await refused())) return;
      if (answered && (await ready())) {
        if (!signal.aborted) without();
        await wait(REFUSED_MS, signal);
      } else {
        reach.lost();
        await reach.back();
      }
      if (source === stream) open();
    });
  };
  signal.addEventListener("abort", close);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()), { signal });
  open();
}

// Requests about one thing, which can be stopped before it is deleted: nobody asks for what is no longer there.
// `begin(signal)` starts the asking, and is called again where the deletion was refused.
export function asking(view, begin) {
  let stop;
  const start = () => {
    stop = new AbortController();
    begin(AbortSignal.any([view, stop.signal]));
  };
  return { start, hush: () => (stop.abort(), start) };
}

// A function that does `work` once at a time, however often it is called; what comes while it works is done after it.
export function merged(work) {
  let running = false;
  let again = false;
  return async () => {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        await work();
      }
    } finally {
      running = false;
    }
  };
}
