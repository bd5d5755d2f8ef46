"""A merchant's backend in Python: the official `stripe` package, unmodified, pointed at the gateway.

The same environment, output and exit codes as `stripe_sdk.mjs`. Attribute access is the point of the exercise:
this SDK raises AttributeError for a key that an answer leaves out, so every key of SHAPES is read as an attribute.
"""

import json
import os
import re
import sys
import threading
import traceback
import uuid
from pathlib import Path
from urllib.parse import urlsplit

# The HTTP library of the SDK would send even loopback calls through a proxy that the shell happens to name.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"

import stripe  # noqa: E402

SHAPES = json.loads((Path(__file__).parent / "shapes.json").read_text(encoding="utf-8"))
WHOLE_RUN_TIMEOUT_S = 120.0  # A story takes seconds; a hung server must not hang the test run.
CART_TOTAL_MINOR = 2 * 1999 + 490


def setting(name):
    value = os.environ.get(name)
    if not value:
        print(f"FAILED: the environment variable {name} is not set", file=sys.stderr)
        sys.exit(2)
    return value


BASE = setting("CHECKSTAND_BASE").rstrip("/")
KEY = setting("CHECKSTAND_KEY")
SUCCESS_URL = setting("CHECKSTAND_SUCCESS_URL")
CANCEL_URL = setting("CHECKSTAND_CANCEL_URL")
WEBHOOK_URL = os.environ.get("CHECKSTAND_WEBHOOK_URL", "https://merchant.example/webhooks")


def client(api_key):
    return stripe.StripeClient(api_key, base_addresses={"api": BASE}).v1


api = client(KEY)
sessions = api.checkout.sessions
checks = 0
story = "start"


def ok(what):
    global checks
    checks += 1
    print(f"ok {what}", flush=True)


