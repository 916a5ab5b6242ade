// Curves of several experiments over each other, and what tells these apart.

import { Problem, get } from "../api.js";
import { fill, h, link, setText } from "../dom.js";
import { figure } from "../figure.js";
import { duration, number, share, size, t } from "../i18n.js";
import { poll } from "../live.js";
import { ACTIVE, badge, empty, end, failure, go, ownName, path, setting, table, title } from "../parts.js";
import { session } from "../session.js";

// As in the figures of the API: the hues of Okabe and Ito, each seen on white and on black.
const COLOURS = ["#0077BA", "#B04C00", "#007353", "#9C5B7F", "#BE8300", "#4694C0", "#8E8E8E"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const MOST = 28; // colours times dashes
const CURVES = [["val_accuracy", "testAccuracy", "linear"], ["loss", "trainingLoss", "linear"], ["gradient_ratio", "ratio", "log"]];

// Plotly reads some markup in a name.
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

export default async function compare(view, { query, signal }) {
  const asked = [...new Set((query.get("ids") ?? "").split(",").filter(Boolean))];
  let runs = asked.slice(0, MOST).map(line);
  const lost = [];
  const plots = CURVES.map(([, word]) => figure(t(word), signal));
  const notes = h("p", { class: "notes", role: "status" });
  const heads = [t("experiment"), t("field.status"), t("testAccuracy"), t("testLoss"), t("epoch"), t("computation")];
  const numbers = table(t("comparison"), heads, runs.map((run) => run.cells));
  const draw = go("#/draw", t("drawWith"));
  const card = h("div", { class: "card stack", hidden: true }, numbers, h("p", {}, draw));
  const figures = h("div", { class: "figures" }, plots.map((one) => one.element));
  const content = h("div", { class: "stack" }, card, figures);
  view.append(h("div", {}, path("experiments"), h("h1", {}, t("comparison"))), notes, content);

  async function read(run) {
    if (run.experiment && !ACTIVE.has(run.experiment.status)) return;
    const address = `/experiments/${encodeURIComponent(run.id)}`;
    try {
      const experiment = await get(address, signal);
      const last = run.epochs.at(-1)?.epoch ?? 0;
      run.epochs.push(...(await get(`${address}/metrics?after_epoch=${last}`, signal)).epochs);
      run.experiment = experiment; // behind the last epochs: of what has ended nobody asks again
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
      run.gone = true;
    }
  }

  // The others are compared as if those that are gone had never been there, but these are named.
  function drop(gone) {
    runs = runs.filter((run) => !gone.includes(run));
    for (const [name] of gone.map((run) => run.cells)) {
      if (name === document.activeElement) numbers.focus();
      name.closest("tr").remove();
    }
    lost.push(...gone.map(({ id, experiment }) => (experiment ? title(experiment.spec) : end(id))));
  }

  function note() {
    const lines = [lost.length && t("gone", { names: lost.join(", ") }), asked.length > MOST && t("shownOf", { n: runs.length, total: asked.length })];
    setText(notes, lines.filter(Boolean).join(" "));
  }

  async function show() {
    await Promise.all(runs.map(read));
    drop(runs.filter((run) => run.gone));
    note();
    if (!runs.length) {
      content.replaceWith(empty(t("pickFirst"), go("#/experiments", t("experiments"), "button primary")));
      return null;
    }
    const labels = labelled(runs.map((run) => run.experiment));
    runs.forEach((run, at) => run.show(labels[at]));
    card.hidden = false;
    showCurves(labels);
    const trained = runs.filter(({ experiment }) => experiment.status === "succeeded").map((run) => run.id);
    draw.parentElement.hidden = !trained.length || !session.may("predict");
    draw.setAttribute("href", `#/draw?model=${trained.slice(0, 16).join(",")}`);
    return runs.some(({ experiment }) => ACTIVE.has(experiment.status)) ? 1000 : null;
  }

  function showCurves(labels) {
    const longest = Math.max(...runs.map(({ epochs }) => epochs.length));
    CURVES.forEach(([field, , type], which) => plots[which].draw({
      data: runs.map(({ id, epochs }, at) => ({
        uid: id, type: "scatter", mode: epochs.length > 30 ? "lines" : "lines+markers", name: escaped(labels[at]),
        x: epochs.map((one) => one.epoch), y: epochs.map((one) => one[field]),
        line: { color: COLOURS[at % COLOURS.length], dash: DASHES[Math.floor(at / COLOURS.length)], width: 2 },
      })),
      layout: {
        height: 330 + 19 * labels.length, margin: { l: 12, r: 12, t: 44, b: 12 }, font: { size: 12, family: "system-ui, sans-serif" },
        title: { text: "" },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, hovermode: "closest", showlegend: true,
        legend: { orientation: "h", x: 0, y: -0.25, yanchor: "top" },
        xaxis: { title: { text: t("epoch") }, dtick: longest > 10 ? undefined : 1, gridcolor: "rgba(128,128,128,0.3)", automargin: true, zeroline: false },
        yaxis: { type, dtick: type === "log" ? "D2" : undefined, minorloglabels: "complete", gridcolor: "rgba(128,128,128,0.3)", automargin: true, zeroline: false },
      },
    }));
  }

  if ((await show()) !== null) poll(show, signal).catch((error) => signal.aborted || numbers.before(failure(error)));
}

// One experiment and its row in the table, of which only what has changed is replaced: a focus in it stays.
function line(id) {
  const name = link(`#/experiments/${id}`);
  const status = h("span");
  const [accuracy, loss, epoch, time] = ["accuracy", "loss", "epoch", "time"].map(() => h("span"));
  const run = { id, epochs: [], cells: [name, status, accuracy, loss, epoch, time] };
  run.show = (label) => {
    const { status: now, result, progress } = run.experiment;
    setText(name, label);
    if (status.textContent !== t(`status.${now}`)) fill(status, badge(now));
    setText(accuracy, share(result?.test_accuracy));
    setText(loss, size(result?.test_loss));
    setText(epoch, `${number(progress.epoch)}/${number(progress.epochs)}`);
    setText(time, result ? duration(result.computation_seconds) : "–");
  };
  return run;
}

// In words, what each of these has that not all have.
function differences(experiments) {
  const [first] = experiments;
  const fields = Object.keys(first.spec).filter((field) => field !== "name" && new Set(experiments.map(({ spec }) => JSON.stringify(spec[field]))).size > 1);
  return experiments.map(({ spec }) => fields.filter((field) => String(spec[field] ?? "")).map((field) => setting(field, spec[field])).join(", "));
}

// A name for each, and no two alike.
function labelled(experiments) {
  const words = differences(experiments);
  const names = experiments.map(({ spec }, at) => ownName(spec) ?? (words[at] || title(spec)));
  return experiments.map((one, at) => {
    const same = experiments.filter((_, other) => names[other] === names[at]);
    if (same.length === 1) return names[at];
    const apart = differences(same);
    const own = apart[same.indexOf(one)];
    const alone = apart.filter((other) => other === own).length === 1;
    const more = [own, alone ? "" : end(one.id)].filter(Boolean).join(", ");
    return more ? `${names[at]} (${more})` : names[at];
  });
}
