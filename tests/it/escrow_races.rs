//! Acts that meet: two links for one, an act and time, an act and another, on two replicas.

use futures_util::future::join_all;
use serde_json::Value;

use crate::deal::{BUYER, GIVEN_BACK, HELD, MERCHANTS, SELLER, SELLERS, Story, TAKEN, UNBALANCED, press, reader};
use crate::payer::{Card, GOOD_CARD, Payer};
use crate::world::{World, WorldOptions};

/// The card that the bank wants to ask about.
const ASKED_CARD: Card = Card { number: "4000 0000 0000 3220", expiry: "12 / 49", cvc: "123" };

async fn two_replicas() -> World {
    World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await
}

/// Everything that was taken is somewhere, and nowhere twice.
async fn assert_books(world: &World) {
    let somewhere = world.count(HELD).await
        + world.count(SELLERS).await
        + world.count(MERCHANTS).await
        + world.count(GIVEN_BACK).await;
    assert_eq!(somewhere, world.count(TAKEN).await);
    assert_eq!(world.count(UNBALANCED).await, 0);
    world.books_are_right().await;
}

#[tokio::test]
async fn of_two_links_for_one_act_the_first_acts_and_the_other_ends_as_failed() {
    let world = World::start().await;
    let mut story = Story::delivered(&world, "quick").await;
    let (first, second) = (story.session("complete", BUYER).await, story.session("complete", BUYER).await);
    let late = story.buyer.open(&second).await;
    story.press(&first, BUYER, &[]).await.says("The deal is done");
    let page = press(&mut story.buyer, &second, &late, &[]).await;
    page.says("This could not be done any more").says("It is now: completed");
    let read = story.merchant.read(&second).await;
    assert_eq!((&read["state"], &read["completed_at"]), (&"failed".into(), &Value::Null));
    let id = second["id"].as_str().expect("an id");
    let event = story.merchant.event("checkout.session.failed").await;
    assert_eq!(event["data"]["object"]["id"], id);
    assert_eq!(world.count(SELLERS).await, 25_000);
    assert_books(&world).await;
    world.end().await;
}

#[tokio::test]
async fn a_link_whose_act_has_become_impossible_says_so_and_ends_when_its_button_is_pressed() {
    let world = World::start().await;
    let mut story = Story::begin(&world, "standard").await;
    let (first, second) = (story.session("sign_contract", SELLER).await, story.session("sign_contract", SELLER).await);
    let signed = [("name", "Sam Seller"), ("consent", "yes")];
    story.press(&first, SELLER, &signed).await.says("Contract signed");
    let page = story.seller.open(&second).await;
    page.says("You have signed already").says("no money was moved");
    assert!(!page.html.contains("name=\"consent\""));
    assert_eq!(story.merchant.read(&second).await["state"], "pending", "a look changes nothing");
    let page = press(&mut story.seller, &second, &page, &[]).await;
    page.says("This could not be done any more");
    let back = page.html.contains("status=failed");
    assert!(back, "the way back says failed: {}", page.html);
    assert_eq!(story.merchant.read(&second).await["state"], "failed");
    story.buyer.open(&second).await.says("This could not be done any more");
    world.end().await;
}

#[tokio::test]
async fn two_payments_for_one_escrow_at_once_are_taken_once() {
    let world = two_replicas().await;
    for _ in 0..3 {
        let story = Story::begin(&world, "quick").await;
        let before = world.count(TAKEN).await;
        let sessions = join_all((0..4).map(|_| story.session("accept_pay", BUYER))).await;
        let mut ready = Vec::new();
        for (place, session) in sessions.iter().enumerate() {
            let mut payer = reader(&world, place % 2);
            let (path, form) = payer.ready(session, GOOD_CARD).await;
            ready.push((payer, path, form));
        }
        join_all(ready.into_iter().map(|(mut payer, path, form)| async move { payer.press(&path, &form).await })).await;
        assert_eq!(story.status().await, "paid");
        assert_eq!(world.count(TAKEN).await - before, 25_000);
        let mut states = Vec::new();
        for session in &sessions {
            states.push(story.merchant.read(session).await["state"].as_str().expect("a state").to_owned());
        }
        assert_eq!(states.iter().filter(|state| *state == "completed").count(), 1, "{states:?}");
    }
    assert_books(&world).await;
    world.end().await;
}

