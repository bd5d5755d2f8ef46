//! The process is killed in the middle of releasing an escrow's money and of giving it back, at each step: the next
//! one finds it undone or done, never half, and what was owed goes on by itself.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::deal::{BUYER, GIVEN_BACK, HELD, MERCHANTS, SELLER, SELLERS, Story, TAKEN, UNBALANCED, canoe, press};
use crate::doomed::{AT_ONCE, Doom, Doomed, family, points};
use crate::merchant::Merchant;
use crate::payer::{GOOD_CARD, Payer};
use crate::world::World;

/// What a process dies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The buyer pays; the money is held.
    Pays,
    /// The buyer says that all is well.
    Releases,
    /// The time for inspection is over.
    InspectionEnds,
    /// The seller agrees to give the deal up.
    GivesUp,
    /// The merchant splits what is disputed.
    Splits,
}

/// Points on each way, each side of every write, commit and answer. `:2` is the second time.
const DEATHS: [(Way, &[&str]); 5] = [
    (Way::Pays, &["pay.committed", "step.saved", "settle.recorded", "settle.committed"]),
    (Way::Releases, &["step.released", "step.saved", "act.written", "act.committed"]),
    (Way::InspectionEnds, &["step.released", "due.written", "due.committed"]),
    (
        Way::GivesUp,
        &[
            "step.owed",
            "step.saved",
            "act.written",
            "act.committed",
            "refund.answered",
            "step.saved:2",
            "refund.recorded",
            "refund.settled",
        ],
    ),
    (
        Way::Splits,
        &[
            "step.owed",
            "change.written",
            "change.committed",
            "refund.answered",
            "step.released",
            "refund.recorded",
            "refund.settled",
            "change.asked",
        ],
    ),
];

/// What goes on by itself and has not come to its end.
const UNDER_WAY: &str = "select (select count(*) from charge where look_up_at is not null)
     + (select count(*) from refund where look_up_at is not null)
     + (select count(*) from escrow where status = 'refunding' or completion_deadline <= now())";

/// How often money left this escrow, and how often its end was written down and told.
const ENDS: &str = "select concat_ws(' ',
       (select count(*) from ledger_entry where object_id = $1 and movement = 'released' and account = 'held'),
       (select count(*) from refund r join escrow e on e.charge_id = r.charge_id where e.id = $1),
       (select coalesce(sum(m.amount_refunded), 0) from simulator.charge m join escrow e on e.charge_id = m.charge_id
          where e.id = $1),
       (select count(*) from event where object_id = $1
          and type in ('escrow.completed', 'escrow.cancelled')))";

/// Whether the deaths here are the ones of a point.
pub fn leads_to(point: &str) -> bool {
    ["step", "act", "due", "change"].contains(&family(point))
}

/// A deal that a process died in, and what is asked again of the next one.
struct Left {
    way: Way,
    point: &'static str,
    story: Story,
    session: Option<Value>,
}

fn split(story: &Story) -> (String, [(&'static str, &'static str); 3]) {
    let fields = [("resolution", "split"), ("refund_amount", "10000"), ("release_amount", "15000")];
    (format!("/v1/escrows/{}/resolve", story.id), fields)
}

async fn die(world: &World, merchant: &Merchant, way: Way, point: &'static str) -> Left {
    let mut fields = canoe("quick");
    fields.push(("application_fee_amount", "1000"));
    let mut story = Story::of(world, merchant.clone(), &fields).await;
    if way != Way::Pays {
        story.pay().await;
    }
    let mut session = None;
    match way {
        Way::Pays => {
            let link = story.session("accept_pay", BUYER).await;
            let doomed = Doomed::start(world, point, Doom::default()).await;
            let mut buyer = story.buyer.at(&doomed.base);
            let (path, form) = buyer.ready(&link, GOOD_CARD).await;
            doomed.dies_of(point, async move { buyer.press(&path, &form).await }).await;
            session = Some(link);
        }
        Way::Releases | Way::GivesUp => {
            let (act, email) = if way == Way::Releases { ("complete", BUYER) } else { ("accept_cancellation", SELLER) };
            story.call("deliver", &[]).await.ok();
            if way == Way::GivesUp {
                story.act("request_cancellation", BUYER, &[("text", "I bought a kayak.")]).await;
            }
            let link = story.session(act, email).await;
            let doomed = Doomed::start(world, point, Doom::default()).await;
            let mut payer = story.buyer.at(&doomed.base);
            let page = payer.open(&link).await;
            let pressed = link.clone();
            doomed.dies_of(point, async move { press(&mut payer, &pressed, &page, &[]).await }).await;
            session = Some(link);
        }
        Way::InspectionEnds => {
            story.call("deliver", &[]).await.ok();
            let id = &story.id;
            world.execute(&format!("update escrow set completion_deadline = now() where id = '{id}'")).await;
            let doom = Doom { worker: true, ..Doom::default() };
            Doomed::start(world, point, doom).await.died_at(point).await;
        }
        Way::Splits => {
            story.act("dispute", BUYER, &[("reason", "not_received"), ("text", "Nothing came.")]).await;
            let (path, fields) = split(&story);
            let doomed = Doomed::start(world, point, Doom::default()).await;
            let there = merchant.at(&doomed.base);
            doomed.dies_of(point, async move { there.post_with_key(&path, &fields, &path).await }).await;
        }
    }
    Left { way, point, story, session }
}

