// 3-D Secure as a payer meets it: from the form to the simulated bank's own pages and back, or not.
//
// The argument has beside the usual "bankOrigin", "card" (one that the bank asks about), "goodCard" and "sessions":
// {"approve", "fail", "cancel", "stay", "leave", "elsewhere"}, each {"url", "id"}.

import assert from 'node:assert/strict';
import { album, assertReadable, isAt, squeeze } from './payer.mjs';

/** Fills the form with the card that the bank asks about, and is at the bank. */
async function goToTheBank(payer, session) {
  const { page } = payer;
  payer.options.sessionId = session.id;
  payer.tokens.add(new URL(session.url).pathname.split('/').pop());
  await payer.open(page, session.url);
  await payer.fill();
  await payer.submit().click({ noWaitAfter: true });
  await page.waitForURL((url) => url.origin === payer.options.bankOrigin, { waitUntil: 'load' });
  await assertReadable(page);
  const said = squeeze(await page.locator('body').innerText());
  assert.ok(said.includes(payer.options.amountText), `the bank does not say the amount; it says: ${said}`);
}

function answer(payer, word) {
  return payer.page.locator(`button[value=${word}]`).click({ noWaitAfter: true });
}

/** The bank said no: the form again, which says so, and another card pays. */
async function isRefusedAndPays(payer, session, word) {
  await goToTheBank(payer, session);
  await answer(payer, word);
  await payer.page.waitForURL((url) => isAt(url, session.url), { waitUntil: 'load' });
  await assertReadable(payer.page);
  const alert = squeeze(await payer.page.getByRole('alert').first().innerText());
  assert.match(alert, /not charged/i, `after "${word}" the page says whether money was taken`);
  await payer.picture(`after-${word}`);
  await payer.fill({ card: payer.options.goodCard });
  return payer.payAndArrive();
}

export async function authenticate(payer) {
  const { sessions, bankOrigin, successUrl } = payer.options;
  const { page } = payer;
  payer.goesTo(bankOrigin);

  await goToTheBank(payer, sessions.approve);
  await payer.picture('bank');
  await answer(payer, 'approve');
  const approved = await payer.arrive(successUrl, 'completed');
  assert.ok(approved.automatic, 'after the bank the browser goes back to the shop by itself');
  // Back leads to the bank or to us, and never to a form that would be paid a second time.
  await page.goBack({ waitUntil: 'commit' });
  await payer.open(page, sessions.approve.url);
  await payer.assertNoCard(page, 'when the paid link is opened again');

  await isRefusedAndPays(payer, sessions.fail, 'fail');
  await isRefusedAndPays(payer, sessions.cancel, 'cancel');

  // Approved, and the window is closed before it came back.
  await goToTheBank(payer, sessions.stay);
  await answer(payer, 'approve_and_stay');
  await page.locator('a[href*="/3ds/"]').first().waitFor();
  await page.goto('about:blank');

  // Nothing is answered. The link shows the way to the bank once more, without going there by itself.
  await goToTheBank(payer, sessions.leave);
  await payer.open(page, sessions.leave.url);
  const onward = page.locator(`a[href^="${bankOrigin}/"]`);
  await onward.waitFor();
  assert.equal(await page.locator('meta[http-equiv="refresh" i]').count(), 0, 'only a click leads on');
  assert.match(squeeze(await page.locator('main').innerText()), /No money was taken yet/);
  await album(payer, 'waits-for-bank');
  // Who says that he has confirmed it, and has not, is asked to.
  await page.locator('a[href$="/done"]').click();
  await page.waitForLoadState('load');
  await assertReadable(page);
  await payer.picture('has-not-confirmed');
  const waiting = squeeze(await page.locator('main').innerText());
  await payer.assertNoCard(page, 'while the bank waits for an answer');

  // Approved here; the way back is opened in another browser, which has no cookie of ours.
  await goToTheBank(payer, sessions.elsewhere);
  await answer(payer, 'approve_and_stay');
  const back = await page.locator('a[href*="/3ds/"]').first().getAttribute('href');
  const other = await payer.another({ sessionId: sessions.elsewhere.id });
  await other.page.goto(back);
  await other.arrive(successUrl, 'completed');
  await payer.open(page, sessions.elsewhere.url);
  await payer.assertNoCard(page, 'in the browser that paid');
  assert.match(squeeze(await page.locator('h1').innerText()), /Payment complete/);
  return { waiting };
}
