//! Many at once: whatever is pressed, by whomever and however often, money and state agree afterwards.

use std::sync::Arc;

use chrono::Duration;
use reqwest::{Method, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::payer::{GOOD_CARD, Payer};
use crate::world::{World, WorldOptions};

const RACERS: usize = 100;
const CONTESTED_SESSIONS: usize = 24;

const CAPTURED: &str = "select count(*) from simulator.charge where state = 'captured'";
const SUCCEEDED: &str = "select count(*) from charge where state = 'succeeded'";
const IN_THE_BALANCE: &str = "select count(*) from checkout_session where state in ('pending', 'processing')";

async fn with_replicas(replicas: usize) -> World {
    World::with(WorldOptions { replicas, ..WorldOptions::default() }).await
}

/// Sends all forms at once, in turn to each replica, and gives what was answered.
async fn all_at_once(world: &World, payer: &Payer, path: &str, forms: Vec<Vec<(String, String)>>) -> Vec<StatusCode> {
    let start = Arc::new(Barrier::new(forms.len()));
    let mut racing = JoinSet::new();
    for (number, form) in forms.into_iter().enumerate() {
        let mut racer = payer.at(&world.replicas[number % world.replicas.len()].base);
        let (path, start) = (path.to_owned(), Arc::clone(&start));
        racing.spawn(async move {
            start.wait().await;
            racer.press(&path, &form).await
        });
    }
    let pages = racing.join_all().await;
    for page in &pages {
        assert_eq!(page.header("location"), Some(path.replace("/pay", "/done").as_str()), "{}", page.text());
    }
    pages.into_iter().map(|page| page.status).collect()
}

async fn is_paid_once(world: &World, payer: &mut Payer, path: &str) {
    assert_eq!(world.count(SUCCEEDED).await, 1);
    assert_eq!(world.count(CAPTURED).await, 1);
    assert_eq!(world.count("select count(*) from charge").await, 1);
    assert_eq!(world.count("select count(*) from event where type = 'checkout.session.completed'").await, 1);
    payer.visit(&path.replace("/pay", "/done")).await.says("You paid €25.98.");
}

#[tokio::test]
async fn one_form_sent_a_hundred_times_at_once_is_charged_once() {
    let world = with_replicas(2).await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let (path, form) = payer.ready(&session, GOOD_CARD).await;
    let answers = all_at_once(&world, &payer, &path, vec![form; RACERS]).await;
    assert!(answers.iter().all(|status| *status == 303), "{answers:?}");
    world.count_becomes(IN_THE_BALANCE, 0).await;
    is_paid_once(&world, &mut payer, &path).await;
    world.end().await;
}

#[tokio::test]
async fn a_hundred_tabs_that_pay_at_once_are_charged_once() {
    let world = with_replicas(2).await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let (path, form) = payer.ready(&session, GOOD_CARD).await;
    let tabs = (0..RACERS).map(|tab| {
        let mut form = form.clone();
        form[1].1 = format!("{tab:032x}");
        form
    });
    let answers = all_at_once(&world, &payer, &path, tabs.collect()).await;
    assert!(answers.iter().all(|status| *status == 303), "{answers:?}");
    world.count_becomes(IN_THE_BALANCE, 0).await;
    is_paid_once(&world, &mut payer, &path).await;
    world.end().await;
}

#[tokio::test]
async fn two_browsers_that_pay_one_session_at_once_are_charged_once() {
    let world = with_replicas(2).await;
    let session = world.merchant().await.session().await;
    let mut racing = JoinSet::new();
    let start = Arc::new(Barrier::new(2));
    for replica in &world.replicas {
        let mut payer = Payer::new(&replica.base);
        let (path, form) = payer.ready(&session, GOOD_CARD).await;
        let start = Arc::clone(&start);
        racing.spawn(async move {
            start.wait().await;
            payer.press(&path, &form).await.status
        });
    }
    assert_eq!(racing.join_all().await, [StatusCode::SEE_OTHER; 2]);
    world.count_becomes(IN_THE_BALANCE, 0).await;
    let mut payer = world.payer();
    let path = payer.path_of(&session);
    is_paid_once(&world, &mut payer, &format!("{path}/pay")).await;
    world.end().await;
}

#[tokio::test]
async fn paying_cancelling_expiring_and_the_deadline_end_a_session_in_one_way() {
    let world = with_replicas(2).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let start = Arc::new(Barrier::new(3 * CONTESTED_SESSIONS + 1));
    let mut racing = JoinSet::new();
    for number in 0..CONTESTED_SESSIONS {
        let session = merchant.session().await;
        let mut payer = world.payer();
        let (pay_path, pay_form) = payer.ready(&session, GOOD_CARD).await;
        let cancel_path = pay_path.replace("/pay", "/cancel");
        let cancel_form = vec![pay_form[0].clone()];
        let [mut payer, mut other_tab] = [0, 1].map(|turn| payer.at(&world.replicas[(number + turn) % 2].base));
        let shop = merchant.at(&world.replicas[number / 2 % 2].base);
        let expire = format!("/v1/checkout/sessions/{}/expire", session["id"].as_str().expect("an id"));
        let [paying, cancelling, expiring] = [0, 1, 2].map(|_| Arc::clone(&start));
        racing.spawn(async move {
            paying.wait().await;
            payer.press(&pay_path, &pay_form).await.status
        });
        racing.spawn(async move {
            cancelling.wait().await;
            other_tab.press(&cancel_path, &cancel_form).await.status
        });
        racing.spawn(async move {
            expiring.wait().await;
            shop.post(&expire, &[]).await.status
        });
    }
    start.wait().await;
    // Some have been answered by now, some are on their way: the deadline falls among them.
    let mut answers = vec![racing.join_next().await.expect("there are many").expect("lives")];
    world.advance(Duration::minutes(31));
    answers.extend(racing.join_all().await);
    assert!(answers.iter().all(|status| [200, 303, 400].contains(&status.as_u16())), "{answers:?}");
    world.count_becomes(IN_THE_BALANCE, 0).await;

    let one_end_each = "select count(*) from checkout_session s where 1 = (select count(*) from event e
         where e.session_id = s.id and e.type = 'checkout.session.' || s.state
           and not exists (select from event o where o.session_id = s.id and o.id <> e.id and o.type in
               ('checkout.session.completed', 'checkout.session.expired', 'checkout.session.cancelled', 'checkout.session.failed')))";
    assert_eq!(world.count(one_end_each).await, i64::try_from(CONTESTED_SESSIONS).expect("small"));
    let disagreeing = "select count(*) from checkout_session s
         left join charge c on c.session_id = s.id and c.state = 'succeeded'
         left join simulator.charge m on m.charge_id = c.id and m.state = 'captured'
         left join payment p on p.session_id = s.id and p.status = 'succeeded'
         where not ((s.state = 'completed') = (c.id is not null) and (c.id is null) = (m.charge_id is null)
             and (c.id is null) = (p.id is null))";
    assert_eq!(world.count(disagreeing).await, 0);
    assert_eq!(world.count(CAPTURED).await, world.count(SUCCEEDED).await);
    let ends = ["completed", "expired", "cancelled", "failed"].map(|end| format!("checkout.session.{end}"));
    receiver
        .wait_until("an end of each session", |all| {
            all.iter().filter(|delivery| ends.iter().any(|end| end == delivery.kind())).count() >= CONTESTED_SESSIONS
        })
        .await;
    world.end().await;
}

