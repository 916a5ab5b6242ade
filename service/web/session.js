// Who uses the page, and what they may do. The key itself is in a cookie that no script can read.

import { get, post, refusals, remove } from "./api.js";

let answer = null;

export const session = {
  // Asks the service once; again after it refused a request.
  async known() {
    answer ??= await get("/session");
    return answer;
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
  },
  async leave() {
    await remove("/session");
    answer = null;
  },
};

// Calls `tell` when the service asks for a key, or for another one than before.
export function whenRefused(tell) {
  refusals.addEventListener("refused", () => {
    if (answer === null || session.outside) return; // known already
    answer = null;
    tell();
  });
}
