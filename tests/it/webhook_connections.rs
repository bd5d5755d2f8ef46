//! Connections to receivers: few, kept, over HTTP/2 where the receiver speaks it; and one answer, one farewell or one dead
//! connection costs nobody but itself.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::merchant::Merchant;
use crate::tls_receiver::{Authority, Manner, Seen, TlsReceiver};
use crate::world::{World, WorldOptions};

const OWED: &str = "select count(*) from delivery";
const ATTEMPTS_MAX: &str = "select max(attempt)::int8 from delivery_attempt";

/// Deliveries at once to one endpoint, unless the operator says otherwise.
const PLACES: usize = 16;

/// Lets every answer go.
const ALL: usize = 10_000;

async fn register(merchant: &Merchant, url: &str) -> Value {
    merchant.post("/v1/webhook_endpoints", &[("url", url), ("enabled_events[]", "*")]).await.ok()
}

/// A merchant whose endpoint is this one.
async fn telling(protocols: &[&str], manner: Manner) -> (World, Merchant, TlsReceiver) {
    let authority = Authority::new();
    let receiver = TlsReceiver::start(authority.tls("localhost", protocols, |_| {}), manner).await;
    let world = World::with(WorldOptions { settings: vec![authority.setting()], ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    register(&merchant, &receiver.url("localhost")).await;
    (world, merchant, receiver)
}

async fn sessions(merchant: &Merchant, count: usize) {
    futures_util::future::join_all((0..count).map(|_| merchant.session())).await;
}

fn events(seen: &Seen) -> BTreeSet<&str> {
    seen.requests.iter().map(|(event, _)| event.as_str()).collect()
}

#[tokio::test]
async fn fifty_deliveries_share_few_connections_over_http_2_and_over_http_1_1() {
    const SESSIONS: usize = 50;
    for (offered, spoken) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"], "http/1.1"), (&[], "")] {
        let (world, merchant, receiver) = telling(offered, Manner::Good).await;
        receiver.answer(1);
        merchant.session().await;
        world.count_becomes("select count(*) from delivery_attempt", 1).await;
        // As many as may be under way at once are held, then all may go.
        sessions(&merchant, SESSIONS - 1).await;
        receiver.sees("a full house", |seen| seen.requests.len() == 1 + PLACES).await;
        receiver.answer(ALL);
        world.count_becomes(OWED, 0).await;
        let seen = receiver.seen();
        assert_eq!((seen.requests.len(), events(&seen).len()), (SESSIONS, SESSIONS), "{spoken}");
        assert!(seen.connections.iter().all(|protocol| protocol == spoken), "{spoken}: {:?}", seen.connections);
        assert!(seen.connections.len() <= 1 + PLACES, "{spoken}: {} connections", seen.connections.len());
        if spoken == "h2" {
            assert!(seen.at_once_max > 1, "each request had a connection of its own");
        }
        assert_eq!((world.count(ATTEMPTS_MAX).await, seen.refused, seen.resets), (1, 0, 0), "{spoken}");
        world.end().await;
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_stalls_no_other_stream_and_is_taken_back() {
    let (world, merchant, receiver) = telling(&["h2"], Manner::FirstHangs).await;
    merchant.session().await;
    receiver.sees("the first request", |seen| seen.requests.len() == 1).await;
    sessions(&merchant, 20).await;
    let seen = receiver.sees("all others", |seen| events(seen).len() == 21).await;
    world.count_becomes("select count(*) from delivery_attempt where outcome = 'delivered'", 20).await;
    assert_eq!(receiver.seen().resets, 0, "the others waited until the first was given up");
    assert!(seen.requests.iter().skip(1).any(|(_, place)| *place == 0), "they went over other connections");
    // Then its stream is reset; the connection was good and is not torn down for it.
    receiver.sees("the reset", |seen| seen.resets == 1).await;
    let log = merchant.attempts_of(&seen.requests[0].0, 1).await;
    let error = log["attempts"][0]["error"].as_str().expect("it failed");
    assert_eq!(error, "no answer was begun within 12 s");
    world.end().await;
}

#[tokio::test]
async fn an_answer_without_end_is_read_to_a_bound_and_its_stream_is_taken_back() {
    let (world, merchant, receiver) = telling(&["h2"], Manner::Endless).await;
    const SESSIONS: usize = 30;
    sessions(&merchant, SESSIONS).await;
    world.count_becomes(OWED, 0).await;
    let seen = receiver.sees("the resets", |seen| seen.resets == SESSIONS).await;
    // The status counted, and of each body no more was taken than a window or two.
    assert_eq!(world.count(ATTEMPTS_MAX).await, 1);
    assert!(seen.written < (SESSIONS * 512 * 1024) as u64, "{} bytes were taken", seen.written);
    assert!(seen.at_once_max > 1 && seen.connections.len() <= PLACES, "{} connections", seen.connections.len());
    world.end().await;
}

#[tokio::test]
async fn after_a_farewell_deliveries_go_over_a_new_connection_and_none_fails() {
    let (world, merchant, receiver) = telling(&["h2"], Manner::GoesAway).await;
    const SESSIONS: usize = 40;
    sessions(&merchant, SESSIONS).await;
    world.count_becomes(OWED, 0).await;
    let seen = receiver.seen();
    assert_eq!((events(&seen).len(), world.count(ATTEMPTS_MAX).await), (SESSIONS, 1), "a farewell cost an attempt");
    assert!(seen.connections.len() > 1, "no connection was new");
    world.end().await;
}

#[tokio::test]
async fn a_dead_connection_is_noticed_before_its_attempts_run_out_of_time() {
    let (world, merchant, receiver) = telling(&["h2"], Manner::FallsSilent).await;
    // The second request of a connection is the one that nobody takes in; after a pause there is a new connection.
    let mut told = 0;
    let event = loop {
        let session = merchant.session().await;
        told += 1;
        let seen = receiver.sees("a delivery or silence", |seen| seen.is_silent || seen.requests.len() == told).await;
        if seen.is_silent {
            let list =
                merchant.get(&format!("/v1/events?related_object={}", session["id"].as_str().expect("an id"))).await;
            break list.ok()["data"][0]["id"].as_str().expect("an event").to_owned();
        }
        world.count_becomes(OWED, 0).await;
    };
    let log = merchant.attempts_of(&event, 1).await;
    let error = log["attempts"][0]["error"].as_str().expect("it failed");
    assert_eq!(error, "the connection timed out", "it was not noticed");
    world.advance(chrono::Duration::minutes(2));
    world.count_becomes(OWED, 0).await;
    let seen = receiver.seen();
    assert!(seen.connections.len() > 1 && events(&seen).contains(event.as_str()), "{seen:?}");
    world.end().await;
}

#[tokio::test]
async fn a_bad_certificate_is_a_failed_attempt_and_nothing_is_sent() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let world = World::with(WorldOptions { settings: vec![authority.setting()], ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let both = &["h2", "http/1.1"];
    let expired = authority.tls("localhost", both, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let early = authority.tls("localhost", both, |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    for (tls, says) in [
        (Authority::self_signed("localhost"), "invalid peer certificate"),
        (stranger.tls("localhost", both, |_| {}), "invalid peer certificate"),
        (authority.tls("shop.example", both, |_| {}), "not valid for name"),
        (expired, "expired"),
        (early, "not valid yet"),
    ] {
        let receiver = TlsReceiver::start(tls, Manner::Good).await;
        receiver.answer(ALL);
        let endpoint = register(&merchant, &receiver.url("localhost")).await;
        let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().expect("an id"));
        let tested = merchant.post(&format!("{path}/test"), &[]).await.ok();
        let error = tested["error"].as_str().expect("it failed");
        assert!(error.starts_with("no connection: ") && error.contains(says), "{error}, and not: {says}");
        let seen = receiver.sees("a refused handshake", |seen| seen.refused + seen.closed > 0).await;
        assert!(seen.requests.is_empty(), "something was sent");
    }
    // Without the file nobody vouches for the authority either.
    let receiver = TlsReceiver::start(authority.tls("localhost", both, |_| {}), Manner::Good).await;
    receiver.answer(ALL);
    let endpoint = register(&merchant, &receiver.url("localhost")).await;
    let test = format!("/v1/webhook_endpoints/{}/test", endpoint["id"].as_str().expect("an id"));
    assert_eq!(merchant.post(&test, &[]).await.ok()["delivered"], true);
    world.end().await;
}
