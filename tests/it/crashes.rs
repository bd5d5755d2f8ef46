//! The process is killed at each point of a payment, a capture, a void and a refund, and somebody else
//! finds the database as it was left: everything settles, once, and the books are right.
//!
//! The points are read out of the sources, so that a new one is gone through as well; a name whose
//! beginning leads to no scenario here or in `escrow_crashes` or `stripe_crashes` fails.

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::doomed::{AT_ONCE, Doom, Doomed, family, points};
use crate::merchant::Merchant;
use crate::payer::{Card, GOOD_CARD, Payer};
use crate::three_d_secure::{ASKED_CARD, answer_the_bank, path_at};
use crate::world::{World, WorldOptions};
use crate::{escrow_crashes, stripe_crashes};

const MANUAL: (&str, &str) = ("payment_intent_data[capture_method]", "manual");

/// The bank grants it and says that the security code is wrong, so it is let go.
const WRONG_CODE_CARD: Card = Card { number: "4000 0000 0000 0101", ..GOOD_CARD };

/// Points that the scenario of their name reaches in one way, and these in another. `:2` is the second time.
const FURTHER: [(&str, &str); 13] = [
    ("block", "settle.recorded"),
    ("weigh", "settle.recorded"),
    ("held", "pay.answered"),
    ("held", "settle.recorded"),
    ("pass", "pay.answered:2"),
    ("pass", "settle.recorded"),
    ("ask", "pay.answered"),
    ("ask", "settle.recorded"),
    ("ask", "settle.committed"),
    ("return", "settle.locked"),
    ("return", "settle.recorded"),
    ("return", "settle.committed"),
    ("refused", "settle.recorded"),
];

/// What nobody has settled yet. A payer whose bank asks him may take his time, until the bank knows.
const UNKNOWN: &str = "select
       (select count(*) from charge where look_up_at is not null and state <> 'requires_action')
     + (select count(*) from charge c join simulator.charge m on m.charge_id = c.id
          where c.state = 'requires_action' and m.state in ('captured', 'void'))
     + (select count(*) from refund where look_up_at is not null)
     + (select count(*) from dispute where look_up_at is not null)
     + (select count(*) from checkout_session s where state = 'processing' and not exists
          (select from charge c where c.session_id = s.id and c.state = 'requires_action'))";

