// Signs messages as Stripe does, with Stripe's own SDK.
//
// Standard input: one JSON object a line, {"payload": "<text>", "secret": "whsec_…", "timestamp": 1700000000}. Prints
// {"ok": true, "headers": [...]} with the value of Stripe-Signature for each line.

import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import process from 'node:process';
import Stripe from 'stripe';

const stripe = new Stripe('sk_test_no_call_is_made');
const lines = (await text(process.stdin)).split('\n').filter((line) => line.trim() !== '');
assert.ok(lines.length > 0, 'no message was given on standard input');
const headers = lines.map((line) => {
  const { payload, secret, timestamp } = JSON.parse(line);
  const header = stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp });
  // What it makes must pass its own check, else nothing is proved by it.
  stripe.webhooks.signature.verifyHeader(payload, header, secret, Infinity);
  return header;
});
console.log(JSON.stringify({ ok: true, headers }));
