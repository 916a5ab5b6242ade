// Draw a digit, or give a picture of one: what models read in it, side by side.

import { Problem, get, query as querystring, reach, send } from "../api.js";
import { button, choice, fill, h, setText } from "../dom.js";
import { language, share, t } from "../i18n.js";
import { merged } from "../live.js";
import { empty, end, failure, maker, title } from "../parts.js";
import { session } from "../session.js";

const SIZE = 280; // px of the paper: ten to a pixel of MNIST
const PEN = 22;
const INK = "#16181d";
const PAPER = "#fff";
const MOST = 4;
const STEP = 14; // px the pen moves at a press of a key
const SIDE = 28;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FORMATS = ["png", "jpeg", "webp", "bmp", "gif", "tiff"].map((one) => `image/${one}`).join(); // that the API reads
const MOST_BYTES = 10 * 2 ** 20; // and pixels: more of them it refuses, unless it was told otherwise
const MOST_PIXELS = 40_000_000;
const SHRUNK = 1280; // px of the longer side: a PNG of any such picture is small enough
const QUIET_MS = 700; // without a new answer, until the last one is spoken
const ID = /^[0-9a-f-]{36}$/i;

// What is on the paper: a drawing, or the picture that was given. It outlives the view, which is opened anew in another
// language and after signing in. Another object stands for another thing to read: an answer about the last one is late.
let subject = {};
addEventListener("left", () => (subject = {})); // whoever signs in next may be another

