// All sweeps, the newest first.

import { get, query } from "../api.js";
import { button, fill, h, link, setText } from "../dom.js";
import { ago, moment, t } from "../i18n.js";
import { poll } from "../live.js";
import { badge, bar, empty, failure, maker, ownName, title } from "../parts.js";

const PAGE = 50;
const MOST = 200;

// What it is called, or what varies in it. Where nothing does, it is one network over seeds.
export const named = (sweep) => ownName(sweep) ?? (Object.entries(sweep.spec.grid).map(([field, values]) =>
  `${t(`field.${field}`)} ${Array.isArray(values) ? values.join(", ") : `${values.start}–${values.stop}`}`).join(" × ") || title(sweep.spec.base));

export default async function sweeps(view, { signal }) {
  let shown = PAGE;
  const rows = new Map();
  const body = h("tbody");
  const nothing = h("div");
  const problems = h("div");
  const more = button(t("more"), () => ((shown += PAGE), refresh().catch(() => undefined)), { class: "more", hidden: true }); // the next regular one tells
  const heads = [t("sweep"), t("field.status"), t("runsHead"), t("created")];
  const list = h("table", { class: "list", hidden: true, "aria-labelledby": "title" },
    h("thead", {}, h("tr", {}, heads.map((head, at) => h("th", { scope: "col", class: at === 3 ? "wide" : null }, head)))), body);
  view.append(
    h("div", { class: "row between" }, h("h1", { id: "title" }, t("sweeps")), maker("#/sweeps/new", t("newSweep"), "button primary")),
    problems, nothing, list, more);

  async function refresh() {
    const found = [];
    let cursor = null;
    do {
      const answer = await get(`/sweeps${query({ limit: Math.min(MOST, shown - found.length), cursor })}`, signal);
      found.push(...answer.data);
      cursor = answer.next_cursor;
    } while (cursor && found.length < shown);
    const ids = new Set(found.map((one) => one.id));
    for (const [id, row] of rows) if (!ids.has(id)) drop(id, row.element);
    found.forEach(put);
    list.hidden = found.length === 0;
    more.hidden = cursor === null;
    if (found.length) nothing.replaceChildren();
    else if (!nothing.hasChildNodes()) nothing.append(empty(t("noSweeps"), maker("#/sweeps/new", t("newSweep"), "button primary")));
    return found.some((one) => one.status !== "finished") ? 1000 : 3000;
  }

  function put(sweep, place) {
    const row = rows.get(sweep.id) ?? line(sweep);
    rows.set(sweep.id, row);
    row.change(sweep);
    if (body.children[place] !== row.element) body.insertBefore(row.element, body.children[place] ?? null);
  }

  function drop(id, element) {
    const focused = element.contains(document.activeElement);
    const near = element.nextElementSibling ?? element.previousElementSibling;
    rows.delete(id);
    element.remove();
    if (focused) (near?.querySelector("a") ?? view.querySelector("h1")).focus();
  }

  // Its link stays the same element: it may be under a finger.
  function line(first) {
    let before = "";
    const status = h("td");
    const runs = h("td");
    const created = h("td", { class: "wide faint", title: moment(first.created_at) });
    const element = h("tr", {},
      h("th", { scope: "row" }, link(`#/sweeps/${first.id}`, named(first)), h("span", { class: "faint under" }, t("runs", { n: first.size }))),
      status, runs, created);
    const change = (now) => {
      setText(created, ago(now.created_at));
      const text = JSON.stringify(now.progress);
      if (text === before) return;
      before = text;
      const { done, total, failed } = now.progress;
      fill(status, badge(now.status));
      fill(runs, h("span", { class: "row" }, bar(done, total, t("runsOf", { done, total })), h("span", { class: "faint" }, t("runsOf", { done, total }))),
        failed ? h("span", { class: "fault under" }, t("failedRuns", { n: failed })) : "");
    };
    return { element, change };
  }

  poll(refresh, signal).catch((error) => signal.aborted || problems.replaceChildren(failure(error)));
}
