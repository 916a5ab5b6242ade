// The frame around the views: which one is shown, in which language and colours, and whether the service answers.

import { reach } from "./api.js";
import { button, h, say, setText } from "./dom.js";
import { LANGUAGES, ago, language, speak, t } from "./i18n.js";
import { remember, remembered } from "./memory.js";
import { attempt, failure } from "./parts.js";
import { session, whenElsewhere, whenRefused } from "./session.js";

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

const LOADING_MS = 300; // what comes sooner needs no word
const TICK_MS = 1000;

const main = document.querySelector("#main");
const problem = document.querySelector("#problem"); // of the frame itself
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

// Where whoever gives no address begins: what can be looked at comes before what can be drawn.
const start = () => (session.may("predict") && !session.may("read") ? "/draw" : "/experiments");

function addressed() {
  const [path, search = ""] = location.hash.slice(1).split("?");
  return { path: path.startsWith("/") && path !== "/" ? path : start(), search };
}

// A word for whoever waits, as long as the view has none of its own.
function waiting(view, signal) {
  const word = h("p", { class: "faint loading", role: "status" }, t("loading"));
  const timer = setTimeout(() => view.hasChildNodes() || view.before(word), LOADING_MS);
  signal.addEventListener("abort", () => clearTimeout(timer));
  return () => (clearTimeout(timer), word.remove());
}

function wrong(view, error) {
  const home = start() === "/draw" ? "draw" : "experiments";
  view.replaceChildren(h("h1", {}, t("wrong")), failure(error),
    h("p", { class: "row" }, button(t("tryAgain"), () => show()), h("a", { href: `#/${home}` }, t(home))));
}

async function show(first = false) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const view = h("div", { class: "view" });
  main.replaceChildren(view);
  problem.replaceChildren();
  const shown = waiting(view, signal);
  try {
    await session.known();
    if (signal.aborted) return;
    const { path, search } = addressed();
    const route = ROUTES.find(([pattern]) => pattern.test(path));
    who();
    navigation(route?.[2]);
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
    } else wrong(view, error);
  } finally {
    shown();
  }
  if (signal.aborted) return;
  const title = view.querySelector("h1");
  document.title = title ? `${title.textContent} · epochd` : "epochd";
  title?.setAttribute("tabindex", "-1");
  scrollTo(0, history.state?.scroll ?? 0);
  if (!first) title?.focus({ preventScroll: true });
}

// Who has signed in, and how to leave.
function who() {
  const inside = session.name !== null;
  const name = document.querySelector("#who");
  name.textContent = session.name ?? "";
  name.title = name.textContent;
  document.querySelector("#leave").hidden = !inside;
}

// The lists that may be seen, and which of them one is in.
function navigation(current) {
  for (const a of document.querySelectorAll("#nav a")) {
    const list = a.getAttribute("href").slice("/#/".length);
    a.hidden = session.outside || !session.may(ROUTES.find(([, module]) => module === list)[3]);
    if (list === current) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
}

function colours() {
  return document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function frame() {
  document.documentElement.lang = language;
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
  banner();
}

function banner() {
  setText(document.querySelector("#away"), reach.away ? t("away") : "");
}

document.querySelector("#language").addEventListener("click", () => {
  speak(LANGUAGES.find((one) => one !== language));
  frame();
  show(true);
});
document.querySelector("#theme").addEventListener("click", () => {
  const chosen = colours() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = chosen;
  remember("theme", chosen);
  frame();
  dispatchEvent(new Event("colours"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  frame();
  dispatchEvent(new Event("colours"));
});
document.querySelector("#leave").addEventListener("click", () => attempt(problem, async () => {
  await session.leave();
  dispatchEvent(new Event("left"));
  say(t("signedOut"));
  show();
}));
whenRefused(() => show());
whenElsewhere(async (done) => {
  if (done === "left") dispatchEvent(new Event("left")); // who is only asked for another key goes on behind it
  if (await session.changed()) show(true);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment says which view is shown
  main.focus();
});
reach.addEventListener("change", () => {
  banner();
  if (!reach.away) say(t("again"));
});
// How long ago something was is true for a moment.
setInterval(() => main.querySelectorAll("time").forEach((one) => setText(one, ago(one.dateTime))), TICK_MS);
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#/") || !location.hash) show(); // else it is a place in the view
});
// Whoever comes back finds the view where it was left.
main.addEventListener("click", (event) => {
  if (event.target.closest("a")) history.replaceState({ ...history.state, scroll: scrollY }, "");
}, { capture: true });

const theme = remembered("theme");
if (["light", "dark"].includes(theme)) document.documentElement.dataset.theme = theme;
history.scrollRestoration = "manual"; // a view is not there yet when the browser would scroll it
frame();
show(true);
