// A new sweep: what to vary, what all share, how many seeds; counted by the API before anything is queued.

import { description, post } from "../api.js";
import { button, choice, fill, h } from "../dom.js";
import { NUMERAL, draft, field, held, keeps, numberIn, parts, plainText, readable, sends, settled, tell, unanswered } from "../form.js";
import { known, t } from "../i18n.js";
import { path } from "../parts.js";

const FIRST = { activation: ["sigmoid", "relu"], depth: "1, 2, 3" };

export default async function newSweep(view, { signal }) {
  const typed = draft("/sweeps");
  const { Spec, SweepSpec } = (await description()).components.schemas;
  const { properties } = SweepSpec;
  const grid = properties.grid.properties;
  const base = properties.base.properties;
  const varied = new Map();

  const axes = h("div", { class: "fields wide-fields" });
  const add = h("div", { class: "field" });
  const shared = Object.keys(base).filter((name) => !["name", "tags"].includes(name)).map((name) => field(name, { ...base[name], usual: Spec.properties[name].default }, { pointer: `/base/${name}` }));
  const seeds = field("seeds", properties.seeds, { pointer: "/seeds" });
  seeds.set(5);
  const listedSeeds = h("p", { class: "faint" }, t("seedsVary"));
  const name = field("name", properties.name, { pointer: "/name" });
  const tags = field("tags", properties.tags, { pointer: "/tags" });
  const problems = h("div");
  const plan = h("div", { class: "plan", role: "status" }, t("planFirst"));
  const submit = h("button", { class: "primary" }, t("queueSweep"));
  const form = h("form", { class: "card form", novalidate: true },
    h("h2", {}, t("vary")), axes, add,
    h("h2", {}, t("repeat")), h("div", { class: "fields" }, seeds.element, listedSeeds, name.element, tags.element),
    h("details", {}, h("summary", {}, t("shared")), h("p", { class: "faint" }, t("sharedHint")), h("div", { class: "fields" }, shared.map((one) => one.element))),
    problems, h("div", { class: "row between" }, plan, submit));
  view.append(h("div", {}, path("sweeps"), h("h1", {}, t("newSweep")), h("p", { class: "faint" }, t("sweepHint"))), form);
  for (const [one, values] of Object.entries(before() ?? FIRST)) vary(one, values);

  // Choices are ticked; numbers are listed, or given as a range.
  function vary(one, values) {
    const lists = grid[one].anyOf ? grid[one].anyOf.find((kind) => kind.type === "array") : grid[one];
    const choices = lists.items.enum;
    const made = field(one, { ...grid[one], ...(choices ? {} : lists.items), anyOf: undefined, default: undefined }, {
      pointer: `/grid/${one}`,
      made: (id) => (choices ? ticks(id, choices, values) : listed(id, grid[one], values)),
    });
    made.head.append(button(t("dontVary"), () => {
      const next = made.element.nextElementSibling ?? add;
      varied.delete(one);
      made.element.remove();
      offer();
      next.querySelector("button, select").focus();
      form.dispatchEvent(new Event("input"));
    }, { class: "small quiet", "aria-label": `${t("dontVary")}: ${known(`field.${one}`, one)}` }));
    varied.set(one, made);
    axes.append(made.element);
    offer();
  }

  // What was varied here before, as it was typed.
  function before() {
    const found = Object.entries(typed.values).filter(([pointer]) => pointer.startsWith("/grid/"));
    return Object.keys(typed.values).length ? Object.fromEntries(found.map(([pointer, values]) => [pointer.slice("/grid/".length), values])) : null;
  }

  function offer() {
    const left = Object.keys(grid).filter((one) => !varied.has(one));
    const pick = choice(left.map((one) => [one, known(`field.${one}`, one)]), left[0], { id: "vary" });
    const press = button(t("add"), () => {
      const chosen = pick.value;
      vary(chosen);
      const { input } = varied.get(chosen);
      (input.querySelector("input") ?? input).focus();
      form.dispatchEvent(new Event("input"));
    });
    fill(add, left.length ? [h("label", { for: "vary" }, t("varyMore")), h("div", { class: "row pick" }, pick, press)] : "");
    for (const one of shared) one.element.hidden = varied.has(one.name);
    seeds.element.hidden = varied.has("seed");
    listedSeeds.hidden = !varied.has("seed");
  }

  const all = () => [...varied.values(), ...shared, seeds, name, tags];

  // Without the fields that are hidden because what they would set is varied.
  const seen = () => all().filter((one) => !one.element.hidden);

  function sweep() {
    readable(seen());
    const base = held(shared.filter((one) => seen().includes(one)));
    return { base, grid: held([...varied.values()]), ...held([seeds, name, tags].filter((one) => seen().includes(one))) };
  }

  async function preview(latest) {
    try {
      const { experiments, arms, seeds: repeats, parameters } = await post("/sweeps?dry_run=true", sweep(), latest);
      tell(all(), problems, null);
      fill(plan,
        h("strong", {}, t("planRuns", { n: experiments })), " ",
        t("planSweep", { networks: t("networksOf", { n: arms.length }), seeds: t("seedsOf", { n: repeats }), parameters, n: arms.length }),
        h("details", {}, h("summary", {}, t("planArms")), h("p", {}, arms.map((arm) => arm.label).join(" · "))));
    } catch (error) {
      if (!latest.aborted) wrong(error);
    }
  }

  function wrong(error, move = false) {
    plan.textContent = "";
    if (!unanswered(error)) tell(all(), problems, error, { move }); // else counted when the service is back
  }

  keeps(form, typed, all);
  sends(form, "/sweeps", typed, sweep, (error) => wrong(error, true), signal);
  settled(form, preview, signal);
}

function ticks(id, choices, values = []) {
  const boxes = choices.map((one) => h("input", { type: "checkbox", value: one, checked: values.includes(one) }));
  const set = h("fieldset", { id, class: "ticks", tabindex: -1, "aria-labelledby": `${id}-label`, "aria-describedby": `${id}-hint ${id}-fault` },
    choices.map((one, at) => h("label", { class: "tick" }, boxes[at], one)));
  const read = () => boxes.filter((box) => box.checked).map((box) => box.value);
  return { input: set, read, typed: read, put: (ticked) => boxes.forEach((box) => (box.checked = ticked.includes(box.value))) };
}

// "1, 2, 3", or "1..9", or "0.0001..0.1 x 4 log": short for what the API calls a range.
function listed(id, schema, values = "") {
  const spacing = schema.anyOf?.some((one) => one.$ref?.endsWith("Spacing"));
  const input = h("input", { id, type: "text", value: values, placeholder: spacing ? "0.0001..0.1 x 4 log" : "1, 2, 3 / 1..9", "aria-describedby": `${id}-hint ${id}-fault` });
  const read = () => {
    const text = plainText(input.value);
    const spread = new RegExp(`^(${NUMERAL})\\s*\\.\\.\\s*(${NUMERAL})\\s*[x×]\\s*(\\d+)(\\s+log)?$`, "i").exec(text);
    if (spacing && spread) return { start: Number(spread[1]), stop: Number(spread[2]), count: Number(spread[3]), scale: spread[4] ? "log" : "linear" };
    const range = /^(\d+)\s*\.\.\s*(\d+)$/.exec(text);
    if (!spacing && range) return { start: Number(range[1]), stop: Number(range[2]) };
    // What is no number goes to the API as it is, which says so.
    return parts(text).map((one) => numberIn(one) ?? one);
  };
  return { input, read };
}
