// Verifies webhook deliveries as a merchant would: with the official `stripe` package and with `standardwebhooks`.
//
// Standard input: one JSON object a line, {"body": "<raw body>", "headers": {…}, "secret": "whsec_…"}; during a
// rotation give one line per secret. Both libraries judge the timestamp against this machine's clock, five minutes
// either way. Each delivery must verify as it came, and must be refused once altered. Prints `ok <event id> <type>`
// a delivery and a JSON summary; exits with 1 at the first delivery that is judged wrongly.

import assert from 'node:assert/strict';
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

function check({ body, headers, secret }) {
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const event = byStripe(body, lower, secret);
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
