// The frame around the views: which one is shown, in which language and colours, and whether the service answers.

import { reach } from "./api.js";
import { h, say, setText } from "./dom.js";
import { LANGUAGES, language, speak, t } from "./i18n.js";
import { attempt, failure } from "./parts.js";
import { session, whenRefused } from "./session.js";

// Address, module, list that it belongs to, and the scope without which nothing can be done there.
const ROUTES = [
  [/^\/experiments$/, "experiments", "experiments", "read"],
  [/^\/experiments\/new$/, "new-experiment", "experiments", "write"],
  [/^\/experiments\/([^/]+)$/, "experiment", "experiments", "read"],
  [/^\/compare$/, "compare", "experiments", "read"],
  [/^\/sweeps$/, "sweeps", "sweeps", "read"],
  [/^\/sweeps\/new$/, "new-sweep", "sweeps", "write"],
  [/^\/sweeps\/([^/]+)$/, "sweep", "sweeps", "read"],
  [/^\/draw$/, "draw", "draw", "predict"],
];

const main = document.querySelector("#main");
let leave = new AbortController();
let misses = 0; // a browser may remember that a module could not be had: by another address it asks again

async function load(name) {
  try {
    return await import(`./views/${name}.js${misses ? `?${misses}` : ""}`);
  } catch (error) {
    misses += 1;
    reach.lost();
    throw error;
  }
}

async function show(first = false) {
  const [path, search = ""] = (location.hash.slice(1) || "/experiments").split("?");
  if (!path.startsWith("/")) return; // the link that skips to the content
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const route = ROUTES.find(([pattern]) => pattern.test(path));
  for (const a of document.querySelectorAll("#nav a")) {
    a.toggleAttribute("aria-current", a.getAttribute("href") === `/#/${route?.[2]}`);
    if (a.hasAttribute("aria-current")) a.setAttribute("aria-current", "page");
  }
  const view = h("div", { class: "view" });
  main.replaceChildren(view);
  try {
    await session.known();
    if (signal.aborted) return;
    who();
    if (!route && !session.outside) throw new Error(t("noPage", { path }));
    if (!session.outside && !session.may(route[3])) throw new Error(t("mayNot", { name: session.name, scope: route[3] }));
    const module = await load(session.outside ? "sign-in" : route[1]);
    if (signal.aborted) return;
    const id = session.outside ? null : route[0].exec(path)[1];
    await module.default(view, { id, query: new URLSearchParams(search), signal, entered: show });
  } catch (error) {
    if (signal.aborted) return;
    if (reach.away) {
      view.replaceChildren(h("h1", {}, "epochd"), h("p", { class: "faint" }, t("away")));
      reach.back().then(() => signal.aborted || show());
    } else {
      view.replaceChildren(h("h1", {}, t("wrong")), failure(error), h("p", {}, h("a", { href: "#/experiments" }, t("experiments"))));
    }
  }
  const title = view.querySelector("h1");
  document.title = title ? `${title.textContent} · epochd` : "epochd";
  if (first || signal.aborted) return;
  title?.setAttribute("tabindex", "-1");
  title?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

// Who has signed in, and how to leave.
function who() {
  const inside = session.name !== null;
  document.querySelector("#who").textContent = session.name ?? "";
  document.querySelector("#leave").hidden = !inside;
}

function colours() {
  return localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function frame() {
  document.documentElement.lang = language;
  const stored = localStorage.getItem("theme");
  if (stored) document.documentElement.dataset.theme = stored;
  for (const one of document.querySelectorAll("[data-text]")) one.textContent = t(one.dataset.text);
  for (const one of document.querySelectorAll("[data-label]")) one.setAttribute("aria-label", t(one.dataset.label));
  const other = LANGUAGES.find((one) => one !== language);
  const words = document.querySelector("#language");
  words.textContent = { en: "English", ja: "日本語" }[other];
  words.lang = other;
  const theme = document.querySelector("#theme");
  theme.textContent = colours() === "dark" ? "☀" : "☾";
  theme.setAttribute("aria-label", t(colours() === "dark" ? "toLight" : "toDark"));
  theme.title = theme.getAttribute("aria-label");
}

document.querySelector("#language").addEventListener("click", () => {
  speak(LANGUAGES.find((one) => one !== language));
  frame();
  show(true);
});
document.querySelector("#theme").addEventListener("click", () => {
  localStorage.setItem("theme", colours() === "dark" ? "light" : "dark");
  frame();
  dispatchEvent(new Event("colours"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  frame();
  dispatchEvent(new Event("colours"));
});
document.querySelector("#leave").addEventListener("click", () => attempt(document.querySelector("#problem"), async () => {
  await session.leave();
  say(t("signedOut"));
  show();
}));
whenRefused(() => show());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment says which view is shown
  main.focus();
});
reach.addEventListener("change", () => {
  setText(document.querySelector("#away"), reach.away ? t("away") : "");
  if (!reach.away) say(t("again"));
});
addEventListener("hashchange", () => show());

frame();
show(true);
