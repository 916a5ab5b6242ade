// Forms made from the API's own description: its bounds, choices, defaults and words.

import { reach, submission } from "./api.js";
import { choice, h, say } from "./dom.js";
import { known, t } from "./i18n.js";
import { failure } from "./parts.js";

// What was typed at a form's address and not sent yet, and what sends it. The same view is drawn anew in another
// language, after signing in, and when the service is back.
const drafts = new Map();

export function draft(path) {
  const address = location.hash;
  if (!drafts.has(address)) drafts.set(address, { values: {}, send: submission(path), sent: () => drafts.delete(address) });
  return drafts.get(address);
}

// Who comes with values in the address comes for these, each time. Heard before the view is drawn.
addEventListener("hashchange", () => {
  for (const address of drafts.keys()) if (address.includes("?")) drafts.delete(address);
}, { capture: true });

addEventListener("left", () => drafts.clear()); // whoever signs in next may be another

// Gives the fields what was typed in them before, and remembers what is typed in them now.
export function keeps(form, { values }, fields) {
  for (const one of fields()) if (one.pointer in values) one.put(values[one.pointer]);
  form.addEventListener("input", () => {
    for (const pointer of Object.keys(values)) delete values[pointer];
    for (const one of fields()) values[one.pointer] = one.typed();
  });
}

const plain = (schema) => schema.anyOf?.find((one) => one.type !== "null") ?? schema;

const label = (name, schema) => known(`field.${name}`, schema.title ?? name);
const hint = (name, schema) => known(`hint.${name}`, schema.description ?? "");

// With a sign that no line is broken at and nobody takes for a dash, and without zeros to be counted.
const bound = (value) => (value >= 1e6 && value % 1e6 === 0 ? value.toExponential().replace("+", "") : String(value).replace("-", "\u2212"));

function bounds({ minimum, maximum, exclusiveMinimum }) {
  const [least, most, above] = [minimum, maximum, exclusiveMinimum].map((one) => (one === undefined ? "" : bound(one)));
  if (least && most) return t("range", { least, most });
  if (above && most) return t("above", { above, most });
  return [above && `> ${above}`, least && `≥ ${least}`, most && `≤ ${most}`].filter(Boolean).join(", ");
}

// The API's words have code in backticks.
const coded = (text) => text.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));

const FULL_WIDTH = /[\uff01-\uff5e\u3000]/g;

// Japanese keyboards write wide digits and signs. No more than these is made plain: 10⁴ is not 104.
export const plainText = (text) =>
  text.replace(FULL_WIDTH, (one) => one.normalize("NFKC")).replace(/\u2212/g, "-").replace(/[\u2025\u2026]/g, "..").trim();

export const NUMERAL = "[-+]?(?:\\d+\\.?\\d*|\\.\\d+)(?:e[-+]?\\d+)?";
const numeral = new RegExp(`^${NUMERAL}$`, "i");

// Decimal numbers only: JavaScript would read 0x10 as well.
export const numberIn = (text) => (numeral.test(text) && Number.isFinite(Number(text)) ? Number(text) : undefined);

export const parts = (text) => text.split(/[,、]/).map((one) => one.trim()).filter(Boolean);

const QUOTED = /^\s*"((?:[^"]|"")*)"\s*$/;
const ITEM = /\s*"(?:[^"]|"")*"\s*(?=[,，、]|$)|[^,，、]+/g;