#[tokio::test]
async fn while_the_bank_asks_one_payer_no_other_link_pays_and_the_merchant_cannot_cancel() {
    let world = World::start().await;
    let mut story = Story::begin(&world, "quick").await;
    let (first, second) = (story.session("accept_pay", BUYER).await, story.session("accept_pay", BUYER).await);
    let ready = story.buyer.open(&second).await;
    let (path, form) = story.buyer.ready(&first, ASKED_CARD).await;
    story.buyer.press(&path, &form).await;
    story.buyer.open(&second).await.says("A payment for this is being checked");
    let late = Payer::fill(&ready, GOOD_CARD);
    story.buyer.submit(&ready, &late).await.says("A payment for this is being checked");
    assert_eq!(story.merchant.read(&second).await["state"], "pending");
    assert_eq!(story.call("cancel", &[]).await.refused(400)["code"], "escrow_payment_processing");
    assert_eq!((story.status().await.as_str(), world.count(TAKEN).await), ("pending", 0));
    world.advance(chrono::Duration::minutes(41));
    world.count_becomes("select count(*) from escrow where paying_session_id is null", 1).await;
    story.call("cancel", &[]).await.ok();
    assert_books(&world).await;
    world.end().await;
}

#[tokio::test]
async fn paying_and_cancelling_at_once_end_as_one_of_the_two() {
    let world = two_replicas().await;
    let merchant = world.merchant().await;
    for _ in 0..6 {
        let story = Story::of(&world, merchant.clone(), &crate::deal::canoe("quick")).await;
        let session = story.session("accept_pay", BUYER).await;
        let mut payer = reader(&world, 1);
        let (path, form) = payer.ready(&session, GOOD_CARD).await;
        let (_, cancelled) = tokio::join!(payer.press(&path, &form), story.call("cancel", &[]));
        let state = story.merchant.read(&session).await["state"].clone();
        match story.status().await.as_str() {
            // 503: the payment held the escrow's row for longer than anybody waits for it.
            "paid" => {
                assert_eq!(state, "completed");
                assert!([400, 503].contains(&cancelled.status.as_u16()), "{}", cancelled.text);
            }
            "cancelled" => assert_eq!((cancelled.status.as_u16(), state), (200, "failed".into())),
            other => panic!("{other}"),
        }
    }
    assert_books(&world).await;
    world.end().await;
}

#[tokio::test]
async fn releasing_disputing_cancelling_and_the_deadline_at_once_move_the_money_once() {
    let world = two_replicas().await;
    let merchant = world.merchant().await;
    for round in 0..6 {
        // Time is ahead of whoever presses then, so in the other rounds the acts have only each other to race.
        let time_is_up = round % 2 == 1;
        let mut story = Story::of(&world, merchant.clone(), &crate::deal::canoe("quick")).await;
        story.pay().await;
        story.call("deliver", &[]).await.ok();
        world.advance(chrono::Duration::days(7) - chrono::Duration::minutes(5));
        let why: &[(&str, &str)] = &[("reason", "other"), ("text", "why")];
        let acts = [
            ("complete", BUYER, &[][..]),
            ("dispute", BUYER, why),
            ("dispute", SELLER, why),
            ("request_cancellation", BUYER, why),
            ("cancel_escrow", SELLER, &[]),
        ];
        let mut ready = Vec::new();
        for (place, (action, email, fields)) in acts.into_iter().enumerate() {
            let session = story.session(action, email).await;
            let mut payer = reader(&world, place % 2);
            let page = payer.open(&session).await;
            ready.push((payer, session, page, fields));
        }
        let sessions: Vec<Value> = ready.iter().map(|(_, session, _, _)| session.clone()).collect();
        let pressing = ready.into_iter().map(|(mut payer, session, page, fields)| async move {
            press(&mut payer, &session, &page, fields).await;
        });
        let time = async {
            if time_is_up {
                world.advance(chrono::Duration::minutes(6));
            }
        };
        tokio::join!(join_all(pressing), time);
        let mut done = Vec::new();
        for session in &sessions {
            let read = story.merchant.read(session).await;
            assert_ne!(read["state"], "processing");
            if read["state"] == "completed" {
                done.push(read["action"].as_str().expect("an action").to_owned());
            }
        }
        let status = story.status().await;
        // A dispute may follow a request for cancellation; everything else is alone.
        let alone = done.len() <= 1 || done == ["dispute", "request_cancellation"];
        assert!(alone, "{status} after {done:?}");
        assert!(time_is_up || !done.is_empty(), "{status}, and nobody did it");
        if status == "delivered" {
            world.count_becomes("select count(*) from escrow where status = 'delivered'", 0).await;
        }
    }
    assert_books(&world).await;
    world.end().await;
}

