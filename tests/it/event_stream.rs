//! Events on a developer's machine: the stream, `checkstand listen` behind it, and `checkstand trigger`.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::merchant::Merchant;
use crate::program::Program;
use crate::receiver::Receiver;
use crate::world::{World, eventually};

const STREAM: &str = "/v1/events/stream";

/// How long a story waits for the next event: a bound, not a measurement.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// A reader of the stream.
struct Reader {
    response: reqwest::Response,
    text: String,
}

impl Reader {
    async fn open(merchant: &Merchant, query: &str, last: Option<&str>) -> Self {
        let mut request = merchant.request(Method::GET, &format!("{STREAM}{query}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.expect("the gateway answers");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut reader = Self { response, text: String::new() };
        assert_eq!(reader.message().await, "retry: 1000");
        reader
    }

    /// The next message, whole.
    async fn message(&mut self) -> String {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let (message, rest) = (message.to_owned(), rest.to_owned());
                self.text = rest;
                return message;
            }
            let piece = tokio::time::timeout(WAIT_MAX, self.response.chunk()).await.expect("something comes");
            let piece = piece.expect("the stream holds").expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&piece).expect("text"));
        }
    }

    /// The next event: its id and its body.
    async fn event(&mut self) -> (String, String) {
        loop {
            let message = self.message().await;
            if message.starts_with(':') {
                continue;
            }
            let (id, data) = message.split_once('\n').expect("an id and data");
            let id = id.strip_prefix("id: ").expect("an id").to_owned();
            return (id, data.strip_prefix("data: ").expect("data").to_owned());
        }
    }

    async fn kind(&mut self) -> String {
        let (id, body) = self.event().await;
        let event: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(event["id"], id);
        event["type"].as_str().expect("a type").to_owned()
    }

    /// Waits until the gateway ends the stream.
    async fn end(mut self) {
        let reading = async { while let Ok(Some(_)) = self.response.chunk().await {} };
        tokio::time::timeout(WAIT_MAX, reading).await.expect("the stream ends");
    }
}

async fn expire(merchant: &Merchant, session: &Value) {
    let id = session["id"].as_str().expect("an id");
    merchant.post(&format!("/v1/checkout/sessions/{id}/expire"), &[]).await.ok();
}

#[tokio::test]
async fn a_stream_tells_what_happens_from_now_on_in_the_bytes_that_endpoints_get() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let before = merchant.session().await;
    let stranger = world.merchant().await;
    let live = world.in_live_mode(&merchant).await;
    let mut reader = Reader::open(&merchant, "", None).await;
    stranger.session().await;
    live.session().await;
    expire(&merchant, &before).await;
    let (id, body) = reader.event().await;
    let delivered = receiver.wait_for("checkout.session.expired").await;
    assert_eq!((id.as_str(), body.as_str()), (delivered.event_id(), delivered.body.as_str()));
    merchant.session().await;
    assert_eq!(reader.kind().await, "checkout.session.created");
    drop(reader);
    world.end().await;
}

#[tokio::test]
async fn a_stream_can_be_narrowed_and_resumed() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    expire(&merchant, &session).await;
    let created = merchant.event("checkout.session.created").await["id"].as_str().expect("an id").to_owned();
    // What came in the moments before may come again, what came after comes for certain.
    let mut reader = Reader::open(&merchant, "", Some(&created)).await;
    while reader.kind().await != "checkout.session.expired" {}
    let mut narrowed = Reader::open(&merchant, "?types[]=checkout.session.expired&types[]=charge.*", None).await;
    let second = merchant.session().await;
    expire(&merchant, &second).await;
    let (_, body) = narrowed.event().await;
    let event: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&event["type"], &event["data"]["object"]["id"]), (&"checkout.session.expired".into(), &second["id"]));
    let mut all = Reader::open(&merchant, "?types[]=charge.*&types[]=*", None).await;
    merchant.session().await;
    assert_eq!(all.kind().await, "checkout.session.created");
    drop((reader, narrowed, all));
    world.end().await;
}

#[tokio::test]
async fn an_event_that_is_committed_behind_a_later_one_is_not_left_out() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let mut reader = Reader::open(&merchant, "", None).await;
    merchant.session().await;
    let (id, body) = reader.event().await;
    // The same event once more with an id and a time of two seconds ago, as a slow transaction leaves it.
    let late = id.replace(&id[..14], &{
        let app = world.app();
        checkstand::domain::id::EventId::first_at(app.clock.now() - chrono::Duration::seconds(2)).as_str()[..14]
            .to_owned()
    });
    world
        .execute(&format!(
            "insert into event (id, created_at, merchant_id, livemode, type, object_id, body)
             select '{late}', created_at - interval '2 seconds', merchant_id, livemode, 'late.comer', object_id, body
             from event where id = '{id}'"
        ))
        .await;
    assert_eq!(reader.event().await, (late, body));
    world.end().await;
}

