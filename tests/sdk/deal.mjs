// An escrow's two sides, each with a browser: sign, pay, receive, release, dispute, with codes out of their mails. The
// merchant's backend is played here as well, by his API.
//
// The argument has beside the usual "api": {"base", "key"}, "codeUrl" (gives the newest code of `?to=`), "returnUrl"
// (the shop's page), "buyer" and "seller" (addresses); for `lookAtDeals` "pages": {name: URL}, "cookies": [{name, value}].

import assert from 'node:assert/strict';
import { album, assertNoSmallFields, assertReadable, squeeze } from './payer.mjs';

const PICTURE = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
  'base64',
);

async function call({ api }, path, fields) {
  const headers = { Authorization: `Bearer ${api.key}` };
  const options = fields ? { method: 'POST', headers, body: new URLSearchParams(fields) } : { headers };
  const response = await fetch(`${api.base}${path}`, options);
  const object = await response.json();
  assert.equal(response.status, 200, `${path}: ${JSON.stringify(object)}`);
  return object;
}

/** Presses a button and waits for the page that comes of it. */
async function press(page, button) {
  const navigated = page.waitForEvent('framenavigated', { predicate: (frame) => frame === page.mainFrame() });
  await button.click({ noWaitAfter: true });
  await navigated;
  await page.waitForLoadState('load');
}

/** A new link for an act, opened by its user, who types the code from his mail. */
async function openLink(user, escrow, action) {
  const { options, page } = user;
  const fields = { action, target_user_email: options.email, redirect_url: options.returnUrl };
  const session = await call(options, `/v1/escrows/${escrow.id}/sessions`, fields);
  options.sessionId = session.id;
  user.tokens.add(new URL(session.url).pathname.split('/').pop());
  await user.open(page, session.url);
  const before = squeeze(await page.locator('body').innerText());
  assert.ok(!before.includes(escrow.title), `nothing of the deal is shown before the code: ${before}`);
  await press(page, page.locator('form[action$="/identity/send"] [type=submit]'));
  await assertReadable(page);
  const code = await (await fetch(`${options.codeUrl}?to=${encodeURIComponent(options.email)}`)).text();
  await page.locator('[autocomplete="one-time-code"]').fill(code);
  await press(page, page.locator('form[action$="/identity/confirm"] [type=submit]'));
  await assertReadable(page);
  await assertNoSmallFields(page);
  const shown = squeeze(await page.locator('body').innerText());
  assert.ok(shown.includes(escrow.title), `the page says what it is about: ${shown}`);
  await user.picture(action);
}

/** Does the act of the open page and is back in the shop. */
async function act(user) {
  await press(user.page, user.page.locator('#act-form [type=submit]'));
  return user.arrive(user.options.returnUrl, 'completed');
}

async function sign(user, escrow, name, { mistakes = false } = {}) {
  const { page } = user;
  await openLink(user, escrow, 'sign_contract');
  assert.match(squeeze(await page.locator('.contract').innerText()), /It floats\./);
  if (mistakes) {
    await page.locator('#act-form').evaluate((form) => {
      form.noValidate = true;
    });
    await press(page, page.locator('#act-form [type=submit]'));
    assert.equal(await page.getByRole('alert').first().locator('a').count(), 2, 'each thing that is missing has a link');
    await album(user, 'nothing-filled-in');
  }
  await page.getByLabel('Your full name').fill(name);
  await page.locator('[name=consent]').check();
  return act(user);
}

async function payFor(buyer, escrow) {
  await openLink(buyer, escrow, 'accept_pay');
  await buyer.fill();
  return buyer.payAndArrive();
}

export async function deal(payer) {
  const { options } = payer;
  const buyer = await payer.another({ email: options.buyer });
  const seller = await payer.another({ email: options.seller });
  const common = { title: 'A canoe', amount: '25000', currency: 'eur', buyer_email: options.buyer };
  const between = { ...common, seller_email: options.seller, estimated_delivery_days: '3' };

  const terms = { mode: 'standard', contract_terms: 'The canoe is sold as seen.\nIt floats.' };
  const escrow = await call(options, '/v1/escrows', { ...between, ...terms });
  await sign(seller, escrow, 'Sam Seller', { mistakes: options.javaScript });
  await sign(buyer, escrow, 'Bea Buyer');
  await payFor(buyer, escrow);
  await call(options, `/v1/escrows/${escrow.id}/deliver`, { tracking_reference: 'TRACK-7' });
  await openLink(buyer, escrow, 'complete');
  assert.match(squeeze(await buyer.page.locator('main').innerText()), /TRACK-7/);
  await act(buyer);
  const done = await call(options, `/v1/escrows/${escrow.id}`);
  assert.deepEqual([done.status, done.settlement.seller], ['completed', 25000]);

  const other = await call(options, '/v1/escrows', { ...between, title: 'A paddle', mode: 'quick' });
  await payFor(buyer, other);
  await openLink(buyer, other, 'dispute');
  await buyer.page.getByLabel('What is wrong').selectOption('not_received');
  await buyer.page.getByLabel('What happened').fill('Nothing came. See the picture of my empty doorstep.');
  const file = { name: 'my empty doorstep.png', mimeType: 'image/png', buffer: PICTURE };
  await buyer.page.getByLabel('Files').setInputFiles(file);
  await act(buyer);
  const files = await call(options, `/v1/escrows/${other.id}/attachments`);
  assert.deepEqual(
    files.data.map(({ content_type: type, size, file_name: name }) => [type, size, name]),
    [['image/png', PICTURE.length, 'my_empty_doorstep.png']],
  );
  // Disputed, the deal cannot be given up any more; a link to do so was not to be had.
  const disputed = await call(options, `/v1/escrows/${other.id}`);
  assert.equal(disputed.status, 'disputed');
  return { escrow: escrow.id, disputed: other.id };
}

/** Each page of deals at the widths of phones and a desk, light and dark. The browser is bound to all of the links. */
export async function lookAtDeals(payer) {
  const { pages, cookies, url, bankOrigin } = payer.options;
  payer.goesTo(bankOrigin);
  await payer.context.addCookies(cookies.map((cookie) => ({ ...cookie, url: new URL(url).origin })));
  const looks = [];
  for (const [name, address] of Object.entries(pages)) {
    await payer.open(payer.page, address);
    await assertNoSmallFields(payer.page);
    await album(payer, name);
    looks.push([name, squeeze(await payer.page.locator('h1').innerText())]);
  }
  return { looks };
}
