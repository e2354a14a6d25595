// What both pages need: words, text into the page, talk to the API. Values only ever become text, never markup.
"use strict";

const page = document.getElementById("page");
const { language, words, minor_digits: minorDigits } = JSON.parse(document.getElementById("for-script").textContent);
const byId = (id) => document.getElementById(id);
let clockOffsetMs = 0; // server's clock minus ours, so that a wrong clock on the phone does not shorten the countdown

function say(name, values = {}) {
  return words[name].replace(/\{(\w+)\}/g, (_, key) => String(values[key]));
}

// make("li", {className: "x", text: "y"}, child, …): an element whose text is text.
function make(tag, { text, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

function money(minor, currency) {
  const digits = minorDigits[currency] ?? 2;
  const amount = minor / 10 ** digits;
  try {
    return new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en", {
      style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: digits,
    }).format(amount);
  } catch {
    return `${amount.toFixed(digits)} ${currency}`;
  }
}

function when(iso) {
  return new Intl.DateTimeFormat(language === "zh" ? "zh-CN" : "en", { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

function isWebAddress(text) {
  return /^https?:\/\//i.test(text ?? "");
}

class Refused extends Error {
  constructor(status, error) {
    super(error?.code ?? `status ${status}`);
    Object.assign(this, { status, code: error?.code, requestId: error?.request_id, retry: error?.retry });
  }
}

// The answer's JSON, or a Refused; a network failure throws TypeError as fetch does.
async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const answer = await fetch(page.dataset.api + path, { cache: "no-store", credentials: "omit", redirect: "error", ...options });
  const servedAt = Date.parse(answer.headers.get("Date") ?? "");
  if (!Number.isNaN(servedAt)) clockOffsetMs = servedAt - Date.now();
  const content = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, content?.error);
  return content;
}

// A refusal in the reader's words.
function excuse(error) {
  if (!(error instanceof Refused)) return say("offline");
  if (error.status === 404) return say("not_found_text");
  const sentence = say(error.retry === "never" ? "refused" : "refused_busy");
  return error.requestId ? `${sentence} ${say("support", { request_id: error.requestId })}` : sentence;
}