// Tags may have commas: such a one stands in quotes, and its own quotes are doubled.
function tagsIn(text) {
  const found = (text.match(ITEM) ?? []).map((one) => QUOTED.exec(one)?.[1].replaceAll('""', '"') ?? one.trim()).filter(Boolean);
  return found.length ? found : undefined;
}
const tagged = (tags) => tags.map((tag) => (/^\s|\s$|^"|[,，、]/.test(tag) ? `"${tag.replaceAll('"', '""')}"` : tag)).join(", ");

// Whole numbers are counted up and down by arrow keys.
function counts(input, { minimum, maximum }) {
  input.addEventListener("keydown", (event) => {
    const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const now = input.value === "" ? 0 : numberIn(plainText(input.value));
    if (!step || now === undefined || event.isComposing) return;
    event.preventDefault();
    input.value = Math.min(maximum ?? Infinity, Math.max(minimum ?? -Infinity, now + step));
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
}

// A field of text, because browsers hide from the page what somebody typed in a field of numbers and is none.
function numberControl(described, schema, shared) {
  const whole = schema.type === "integer";
  const least = schema.minimum ?? schema.exclusiveMinimum;
  const input = h("input", {
    ...shared, type: "text", autocomplete: "off", spellcheck: "false", inputmode: least < 0 ? undefined : whole ? "numeric" : "decimal",
    value: described.default, placeholder: described.usual,
    ...(whole ? { role: "spinbutton", "aria-valuemin": least, "aria-valuemax": schema.maximum } : {}),
  });
  if (whole) counts(input, schema);
  const text = () => plainText(input.value);
  return { input, read: () => numberIn(text()), wrong: () => (text() === "" || numberIn(text()) !== undefined ? "" : t("noNumber")) };
}

// The control of one field of a spec. What it reads is undefined where nothing was given.
function control(name, described, id, required) {
  const schema = plain(described);
  const shared = { id, name, required, "aria-describedby": `${id}-hint ${id}-fault` };
  if (schema.enum) {
    const options = schema.enum.map((one) => [one, one]);
    const open = described.default === undefined;
    const select = choice(open ? [["", t(required ? "choose" : "default")], ...options] : options, described.default ?? "", shared);
    return { input: select, read: () => select.value || undefined };
  }
  if (schema.type === "integer" || schema.type === "number") return numberControl(described, schema, shared);
  if (schema.type === "array") {
    const input = h("input", { ...shared, type: "text" });
    return { input, read: () => tagsIn(input.value), set: (tags) => (input.value = tagged(tags)), how: t("commas") };
  }
  const input = h("input", { ...shared, type: "text", maxlength: schema.maxLength });
  return { input, read: () => input.value || undefined };
}

// A labelled control with its hint, and a place for what is wrong with it. `pointer` is where the API would say so.
// `typed` is what stands in it, and `put` brings that back; `set` shows a value of the API.
export function field(name, described, { pointer = `/${name}`, required = false, made } = {}) {
  const id = `f${pointer.replaceAll("/", "-")}`;
  const own = made?.(id) ?? control(name, described, id, required);
  const { input } = own;
  const range = bounds(plain(described));
  const fault = h("p", { class: "fault", id: `${id}-fault` });
  const head = h("div", { class: "row between" },
    // A group of boxes has no label element of its own.
    input.tagName === "FIELDSET" ? h("span", { class: "label", id: `${id}-label` }, label(name, described)) :
      h("label", { for: id }, label(name, described), required && h("span", { class: "faint" }, ` ${t("required")}`)));
  const element = h("div", { class: "field" }, head, input,
    h("p", { class: "hint", id: `${id}-hint` }, coded(hint(name, described)), own.how, range && h("span", { class: "range" }, ` ${range}`)),
    fault);
  const put = (value) => (input.value = value);
  return {
    name, pointer, element, head, wrong: () => "", typed: () => input.value, put, set: put, ...own,
    tell: (message) => {
      fault.textContent = message;
      input.toggleAttribute("aria-invalid", message !== "");
      if (message) input.setAttribute("aria-invalid", "true");
    },
  };
}

// What the fields hold, by name. `readable` stops at what they cannot read, told as the API tells its faults.
export const held = (fields) => Object.fromEntries(fields.map((one) => [one.name, one.read()]).filter(([, value]) => value !== undefined));

export function readable(fields) {
  const faults = fields.map((one) => ({ pointer: one.pointer, message: one.wrong() })).filter(({ message }) => message);
  if (faults.length) throw Object.assign(new Error(faults[0].message), { faults });
}

// Shows each of a problem's faults beside the field whose pointer it has, else above all of them.
export function tell(fields, place, error, { move = false } = {}) {
  for (const one of fields) one.tell("");
  place.replaceChildren();
  if (!error) return;
  const rest = [];
  let first;
  for (const { pointer, message } of error.faults ?? []) {
    const found = fields.filter((one) => pointer === one.pointer || pointer.startsWith(`${one.pointer}/`))
      .sort((a, b) => b.pointer.length - a.pointer.length)[0];
    if (found) found.tell(message);
    else rest.push(pointer ? `${pointer.slice(1)}: ${message}` : message);
    first ??= found;
  }
  if (!error.faults?.length) rest.push(error.message);
  place.replaceChildren(...rest.map((message) => failure({ message })));
  if (!move) return;
  const folded = first?.element.closest("details");
  if (folded) folded.open = true;
  first?.input.focus();
  say(error.message);
}

// Whether it is the service that does not answer: what the page finds by itself is told also then.
export const unanswered = (error) => reach.away && !error.faults?.length;

// Sends what `read` gives when the form is submitted, and shows what was made. `wrong(error)` tells what is wrong.
export function sends(form, path, { send, sent }, read, wrong, signal) {
  const submit = form.querySelector("button:not([type])");
  const lost = h("div"); // stays until the button is pressed or the form changed: what a check finds is told elsewhere
  submit.parentElement.before(lost);
  form.addEventListener("input", () => lost.replaceChildren());
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    lost.replaceChildren();
    submit.setAttribute("aria-disabled", "true"); // `disabled` would take the focus from it
    try {
      const { id } = await send(read());
      sent();
      if (!signal.aborted) location.hash = `#${path}/${id}`; // who has gone on is left there
    } catch (error) {
      if (signal.aborted) return;
      if (unanswered(error)) lost.replaceChildren(failure({ message: t("notSent") }));
      else wrong(error);
    } finally {
      busy = false;
      submit.removeAttribute("aria-disabled");
    }
  });
}

// Calls `act` when the form has not changed for a moment. A later change makes an answer to an earlier one void; so does
// sending the form, which is answered by itself.
export function settled(form, act, signal) {
  let timer;
  let latest = new AbortController();
  const stop = () => (clearTimeout(timer), latest.abort());
  const soon = () => {
    stop();
    latest = new AbortController();
    timer = setTimeout(() => act(latest.signal).catch(() => undefined), 250);
  };
  form.addEventListener("input", soon);
  form.addEventListener("submit", stop);
  reach.addEventListener("change", () => reach.away || soon(), { signal });
  signal.addEventListener("abort", stop);
  soon();
}
