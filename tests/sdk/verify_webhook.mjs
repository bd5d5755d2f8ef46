// Verifies webhook deliveries as a merchant would: with the official `stripe` package and with `standardwebhooks`.
//
// Standard input: one JSON object a line, {"body": "<raw body>", "headers": {…}, "secret": "whsec_…"}; during a
// rotation give one line per secret, with "expect": "refused" for one that must not verify. Both libraries judge the
// timestamp against this machine's clock, five minutes either way; "moved_clock" says that it was made by another one,
// and then the signatures alone are judged. Each delivery must verify as it came, and must be refused once altered.
// "public_key": "whpk_…" has the v1a signatures verified as well, by Node's own Ed25519 because no library does, with
// "expect_public_key" for a key that must not. Prints `ok <event id> <type>` a delivery and a JSON summary; exits with 1 at
// the first delivery that is judged wrongly.

import assert from 'node:assert/strict';
import { createPublicKey, verify as verifyEd25519 } from 'node:crypto';
import { text } from 'node:stream/consumers';
import process from 'node:process';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import Stripe from 'stripe';

const WRONG_SECRET = 'whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=';
const stripe = new Stripe('sk_test_no_call_is_made');

function byStripe(body, headers, secret) {
  return stripe.webhooks.constructEvent(body, headers['stripe-signature'], secret);
}

function byStandardWebhooks(body, headers, secret) {
  return new Webhook(secret).verify(body, headers);
}

function mustRefuse(verify, ErrorClass, what) {
  assert.throws(verify, ErrorClass, `${what} was accepted or refused for another reason`);
}

// What precedes the 32 bytes of a key in a SubjectPublicKeyInfo (RFC 8410).
const ED25519_DER_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

function byPublicKey(body, headers, publicKey) {
  assert.ok(publicKey.startsWith('whpk_'));
  const raw = Buffer.from(publicKey.slice('whpk_'.length), 'base64');
  const key = createPublicKey({ key: Buffer.concat([ED25519_DER_HEAD, raw]), format: 'der', type: 'spki' });
  const message = Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`, 'utf8');
  const tokens = headers['webhook-signature'].split(' ');
  assert.ok(tokens.every((token) => /^v1a?,[A-Za-z0-9+/]+=*$/.test(token)), 'one space between tokens, and no other');
  return tokens
    .filter((token) => token.startsWith('v1a,'))
    .some((token) => verifyEd25519(null, message, key, Buffer.from(token.slice('v1a,'.length), 'base64')));
}

function checkPublicKey(body, headers, publicKey, expected) {
  assert.equal(byPublicKey(body, headers, publicKey), expected !== 'refused', `v1a with ${publicKey}`);
  assert.equal(byPublicKey(`${body} `, headers, publicKey), false, 'v1a of another body');
  assert.equal(byPublicKey(body, { ...headers, 'webhook-id': 'evt_other' }, publicKey), false, 'v1a of another id');
}

// What the library would have accepted at the time: it has no way to be told another clock.
function byMovedClock(body, headers, secret) {
  const at = new Date(Number(headers['webhook-timestamp']) * 1000);
  const token = new Webhook(secret).sign(headers['webhook-id'], at, body);
  return headers['webhook-signature'].split(' ').includes(token);
}

function checkRefused(body, headers, secret, movedClock) {
  mustRefuse(() => byStripe(body, headers, secret), Stripe.errors.StripeSignatureVerificationError, 'it (stripe)');
  if (movedClock) assert.equal(byMovedClock(body, headers, secret), false, 'it was accepted (standardwebhooks)');
  else mustRefuse(() => byStandardWebhooks(body, headers, secret), WebhookVerificationError, 'it (standardwebhooks)');
  return JSON.parse(body);
}

function check(delivery) {
  const { body, headers, secret, expect, moved_clock: movedClock, public_key: publicKey } = delivery;
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  if (publicKey) checkPublicKey(body, lower, publicKey, delivery.expect_public_key);
  if (expect === 'refused') return checkRefused(body, lower, secret, movedClock);
  const event = byStripe(body, lower, secret);
  if (movedClock) {
    assert.ok(byMovedClock(body, lower, secret), 'standardwebhooks makes another signature');
    return event;
  }
  assert.equal(event.object, 'event');
  assert.deepEqual(byStandardWebhooks(body, lower, secret), JSON.parse(body));
  assert.equal(lower['webhook-id'].includes('.'), false, 'a webhook-id holds no dot');

  const tampered = body.replace('"object"', '"0bject"');
  assert.notEqual(tampered, body);
  const stale = {
    'stripe-signature': lower['stripe-signature'].replace(/t=(\d+)/, (_, t) => `t=${Number(t) - 1}`),
    'webhook-timestamp': String(Number(lower['webhook-timestamp']) - 1),
  };
  const alterations = [
    ['a tampered body', tampered, lower, secret],
    ['a body with one more space', `${body} `, lower, secret],
    ['another secret', body, lower, WRONG_SECRET],
    ['another timestamp', body, { ...lower, ...stale }, secret],
  ];
  for (const [what, ...altered] of alterations) {
    mustRefuse(() => byStripe(...altered), Stripe.errors.StripeSignatureVerificationError, `${what} (stripe)`);
    mustRefuse(() => byStandardWebhooks(...altered), WebhookVerificationError, `${what} (standardwebhooks)`);
  }
  const otherId = { ...lower, 'webhook-id': `${lower['webhook-id']}x` };
  mustRefuse(() => byStandardWebhooks(body, otherId, secret), WebhookVerificationError, 'another webhook-id');
  return event;
}

const lines = (await text(process.stdin)).split('\n').filter((line) => line.trim() !== '');
let verified = 0;
try {
  assert.ok(lines.length > 0, 'no delivery was given on standard input');
  for (const line of lines) {
    const event = check(JSON.parse(line));
    verified += 1;
    console.log(`ok ${event.id} ${event.type}`);
  }
  console.log(JSON.stringify({ ok: true, verified }));
} catch (error) {
  console.error(`FAILED at delivery ${verified + 1} of ${lines.length}: ${error.message}`);
  process.exitCode = 1;
}