#[tokio::test]
async fn streams_need_a_key_are_few_and_end_with_it() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    assert_eq!(merchant.send(merchant.bare_request(Method::GET, STREAM)).await.status, 401);
    let wrong = merchant.request(Method::GET, STREAM).header("Last-Event-ID", "evt_x");
    merchant.send(wrong).await.refused_with(400, "parameter_invalid", "");
    merchant.get(&format!("{STREAM}?types[]=*&types[]=foo.*")).await.refused_with(400, "parameter_invalid", "types[1]");
    let mut readers = Vec::new();
    for _ in 0..8 {
        readers.push(Reader::open(&merchant, "", None).await);
    }
    merchant.get(STREAM).await.refused_with(429, "rate_limit", "");
    readers.pop();
    // A place is free again as soon as the gateway has seen that its reader is gone.
    let opened = eventually("a free place", async || {
        let response = merchant.request(Method::GET, STREAM).send().await.expect("the gateway answers");
        response.status().is_success().then_some(response)
    })
    .await;
    drop(opened);
    let other = world.another_key(&merchant, false, |_| {}).await;
    drop(readers);
    let reader = eventually("a free place", async || {
        let response = other.request(Method::GET, STREAM).send().await.expect("the gateway answers");
        response.status().is_success().then_some(Reader { response, text: String::new() })
    })
    .await;
    world.execute(&format!("update api_key set revoked_at = now() where id = '{}'", other.key_id)).await;
    reader.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_gateway_that_stops_ends_its_streams_in_order() {
    let mut world = World::without_worker().await;
    let merchant = world.merchant().await;
    let reader = Reader::open(&merchant, "", None).await;
    let ending = tokio::spawn(reader.end());
    world.replicas[0].stop().await;
    ending.await.expect("it ended");
    world.end().await;
}

fn key_of(merchant: &Merchant) -> Vec<(String, String)> {
    vec![
        ("CHECKSTAND_API_KEY".to_owned(), merchant.key.clone()),
        ("CHECKSTAND_API_URL".to_owned(), merchant.base.clone()),
    ]
}

#[tokio::test]
async fn listen_brings_events_to_a_local_program_with_signatures_of_its_own_secret() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let mut local = Receiver::start().await;
    let arguments = ["listen", "--forward-to", &local.url, "--events", "checkout.session.*,charge.refunded"];
    let mut listening = Program::start(&arguments, &key_of(&merchant));
    let line = listening.line_with("Signing secret: ").await;
    local.secret = line.split_once(": ").expect("a secret").1.to_owned();
    listening.line_with("Ready.").await;

    let triggered = Program::start(&["trigger", "charge.refunded"], &key_of(&merchant)).ended().await;
    assert!(triggered.0, "{}", triggered.1);
    for kind in ["checkout.session.created", "checkout.session.completed", "charge.refunded"] {
        let delivery = local.wait_for(kind).await;
        local.believes(&delivery, world.app().clock.now());
        listening.line_with(kind).await;
    }
    assert!(local.of_kind("charge.succeeded").is_empty(), "it was not asked for");
    listening.signal("INT").await;
    let (ended_well, printed) = listening.ended().await;
    assert!(ended_well && !printed.contains(&merchant.key), "{printed}");
    world.end().await;
}

#[tokio::test]
async fn listen_goes_on_where_it_was_when_the_gateway_comes_back() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let (gateway, base) = Program::serve(&world, &[]).await;
    let there = merchant.at(&base);
    let local = Receiver::start().await;
    let mut listening = Program::start(&["listen", "--forward-to", &local.url], &key_of(&there));
    listening.line_with("Ready.").await;
    let first = there.session().await;
    local.wait_for("checkout.session.created").await;
    gateway.kill().await;
    listening.line_with("trying again").await;
    // What happens meanwhile is made by another replica of the same service.
    expire(&merchant, &first).await;
    let port = base.rsplit(':').next().expect("a port");
    let (gateway, _) = Program::serve(&world, &[("CHECKSTAND_LISTEN", &format!("127.0.0.1:{port}"))]).await;
    local.wait_for("checkout.session.expired").await;
    assert_eq!(local.deliveries().len(), 2, "an event came twice");
    gateway.kill().await;
    world.end().await;
}

#[tokio::test]
async fn every_event_that_can_be_triggered_happens() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let (listed, names) = Program::start(&["trigger", "--list"], &[]).ended().await;
    assert!(listed && names.lines().count() >= 15, "{names}");
    for name in names.lines() {
        let known = receiver.of_kind(name).len();
        let (ended_well, printed) = Program::start(&["trigger", name], &key_of(&merchant)).ended().await;
        assert!(ended_well, "{name}: {printed}");
        receiver.wait_for_many(name, known + 1).await;
    }
    world.end().await;
}

#[tokio::test]
async fn live_keys_are_for_who_means_it() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let live = world.in_live_mode(&merchant).await;
    for arguments in [&["listen"][..], &["trigger", "checkout.session.created"]] {
        let (ended_well, printed) = Program::start(arguments, &key_of(&live)).ended().await;
        assert!(!ended_well && printed.contains("live key"), "{printed}");
    }
    let mut listening = Program::start(&["listen", "--live"], &key_of(&live));
    listening.line_with("(live mode)").await;
    listening.line_with("Ready.").await;
    let wrong = [("CHECKSTAND_API_KEY".to_owned(), "sk_test_x".to_owned())];
    let (ended_well, printed) = Program::start(&["listen"], &wrong).ended().await;
    assert!(!ended_well && printed.contains("not one of this gateway's"), "{printed}");
    world.end().await;
}
