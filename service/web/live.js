// What changes while it is looked at: events where the API sends them, else asking again, politely.

import { Problem, reach } from "./api.js";

const wait = (milliseconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

const seen = () =>
  document.hidden
    ? new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }))
    : Promise.resolve();

// Calls `ask` again and again until the view is left or it returns null: it returns after how many milliseconds.
// Nobody asks for a page that is not seen, nor while the service is away.
export async function poll(ask, signal) {
  while (!signal.aborted) {
    let pause = 1000;
    try {
      pause = await ask();
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status < 500) throw error;
    }
    if (pause === null) return;
    await wait(pause, signal);
    await seen();
    await reach.back();
  }
}

// Follows an experiment's events: `on[type](data)`. When the service comes back the stream begins anew, so that a
// handler may be told twice what it knows.
export function follow(path, on, signal) {
  let source;
  const open = () => {
    if (signal.aborted) return;
    source = new EventSource(path);
    for (const [type, tell] of Object.entries(on)) {
      source.addEventListener(type, (event) => {
        if (type === "done" || type === "deleted") source.close();
        tell(JSON.parse(event.data));
      });
    }
    source.addEventListener("error", async () => {
      source.close();
      reach.lost();
      await reach.back();
      open();
    });
  };
  signal.addEventListener("abort", () => source?.close());
  open();
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
