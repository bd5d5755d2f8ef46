//! The process is killed at each point of a payment, a capture, a void and a refund, and somebody else
//! finds the database as it was left: everything settles, once, and the books are right.
//!
//! The points are read out of the sources, so that a new one is gone through as well; a name whose
//! beginning leads to no scenario here fails.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::merchant::Merchant;
use crate::payer::{GOOD_CARD, Payer};
use crate::world::World;

const MANUAL: (&str, &str) = ("payment_intent_data[capture_method]", "manual");

/// Processes that are started and killed side by side.
const AT_ONCE: usize = 3;

/// How long a process may take to start or to die.
const PROCESS_WAIT_MAX: Duration = Duration::from_secs(60);

const UNKNOWN: &str = "select (select count(*) from charge where look_up_at is not null)
     + (select count(*) from refund where look_up_at is not null)
     + (select count(*) from checkout_session where state = 'processing')";

/// Every point in the sources.
fn points() -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("sources are text");
            for piece in text.split("crash_point!(\"").skip(1) {
                let name = piece.split('"').next().expect("a name").to_owned();
                assert!(found.insert(name.clone()), "two crash points are called {name}");
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 15, "only {found:?}");
    found
}

/// The real program, told where to die.
struct Doomed {
    child: Child,
    base: String,
}

impl Doomed {
    async fn start(world: &World, point: &str, with_worker: bool) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkstand"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).args((!with_worker).then_some("--no-worker"));
        command.env("CHECKSTAND_CRASH_AT", format!("{point}:1")).env("CHECKSTAND_DATABASE_CONNECTIONS_MAX", "4");
        command.env("CHECKSTAND_LOG_FORMAT", "json").envs(world.environment().await);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its log is read")).lines();
        let base = tokio::time::timeout(PROCESS_WAIT_MAX, async {
            while let Some(line) = lines.next_line().await.expect("its log is text") {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(url) = line["public_url"].as_str() {
                    return url.to_owned();
                }
            }
            // One with a worker may have died before it told where it listens.
            String::new()
        })
        .await
        .expect("it starts in time");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, base }
    }

    async fn died_at(mut self, point: &str) {
        let ended = tokio::time::timeout(PROCESS_WAIT_MAX, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("nothing led to {point}")).expect("it is waited for");
        assert_eq!(ended.signal(), Some(9), "{point}: {ended}");
    }
}

