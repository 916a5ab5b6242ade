// Figures, drawn by Plotly, which is loaded when the first one is shown.

import { get, reach, send } from "./api.js";
import { h, setText } from "./dom.js";
import { t } from "./i18n.js";
import { merged } from "./live.js";
import { failure } from "./parts.js";

const SCRIPT = "/assets/plotly.min.js";
const NOT_INSTALLED = 501;
const ABOVE = 12; // px over the plot, where its title was

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
      // A script's error does not say what it is: the answer does.
      error: () => send(SCRIPT).then(() => new Error(t("noPlotly")), (error) => error).then((error) => {
        if (error.status !== NOT_INSTALLED) loading = undefined;
        reject(error.status === NOT_INSTALLED ? new Error(t("noPlotly")) : error);
      }),
    }));
  });
  return loading;
}

const ink = (element) => getComputedStyle(element).color;

// What one must know to read a figure: what stands in its title behind the bold name of what it shows.
function remark({ text }) {
  const { body } = new DOMParser().parseFromString(text.replaceAll("<br>", " "), "text/html");
  body.querySelector("b")?.remove();
  return body.textContent.trim();
}

// The layout without its title: that stands over the plot as text of the page, which wraps, and can be selected.
function untitled(layout, colour) {
  const { title, ...rest } = layout;
  const margin = { ...rest.margin, t: ABOVE };
  // The same revision for whatever a place shows: what the reader hid in it stays hidden.
  return { ...rest, margin, height: rest.height - rest.margin.t + ABOVE, font: { ...rest.font, color: colour }, uirevision: "reader" };
}

// A place for a figure. `draw(figure)` shows or changes it, and `fetched(path)` asks the API for it first.
export function figure(label, signal) {
  const plot = h("div", { class: "drawn" });
  const note = h("p", { class: "faint", role: "status" }, t("loading"));
  const hint = h("p", { class: "faint", lang: "en" });
  const element = h("figure", { class: "card figure" }, h("figcaption", {}, h("h2", {}, label), hint), note, plot);
  let shown;
  const draw = async (wanted) => {
    shown = wanted;
    const lib = await plotly();
    if (signal.aborted || shown !== wanted) return;
    setText(hint, remark(wanted.layout.title));
    await lib.react(plot, wanted.data, untitled(wanted.layout, ink(plot)), { responsive: true, displayModeBar: false });
    note.remove();
  };
  const failed = (error, until, again) => {
    if (until.aborted) return;
    if (reach.away) reach.back().then(() => until.aborted || again());
    else {
      note.replaceChildren(failure(error));
      plot.before(note);
    }
  };
  const redraw = () => draw({ ...shown }).catch((error) => failed(error, signal, redraw));
  let asking = signal;
  const fetched = merged(async () => {
    const asked = asking;
    try {
      await draw(await get(element.dataset.path, asked));
    } catch (error) {
      failed(error, asked, fetched);
    }
  });
  addEventListener("colours", () => shown && redraw(), { signal });
  signal.addEventListener("abort", () => globalThis.Plotly?.purge(plot));
  return {
    element,
    draw: (wanted) => draw(wanted).catch((error) => failed(error, signal, redraw)),
    // `asked` ends the asking, and leaves what is drawn.
    fetched: (path, asked = signal) => {
      element.dataset.path = path;
      asking = asked;
      return fetched();
    },
  };
}