/// Everybody asks once more, and the deal is where it must be.
async fn ends(world: &World, base: &str, left: Left) {
    let Left { way, point, mut story, session } = left;
    story.merchant = story.merchant.at(base);
    if let Some(session) = &session {
        let mut payer = story.buyer.at(base);
        let page = payer.open(session).await;
        match way {
            Way::Pays if page.has_card_form() => {
                let form = Payer::fill(&page, GOOD_CARD);
                payer.submit(&page, &form).await.says("Payment complete");
            }
            Way::Pays => drop(page.says("Payment complete")),
            _ => drop(press(&mut payer, session, &page, &[]).await),
        }
        assert_eq!(story.merchant.read(session).await["state"], "completed", "{way:?} {point}");
    }
    if way == Way::Splits {
        let (path, fields) = split(&story);
        story.merchant.post_with_key(&path, &fields, &path).await.ok();
    }
    let escrow = story.escrow().await;
    let (status, settlement, ends) = match way {
        Way::Pays => ("paid", Value::Null, "0 0 0 0"),
        Way::Releases | Way::InspectionEnds => {
            ("completed", json!({"buyer": 0, "seller": 24_000, "merchant": 1_000, "lost_at_bank": 0}), "1 0 0 1")
        }
        Way::GivesUp => {
            ("cancelled", json!({"buyer": 25_000, "seller": 0, "merchant": 0, "lost_at_bank": 0}), "0 1 25000 1")
        }
        Way::Splits => {
            ("completed", json!({"buyer": 10_000, "seller": 14_400, "merchant": 600, "lost_at_bank": 0}), "1 1 10000 1")
        }
    };
    assert_eq!((&escrow["status"], &escrow["settlement"]), (&status.into(), &settlement), "{way:?} {point}");
    assert_eq!(world.text(ENDS, &story.id).await, ends, "{way:?} {point}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_while_an_escrows_money_moves_leaves_it_moved_once_or_not_at_all() {
    let known = points();
    let all: Vec<(Way, &str)> =
        DEATHS.iter().flat_map(|(way, points)| points.iter().map(|point| (*way, *point))).collect();
    for (_, point) in &all {
        assert!(known.contains(point.trim_end_matches(":2")), "{point} is no crash point");
    }
    for point in known.iter().filter(|point| leads_to(point)) {
        assert!(all.iter().any(|(_, death)| death == point), "nothing leads to {point}");
    }
    let mut world = World::without_worker().await;
    let merchant = world.merchant().await;
    // What is due is anybody's, so processes with a worker die alone.
    let (alone, together): (Vec<_>, Vec<_>) = all.into_iter().partition(|(way, _)| *way == Way::InspectionEnds);
    let dying = futures_util::stream::iter(together).map(|(way, point)| die(&world, &merchant, way, point));
    let mut left: Vec<Left> = dying.buffer_unordered(AT_ONCE).collect().await;
    for (way, point) in alone {
        left.push(die(&world, &merchant, way, point).await);
    }

    world.add_replica_with(true).await;
    world.advance(chrono::Duration::seconds(65));
    world.count_becomes(UNDER_WAY, 0).await;
    world.books_are_right().await;
    let base = world.replicas[1].base.clone();
    for left in left {
        ends(&world, &base, left).await;
    }
    let left_with = world.count(HELD).await + world.count(SELLERS).await + world.count(MERCHANTS).await;
    assert_eq!(left_with + world.count(GIVEN_BACK).await, world.count(TAKEN).await);
    assert_eq!(world.count(UNBALANCED).await, 0);
    // Its chain of every history, and every sum.
    world.books_are_right().await;
    world.end().await;
}
