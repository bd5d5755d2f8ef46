// A merchant's own checkout page: calls the gateway from the shop's origin with the payer's token, sends the payer to
// his bank, and has him back. The same from an origin that the merchant never allowed, which must get nothing.

import assert from 'node:assert/strict';

/** In the page: one call with the payer's token; `{ blocked: true }` when the browser shows the page nothing. */
async function call({ url, body }) {
  const options = body ? { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) } : {};
  try {
    const response = await fetch(url, options);
    return { status: response.status, requestId: response.headers.get('request-id'), json: await response.json() };
  } catch (error) {
    return { blocked: error instanceof TypeError };
  }
}

/** Sends what forms can send, which no browser asks leave for. */
function sendForm({ url, body }) {
  const form = document.createElement('form');
  Object.assign(form, { method: 'post', action: url, enctype: 'text/plain' });
  const field = document.createElement('input');
  field.name = `${JSON.stringify(body).slice(0, -1)},"x":"`;
  field.value = '"}';
  form.append(field);
  document.body.append(form);
  form.submit();
}

export async function ownPage(payer) {
  const { url, cancelUrl, otherUrl, email, name } = payer.options;
  const api = (hosted) => hosted.replace('/c/', '/v1/checkout/sessions/token/');
  const press = (number, attempt) => ({
    attempt_key: attempt,
    payer: { email, name },
    payment_method_data: { type: 'card', card: { number, exp_month: 12, exp_year: 2034, cvc: '123' } },
    return_url: cancelUrl,
  });
  const { page } = payer;
  await page.goto(cancelUrl);
  const shown = await page.evaluate(call, { url: api(url) });
  assert.deepEqual([shown.status, shown.json.state, shown.json.amount_total], [200, 'pending', 2598]);
  assert.match(shown.requestId, /^req_/);
  const declined = await page.evaluate(call, { url: `${api(url)}/confirm`, body: press('4000000000000002', 'press-1') });
  assert.deepEqual([declined.status, declined.json.error.code], [402, 'card_declined']);
  const asked = await page.evaluate(call, { url: `${api(url)}/confirm`, body: press('4000000000003220', 'press-2') });
  assert.deepEqual([asked.status, asked.json.next_action.type], [200, 'redirect_to_url']);
  const bank = asked.json.next_action.redirect_to_url.url;
  const bankOrigin = new URL(bank).origin;
  payer.allowedOrigins.add(bankOrigin);
  await page.goto(bank);
  await page.locator('button[value=approve]').click();
  await page.waitForURL((here) => here.href.startsWith(cancelUrl));
  const landing = page.url();
  assert.equal(new URL(landing).searchParams.get('status'), 'completed');
  const paid = await page.evaluate(call, { url: api(url) });
  assert.deepEqual([paid.json.state, paid.json.payment_status], ['completed', 'paid']);

  // The same shop under a name that is on no list.
  const foreign = new URL(cancelUrl);
  foreign.hostname = 'localhost';
  payer.allowedOrigins.add(foreign.origin);
  await page.goto(foreign.href);
  const body = press('4242424242424242', 'foreign');
  assert.deepEqual(await page.evaluate(call, { url: api(otherUrl) }), { blocked: true });
  assert.deepEqual(await page.evaluate(call, { url: `${api(otherUrl)}/confirm`, body }), { blocked: true });
  const answered = page.waitForResponse((response) => response.url().endsWith('/confirm'));
  await page.evaluate(sendForm, { url: `${api(otherUrl)}/confirm`, body });
  const formStatus = (await answered).status();
  assert.equal(formStatus, 403);
  // Refusals show in the console, and the bank's own form is answered by the bank.
  const expected = /status of 40[23]|net::ERR_FAILED|redirected to another origin: \/challenge\//;
  payer.troubles = payer.troubles.filter((trouble) => !expected.test(trouble));
  return { landing, formStatus };
}
