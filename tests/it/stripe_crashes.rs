//! The process is killed around what it asks of Stripe, with localstripe as Stripe: the next one finds
//! by the reference what became of it, and by its absence that nothing did.

use chrono::Duration;

use crate::doomed::{Doom, Doomed, family, points};
use crate::localstripe::{LocalStripe, REFUSED};
use crate::payer::{GOOD_CARD, Payer};
use crate::stripe_stories::settings;
use crate::world::{World, WorldOptions};

/// Deaths in the order in which they come, and whether Stripe had taken the money then. A point that is known for
/// being before or after the answer of another company is so for this one.
const DEATHS: [(&str, bool); 6] = [
    ("reference.told", false),
    ("reference.kept", false),
    ("pay.answered", true),
    ("settle.locked", true),
    ("settle.recorded", true),
    ("settle.committed", true),
];

const SETTLED_OF: &str =
    "select (count(*) filter (where look_up_at is not null))::text from charge where session_id = $1";

/// Whether the deaths here are the ones of a point.
pub fn leads_to(point: &str) -> bool {
    family(point) == "reference"
}

#[tokio::test]
async fn a_process_killed_round_a_call_to_stripe_leaves_what_the_next_one_finds_there() {
    let known = points();
    for point in known.iter().filter(|point| leads_to(point)) {
        assert!(DEATHS.iter().any(|(death, _)| death == point), "nothing leads to {point}");
    }
    let localstripe = LocalStripe::start().await;
    let mut settings = settings(&localstripe.base);
    settings.push(("STRIPE_OMITTED_PARAMETERS", REFUSED.join(",")));
    let mut world = World::with(WorldOptions { worker: false, settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let mut left = Vec::new();
    for (point, is_taken) in DEATHS {
        assert!(known.contains(point), "{point} is no crash point");
        let session = merchant.session().await;
        let doomed = Doomed::start(&world, point, Doom::default()).await;
        let mut payer = Payer::new(&doomed.base);
        let (path, form) = payer.ready(&session, GOOD_CARD).await;
        let before = localstripe.money().await;
        doomed.dies_of(point, async move { payer.press(&path, &form).await }).await;
        assert_eq!(localstripe.money().await - before, if is_taken { 2598 } else { 0 }, "{point}");
        left.push((point, is_taken, session));
    }
    // Refunds whose answer nobody heard, and that were answered and not written down.
    let mut given_back = Vec::new();
    for point in ["refund.answered", "refund.recorded"] {
        let session = merchant.session().await;
        world.payer().pay(&session, GOOD_CARD).await.says("Payment complete");
        let payment = merchant.read(&session).await["payment_intent"].as_str().expect("one").to_owned();
        let doomed = Doomed::start(&world, point, Doom::default()).await;
        let (there, of) = (merchant.at(&doomed.base), payment.clone());
        let asking = async move { there.post("/v1/refunds", &[("payment_intent", &of), ("amount", "1000")]).await };
        doomed.dies_of(point, asking).await;
        given_back.push(payment);
    }

    world.add_replica_with(true).await;
    world.advance(Duration::minutes(2));
    world.count_becomes("select count(*) from charge where look_up_at is not null", 0).await;
    world.count_becomes("select count(*) from refund where look_up_at is not null", 0).await;
    world.books_are_right().await;
    let next = world.replicas[1].base.clone();
    for (point, is_taken, session) in left {
        assert_eq!(world.text(SETTLED_OF, session["id"].as_str().expect("an id")).await, "0");
        let mut payer = Payer::new(&next);
        let page = payer.open(&session).await;
        assert_eq!(page.has_card_form(), !is_taken, "{point}: {}", page.text());
        if !is_taken {
            payer.pay(&session, GOOD_CARD).await;
        }
        payer.open(&session).await.says("You paid €25.98.");
        assert_eq!(merchant.read(&session).await["payment_status"], "paid", "{point}");
    }
    for payment in given_back {
        let refunds = merchant.get(&format!("/v1/refunds?payment_intent={payment}")).await.ok();
        let [refund] = &refunds["data"].as_array().expect("a list")[..] else { panic!("{refunds}") };
        assert_eq!((&refund["status"], &refund["amount"]), (&"succeeded".into(), &1000.into()), "{refund}");
    }
    localstripe.assert_one_charge_each().await;
    assert_eq!(localstripe.refunds().await.len(), 2);
    assert_eq!(localstripe.money().await, 8 * 2598 - 2 * 1000);
    let earned = "select coalesce(sum(amount), 0)::int8 from ledger_entry where account = 'merchant'";
    assert_eq!(world.count(earned).await, 8 * 2598 - 2 * 1000);
    world.books_are_right().await;
    world.end().await;
}
