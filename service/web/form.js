// Forms made from the API's own description: its bounds, choices, defaults and words.

import { reach, submission } from "./api.js";
import { choice, h, say } from "./dom.js";
import { known, t } from "./i18n.js";
import { failure } from "./parts.js";

const plain = (schema) => schema.anyOf?.find((one) => one.type !== "null") ?? schema;

const label = (name, schema) => known(`field.${name}`, schema.title ?? name);
const hint = (name, schema) => known(`hint.${name}`, schema.description ?? "");

function bounds({ minimum, maximum, exclusiveMinimum }) {
  if (minimum !== undefined && maximum !== undefined && maximum < 1e9) return `${minimum}–${maximum}`;
  return exclusiveMinimum !== undefined ? `> ${exclusiveMinimum}` : minimum !== undefined ? `≥ ${minimum}` : "";
}

export const names = (text) => text.split(/[,、]/).map((one) => one.trim()).filter(Boolean);

// The control of one field of a spec. Its value is undefined where nothing was given.
function control(name, described, id, required) {
  const schema = plain(described);
  const shared = { id, name, required, "aria-describedby": `${id}-hint ${id}-fault` };
  if (schema.enum) {
    const options = schema.enum.map((one) => [one, one]);
    const open = described.default === undefined;
    const select = choice(open ? [["", t(required ? "choose" : "default")], ...options] : options, described.default ?? "", shared);
    return [select, () => select.value || undefined];
  }
  if (schema.type === "integer" || schema.type === "number") {
    const whole = schema.type === "integer";
    const input = h("input", {
      ...shared, type: "number", inputmode: whole ? "numeric" : "decimal", step: whole ? 1 : "any",
      min: schema.minimum ?? schema.exclusiveMinimum, max: schema.maximum, value: described.default, placeholder: described.usual,
    });
    return [input, () => (input.value === "" ? undefined : Number(input.value))];
  }
  const input = h("input", { ...shared, type: "text", maxlength: schema.type === "array" ? undefined : schema.maxLength });
  return [input, () => (schema.type === "array" ? (names(input.value).length ? names(input.value) : undefined) : input.value || undefined)];
}

// A labelled control with its hint, and a place for what is wrong with it. `pointer` is where the API would say so.
export function field(name, described, { pointer = `/${name}`, required = false, parts } = {}) {
  const id = `f${pointer.replaceAll("/", "-")}`;
  const [input, read] = parts?.(id) ?? control(name, described, id, required);
  const schema = plain(described);
  const range = bounds(schema);
  const fault = h("p", { class: "fault", id: `${id}-fault` });
  const head = h("div", { class: "row between" },
    // A group of boxes has no label element of its own.
    input.tagName === "FIELDSET" ? h("span", { class: "label", id: `${id}-label` }, label(name, described)) :
      h("label", { for: id }, label(name, described), required && h("span", { class: "faint" }, ` ${t("required")}`)));
  const element = h("div", { class: "field" }, head, input,
    h("p", { class: "hint", id: `${id}-hint` }, hint(name, described), range && h("span", { class: "range" }, ` ${range}`)),
    fault);
  return {
    name, pointer, element, head, input, read,
    set: (value) => (input.value = Array.isArray(value) ? value.join(", ") : value),
    tell: (message) => {
      fault.textContent = message;
      input.toggleAttribute("aria-invalid", message !== "");
      if (message) input.setAttribute("aria-invalid", "true");
    },
  };
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

// Sends what `read` gives when the form is submitted, and shows what was made. `wrong(error)` tells what is wrong.
export function sends(form, path, read, wrong, signal) {
  const send = submission(path);
  const submit = form.querySelector("button:not([type])");
  const unanswered = h("div"); // stays until the button is pressed or the form changed: what a check finds is told elsewhere
  submit.parentElement.before(unanswered);
  form.addEventListener("input", () => unanswered.replaceChildren());
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    unanswered.replaceChildren();
    submit.setAttribute("aria-disabled", "true"); // `disabled` would take the focus from it
    try {
      const { id } = await send(read());
      if (!signal.aborted) location.hash = `#${path}/${id}`; // who has gone on is left there
    } catch (error) {
      if (signal.aborted) return;
      if (reach.away) unanswered.replaceChildren(failure({ message: t("notSent") }));
      else wrong(error);
    } finally {
      busy = false;
      submit.removeAttribute("aria-disabled");
    }
  });
}

// Calls `act` when the form has not changed for a moment. A later change makes an answer to an earlier one void.
export function settled(form, act, signal) {
  let timer;
  let latest = new AbortController();
  const soon = () => {
    clearTimeout(timer);
    latest.abort();
    latest = new AbortController();
    timer = setTimeout(() => act(latest.signal).catch(() => undefined), 250);
  };
  form.addEventListener("input", soon);
  reach.addEventListener("change", () => reach.away || soon(), { signal });
  signal.addEventListener("abort", () => (clearTimeout(timer), latest.abort()));
  soon();
}
