// Pieces that several views show.

import { post, reach, remove } from "./api.js";
import { button, confirmed, h, link, say, setText } from "./dom.js";
import { t } from "./i18n.js";
import { session } from "./session.js";

export const ACTIVE = new Set(["queued", "running", "cancelling"]);

// A name may consist of what nobody sees.
const SEEN = /[^\p{C}\p{Z}]/u;

export const ownName = ({ name }) => (SEEN.test(name ?? "") ? name : null);

export const title = (spec) => ownName(spec) ?? `${spec.activation}, ${t("depthOf", { depth: spec.depth })}`;

// What is left of an id where there is little room: the beginning is the time.
export const end = (id) => `…${id.slice(-4)}`;

const WORDS = { depth: "depthOf", units: "unitsOf", seed: "seedOf" };

// One field of a spec in words.
export function setting(field, value) {
  if (field in WORDS) return t(WORDS[field], { [field]: value, n: value });
  return typeof value === "string" ? value : `${t(`field.${field}`).toLowerCase()} ${value}`;
}

// What an experiment trains, besides what its title says already.
export function network(spec, whole = ownName(spec) !== null) {
  const fields = [...(whole ? ["activation", "depth"] : []), "units", "optimizer", "seed", ...(spec.dataset === "mnist" ? [] : ["dataset"])];
  return fields.map((field) => setting(field, spec[field])).join(" · ");
}

// The list that a view belongs to.
export const path = (list) => h("p", { class: "path" }, link(`#/${list}`, `← ${t(list)}`));

export const badge = (status) => h("span", { class: `badge ${status}` }, t(`status.${status}`));

export function bar(done, total, label) {
  return h("progress", { value: done, max: total, "aria-label": label });
}

export const failure = (error) => h("p", { class: "fault", role: "alert" }, error.message);

// Runs what a button stands for; what goes wrong is told where `place` is, and by a screen reader.
export async function attempt(place, act) {
  place.replaceChildren();
  try {
    return await act();
  } catch (error) {
    place.replaceChildren(failure(reach.away ? new Error(t("notDone")) : error));
    return undefined;
  }
}

// A click's work, done once: the second click of a double one, and one while the first is at work, do nothing.
export function once(work) {
  let busy = false;
  return async (event) => {
    if (busy || event.detail > 1) return;
    busy = true;
    try {
      await work(event);
    } finally {
      busy = false;
    }
  };
}

// Deletes what is at `address` after nobody asks for it any more; goes on asking where it may not be deleted.
export async function removed(address, hush) {
  const again = hush?.();
  try {
    await remove(address);
  } catch (error) {
    again?.();
    throw error;
  }
}

// What can be done with an experiment now. `place` shows what goes wrong, `changed` is called with what came of it,
// `hush` stops requests about it, and `signal` tells that the view is left. Nothing for whoever may only look.
export function actions(experiment, { place, changed, hush, signal }) {
  if (!session.may("write")) return [];
  const name = title(experiment.spec);
  const act = (verb, work) =>
    button(t(verb), once(() => attempt(place, async () => changed(verb, await work()))), {
      "aria-label": `${t(verb)}: ${name}`,
      class: `small${verb === "delete" ? " danger" : ""}`,
    });
  if (ACTIVE.has(experiment.status)) {
    return experiment.status === "cancelling" ? [] : [act("cancel", () => post(experiment.links.cancel))];
  }
  return [
    act("retry", async () => {
      const again = await post(experiment.links.retry);
      say(t("repeated", { name }));
      return again;
    }),
    act("delete", async () => {
      if (!(await confirmed(t("deleteThis", { name }), t("delete"), t("keep"), signal))) return null;
      await removed(experiment.links.self, hush);
      say(t("deleted", { name }));
      return experiment;
    }),
  ];
}

export function facts(pairs) {
  return h("dl", { class: "facts" },
    pairs.filter(([, value]) => value !== null && value !== undefined).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

// Text to take along, with a button that copies it.
export function snippet(heading, text) {
  const code = h("code", {}, text);
  const copy = button(t("copy"), async () => {
    // Browsers have no clipboard for a page that came over plain HTTP from another machine: then it is marked.
    if (!navigator.clipboard) return getSelection().selectAllChildren(code);
    await navigator.clipboard.writeText(text);
    setText(copy, t("copied"));
    return say(t("copied"));
  }, { class: "small", "aria-label": `${t("copy")}: ${heading}` });
  return h("div", { class: "snippet" }, h("div", { class: "row between" }, h("h3", {}, heading), copy),
    h("pre", { tabindex: 0 }, code));
}

export function table(caption, heads, rows, properties = {}) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption, ...properties },
    h("table", {}, h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, tableRows(rows))));
}

export const tableRows = (rows) => rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell))));

export const empty = (text, ...more) => h("div", { class: "empty" }, h("p", {}, text), ...more);

// A way to where something is made; for whoever may.
export const maker = (...given) => (session.may("write") ? go(...given) : "");

export const go = (href, text, kind = "button") => {
  const a = link(href, text);
  a.className = kind;
  return a;
};
