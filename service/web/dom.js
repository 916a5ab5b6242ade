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

// Draws anew what is in an element. The focus stays: with the same button, else with the heading.
export function redrawn(element, draw) {
  const name = (one) => one.getAttribute("aria-label") ?? one.textContent;
  const focused = element.contains(document.activeElement) && document.activeElement.matches("button, a") && name(document.activeElement);
  draw();
  if (focused) ([...element.querySelectorAll("button, a")].find((one) => name(one) === focused) ?? element.querySelector("h1")).focus();
}

// Heard by screen readers, seen by nobody.
export function say(text) {
  document.querySelector("#said").textContent = text;
}

export function choice(options, value, properties = {}) {
  const select = h("select", properties, options.map(([name, text]) => h("option", { value: name }, text)));
  select.value = value;
  return select;
}

// Asks before what cannot be undone. Resolves to whether the answer was yes.
export function confirmed(question, yes, no) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "question", close: () => (resolve(dialog.returnValue === "yes"), dialog.remove()) },
      h("p", { id: "question" }, question),
      h("form", { method: "dialog", class: "row end" },
        h("button", { value: "no", autofocus: true }, no), h("button", { value: "yes", class: "danger" }, yes)),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function download(name, text, type) {
  const a = h("a", { href: `data:${type};charset=utf-8,${encodeURIComponent(text)}`, download: name });
  a.click();
}
