// Who uses the page, and what they may do. The key itself is in a cookie that no script can read.

import { get, post, refusals, remove } from "./api.js";

let answer = null;
const windows = new BroadcastChannel("session");

export const session = {
  // Asks the service once; again after it refused a request, and as long as nobody has signed in.
  async known() {
    if (answer === null || session.outside) answer = await get("/session");
    return answer;
  },
  // Whether somebody has signed in, out, or as somebody else since it was asked last: another window may have.
  async changed() {
    if (!answer?.asks_for_key) return false;
    const before = JSON.stringify(answer);
    answer = await get("/session").catch(() => answer);
    return JSON.stringify(answer) !== before;
  },
  get name() {
    return answer?.asks_for_key ? answer.name : null;
  },
  get outside() {
    return answer !== null && answer.name === null;
  },
  may: (scope) => answer?.scopes.includes(scope) ?? false,
  // The beginning of a command that asks the service as one may.
  curl: (path) =>
    `curl -sS ${location.origin}${path}` +
    (answer?.asks_for_key ? ' \\\n  -H "Authorization: Bearer $EPOCHD_API_KEY"' : ""),
  async enter(key) {
    answer = await post("/session", { key });
    windows.postMessage("entered");
  },
  async leave() {
    await remove("/session");
    answer = null;
    windows.postMessage("left");
  },
};

// Calls `look` when another window may have signed in or out; with "entered" or "left" where it says so itself.
export function whenElsewhere(look) {
  windows.addEventListener("message", ({ data }) => look(data));
  document.addEventListener("visibilitychange", () => document.hidden || look());
}

// Calls `tell` when the service asks for a key, or for another one than before.
export function whenRefused(tell) {
  refusals.addEventListener("refused", () => {
    if (answer === null || session.outside) return; // known already
    answer = null;
    tell();
  });
}
