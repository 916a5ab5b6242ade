// One experiment: what it learns while it learns, and what came of it.

import { get, reach, send } from "../api.js";
import { button, download, fill, h, link, redrawn, say } from "../dom.js";
import { figure } from "../figure.js";
import { ago, bytes, duration, moment, number, share, size, t } from "../i18n.js";
import { asking, follow, merged, poll } from "../live.js";
import { ACTIVE, actions, attempt, badge, bar, facts, failure, go, maker, network, path, snippet, table, tableRows, title } from "../parts.js";
import { session } from "../session.js";

const VERDICTS = { vanishing: "warn", exploding: "warn", healthy: "good" };

export default async function experimentView(view, { id, signal }) {
  const address = `/experiments/${encodeURIComponent(id)}`;
  let experiment = await get(address, signal);
  const epochs = new Map();
  let asked = signal; // ends when the experiment is about to be deleted

  const problems = h("div");
  const head = h("div");
  const progress = h("div", { class: "card progress" });
  const figures = h("div", { class: "figures" });
  const heads = ["epoch", "loss", "accuracy", "testLoss", "testAccuracy", "ratio", "gradients"].map((one) => t(one));
  const everyEpoch = table(t("numbers"), heads, []);
  const numbers = h("details", { class: "card", toggle: () => showNumbers() }, h("summary", {}, t("numbers")));
  const take = h("section", { class: "card" });
  view.append(head, problems, progress, figures, numbers, take);

  const place = (name) => {
    const one = figure(t(`figure.${name}`), signal);
    figures.append(one.element);
    return () => one.fetched(`${address}/figures/${name}`, asked);
  };
  const growing = [place("learning-curves"), place("gradient-norms")];
  let final = null;

  function show() {
    const { spec, status, result, model, error } = experiment;
    const changed = (verb, answer) => {
      if (!answer) return;
      if (verb === "delete") location.hash = "#/experiments";
      else if (verb === "retry") location.hash = `#/experiments/${answer.id}`;
      else (experiment = answer), show();
    };
    redrawn(head, () => fill(head,
      path("experiments"),
      h("div", { class: "row between" },
        h("div", { class: "row" }, h("h1", { tabindex: -1 }, title(spec)), badge(status)),
        h("div", { class: "row" },
          model && session.may("predict") ? go(`#/draw?model=${id}`, t("drawWithIt"), "button primary") : "",
          maker(`#/experiments/new?from=${id}`, t("change")), ...actions(experiment, { place: problems, changed, hush: requests.hush, signal }))),
      h("p", { class: "faint" }, network(spec, true), " ", spec.tags.map((tag) => h("span", { class: "tag" }, tag))),
      error ? failure({ message: `${error.code}: ${error.message}` }) : "",
      facts([
        [t("testAccuracy"), result && share(result.test_accuracy)],
        [t("testLoss"), result && size(result.test_loss)],
        [t("parameters"), model && number(model.parameters)],
        [t("computation"), result && duration(result.computation_seconds)],
        [t("created"), h("time", { datetime: experiment.created_at, title: moment(experiment.created_at) }, ago(experiment.created_at))],
        [t("attempt"), experiment.attempt > 1 ? number(experiment.attempt) : null],
        [t("sweep"), experiment.sweep_id && link(`#/sweeps/${experiment.sweep_id}`, t("itsSweep"))],
        [t("repeats"), experiment.retry_of && link(`#/experiments/${experiment.retry_of}`, t("theOther"))],
      ]),
    ));
    if (model && !final) {
      final = [place("confusion-matrix"), place("gallery")];
      if (asked !== signal) final.forEach((draw) => draw()); // else they are drawn with the others
    }
    showProgress();
    showTake();
  }

  function showProgress() {
    const { epochs: total } = experiment.spec;
    const done = Math.max(experiment.progress.epoch, epochs.size);
    const last = [...epochs.values()].at(-1);
    const words = [t("epochsOf", { epoch: done, epochs: total })];
    if (last) words.push(`${t("loss")} ${size(last.loss)}`, `${t("testAccuracy")} ${share(last.val_accuracy)}`);
    fill(progress,
      bar(done, total, t("epochsOf", { epoch: done, epochs: total })), h("span", {}, words.join(" · ")),
      last?.gradients ? h("span", { class: `badge ${VERDICTS[last.gradients]}`, title: t("verdictHint") }, t(`verdict.${last.gradients}`)) : "");
  }

  function showNumbers() {
    if (!numbers.open) return;
    const rows = [...epochs.values()].map((one) => [number(one.epoch), size(one.loss), share(one.accuracy), size(one.val_loss),
      share(one.val_accuracy), size(one.gradient_ratio), one.gradients ? t(`verdict.${one.gradients}`) : ""]);
    everyEpoch.querySelector("tbody").replaceChildren(...tableRows(rows));
    if (!everyEpoch.isConnected) numbers.append(everyEpoch);
  }

  let taken = null;

  function showTake() {
    const { model, spec } = experiment;
    if (taken === Boolean(model)) return; // else a selection in it would go
    taken = Boolean(model);
    const file = (format, name) => h("a", { class: "button", href: `${experiment.links.model}?format=${format}`, download: `${id}.${format}` },
      `${name} (${bytes(model.formats[format].bytes)})`);
    const csv = button(t("csv"), () => attempt(problems, async () => {
      const answer = await send(experiment.links.metrics, { headers: { Accept: "text/csv" } });
      download(`${id}.csv`, await answer.text(), "text/csv");
    }));
    redrawn(take, () => fill(take,
      h("h2", {}, t("take")),
      h("div", { class: "row" }, model ? [file("keras", "Keras"), file("onnx", "ONNX")] : "", csv),
      h("p", { class: "faint" }, t("sameByApi")),
      snippet("curl", curlOf(spec)), snippet("Python", pythonOf(spec))));
  }

  function told(epoch) {
    epochs.set(epoch.epoch, epoch);
    showProgress();
    showNumbers();
    for (const draw of growing) draw();
  }

  // Asks until there is an answer, for nobody else will.
  const again = merged(() => poll(async () => {
    const before = experiment.status;
    const until = asked;
    try {
      experiment = await get(address, until);
    } catch (error) {
      if (error.status !== 404 || until.aborted) throw error;
      gone();
      return null;
    }
    if (before !== experiment.status && !ACTIVE.has(experiment.status)) say(`${title(experiment.spec)}: ${t(`status.${experiment.status}`)}`);
    show();
    return null;
  }, asked).catch((error) => signal.aborted || problems.replaceChildren(failure(error))));

  // Somebody else has deleted it. What was seen of it stays; what can be done with it does not.
  function gone() {
    requests.hush();
    problems.replaceChildren(failure({ message: t("deleted", { name: title(experiment.spec) }) }));
    for (const one of head.querySelectorAll("button, .button")) one.remove();
  }

  async function behind() {
    const last = [...epochs.keys()].at(-1) ?? 0;
    const found = await get(`${address}/metrics?after_epoch=${last}`, asked);
    found.epochs.filter((one) => !epochs.has(one.epoch)).forEach(told);
  }

  const drawAll = () => [...growing, ...(final ?? [])].forEach((draw) => draw());

  const requests = asking(signal, (until) => {
    asked = until;
    drawAll();
    if (!ACTIVE.has(experiment.status)) return;
    follow(`${address}/events`, {
      epoch: (epoch) => (epochs.has(epoch.epoch) ? undefined : told(epoch)),
      status: ({ status }) => (status === experiment.status ? undefined : again()), // the stream begins with what is known
      done: again,
      deleted: gone,
    }, until, () => behind().then(again, again));
  });

  for (const one of (await get(`${address}/metrics`, signal)).epochs) epochs.set(one.epoch, one);
  show();
  requests.start();
  reach.addEventListener("change", () => reach.away || again(), { signal });
  document.addEventListener("visibilitychange", () => document.hidden || again(), { signal });
}

const given = (spec) => Object.fromEntries(Object.entries(spec).filter(([, value]) => value !== null && value?.length !== 0));

// What POSIX shells take as one word, whatever is in it.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const curlOf = (spec) =>
  `${session.curl("/experiments")} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(given(spec)))}`;

const pythonOf = (spec) => {
  const key = session.name !== null;
  return `${key ? "import os\n\n" : ""}import httpx

# Strings, numbers and lists: what is JSON here is Python too.
spec = ${JSON.stringify(given(spec), null, 4)}
answer = httpx.post("${location.origin}/experiments", json=spec${key ? `,
                    headers={"Authorization": f"Bearer {os.environ['EPOCHD_API_KEY']}"}` : ""}).raise_for_status()
print(answer.json()["id"])`;
};
