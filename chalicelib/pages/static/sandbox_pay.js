// The sandbox's pay page: five ways a payment can go, each one call.
"use strict";

const TONE = { paid: "ok", paid_twice: "ok", failed: "bad", paid_late: "wait", wrong_amount: "wait" };
const buttons = [...document.querySelectorAll("[data-outcome]")];
const token = new URLSearchParams(location.hash.slice(1)).get("o");

if (token && /^[0-9a-z]+$/.test(token)) {
  byId("order-link").href = page.dataset.orders + token;
  byId("order-link").hidden = false;
  byId("order-link").classList.toggle("main", !byId("return"));
}
// The language switch keeps the way back, too.
for (const link of document.querySelectorAll(".switch a")) link.hash = location.hash;

for (const button of buttons) {
  button.addEventListener("click", async () => {
    for (const one of buttons) one.disabled = true;
    report("work", say("playing"));
    try {
      const played = await ask("", { outcome: button.dataset.outcome });
      report(TONE[button.dataset.outcome], say(`played_${button.dataset.outcome}`, { when: when(played.notice_at) }));
      byId("onward").hidden = !byId("return") && byId("order-link").hidden;
    } catch (error) {
      report("bad", excuse(error));
    } finally {
      for (const one of buttons) one.disabled = false;
    }
  });
}

function report(tone, text) {
  byId("result").dataset.tone = tone;
  byId("result").textContent = text;
}
