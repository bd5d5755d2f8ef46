//! Who gets which charge: the operator's rules, what providers can do, and settings that make no sense.

use std::process::Stdio;

use checkstand::domain::money::Currency;
use serde_json::Value;
use tokio::process::Command;

use crate::merchant::Merchant;
use crate::payer::{Card, GOOD_CARD, Payer};
use crate::world::{World, WorldOptions};

const MASTERCARD: Card = Card { number: "5555 5555 5555 4444", expiry: "12 / 49", cvc: "123" };

async fn session(merchant: &Merchant, amount: &str, currency: &str) -> Value {
    let fields = [
        ("mode", "payment"),
        ("amount", amount),
        ("currency", currency),
        ("success_url", "https://shop.example/thanks"),
        ("cancel_url", "https://shop.example/cart"),
    ];
    merchant.post("/v1/checkout/sessions", &fields).await.ok()
}

fn two_companies() -> WorldOptions {
    WorldOptions { settings: vec![("SIMULATOR_NAMES", "simulator,second".to_owned())], ..WorldOptions::default() }
}

#[tokio::test]
async fn a_rule_by_currency_brand_amount_or_merchant_picks_the_provider() {
    let mut world = World::with(two_companies()).await;
    let [merchant, other] = [world.merchant().await, world.merchant().await];
    world.write_file(&format!(
        r#"
        [[routing]]
        merchants = ["{}"]
        providers = ["second"]
        [[routing]]
        brands = ["mastercard", "amex"]
        providers = ["second", "simulator"]
        [[routing]]
        currencies = ["eur"]
        amount_min = 10000
        amount_max = 20000
        providers = ["second"]
        [[routing]]
        currencies = ["eur"]
        mode = "live"
        providers = ["second"]
        [[routing]]
        currencies = ["chf", "usd"]
        providers = ["second"]
        "#,
        other.id
    ));
    world.add_replica().await;
    let base = world.replicas[1].base.clone();
    let table = [
        (&merchant, "9999", "eur", GOOD_CARD, "simulator"),
        (&merchant, "10000", "eur", GOOD_CARD, "second"),
        (&merchant, "20000", "eur", GOOD_CARD, "second"),
        (&merchant, "20001", "eur", GOOD_CARD, "simulator"),
        (&merchant, "10000", "gbp", GOOD_CARD, "simulator"),
        (&merchant, "10000", "chf", GOOD_CARD, "second"),
        (&merchant, "500", "eur", MASTERCARD, "second"),
        (&other, "500", "eur", GOOD_CARD, "second"),
    ];
    for (merchant, amount, currency, card, provider) in table {
        let session = session(merchant, amount, currency).await;
        Payer::new(&base).pay(&session, card).await.says("Payment complete");
        let id = session["id"].as_str().expect("an id");
        let asked = world.text("select string_agg(provider, ' ') from charge where session_id = $1", id).await;
        assert_eq!(asked, provider, "{amount} {currency} {}", card.number);
        // What we say of it is what the company's own books say.
        let books = world
            .text(
                "select b.provider from simulator.charge b join charge c on c.id = b.charge_id
                 where c.session_id = $1 and b.state = 'captured'",
                id,
            )
            .await;
        assert_eq!(books, provider);
    }
    let eur = Currency::parse("eur").expect("a known currency");
    assert!(!world.app().providers.can_take(true, eur, false));
    world.end().await;
}

#[tokio::test]
async fn money_goes_back_by_the_provider_that_took_it() {
    let mut world = World::with(two_companies()).await;
    world.write_file("[[routing]]\nproviders = [\"second\"]");
    world.add_replica().await;
    let base = world.replicas[1].base.clone();
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    Payer::new(&base).pay(&session, GOOD_CARD).await.says("Payment complete");
    let payment = merchant.read(&session).await["payment_intent"].as_str().expect("a payment").to_owned();
    // Also from a gateway whose rules would choose the other one.
    let refund = merchant.post("/v1/refunds", &[("payment_intent", &payment), ("amount", "1000")]).await.ok();
    assert_eq!(refund["status"], "succeeded");
    let rest = merchant.at(&base).post("/v1/refunds", &[("payment_intent", &payment)]).await.ok();
    assert_eq!(rest["amount"], 1_598);
    let given_back = "select count(*) from simulator.charge where provider = 'second' and state = 'refunded'";
    assert_eq!(world.count(given_back).await, 1);
    assert_eq!(world.count("select count(*) from simulator.charge where provider = 'simulator'").await, 0);
    world.end().await;
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_before_anything_starts() {
    let table = [
        ("[[routing]]\nproviders = [\"bank\"]", "routing rule 1 names the provider `bank`, which is not configured"),
        (
            "[[routing]]\ncurrencies = [\"eur\"]\namount_min = 5\namount_max = 4\nproviders = [\"simulator\"]",
            "routing rule 1 bounds the amount to 5..4, where no amount lies",
        ),
        ("[[routing]]\nprovider = \"simulator\"", "unknown field `provider`"),
        ("simulator_faults = [\"simulator:explode:1\"]", "`simulator_faults` has \"simulator:explode:1\""),
        ("breaker_open_seconds = 0", "`breaker_open_seconds` must be 1 to 60"),
    ];
    let world = World::start().await;
    for (number, (text, expected)) in table.into_iter().enumerate() {
        let file = format!("{}/routing_{number}.toml", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&file, text).expect("the settings are written");
        for action in [&["config", "check"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let refused = Command::new(env!("CARGO_BIN_EXE_checkstand"))
                .args(["--config", &file])
                .args(action)
                .envs(world.environment().await)
                .stdin(Stdio::null())
                .output()
                .await
                .expect("the program runs");
            assert!(!refused.status.success(), "{text}");
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(said.contains(expected), "{text}: {said}");
        }
        std::fs::remove_file(&file).expect("the settings are taken away");
    }
    world.end().await;
}