export default async function draw(view, { query, signal }) {
  let known = await candidates(signal);
  const asked = [...new Set((query.get("model") ?? "").split(",").filter(Boolean))];
  let chosen = [];
  const lost = [];
  for (const value of asked) {
    if (chosen.length < MOST) ((await isKnown(value)) ? chosen : lost).push(value);
  }
  if (!chosen.length) chosen = known.slice(0, 1).map((one) => one.value);

  const paper = h("canvas", { width: SIZE, height: SIZE, class: "paper", tabindex: 0, role: "img", "aria-label": t("paper"), "aria-describedby": "draw-keys" });
  const ink = paper.getContext("2d", { willReadFrequently: true });
  const desk = h("div", { class: "desk" }, paper, h("span", { class: "pen" }));
  const problems = h("div");
  const notes = h("p", { class: "notes", role: "status" });
  const answers = h("div", { class: "answers" });
  const models = h("div", { class: "models" });
  const spoken = h("p", { class: "unseen", role: "status" });
  const file = h("input", { type: "file", accept: FORMATS, class: "unseen", id: "picture", cancel: () => file.focus(), change: () => {
    if (file.files[0]) take(file.files[0]);
    file.value = ""; // the same file may be chosen again
    file.focus(); // the label, which was clicked, cannot have it
  } });
  const sheet = h("div", { class: "sheet card" }, desk,
    h("div", { class: "row" }, button(t("wipe"), wipe), h("label", { class: "button", for: "picture" }, t("choosePicture")), file),
    h("p", { class: "hint", id: "draw-keys" }, t("drawHint")), problems);
  view.append(h("h1", {}, t("draw")), h("p", { class: "faint" }, t("drawIntro")),
    h("div", { class: "draw" }, sheet, h("div", {}, notes, models, answers, spoken)));

  // --- the paper

  function paint() {
    ink.fillStyle = PAPER;
    ink.fillRect(0, 0, SIZE, SIZE);
    Object.assign(ink, { imageSmoothingQuality: "high", lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: INK, fillStyle: INK });
  }

  function begin(next) {
    subject = next;
    answered.clear();
    failed = false;
    tell("");
    paint();
    show();
  }

  function wipe() {
    begin({ paper });
  }

  function stroke(from, to) {
    if (subject.given) wipe();
    ink.beginPath();
    if (from === to) ink.arc(...to, PEN / 2, 0, 2 * Math.PI); // a line of no length leaves no ink
    else {
      ink.moveTo(...from);
      ink.lineTo(...to);
    }
    if (from === to) ink.fill();
    else ink.stroke();
    subject.inked = true;
    again();
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
  for (const type of ["pointerup", "pointercancel"]) paper.addEventListener(type, (event) => pens.delete(event.pointerId));

  // Arrows move the pen; it draws with Shift.
  let pen;
  function move(to) {
    pen = to;
    ["--x", "--y"].forEach((name, axis) => desk.style.setProperty(name, `${(100 * pen[axis]) / SIZE}%`));
  }
  paper.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return; // these are the browser's
    if (event.key === "Delete" || event.key === "Backspace") wipe();
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const next = ARROWS[event.key].map((step, axis) => Math.min(SIZE - PEN, Math.max(PEN, pen[axis] + step * STEP)));
    if (event.shiftKey) stroke(pen, next);
    move(next);
  });

  // --- a picture

  async function take(given) {
    const mine = { given };
    begin(mine);
    const image = await createImageBitmap(given).catch(() => null); // the API says what is wrong with it
    if (image && subject === mine) place(image);
    const large = given.size > MOST_BYTES || image?.width * image?.height > MOST_PIXELS;
    mine.body = (image && large && (await shrunk(image))) || given;
    image?.close();
    if (subject === mine) predict();
  }

  function place(image) {
    const [width, height] = sized(image, SIZE);
    ink.drawImage(image, (SIZE - width) / 2, (SIZE - height) / 2, width, height);
  }

  function offer(data) {
    const given = [...data.files].find((one) => one.type.startsWith("image/"));
    if (given) take(given);
    else tell(t("noPicture"));
  }

  // Beside the sheet, too: the browser would leave the page for a file that is dropped there.
  addEventListener("dragover", (event) => (event.preventDefault(), sheet.classList.add("over")), { signal });
  addEventListener("dragleave", (event) => event.relatedTarget ?? sheet.classList.remove("over"), { signal });
  addEventListener("drop", (event) => {
    event.preventDefault();
    sheet.classList.remove("over");
    offer(event.dataTransfer);
  }, { signal });
  addEventListener("paste", (event) => offer(event.clipboardData), { signal });

  // --- the models

  // Whether there is such a model: then it is one to choose.
  async function isKnown(value) {
    if (known.some((one) => one.value === value)) return true;
    try {
      known.push(session.may("read") ? candidate(await get(`/experiments/${encodeURIComponent(value)}`, signal)) : nameless(value));
      return true;
    } catch (error) {
      if (!isGone(error)) throw error;
      return false;
    }
  }

  const found = (value) => known.find((one) => one.value === value) ?? nameless(value);
  const note = (...lines) => setText(notes, lines.filter(Boolean).join(" "));
  const gone = (values) => values.length && t("gone", { names: values.map((one) => found(one).name).join(", ") });

  // No two alike: an experiment may have the name of another, or that of an alias.
  function label({ value, name, accuracy }) {
    const alike = ID.test(value) && known.some((one) => one.name === name && one.value !== value);
    const told = alike ? `${name} ${end(value)}` : name;
    return accuracy === undefined ? told : `${told} (${share(accuracy)})`;
  }

  function showModels(focused) {
    const options = known.map((one) => [one.value, label(one)]);
    models.replaceChildren(
      h("div", { class: "row" },
        chosen.map((value, at) => h("span", { class: "row pick" },
          choice(options, value, { "aria-label": t("modelOf", { n: at + 1 }), change: (event) => pick(at, event.target.value) }),
          chosen.length > 1 ? button("×", () => pick(at, null), { class: "small quiet", "aria-label": t("removeModel", { n: at + 1 }) }) : "")),
        chosen.length < MOST && options.length > 1 ? button(t("addModel"), () => pick(chosen.length, options.find(([one]) => !chosen.includes(one))?.[0] ?? options[0][0]), { class: "small" }) : ""));
    models.querySelectorAll("select")[Math.min(focused, chosen.length - 1)]?.focus();
  }

  function pick(at, value) {
    if (value === null) chosen.splice(at, 1);
    else chosen[at] = value;
    note();
    choose(at);
  }

  function choose(focused) {
    history.replaceState(null, "", `#/draw?model=${chosen.join(",")}`);
    showModels(focused);
    failed = false;
    show();
    predict();
  }

  function drop(values) {
    note(gone(values));
    known = known.filter((one) => !values.includes(one.value));
    chosen = chosen.filter((one) => !values.includes(one));
    if (!known.length) none();
    else {
      if (!chosen.length) chosen = [known[0].value];
      choose(models.contains(document.activeElement) ? 0 : undefined);
    }
  }

  function none() {
    view.replaceChildren(view.querySelector("h1"), notes, empty(t("noModels"), maker("#/experiments/new", t("newExperiment"), "button primary")));
  }

  // --- the answers

  const answered = new Map(); // by model
  const columns = [];
  let failed = false;

  function tell(message) {
    if (problems.textContent !== message) fill(problems, message && failure({ message }));
  }

  async function ask(values, body) {
    const headers = { "Content-Type": "application/octet-stream" }; // the API sees what it is, a browser may not know
    const path = `/predict${querystring({ model: values.join(","), explain: true })}`;
    const answer = await (await send(path, { method: "POST", body, headers, signal })).json();
    return answer.answers ?? [{ ...answer, model: values[0] }];
  }

  const predict = merged(async () => {
    const [about, values] = [subject, [...chosen]];
    const body = about.inked ? await png(paper) : about.body;
    if (!body || !values.length) return;
    try {
      const given = await ask(values, body);
      if (about !== subject) return;
      for (const { model, predictions } of given) answered.set(model, predictions[0]);
      tell("");
    } catch (error) {
      const dead = isGone(error) ? await missing(values, body) : [];
      if (signal.aborted) return;
      if (dead.length) return drop(dead);
      if (about !== subject) return;
      answered.clear(); // it was read in something else
      failed = true;
      tell(error instanceof Problem ? error.message : t("away"));
    }
    show();
  });

  // The answer to several does not say which of them is gone.
  async function missing(values, body) {
    const fate = await Promise.all(values.map((one) => ask([one], body).then(() => false, isGone)));
    return values.filter((_, at) => fate[at]);
  }

  function again() {
    if (failed || !answered.size) {
      failed = false;
      show();
    }
    predict();
  }

  function show() {
    const before = columns.length;
    while (columns.length > chosen.length) columns.pop();
    while (columns.length < chosen.length) columns.push(column());
    if (columns.length !== before) answers.replaceChildren(...columns.map((one) => one.element));
    const otherwise = failed ? "–" : t(subject.inked || subject.given ? "reading" : "nothingDrawn");
    columns.forEach((one, at) => one.show(label(found(chosen[at])), answered.get(chosen[at]), otherwise));
    const words = chosen.map((one) => answered.get(one)).filter(Boolean).map((one) => t("reads", { label: one.label, share: percent(one.confidence) }));
    speak(words.join(" "));
  }

  let words = "";
  let timer;
  function speak(next) {
    if (next === words) return;
    words = next;
    clearTimeout(timer);
    timer = setTimeout(() => setText(spoken, words), QUIET_MS);
  }

  note(gone(lost), asked.length > MOST && t("shownOf", { n: chosen.length, total: asked.length }));
  if (!known.length) {
    none();
    return;
  }
  reach.addEventListener("change", () => reach.away || again(), { signal });
  move([SIZE / 2, SIZE / 4]);
  showModels();
  paint();
  if (subject.given) take(subject.given);
  else {
    if (subject.inked) ink.drawImage(subject.paper, 0, 0);
    subject.paper = paper;
    show();
    predict();
  }
}

