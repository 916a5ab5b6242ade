// Figures, drawn by Plotly, which is loaded when the first one is shown.

import { get, send } from "./api.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { merged } from "./live.js";
import { failure } from "./parts.js";

const SCRIPT = "/assets/plotly.min.js";

// Style elements that Plotly would add when it starts; it adds none where an element of that name is. The page's policy
// forbids them, and `style.css` has what is needed of the first. The second is of the maps, which are not drawn here.
const STYLES = ["plotly.js-style-global", "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53"];

let loading;

function plotly() {
  loading ??= new Promise((resolve, reject) => {
    for (const id of STYLES) document.head.append(h("meta", { id, name: id, class: "no-inline-styles" }));
    document.head.append(h("script", {
      src: SCRIPT,
      load: () => resolve(globalThis.Plotly),
      error: () => {
        loading = undefined;
        send(SCRIPT).then(() => reject(new Error(t("noPlotly"))), reject);
      },
    }));
  });
  return loading;
}

const ink = (element) => getComputedStyle(element).color;

// A place for a figure. `draw(figure)` shows or changes it, and `fetched(path)` asks the API for it first.
export function figure(label, signal) {
  const plot = h("div", { class: "plot" });
  const note = h("p", { class: "faint", role: "status" }, t("loading"));
  const element = h("figure", { class: "card figure", "aria-label": label }, note, plot);
  let shown;
  const draw = async (wanted) => {
    shown = wanted;
    const lib = await plotly();
    if (signal.aborted || shown !== wanted) return;
    const layout = { ...wanted.layout, font: { ...wanted.layout.font, color: ink(plot) } };
    await lib.react(plot, wanted.data, layout, { responsive: true, displayModeBar: false });
    note.remove();
  };
  const fetched = merged(async () => {
    try {
      await draw(await get(element.dataset.path, signal));
    } catch (error) {
      if (signal.aborted || error instanceof TypeError) return; // asked again when the service is back
      note.replaceChildren(failure(error));
      element.prepend(note);
    }
  });
  addEventListener("colours", () => shown && draw({ ...shown }), { signal });
  signal.addEventListener("abort", () => globalThis.Plotly?.purge(plot));
  return {
    element,
    draw: (wanted) => draw(wanted).catch((error) => note.replaceChildren(failure(error))),
    fetched: (path) => {
      element.dataset.path = path;
      return fetched();
    },
  };
}
