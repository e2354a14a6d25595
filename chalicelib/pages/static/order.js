// The buyer's order page: shows the order the token opens and keeps it fresh. Only a click ever changes anything.
"use strict";

const LOOK = {
  pending_payment: ["wait", "wait"], paid: ["work", "work"], delivering: ["work", "work"], partially_delivered: ["work", "work"],
  delivered: ["ok", "ok"], cancelled: ["off", "off"], expired: ["off", "off"], refunding: ["work", "back"],
  refunded: ["ok", "back"], partially_refunded: ["ok", "back"], needs_review: ["wait", "look"],
};
const LINE_TONE = { reserved: "wait", allocating: "work", awaiting_manual: "work", scheduled: "work", delivered: "ok", disputed: "wait", refunding: "work", refunded: "off", released: "off" };
const MOVING = new Set(["pending_payment", "paid", "delivering", "partially_delivered", "refunding", "needs_review", "expired"]);
const FIRST_WAIT_MS = 2000, LONGEST_WAIT_MS = 20000;

let order = null, shownText = "", waitMs = FIRST_WAIT_MS, timer = 0, keysShown = false;

async function refresh() {
  clearTimeout(timer);
  try {
    const fresh = await ask("");
    byId("banner").hidden = true;
    const text = JSON.stringify(fresh);
    waitMs = text === shownText ? Math.min(waitMs * 1.4, LONGEST_WAIT_MS) : FIRST_WAIT_MS;
    if (text !== shownText) show(fresh);
    shownText = text;
  } catch (error) {
    complain(error);
    if (error instanceof Refused && error.status === 404) return;
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
  }
  if (!order || MOVING.has(order.status)) timer = setTimeout(refresh, waitMs);
}

function complain(error) {
  byId("banner").textContent = excuse(error);
  byId("banner").hidden = false;
}

function show(fresh) {
  order = fresh;
  const [tone, icon] = LOOK[order.status] ?? ["off", "look"];
  byId("state").dataset.tone = tone;
  byId("state-icon").setAttribute("href", `#i-${icon}`);
  setText("state-title", say(order.status));
  setText("state-text", say(`${order.status}_text`));
  document.title = `${say(order.status)} · ${order.merchant_order_no}`;
  showPay();
  byId("lines").replaceChildren(...order.lines.map(lineRow));
  byId("total").textContent = money(order.total_minor, order.currency);
  showKeysPart();
  showRefundPart();
  showDetails();
  for (const part of ["lines-part", "details-part"]) byId(part).hidden = false;
}

// Only a changed text is written, so that a screen reader hears each state once.
function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function showPay() {
  const isPayable = mayGoAndPay();
  byId("pay").hidden = order.status !== "pending_payment";
  byId("pay-link").hidden = !isPayable;
  if (isPayable) {
    const address = new URL(order.payment.pay_url);
    // Our own sandbox learns the way back; the part after # is never sent to anybody.
    if (order.payment.provider === "sandbox") address.hash = `o=${page.dataset.token}`;
    byId("pay-link").href = address.href;
    byId("pay-link").textContent = say("pay", { amount: money(order.total_minor, order.currency) });
  }
  const amount = money(order.total_minor, order.currency);
  byId("qr-part").hidden = !order.payment.qr_url;
  if (order.payment.qr_url) {
    byId("qr").src = `${page.dataset.token}/qr.svg?p=${order.payment.payment_id}`;
    setText("qr-text", say("scan_to_pay", { amount }));
  }
  byId("pay-in-app").hidden = !order.payment.client;
  setText("pay-in-app", say("pay_in_app", { amount }));
  tick();
}

// A code to scan is on this very page: there is nowhere to go.
function mayGoAndPay() {
  return order.status === "pending_payment" && isWebAddress(order.payment.pay_url) && !order.payment.qr_url;
}

function tick() {
  if (order?.status !== "pending_payment") return;
  const seconds = Math.ceil((Date.parse(order.expires_at) - Date.now() - clockOffsetMs) / 1000);
  byId("pay-link").hidden = seconds <= 0 || !mayGoAndPay();
  if (seconds <= 0) byId("qr-part").hidden = true;
  setText("clock-label", seconds > 0 ? say("time_left") : say("time_over"));
  setText("clock", seconds > 0 ? clockFace(seconds) : "");
}

function clockFace(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes >= 60) return say("hours_left", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
  return `${minutes}:${String(seconds % 60).padStart(2, "0")}`;
}

