// Curves of several experiments over each other, and what tells these apart.

import { get } from "../api.js";
import { fill, h, link } from "../dom.js";
import { figure } from "../figure.js";
import { duration, number, share, t } from "../i18n.js";
import { poll } from "../live.js";
import { ACTIVE, badge, empty, failure, go, path, setting, table, title } from "../parts.js";

// As in the figures of the API: the hues of Okabe and Ito, each seen on white and on black.
const COLOURS = ["#0077BA", "#B04C00", "#007353", "#9C5B7F", "#BE8300", "#4694C0", "#8E8E8E"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const MOST = 28; // colours times dashes
const CURVES = [["val_accuracy", "testAccuracy", "linear"], ["loss", "trainingLoss", "linear"], ["gradient_ratio", "ratio", "log"]];

// Plotly reads some markup in a name.
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

export default async function compare(view, { query, signal }) {
  const ids = [...new Set((query.get("ids") ?? "").split(",").filter(Boolean))].slice(0, MOST);
  view.append(h("div", {}, path("experiments"), h("h1", {}, t("comparison"))));
  if (!ids.length) {
    view.append(empty(t("pickFirst"), go("#/experiments", t("experiments"), "button primary")));
    return;
  }
  const runs = ids.map(() => ({ epochs: [] }));
  const plots = CURVES.map(([, word]) => figure(t(word), signal));
  const numbers = h("div", { class: "card stack" });
  view.append(numbers, h("div", { class: "figures" }, plots.map((one) => one.element)));

  async function read(run, at) {
    if (run.experiment && !ACTIVE.has(run.experiment.status)) return;
    const address = `/experiments/${encodeURIComponent(ids[at])}`;
    run.experiment = await get(address, signal);
    const last = run.epochs.at(-1)?.epoch ?? 0;
    run.epochs.push(...(await get(`${address}/metrics?after_epoch=${last}`, signal)).epochs);
  }

  // Whatever all share says nothing here.
  function label({ experiment: { spec, id } }, differing) {
    if (spec.name) return spec.name;
    const words = differing.filter((field) => field !== "name").map((field) => setting(field, spec[field]));
    return words.length ? words.join(", ") : `${title(spec)} (${id.slice(-4)})`;
  }

  async function show() {
    await Promise.all(runs.map(read));
    const specs = runs.map(({ experiment }) => experiment.spec);
    const differing = Object.keys(specs[0]).filter((field) => new Set(specs.map((spec) => JSON.stringify(spec[field]))).size > 1);
    const labels = runs.map((run) => label(run, differing));
    const longest = Math.max(...runs.map(({ epochs }) => epochs.length));
    CURVES.forEach(([field, , type], which) => plots[which].draw({
      data: runs.map(({ epochs }, at) => ({
        type: "scatter", mode: epochs.length > 30 ? "lines" : "lines+markers", name: escaped(labels[at]),
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
    const heads = [t("experiment"), t("field.status"), t("testAccuracy"), t("testLoss"), t("epoch"), t("computation")];
    fill(numbers,
      table(t("comparison"), heads, runs.map(({ experiment: { id, status, result, progress } }, at) => [
        link(`#/experiments/${id}`, labels[at]), badge(status), share(result?.test_accuracy), share(result?.test_loss),
        `${number(progress.epoch)}/${number(progress.epochs)}`, result ? duration(result.computation_seconds) : "–"])),
      trained().length ? h("p", {}, go(`#/draw?model=${trained().slice(0, 16).join(",")}`, t("drawWith"))) : "");
    return runs.some(({ experiment }) => ACTIVE.has(experiment.status)) ? 1000 : null;
  }

  const trained = () => ids.filter((_, at) => runs[at].experiment.status === "succeeded");

  if ((await show()) !== null) poll(show, signal).catch((error) => signal.aborted || numbers.before(failure(error)));
}
