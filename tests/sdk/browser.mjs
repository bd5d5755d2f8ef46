// A payer in Chromium: opens the hosted page, does what a person does and asserts what a person sees.
//
//   node browser.mjs <story> '<json>'      stories: see STORIES at the end of this file
//
// The argument: {"url": hosted URL, "successUrl", "cancelUrl", "returnUrl": the shop's pages, "javaScript": true,
// "sessionId", "amountText" ("€39.98"), "texts": [what the page must say], "card", "declineCard", "email", "name",
// "screenshots": folder, "width", "height", "colorScheme", "locale", "pages": {name: URL} for `look`}; what else the
// stories of bank.mjs, deal.mjs and own_page.mjs take stands there. The shop is served by whoever runs this. The last
// line is {"ok": true, …facts}; a failure goes to standard error with the path of a picture, and exits 1.

import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { authenticate } from './bank.mjs';
import { deal, lookAtDeals } from './deal.mjs';
import { ownPage } from './own_page.mjs';
import { AUTOFILL, Payer, album, assertNoSmallFields, assertReadable, isAt, plain, squeeze, untilParsed } from './payer.mjs';

const WHOLE_STORY_TIMEOUT_MS = 120_000; // Far above any story, so that a hung browser cannot hang the test run.

async function pay(payer) {
  const button = await payer.openForm();
  await payer.picture('form');
  await payer.fill();
  await payer.picture('filled');
  const arrival = await payer.payAndArrive();
  assert.equal(payer.payPosts, 1);
  return { button, ...arrival };
}

async function payByKeyboard(payer) {
  await payer.openForm();
  const { email, card, expiry, cvc, name } = payer.options;
  const values = { [AUTOFILL.email]: email, [AUTOFILL.number]: card, [AUTOFILL.expiry]: expiry, [AUTOFILL.cvc]: cvc, [AUTOFILL.name]: name };
  const stops = [];
  const STOPS_MAX = 40; // More Tab stops than this would be a burden of its own.
  for (let stop = 0; stop < STOPS_MAX; stop += 1) {
    await payer.page.keyboard.press('Tab');
    const here = await payer.page.locator('body').evaluate(() => {
      const active = document.activeElement;
      const outline = getComputedStyle(active);
      return {
        hint: (active.getAttribute('autocomplete') ?? '').split(' ').pop(),
        submits: active.type === 'submit',
        editable: active.tagName === 'INPUT' && !active.readOnly,
        ring: outline.outlineStyle !== 'none' || outline.boxShadow !== 'none',
        tag: active.tagName,
      };
    });
    stops.push(here.tag);
    if (here.tag !== 'BODY') assert.ok(here.ring, `the focus cannot be seen on stop ${stops.length} (${here.tag})`);
    if (here.submits) break;
    if (here.editable && values[here.hint]) {
      await payer.page.keyboard.type(values[here.hint]);
      delete values[here.hint];
    }
  }
  if (!(await payer.field('email').isEditable())) delete values[AUTOFILL.email];
  assert.deepEqual(Object.keys(values), [], 'fields that Tab does not reach before the button');
  const navigated = payer.page.waitForEvent('framenavigated');
  await payer.page.keyboard.press('Enter');
  await navigated;
  return { stops: stops.length, ...(await payer.arrive(payer.options.successUrl, 'completed')) };
}

async function assertTroubleIsShown(payer) {
  const alert = payer.page.getByRole('alert').filter({ visible: true }).first();
  await alert.waitFor({ state: 'visible' });
  const message = squeeze(await alert.innerText());
  assert.ok(message, 'the page says what went wrong');
  const focused = await alert.evaluate((element) => element === document.activeElement || element.contains(document.activeElement));
  assert.ok(focused, 'the summary of what went wrong has the focus');
  assert.equal(await payer.field('number').inputValue(), '', 'the card number is not kept after a submit');
  assert.equal(await payer.field('cvc').inputValue(), '', 'the CVC is not kept after a submit');
  assert.equal(await payer.field('name').inputValue(), payer.options.name, 'the name is kept');
  assert.ok(await payer.field('email').inputValue(), 'the e-mail address is kept');
  assert.ok(await payer.submit().isEnabled(), 'the button can be pressed again');
  await assertReadable(payer.page);
  return message;
}

