//! Stopping in order, and the database going away for a moment: what is in hand is answered, what is
//! owed is delivered by whoever comes next, and nothing needs a restart to heal.

use std::sync::Arc;

use crate::merchant::{Answer, coffee};
use crate::payer::{GOOD_CARD, Payer};
use crate::world::{World, WorldOptions, eventually};

const CREATED: &str = "checkout.session.created";

#[tokio::test]
async fn a_payment_in_hand_is_answered_before_the_gateway_stops() {
    let mut world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    world.replicas[0].simulator.set_latency_ms(700);
    let form = Payer::fill(&page, GOOD_CARD);
    let path = format!("{}/pay", page.path);
    let paying =
        tokio::spawn(async move { payer.send(reqwest::Method::POST, &path, Some(&Payer::filled(&form))).await });
    world.count_becomes("select count(*) from checkout_session where state = 'processing'", 1).await;

    world.replicas[0].stop().await;
    let answer = paying.await.expect("the browser lives");
    assert_eq!(answer.status, 303, "the payer was cut off: {}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"), "the browser was invited to a connection that ends");
    assert_eq!(world.count("select count(*) from checkout_session where state = 'completed'").await, 1);

    // Whether the stopping worker still sent it or gave it back: it arrives, and once.
    world.add_replica().await;
    receiver.wait_for("checkout.session.completed").await;
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(receiver.of_kind("checkout.session.completed").len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_payment_whose_payer_has_gone_is_finished_before_the_gateway_stops() {
    let mut world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    world.replicas[0].simulator.set_latency_ms(700);
    let form = Payer::fill(&page, GOOD_CARD);
    let path = format!("{}/pay", page.path);
    let paying =
        tokio::spawn(async move { payer.send(reqwest::Method::POST, &path, Some(&Payer::filled(&form))).await });
    world.count_becomes("select count(*) from checkout_session where state = 'processing'", 1).await;
    // The tab is closed in the middle of it.
    paying.abort();
    assert!(paying.await.expect_err("it was cut off").is_cancelled());

    world.replicas[0].stop().await;
    assert_eq!(world.count("select count(*) from checkout_session where state = 'completed'").await, 1);
    assert_eq!(world.count("select count(*) from simulator.charge where state = 'captured'").await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_delivery_under_way_is_finished_and_one_that_waits_is_given_back() {
    let mut world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    const SESSIONS: usize = 25;
    for _ in 0..SESSIONS {
        merchant.session().await;
    }
    // As many as one endpoint gets at once; the others wait in memory.
    const AT_ONCE: usize = 16;
    receiver.wait_for_many(CREATED, AT_ONCE).await;

    let mut stopping = world.replicas.remove(0);
    let stopped = tokio::spawn(async move { stopping.stop().await });
    let given_back = "select count(*) from delivery where due_at <= now() + interval '1 second' and attempts = 0";
    world.count_becomes(given_back, (SESSIONS - AT_ONCE) as i64).await;
    assert!(!stopped.is_finished(), "the gateway did not wait for deliveries under way");
    gate.add_permits(AT_ONCE);
    stopped.await.expect("it stops");
    assert_eq!(world.count("select count(*) from delivery").await, (SESSIONS - AT_ONCE) as i64);
    assert_eq!(world.count("select count(*) from delivery_attempt where outcome = 'delivered'").await, AT_ONCE as i64);
    assert_eq!(receiver.deliveries().len(), AT_ONCE, "a stopping gateway began something new");

    gate.add_permits(SESSIONS);
    world.add_replica().await;
    receiver.wait_for_many(CREATED, SESSIONS).await;
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(receiver.deliveries().len(), SESSIONS);
    world.end().await;
}

#[tokio::test]
async fn a_delivery_that_outlasts_the_stop_is_given_back_and_sent_again() {
    let mut world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    merchant.session().await;
    let first = receiver.wait_for(CREATED).await;
    world.replicas[0].stop().await;
    // Due at once and not when the lease ends; the attempt that was cut off counts.
    let given_back = "select count(*) from delivery where due_at <= now() + interval '1 second' and attempts = 1";
    assert_eq!(world.count(given_back).await, 1);

    gate.add_permits(2);
    world.add_replica().await;
    let both = receiver.wait_for_many(CREATED, 2).await;
    assert_eq!((both[1].event_id(), &both[1].body), (first.event_id(), &first.body));
    world.count_becomes("select count(*) from delivery", 0).await;
    world.end().await;
}

#[tokio::test]
async fn a_stopped_gateway_takes_no_connections() {
    let mut world = World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let base = world.replicas[0].base.clone();
    world.replicas[0].stop().await;
    let error = crate::merchant::http_client().get(format!("{base}/healthz")).send().await.expect_err("nobody listens");
    assert!(error.is_connect(), "{error:?}");
    merchant.at(&world.replicas[1].base).session().await;
    world.end().await;
}

/// Ends every connection that the gateways have to the story's database, as a restart of it does.
async fn cut_connections(world: &World) {
    world
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await;
}

/// The answer to a request during trouble: as wanted, or a refusal that a client can act on.
#[track_caller]
fn is_fine_or_says_when_to_come_again(answer: &Answer) -> bool {
    if answer.status == 200 {
        return true;
    }
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.json["error"]["type"], "api_error", "{}", answer.text);
    assert_eq!(answer.header("retry-after"), Some("1"));
    false
}

#[tokio::test]
async fn cut_database_connections_cost_a_few_503s_and_heal_by_themselves() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let mut made = 0;
    let mut refused = 0;
    for round in 0..5 {
        // Enough at once that the pool is full of connections.
        let warm = (0..8).map(|_| merchant.session());
        made += futures_util::future::join_all(warm).await.len();
        cut_connections(&world).await;
        let mut answered = false;
        // Each dead connection of the pool may cost one request, and no more than that.
        for turn in 0..16 {
            let key = format!("{round}-{turn}");
            let answer = merchant.post_with_key("/v1/checkout/sessions", &coffee(), &key).await;
            if is_fine_or_says_when_to_come_again(&answer) {
                answered = true;
                made += 1;
            } else {
                refused += 1;
                // As the SDKs do: the same key again until it is answered.
                eventually("the retried request", async || {
                    let again = merchant.post_with_key("/v1/checkout/sessions", &coffee(), &key).await;
                    is_fine_or_says_when_to_come_again(&again).then_some(())
                })
                .await;
                made += 1;
            }
        }
        assert!(answered, "sixteen requests after the cut not one was answered at first");
    }
    assert!(refused <= 5 * 12, "{refused} requests were refused: more than there were dead connections");
    assert_eq!(world.count("select count(*) from checkout_session").await, made as i64);

    // The worker has healed as well, and nothing that was made is missing.
    receiver.wait_for_many(CREATED, made).await;
    world.advance(chrono::Duration::seconds(40));
    world.count_becomes("select count(*) from delivery", 0).await;
    let told: std::collections::BTreeSet<String> =
        receiver.of_kind(CREATED).iter().map(|one| one.event_id().to_owned()).collect();
    assert_eq!(told.len(), made);
    world.end().await;
}

#[tokio::test]
async fn results_of_deliveries_survive_a_cut_of_the_database() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let gate = receiver.hold_answers();
    for _ in 0..5 {
        merchant.session().await;
    }
    receiver.wait_for_many(CREATED, 5).await;
    cut_connections(&world).await;
    gate.add_permits(5);
    // Marked by the worker that made the attempts, though its connections were dead: not sent again.
    world.count_becomes("select count(*) from delivery", 0).await;
    assert_eq!(receiver.deliveries().len(), 5);
    assert_eq!(world.count("select count(*) from delivery_attempt where outcome = 'delivered'").await, 5);
    world.end().await;
}

#[tokio::test]
async fn a_locked_row_is_answered_in_time_and_not_waited_for() {
    let world = World::start().await;
    let merchant = Arc::new(world.merchant().await);
    let session = merchant.session().await;
    let mut holder = world.database().await;
    sqlx::raw_sql("begin; select 1 from checkout_session for update").execute(&mut holder).await.expect("the lock");
    let expire = format!("/v1/checkout/sessions/{}/expire", session["id"].as_str().unwrap());
    let answer = merchant.post(&expire, &[]).await;
    assert!(!is_fine_or_says_when_to_come_again(&answer), "it went past the lock");
    assert_eq!(merchant.read(&session).await["state"], "pending");
    sqlx::raw_sql("rollback").execute(&mut holder).await.expect("the lock is given up");
    assert_eq!(merchant.post(&expire, &[]).await.ok()["state"], "expired");
    world.end().await;
}