#[tokio::test]
async fn a_payer_who_closes_the_tab_while_paying_has_paid_all_the_same() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let (path, form) = payer.ready(&session, GOOD_CARD).await;
    world.replicas[0].simulator.set_latency_ms(300);
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(Payer::filled(&form));
    let body = body.finish();
    let cookies: Vec<String> = payer.cookies().iter().map(|(name, value)| format!("{name}={value}")).collect();
    let address = world.base().trim_start_matches("http://").to_owned();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {}\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        cookies.join("; "),
        body.len()
    );
    let mut socket = TcpStream::connect(&address).await.expect("connects");
    socket.write_all(request.as_bytes()).await.expect("writes");
    // Once the charge is written down the company has been asked and has not answered yet.
    world.count_becomes("select count(*) from charge where state = 'pending'", 1).await;
    drop(socket);
    let event = receiver.wait_for("checkout.session.completed").await;
    assert_eq!(event.object_id(), session["id"]);
    payer.open(&session).await.says("Payment complete");
    assert_eq!(world.count(CAPTURED).await, 1);
    world.end().await;
}

#[tokio::test]
async fn while_a_payment_is_in_flight_nobody_can_give_the_session_up() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let mut payer = world.payer();
    let (path, form) = payer.ready(&session, GOOD_CARD).await;
    world.replicas[0].simulator.set_latency_ms(1_500);
    let mut tab = payer.clone();
    let paying = tokio::spawn({
        let (path, form) = (path.clone(), form.clone());
        async move { tab.press(&path, &form).await }
    });
    world.count_becomes("select count(*) from charge where state = 'pending'", 1).await;
    let page = path.replace("/pay", "");
    let checking = payer.visit(&page).await;
    checking.says("We are checking your payment").says("please do not pay a second time");
    assert!(!checking.has_card_form());
    assert!(checking.html.contains("http-equiv=\"refresh\" content=\"2\""), "it looks again by itself");
    payer.visit(&format!("{page}/cancel")).await.says("We are checking your payment");
    let cancelled = payer.press(&format!("{page}/cancel"), &form[..1]).await;
    let after = payer.send(Method::GET, cancelled.header("location").expect("leads on"), None).await;
    after.says("We are checking your payment");
    let expire = format!("/v1/checkout/sessions/{}/expire", session["id"].as_str().expect("an id"));
    merchant.post(&expire, &[]).await.refused(400);
    let mut mistyped = form.clone();
    mistyped[1].1 = "e".repeat(32);
    mistyped[4].1 = "4242".to_owned();
    assert_eq!(payer.press(&path, &mistyped).await.status, 303, "no form while a payment is in flight");
    assert_eq!(paying.await.expect("lives").status, 303);
    payer.visit(&page).await.says("Payment complete");
    assert_eq!(world.count(CAPTURED).await, 1);
    world.end().await;
}
