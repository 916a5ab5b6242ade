// All experiments: a table that follows what happens, to filter, sort, and pick from.

import { Problem, description, get, query } from "../api.js";
import { tell } from "../form.js";
import { button, choice, h, link, say, setText } from "../dom.js";
import { ago, moment, share, size, t } from "../i18n.js";
import { follow, merged, poll } from "../live.js";
import { ACTIVE, actions, badge, bar, empty, go, maker, network, snippet, title } from "../parts.js";
import { session } from "../session.js";

const PAGE = 50;
const MOST = 200; // of what one request may ask for
const BUSY_MS = 1000;
const IDLE_MS = 3000;
const FEW = 20; // of what is asked for one by one
const STREAMS = 2; // a browser keeps six connections to a place, for all its windows
const SORTS = ["-created_at", "created_at", "-test_accuracy", "test_accuracy"];

export default async function experiments(view, { query: given, signal }) {
  const { properties } = (await description()).components.schemas.Spec;
  const asked = Object.fromEntries(["status", "activation", "depth", "dataset", "tag", "sweep_id", "sort"].map((name) => [name, given.get(name) ?? ""]));
  const rows = new Map();
  const picked = new Map(); // experiments as they were last seen, by id; null of those that were not yet
  const streams = new Map(); // of what is trained now, by id
  let cursor = null;
  let loading = null;
  let turns = 0; // whose it is to be asked for, of what is picked and not shown
  let wanted = 0; // counts changes of the filters: an answer to an earlier one is of no use

  const problems = h("div"); // of what was done
  const refusal = h("div"); // of the table itself
  const nothing = h("div", { hidden: true });
  const body = h("tbody");
  const more = button(t("more"), () => load(), { hidden: true, class: "more" });
  const count = h("p", { class: "faint", role: "status" }, t("loading"));
  const picks = h("div", { class: "picks", hidden: true, role: "region", "aria-label": t("picked") });

  const filters = h("form", { class: "filters", role: "search", "aria-label": t("filter"), submit: (event) => event.preventDefault(), change: refilter, input: typed });
  const fields = [];
  const filter = (name, input) => {
    const id = `filter-${input.name}`;
    const fault = h("span", { class: "fault", id });
    input.setAttribute("aria-describedby", id);
    filters.append(h("label", {}, h("span", {}, t(`field.${name}`)), input, fault));
    fields.push({ pointer: `/${input.name}`, input, element: input, tell: (message) => {
      fault.textContent = message;
      input.setAttribute("aria-invalid", String(message !== ""));
    } });
  };
  const any = (values, word = (one) => one) => [["", t("any")], ...values.map((one) => [one, word(one)])];
  filter("status", choice(any(["queued", "running", "cancelling", "succeeded", "failed", "cancelled"], (one) => t(`status.${one}`)), asked.status, { name: "status" }));
  filter("activation", choice(any(properties.activation.enum), asked.activation, { name: "activation" }));
  filter("depth", h("input", { name: "depth", type: "number", min: properties.depth.minimum, max: properties.depth.maximum, value: asked.depth, placeholder: t("any") }));
  filter("dataset", choice(any(properties.dataset.enum), asked.dataset, { name: "dataset" }));
  filter("tags", h("input", { name: "tag", type: "search", maxlength: 64, value: asked.tag, placeholder: t("any") }));
  filter("sort", choice(SORTS.map((one) => [one, t(`sort.${one}`)]), asked.sort || SORTS[0], { name: "sort" }));
  read();

  const sorter = (name) => {
    const press = button(t(name === "created_at" ? "created" : "testAccuracy"), () => {
      filters.elements.sort.value = asked.sort === `-${name}` ? name : `-${name}`;
      refilter();
    }, { class: "sorter" });
    return h("th", { scope: "col", "data-sort": name, class: name === "created_at" ? "wide" : "number" }, press);
  };
  const heads = h("tr", {},
    h("th", { scope: "col" }, h("span", { class: "unseen" }, t("pick"))), h("th", { scope: "col" }, t("experiment")),
    h("th", { scope: "col" }, t("field.status")), sorter("test_accuracy"), h("th", { scope: "col", class: "number wide" }, t("testLoss")),
    sorter("created_at"), h("th", { scope: "col", class: "wide" }, h("span", { class: "unseen" }, t("actions"))));
  const list = h("table", { class: "list", hidden: true, "aria-labelledby": "title" }, h("thead", {}, heads), body);

  view.append(
    h("div", { class: "row between" }, h("h1", { id: "title", tabindex: -1 }, t("experiments")),
      h("div", { class: "row" }, maker("#/sweeps/new", t("newSweep")), maker("#/experiments/new", t("newExperiment"), "button primary"))),
    filters,
    asked.sweep_id ? h("p", {}, link(`#/sweeps/${asked.sweep_id}`, t("ofSweep")), " · ", link("#/experiments", t("all"))) : "",
    problems, refusal, nothing, list, count, more, picks);

  function unread() {
    return filters.elements.depth.validity.badInput;
  }

  // What cannot be read leaves the filter as it was.
  function read() {
    for (const name of ["status", "activation", "depth", "dataset", "tag", "sort"]) {
      if (name !== "depth" || !unread()) asked[name] = filters.elements[name].value.trim();
    }
    if (asked.sort === SORTS[0]) asked.sort = "";
  }

  // What the service refuses, and what is never sent to it.
  function told(error) {
    tell(fields, refusal, unread() ? { faults: [{ pointer: "/depth", message: t("noNumber") }] } : error);
  }

  // What browsers tell no change of: that it is no number, and the cross in a field to search by.
  function typed({ target }) {
    if (target.validity.badInput || (target.type === "search" && !target.value)) refilter();
    else if (target.type === "number") told();
  }

  function refilter() {
    const before = query(asked);
    read();
    if (before === query(asked)) return told();
    history.pushState(null, "", `#/experiments${query(asked)}`);
    wanted += 1;
    cursor = null;
    rows.clear();
    body.replaceChildren();
    list.hidden = nothing.hidden = more.hidden = true;
    setText(count, t("loading"));
    showPicks();
    return load();
  }

  const end = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && cursor && load(), { rootMargin: "400px" });
  signal.addEventListener("abort", () => end.disconnect());

  const page = (limit, from) => get(`/experiments${query({ ...asked, limit, cursor: from })}`, signal);

  // The next page, behind what is there.
  async function load() {
    const turn = wanted;
    const before = rows.size;
    if (loading === turn) return;
    loading = turn;
    try {
      const answer = await page(PAGE, cursor);
      if (turn !== wanted) return;
      for (const one of answer.data) put(one, body.children.length);
      cursor = answer.next_cursor;
      told();
      show();
      end.unobserve(more); // else a window that is higher than a page of rows would wait for ever
      end.observe(more);
      if (before) say(t("loaded", { n: answer.data.length }));
    } catch (error) {
      if (turn === wanted && error instanceof Problem) refused(error);
    } finally {
      if (loading === turn) loading = null;
    }
  }

  function refused(error) {
    told(error);
    if (rows.size === 0) setText(count, "");
  }

  // The table as it is now: asked for in one request where one can hold it. Of a longer one the front, and what is
  // still under way of the rest.
  async function refresh() {
    const turn = wanted;
    const many = rows.size;
    let answer;
    try {
      answer = await page(Math.max(PAGE, Math.min(MOST, many)));
    } catch (error) {
      if (turn !== wanted) return BUSY_MS;
      if (!(error instanceof Problem) || error.temporary) throw error;
      refused(error); // until the filter is another
      return IDLE_MS;
    }
    if (turn !== wanted || many !== rows.size) return BUSY_MS;
    told();
    const found = new Set(answer.data.map((one) => one.id));
    const others = [...rows.values()].filter((row) => !found.has(row.experiment.id));
    if (many <= MOST) {
      others.forEach(drop);
      cursor = answer.next_cursor;
    }
    answer.data.forEach((one, place) => put(one, place));
    const active = (row) => ACTIVE.has(row.experiment.status);
    if (many > MOST) {
      for (const row of others.filter(active).slice(0, FEW)) await again(row);
    }
    show();
    await lookAfter([...picked.keys()].filter((id) => !rows.has(id)));
    return [...rows.values()].some((row) => active(row) && !streams.has(row.experiment.id)) ? BUSY_MS : IDLE_MS;
  }

  async function again(row) {
    try {
      put(await get(row.experiment.links.self, signal));
    } catch (error) {
      if (error.status !== 404) throw error;
      gone(row);
    }
  }

  // What is picked stays so when its row goes: others push it off, or the filter does. Only what is deleted is no more.
  async function lookAfter(unseen) {
    for (let left = Math.min(FEW, unseen.length); left > 0; left -= 1) {
      turns += 1;
      const id = unseen[turns % unseen.length];
      const now = await get(`/experiments/${id}`, signal).catch((error) => {
        if (error.status !== 404) throw error;
      });
      if (!now) picked.delete(id);
      else if (picked.has(id)) picked.set(id, now);
    }
    if (unseen.length && !signal.aborted) showPicks();
  }

  const soon = merged(() => refresh().catch(() => undefined)); // the next regular one tells what is wrong

  // Follows what is trained now, epoch by epoch. What waits is asked for with the table.
  function listen() {
    const running = [...rows.values()].map((row) => row.experiment).filter((one) => one.status === "running" || one.status === "cancelling");
    for (const [id, stop] of streams) {
      if (running.some((one) => one.id === id)) continue;
      stop.abort();
      streams.delete(id);
    }
    for (const { id, links } of running.filter((one) => !streams.has(one.id)).slice(0, STREAMS - streams.size)) {
      const stop = new AbortController();
      streams.set(id, stop);
      const status = (told) => (rows.get(id)?.experiment.status === told.status ? undefined : soon());
      follow(links.events, {
        epoch: ({ epoch }) => {
          const now = rows.get(id)?.experiment;
          if (now && epoch > now.progress.epoch) put({ ...now, progress: { ...now.progress, epoch } });
        },
        status, done: soon, deleted: soon,
      }, AbortSignal.any([signal, stop.signal]), soon);
    }
  }

  function put(experiment, place) {
    const row = rows.get(experiment.id) ?? line(experiment);
    rows.set(experiment.id, row);
    if (picked.has(experiment.id)) picked.set(experiment.id, experiment);
    row.change(experiment);
    if (place !== undefined && body.children[place] !== row.element) body.insertBefore(row.element, body.children[place] ?? null);
  }

  function drop(row) {
    const { element } = row;
    const focused = element.contains(document.activeElement);
    const near = element.nextElementSibling ?? element.previousElementSibling;
    rows.delete(row.experiment.id);
    element.remove();
    if (focused) (near?.querySelector("a") ?? view.querySelector("h1")).focus();
  }

  function gone(row) {
    picked.delete(row.experiment.id);
    drop(row);
  }

  function line(first) {
    const box = h("input", { type: "checkbox", checked: picked.has(first.id), "aria-label": t("pickThis", { name: title(first.spec) }), change: () => {
      if (box.checked) picked.set(first.id, row.experiment);
      else picked.delete(first.id);
      showPicks();
    } });
    const [status, accuracy, loss, created, acts] = ["", "number", "number wide", "wide faint", "wide acts"].map((kind) => h("td", { class: kind }));
    const row = { experiment: null };
    row.element = h("tr", {}, h("td", {}, box),
      h("th", { scope: "row" }, link(`#/experiments/${first.id}`, title(first.spec)),
        h("span", { class: "faint under" }, network(first.spec)), (first.spec.tags ?? []).map((tag) => h("span", { class: "tag" }, tag))),
      status, accuracy, loss, created, acts);
    created.title = moment(first.created_at);
    row.change = (now) => {
      const before = row.experiment;
      row.experiment = now;
      setText(created, ago(now.created_at));
      if (before && before.status === now.status && before.progress.epoch === now.progress.epoch) return;
      const { epoch, epochs } = now.progress;
      status.replaceChildren(badge(now.status), ...(now.status === "succeeded" ? [] :
        now.error ? [h("span", { class: "faint under" }, now.error.message)] :
          [h("span", { class: "under row" }, bar(epoch, epochs, t("epochsOf", { epoch, epochs })), h("span", { class: "faint" }, `${epoch}/${epochs}`))]));
      setText(accuracy, now.result ? share(now.result.test_accuracy) : "");
      setText(loss, now.result ? size(now.result.test_loss) : "");
      if (before?.status === now.status) return;
      if (before && !ACTIVE.has(now.status)) say(`${title(now.spec)}: ${t(`status.${now.status}`)}`);
      const focused = acts.contains(document.activeElement);
      acts.replaceChildren(...actions(now, { place: problems, signal, changed: (verb, answer) => {
        if (answer && verb === "delete") gone(row);
        else if (answer && verb === "retry") soon(); // where it belongs, if the filter lets it in
        else if (answer) put(answer);
        show();
      } }));
      if (focused) row.element.querySelector("a").focus();
    };
    return row;
  }

  function show() {
    if (signal.aborted) return;
    list.hidden = rows.size === 0;
    more.hidden = cursor === null;
    const filtered = Object.entries(asked).some(([name, value]) => value && name !== "sort");
    setText(count, rows.size ? t(cursor ? "shownSoFar" : "shown", { n: rows.size }) : "");
    if (nothing.hidden === (rows.size === 0)) {
      nothing.hidden = rows.size > 0;
      if (!nothing.hidden) nothing.replaceChildren(...(filtered ? [empty(t("noneMatch"))] : first()));
    }
    for (const head of heads.querySelectorAll("[data-sort]")) {
      const sort = asked.sort || SORTS[0];
      const state = sort === head.dataset.sort ? "ascending" : sort === `-${head.dataset.sort}` ? "descending" : "none";
      head.setAttribute("aria-sort", state);
    }
    showPicks();
    listen();
  }

  function first() {
    const body = '{"activation": "relu", "depth": 1}';
    return [empty(t("noneYet"), maker("#/experiments/new", t("newExperiment"), "button primary")),
      snippet("curl", `${session.curl("/experiments")} \\\n  -H 'Content-Type: application/json' -d '${body}'`)];
  }

  // Told in place: whoever is about to press a button of it finds it there.
  const many = h("strong");
  const compared = go("", t("compare"), "button primary");
  const drawn = go("", t("drawWith"));
  picks.append(many, compared, drawn, button(t("clear"), () => {
    picked.clear();
    for (const box of body.querySelectorAll("input:checked")) box.checked = false;
    showPicks();
    view.querySelector("h1").focus();
  }));

  function showPicks() {
    const trained = [...picked].filter(([, one]) => one?.status === "succeeded").map(([id]) => id);
    picks.hidden = picked.size === 0;
    setText(many, t("pickedOf", { n: picked.size }));
    compared.href = `#/compare?ids=${[...picked.keys()].join(",")}`;
    drawn.href = `#/draw?model=${trained.join(",")}`;
    drawn.hidden = !trained.length || !session.may("predict");
    history.replaceState({ ...history.state, rows: rows.size, picked: [...picked.keys()] }, "");
  }

  // As whoever comes back has left it.
  async function restored({ rows: many = 0, picked: ids = [] }) {
    for (const id of ids) picked.set(id, null);
    let before;
    do {
      before = rows.size;
      await load();
    } while (cursor && rows.size > before && rows.size < many);
  }

  await restored(history.state ?? {});
  if (signal.aborted) return;
  poll(refresh, signal).catch((error) => signal.aborted || refused(error));
}
