// A new sweep: what to vary, what all share, how many seeds; counted by the API before anything is queued.

import { description, post, reach } from "../api.js";
import { button, choice, fill, h } from "../dom.js";
import { field, names, sends, settled, tell } from "../form.js";
import { known, t } from "../i18n.js";
import { path } from "../parts.js";

const FIRST = { activation: ["sigmoid", "relu"], depth: "1, 2, 3" };

export default async function newSweep(view, { signal }) {
  const { Spec, SweepSpec } = (await description()).components.schemas;
  const { properties } = SweepSpec;
  const grid = properties.grid.properties;
  const base = properties.base.properties;
  const varied = new Map();

  const axes = h("div", { class: "fields wide-fields" });
  const add = h("div", { class: "row" });
  const shared = Object.keys(base).filter((name) => !["name", "tags"].includes(name)).map((name) => field(name, { ...base[name], usual: Spec.properties[name].default }, { pointer: `/base/${name}` }));
  const seeds = field("seeds", properties.seeds, { pointer: "/seeds" });
  seeds.set(5);
  const name = field("name", properties.name, { pointer: "/name" });
  const tags = field("tags", properties.tags, { pointer: "/tags" });
  const problems = h("div");
  const plan = h("div", { class: "plan", role: "status" }, t("planFirst"));
  const submit = h("button", { class: "primary" }, t("queueSweep"));
  const form = h("form", { class: "card form", novalidate: true },
    h("h2", {}, t("vary")), axes, add,
    h("h2", {}, t("repeat")), h("div", { class: "fields" }, seeds.element, name.element, tags.element),
    h("details", {}, h("summary", {}, t("shared")), h("p", { class: "faint" }, t("sharedHint")), h("div", { class: "fields" }, shared.map((one) => one.element))),
    problems, h("div", { class: "row between" }, plan, submit));
  view.append(h("div", {}, path("sweeps"), h("h1", {}, t("newSweep")), h("p", { class: "faint" }, t("sweepHint"))), form);
  for (const [one, values] of Object.entries(FIRST)) vary(one, values);

  // Choices are ticked; numbers are listed, or given as a range.
  function vary(one, values) {
    const lists = grid[one].anyOf ? grid[one].anyOf.find((kind) => kind.type === "array") : grid[one];
    const choices = lists.items.enum;
    const made = field(one, { ...grid[one], ...(choices ? {} : lists.items), anyOf: undefined, default: undefined }, {
      pointer: `/grid/${one}`,
      parts: (id) => (choices ? ticks(id, choices, values) : listed(id, grid[one], values)),
    });
    made.head.append(button(t("dontVary"), () => {
      varied.delete(one);
      made.element.remove();
      offer();
      form.dispatchEvent(new Event("input"));
    }, { class: "small quiet", "aria-label": `${t("dontVary")}: ${known(`field.${one}`, one)}` }));
    varied.set(one, made);
    axes.append(made.element);
    offer();
  }

  function offer() {
    const left = Object.keys(grid).filter((one) => !varied.has(one));
    const pick = choice([["", t("varyMore")], ...left.map((one) => [one, known(`field.${one}`, one)])], "", {
      "aria-label": t("varyMore"),
      change: () => {
        const chosen = pick.value;
        vary(chosen);
        const { input } = varied.get(chosen);
        (input.querySelector("input") ?? input).focus();
        form.dispatchEvent(new Event("input"));
      },
    });
    add.replaceChildren(left.length ? pick : "");
    for (const one of shared) one.element.hidden = varied.has(one.name);
  }

  const all = () => [...varied.values(), ...shared, seeds, name, tags];

  function sweep() {
    const read = (ones) => Object.fromEntries(ones.map((one) => [one.name, one.read()]).filter(([, value]) => value !== undefined));
    const body = { base: read(shared.filter((one) => !varied.has(one.name))), grid: read([...varied.values()]), ...read([name, tags]) };
    if (!varied.has("seed")) Object.assign(body, read([seeds]));
    return body;
  }

  async function preview(latest) {
    try {
      const { experiments, arms, seeds: repeats, parameters } = await post("/sweeps?dry_run=true", sweep(), latest);
      tell(all(), problems, null);
      fill(plan,
        h("strong", {}, t("planRuns", { n: experiments })), " ", t("planSweep", { arms: arms.length, repeats, parameters }),
        h("details", {}, h("summary", {}, t("planArms")), h("p", {}, arms.map((arm) => arm.label).join(" · "))));
    } catch (error) {
      if (latest.aborted) return;
      plan.textContent = "";
      if (reach.away) return; // counted when the service is back
      tell(all(), problems, error);
    }
  }

  sends(form, "/sweeps", sweep, (error) => tell(all(), problems, error, { move: true }), signal);
  settled(form, preview, signal);
}

function ticks(id, choices, values = []) {
  const boxes = choices.map((one) => h("input", { type: "checkbox", value: one, checked: values.includes(one) }));
  const set = h("fieldset", { id, class: "ticks", tabindex: -1, "aria-labelledby": `${id}-label`, "aria-describedby": `${id}-hint ${id}-fault` },
    choices.map((one, at) => h("label", { class: "tick" }, boxes[at], one)));
  return [set, () => boxes.filter((box) => box.checked).map((box) => box.value)];
}

// "1, 2, 3", or "1..9", or "0.0001..0.1 x 4 log": short for what the API calls a range.
function listed(id, schema, values = "") {
  const spacing = schema.anyOf?.some((one) => one.$ref?.endsWith("Spacing"));
  const input = h("input", { id, type: "text", value: values, placeholder: spacing ? "0.0001..0.1 x 4 log" : "1, 2, 3 / 1..9", "aria-describedby": `${id}-hint ${id}-fault` });
  const number = "(-?[\\d.]+(?:e-?\\d+)?)";
  const read = () => {
    const text = input.value.trim();
    const spread = new RegExp(`^${number}\\s*\\.\\.\\s*${number}\\s*x\\s*(\\d+)(\\s+log)?$`, "i").exec(text);
    if (spacing && spread) return { start: Number(spread[1]), stop: Number(spread[2]), count: Number(spread[3]), scale: spread[4] ? "log" : "linear" };
    const range = /^(\d+)\s*\.\.\s*(\d+)$/.exec(text);
    if (!spacing && range) return { start: Number(range[1]), stop: Number(range[2]) };
    // What is no number goes to the API as it is, which says so.
    return names(text).map((one) => (Number.isNaN(Number(one)) ? one : Number(one)));
  };
  return [input, read];
}
