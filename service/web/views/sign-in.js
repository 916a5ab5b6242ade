// Where the service asks for an API key: it is given once, and kept where no script can read it.

import { h, say } from "../dom.js";
import { t } from "../i18n.js";
import { reach } from "../api.js";
import { session } from "../session.js";

export default async function signIn(view, { signal, entered }) {
  const input = h("input", {
    id: "key", name: "key", type: "password", required: true, autocomplete: "current-password", spellcheck: "false",
    "aria-describedby": "key-hint key-fault",
  });
  const fault = h("p", { class: "fault", id: "key-fault" });
  const submit = h("button", { class: "primary" }, t("signIn"));
  const form = h("form", { class: "card form", novalidate: true },
    h("div", { class: "field" }, h("label", { for: "key" }, t("apiKey")), input, h("p", { class: "hint", id: "key-hint" }, t("apiKeyHint")), fault),
    h("div", { class: "row" }, submit));
  view.append(h("h1", {}, t("signIn")), h("p", {}, t("signInWhy")), form);

  const wrong = (message) => {
    fault.textContent = message;
    input.setAttribute("aria-invalid", "true");
    input.focus();
    say(message);
  };

  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    if (!input.value.trim()) return wrong(t("keyMissing"));
    busy = true;
    submit.setAttribute("aria-disabled", "true"); // `disabled` would take the focus from it
    try {
      await session.enter(input.value.trim());
      if (!signal.aborted) entered();
    } catch (error) {
      if (!signal.aborted) wrong(reach.away ? t("away") : error.status === 401 ? t("keyWrong", { why: error.message }) : error.message);
    } finally {
      busy = false;
      submit.removeAttribute("aria-disabled");
    }
  });
}
