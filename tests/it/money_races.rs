//! Many at once over two gateways, on the same money: one outcome, never more than was taken, and
//! books that are right.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::merchant::Merchant;
use crate::payer::GOOD_CARD;
use crate::world::{World, WorldOptions};

const RACERS: usize = 100;
const MANUAL: (&str, &str) = ("payment_intent_data[capture_method]", "manual");
const UNSETTLED: &str = "select (select count(*) from checkout_session where state in ('pending', 'processing'))
     + (select count(*) from charge where look_up_at is not null)
     + (select count(*) from refund where look_up_at is not null)";

async fn pair() -> World {
    World::with(WorldOptions { replicas: 2, ..WorldOptions::default() }).await
}

/// Statuses and how often each was answered.
fn counted(statuses: Vec<u16>) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_hundred_payments_cancellations_and_expiries_at_once_end_a_session_in_one_way() {
    let world = pair().await;
    let merchant = world.merchant().await;
    for _ in 0..3 {
        let session = merchant.session().await;
        let payer = {
            let mut payer = world.payer();
            payer.open(&session).await;
            payer
        };
        let (path, form) = payer.clone().ready(&session, GOOD_CARD).await;
        let expire = format!("/v1/checkout/sessions/{}/expire", session["id"].as_str().expect("an id"));
        let start = Arc::new(Barrier::new(RACERS));
        let mut racing = JoinSet::new();
        for number in 0..RACERS {
            let base = &world.replicas[number % 2].base;
            let (mut payer, shop) = (payer.at(base), merchant.at(base));
            let (path, expire, start) = (path.clone(), expire.clone(), Arc::clone(&start));
            let mut form = form.clone();
            form[1].1 = format!("{number:032x}");
            racing.spawn(async move {
                start.wait().await;
                match number % 3 {
                    0 => payer.press(&path, &form).await.status.as_u16(),
                    1 => payer.press(&path.replace("/pay", "/cancel"), &form[..1]).await.status.as_u16(),
                    _ => shop.post(&expire, &[]).await.status.as_u16(),
                }
            });
        }
        let answers = counted(racing.join_all().await);
        assert!(answers.keys().all(|status| [200, 303, 400, 503].contains(status)), "{answers:?}");
        assert!(answers.get(&200).is_none_or(|expired| *expired == 1), "it expired more than once: {answers:?}");
    }
    world.count_becomes(UNSETTLED, 0).await;
    world.books_are_right().await;
    let twice = "select count(*) from (select session_id from charge group by session_id having count(*) > 1) many";
    assert_eq!(world.count(twice).await, 0);
    world.end().await;
}

async fn intent(merchant: &Merchant, session: &Value) -> String {
    merchant.read(session).await["payment_intent"].as_str().expect("a payment").to_owned()
}

