// One sweep: which arm is better, how sure that is, and the curves behind it.

import { get, post } from "../api.js";
import { button, confirmed, fill, h, redrawn, say, setText } from "../dom.js";
import { figure } from "../figure.js";
import { ago, language, moment, number, share, size, t } from "../i18n.js";
import { asking, poll } from "../live.js";
import { attempt, badge, bar, facts, failure, go, once, path, removed, setting, snippet, table } from "../parts.js";
import { session } from "../session.js";
import { named } from "./sweeps.js";

const FIGURES = ["accuracy-by-depth", "seed-scatter", "learning-curves", "gradient-norms"];
const BUSY_MS = 1500;
const IDLE_MS = 3000;
const STATES = ["succeeded", "running", "queued", "cancelling", "failed", "cancelled"];

export default async function sweepView(view, { id, signal }) {
  const address = `/sweeps/${encodeURIComponent(id)}`;
  let sweep = await get(address, signal);
  let counted = "";
  let told = sweep.status;
  let asked = signal; // ends when the sweep is about to be deleted

  const head = h("div");
  const problems = h("div");
  const progress = h("div", { class: "card progress" });
  const reading = h("p", { class: "reading" });
  const arms = h("div");
  const pairs = h("div");
  const figures = FIGURES.map((name) => [name, figure(t(`figure.${name}`), signal)]);
  const take = h("section", { class: "card" }, h("h2", {}, t("take")), h("p", { class: "faint" }, t("sameByApi")),
    snippet("curl", `${session.curl("/sweeps")} \\\n  -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(sweep.spec, (_, value) => value ?? undefined).replaceAll("'", "'\\''")}'`));
  view.append(head, problems, progress,
    h("section", { class: "card" }, h("h2", {}, t("comparison")), reading, arms, h("details", {}, h("summary", {}, t("pairs")), pairs)),
    h("div", { class: "figures" }, figures.map(([, one]) => one.element)), take);

  // Made once, and changed where they are: any of it may be under a finger.
  let mark = badge(sweep.status);
  const stop = button(t("cancel"), once(() => attempt(problems, async () => {
    sweep = await post(sweep.links.cancel);
    show();
  })), { class: "small" });
  const away = button(t("delete"), once(() => attempt(problems, async () => {
    if (!(await confirmed(t("deleteSweep", { name: named(sweep), n: sweep.progress.total }), t("delete"), t("keep"), signal))) return;
    await removed(address, requests.hush);
    say(t("deleted", { name: named(sweep) }));
    location.hash = "#/sweeps";
  })), { class: "small danger" });
  const acts = h("div", { class: "row" });
  const created = h("time", { datetime: sweep.created_at, title: moment(sweep.created_at) });
  fill(head,
    path("sweeps"),
    h("div", { class: "row between" }, h("div", { class: "row" }, h("h1", { tabindex: -1 }, named(sweep)), mark),
      h("div", { class: "row" }, go(`#/experiments?sweep_id=${id}`, t("itsExperiments")), session.may("write") ? acts : "")),
    facts([
      [t("runsHead"), number(sweep.size)],
      ...Object.entries(sweep.spec.grid).map(([field, values]) => [t(`field.${field}`), Array.isArray(values) ? values.join(", ") : `${values.start}–${values.stop}`]),
      [t("field.seeds"), sweep.spec.seeds && number(sweep.spec.seeds)],
      ...Object.entries(sweep.spec.base).filter(([, value]) => !Array.isArray(value)).map(([field, value]) => [t(`field.${field}`), String(value)]),
      [t("created"), created],
    ]));

  function show() {
    const now = badge(sweep.status);
    mark.replaceWith(now);
    mark = now;
    setText(created, ago(sweep.created_at));
    const act = sweep.status === "finished" ? away : stop;
    if (acts.firstChild !== act) redrawn(acts, () => fill(acts, act));
    const { done, total } = sweep.progress;
    fill(progress, bar(done, total, t("runsOf", { done, total })), h("span", {}, t("runsOf", { done, total })),
      STATES.filter((state) => sweep.progress[state]).map((state) => h("span", { class: `badge ${state}` }, `${t(`status.${state}`)} ${number(sweep.progress[state])}`)));
  }

  const spread = ({ mean, low, high }, word = share) => (mean === null ? "–" : low === null ? word(mean) : `${word(mean)} (${word(low)}–${word(high)})`);

  async function compare() {
    const found = await get(sweep.links.comparison, asked);
    const own = language === "en" ? null : read(found);
    reading.lang = own ? language : "en";
    setText(reading, own ?? found.reading);
    const named = new Map(found.arms.map((arm) => [arm.label, armed(arm)]));
    redrawn(arms, () => arms.replaceChildren(table(t("comparison"), [t("rank"), t("arm"), t("accuracy95"), t("loss95"), t("runsHead")],
      found.arms.map((arm) => [arm.rank ?? "–", named.get(arm.label), spread(arm.accuracy), spread(arm.loss, size), `${number(arm.n)}/${number(arm.planned)}`]))));
    redrawn(pairs, () => fill(pairs,
      table(t("pairs"), [t("first"), t("second"), t("difference95"), t("wins"), "p (Holm)"],
        found.pairs.map((pair) => [named.get(pair.first), named.get(pair.second), spread(pair), `${number(pair.wins)}/${number(pair.n)}`,
          pair.p_holm === null ? "–" : pair.significant ? h("strong", {}, pair.p_holm.toPrecision(2)) : pair.p_holm.toPrecision(2)])),
      h("p", { class: "faint", lang: "en" }, found.method), found.notes.map((note) => h("p", { class: "faint", lang: "en" }, note))));
  }

  async function look() {
    sweep = await get(address, asked);
    const now = JSON.stringify(sweep.progress);
    if (now !== counted) {
      show();
      await compare();
      await Promise.all(figures.map(([name, one]) => one.fetched(`${address}/figures/${name}`, asked)));
      counted = now;
    }
    if (told !== sweep.status && sweep.status === "finished") say(`${named(sweep)}: ${t("status.finished")}`);
    told = sweep.status;
  }

  // Also when it is finished: it goes on where one of its experiments is repeated.
  async function refresh() {
    const until = asked;
    try {
      await look();
    } catch (error) {
      if (error.status !== 404 || until.aborted) throw error;
      gone();
      return null;
    }
    return sweep.status === "finished" ? IDLE_MS : BUSY_MS;
  }

  // Somebody else has deleted it. What was seen of it stays; what can be done with it does not.
  function gone() {
    requests.hush();
    problems.replaceChildren(failure({ message: t("deleted", { name: named(sweep) }) }));
    for (const one of head.querySelectorAll("button, .button")) one.remove();
  }

  const requests = asking(signal, (until) => {
    asked = until;
    counted = "";
    poll(refresh, until).catch((error) => until.aborted || problems.replaceChildren(failure(error)));
  });

  show();
  requests.start();
}

// An arm in the reader's words.
const armed = ({ label, values }) =>
  language === "en" || !Object.keys(values).length ? label : Object.entries(values).map(([field, value]) => setting(field, value)).join(", ");

// How the best arm compares with the next, where that is soon said; what is rare is said by the API, in English.
function read({ arms: [best, next], pairs, complete, finished, total, failed, cancelled }) {
  const pair = next?.n && pairs.find((one) => one.first === best.label && one.second === next.label);
  if (!pair || pair.p_holm === null || pair.mean <= 0) return null;
  return [
    complete ? "" : t("readSoFar", { finished, total }),
    t(pair.significant ? "readBetter" : "readEqual", {
      first: armed(best), second: armed(next), seeds: pair.n, wins: pair.wins,
      mean: share(pair.mean), low: share(pair.low), high: share(pair.high), p: pair.p_holm.toPrecision(2),
    }),
    failed + cancelled ? t("readWithout", { failed, cancelled }) : "",
  ].join("");
}
