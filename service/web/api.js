// The public API, and whether it can be reached.

export class Problem extends Error {
  // Problem details (RFC 9457): `body.errors` says what is wrong where.
  constructor(body, status, retryAfter) {
    super(body.detail ?? `HTTP ${status}`);
    this.status = status;
    this.faults = body.errors ?? [];
    this.retryAfter = Number(retryAfter) || 1; // s
  }

  // Whether the same request may be answered later.
  get temporary() {
    return this.status >= 500 || this.status === 429 || this.status === 408;
  }
}

const PROBE_MS = 1000;
const GONE = new Set([502, 503, 504]);
const PROBLEM = "application/problem+json";
const DATABASE = new Set(["unavailable", "schema-out-of-date"].map((kind) => `urn:epochd:problem:${kind}`));

export const ready = () => fetch("/health/ready", { cache: "no-store" }).then((response) => response.ok, () => false);

// `away` is true from the first request without an answer until the service is ready again; "change" tells of both.
class Reach extends EventTarget {
  away = false;

  lost() {
    if (this.away) return;
    this.away = true;
    this.dispatchEvent(new Event("change"));
    this.#probe();
  }

  back() {
    return this.away ? new Promise((resolve) => this.addEventListener("change", resolve, { once: true })) : Promise.resolve();
  }

  async #probe() {
    while (this.away) {
      await new Promise((resolve) => setTimeout(resolve, PROBE_MS));
      this.away = !(await ready());
    }
    this.dispatchEvent(new Event("change"));
  }
}

export const reach = new Reach();

// Tells by "refused" that the service asks for an API key, or for another one.
export const refusals = new EventTarget();

// Whether an answer says that the service is away: a proxy's does. The service's own is about what was asked for, unless
// it comes of the database; the same kind tells of a disk or a store of files, without which the service is still ready.
async function isAway(response, { type }) {
  if (!GONE.has(response.status)) return false;
  if (!response.headers.get("Content-Type")?.startsWith(PROBLEM)) return true;
  return DATABASE.has(type) && !(await ready());
}

export async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name !== "AbortError") reach.lost();
    throw error;
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  if (await isAway(response, body)) reach.lost();
  if (response.status === 401 && path !== "/session") refusals.dispatchEvent(new Event("refused"));
  throw new Problem(body, response.status, response.headers.get("Retry-After"));
}

export const get = async (path, signal) => (await send(path, { signal })).json();

const JSON_BODY = { "Content-Type": "application/json" };

export async function post(path, value, signal) {
  const body = value === undefined ? {} : { body: JSON.stringify(value), headers: JSON_BODY };
  return (await send(path, { method: "POST", signal, ...body })).json();
}

// Browsers have no `randomUUID` for a page that came over plain HTTP from another machine.
const unlikely = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (one) => one.toString(16).padStart(2, "0")).join("");

// What one form sends to `path`. Sent again, after a lost answer or by a second click, it has the same key and makes
// nothing new. What was changed in between is another request, and has a key of its own.
export function submission(path) {
  const keys = new Map();
  return async (value) => {
    const body = JSON.stringify(value);
    if (!keys.has(body)) keys.set(body, unlikely());
    return (await send(path, { method: "POST", body, headers: { ...JSON_BODY, "Idempotency-Key": keys.get(body) } })).json();
  };
}

export const remove = (path) => send(path, { method: "DELETE" });

export function query(values) {
  const pairs = Object.entries(values).flatMap(([name, value]) =>
    [value].flat().filter((one) => one !== undefined && one !== null && one !== "").map((one) => [name, one]));
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}

let described;
export async function description() {
  described ??= get("/openapi.json").catch((error) => {
    described = undefined;
    throw error;
  });
  return described;
}