/// What is asked again of the next process, as a merchant's backend or a payer would.
enum Again {
    Pay { session: Value, path: String, form: Vec<(String, String)> },
    Post { path: String, fields: Vec<(&'static str, String)>, key: String },
    Nothing,
}

async fn paid(world: &World, merchant: &Merchant, fields: &[(&str, &str)]) -> String {
    let session = merchant.session_with(fields).await;
    world.payer().pay(&session, GOOD_CARD).await;
    merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned()
}

/// Pays at a process that dies of it.
async fn pay(world: &World, merchant: &Merchant, point: &str) -> Again {
    let session = merchant.session().await;
    let (path, form) = world.payer().ready(&session, GOOD_CARD).await;
    let doomed = Doomed::start(world, point, false).await;
    let mut payer = Payer::new(&doomed.base);
    let (_, mut filled) = payer.ready(&session, GOOD_CARD).await;
    // The number of the form is the same in every browser of the story: it is one try.
    filled[1] = form[1].clone();
    let at = path.clone();
    assert!(tokio::spawn(async move { payer.press(&at, &filled).await }).await.is_err(), "{point}: it answered");
    doomed.died_at(point).await;
    Again::Pay { session, path, form }
}

/// Asks a process by API that dies of it.
async fn post(
    world: &World,
    merchant: &Merchant,
    point: &str,
    path: String,
    fields: Vec<(&'static str, String)>,
) -> Again {
    let doomed = Doomed::start(world, point, false).await;
    let key = format!("key of {point} {path}");
    let again = Again::Post { path: path.clone(), fields: fields.clone(), key: key.clone() };
    let there = merchant.at(&doomed.base);
    let asking = tokio::spawn(async move {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        there.post_with_key(&path, &fields, &key).await
    });
    assert!(asking.await.is_err(), "{point}: it answered");
    doomed.died_at(point).await;
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
async fn die_at(world: &World, merchant: &Merchant, point: &str) -> Vec<Again> {
    match point.split('.').next().unwrap_or_default() {
        "pay" | "settle" => vec![pay(world, merchant, point).await],
        "capture" => vec![capture(world, merchant, point).await],
        "void" => vec![void(world, merchant, point).await],
        "reserved" => vec![capture(world, merchant, point).await, void(world, merchant, point).await],
        "refund" => {
            let payment = paid(world, merchant, &[]).await;
            let fields = vec![("payment_intent", payment), ("amount", "1000".to_owned())];
            vec![post(world, merchant, point, "/v1/refunds".to_owned(), fields).await]
        }
        // Killed before it asked the provider, and again while it closes what the provider does not know.
        "close" => {
            let again = pay(world, merchant, "pay.committed").await;
            let Again::Pay { session, .. } = &again else { unreachable!("a payment is paid again") };
            let id = session["id"].as_str().expect("an id");
            world.execute(&format!("update charge set look_up_at = now() where session_id = '{id}'")).await;
            Doomed::start(world, point, true).await.died_at(point).await;
            vec![again]
        }
        "expire" => {
            let session = merchant.session().await;
            let id = session["id"].as_str().expect("an id");
            world.execute(&format!("update checkout_session set expires_at = now() where id = '{id}'")).await;
            Doomed::start(world, point, true).await.died_at(point).await;
            vec![Again::Nothing]
        }
        other => panic!("no scenario leads to the crash points `{other}.…`: write one"),
    }
}

/// Kills a process at each of the points, some side by side.
async fn die_at_all(points: BTreeSet<String>) -> (World, Merchant, Vec<Again>) {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    // What is due is anybody's: two processes with a worker would take it away from each other.
    let (alone, together): (Vec<_>, Vec<_>) =
        points.iter().partition(|point| point.starts_with("close.") || point.starts_with("expire."));
    let dying = futures_util::stream::iter(together).map(|point| die_at(&world, &merchant, point));
    let mut left: Vec<Vec<Again>> = dying.buffer_unordered(AT_ONCE).collect().await;
    for point in alone {
        left.push(die_at(&world, &merchant, point).await);
    }
    (world, merchant, left.into_iter().flatten().collect())
}

/// The next process on the same database, a minute later; then everybody asks again.
async fn comes_back(mut world: World, merchant: Merchant, left: Vec<Again>) {
    world.add_replica_with(true).await;
    world.advance(chrono::Duration::seconds(65));
    world.count_becomes(UNKNOWN, 0).await;
    world.books_are_right().await;

    let merchant = merchant.at(&world.replicas[1].base);
    for again in left {
        match again {
            Again::Pay { session, path, form } => {
                let mut payer = Payer::new(&world.replicas[1].base);
                // The same try once more is answered with what became of it, and charges nothing.
                let page = payer.visit(path.trim_end_matches("/pay")).await;
                if page.has_card_form() {
                    let mut same = Payer::fill(&page, GOOD_CARD);
                    same[1] = form[1].clone();
                    payer.submit(&page, &same).await;
                }
                if payer.open(&session).await.has_card_form() {
                    payer.pay(&session, GOOD_CARD).await;
                }
                payer.open(&session).await.says("You paid €25.98.");
                let taken = "select count(*)::text from simulator.charge m join charge c on c.id = m.charge_id
                     where c.session_id = $1 and m.state = 'captured'";
                assert_eq!(world.text(taken, session["id"].as_str().expect("an id")).await, "1");
            }
            Again::Post { path, fields, key } => {
                let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                merchant.post_with_key(&path, &fields, &key).await.ok();
                let Some(payment) = path.split('/').nth(3).filter(|id| id.starts_with("pi_")) else {
                    let payment = fields[0].1;
                    let refunds = merchant.get(&format!("/v1/refunds?payment_intent={payment}")).await.ok();
                    let [refund] = &refunds["data"].as_array().expect("a list")[..] else { panic!("{refunds}") };
                    assert_eq!((&refund["status"], &refund["amount"]), (&"succeeded".into(), &1000.into()), "{key}");
                    continue;
                };
                let payment = merchant.get(&format!("/v1/payment_intents/{payment}")).await.ok();
                let expected = if path.ends_with("/capture") {
                    ("succeeded", 2000, Value::Null)
                } else {
                    ("canceled", 0, "duplicate".into())
                };
                assert_eq!(payment["status"], expected.0, "{key}");
                assert_eq!(payment["amount_received"], expected.1, "{key}");
                assert_eq!(payment["cancellation_reason"], expected.2, "{key}");
            }
            Again::Nothing => {}
        }
    }
    world.books_are_right().await;
    assert_eq!(world.count("select count(*) from checkout_session where state in ('pending', 'processing')").await, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_any_point_leaves_what_the_next_one_settles_once() {
    let (world, merchant, left) = die_at_all(points()).await;
    comes_back(world, merchant, left).await;
}
