// Draw a digit, or give a picture of one: what models read in it, side by side.

import { Problem, get, query as querystring, reach, send } from "../api.js";
import { button, choice, h, setText } from "../dom.js";
import { language, share, t } from "../i18n.js";
import { merged } from "../live.js";
import { empty, failure, maker, title } from "../parts.js";
import { session } from "../session.js";

const SIZE = 280; // px of the paper: ten to a pixel of MNIST
const PEN = 22;
const INK = "#16181d";
const PAPER = "#fff";
const MOST = 4;
const STEP = 14; // px the pen moves at a press of a key
const SIDE = 28;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export default async function draw(view, { query, signal }) {
  const known = await candidates(signal);
  if (!known.length) {
    view.append(h("h1", {}, t("draw")), empty(t("noModels"), maker("#/experiments/new", t("newExperiment"), "button primary")));
    return;
  }
  const asked = (query.get("model") ?? "").split(",").filter(Boolean).slice(0, MOST);
  const chosen = asked.length ? asked : [known[0].value];
  for (const one of chosen.filter((value) => !known.some((other) => other.value === value))) {
    const experiment = await get(`/experiments/${encodeURIComponent(one)}`, signal);
    known.push(candidate(experiment));
  }
  let picture = null; // what was given instead of a drawing

  const paper = h("canvas", { width: SIZE, height: SIZE, class: "paper", tabindex: 0, role: "img", "aria-label": t("paper"), "aria-describedby": "draw-keys" });
  const ink = paper.getContext("2d", { willReadFrequently: true });
  const problems = h("div", { role: "alert" });
  const answers = h("div", { class: "answers" });
  const models = h("div", { class: "models" });
  const spoken = h("p", { class: "unseen", role: "status" });
  const file = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp", class: "unseen", id: "picture", change: () => {
    if (file.files[0]) take(file.files[0]);
    file.value = ""; // the same file may be chosen again
  } });
  const sheet = h("div", { class: "sheet card" }, paper,
    h("div", { class: "row" }, button(t("wipe"), wipe), h("label", { class: "button", for: "picture" }, t("choosePicture")), file),
    h("p", { class: "hint", id: "draw-keys" }, t("drawHint")), problems);
  view.append(h("h1", {}, t("draw")), h("p", { class: "faint" }, t("drawIntro")),
    h("div", { class: "draw" }, sheet, h("div", {}, models, answers, spoken)));

  const predict = merged(async () => {
    const body = picture ?? (blank() ? null : await new Promise((resolve) => paper.toBlob(resolve, "image/png")));
    if (!body) {
      show(null);
      return;
    }
    try {
      const path = `/predict${querystring({ model: chosen.join(","), explain: true })}`;
      const answer = await (await send(path, { method: "POST", body, headers: { "Content-Type": body.type }, signal })).json();
      problems.replaceChildren();
      if (body === picture || !blank()) show(answer.answers ?? [{ ...answer, model: chosen[0] }]);
    } catch (error) {
      if (signal.aborted) return;
      show(null); // what stands there was read in something else
      problems.replaceChildren(failure(error instanceof Problem ? error : new Error(t("away"))));
    }
  });

  // --- the paper

  let inked = false;
  const blank = () => !inked;

  function paint() {
    ink.fillStyle = PAPER;
    ink.fillRect(0, 0, SIZE, SIZE);
    Object.assign(ink, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: INK, fillStyle: INK });
  }

  function wipe() {
    paint();
    inked = false;
    picture = null;
    problems.replaceChildren();
    predict();
  }

  function stroke(from, to) {
    if (picture) wipe();
    ink.beginPath();
    if (from === to) ink.arc(...to, PEN / 2, 0, 2 * Math.PI); // a line of no length leaves no ink
    else {
      ink.moveTo(...from);
      ink.lineTo(...to);
    }
    if (from === to) ink.fill();
    else ink.stroke();
    inked = true;
    predict();
  }

  const where = (event) => {
    const box = paper.getBoundingClientRect();
    return [((event.clientX - box.left) * SIZE) / box.width, ((event.clientY - box.top) * SIZE) / box.height];
  };
  const pens = new Map(); // by pointer: two fingers draw two lines
  paper.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    paper.setPointerCapture(event.pointerId);
    const at = where(event);
    pens.set(event.pointerId, at);
    stroke(at, at);
  });
  paper.addEventListener("pointermove", (event) => {
    if (!pens.has(event.pointerId)) return;
    const points = event.getCoalescedEvents?.() ?? [];
    for (const one of points.length ? points : [event]) {
      const at = where(one);
      stroke(pens.get(event.pointerId), at);
      pens.set(event.pointerId, at);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) paper.addEventListener(end, (event) => pens.delete(event.pointerId));

  // Arrows move the pen; it draws with Shift.
  let pen = [SIZE / 2, SIZE / 4];
  paper.addEventListener("keydown", (event) => {
    if (event.key === "Delete" || event.key === "Backspace") wipe();
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const next = ARROWS[event.key].map((step, axis) => Math.min(SIZE - PEN, Math.max(PEN, pen[axis] + step * STEP)));
    if (event.shiftKey) stroke(pen, next);
    pen = next;
    paper.style.setProperty("--x", `${(100 * pen[0]) / SIZE}%`);
    paper.style.setProperty("--y", `${(100 * pen[1]) / SIZE}%`);
  });

  // --- a picture

  async function take(given) {
    picture = given;
    paint();
    inked = false;
    predict();
    const image = await createImageBitmap(given).catch(() => null);
    if (!image) return; // the API says what is wrong with it
    const scale = Math.min(SIZE / image.width, SIZE / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    ink.drawImage(image, (SIZE - width) / 2, (SIZE - height) / 2, width, height);
  }

  const pictureIn = (data) => [...data.files].find((one) => one.type.startsWith("image/"));
  sheet.addEventListener("dragover", (event) => (event.preventDefault(), sheet.classList.add("over")));
  sheet.addEventListener("dragleave", () => sheet.classList.remove("over"));
  sheet.addEventListener("drop", (event) => {
    event.preventDefault();
    sheet.classList.remove("over");
    const dropped = pictureIn(event.dataTransfer);
    if (dropped) take(dropped);
    else problems.replaceChildren(failure({ message: t("noPicture") }));
  });
  addEventListener("paste", (event) => {
    const pasted = pictureIn(event.clipboardData);
    if (pasted) take(pasted);
    else problems.replaceChildren(failure({ message: t("noPicture") }));
  }, { signal });

  // --- the models

  function showModels() {
    const options = known.map((one) => [one.value, one.text]);
    models.replaceChildren(
      h("div", { class: "row" },
        chosen.map((value, at) => h("span", { class: "row pick" },
          choice(options, value, { "aria-label": t("modelOf", { n: at + 1 }), change: (event) => pick(at, event.target.value) }),
          chosen.length > 1 ? button("×", () => pick(at, null), { class: "small quiet", "aria-label": t("removeModel", { n: at + 1 }) }) : "")),
        chosen.length < MOST && options.length > 1 ? button(t("addModel"), () => pick(chosen.length, options.find(([one]) => !chosen.includes(one))?.[0] ?? options[0][0]), { class: "small" }) : ""));
  }

  function pick(at, value) {
    if (value === null) chosen.splice(at, 1);
    else chosen[at] = value;
    history.replaceState(null, "", `#/draw?model=${chosen.join(",")}`);
    showModels();
    show(null);
    predict();
    models.querySelectorAll("select")[Math.min(at, chosen.length - 1)].focus();
  }

  // --- the answers

  const columns = [];

  function show(given) {
    while (columns.length > chosen.length) columns.pop();
    while (columns.length < chosen.length) columns.push(column());
    answers.replaceChildren(...columns.map((one) => one.element));
    columns.forEach((one, at) => {
      const name = known.find(({ value }) => value === chosen[at]).text;
      one.show(name, given?.[at]?.predictions[0]);
    });
    const words = given?.map((one) => t("reads", { label: one.predictions[0].label, share: percent(one.predictions[0].confidence) })) ?? [];
    setText(spoken, words.join(" "));
  }

  reach.addEventListener("change", () => reach.away || predict(), { signal });
  paint();
  showModels();
  show(null);
}

const percent = (value) => new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(value);

// What one model answers: the digit, a bar for each, and the pixels that it saw.
function column() {
  const name = h("h2");
  const digit = h("p", { class: "digit" });
  const sure = h("p", { class: "faint" });
  const bars = Array.from({ length: 10 }, (_, at) => {
    const value = h("span", { class: "faint value" });
    const fill = h("span", { class: "fill" });
    const row = h("li", {}, h("span", {}, String(at)), h("span", { class: "track" }, fill), value);
    return { value, fill, row };
  });
  const seen = h("canvas", { width: SIDE, height: SIDE, class: "seen", role: "img", "aria-label": t("saw") });
  const saw = h("figure", { class: "saw", hidden: true }, seen, h("figcaption", { class: "hint" }, t("saw")));
  const element = h("section", { class: "card answer" }, name, h("div", { class: "row between" }, h("div", {}, digit, sure), saw),
    h("ol", { class: "bars", start: 0, "aria-label": t("probabilities") }, bars.map((one) => one.row)));

  function show(of, prediction) {
    setText(name, of);
    element.classList.toggle("idle", !prediction);
    setText(digit, prediction?.label ?? "?");
    setText(sure, prediction ? percent(prediction.confidence) : t("nothingDrawn"));
    bars.forEach(({ value, fill, row }, at) => {
      const probability = prediction?.probabilities[at] ?? 0;
      fill.style.setProperty("width", `${100 * probability}%`);
      setText(value, prediction ? percent(probability) : "");
      row.classList.toggle("best", prediction?.digit === at);
    });
    const pixels = prediction?.explanation?.pixels ?? prediction?.pixels;
    saw.hidden = !pixels;
    if (pixels) paintPixels(pixels.flat());
  }

  function paintPixels(values) {
    const image = new ImageData(SIDE, SIDE);
    values.forEach((value, at) => image.data.set([value, value, value, 255], 4 * at));
    seen.getContext("2d").putImageData(image, 0, 0);
  }

  return { element, show };
}

// Models to choose from: every alias, and of each kind of network the best that has been trained.
async function candidates(signal) {
  if (!session.may("read")) return [{ value: "best", text: "best" }]; // no list is for them
  const aliases = (await get("/models", signal)).data;
  const { data } = await get(`/experiments${querystring({ status: "succeeded", sort: "-test_accuracy", limit: 200 })}`, signal);
  const best = new Map();
  for (const one of data) {
    const kind = [one.spec.activation, one.spec.depth, one.spec.dataset].join();
    if (!best.has(kind)) best.set(kind, one);
  }
  return [
    ...aliases.map((one) => ({ value: one.alias, text: `${one.alias} (${share(one.test_accuracy)})` })),
    ...[...best.values()].map(candidate),
  ];
}

const candidate = (one) => ({ value: one.id, text: `${title(one.spec)} (${share(one.result?.test_accuracy)})` });
