// A new experiment: every field of the API's description, checked by the API while it is filled in.

import { description, get, post } from "../api.js";
import { h, setText } from "../dom.js";
import { draft, field, held, keeps, readable, sends, settled, tell, unanswered } from "../form.js";
import { t } from "../i18n.js";
import { path } from "../parts.js";

const FIRST = ["activation", "depth", "units", "epochs", "optimizer", "learning_rate", "seed", "name"];

export default async function newExperiment(view, { query, signal }) {
  const typed = draft("/experiments");
  const { Spec } = (await description()).components.schemas;
  const required = new Set(Spec.required);
  const fields = Object.entries(Spec.properties).map(([name, schema]) => field(name, schema, { required: required.has(name) }));
  const source = query.get("from");
  if (source) {
    const { spec } = await get(`/experiments/${encodeURIComponent(source)}`, signal);
    for (const one of fields) if (spec[one.name] !== null) one.set(spec[one.name]);
  }

  const problems = h("div");
  const plan = h("p", { class: "plan", role: "status" }, t("planFirst"));
  const shown = FIRST.filter((name) => fields.some((one) => one.name === name)).map((name) => fields.find((one) => one.name === name));
  const rest = fields.filter((one) => !shown.includes(one));
  const submit = h("button", { class: "primary" }, t("train"));
  const form = h("form", { class: "card form", novalidate: true },
    h("div", { class: "fields" }, shown.map((one) => one.element)),
    h("details", {}, h("summary", {}, t("moreFields")), h("div", { class: "fields" }, rest.map((one) => one.element))),
    problems, h("div", { class: "row between" }, plan, submit));
  view.append(h("div", {}, path("experiments"), h("h1", {}, t("newExperiment"))), form);

  function spec() {
    readable(fields);
    return held(fields);
  }

  // A sweep of one: the API checks it and counts its parameters, and queues nothing.
  async function preview(latest) {
    try {
      const base = spec();
      const ready = [...required].every((name) => base[name] !== undefined);
      const { parameters } = ready ? await post("/sweeps?dry_run=true", { base }, latest) : {};
      tell(fields, problems, null);
      setText(plan, ready ? t("planOne", { parameters }) : t("planFirst"));
    } catch (error) {
      if (!latest.aborted) wrong(error);
    }
  }

  function wrong(error, move = false) {
    plan.textContent = "";
    if (unanswered(error)) return; // counted when the service is back
    tell(fields, problems, { message: error.message, faults: error.faults?.map((one) => ({ ...one, pointer: one.pointer.replace("/base", "") })) }, { move });
  }

  keeps(form, typed, () => fields);
  sends(form, "/experiments", typed, spec, (error) => wrong(error, true), signal);
  settled(form, preview, signal);
}