#[tokio::test]
async fn a_link_does_nothing_after_its_half_hour() {
    let world = World::start().await;
    let mut story = Story::delivered(&world, "quick").await;
    let session = story.session("complete", BUYER).await;
    let page = story.buyer.open(&session).await;
    world.advance(chrono::Duration::minutes(31));
    press(&mut story.buyer, &session, &page, &[]).await.says("This link has run out of time");
    assert_eq!((story.status().await.as_str(), world.count(HELD).await), ("delivered", 25_000));
    world.count_becomes("select count(*) from checkout_session where state = 'expired'", 1).await;
    assert_eq!(story.merchant.read(&session).await["completed_at"], Value::Null);
    story
        .merchant
        .post(&format!("/v1/checkout/sessions/{}/expire", session["id"].as_str().expect("an id")), &[])
        .await
        .refused(400);
    world.end().await;
}

#[tokio::test]
async fn a_link_for_one_act_does_no_other() {
    let world = World::start().await;
    let mut story = Story::delivered(&world, "quick").await;
    let session = story.session("request_cancellation", BUYER).await;
    let page = story.buyer.open(&session).await;
    let path = story.buyer.path_of(&session);
    // The card form of a payment, sent to a link that is for none.
    let mut form = Payer::fill(&page, GOOD_CARD);
    form.retain(|(name, _)| name != "attempt_key");
    form.push(("attempt_key".to_owned(), "0".repeat(32)));
    story.buyer.press(&format!("{path}/pay"), &form).await;
    assert_eq!((world.count(TAKEN).await, story.status().await.as_str()), (25_000, "delivered"));
    press(&mut story.buyer, &session, &page, &[("text", "why"), ("action", "complete")])
        .await
        .says("Cancellation asked for");
    assert_eq!(story.status().await, "cancellation_requested");
    world.end().await;
}

/// What a form is filled in with.
type Fields = &'static [(&'static str, &'static str)];

/// How a race of links ended: how many did their act, how many ended as failed.
async fn done_and_failed(story: &Story, sessions: &[Value]) -> (usize, usize) {
    let mut states = Vec::new();
    for session in sessions {
        states.push(story.merchant.read(session).await["state"].as_str().expect("a state").to_owned());
    }
    let count = |wanted: &str| states.iter().filter(|state| *state == wanted).count();
    (count("completed"), count("failed"))
}

#[tokio::test]
async fn of_many_links_for_one_act_pressed_at_once_on_two_replicas_one_acts() {
    const LINKS: usize = 8;
    let world = two_replicas().await;
    let merchant = world.merchant().await;
    let acts: [(&str, &str, &str, Fields); 4] = [
        ("sign_contract", SELLER, "pending", &[("name", "Sam Seller"), ("consent", "yes")]),
        ("complete", BUYER, "completed", &[]),
        ("cancel_escrow", SELLER, "cancelled", &[]),
        ("dispute", BUYER, "disputed", &[("reason", "other"), ("text", "why")]),
    ];
    for (action, email, status, fields) in acts {
        let mode = if action == "sign_contract" { "standard" } else { "quick" };
        let mut story = Story::of(&world, merchant.clone(), &crate::deal::canoe(mode)).await;
        if mode == "quick" {
            story.pay().await;
            story.call("deliver", &[]).await.ok();
        }
        if action == "cancel_escrow" {
            // A seller gives a deal up before he has delivered.
            story.call("reject_delivery", &[("reason", "It leaks.")]).await.ok();
        }
        let mut ready = Vec::new();
        for link in 0..LINKS {
            let session = story.session(action, email).await;
            let mut payer = reader(&world, link % 2);
            let page = payer.open(&session).await;
            ready.push((payer, session, page));
        }
        let sessions: Vec<Value> = ready.iter().map(|(_, session, _)| session.clone()).collect();
        join_all(ready.into_iter().map(|(mut payer, session, page)| async move {
            press(&mut payer, &session, &page, fields).await;
        }))
        .await;
        assert_eq!(done_and_failed(&story, &sessions).await, (1, LINKS - 1), "{action}");
        assert_eq!(story.status().await, status, "{action}");
        let times =
            "select count(*)::text from escrow_history where escrow_id = $1 and entry like '%\"' || $2 || '\"%'";
        let mut database = world.database().await;
        let times: String = sqlx::query_scalar(times)
            .bind(&story.id)
            .bind(action)
            .fetch_one(&mut database)
            .await
            .expect("the history can be read");
        assert_eq!(times, "1", "{action} stands in the history");
    }
    assert_eq!(world.count("select count(*) from refund").await, 1);
    assert_books(&world).await;
    world.end().await;
}