async function declineThenPay(payer) {
  await payer.openForm();
  await payer.fill({ card: payer.options.declineCard });
  await payer.pressPay();
  await payer.picture('declined');
  const declined = await assertTroubleIsShown(payer);
  await payer.fill();
  return { declined, ...(await payer.payAndArrive()) };
}

async function invalidThenPay(payer) {
  await payer.openForm();
  await payer.fill({ card: '4242424242424243', expiry: '01 / 20' });
  await payer.pressPay();
  await payer.picture('invalid');
  const message = await assertTroubleIsShown(payer);
  for (const kind of ['number', 'expiry']) {
    const input = payer.field(kind);
    assert.equal(await input.getAttribute('aria-invalid'), 'true', `the ${kind} field is marked as wrong`);
    const ids = ((await input.getAttribute('aria-describedby')) ?? '').split(' ').filter(Boolean);
    const error = payer.page.locator(`[id="${ids.at(-1)}"]`);
    assert.ok(ids.length > 0 && squeeze(await error.innerText()), `the ${kind} field's error stands next to it`);
    const link = payer.page.getByRole('alert').locator(`a[href="#${await input.getAttribute('id')}"]`);
    assert.equal(await link.count(), 1, `the summary links to the ${kind} field`);
  }
  await payer.fill();
  return { message, ...(await payer.payAndArrive()) };
}

async function cancel(payer) {
  await payer.openForm();
  await payer.page.locator('a[href$="/cancel"]').first().click();
  await payer.page.waitForURL((url) => url.pathname.endsWith('/cancel'), { waitUntil: 'load' });
  await assertReadable(payer.page);
  await payer.picture('asks');
  const form = payer.page.locator('form[method=post i]').filter({ has: payer.page.locator('[type=submit]') });
  assert.equal(await form.count(), 1, 'the cancel page asks with one form');
  const navigated = payer.page.waitForEvent('framenavigated');
  await form.locator('[type=submit]').click({ noWaitAfter: true });
  await navigated;
  const arrival = await payer.arrive(payer.options.cancelUrl ?? payer.options.returnUrl, 'cancelled');
  await payer.open();
  await payer.assertNoCard(payer.page, 'after cancelling');
  return arrival;
}

async function expired(payer) {
  await payer.open();
  await payer.assertNoCard(payer.page, 'on an expired link');
  const heading = squeeze(await payer.page.locator('h1').innerText());
  assert.equal(await payer.page.locator('form').count(), 0, 'an expired page has no form');
  const back = payer.options.returnUrl ?? payer.options.cancelUrl;
  return { heading, ...(back ? await payer.arrive(back, 'expired') : {}) };
}

async function doubleClick(payer) {
  await payer.openForm();
  await payer.fill();
  const { page } = payer;
  if (!payer.options.javaScript) {
    // Without a script nothing in the page can stop the second press; that it costs nothing is the server's doing.
    await payer.submit().dblclick({ noWaitAfter: true });
    return { ...(await payer.arrive(payer.options.successUrl, 'completed')), payPosts: payer.payPosts };
  }
  // The first request is held back until the second and third presses have been made: the slow page on which
  // people press again.
  let release;
  const held = new Promise((resolve) => {
    release = resolve;
  });
  let arrived;
  const firstPost = new Promise((resolve) => {
    arrived = resolve;
  });
  await page.route('**/pay', async (route) => {
    arrived();
    await held;
    await route.continue().catch(() => {}); // A navigation that a second press replaced is gone by now.
  });
  const box = await payer.submit().boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await page.mouse.click(x, y);
  await firstPost;
  await page.mouse.click(x, y);
  await page.keyboard.press('Enter');
  await page.mouse.dblclick(x, y);
  release();
  const arrival = await payer.arrive(payer.options.successUrl, 'completed');
  assert.equal(payer.payPosts, 1, 'the button can be pressed once only');
  return { ...arrival, payPosts: payer.payPosts };
}

async function twoTabs(payer) {
  const second = await payer.context.newPage();
  await payer.openForm();
  await payer.openForm(second);
  await payer.fill();
  await payer.fill({ page: second });
  const arrival = await payer.payAndArrive();
  await payer.pressPay(second);
  const isShop = (url) => isAt(url, payer.options.successUrl);
  if (!isShop(second.url())) {
    await payer.assertNoCard(second, 'in the second tab');
    await payer.arrive(payer.options.successUrl, 'completed', second);
  }
  return { ...arrival, secondTab: second.url(), payPosts: payer.payPosts };
}