#[tokio::test]
async fn captures_cancellations_and_refunds_at_once_agree_on_what_was_taken() {
    let world = pair().await;
    let merchant = world.merchant().await;
    for _ in 0..3 {
        let session = merchant.session_with(&[MANUAL]).await;
        world.payer().pay(&session, GOOD_CARD).await;
        let payment = intent(&merchant, &session).await;
        let start = Arc::new(Barrier::new(RACERS));
        let mut racing = JoinSet::new();
        for number in 0..RACERS {
            let shop = merchant.at(&world.replicas[number % 2].base);
            let (payment, start) = (payment.clone(), Arc::clone(&start));
            racing.spawn(async move {
                start.wait().await;
                let intent = format!("/v1/payment_intents/{payment}");
                let amount = (1_000 + number).to_string();
                let answer = match number % 4 {
                    0 => shop.post(&format!("{intent}/capture"), &[("amount_to_capture", &amount)]).await,
                    1 => shop.post(&format!("{intent}/cancel"), &[]).await,
                    _ => shop.post("/v1/refunds", &[("payment_intent", &payment), ("amount", "300")]).await,
                };
                answer.status.as_u16()
            });
        }
        let answers = counted(racing.join_all().await);
        assert!(answers.keys().all(|status| [200, 400, 503].contains(status)), "{answers:?}");
        world.count_becomes(UNSETTLED, 0).await;
        let end = merchant.get(&format!("/v1/payment_intents/{payment}?expand[]=latest_charge")).await.ok();
        let (taken, given) = (&end["amount_received"], &end["latest_charge"]["amount_refunded"]);
        assert!(
            given.as_i64() <= taken.as_i64()
                && ["succeeded", "canceled"].contains(&end["status"].as_str().unwrap_or("")),
            "{end}"
        );
        world.books_are_right().await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_hundred_refunds_at_once_over_two_gateways_never_give_back_too_much() {
    let world = pair().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    world.payer().pay(&session, GOOD_CARD).await;
    let payment = intent(&merchant, &session).await;
    let start = Arc::new(Barrier::new(RACERS));
    let mut racing = JoinSet::new();
    for number in 0..RACERS {
        let shop = merchant.at(&world.replicas[number % 2].base);
        let (payment, start) = (payment.clone(), Arc::clone(&start));
        racing.spawn(async move {
            start.wait().await;
            // Each key is used twice, at two gateways: it is one refund.
            let (key, amount) = (format!("refund-{}", number / 2), (150 + number / 2).to_string());
            let fields = [("payment_intent", payment.as_str()), ("amount", amount.as_str())];
            let answer = shop.post_with_key("/v1/refunds", &fields, &key).await;
            let id = answer.json["id"].as_str().map(|id| (key, id.to_owned()));
            (answer.status.as_u16(), id)
        });
    }
    let answers = racing.join_all().await;
    let mut made: BTreeMap<String, String> = BTreeMap::new();
    for (key, id) in answers.iter().filter_map(|(_, made)| made.clone()) {
        assert_eq!(made.entry(key.clone()).or_insert_with(|| id.clone()), &id, "{key} made two refunds");
    }
    let statuses = counted(answers.into_iter().map(|(status, _)| status).collect());
    assert!(statuses.keys().all(|status| [200, 400, 409, 503].contains(status)), "{statuses:?}");
    assert!((10..=17).contains(&made.len()), "{} refunds of 1.50 to 2.00 from 25.98", made.len());
    world.count_becomes(UNSETTLED, 0).await;
    world.books_are_right().await;
    world.end().await;
}

#[tokio::test]
async fn one_refund_asked_for_many_times_at_once_reaches_the_provider_once() {
    let world = pair().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    world.payer().pay(&session, GOOD_CARD).await;
    let payment = intent(&merchant, &session).await;
    // While the row is held, all of them come as far as to wait for it: none finds the other's answer.
    let mut holder = world.database().await;
    sqlx::raw_sql("begin; select 1 from checkout_session for update").execute(&mut holder).await.expect("the lock");
    let mut racing = JoinSet::new();
    for number in 0..6 {
        let shop = merchant.at(&world.replicas[number % 2].base);
        let payment = payment.clone();
        racing.spawn(async move {
            let fields = [("payment_intent", payment.as_str()), ("amount", "100")];
            let answer = shop.post_with_key("/v1/refunds", &fields, "once").await;
            (answer.status.as_u16(), answer.json["id"].as_str().map(str::to_owned))
        });
    }
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    world.count_becomes(waiting, 6).await;
    sqlx::raw_sql("rollback").execute(&mut holder).await.expect("the lock is given up");
    let answers = racing.join_all().await;
    let ids: std::collections::BTreeSet<_> = answers.iter().filter_map(|(_, id)| id.clone()).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, _)| [200, 409].contains(status)), "{answers:?}");
    world.count_becomes(UNSETTLED, 0).await;
    assert_eq!(world.count("select count(*) from simulator.refund").await, 1);
    world.books_are_right().await;
    world.end().await;
}