#[tokio::test]
async fn an_act_that_meets_the_end_of_its_link_is_done_or_not_and_the_link_says_which() {
    let world = two_replicas().await;
    let merchant = world.merchant().await;
    let (mut done, mut ended) = (0, 0);
    // Withdrawn by the merchant, and run out of time, while its button is pressed; first the one is ahead, then the
    // other.
    for round in 0..12 {
        let mut story = Story::of(&world, merchant.clone(), &crate::deal::canoe("quick")).await;
        story.pay().await;
        story.call("deliver", &[]).await.ok();
        let session = story.session("complete", BUYER).await;
        let id = session["id"].as_str().expect("an id");
        let mut payer = reader(&world, 0);
        let page = payer.open(&session).await;
        let pressing = press(&mut payer, &session, &page, &[]);
        if round % 2 == 0 {
            let there = merchant.at(&world.replicas[1].base);
            let expire = format!("/v1/checkout/sessions/{id}/expire");
            tokio::join!(pressing, there.post(&expire, &[]));
        } else {
            world.execute(&format!("update checkout_session set expires_at = now() where id = '{id}'")).await;
            let sweep = checkstand::ops::sweep::expire_due(&world.replicas[1].app);
            let (_, swept) = tokio::join!(pressing, sweep);
            swept.expect("a round of the sweep");
        }
        let sold = story.status().await == "completed";
        let read = merchant.read(&session).await;
        let said = if sold { "completed" } else { "expired" };
        if !sold {
            // Half of the beat of the sweep may still be to come.
            let open = "select count(*) from checkout_session where state = 'pending'";
            world.count_becomes(open, 0).await;
        }
        let read = if sold { read } else { merchant.read(&session).await };
        assert_eq!((read["state"].as_str(), read["completed_at"].is_i64()), (Some(said), sold), "{read}");
        let ends = "select count(*)::text from event where session_id = $1
             and type in ('checkout.session.completed', 'checkout.session.expired', 'checkout.session.failed')";
        assert_eq!(world.text(ends, id).await, "1");
        if sold { done += 1 } else { ended += 1 }
    }
    assert_eq!(done + ended, 12);
    assert_books(&world).await;
    world.end().await;
}

#[tokio::test]
async fn an_act_that_meets_the_end_of_the_inspection_moves_the_money_once() {
    let world = World::with(WorldOptions { replicas: 2, worker: false, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let why: &[(&str, &str)] = &[("reason", "other"), ("text", "why")];
    let acts = [("complete", why), ("dispute", why), ("request_cancellation", why), ("cancel", &[])];
    for (action, fields) in acts.into_iter().cycle().take(8) {
        let mut story = Story::of(&world, merchant.clone(), &crate::deal::canoe("quick")).await;
        story.pay().await;
        story.call("deliver", &[]).await.ok();
        let session = if action == "cancel" { None } else { Some(story.session(action, BUYER).await) };
        let mut payer = reader(&world, 0);
        let page = match &session {
            Some(session) => Some(payer.open(session).await),
            None => None,
        };
        let id = &story.id;
        // Due for the sweep and not yet for the act, whose clock is a little behind: both see their chance.
        world
            .execute(&format!("update escrow set completion_deadline = now() + interval '1 second' where id = '{id}'"))
            .await;
        let there = &world.replicas[1].app;
        there.clock.advance(chrono::Duration::seconds(2));
        let acting = async {
            match (&session, &page) {
                (Some(session), Some(page)) => drop(press(&mut payer, session, page, fields).await),
                _ => drop(story.call("cancel", &[]).await),
            }
        };
        let (_, completed) = tokio::join!(acting, checkstand::ops::escrow_acts::complete_due(there));
        let completed = completed.expect("a round of the sweep") == 1;
        there.clock.advance(chrono::Duration::seconds(-2));
        let status = story.status().await;
        let by_the_act = match action {
            "complete" => "completed",
            "dispute" => "disputed",
            "cancel" => "cancelled",
            _ => "cancellation_requested",
        };
        assert_eq!(status, if completed { "completed" } else { by_the_act }, "{action}");
        if let Some(session) = &session {
            let state = merchant.read(session).await["state"].clone();
            assert_eq!(state, if completed { "failed" } else { "completed" }, "{action}: {status}");
        }
    }
    assert_books(&world).await;
    world.end().await;
}