/// What is asked again of the next process, as a merchant's backend or a payer would.
enum Again {
    Pay { session: Value, path: String, form: Vec<(String, String)> },
    GoToTheBank { session: Value },
    ComeBack { session: Value, back: String },
    Post { path: String, fields: Vec<(&'static str, String)>, key: String },
    Nothing,
}

async fn paid(world: &World, merchant: &Merchant, fields: &[(&str, &str)]) -> String {
    let session = merchant.session_with(fields).await;
    world.payer().pay(&session, GOOD_CARD).await;
    merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned()
}

/// Pays at a process that dies of it.
async fn pay(world: &World, merchant: &Merchant, point: &str, card: Card, doom: Doom<'_>) -> Again {
    let session = merchant.session().await;
    let (path, form) = world.payer().ready(&session, card).await;
    let doomed = Doomed::start(world, point, doom).await;
    let mut payer = Payer::new(&doomed.base);
    let (_, mut filled) = payer.ready(&session, card).await;
    // The number of the form is the same in every browser of the story: it is one try.
    filled[1] = form[1].clone();
    let at = path.clone();
    doomed.dies_of(point, async move { payer.press(&at, &filled).await }).await;
    Again::Pay { session, path, form }
}

/// Comes back from the bank, with its answer, to a process that dies of it.
async fn come_back(world: &World, merchant: &Merchant, point: &str, answer: &str) -> Again {
    let session = merchant.session().await;
    let asked = world.payer().pay(&session, ASKED_CARD).await;
    let back = path_at(&answer_the_bank(&asked, answer).await, world.base());
    let doomed = Doomed::start(world, point, Doom::default()).await;
    let (mut payer, at) = (Payer::new(&doomed.base), back.clone());
    doomed.dies_of(point, async move { payer.visit(&at).await }).await;
    Again::ComeBack { session, back }
}

/// Asks a process by API that dies of it.
async fn post(
    world: &World,
    merchant: &Merchant,
    point: &str,
    path: String,
    fields: Vec<(&'static str, String)>,
) -> Again {
    let doomed = Doomed::start(world, point, Doom::default()).await;
    let key = format!("key of {point} {path}");
    let again = Again::Post { path: path.clone(), fields: fields.clone(), key: key.clone() };
    let there = merchant.at(&doomed.base);
    let asking = async move {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        there.post_with_key(&path, &fields, &key).await
    };
    doomed.dies_of(point, asking).await;
    again
}

async fn capture(world: &World, merchant: &Merchant, point: &str) -> Again {
    let path = format!("/v1/payment_intents/{}/capture", paid(world, merchant, &[MANUAL]).await);
    post(world, merchant, point, path, vec![("amount_to_capture", "2000".to_owned())]).await
}

async fn void(world: &World, merchant: &Merchant, point: &str) -> Again {
    let path = format!("/v1/payment_intents/{}/cancel", paid(world, merchant, &[MANUAL]).await);
    post(world, merchant, point, path, vec![("cancellation_reason", "duplicate".to_owned())]).await
}

/// Goes through what leads to a point and gives what is asked again afterwards.
async fn die_at(world: &World, merchant: &Merchant, scenario: &str, point: &str) -> Vec<Again> {
    let with_file = |file| Doom { file, ..Doom::default() };
    match scenario {
        "pay" | "settle" => vec![pay(world, merchant, point, GOOD_CARD, Doom::default()).await],
        // A rule refuses it before anybody is asked, and after the bank's answer.
        "block" => {
            let rule =
                "[fraud.rules.bad_people]\nwhen = 'list'\nof = 'email'\nvalues = ['ada@example.com']\naction = 'block'";
            vec![pay(world, merchant, point, GOOD_CARD, with_file(rule)).await]
        }
        "weigh" => vec![pay(world, merchant, point, WRONG_CODE_CARD, Doom::default()).await],
        // Reserved until the answer has been weighed, then taken.
        "held" => {
            let rule = "[fraud.rules.elevated_risk]\naction = 'review'";
            vec![pay(world, merchant, point, GOOD_CARD, with_file(rule)).await]
        }
        // The first company says no, the second one is asked.
        "pass" => {
            let settings = &[("SIMULATOR_FAULTS", "simulator:decline_softly:always")];
            vec![pay(world, merchant, point, GOOD_CARD, Doom { settings, ..Doom::default() }).await]
        }
        "ask" => match pay(world, merchant, point, ASKED_CARD, Doom::default()).await {
            Again::Pay { session, .. } => vec![Again::GoToTheBank { session }],
            other => vec![other],
        },
        "return" => vec![come_back(world, merchant, point, "approve").await],
        "refused" => vec![come_back(world, merchant, point, "fail").await],
        "capture" => vec![capture(world, merchant, point).await],
        "void" => vec![void(world, merchant, point).await],
        "reserved" => vec![capture(world, merchant, point).await, void(world, merchant, point).await],
        "refund" => {
            let payment = paid(world, merchant, &[]).await;
            let fields = vec![("payment_intent", payment), ("amount", "1000".to_owned())];
            vec![post(world, merchant, point, "/v1/refunds".to_owned(), fields).await]
        }
        "dispute" => {
            let payment = paid(world, merchant, &[]).await;
            let opened = merchant.post("/v1/test_helpers/disputes", &[("payment_intent", &payment)]).await.ok();
            let path = format!("/v1/disputes/{}", opened["id"].as_str().expect("an id"));
            let fields = vec![("evidence[uncategorized_text]", "winning_evidence".to_owned())];
            vec![post(world, merchant, point, path, fields).await]
        }
        // Killed before it asked the provider, and again while it closes what the provider does not know.
        "close" => {
            let again = pay(world, merchant, "pay.committed", GOOD_CARD, Doom::default()).await;
            let Again::Pay { session, .. } = &again else { unreachable!("a payment is paid again") };
            let id = session["id"].as_str().expect("an id");
            world.execute(&format!("update charge set look_up_at = now() where session_id = '{id}'")).await;
            let doom = Doom { worker: true, ..Doom::default() };
            Doomed::start(world, point, doom).await.died_at(point).await;
            vec![again]
        }
        "expire" => {
            let session = merchant.session().await;
            let id = session["id"].as_str().expect("an id");
            world.execute(&format!("update checkout_session set expires_at = now() where id = '{id}'")).await;
            let doom = Doom { worker: true, ..Doom::default() };
            Doomed::start(world, point, doom).await.died_at(point).await;
            vec![Again::Nothing]
        }
        other => panic!("no scenario leads to the crash points `{other}.…`: write one"),
    }
}

/// Every scenario with its point, those of other files aside.
fn deaths() -> Vec<(String, String)> {
    let points = points();
    let is_elsewhere = |name: &str| escrow_crashes::leads_to(name) || stripe_crashes::leads_to(name);
    let own = points.iter().filter(|point| !is_elsewhere(point));
    let own = own.map(|point| (family(point).to_owned(), point.clone()));
    let further = FURTHER.iter().map(|(scenario, point)| {
        assert!(points.contains(point.trim_end_matches(":2")), "{point} is no crash point");
        ((*scenario).to_owned(), (*point).to_owned())
    });
    own.chain(further).collect()
}

/// Kills a process at each of the points, some side by side.
async fn die_at_all(deaths: Vec<(String, String)>) -> (World, Merchant, Vec<Again>) {
    let settings = vec![("SIMULATOR_NAMES", "simulator,second".to_owned())];
    let world = World::with(WorldOptions { worker: false, settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    // What is due is anybody's: two processes with a worker would take it away from each other.
    let (alone, together): (Vec<_>, Vec<_>) =
        deaths.iter().partition(|(scenario, _)| ["close", "expire"].contains(&scenario.as_str()));
    let dying = futures_util::stream::iter(together).map(|(how, point)| die_at(&world, &merchant, how, point));
    let mut left: Vec<Vec<Again>> = dying.buffer_unordered(AT_ONCE).collect().await;
    for (how, point) in alone {
        left.push(die_at(&world, &merchant, how, point).await);
    }
    (world, merchant, left.into_iter().flatten().collect())
}

/// Pays what is not paid yet; then it is paid, once, whoever is asked.
async fn ends_paid_once(world: &World, merchant: &Merchant, payer: &mut Payer, session: &Value) {
    if payer.open(session).await.has_card_form() {
        payer.pay(session, GOOD_CARD).await;
    }
    payer.open(session).await.says("You paid €25.98.");
    let id = session["id"].as_str().expect("an id");
    let taken = "select count(*)::text from simulator.charge m join charge c on c.id = m.charge_id
         where c.session_id = $1 and m.state in ('captured', 'authorized')";
    assert_eq!(world.text(taken, id).await, "1");
    let read = merchant.read(session).await;
    assert_eq!((&read["state"], &read["payment_status"]), (&"completed".into(), &"paid".into()), "{read}");
    let payment = format!("/v1/payment_intents/{}", read["payment_intent"].as_str().expect("a payment"));
    let payment = merchant.get(&format!("{payment}?expand[]=latest_charge")).await.ok();
    assert_eq!((&payment["status"], &payment["latest_charge"]["paid"]), (&"succeeded".into(), &true.into()));
    assert_eq!(payment["latest_charge"]["amount_captured"], 2598, "{payment}");
}

async fn ask_again(merchant: &Merchant, path: &str, fields: &[(&'static str, String)], key: &str) {
    let sent: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    merchant.post_with_key(path, &sent, key).await.ok();
    if path.starts_with("/v1/disputes/") {
        let dispute = merchant.get(path).await.ok();
        assert_eq!((&dispute["status"], &dispute["amount_reinstated"]), (&"won".into(), &2598.into()), "{key}");
        return;
    }
    let Some(payment) = path.split('/').nth(3).filter(|id| id.starts_with("pi_")) else {
        let refunds = merchant.get(&format!("/v1/refunds?payment_intent={}", fields[0].1)).await.ok();
        let [refund] = &refunds["data"].as_array().expect("a list")[..] else { panic!("{refunds}") };
        assert_eq!((&refund["status"], &refund["amount"]), (&"succeeded".into(), &1000.into()), "{key}");
        return;
    };
    let payment = merchant.get(&format!("/v1/payment_intents/{payment}")).await.ok();
    let expected =
        if path.ends_with("/capture") { ("succeeded", 2000, Value::Null) } else { ("canceled", 0, "duplicate".into()) };
    assert_eq!(payment["status"], expected.0, "{key}");
    assert_eq!(payment["amount_received"], expected.1, "{key}");
    assert_eq!(payment["cancellation_reason"], expected.2, "{key}");
}

/// The next process on the same database, a minute later; then everybody asks again.
async fn comes_back(mut world: World, merchant: Merchant, left: Vec<Again>) {
    world.add_replica_with(true).await;
    world.advance(chrono::Duration::seconds(65));
    world.count_becomes(UNKNOWN, 0).await;
    world.books_are_right().await;

    let base = world.replicas[1].base.clone();
    let merchant = merchant.at(&base);
    for again in left {
        let mut payer = Payer::new(&base);
        match again {
            Again::Pay { session, path, form } => {
                // The same try once more is answered with what became of it, and charges nothing.
                let page = payer.visit(path.trim_end_matches("/pay")).await;
                if page.has_card_form() {
                    let mut same = Payer::fill(&page, GOOD_CARD);
                    same[1] = form[1].clone();
                    payer.submit(&page, &same).await;
                }
                ends_paid_once(&world, &merchant, &mut payer, &session).await;
            }
            Again::GoToTheBank { session } => {
                let asked = payer.visit(&format!("{}/3ds", payer.path_of(&session))).await;
                let hop = answer_the_bank(&asked, "approve").await;
                let back = url::Url::parse(&hop.refresh_url().expect("the bank leads back")).expect("a URL");
                payer.visit(back.path()).await.says("You paid €25.98.");
                ends_paid_once(&world, &merchant, &mut payer, &session).await;
            }
            Again::ComeBack { session, back } => {
                payer.visit(&back).await;
                ends_paid_once(&world, &merchant, &mut payer, &session).await;
            }
            Again::Post { path, fields, key } => ask_again(&merchant, &path, &fields, &key).await,
            Again::Nothing => {}
        }
    }
    world.books_are_right().await;
    assert_eq!(world.count("select count(*) from checkout_session where state in ('pending', 'processing')").await, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_any_point_leaves_what_the_next_one_settles_once() {
    let (world, merchant, left) = die_at_all(deaths()).await;
    comes_back(world, merchant, left).await;
}
