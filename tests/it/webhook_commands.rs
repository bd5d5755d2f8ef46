//! What operators do to endpoints and events from the command line: the same as over the API, by the same rules,
//! and a running gateway goes by it at once or within the seconds for which it remembers an endpoint.

use serde_json::Value;

use crate::merchant::Merchant;
use crate::program::Program;
use crate::receiver::{Delivery, Receiver};
use crate::world::{World, eventually};

const CREATED: &str = "checkout.session.created";

/// A value that stands in no argument.
const TOKEN: &str = "shop-token-6f1d";

struct Operator<'w> {
    world: &'w World,
    merchant: &'w Merchant,
}

impl Operator<'_> {
    /// Runs `checkstand endpoint …` or `checkstand event …` for the merchant; whether all went well, and what it printed.
    async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut variables = self.world.variables().await;
        variables.push(("SHOP_TOKEN".to_owned(), TOKEN.to_owned()));
        let all = [arguments, &["--merchant", &self.merchant.id]].concat();
        Program::start(&all, &variables).ended().await
    }

    async fn tells(&self, arguments: &[&str]) -> Value {
        let (ended_well, printed) = self.run(&[arguments, &["--json"]].concat()).await;
        assert!(ended_well, "{arguments:?}: {printed}");
        assert!(!printed.contains(TOKEN), "{printed}");
        serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{arguments:?} printed no JSON: {printed}"))
    }

    async fn is_refused(&self, arguments: &[&str], words: &str) {
        let (ended_well, printed) = self.run(arguments).await;
        assert!(!ended_well && printed.contains(words), "{arguments:?}: {printed}");
        assert!(!printed.contains(TOKEN), "{printed}");
    }
}

async fn next_delivery(merchant: &Merchant, receiver: &Receiver) -> Delivery {
    let session = merchant.session().await;
    let of_it = |all: &[Delivery]| all.iter().find(|one| session["id"] == one.object_id()).cloned();
    let arrived = receiver.wait_until("a session's event", move |all| of_it(all).is_some()).await;
    arrived.into_iter().find(|one| session["id"] == one.object_id()).expect("it was waited for")
}

/// Sends sessions until a delivery is as it should be: the gateway looks an endpoint up anew every other second.
async fn soon(merchant: &Merchant, receiver: &Receiver, what: &str, condition: impl Fn(&Delivery) -> bool) {
    eventually(what, async || condition(&next_delivery(merchant, receiver).await).then_some(())).await;
}

#[tokio::test]
async fn an_operator_makes_changes_rotates_tests_and_deletes_an_endpoint_from_the_command_line() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let operator = Operator { world: &world, merchant: &merchant };
    let mut receiver = Receiver::start().await;

    let made = operator
        .tells(&[
            "endpoint",
            "create",
            "--url",
            &receiver.url,
            "--events",
            "checkout.session.*",
            "--events-per-second",
            "500",
            "--header-from-env",
            "x-shop=SHOP_TOKEN",
        ])
        .await;
    receiver.secret = made["secret"].as_str().expect("the secret is shown once").to_owned();
    let id = made["id"].as_str().expect("an id");
    let delivery = next_delivery(&merchant, &receiver).await;
    receiver.believes(&delivery, world.app().clock.now());
    assert_eq!(delivery.headers["x-shop"], TOKEN);

    let changed = operator
        .tells(&[
            "endpoint",
            "update",
            id,
            "--description",
            "The shop",
            "--events",
            "checkout.session.created,charge.*",
            "--events-per-second",
            "none",
            "--concurrency",
            "2",
            "--ordered",
            "--ed25519",
            "--remove-header",
            "x-shop",
        ])
        .await;
    let expected = serde_json::json!({
        "description": "The shop", "enabled_events": [CREATED, "charge.*"], "events_per_second": null, "concurrency": 2,
        "ordered": true, "custom_header_names": [], "url": receiver.url
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&changed[name], value, "{name}");
    }
    assert_eq!((changed.get("secret"), changed["public_key"].is_string()), (None, true));
    soon(&merchant, &receiver, "the new settings", |delivery| {
        !delivery.headers.contains_key("x-shop") && delivery.headers["webhook-signature"].contains(" v1a,")
    })
    .await;
    let changed = operator.tells(&["endpoint", "update", id, "--ordered=false", "--ed25519=false"]).await;
    assert_eq!((&changed["ordered"], &changed["public_key"]), (&false.into(), &Value::Null));
    assert_eq!(&changed["concurrency"], 2, "what is not named stays");

    let rotated = operator.tells(&["endpoint", "rotate", id, "--overlap-hours", "2"]).await;
    assert_ne!(rotated["secret"], made["secret"]);
    soon(&merchant, &receiver, "both signatures", |delivery| {
        delivery.headers["stripe-signature"].matches(",v1=").count() == 2
    })
    .await;

    assert_eq!(operator.tells(&["endpoint", "test", id]).await["delivered"], true);
    receiver.wait_for("webhook_endpoint.test").await;
    assert!(operator.tells(&["endpoint", "statistics", id]).await["attempts"].as_i64() > Some(2));
    receiver.answer_with(500);
    operator.is_refused(&["endpoint", "test", id], "did not take the test event").await;
    receiver.answer_with(200);

    assert_eq!(operator.tells(&["endpoint", "disable", id]).await["status"], "disabled");
    assert_eq!(operator.tells(&["endpoint", "show", id]).await["status"], "disabled");
    assert_eq!(operator.tells(&["endpoint", "enable", id]).await["status"], "enabled");
    assert_eq!(operator.tells(&["endpoint", "list"]).await["data"][0]["id"], id);
    assert_eq!(operator.tells(&["endpoint", "delete", id]).await["deleted"], true);
    operator.is_refused(&["endpoint", "show", id], "No such").await;
    world.end().await;
}