async function backAfterPaying(payer) {
  await payer.openForm();
  await payer.fill();
  const arrival = await payer.payAndArrive();
  const { page } = payer;
  const posts = payer.payPosts;
  await page.goBack({ waitUntil: 'commit' });
  await untilParsed(page);
  const backOn = page.url();
  await payer.assertNoCard(page, 'after Back');
  if (!isAt(backOn, payer.options.successUrl)) {
    await page.reload({ waitUntil: 'load' });
    await payer.assertNoCard(page, 'after Back and a reload');
  }
  assert.equal(payer.payPosts, posts, 'Back sends nothing again');
  return { ...arrival, backOn };
}

async function reloadAfterPaying(payer) {
  await payer.openForm();
  await payer.fill();
  const arrival = await payer.payAndArrive();
  const { page } = payer;
  const posts = payer.payPosts;
  await page.reload({ waitUntil: 'load' });
  await payer.open();
  await payer.assertNoCard(page, 'when the paid link is opened again');
  const paidPage = page.url();
  const heading = squeeze(await page.locator('h1').innerText());
  await page.reload({ waitUntil: 'load' });
  await payer.assertNoCard(page, 'when the paid page is reloaded');
  assert.equal(payer.payPosts, posts, 'a reload sends nothing again');
  await payer.arrive(payer.options.successUrl, 'completed');
  return { ...arrival, paidPage, heading };
}

/** A returning payer: kept cards first, the fields of another card only when that is chosen. */
async function payWithKeptCard(payer) {
  await payer.open();
  const cards = payer.page.getByRole('radio');
  const kept = cards.first();
  const another = cards.last();
  assert.ok(await kept.isChecked(), 'the card used last is chosen');
  const number = payer.field('number');
  const code = payer.page.locator('[name=saved_card_cvc]');
  const keep = payer.page.getByRole('checkbox');
  assert.deepEqual([await number.isVisible(), await code.isVisible()], [false, true], 'what is asked for a kept card');
  await payer.picture('kept');
  await another.check();
  assert.deepEqual([await number.isVisible(), await code.isVisible()], [true, false], 'what is asked for another card');
  assert.equal(await keep.isChecked(), false, 'whether to keep a card is the payer’s to say');
  await payer.picture('another');
  await number.fill('4242'); // Left behind half typed, it must not keep the form from being sent.
  await kept.focus();
  await payer.page.keyboard.press('Space');
  assert.ok(await kept.isChecked(), 'cards are chosen by keyboard too');
  await code.fill(payer.options.cvc);
  return payer.payAndArrive();
}

async function payWithAddress(payer) {
  const { page } = payer;
  await payer.openForm();
  await payer.fill();
  const field = (hint) => page.locator(`[autocomplete="billing ${hint}"]`);
  await field('country').selectOption('CH');
  await field('address-line1').fill('Rheinsprung 1');
  await field('address-level2').fill('Basel');
  // A browser does not know which countries have postcodes, so the server says what is missing.
  await payer.pressPay();
  const wrong = page.locator('[aria-invalid="true"]');
  assert.equal(await wrong.count(), 1);
  assert.equal(await wrong.getAttribute('autocomplete'), 'billing postal-code');
  const described = await wrong.getAttribute('aria-describedby');
  const message = squeeze(await page.locator(`#${described}`).innerText());
  await album(payer, 'wrong');
  assert.equal(await field('country').inputValue(), 'CH');
  assert.equal(await field('address-line1').inputValue(), 'Rheinsprung 1');
  await payer.fill();
  await field('postal-code').fill('4051');
  const arrival = await payer.payAndArrive();
  return { message, ...arrival };
}

/** Pictures of pages at several widths in both colour schemes; nothing is typed. `pages` names further URLs. */
async function look(payer) {
  const pages = payer.options.pages ?? { page: payer.options.url };
  let looks = 0;
  for (const colorScheme of ['light', 'dark']) {
    await payer.page.emulateMedia({ colorScheme });
    for (const width of payer.options.widths ?? [320, 768, 1280]) {
      await payer.page.setViewportSize({ width, height: payer.options.height });
      for (const [name, url] of Object.entries(pages)) {
        await payer.open(payer.page, url);
        await assertNoSmallFields(payer.page);
        await payer.picture(`${name}-${colorScheme}-${width}`);
        looks += 1;
      }
    }
  }
  return { looks };
}