const isGone = (error) => error.status === 404 || error.status === 410;

const png = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

// An image's width and height when its longer side is so long.
const sized = ({ width, height }, side) => [width, height].map((one) => Math.max(1, Math.round((side * one) / Math.max(width, height))));

// The same in fewer pixels. They are upright, as it is drawn; what shines through it still does in a PNG.
function shrunk(image) {
  const [width, height] = sized(image, Math.min(SHRUNK, Math.max(image.width, image.height)));
  const canvas = h("canvas", { width, height });
  const to = canvas.getContext("2d");
  to.imageSmoothingQuality = "high";
  to.drawImage(image, 0, 0, width, height);
  return png(canvas);
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

  function show(of, prediction, otherwise) {
    setText(name, of);
    element.classList.toggle("idle", !prediction);
    setText(digit, prediction?.label ?? "?");
    setText(sure, prediction ? percent(prediction.confidence) : otherwise);
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
  if (!session.may("read")) return [nameless("best")]; // no list is for them
  const aliases = (await get("/models", signal)).data;
  const { data } = await get(`/experiments${querystring({ status: "succeeded", sort: "-test_accuracy", limit: 200 })}`, signal);
  const best = new Map();
  for (const one of data) {
    const kind = [one.spec.activation, one.spec.depth, one.spec.dataset].join();
    if (!best.has(kind)) best.set(kind, one);
  }
  return [...aliases.map((one) => ({ value: one.alias, name: one.alias, accuracy: one.test_accuracy })), ...[...best.values()].map(candidate)];
}

const candidate = (one) => ({ value: one.id, name: title(one.spec), accuracy: one.result?.test_accuracy });

// By an alias, or the end of an id.
const nameless = (value) => ({ value, name: ID.test(value) ? end(value) : value });
