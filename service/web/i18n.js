// Words in the reader's language. A dictionary has the keys of `i18n/en.js`; a test sees to it.

import en from "./i18n/en.js";
import ja from "./i18n/ja.js";
import { remember, remembered } from "./memory.js";

const WORDS = { en, ja };

export const LANGUAGES = Object.keys(WORDS);
export let language = LANGUAGES.find((one) => one === remembered("language")) ?? (navigator.language.startsWith("ja") ? "ja" : "en");

export function speak(wanted) {
  language = wanted;
  remember("language", wanted);
}

// A name that runs from right to left, or changes the direction, does so to itself and not to the sentence it stands in.
const TURNS = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufefc]/;
const apart = (text) => (TURNS.test(text) ? `\u2068${text}\u2069` : text);

// `t("runs", {n: 3})`: the word, with what stands in braces filled in. Where it depends on a number, `n` decides.
export function t(key, values = {}) {
  let text = WORDS[language][key];
  if (text === undefined) return key;
  if (typeof text === "object") text = text[new Intl.PluralRules(language).select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? number(values[name]) : apart(values[name])));
}

// The word if there is one, else what the API says: a field that is new there is shown in English.
export const known = (key, fallback) => WORDS[language][key] ?? fallback;

export const number = (value) => new Intl.NumberFormat(language).format(value);

export const share = (value) => (value === null || value === undefined ? "–" : value.toFixed(4));

// What has no bounds, such as a loss or a gradient: it may vanish, or explode, and still be read.
export const size = (value) =>
  value && (Math.abs(value) < 0.001 || Math.abs(value) >= 100_000) ? value.toExponential(2) : share(value);

export function ago(time) {
  const seconds = (new Date(time) - Date.now()) / 1000;
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60]];
  const [unit, size] = steps.find(([, length]) => Math.abs(seconds) >= length) ?? ["second", 1];
  return new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" }).format(Math.round(seconds / size), unit);
}

export const moment = (time) =>
  new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" }).format(new Date(time));

export const duration = (seconds) =>
  new Intl.NumberFormat(language, { style: "unit", unit: "second", maximumFractionDigits: 1 }).format(seconds);

export const bytes = (count) =>
  new Intl.NumberFormat(language, { style: "unit", unit: "kilobyte", maximumFractionDigits: 0 }).format(count / 1000);