/** A link for one person: asks for the code, mistypes it, pastes it as the mail shows it, pays. `codeUrl` gives the code. */
async function proveIdentity(payer) {
  const { page } = payer;
  const press = async (action) => {
    const navigated = page.waitForEvent('framenavigated');
    await page.locator(`form[action$="/identity/${action}"] [type=submit]`).click({ noWaitAfter: true });
    await navigated;
    await page.waitForLoadState('load');
    await assertReadable(page);
  };
  await payer.open();
  assert.ok(!squeeze(await page.locator('body').innerText()).includes(payer.options.amountText), 'the amount is not shown');
  await album(payer, 'ask');
  await press('send');
  await album(payer, 'code');
  const input = page.locator('[autocomplete="one-time-code"]');
  assert.equal(await input.getAttribute('inputmode'), 'numeric');
  assert.ok(await input.evaluate((element) => element === document.activeElement), 'the cursor stands in the field');
  const code = await (await fetch(payer.options.codeUrl)).text();
  await input.fill('0000 0000');
  await press('confirm');
  await album(payer, 'wrong');
  const described = (await input.getAttribute('aria-describedby')).split(' ');
  const error = squeeze(await page.locator(`[id="${described.at(-1)}"]`).innerText());
  assert.equal(await input.getAttribute('aria-invalid'), 'true');
  assert.equal(await input.inputValue(), '', 'a wrong code is not kept');
  await input.fill(` ${code} `);
  await press('confirm');
  await payer.fill();
  return { error, ...(await payer.payAndArrive()) };
}

const STORIES = {
  pay,
  pay_by_keyboard: payByKeyboard,
  prove_identity: proveIdentity,
  decline_then_pay: declineThenPay,
  invalid_then_pay: invalidThenPay,
  pay_with_kept_card: payWithKeptCard,
  cancel,
  expired,
  double_click: doubleClick,
  two_tabs: twoTabs,
  back_after_paying: backAfterPaying,
  reload_after_paying: reloadAfterPaying,
  look,
  pay_with_address: payWithAddress,
  own_page: ownPage,
  authenticate,
  deal,
  look_at_deals: lookAtDeals,
};

async function main([story, argument]) {
  const run = Object.hasOwn(STORIES, story ?? '') ? STORIES[story] : null;
  if (!run || !argument) {
    console.error(`usage: node browser.mjs <${Object.keys(STORIES).join('|')}> '<json>'`);
    return 2;
  }
  const payer = new Payer(story, JSON.parse(argument));
  const watchdog = setTimeout(() => {
    console.error(`FAILED ${story}: no end after ${WHOLE_STORY_TIMEOUT_MS} ms`);
    process.exit(1);
  }, WHOLE_STORY_TIMEOUT_MS);
  try {
    await payer.start();
    const facts = await run(payer);
    assert.deepEqual(payer.troubles, [], 'things that a browser should not have seen');
    console.log(JSON.stringify({ ok: true, story, javaScript: payer.options.javaScript, ...facts, pictures: payer.pictures }));
    return 0;
  } catch (error) {
    console.error(`FAILED ${story} (JavaScript ${payer.options.javaScript ? 'on' : 'off'}): ${plain(error.message)}`);
    for (const trouble of payer.troubles) console.error(`also seen: ${trouble}`);
    const pages = payer.browser?.contexts().flatMap((context) => context.pages()) ?? [];
    for (const [index, page] of pages.entries()) {
      const path = join(payer.options.screenshots ?? tmpdir(), `failed-${story}-${process.pid}-${index + 1}.png`);
      await page.screenshot({ path, fullPage: true }).then(
        () => console.error(`page ${index + 1} is ${page.url()}, picture: ${path}`),
        (reason) => console.error(`page ${index + 1} is ${page.url()}, no picture: ${plain(reason.message)}`),
      );
    }
    console.error(plain(error.stack));
    return 1;
  } finally {
    clearTimeout(watchdog);
    await payer.stop();
  }
}

process.exitCode = await main(process.argv.slice(2));
