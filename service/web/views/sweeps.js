// All sweeps, the newest first.

import { get, query } from "../api.js";
import { button, h, link, setText } from "../dom.js";
import { ago, moment, t } from "../i18n.js";
import { poll } from "../live.js";
import { badge, bar, empty, failure, maker } from "../parts.js";

const PAGE = 50;
const MOST = 200;

export const named = (sweep) => sweep.name ?? Object.entries(sweep.spec.grid).map(([field, values]) =>
  `${t(`field.${field}`)} ${Array.isArray(values) ? values.join(", ") : `${values.start}–${values.stop}`}`).join(" × ");

export default async function sweeps(view, { signal }) {
  let shown = PAGE;
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
    found.forEach((sweep, at) => {
      const text = JSON.stringify([sweep.id, sweep.progress, ago(sweep.created_at)]);
      if (body.children[at]?.dataset.shown === text) return;
      const row = line(sweep, text);
      if (body.children[at]) {
        const focused = body.children[at].contains(document.activeElement);
        body.children[at].replaceWith(row);
        if (focused) row.querySelector("a").focus();
      } else body.append(row);
    });
    while (body.children.length > found.length) body.lastChild.remove();
    list.hidden = found.length === 0;
    more.hidden = cursor === null;
    if (found.length) nothing.replaceChildren();
    else if (!nothing.hasChildNodes()) nothing.append(empty(t("noSweeps"), maker("#/sweeps/new", t("newSweep"), "button primary")));
    return found.some((one) => one.status !== "finished") ? 1000 : 3000;
  }

  function line(sweep, text) {
    const { done, total, failed } = sweep.progress;
    const runs = h("td", {}, h("span", { class: "row" }, bar(done, total, t("runsOf", { done, total })), h("span", { class: "faint" }, t("runsOf", { done, total }))));
    if (failed) runs.append(h("span", { class: "fault under" }, t("failedRuns", { n: failed })));
    const created = h("td", { class: "wide faint", title: moment(sweep.created_at) });
    setText(created, ago(sweep.created_at));
    return h("tr", { "data-shown": text },
      h("th", { scope: "row" }, link(`#/sweeps/${sweep.id}`, named(sweep)), h("span", { class: "faint under" }, t("runs", { n: sweep.size }))),
      h("td", {}, badge(sweep.status)), runs, created);
  }

  poll(refresh, signal).catch((error) => signal.aborted || problems.replaceChildren(failure(error)));
}
