// Elements, made without markup in strings: what comes from the API can only ever become text.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return fill(element, children);
}

// Makes these an element's only children; lists are taken apart, and what is empty is left out.
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => ![null, undefined, false, ""].includes(child)));
  return element;
}

export const link = (href, ...children) => h("a", { href }, ...children);

export const button = (text, click, properties = {}) => h("button", { type: "button", click, ...properties }, text);

// Replaced only when it differs: a screen reader would read it again, and a selection in it would go.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const FOCUSED = "button, a, summary, [role=region], pre";

// Draws anew what is in an element. The focus stays: with what is the same by its kind and name, else with the heading. So does how far
// a table was scrolled.
export function redrawn(element, draw) {
  const name = (one) => `${one.localName} ${one.getAttribute("aria-label") ?? one.textContent}`;
  const all = (selector) => [...element.querySelectorAll(selector)];
  const focused = element.contains(document.activeElement) && document.activeElement.matches(FOCUSED) && name(document.activeElement);
  const scrolled = all(".scroll").map((one) => one.scrollLeft);
  draw();
  all(".scroll").forEach((one, at) => (one.scrollLeft = scrolled[at] ?? 0));
  if (focused) (all(FOCUSED).find((one) => name(one) === focused) ?? document.querySelector("h1")).focus();
}

// Heard by screen readers, seen by nobody.
export function say(text) {
  document.querySelector("#said").textContent = text;
}

export function choice(options, value, properties = {}) {
  const select = h("select", properties, options.map(([name, text]) => h("option", { value: name }, text)));
  select.value = value;
  if (select.selectedIndex < 0) select.selectedIndex = 0; // an address may ask for what there is not
  return select;
}

// Asks before what cannot be undone. Resolves to whether the answer was yes; no answer is none when the view is left.
export function confirmed(question, yes, no, signal) {
  return new Promise((resolve) => {
    const left = () => dialog.close("no");
    const close = () => {
      signal.removeEventListener("abort", left);
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    };
    const dialog = h(
      "dialog",
      { "aria-labelledby": "question", close },
      h("p", { id: "question" }, question),
      h("form", { method: "dialog", class: "row end" },
        h("button", { value: "no", autofocus: true }, no), h("button", { value: "yes", class: "danger" }, yes)),
    );
    document.body.append(dialog);
    dialog.showModal();
    signal.addEventListener("abort", left);
  });
}

export function download(name, text, type) {
  const a = h("a", { href: `data:${type};charset=utf-8,${encodeURIComponent(text)}`, download: name });
  a.click();
}