#[tokio::test]
async fn what_the_api_refuses_of_an_endpoint_the_command_line_refuses_too() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let operator = Operator { world: &world, merchant: &merchant };
    let receiver = world.receiver(&merchant).await;
    let before = operator.tells(&["endpoint", "show", &receiver.endpoint_id]).await;
    for (more, words) in [
        (&[][..], "say what to change"),
        (&["--url", "http://169.254.169.254/"], "not an IP address"),
        (&["--events", "checkout.session.complted"], "complted"),
        (&["--concurrency", "65"], "between 1 and 64"),
        (&["--events-per-second", "0"], "between 1 and 1000"),
        (&["--events-per-second", "many"], "a number, or none"),
        (&["--header-from-env", "x-shop=NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE"),
        (&["--header-from-env", "x-shop"], "environment variable"),
        (&["--header-from-env", "content-type=SHOP_TOKEN"], "content-type"),
    ] {
        operator.is_refused(&[&["endpoint", "update", &receiver.endpoint_id], more].concat(), words).await;
    }
    assert_eq!(operator.tells(&["endpoint", "show", &receiver.endpoint_id]).await, before);
    let stranger = world.merchant().await;
    let other = Operator { world: &world, merchant: &stranger };
    other.is_refused(&["endpoint", "update", &receiver.endpoint_id, "--ordered"], "No such").await;
    other.is_refused(&["endpoint", "rotate", &receiver.endpoint_id], "No such").await;
    world.end().await;
}

#[tokio::test]
async fn events_that_nobody_has_and_pages_behind_nothing_are_refused_on_the_command_line() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let operator = Operator { world: &world, merchant: &merchant };
    merchant.session().await;
    let event = merchant.event(CREATED).await;
    let from = (world.app().clock.now() - chrono::Duration::hours(1)).to_rfc3339();
    for (arguments, words) in [
        (
            &["event", "replay", "--from", &from, "--types", "checkout.session.complted"][..],
            "checkout.session.completed",
        ),
        (&["event", "list", "--type", "customer.creatd"], "customer.created"),
        (&["event", "list", "--after", "nonsense"], "not the id of an object in this list"),
        (
            &["event", "replays", "--after", event["id"].as_str().expect("an id")],
            "not the id of an object in this list",
        ),
        (&["session", "list", "--after", "cs_test_x"], "not the id of an object in this list"),
    ] {
        operator.is_refused(arguments, words).await;
    }
    assert_eq!(world.count("select count(*) from event_replay").await, 0);
    let all = operator.tells(&["event", "list", "--type", "*"]).await;
    assert_eq!(all["data"][0]["id"], event["id"]);
    let behind = operator.tells(&["event", "list", "--after", event["id"].as_str().expect("an id")]).await;
    assert_eq!(behind["data"], serde_json::json!([]));
    world.end().await;
}

#[tokio::test]
async fn an_operator_sends_one_event_or_a_range_again_from_the_command_line() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let operator = Operator { world: &world, merchant: &merchant };
    let [one, two] = [world.receiver(&merchant).await, world.receiver(&merchant).await];
    merchant.session().await;
    let first = one.wait_for(CREATED).await;
    two.wait_for(CREATED).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    let event = first.event_id();

    operator.tells(&["event", "resend", event, "--endpoint", &one.endpoint_id]).await;
    let again = one.wait_for_many(CREATED, 2).await;
    assert_eq!((again[1].event_id(), &again[1].body), (event, &first.body));
    operator.tells(&["event", "resend", event]).await;
    one.wait_for_many(CREATED, 3).await;
    two.wait_for_many(CREATED, 2).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!((one.deliveries().len(), two.deliveries().len()), (3, 2), "the first time was for one endpoint");
    let shown = operator.tells(&["event", "show", event]).await;
    assert_eq!(shown["deliveries"]["attempts"].as_array().expect("attempts").len(), 5);
    operator.is_refused(&["event", "resend", "evt_nothing"], "No such").await;
    let stranger = world.merchant().await;
    Operator { world: &world, merchant: &stranger }.is_refused(&["event", "resend", event], "No such").await;

    let from = (world.app().clock.now() - chrono::Duration::hours(1)).to_rfc3339();
    let range = ["event", "replay", "--from", &from, "--types", "checkout.session.*", "--endpoint", &two.endpoint_id];
    let replay = operator.tells(&range).await;
    two.wait_for_many(CREATED, 3).await;
    eventually("the replay's end", async || {
        let all = operator.tells(&["event", "replays"]).await;
        assert_eq!(all["data"][0]["id"], replay["id"]);
        (all["data"][0]["status"] == "completed").then_some(())
    })
    .await;
    assert_eq!(one.deliveries().len(), 3, "the replay was for one endpoint");
    world.end().await;
}
