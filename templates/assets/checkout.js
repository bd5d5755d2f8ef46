// Makes the payer's pages more comfortable. Every page works without it; nothing here decides about money.
(() => {
  "use strict";

  const SECOND_MS = 1000;
  // A connection that died leaves the page standing. A second press is the same try, so offering it again is safe.
  const PRESS_AGAIN_AFTER_MS = 20 * SECOND_MS;

  const forms = [...document.querySelectorAll("form[data-once]")];
  const isSent = (form) => form.dataset.sent === "yes";

  function setSent(form, sent) {
    const button = form.querySelector("button[type=submit]");
    form.dataset.sent = sent ? "yes" : "no";
    button.disabled = sent;
    form.querySelector("[data-busy]").textContent = sent ? button.dataset.busyLabel : "";
  }

  for (const form of forms) {
    form.addEventListener("submit", (event) => {
      if (isSent(form)) {
        event.preventDefault();
        return;
      }
      form.dataset.sent = "yes";
      // Once the browser has collected the values.
      setTimeout(() => setSent(form, true), 0);
      setTimeout(() => setSent(form, false), PRESS_AGAIN_AFTER_MS);
    });
  }

  // No card number may be there when the payer comes back with the Back button.
  addEventListener("pagehide", () => forms.forEach((form) => form.reset()));
  addEventListener("pageshow", (event) => event.persisted && forms.forEach((form) => setSent(form, false)));

  // The autofocus attribute does this already where the browser knows it for any element.
  if (!("autofocus" in HTMLElement.prototype)) document.getElementById("trouble")?.focus();

  // The links of the error summary put the caret into the field.
  for (const link of document.querySelectorAll("#trouble a")) {
    link.addEventListener("click", (event) => {
      const field = document.getElementById(link.hash.slice(1));
      if (field) {
        event.preventDefault();
        field.focus();
      }
    });
  }

  // Rewrites what was typed and leaves the caret behind the same digit.
  function rewrite(input, written) {
    const caret = input.selectionStart ?? input.value.length;
    const digitsBefore = input.value.slice(0, caret).replace(/\D/g, "").length;
    const atEnd = caret === input.value.length;
    if (input.value === written) return;
    input.value = written;
    if (document.activeElement !== input) return;
    let place = 0;
    for (let seen = 0; seen < digitsBefore && place < written.length; place += 1) {
      if (/\d/.test(written[place])) seen += 1;
    }
    if (atEnd) place = written.length;
    input.setSelectionRange(place, place);
  }

  function groupsOf(digits) {
    // American Express and Diners Club print 4, 6 and the rest; everybody else prints fours.
    const printed = /^3(?:[47]|0[0-5]|[689])/.test(digits) ? /^(\d{4})(\d{0,6})(\d*)$/ : null;
    const match = printed?.exec(digits);
    const groups = match ? match.slice(1).filter(Boolean) : digits.match(/\d{1,4}/g);
    return (groups ?? []).join(" ");
  }

  const number = document.querySelector("[data-card-number]");
  number?.addEventListener("input", (event) => {
    // Other digits than 0 to 9 are left as typed; the server reads them.
    if (event.isComposing || /[^0-9 -]/.test(number.value)) return;
    rewrite(number, groupsOf(number.value.replace(/\D/g, "").slice(0, 19)));
  });

  const expiry = document.querySelector("[data-card-expiry]");
  expiry?.addEventListener("input", (event) => {
    if (event.isComposing || event.inputType?.startsWith("delete")) return;
    const typed = /^\s*(\d{1,2})([\s/.-]*)(\d{0,4})\s*$/.exec(expiry.value);
    if (!typed) return;
    const [, first, mark, year] = typed;
    const month = first.length === 1 && (mark || first > "1") ? `0${first}` : first;
    if (month.length === 2) rewrite(expiry, `${month} / ${year}`);
  });

  // Counts from the seconds that the server gave, so the payer's clock may be wrong.
  const clock = document.getElementById("time-left");
  if (clock) {
    const endsAt = Date.now() + Number(clock.dataset.secondsLeft) * SECOND_MS;
    const count = (many, one) => `${many} ${one}${many === 1 ? "" : "s"}`;
    let timer;
    const tick = () => {
      clearTimeout(timer);
      const left = Math.max(0, Math.ceil((endsAt - Date.now()) / SECOND_MS));
      const hours = Math.floor(left / 3600);
      const minutes = Math.floor(left / 60) % 60;
      const words = [];
      if (hours) words.push(count(hours, "hour"));
      if (minutes) words.push(count(minutes, "minute"));
      clock.textContent = left < 60 ? count(left, "second") : words.join(" ");
      if (left === 0) {
        // The server's page says what an expired payment means; a try under way says it by itself.
        if (!forms.some(isSent)) setTimeout(() => location.reload(), 2 * SECOND_MS);
        return;
      }
      timer = setTimeout(tick, (left > 60 ? left % 60 || 60 : 1) * SECOND_MS);
    };
    // Timers rest while a phone sleeps.
    document.addEventListener("visibilitychange", () => document.hidden || tick());
    tick();
  }
})();
