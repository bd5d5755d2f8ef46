// A merchant's backend in Node: the official `stripe` package, unmodified, pointed at the gateway.
//
// Environment: CHECKSTAND_BASE (http://127.0.0.1:4242), CHECKSTAND_KEY (sk_test_…), CHECKSTAND_SUCCESS_URL and
// CHECKSTAND_CANCEL_URL (both on the merchant's allow-list); CHECKSTAND_WEBHOOK_URL may name an address that the
// gateway accepts for a webhook endpoint, and CHECKSTAND_CUSTOMER a customer with one kept card. Prints `ok <what>` for each check and a JSON summary as the last line;
// stops at the first check that fails, says why on standard error and exits with 1.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import Stripe from 'stripe';

const SHAPES = JSON.parse(readFileSync(new URL('./shapes.json', import.meta.url), 'utf8'));
const WHOLE_RUN_TIMEOUT_MS = 120_000; // A story takes seconds; a hung server must not hang the test run.

const base = new URL(setting('CHECKSTAND_BASE'));
const key = setting('CHECKSTAND_KEY');
const successUrl = setting('CHECKSTAND_SUCCESS_URL');
const cancelUrl = setting('CHECKSTAND_CANCEL_URL');
const webhookUrl = process.env.CHECKSTAND_WEBHOOK_URL ?? 'https://merchant.example/webhooks';

const stripe = client(key);
let checks = 0;
let story = 'start';

function setting(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`FAILED: the environment variable ${name} is not set`);
    process.exit(2);
  }
  return value;
}

function client(apiKey) {
  const protocol = base.protocol.replace(':', '');
  const port = base.port || (protocol === 'https' ? '443' : '80');
  return new Stripe(apiKey, { host: base.hostname, port, protocol });
}

function ok(what) {
  checks += 1;
  console.log(`ok ${what}`);
}

/** The value at a dotted path, or `undefined` with the missing step named; a null parent ends the walk. */
function missingKey(object, dotted) {
  let here = object;
  for (const step of dotted.split('.')) {
    if (here === null) return null;
    if (typeof here !== 'object' || !(step in here)) return dotted;
    here = here[step];
  }
  return null;
}

function assertShape(object, kind) {
  assert.equal(object.object, kind, `object says what it is: expected ${kind}`);
  const missing = SHAPES[kind].filter((dotted) => missingKey(object, dotted) !== null);
  assert.deepEqual(missing, [], `${kind} ${object.id} lacks keys`);
}

function cart(extra = {}) {
  return {
    mode: 'payment',
    success_url: successUrl,
    cancel_url: cancelUrl,
    line_items: [
      {
        price_data: {
          currency: 'eur',
          unit_amount: 1999,
          product_data: { name: 'Café crème, 250 g', description: 'Roasted & ground', metadata: { shelf: 'B 7' } },
        },
        quantity: 2,
      },
      {
        price_data: { currency: 'eur', unit_amount: 490, product_data: { name: 'Shipping' } },
        quantity: 1,
      },
    ],
    ...extra,
  };
}

const CART_TOTAL_MINOR = 2 * 1999 + 490;

/** Runs `call`, which must be refused with that class of the SDK's errors, and gives the error back. */
async function refused(call, ErrorClass, expected = {}) {
  let error;
  try {
    await call();
  } catch (caught) {
    error = caught;
  }
  assert.ok(error, `expected ${ErrorClass.name}, but the call succeeded`);
  assert.ok(
    error instanceof ErrorClass,
    `expected ${ErrorClass.name}, got ${error.constructor.name}: ${error.message} (code ${error.code}, status ${error.statusCode})`,
  );
  for (const [name, value] of Object.entries(expected)) {
    assert.equal(error[name], value, `error.${name} of "${error.message}"`);
  }
  assert.match(error.requestId ?? '', /^req_/, 'an error carries the request id');
  assert.ok(error.message.length > 0, 'an error says what is wrong');
  return error;
}

