"""Verifies webhook deliveries as a merchant would: with the official `stripe` package and with `standardwebhooks`.

The same input, output and exit codes as `verify_webhook.mjs`, which alone judges public keys: no Ed25519 comes with
Python.
"""

import json
import re
import sys
from datetime import datetime, timezone

import stripe
from standardwebhooks import Webhook, WebhookVerificationError

WRONG_SECRET = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="


def by_stripe(body, headers, secret):
    return stripe.Webhook.construct_event(body, headers["stripe-signature"], secret)


def by_standard_webhooks(body, headers, secret):
    return Webhook(secret).verify(body, headers)


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def must_refuse(verify, arguments, error_class, what):
    try:
        verify(*arguments)
    except error_class:
        return
    raise AssertionError(f"{what} was accepted")


def by_moved_clock(body, headers, secret):
    """What the library would have accepted at the time: it has no way to be told another clock."""
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), tz=timezone.utc)
    return Webhook(secret).sign(headers["webhook-id"], at, body) in headers["webhook-signature"].split(" ")


def check_refused(body, headers, secret, moved_clock):
    must_refuse(by_stripe, (body, headers, secret), stripe.SignatureVerificationError, "it (stripe)")
    if moved_clock:
        true(not by_moved_clock(body, headers, secret), "it was accepted (standardwebhooks)")
    else:
        must_refuse(by_standard_webhooks, (body, headers, secret), WebhookVerificationError, "it (standardwebhooks)")
    return stripe.Event.construct_from(json.loads(body), None)


def check(delivery):
    body, secret = delivery["body"], delivery["secret"]
    headers = {name.lower(): value for name, value in delivery["headers"].items()}
    moved_clock = delivery.get("moved_clock", False)
    if delivery.get("expect") == "refused":
        return check_refused(body, headers, secret, moved_clock)
    event = by_stripe(body, headers, secret)
    if moved_clock:
        true(by_moved_clock(body, headers, secret), "standardwebhooks makes another signature")
        return event
    true(event.object == "event", "the body is an event to the SDK")
    true(by_standard_webhooks(body, headers, secret) == json.loads(body), "the payload")

    tampered = body.replace('"object"', '"0bject"', 1)
    true(tampered != body, "the body could be tampered with")
    stale = {
        "stripe-signature": re.sub(r"t=(\d+)", lambda t: f"t={int(t[1]) - 1}", headers["stripe-signature"]),
        "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1),
    }
    alterations = [
        ("a tampered body", (tampered, headers, secret)),
        ("a body with one more space", (body + " ", headers, secret)),
        ("another secret", (body, headers, WRONG_SECRET)),
        ("another timestamp", (body, {**headers, **stale}, secret)),
    ]
    for what, altered in alterations:
        must_refuse(by_stripe, altered, stripe.SignatureVerificationError, f"{what} (stripe)")
        must_refuse(by_standard_webhooks, altered, WebhookVerificationError, f"{what} (standardwebhooks)")
    other_id = {**headers, "webhook-id": headers["webhook-id"] + "x"}
    must_refuse(by_standard_webhooks, (body, other_id, secret), WebhookVerificationError, "another webhook-id")
    return event


def main():
    # Read as bytes: the body holds UTF-8, whatever the locale of the shell is.
    lines = [line for line in sys.stdin.buffer.read().decode("utf-8").split("\n") if line.strip()]
    verified = 0
    try:
        true(lines, "no delivery was given on standard input")
        for line in lines:
            event = check(json.loads(line))
            verified += 1
            print(f"ok {event.id} {event.type}", flush=True)
    except Exception as error:
        print(
            f"FAILED at delivery {verified + 1} of {len(lines)}: {type(error).__name__}: {error}",
            file=sys.stderr,
        )
        return 1
    print(json.dumps({"ok": True, "verified": verified}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