def equal(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def plain(value):
    """A StripeObject as ordinary dictionaries, so that it can be compared."""
    return value.to_dict() if isinstance(value, stripe.StripeObject) else value


def assert_shape(thing, kind):
    equal(thing.object, kind, "object says what it is")
    missing = []
    for dotted in SHAPES[kind]:
        here = thing
        for step in dotted.split("."):
            if here is None:
                break
            try:
                here = getattr(here, step)
            except AttributeError:
                missing.append(dotted)
                break
    equal(missing, [], f"keys that {kind} {thing.id} lacks")


def cart(**extra):
    return {
        "mode": "payment",
        "success_url": SUCCESS_URL,
        "cancel_url": CANCEL_URL,
        "line_items": [
            {
                "price_data": {
                    "currency": "eur",
                    "unit_amount": 1999,
                    "product_data": {
                        "name": "Café crème, 250 g",
                        "description": "Roasted & ground",
                        "metadata": {"shelf": "B 7"},
                    },
                },
                "quantity": 2,
            },
            {
                "price_data": {"currency": "eur", "unit_amount": 490, "product_data": {"name": "Shipping"}},
                "quantity": 1,
            },
        ],
        **extra,
    }


def refused(call, error_class, **expected):
    """Runs `call`, which must be refused with exactly that class of the SDK's errors, and gives the error back."""
    try:
        call()
    except stripe.StripeError as error:
        seen = f"{type(error).__name__}: {error.user_message} (code {error.code}, status {error.http_status})"
        true(type(error) is error_class, f"expected {error_class.__name__}, got {seen}")
        for name, value in expected.items():
            equal(getattr(error, name), value, f"error.{name} of {seen}")
        true(re.match(r"req_", error.request_id or ""), f"an error carries the request id: {seen}")
        true(error.user_message, "an error says what is wrong")
        return error
    raise AssertionError(f"expected {error_class.__name__}, but the call succeeded")


def sessions_are_created_read_and_updated():
    created = sessions.create(
        cart(
            client_reference_id="order 42/ä",
            customer_email="payer@example.com",
            metadata={"order": "42", "colour": "ünï & co", "keep": "yes"},
            expand=["line_items"],
        )
    )
    assert_shape(created, "checkout.session")
    ok("every key of a session is an attribute")
    true(created.id.startswith("cs_test_"), created.id)
    equal(created.amount_total, CART_TOTAL_MINOR, "amount_total")
    equal(created.amount_subtotal, CART_TOTAL_MINOR, "amount_subtotal")
    equal(created.currency, "eur", "currency")
    equal(created.mode, "payment", "mode")
    equal(created.status, "open", "status")
    equal(created.state, "pending", "state")
    equal(created.payment_status, "unpaid", "payment_status")
    equal(created.livemode, False, "livemode")
    equal(created.client_reference_id, "order 42/ä", "client_reference_id")
    equal(created.customer_email, "payer@example.com", "customer_email")
    equal(created.success_url, SUCCESS_URL, "success_url")
    equal(created.cancel_url, CANCEL_URL, "cancel_url")
    true(created.expires_at > created.created, "expires after it was created")
    true(urlsplit(created.url).path.startswith("/c/"), created.url)
    ok("create a session with nested line_items, metadata and customer_email")
    equal(plain(created.metadata), {"order": "42", "colour": "ünï & co", "keep": "yes"}, "metadata")
    ok("metadata comes back as it was sent")
    true(created.last_response.request_id.startswith("req_"), "Request-Id")
    equal(created.last_response.code, 200, "HTTP status")
    equal(created.last_response.headers["stripe-version"], stripe.api_version, "Stripe-Version")
    ok("the answer carries Request-Id and echoes Stripe-Version")

    equal(created.line_items.object, "list", "line_items.object")
    equal(created.line_items.has_more, False, "line_items.has_more")
    equal(len(created.line_items.data), 2, "number of line items")
    coffee, shipping = created.line_items.data
    assert_shape(coffee, "item")
    true(coffee.id.startswith("li_"), coffee.id)
    equal(coffee.description, "Café crème, 250 g", "description")
    equal((coffee.quantity, coffee.amount_total, coffee.price.unit_amount), (2, 3998, 1999), "the first line")
    equal(str(coffee.price.unit_amount_decimal), "1999", "unit_amount_decimal")
    true(isinstance(coffee.price.product, str), "the product is an id unless expanded")
    equal(shipping.amount_total, 490, "the second line")
    ok("expand[]=line_items on create")

    read = sessions.retrieve(created.id)
    assert_shape(read, "checkout.session")
    equal((read.id, read.url), (created.id, created.url), "id and url")
    true("line_items" not in read, "line_items only on request")
    ok("retrieve, without line_items unless asked for")
    expanded = sessions.retrieve(created.id, {"expand": ["line_items"]})
    equal([item.id for item in expanded.line_items.data], [coffee.id, shipping.id], "expanded line items")
    ok("retrieve with expand[]=line_items")
    seen = [item.id for item in sessions.line_items.list(created.id, {"limit": 1}).auto_paging_iter()]
    equal(seen, [coffee.id, shipping.id], "line items page by page")
    ok("line_items.list pages through every line once, in order")

    changed = sessions.update(created.id, {"metadata": {"order": "43", "added": "x"}})
    equal(plain(changed.metadata), {"order": "43", "colour": "ünï & co", "keep": "yes", "added": "x"}, "metadata")
    ok("update sets and adds metadata, keeps the rest")
    changed = sessions.update(created.id, {"metadata": {"colour": ""}})
    equal(plain(changed.metadata), {"order": "43", "keep": "yes", "added": "x"}, "metadata")
    ok("update deletes one key of metadata")
    changed = sessions.update(created.id, {"metadata": ""})
    equal(plain(changed.metadata), {}, "metadata")
    equal(plain(sessions.retrieve(created.id).metadata), {}, "metadata read again")
    ok("update clears metadata")


def plain_amount_is_one_line():
    gateway = stripe.StripeClient(KEY, base_addresses={"api": BASE})
    answer = gateway.raw_request(
        "post",
        "/v1/checkout/sessions",
        mode="payment",
        amount=1234,
        currency="usd",
        success_url=SUCCESS_URL,
        cancel_url=CANCEL_URL,
        expand=["line_items"],
    )
    created = gateway.deserialize(answer, api_mode="V1")
    true(isinstance(created, stripe.checkout.Session), "the answer is a Session to the SDK")
    assert_shape(created, "checkout.session")
    equal((created.amount_total, created.currency), (1234, "usd"), "amount and currency")
    equal([(item.quantity, item.amount_total) for item in created.line_items.data], [(1, 1234)], "its line")
    ok("amount and currency without line items make one line")


def sessions_are_listed():
    made = [sessions.create(cart(metadata={"n": str(n)})) for n in range(5)]
    newest_first = [session.id for session in reversed(made)]
    since = {"gte": made[0].created}

    seen = [session.id for session in sessions.list({"limit": 2, "created": since}).auto_paging_iter()]
    equal(len(set(seen)), len(seen), "sessions that auto-pagination gave twice")
    equal([id for id in seen if id in newest_first], newest_first, "the five sessions, newest first")
    ok("auto-pagination with limit 2 gives 5 sessions once each, newest first")

    page = sessions.list({"limit": 2})
    equal((page.object, len(page.data), page.has_more, page.url), ("list", 2, True, "/v1/checkout/sessions"), "page")
    following = sessions.list({"limit": 2, "starting_after": page.data[1].id})
    back = sessions.list({"limit": 2, "ending_before": following.data[0].id})
    equal([session.id for session in back.data], [session.id for session in page.data], "there and back")
    ok("starting_after and ending_before walk there and back")
    with_items = sessions.list({"limit": 1, "expand": ["data.line_items"]})
    equal(with_items.data[0].line_items.object, "list", "expanded in a list")
    ok("expand[]=data.line_items in a list")
    refused(lambda: sessions.list({"limit": 101}), stripe.InvalidRequestError, param="limit", http_status=400)
    ok("a limit above 100 is refused")

    expired = sessions.expire(made[2].id)
    assert_shape(expired, "checkout.session")
    equal((expired.status, expired.payment_status, expired.url), ("expired", "unpaid", None), "the expired session")
    ok("expire: status expired, no url any more")
    refused(lambda: sessions.expire(made[2].id), stripe.InvalidRequestError, http_status=400)
    ok("expire only from open")

    still_open = sessions.list({"status": "open", "limit": 100, "created": since}).data
    true(all(session.status == "open" for session in still_open), "only open sessions")
    ids = [session.id for session in still_open]
    true(made[4].id in ids and made[2].id not in ids, "the right open sessions")
    gone = sessions.list({"status": "expired", "limit": 100, "created": since}).data
    true(all(session.status == "expired" for session in gone), "only expired sessions")
    true(made[2].id in [session.id for session in gone], "the right expired session")
    ok("list by status")
    return made[4].id, made[2].id


def events_tell_the_story(open_id, expired_id):
    types = ["checkout.session.created", "checkout.session.expired"]
    found = api.events.list({"types": types, "limit": 100})
    equal((found.object, found.url), ("list", "/v1/events"), "the list of events")
    true(all(event.type in types for event in found.data), "only the types asked for")

    def about(kind, session_id):
        matches = [event for event in found.data if event.type == kind and event.data.object.id == session_id]
        true(matches, f"no {kind} for {session_id}")
        return matches[0]

    about("checkout.session.created", open_id)
    event = about("checkout.session.expired", expired_id)
    ok("events.list with types[] finds created and expired")
    assert_shape(event, "event")
    true(event.id.startswith("evt_"), event.id)
    equal(event.livemode, False, "livemode")
    assert_shape(event.data.object, "checkout.session")
    equal(event.data.object.status, "expired", "status in the event")
    equal(about("checkout.session.created", expired_id).data.object.status, "open", "status in the earlier event")
    ok("an event holds the object as it was then")
    one = api.events.retrieve(event.id)
    equal((one.type, one.data.object.id), ("checkout.session.expired", expired_id), "the event")
    ok("events.retrieve")
    by_type = api.events.list({"type": "checkout.session.expired", "limit": 1})
    equal(by_type.data[0].type, "checkout.session.expired", "type")
    ok("events.list with type")


def webhook_endpoints_are_managed():
    endpoints = api.webhook_endpoints
    created = endpoints.create(
        {
            "url": WEBHOOK_URL,
            "enabled_events": ["charge.refunded"],
            "description": "the shop’s ear",
            "metadata": {"team": "a"},
        }
    )
    assert_shape(created, "webhook_endpoint")
    true(created.id.startswith("we_"), created.id)
    true(re.fullmatch(r"whsec_[A-Za-z0-9+/]+=*", created.secret), "the secret's form")
    equal((created.status, created.url), ("enabled", WEBHOOK_URL), "status and url")
    ok("webhook_endpoints.create shows the secret")
    read = endpoints.retrieve(created.id)
    assert_shape(read, "webhook_endpoint")
    true(getattr(read, "secret", None) is None, "a secret is shown only once")
    equal(list(read.enabled_events), ["charge.refunded"], "enabled_events")
    equal((read.description, plain(read.metadata)), ("the shop’s ear", {"team": "a"}), "description and metadata")
    ok("webhook_endpoints.retrieve does not show the secret again")
    updated = endpoints.update(
        created.id,
        {"disabled": True, "enabled_events": ["checkout.session.completed", "checkout.session.expired"]},
    )
    equal(updated.status, "disabled", "status")
    equal(sorted(updated.enabled_events), ["checkout.session.completed", "checkout.session.expired"], "events")
    ok("webhook_endpoints.update disables it and changes its events")
    ids = [endpoint.id for endpoint in endpoints.list({"limit": 1}).auto_paging_iter()]
    equal(ids.count(created.id), 1, "times that the endpoint is listed")
    ok("webhook_endpoints.list pages")
    deleted = endpoints.delete(created.id)
    equal((deleted.id, deleted.object, deleted.deleted), (created.id, "webhook_endpoint", True), "the deleted one")
    refused(
        lambda: endpoints.retrieve(created.id),
        stripe.InvalidRequestError,
        code="resource_missing",
        http_status=404,
    )
    ok("webhook_endpoints.delete")


def play(session_id, what, **params):
    """Plays payer, bank or time at a session of test mode, and gives the session afterwards."""
    gateway = stripe.StripeClient(KEY, base_addresses={"api": BASE})
    answer = gateway.raw_request("post", f"/v1/test_helpers/checkout/sessions/{session_id}/{what}", **params)
    return gateway.deserialize(answer, api_mode="V1")


def paid(card="visa", **params):
    """A session that was paid without a browser."""
    session = sessions.create(cart(**params))
    return play(session.id, "complete", card=card, expand=["payment_intent.latest_charge"])


def payments_are_read_captured_and_canceled():
    session = paid(payment_intent_data={"description": "Order 7", "metadata": {"order": "7"}})
    true(isinstance(session, stripe.checkout.Session), "the answer is a Session to the SDK")
    assert_shape(session, "checkout.session")
    equal((session.status, session.payment_status), ("complete", "paid"), "a paid session")
    assert_shape(session.payment_intent, "payment_intent")
    assert_shape(session.payment_intent.latest_charge, "charge")
    ok("a test pays a session by raw_request, without a browser")

    intent = api.payment_intents.retrieve(session.payment_intent.id, {"expand": ["latest_charge"]})
    assert_shape(intent, "payment_intent")
    assert_shape(intent.latest_charge, "charge")
    equal((intent.status, intent.amount_received), ("succeeded", CART_TOTAL_MINOR), "a payment")
    equal(api.payment_intents.retrieve(intent.id).latest_charge, intent.latest_charge.id, "its charge's id")
    ok("payment_intents.retrieve with and without expand[]=latest_charge")
    updated = api.payment_intents.update(intent.id, {"metadata": {"order": "8"}, "description": "Order 8"})
    equal((updated.description, updated.metadata["order"]), ("Order 8", "8"), "an updated payment")
    ok("payment_intents.update")

    manual = {"capture_method": "manual"}
    reserved = paid(payment_intent_data=manual)
    equal(reserved.payment_status, "unpaid", "reserved money is not paid")
    reserved = reserved.payment_intent
    equal((reserved.status, reserved.amount_capturable), ("requires_capture", CART_TOTAL_MINOR), "reserved money")
    invalid = stripe.InvalidRequestError
    refused(
        lambda: api.payment_intents.capture(reserved.id, {"amount_to_capture": CART_TOTAL_MINOR + 1}),
        invalid,
        code="amount_too_large",
        param="amount_to_capture",
        http_status=400,
    )
    captured = api.payment_intents.capture(reserved.id, {"amount_to_capture": 1000})
    assert_shape(captured, "payment_intent")
    equal((captured.status, captured.amount_received, captured.amount_capturable), ("succeeded", 1000, 0), "captured")
    refused(lambda: api.payment_intents.capture(captured.id), invalid, code="charge_already_captured")
    ok("payment_intents.capture takes a part, once")

    dropped = paid(payment_intent_data=manual).payment_intent
    canceled = api.payment_intents.cancel(dropped.id, {"cancellation_reason": "requested_by_customer"})
    assert_shape(canceled, "payment_intent")
    equal((canceled.status, canceled.cancellation_reason), ("canceled", "requested_by_customer"), "canceled")
    true(isinstance(canceled.canceled_at, int), "when")
    refused(lambda: api.payment_intents.cancel(intent.id), invalid, code="payment_intent_unexpected_state")
    ok("payment_intents.cancel lets reserved money go, and taken money not")

    listed = api.payment_intents.list(
        {"limit": 2, "created": {"gte": intent.created}, "expand": ["data.latest_charge"]}
    )
    seen = []
    for one in listed.auto_paging_iter():
        assert_shape(one.latest_charge, "charge")
        seen.append(one.id)
    mine = [canceled.id, captured.id, intent.id]
    equal([one for one in seen if one in mine], mine, "the list of payments")
    ok("payment_intents.list pages, with expand[]=data.latest_charge")
    return intent.id, intent.latest_charge.id


def charges_and_refunds_are_made_and_read(intent_id, charge_id):
    invalid = stripe.InvalidRequestError
    left = sessions.create(cart())
    declined = refused(
        lambda: play(left.id, "complete", card="insufficient_funds"),
        stripe.CardError,
        code="card_declined",
        http_status=402,
    )
    equal(declined.error.decline_code, "insufficient_funds", "why")
    failing = play(left.id, "decline", decline_code="expired_card", expand=["payment_intent"]).payment_intent
    assert_shape(failing, "payment_intent")
    equal(failing.last_payment_error.code, "expired_card", "the last error")
    tries = api.charges.list({"payment_intent": failing.id}).data
    equal([charge.failure_code for charge in tries], ["expired_card", "card_declined"], "every try")
    for charge in tries:
        assert_shape(charge, "charge")
    ok("charges.list shows every try, the refused ones too")
    asked = paid(card="three_d_secure_required")
    equal(asked.payment_intent.status, "requires_action", "a bank asks")
    assert_shape(asked.payment_intent, "payment_intent")
    approved = play(asked.id, "authenticate", result="approve", expand=["payment_intent.latest_charge"])
    equal(approved.status, "complete", "approved")
    assert_shape(approved.payment_intent.latest_charge, "charge")
    ok("a test answers the bank")

    charge = api.charges.retrieve(charge_id)
    assert_shape(charge, "charge")
    equal((charge.amount_captured, charge.refunded, charge.paid), (CART_TOTAL_MINOR, False, True), "a charge")
    ok("charges.retrieve")
    part = api.refunds.create({"payment_intent": intent_id, "amount": 500, "metadata": {"why": "late"}})
    assert_shape(part, "refund")
    equal((part.status, part.amount, part.charge), ("succeeded", 500, charge_id), "a refund")
    equal(api.refunds.retrieve(part.id).metadata["why"], "late", "its metadata")
    equal(plain(api.refunds.update(part.id, {"metadata": {"why": ""}}).metadata), {}, "metadata deleted")
    refused(
        lambda: api.refunds.create({"charge": charge_id, "amount": CART_TOTAL_MINOR}),
        invalid,
        code="amount_too_large",
        param="amount",
        http_status=400,
    )
    rest = api.refunds.create({"charge": charge_id, "reason": "requested_by_customer"})
    equal(rest.amount, CART_TOTAL_MINOR - 500, "the rest")
    after = api.charges.retrieve(charge_id)
    equal((after.amount_refunded, after.refunded), (CART_TOTAL_MINOR, True), "all is back")
    refused(lambda: api.refunds.create({"charge": charge_id}), invalid, code="charge_already_refunded")
    listed = api.refunds.list({"charge": charge_id}).data
    equal([refund.id for refund in listed], [rest.id, part.id], "the list of refunds")
    ok("refunds in parts, never more than was taken")
    equal(play(left.id, "expire").status, "expired", "out of time")
    ok("a test lets a session run out of time")


def customers_and_their_cards_are_managed():
    made = api.customers.create(
        {
            "email": "grace@shop.example",
            "name": "Grace Hopper",
            "address": {"line1": "1 Navy Way", "city": "Arlington", "country": "US"},
            "metadata": {"tier": "gold"},
        }
    )
    assert_shape(made, "customer")
    equal(made.address.city, "Arlington", "the city")
    equal(plain(api.customers.retrieve(made.id)), plain(made), "the customer read back")
    ok("customers.create and retrieve")
    changed = api.customers.update(made.id, {"name": "Admiral", "address": "", "metadata": {"tier": ""}})
    equal((changed.name, changed.address, plain(changed.metadata)), ("Admiral", None, {}), "what was changed")
    ok("customers.update")
    found = api.customers.list({"email": "grace@shop.example"})
    equal([customer.id for customer in found.data], [made.id], "the customers of an address")
    ok("customers.list by email")
    session = sessions.create(
        cart(
            customer=made.id,
            payment_intent_data={"setup_future_usage": "on_session"},
            saved_payment_method_options={"allow_redisplay_filters": ["always", "limited"]},
        )
    )
    equal(session.customer, made.id, "the session's customer")
    listed = sessions.list({"customer": made.id})
    equal([one.id for one in listed.data], [session.id], "the sessions of a customer")
    ok("a session for a customer")
    equal(api.customers.payment_methods.list(made.id).data, [], "no card is kept yet")
    true(api.customers.delete(made.id).deleted, "deleted")
    true(api.customers.retrieve(made.id).deleted, "a deleted customer says so")
    refused(
        lambda: sessions.create(cart(customer=made.id)),
        stripe.InvalidRequestError,
        code="resource_missing",
        param="customer",
        http_status=400,
    )
    ok("customers.delete")
    with_card = os.environ.get("CHECKSTAND_CUSTOMER")
    if not with_card:
        return
    methods = api.customers.payment_methods.list(with_card, {"type": "card"})
    equal(len(methods.data), 1, "kept cards")
    method = methods.data[0]
    assert_shape(method, "payment_method")
    equal((method.card.last4, method.customer), ("4242", with_card), "the kept card")
    equal(plain(api.payment_methods.retrieve(method.id)), plain(method), "the card read back")
    again = api.payment_methods.list({"customer": with_card})
    equal([one.id for one in again.data], [method.id], "the same list")
    ok("customers.payment_methods.list, payment_methods.retrieve and list")
    noted = api.payment_methods.update(method.id, {"allow_redisplay": "limited", "metadata": {"note": "x"}})
    equal((noted.allow_redisplay, plain(noted.metadata)), ("limited", {"note": "x"}), "what was noted")
    equal(api.payment_methods.detach(method.id).customer, None, "the detached card's customer")
    equal(api.customers.payment_methods.list(with_card).data, [], "no card is kept any more")
    ok("payment_methods.update and detach")


def a_repeated_request_is_done_once():
    options = {"idempotency_key": f"story-{uuid.uuid4()}"}
    params = cart(metadata={"once": "yes"})
    first = sessions.create(params, options)
    true("idempotent-replayed" not in first.last_response.headers, "the first answer is no replay")
    equal(first.last_response.headers["idempotency-key"], options["idempotency_key"], "the key that is echoed")
    second = sessions.create(params, options)
    equal(plain(second), plain(first), "the replayed answer")
    equal(second.last_response.headers["idempotent-replayed"], "true", "Idempotent-Replayed")
    ok("the same key and parameters replay the first answer")
    error = refused(
        lambda: sessions.create(cart(metadata={"once": "no"}), options), stripe.IdempotencyError, http_status=400
    )
    expected = "Keys for idempotent requests can only be used with the same parameters"
    true(error.user_message.startswith(expected), error.user_message)
    ok("the same key with other parameters is an idempotency error")
    refused(lambda: sessions.expire(first.id, None, options), stripe.IdempotencyError)
    ok("the same key at another endpoint is an idempotency error")
    options = {"idempotency_key": f"story-{uuid.uuid4()}"}
    refused(lambda: sessions.create(cart(frobnicate="1"), options), stripe.InvalidRequestError)
    true(sessions.create(cart(), options).id.startswith("cs_test_"), "the key can still be used")
    ok("a validation failure does not use the key up")


def refusals_have_their_classes():
    invalid = stripe.InvalidRequestError
    tea = {"name": "Tea"}

    def create(params):
        return lambda: sessions.create(params)

    def line(price_data, quantity=1):
        return [{"price_data": price_data, "quantity": quantity}]

    refused(
        create(cart(line_items=line({"unit_amount": 100, "product_data": tea}))),
        invalid,
        code="parameter_missing",
        param="line_items[0][price_data][currency]",
        http_status=400,
    )
    nothing = refused(
        create({"mode": "payment", "success_url": SUCCESS_URL, "cancel_url": CANCEL_URL}),
        invalid,
        code="parameter_missing",
    )
    true(nothing.param, "a missing parameter is named")
    equal(nothing.error.type, "invalid_request_error", "type")
    ok("a missing parameter is named in bracket form")
    refused(create(cart(frobnicate="1")), invalid, code="parameter_unknown", param="frobnicate")
    refused(
        create(cart(line_items=line({"currency": "eur", "unit_amount": 1, "product_data": tea, "colour": "x"}))),
        invalid,
        code="parameter_unknown",
        param="line_items[0][price_data][colour]",
    )
    ok("an unknown parameter is refused, nested ones too")
    refused(
        create(cart(line_items=line({"currency": "eur", "unit_amount": 100, "product_data": tea}, "two"))),
        invalid,
        code="parameter_invalid_integer",
        param="line_items[0][quantity]",
    )
    ok("a word where a number belongs is refused")
    refused(
        create(cart(success_url="https://evil.example/paid")),
        invalid,
        code="redirect_url_not_allowed",
        param="success_url",
        http_status=400,
    )
    ok("a redirect URL off the allow-list is refused")
    for missing in ["cs_test_doesnotexist", "cs_test_a1B2c3D4e5F6g7H8i9J0", "pi_notasession"]:
        refused(lambda: sessions.retrieve(missing), invalid, code="resource_missing", http_status=404)
    refused(lambda: api.events.retrieve("evt_doesnotexist"), invalid, code="resource_missing", http_status=404)
    ok("what does not exist is resource_missing, 404")
    gateway = stripe.StripeClient(KEY, base_addresses={"api": BASE})
    lost = refused(lambda: gateway.raw_request("get", "/v1/nonsense"), invalid, http_status=404)
    true(lost.user_message.startswith("Unrecognized request URL (GET: /v1/nonsense)"), lost.user_message)
    ok("an unknown route is an error the SDK understands")
    almost = KEY[:-1] + ("y" if KEY.endswith("x") else "x")
    for wrong in ["sk_test_notakeyofthisserver", almost]:
        refused(lambda: client(wrong).checkout.sessions.list(), stripe.AuthenticationError, http_status=401)
    ok("a wrong key is an authentication error")


def tell(name, run, *arguments):
    global story
    story = name
    return run(*arguments)


def give_up():
    print(f'FAILED in "{story}": no end after {WHOLE_RUN_TIMEOUT_S} s', file=sys.stderr, flush=True)
    os._exit(1)


def main():
    watchdog = threading.Timer(WHOLE_RUN_TIMEOUT_S, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        tell("sessions are created, read and updated", sessions_are_created_read_and_updated)
        tell("a plain amount is one line", plain_amount_is_one_line)
        open_id, expired_id = tell("sessions are listed", sessions_are_listed)
        tell("events tell the story", events_tell_the_story, open_id, expired_id)
        tell("webhook endpoints are managed", webhook_endpoints_are_managed)
        payment = tell("payments are read, captured and canceled", payments_are_read_captured_and_canceled)
        tell("charges and refunds are made and read", charges_and_refunds_are_made_and_read, *payment)
        tell("customers and their cards are managed", customers_and_their_cards_are_managed)
        tell("a repeated request is done once", a_repeated_request_is_done_once)
        tell("refusals have their classes", refusals_have_their_classes)
    except Exception as error:
        print(f'FAILED in "{story}" after {checks} checks: {error}', file=sys.stderr)
        if getattr(error, "http_body", None):
            print(f"the server answered: {error.http_body}", file=sys.stderr)
        traceback.print_exc()
        return 1
    finally:
        watchdog.cancel()
    print(json.dumps({"ok": True, "sdk": f"stripe-python {stripe.VERSION}", "checks": checks}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
