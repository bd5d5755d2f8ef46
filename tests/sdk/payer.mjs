// The payer of the browser stories: one Chromium, what it must never see, and the verbs of a person who pays.
//
// Fields are found by what assistive technology and autofill go by (labels, autocomplete), never by wording, so that
// the stories hold in every language. Whatever a browser should not have seen is collected in `troubles`; the
// stories themselves, and the argument they take, are in browser.mjs.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { chromium } from 'playwright-core';

const STEP_TIMEOUT_MS = 15_000; // Two busy cores can make one page take seconds, never this long.
const CHROMIUM_ARGUMENTS = [
  '--no-sandbox', // The sandbox refuses root, and tests often run as root.
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--no-proxy-server',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
export const AUTOFILL = { email: 'email', number: 'cc-number', expiry: 'cc-exp', cvc: 'cc-csc', name: 'cc-name' };

export class Payer {
  constructor(story, options) {
    this.story = story;
    this.options = {
      javaScript: true,
      card: '4242424242424242',
      declineCard: '4000000000000002',
      expiry: '12 / 34',
      cvc: '123',
      email: 'payer@example.com',
      name: 'Zoë O’Neill',
      width: 1280,
      height: 900,
      colorScheme: 'light',
      locale: 'en-GB',
      ...options,
    };
    assert.ok(this.options.url, 'the argument "url" is missing');
    this.checkoutOrigin = new URL(this.options.url).origin;
    // What nobody else may learn. A story that gets further links adds to it.
    this.tokens = new Set([new URL(this.options.url).pathname.split('/').pop()]);
    // Pages whose console counts: ours, and those of the simulated bank once a story goes there.
    this.watchedOrigins = new Set([this.checkoutOrigin]);
    const shopPages = [this.options.successUrl, this.options.cancelUrl, this.options.returnUrl].filter(Boolean);
    this.allowedOrigins = new Set([this.checkoutOrigin, ...shopPages.map((url) => new URL(url).origin)]);
    this.troubles = [];
    this.refusedDocuments = new Set();
    this.payPosts = 0;
    this.pictures = [];
  }

  async start(browser) {
    this.browser =
      browser ??
      (await chromium.launch({
        executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
        args: CHROMIUM_ARGUMENTS,
        // The driver switches the back-forward cache off; real browsers have it, and it is what can show a typed
        // card number again without asking the server.
        ignoreDefaultArgs: ['--disable-back-forward-cache'],
      }));
    this.context = await this.browser.newContext({
      javaScriptEnabled: this.options.javaScript,
      viewport: { width: this.options.width, height: this.options.height },
      colorScheme: this.options.colorScheme,
      locale: this.options.locale,
      serviceWorkers: 'block',
    });
    this.context.setDefaultTimeout(STEP_TIMEOUT_MS);
    this.context.on('request', (request) => this.watchRequest(request));
    this.context.on('response', (response) => {
      const isDocument = response.request().resourceType() === 'document';
      if (isDocument && response.status() >= 400) this.refusedDocuments.add(response.url());
      const onward = response.headers().location;
      if (onward && response.request().method() === 'POST') {
        if (response.status() !== 303) this.troubles.push(`a POST was answered with ${response.status()}, not 303`);
        if (new URL(onward, response.url()).origin !== new URL(response.url()).origin) {
          this.troubles.push(`a POST was redirected to another origin: ${onward}`);
        }
      }
    });
    this.context.on('console', (message) => this.watchConsole(message));
    this.context.on('weberror', (error) => this.troubles.push(`uncaught error in the page: ${error.error().message}`));
    this.page = await this.context.newPage();
    return this;
  }

  /** Somebody else with a browser of his own: other cookies, another cache. What he should not have seen counts too. */
  async another(options = {}) {
    const other = new Payer(this.story, { ...this.options, ...options });
    Object.assign(other, { troubles: this.troubles, pictures: this.pictures, tokens: this.tokens });
    Object.assign(other, { allowedOrigins: this.allowedOrigins, watchedOrigins: this.watchedOrigins });
    return other.start(this.browser);
  }

  /** From now on the pages of the simulated bank belong to the story. */
  goesTo(bankOrigin) {
    this.allowedOrigins.add(bankOrigin);
    this.watchedOrigins.add(bankOrigin);
  }

  watchRequest(request) {
    const url = new URL(request.url());
    if (['data:', 'blob:', 'about:'].includes(url.protocol)) return;
    if (!this.allowedOrigins.has(url.origin)) this.troubles.push(`request to a third origin: ${request.url()}`);
    if (/csp-report/.test(url.pathname)) this.troubles.push(`content security policy report: ${request.postData()}`);
    if (url.origin !== this.checkoutOrigin) {
      const referer = request.headers().referer ?? '';
      for (const token of this.tokens) {
        if (request.url().includes(token)) this.troubles.push(`the payer's token went out in a URL: ${request.url()}`);
        if (referer.includes(token)) this.troubles.push(`the payer's token went out as Referer: ${referer}`);
      }
    }
    const isPay = request.method() === 'POST' && url.origin === this.checkoutOrigin && url.pathname.endsWith('/pay');
    if (isPay) this.payPosts += 1;
  }

  watchConsole(message) {
    if (message.type() !== 'error') return;
    const where = message.location().url ?? '';
    // The shop's own console is its own affair, and a document answered with 4xx (a declined card shown in place,
    // an expired link) is reported as an error although the page is the intended one.
    if (where && ![...this.watchedOrigins].some((origin) => where.startsWith(origin))) return;
    if (/status of 4\d\d/.test(message.text()) && this.refusedDocuments.has(where)) return;
    this.troubles.push(`console error: ${message.text()} (${where})`);
  }

  async picture(step, page = this.page) {
    const { screenshots } = this.options;
    if (!screenshots) return;
    mkdirSync(screenshots, { recursive: true });
    const path = join(screenshots, `${this.story}-${this.pictures.length + 1}-${step}.png`);
    await page.screenshot({ path, fullPage: true });
    this.pictures.push(path);
  }

  form(page = this.page) {
    return page.locator('form').filter({ has: page.locator(`[autocomplete~="${AUTOFILL.number}"]`) });
  }

  field(kind, page = this.page) {
    return this.form(page).locator(`[autocomplete~="${AUTOFILL[kind]}"]`);
  }

  submit(page = this.page) {
    return this.form(page).locator('[type=submit]');
  }

  async open(page = this.page, url = this.options.url) {
    await page.goto(url, { waitUntil: 'load' });
    await assertReadable(page);
  }

  async openForm(page = this.page) {
    await this.open(page);
    assert.equal(await this.form(page).count(), 1, 'the page has one form for the card');
    await this.submit(page).waitFor({ state: 'visible' });
    assert.equal(await this.submit(page).count(), 1, 'the card form has one button that submits');
    const button = squeeze(await this.submit(page).innerText());
    const said = squeeze(await page.locator('body').textContent());
    for (const text of [this.options.amountText, ...(this.options.texts ?? [])].filter(Boolean)) {
      assert.ok(said.includes(squeeze(text)), `the page does not say "${text}"; it says: ${said}`);
    }
    if (this.options.amountText) {
      assert.ok(button.includes(squeeze(this.options.amountText)), `the button says "${button}", not the amount`);
    }
    for (const kind of ['email', 'number', 'expiry', 'cvc', 'name']) {
      const found = this.field(kind, page);
      assert.equal(await found.count(), 1, `one field with autocomplete=${AUTOFILL[kind]}`);
      const label = await found.evaluate((input) => [...input.labels].map((one) => one.innerText).join(' ').trim());
      assert.ok(label, `the ${kind} field has a visible label`);
    }
    for (const [kind, name] of [['number', 'card_number'], ['expiry', 'card_expiry'], ['cvc', 'card_cvc']]) {
      assert.equal(await this.field(kind, page).getAttribute('name'), name);
      assert.equal(await this.field(kind, page).inputValue(), '', `the ${kind} field starts empty`);
    }
    return button;
  }

  async type(kind, value, page = this.page) {
    const input = this.field(kind, page);
    if (!(await input.isEditable())) return; // An e-mail address that the shop gave may be fixed.
    await input.fill('');
    await input.pressSequentially(value);
    if (['number', 'expiry', 'cvc'].includes(kind)) {
      const kept = (await input.inputValue()).replace(/\D/g, '');
      assert.equal(kept, value.replace(/\D/g, ''), `the ${kind} field keeps what was typed`);
    }
  }

  async fill({ card = this.options.card, expiry = this.options.expiry, page = this.page } = {}) {
    const { email, name, cvc } = this.options;
    const values = { email, number: card, expiry, cvc, name };
    for (const [kind, value] of Object.entries(values)) await this.type(kind, value, page);
  }

  /** Presses the button and waits until the browser shows the page that came of it. */
  async pressPay(page = this.page) {
    const before = this.payPosts;
    const navigated = page.waitForEvent('framenavigated', { predicate: (frame) => frame === page.mainFrame() });
    await this.submit(page).click({ noWaitAfter: true });
    await navigated;
    await page.waitForLoadState('load');
    assert.ok(this.payPosts > before, 'pressing the button sent the form');
  }

  /** Waits for a page. A form that was sent twice goes there twice, and the second time cuts the first one off. */
  async comesTo(isThere, page) {
    for (let cutOff = 0; ; cutOff += 1) {
      try {
        return await page.waitForURL(isThere, { waitUntil: 'load' });
      } catch (error) {
        if (cutOff === 3 || !/ERR_ABORTED|interrupted by another navigation/.test(error.message)) throw error;
      }
    }
  }

  /** Waits for the shop; where the page only offers a link, takes it. Gives back how it went. */
  async arrive(prefix, status, page = this.page) {
    assert.ok(prefix, `no shop URL was given for the outcome ${status}`);
    const isShop = (url) => isAt(url, prefix);
    // One query for "this page has the link and does not refresh by itself", since a page that does is gone soon.
    const onlyALink = page
      .locator(`html:not(:has(meta[http-equiv="refresh" i])) a[href^="${new URL(prefix).origin}/"]`)
      .first();
    const automatic = await Promise.any([
      this.comesTo(isShop, page).then(() => true),
      onlyALink.waitFor().then(() => false),
    ]).catch(({ errors }) => {
      const why = errors?.map((error) => error.message.split('\n')[0]).join('; ');
      assert.fail(`neither the shop nor a link to it came up; the page is ${page.url()}; ${why}`);
    });
    if (!automatic) {
      await this.picture('way-back', page);
      await onlyALink.click();
      await page.waitForURL(isShop, { waitUntil: 'load' });
    }
    const landing = new URL(page.url());
    for (const [name, value] of new URL(prefix).searchParams) {
      if (!value.includes('{')) assert.equal(landing.searchParams.get(name), value, `the shop's own parameter ${name}`);
    }
    assert.equal(landing.searchParams.get('status'), status, `status in ${landing}`);
    const sessionId = landing.searchParams.get('session_id');
    assert.match(sessionId ?? '', /^cs_(test|live)_/, `session_id in ${landing}`);
    if (this.options.sessionId) assert.equal(sessionId, this.options.sessionId);
    assert.ok(!landing.href.includes('{CHECKOUT_SESSION_ID}'), 'the placeholder is filled in');
    await this.picture(`shop-${status}`, page);
    return { landing: landing.href, sessionId, automatic };
  }

  async payAndArrive(page = this.page) {
    await this.pressPay(page);
    const arrival = await this.arrive(this.options.successUrl, 'completed', page);
    assert.ok(arrival.automatic, 'after a payment the browser goes back to the shop by itself');
    return arrival;
  }

  /** No field for a card, and no typed card number left anywhere on the page. */
  async assertNoCard(page, when) {
    await page.locator('body').waitFor({ state: 'attached' });
    await this.picture('no-card', page);
    assert.equal(await page.locator('[autocomplete~="cc-number"], [name=card_number], [name=card_cvc]').count(), 0, `${when}: a card field is shown`);
    const values = await page.locator('input').evaluateAll((inputs) => inputs.map((input) => input.value));
    const shown = [...values, await page.locator('body').innerText()].join('\n').replace(/[ \u00a0-]/g, '');
    assert.ok(!shown.includes(this.options.card), `${when}: the card number is shown`);
  }

  async stop() {
    await this.browser?.close();
  }
}

/** The page that is open, at several widths in both colour schemes. */
export async function album(payer, name) {
  const before = payer.page.viewportSize();
  for (const colorScheme of ['light', 'dark']) {
    await payer.page.emulateMedia({ colorScheme });
    for (const width of [320, 390, 1280]) {
      await payer.page.setViewportSize({ width, height: payer.options.height });
      await assertReadable(payer.page);
      await payer.picture(`${name}-${colorScheme}-${width}`);
    }
  }
  await payer.page.emulateMedia({ colorScheme: payer.options.colorScheme });
  await payer.page.setViewportSize(before);
}

/** Fields with letters under 16 px make phones zoom. */
export async function assertNoSmallFields(page) {
  const small = await page.locator('input:visible, select:visible, textarea:visible').evaluateAll((fields) =>
    fields.filter((field) => parseFloat(getComputedStyle(field).fontSize) < 16).map((field) => field.name),
  );
  assert.deepEqual(small, [], 'fields under 16 px make phones zoom');
}

export function squeeze(text) {
  return (text ?? '').replace(/[\s\u00a0\u202f\u200e\u200f\u2066-\u2069]+/g, ' ').trim();
}

/** The driver colours its messages for terminals; these go into test reports. */
export function plain(text) {
  return text.replace(/\u001b\[\d+m/g, '');
}

export function isAt(url, prefix) {
  const [here, there] = [new URL(url), new URL(prefix)];
  return here.origin === there.origin && here.pathname === there.pathname;
}

/** What every hosted page owes to everybody: a title, a language, one heading, nothing wider than the window. */
export async function assertReadable(page) {
  assert.ok((await page.title()).trim(), 'the page has a title');
  assert.ok(await page.locator('html').getAttribute('lang'), 'the page says its language');
  assert.equal(await page.locator('h1').count(), 1, 'the page has one main heading');
  const overflow = await page.locator('html').evaluate((root) => root.scrollWidth - root.clientWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} px wider than the window`);
}

/** Waits for a whole document. A page out of the back-forward cache fires no load event, so its state is asked for. */
export async function untilParsed(page) {
  const deadline = Date.now() + STEP_TIMEOUT_MS;
  while ((await page.locator('html').evaluate(() => document.readyState)) !== 'complete') {
    assert.ok(Date.now() < deadline, `the page never finished loading: ${page.url()}`);
  }
}