function lineRow(line) {
  const words = line.status === "delivered" && line.is_revealed ? say("line_revealed")
    : line.status === "scheduled" && !line.deliver_at ? say("line_allocating")
    : say(`line_${line.status}`, { when: line.deliver_at ? when(line.deliver_at) : "" });
  const chip = make("span", { className: "chip", text: words });
  chip.dataset.tone = LINE_TONE[line.status] ?? "off";
  return make("li", {},
    make("span", { className: "name", text: line.name }),
    make("span", { className: "price", text: money(line.unit_price_minor * line.quantity, order.currency) }),
    chip,
    make("span", { className: "count", text: `${line.quantity} × ${money(line.unit_price_minor, order.currency)}` }));
}

function showKeysPart() {
  byId("keys-part").hidden = !order.may_reveal && !keysShown;
  byId("sealed").hidden = keysShown || !order.may_reveal;
  const isAgain = wereAllShown();
  setText("sealed-text", say(order.lines.some((line) => line.is_revealed) ? "sealed_again" : "sealed"));
  if (!byId("reveal").disabled) setText("reveal", say(isAgain ? "reveal_again" : "reveal"));
}

// Looking again changes nothing, so it needs no second confirmation.
function wereAllShown() {
  return order.lines.filter((line) => line.status === "delivered").every((line) => line.is_revealed);
}

function showRefundPart() {
  byId("refund-part").hidden = !order.may_refund && order.refunds.length === 0;
  byId("refund-ask").hidden = !order.may_refund;
  setText("refund-text", say("may_refund"));
  if (!byId("refund").disabled) setText("refund", say("ask_refund"));
  byId("refunds").replaceChildren(...order.refunds.map((refund) => make("li", {},
    make("span", { text: say(`refund_${refund.status}`) }),
    make("b", { text: money(refund.amount_minor, refund.currency ?? order.currency) }))));
}

function showDetails() {
  const rows = [["order_no", order.merchant_order_no], ["order_id", order.order_id], ["created", when(order.created_at)]];
  if (order.payment.paid_at) rows.push(["paid_on", when(order.payment.paid_at)]);
  byId("details").replaceChildren(...rows.flatMap(([name, text]) => [make("dt", { text: say(name) }), make("dd", { text })]));
}

// Resolves to whether the reader said yes. Escape and the first button mean no.
function confirmed(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}

for (const button of document.querySelectorAll("dialog button")) {
  button.addEventListener("click", () => button.closest("dialog").close(button.value));
}

async function whileBusy(button, words, act) {
  button.disabled = true;
  button.textContent = words;
  try {
    await act();
    byId("banner").hidden = true;
  } catch (error) {
    complain(error);
  } finally {
    button.disabled = false;
    shownText = ""; // show anew, whatever came of it
    await refresh();
  }
}

byId("reveal").addEventListener("click", async () => {
  if (!wereAllShown() && !(await confirmed(byId("reveal-dialog")))) return;
  await whileBusy(byId("reveal"), say("revealing"), async () => showKeys((await ask("/reveal", {})).keys));
});

byId("refund").addEventListener("click", async () => {
  if (!(await confirmed(byId("refund-dialog")))) return;
  await whileBusy(byId("refund"), say("refund_asking"), () => ask("/refunds", {}));
});

function showKeys(keys) {
  keysShown = true;
  byId("keys").replaceChildren(...keys.map(keyRow));
  const everything = () => keys.map((key) => Object.values(key.fields).join("\t")).join("\n");
  byId("keys-tools").replaceChildren(
    toolButton("copy_all", (button) => copy(everything(), button)),
    toolButton("save_file", () => saveFile(everything())),
    toolButton("hide", hideKeys));
  byId("keys-status").textContent = say("revealed", { count: keys.length });
  byId("keys-part").hidden = false;
  byId("sealed").hidden = true;
  byId("keys").focus();
}

function hideKeys() {
  keysShown = false;
  for (const id of ["keys", "keys-tools", "keys-status"]) byId(id).replaceChildren();
  showKeysPart();
  byId("reveal").focus();
}

function keyRow(key, index) {
  return make("li", {}, ...Object.entries(key.fields).map(([name, value]) => {
    const button = toolButton("copy", () => copy(value, button));
    button.setAttribute("aria-label", say("copy_field", { field: name, number: index + 1 }));
    return make("div", { className: "field" },
      make("div", {}, make("span", { className: "label", text: name }), make("code", { text: value })), button);
  }));
}

function toolButton(name, act) {
  const button = make("button", { type: "button", className: "button tiny", text: say(name) });
  button.addEventListener("click", () => act(button));
  return button;
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = say("copied");
    byId("keys-status").textContent = say("copied");
  } catch {
    byId("keys-status").textContent = say("copy_failed");
  }
  setTimeout(() => { button.textContent = before; }, 1800);
}

function saveFile(text) {
  const address = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/plain" }));
  make("a", { href: address, download: `${order.merchant_order_no.replace(/[^\w.-]/g, "_")}.txt` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else refresh();
});
window.addEventListener("pageshow", (event) => { if (event.persisted) refresh(); });
setInterval(tick, 1000);
refresh();