async function sessionsAreCreatedReadAndUpdated() {
  const created = await stripe.checkout.sessions.create(
    cart({
      client_reference_id: 'order 42/ä',
      customer_email: 'payer@example.com',
      metadata: { order: '42', colour: 'ünï & co', keep: 'yes' },
      expand: ['line_items'],
    }),
  );
  assertShape(created, 'checkout.session');
  ok('every key of a session is there');
  assert.match(created.id, /^cs_test_/);
  assert.equal(created.amount_total, CART_TOTAL_MINOR);
  assert.equal(created.amount_subtotal, CART_TOTAL_MINOR);
  assert.equal(created.currency, 'eur');
  assert.equal(created.mode, 'payment');
  assert.equal(created.status, 'open');
  assert.equal(created.state, 'pending');
  assert.equal(created.payment_status, 'unpaid');
  assert.equal(created.livemode, false);
  assert.equal(created.client_reference_id, 'order 42/ä');
  assert.equal(created.customer_email, 'payer@example.com');
  assert.equal(created.success_url, successUrl);
  assert.equal(created.cancel_url, cancelUrl);
  assert.ok(Number.isInteger(created.created) && created.expires_at > created.created, 'expires after it was created');
  assert.match(new URL(created.url).pathname, /^\/c\//);
  ok('create a session with nested line_items, metadata and customer_email');
  assert.deepEqual(created.metadata, { order: '42', colour: 'ünï & co', keep: 'yes' });
  ok('metadata comes back as it was sent');
  assert.match(created.lastResponse.requestId, /^req_/);
  assert.equal(created.lastResponse.statusCode, 200);
  assert.equal(created.lastResponse.apiVersion, stripe.getApiField('version'));
  ok('the answer carries Request-Id and echoes Stripe-Version');

  assert.equal(created.line_items.object, 'list');
  assert.equal(created.line_items.has_more, false);
  assert.match(created.line_items.url, /^\/v1\/checkout\/sessions\//);
  assert.equal(created.line_items.data.length, 2);
  const [coffee, shipping] = created.line_items.data;
  assertShape(coffee, 'item');
  assert.match(coffee.id, /^li_/);
  assert.equal(coffee.description, 'Café crème, 250 g');
  assert.equal(coffee.quantity, 2);
  assert.equal(coffee.amount_total, 3998);
  assert.equal(coffee.price.unit_amount, 1999);
  assert.equal(String(coffee.price.unit_amount_decimal), '1999');
  assert.equal(typeof coffee.price.product, 'string');
  assert.equal(shipping.amount_total, 490);
  ok('expand[]=line_items on create');

  const plain = await stripe.checkout.sessions.retrieve(created.id);
  assertShape(plain, 'checkout.session');
  assert.equal(plain.id, created.id);
  assert.equal(plain.url, created.url);
  assert.equal(plain.line_items, undefined);
  ok('retrieve, without line_items unless asked for');
  const expanded = await stripe.checkout.sessions.retrieve(created.id, { expand: ['line_items'] });
  assert.deepEqual(expanded.line_items.data.map((item) => item.id), [coffee.id, shipping.id]);
  ok('retrieve with expand[]=line_items');

  const seen = [];
  for await (const item of stripe.checkout.sessions.listLineItems(created.id, { limit: 1 })) seen.push(item.id);
  assert.deepEqual(seen, [coffee.id, shipping.id]);
  ok('listLineItems pages through every line once, in order');

  const set = await stripe.checkout.sessions.update(created.id, { metadata: { order: '43', added: 'x' } });
  assert.deepEqual(set.metadata, { order: '43', colour: 'ünï & co', keep: 'yes', added: 'x' });
  ok('update sets and adds metadata, keeps the rest');
  const deleted = await stripe.checkout.sessions.update(created.id, { metadata: { colour: '' } });
  assert.deepEqual(deleted.metadata, { order: '43', keep: 'yes', added: 'x' });
  ok('update deletes one key of metadata');
  const cleared = await stripe.checkout.sessions.update(created.id, { metadata: '' });
  assert.deepEqual(cleared.metadata, {});
  assert.deepEqual((await stripe.checkout.sessions.retrieve(created.id)).metadata, {});
  ok('update clears metadata');
}

async function plainAmountIsOneLine() {
  const created = await stripe.rawRequest('POST', '/v1/checkout/sessions', {
    mode: 'payment',
    amount: 1234,
    currency: 'usd',
    success_url: successUrl,
    cancel_url: cancelUrl,
    expand: ['line_items'],
  });
  assertShape(created, 'checkout.session');
  assert.equal(created.amount_total, 1234);
  assert.equal(created.currency, 'usd');
  assert.equal(created.line_items.data.length, 1);
  assert.equal(created.line_items.data[0].amount_total, 1234);
  assert.equal(created.line_items.data[0].quantity, 1);
  ok('amount and currency without line items make one line');
}

async function sessionsAreListed() {
  const made = [];
  for (let n = 0; n < 5; n += 1) {
    made.push(await stripe.checkout.sessions.create(cart({ metadata: { n: String(n) } })));
  }
  const newestFirst = made.map((session) => session.id).reverse();
  const since = { gte: made[0].created };

  const seen = [];
  for await (const session of stripe.checkout.sessions.list({ limit: 2, created: since })) seen.push(session.id);
  assert.equal(new Set(seen).size, seen.length, 'auto-pagination gave a session twice');
  assert.deepEqual(seen.filter((id) => newestFirst.includes(id)), newestFirst);
  ok('auto-pagination with limit 2 gives 5 sessions once each, newest first');

  const page = await stripe.checkout.sessions.list({ limit: 2 });
  assert.equal(page.object, 'list');
  assert.equal(page.data.length, 2);
  assert.equal(page.has_more, true);
  assert.equal(page.url, '/v1/checkout/sessions');
  const next = await stripe.checkout.sessions.list({ limit: 2, starting_after: page.data[1].id });
  assert.equal(next.data.length, 2);
  const back = await stripe.checkout.sessions.list({ limit: 2, ending_before: next.data[0].id });
  assert.deepEqual(back.data.map((session) => session.id), page.data.map((session) => session.id));
  ok('starting_after and ending_before walk there and back');
  const withItems = await stripe.checkout.sessions.list({ limit: 1, expand: ['data.line_items'] });
  assert.equal(withItems.data[0].line_items.object, 'list');
  ok('expand[]=data.line_items in a list');
  await refused(() => stripe.checkout.sessions.list({ limit: 101 }), Stripe.errors.StripeInvalidRequestError, {
    param: 'limit',
    statusCode: 400,
  });
  ok('a limit above 100 is refused');

  const expired = await stripe.checkout.sessions.expire(made[2].id);
  assertShape(expired, 'checkout.session');
  assert.equal(expired.status, 'expired');
  assert.equal(expired.payment_status, 'unpaid');
  assert.equal(expired.url, null);
  ok('expire: status expired, no url any more');
  await refused(() => stripe.checkout.sessions.expire(made[2].id), Stripe.errors.StripeInvalidRequestError, {
    statusCode: 400,
  });
  ok('expire only from open');

  const open = await stripe.checkout.sessions.list({ status: 'open', limit: 100, created: since });
  assert.ok(open.data.every((session) => session.status === 'open'));
  assert.ok(open.data.some((session) => session.id === made[4].id));
  assert.ok(!open.data.some((session) => session.id === made[2].id));
  const gone = await stripe.checkout.sessions.list({ status: 'expired', limit: 100, created: since });
  assert.ok(gone.data.every((session) => session.status === 'expired'));
  assert.ok(gone.data.some((session) => session.id === made[2].id));
  ok('list by status');
  return { open: made[4].id, expired: made[2].id };
}

async function eventsTellTheStory({ open, expired }) {
  const list = await stripe.events.list({
    types: ['checkout.session.created', 'checkout.session.expired'],
    limit: 100,
  });
  assert.equal(list.object, 'list');
  assert.equal(list.url, '/v1/events');
  for (const event of list.data) {
    assert.ok(['checkout.session.created', 'checkout.session.expired'].includes(event.type), event.type);
  }
  const about = (type, id) => list.data.find((event) => event.type === type && event.data.object.id === id);
  assert.ok(about('checkout.session.created', open), 'no checkout.session.created for a session just created');
  const event = about('checkout.session.expired', expired);
  assert.ok(event, 'no checkout.session.expired for a session just expired');
  ok('events.list with types[] finds created and expired');
  assertShape(event, 'event');
  assert.match(event.id, /^evt_/);
  assert.equal(event.livemode, false);
  assertShape(event.data.object, 'checkout.session');
  assert.equal(event.data.object.status, 'expired');
  assert.equal(about('checkout.session.created', expired).data.object.status, 'open');
  ok('an event holds the object as it was then');
  const one = await stripe.events.retrieve(event.id);
  assert.equal(one.type, 'checkout.session.expired');
  assert.equal(one.data.object.id, expired);
  ok('events.retrieve');
  const byType = await stripe.events.list({ type: 'checkout.session.expired', limit: 1 });
  assert.equal(byType.data[0].type, 'checkout.session.expired');
  ok('events.list with type');
}

async function webhookEndpointsAreManaged() {
  const created = await stripe.webhookEndpoints.create({
    url: webhookUrl,
    enabled_events: ['charge.refunded'],
    description: 'the shop’s ear',
    metadata: { team: 'a' },
  });
  assertShape(created, 'webhook_endpoint');
  assert.match(created.id, /^we_/);
  assert.match(created.secret, /^whsec_[A-Za-z0-9+/]+=*$/);
  assert.equal(created.status, 'enabled');
  assert.equal(created.url, webhookUrl);
  ok('webhookEndpoints.create shows the secret');

  const read = await stripe.webhookEndpoints.retrieve(created.id);
  assertShape(read, 'webhook_endpoint');
  assert.ok(read.secret === undefined || read.secret === null, 'a secret is shown only once');
  assert.deepEqual(read.enabled_events, ['charge.refunded']);
  assert.equal(read.description, 'the shop’s ear');
  assert.deepEqual(read.metadata, { team: 'a' });
  ok('webhookEndpoints.retrieve does not show the secret again');

  const updated = await stripe.webhookEndpoints.update(created.id, {
    disabled: true,
    enabled_events: ['checkout.session.completed', 'checkout.session.expired'],
  });
  assert.equal(updated.status, 'disabled');
  assert.deepEqual([...updated.enabled_events].sort(), ['checkout.session.completed', 'checkout.session.expired']);
  assert.equal(updated.secret ?? null, null);
  ok('webhookEndpoints.update disables it and changes its events');

  const ids = [];
  for await (const endpoint of stripe.webhookEndpoints.list({ limit: 1 })) ids.push(endpoint.id);
  assert.equal(ids.filter((id) => id === created.id).length, 1);
  ok('webhookEndpoints.list pages');

  const deleted = await stripe.webhookEndpoints.del(created.id);
  assert.deepEqual({ ...deleted }, { id: created.id, object: 'webhook_endpoint', deleted: true });
  await refused(() => stripe.webhookEndpoints.retrieve(created.id), Stripe.errors.StripeInvalidRequestError, {
    code: 'resource_missing',
    statusCode: 404,
  });
  ok('webhookEndpoints.del');
}

/** Pays a session without a browser; the helper's own answer is the session afterwards. */
async function paid(params, card = 'visa') {
  const session = await stripe.checkout.sessions.create(cart(params));
  return stripe.rawRequest('POST', `/v1/test_helpers/checkout/sessions/${session.id}/complete`, {
    card,
    email: 'payer@example.com',
    expand: ['payment_intent.latest_charge'],
  });
}

async function paymentsAreReadCapturedAndCanceled() {
  const session = await paid({ payment_intent_data: { description: 'Order 7', metadata: { order: '7' } } });
  assertShape(session, 'checkout.session');
  assert.equal(session.status, 'complete');
  assert.equal(session.payment_status, 'paid');
  assertShape(session.payment_intent, 'payment_intent');
  assertShape(session.payment_intent.latest_charge, 'charge');
  ok('a test pays a session by rawRequest, without a browser');

  const intent = await stripe.paymentIntents.retrieve(session.payment_intent.id, { expand: ['latest_charge'] });
  assertShape(intent, 'payment_intent');
  assertShape(intent.latest_charge, 'charge');
  assert.equal(intent.status, 'succeeded');
  assert.equal(intent.amount_received, CART_TOTAL_MINOR);
  assert.equal(intent.description, 'Order 7');
  assert.deepEqual(intent.metadata, { order: '7' });
  assert.equal(intent.latest_charge.status, 'succeeded');
  assert.equal(intent.latest_charge.payment_method_details.card.last4, '4242');
  const plain = await stripe.paymentIntents.retrieve(intent.id);
  assert.equal(plain.latest_charge, intent.latest_charge.id);
  ok('paymentIntents.retrieve with and without expand[]=latest_charge');
  const updated = await stripe.paymentIntents.update(intent.id, { metadata: { order: '8' }, description: 'Order 8' });
  assert.deepEqual([updated.description, updated.metadata], ['Order 8', { order: '8' }]);
  ok('paymentIntents.update');

  const manual = { payment_intent_data: { capture_method: 'manual' } };
  const reserved = await paid(manual);
  assert.equal(reserved.payment_status, 'unpaid');
  assert.equal(reserved.payment_intent.status, 'requires_capture');
  assert.equal(reserved.payment_intent.amount_capturable, CART_TOTAL_MINOR);
  await refused(
    () => stripe.paymentIntents.capture(reserved.payment_intent.id, { amount_to_capture: CART_TOTAL_MINOR + 1 }),
    Stripe.errors.StripeInvalidRequestError,
    { code: 'amount_too_large', param: 'amount_to_capture', statusCode: 400 },
  );
  const captured = await stripe.paymentIntents.capture(reserved.payment_intent.id, { amount_to_capture: 1000 });
  assertShape(captured, 'payment_intent');
  assert.deepEqual([captured.status, captured.amount_received, captured.amount_capturable], ['succeeded', 1000, 0]);
  await refused(() => stripe.paymentIntents.capture(captured.id), Stripe.errors.StripeInvalidRequestError, {
    code: 'charge_already_captured',
  });
  ok('paymentIntents.capture takes a part, once');

  const dropped = await paid(manual);
  const canceled = await stripe.paymentIntents.cancel(dropped.payment_intent.id, {
    cancellation_reason: 'requested_by_customer',
  });
  assertShape(canceled, 'payment_intent');
  assert.deepEqual([canceled.status, canceled.cancellation_reason], ['canceled', 'requested_by_customer']);
  assert.ok(Number.isInteger(canceled.canceled_at));
  await refused(() => stripe.paymentIntents.cancel(intent.id), Stripe.errors.StripeInvalidRequestError, {
    code: 'payment_intent_unexpected_state',
  });
  ok('paymentIntents.cancel lets reserved money go, and taken money not');

  const seen = [];
  const since = { gte: intent.created };
  for await (const one of stripe.paymentIntents.list({ limit: 2, created: since, expand: ['data.latest_charge'] })) {
    assertShape(one.latest_charge, 'charge');
    seen.push(one.id);
  }
  const mine = [canceled.id, captured.id, intent.id];
  assert.deepEqual(seen.filter((id) => mine.includes(id)), mine);
  ok('paymentIntents.list pages, with expand[]=data.latest_charge');
  return { session, intent: intent.id };
}

async function chargesAndRefundsAreMadeAndRead({ session, intent }) {
  const declinedCard = (id) => () =>
    stripe.rawRequest('POST', `/v1/test_helpers/checkout/sessions/${id}/complete`, { card: 'insufficient_funds' });
  const open = await stripe.checkout.sessions.create(cart());
  await refused(declinedCard(open.id), Stripe.errors.StripeCardError, {
    code: 'card_declined',
    decline_code: 'insufficient_funds',
    statusCode: 402,
  });
  const failing = await stripe.rawRequest('POST', `/v1/test_helpers/checkout/sessions/${open.id}/decline`, {
    decline_code: 'expired_card',
    expand: ['payment_intent'],
  });
  assertShape(failing.payment_intent, 'payment_intent');
  assert.equal(failing.payment_intent.last_payment_error.code, 'expired_card');
  const tries = await stripe.charges.list({ payment_intent: failing.payment_intent.id });
  assert.deepEqual(tries.data.map((charge) => charge.failure_code), ['expired_card', 'card_declined']);
  for (const charge of tries.data) assertShape(charge, 'charge');
  ok('charges.list shows every try, the refused ones too');
  const asked = await paid({}, 'three_d_secure_required');
  assert.equal(asked.payment_intent.status, 'requires_action');
  assertShape(asked.payment_intent, 'payment_intent');
  const approved = await stripe.rawRequest('POST', `/v1/test_helpers/checkout/sessions/${asked.id}/authenticate`, {
    result: 'approve',
    expand: ['payment_intent.latest_charge'],
  });
  assertShape(approved.payment_intent.latest_charge, 'charge');
  assert.equal(approved.status, 'complete');
  ok('a test answers the bank');

  const charge = await stripe.charges.retrieve(session.payment_intent.latest_charge.id);
  assertShape(charge, 'charge');
  assert.deepEqual([charge.amount_captured, charge.refunded, charge.paid], [CART_TOTAL_MINOR, false, true]);
  ok('charges.retrieve');

  const part = await stripe.refunds.create({ payment_intent: intent, amount: 500, metadata: { why: 'late' } });
  assertShape(part, 'refund');
  assert.deepEqual([part.status, part.amount, part.charge], ['succeeded', 500, charge.id]);
  const read = await stripe.refunds.retrieve(part.id);
  assert.deepEqual(read.metadata, { why: 'late' });
  const noted = await stripe.refunds.update(part.id, { metadata: { why: '' } });
  assert.deepEqual(noted.metadata, {});
  await refused(
    () => stripe.refunds.create({ charge: charge.id, amount: CART_TOTAL_MINOR }),
    Stripe.errors.StripeInvalidRequestError,
    { code: 'amount_too_large', param: 'amount', statusCode: 400 },
  );
  const rest = await stripe.refunds.create({ charge: charge.id, reason: 'requested_by_customer' });
  assert.equal(rest.amount, CART_TOTAL_MINOR - 500);
  const after = await stripe.charges.retrieve(charge.id);
  assert.deepEqual([after.amount_refunded, after.refunded], [CART_TOTAL_MINOR, true]);
  await refused(() => stripe.refunds.create({ charge: charge.id }), Stripe.errors.StripeInvalidRequestError, {
    code: 'charge_already_refunded',
  });
  const refunds = await stripe.refunds.list({ charge: charge.id });
  assert.deepEqual(refunds.data.map((refund) => refund.id), [rest.id, part.id]);
  ok('refunds in parts, never more than was taken');
  const expired = await stripe.rawRequest('POST', `/v1/test_helpers/checkout/sessions/${open.id}/expire`, {});
  assert.equal(expired.status, 'expired');
  ok('a test lets a session run out of time');
}

async function customersAndTheirCardsAreManaged() {
  const made = await stripe.customers.create({
    email: 'ada@shop.example',
    name: 'Ada Lovelace',
    address: { line1: '12 St James’s Square', city: 'London', country: 'GB' },
    metadata: { tier: 'gold' },
  });
  assertShape(made, 'customer');
  assert.equal(made.address.city, 'London');
  assert.deepEqual(await stripe.customers.retrieve(made.id), made);
  ok('customers.create and retrieve');
  const changed = await stripe.customers.update(made.id, { name: 'Countess', address: '', metadata: { tier: '' } });
  assert.deepEqual([changed.name, changed.address, changed.metadata], ['Countess', null, {}]);
  ok('customers.update');
  const found = await stripe.customers.list({ email: 'ada@shop.example' });
  assert.deepEqual(found.data.map((customer) => customer.id), [made.id]);
  ok('customers.list by email');
  const session = await stripe.checkout.sessions.create(
    cart({
      customer: made.id,
      payment_intent_data: { setup_future_usage: 'off_session' },
      saved_payment_method_options: { payment_method_save: 'enabled', allow_redisplay_filters: ['always', 'limited'] },
    }),
  );
  assert.equal(session.customer, made.id);
  assert.equal(session.saved_payment_method_options.payment_method_save, 'enabled');
  const listed = await stripe.checkout.sessions.list({ customer: made.id });
  assert.deepEqual(listed.data.map((one) => one.id), [session.id]);
  ok('a session for a customer');
  assert.deepEqual((await stripe.customers.listPaymentMethods(made.id)).data, []);
  const deleted = await stripe.customers.del(made.id);
  assert.equal(deleted.deleted, true);
  assert.equal((await stripe.customers.retrieve(made.id)).deleted, true);
  await refused(
    () => stripe.checkout.sessions.create(cart({ customer: made.id })),
    Stripe.errors.StripeInvalidRequestError,
    { code: 'resource_missing', param: 'customer', statusCode: 400 },
  );
  ok('customers.del');
  const withCard = process.env.CHECKSTAND_CUSTOMER;
  if (!withCard) return;
  const methods = await stripe.customers.listPaymentMethods(withCard, { type: 'card' });
  assert.equal(methods.data.length, 1);
  const [method] = methods.data;
  assertShape(method, 'payment_method');
  assert.deepEqual([method.card.last4, method.customer], ['4242', withCard]);
  assert.deepEqual(await stripe.paymentMethods.retrieve(method.id), method);
  const byCustomer = await stripe.paymentMethods.list({ customer: withCard, type: 'card' });
  assert.deepEqual(byCustomer.data, methods.data);
  ok('customers.listPaymentMethods, paymentMethods.retrieve and list');
  const noted = await stripe.paymentMethods.update(method.id, { allow_redisplay: 'limited', metadata: { note: 'x' } });
  assert.deepEqual([noted.allow_redisplay, noted.metadata], ['limited', { note: 'x' }]);
  const detached = await stripe.paymentMethods.detach(method.id);
  assert.equal(detached.customer, null);
  assert.deepEqual((await stripe.customers.listPaymentMethods(withCard)).data, []);
  ok('paymentMethods.update and detach');
}

async function aRepeatedRequestIsDoneOnce() {
  const idempotencyKey = `story-${randomUUID()}`;
  const params = cart({ metadata: { once: 'yes' } });
  const first = await stripe.checkout.sessions.create(params, { idempotencyKey });
  assert.equal(first.lastResponse.headers['idempotent-replayed'], undefined);
  assert.equal(first.lastResponse.idempotencyKey, idempotencyKey);
  const second = await stripe.checkout.sessions.create(params, { idempotencyKey });
  assert.equal(second.id, first.id);
  assert.deepEqual(JSON.parse(JSON.stringify(second)), JSON.parse(JSON.stringify(first)));
  assert.equal(second.lastResponse.headers['idempotent-replayed'], 'true');
  ok('the same key and parameters replay the first answer');
  const error = await refused(
    () => stripe.checkout.sessions.create(cart({ metadata: { once: 'no' } }), { idempotencyKey }),
    Stripe.errors.StripeIdempotencyError,
    { statusCode: 400 },
  );
  assert.match(error.message, /^Keys for idempotent requests can only be used with the same parameters/);
  ok('the same key with other parameters is an idempotency error');
  await refused(
    () => stripe.checkout.sessions.expire(first.id, undefined, { idempotencyKey }),
    Stripe.errors.StripeIdempotencyError,
  );
  ok('the same key at another endpoint is an idempotency error');
  const validationKey = `story-${randomUUID()}`;
  await refused(
    () => stripe.checkout.sessions.create(cart({ frobnicate: '1' }), { idempotencyKey: validationKey }),
    Stripe.errors.StripeInvalidRequestError,
  );
  const mended = await stripe.checkout.sessions.create(cart(), { idempotencyKey: validationKey });
  assert.match(mended.id, /^cs_test_/);
  ok('a validation failure does not use the key up');
}

async function refusalsHaveTheirClasses() {
  const create = (params) => () => stripe.checkout.sessions.create(params);
  const line = (price_data, quantity = 1) => [{ price_data, quantity }];
  const product_data = { name: 'Tea' };
  const invalid = Stripe.errors.StripeInvalidRequestError;

  await refused(create(cart({ line_items: line({ unit_amount: 100, product_data }) })), invalid, {
    code: 'parameter_missing',
    param: 'line_items[0][price_data][currency]',
    statusCode: 400,
    type: 'StripeInvalidRequestError',
    rawType: 'invalid_request_error',
  });
  const nothing = await refused(create({ mode: 'payment', success_url: successUrl, cancel_url: cancelUrl }), invalid, {
    code: 'parameter_missing',
  });
  assert.ok(nothing.param, 'a missing parameter is named');
  ok('a missing parameter is named in bracket form');
  await refused(create(cart({ frobnicate: '1' })), invalid, { code: 'parameter_unknown', param: 'frobnicate' });
  await refused(create(cart({ line_items: line({ currency: 'eur', unit_amount: 1, product_data, colour: 'x' }) })), invalid, {
    code: 'parameter_unknown',
    param: 'line_items[0][price_data][colour]',
  });
  ok('an unknown parameter is refused, nested ones too');
  await refused(create(cart({ line_items: line({ currency: 'eur', unit_amount: 100, product_data }, 'two') })), invalid, {
    code: 'parameter_invalid_integer',
    param: 'line_items[0][quantity]',
  });
  ok('a word where a number belongs is refused');
  await refused(create(cart({ success_url: 'https://evil.example/paid' })), invalid, {
    code: 'redirect_url_not_allowed',
    param: 'success_url',
    statusCode: 400,
  });
  ok('a redirect URL off the allow-list is refused');
  for (const id of ['cs_test_doesnotexist', 'cs_test_a1B2c3D4e5F6g7H8i9J0', 'pi_notasession']) {
    await refused(() => stripe.checkout.sessions.retrieve(id), invalid, { code: 'resource_missing', statusCode: 404 });
  }
  await refused(() => stripe.events.retrieve('evt_doesnotexist'), invalid, { code: 'resource_missing', statusCode: 404 });
  ok('what does not exist is resource_missing, 404');
  const lost = await refused(() => stripe.rawRequest('GET', '/v1/nonsense'), invalid, { statusCode: 404 });
  assert.match(lost.message, /^Unrecognized request URL \(GET: \/v1\/nonsense\)/);
  ok('an unknown route is an error the SDK understands');
  await refused(
    () => client('sk_test_notakeyofthisserver').checkout.sessions.list(),
    Stripe.errors.StripeAuthenticationError,
    { statusCode: 401 },
  );
  const almost = key.slice(0, -1) + (key.endsWith('x') ? 'y' : 'x');
  await refused(() => client(almost).checkout.sessions.list(), Stripe.errors.StripeAuthenticationError, {
    statusCode: 401,
  });
  ok('a wrong key is an authentication error');
}

const watchdog = setTimeout(() => {
  console.error(`FAILED in "${story}": no end after ${WHOLE_RUN_TIMEOUT_MS} ms`);
  process.exit(1);
}, WHOLE_RUN_TIMEOUT_MS);

async function tell(name, run) {
  story = name;
  return run();
}

try {
  await tell('sessions are created, read and updated', sessionsAreCreatedReadAndUpdated);
  await tell('a plain amount is one line', plainAmountIsOneLine);
  const sessions = await tell('sessions are listed', sessionsAreListed);
  await tell('events tell the story', () => eventsTellTheStory(sessions));
  await tell('webhook endpoints are managed', webhookEndpointsAreManaged);
  const payments = await tell('payments are read, captured and canceled', paymentsAreReadCapturedAndCanceled);
  await tell('charges and refunds are made and read', () => chargesAndRefundsAreMadeAndRead(payments));
  await tell('customers and their cards are managed', customersAndTheirCardsAreManaged);
  await tell('a repeated request is done once', aRepeatedRequestIsDoneOnce);
  await tell('refusals have their classes', refusalsHaveTheirClasses);
  console.log(JSON.stringify({ ok: true, sdk: `stripe-node ${Stripe.PACKAGE_VERSION}`, checks }));
} catch (error) {
  console.error(`FAILED in "${story}" after ${checks} checks: ${error.message}`);
  if (error.raw) console.error(`the server answered: ${JSON.stringify(error.raw)}`);
  console.error(error.stack);
  process.exitCode = 1;
} finally {
  clearTimeout(watchdog);
}
