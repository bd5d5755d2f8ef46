//! What must be nowhere afterwards: card numbers, security codes, payer tokens, API keys, webhook
//! secrets. Whole stories are played, then every row and every log line is searched.

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checkstand::providers::simulator_faults::{Fault as SimulatorFault, Times};
use chrono::Duration;
use reqwest::Method;
use sqlx::{AssertSqlSafe, PgConnection};
use tracing_subscriber::EnvFilter;

use crate::fault_proxy::{Fault, FaultProxy};
use crate::localstripe::{KEY, LocalStripe, REFUSED};
use crate::merchant::coffee_with;
use crate::payer::{Card, GOOD_CARD, Payer};
use crate::payer_identity::{newest_code, session_for_ada};
use crate::storefront::{Storefront, confirmation, confirmation_with, token_of};
use crate::world::{World, WorldOptions};

/// Cards for every fate, each with the same codes, which are looked for afterwards.
const CARDS: [Card; 6] = [
    Card { number: "4242 4242 4242 4242", expiry: "12 / 49", cvc: "937" },
    Card { number: "5555-5555-5555-4444", expiry: "12 / 49", cvc: "937" },
    Card { number: "378282246310005", expiry: "12 / 49", cvc: "9371" },
    Card { number: "4000000000000002", expiry: "12 / 49", cvc: "937" },
    Card { number: "4000000000000127", expiry: "12 / 49", cvc: "937" },
    Card { number: "4539578763621486", expiry: "12 / 49", cvc: "937" },
];
const CODES: [&str; 2] = ["937", "9371"];

/// Everything that the gateway would log at its most talkative.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Listens on this thread, on which the whole story runs.
    fn listen(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        // While there is but one subscriber, whether a log line is of interest is asked of the thread that
        // first comes by it, which may be another story's, and not of this one. So there are two.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("info,checkstand=trace"))
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        (tracing::subscriber::set_default(subscriber), second)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("not poisoned")).into_owned()
    }
}

/// Every row of every table of ours as text, bytes in hexadecimal.
async fn dump(connection: &mut PgConnection) -> Vec<(String, String)> {
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select table_schema, table_name from information_schema.tables
         where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("the catalogue");
    assert!(tables.len() > 12, "{tables:?}");
    let mut rows = Vec::new();
    for (schema, table) in tables {
        let sql = format!("select to_jsonb(t)::text from \"{schema}\".\"{table}\" t");
        let texts: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.expect("rows");
        rows.extend(texts.into_iter().map(|text| (table.clone(), text)));
    }
    rows
}

/// The digits of a text, whatever stands between them, would join numbers that have nothing to do with
/// each other; only what people put between the digits of a card is taken away.
fn without_separators(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let digit_at = |place: Option<usize>| place.and_then(|at| characters.get(at)).is_some_and(char::is_ascii_digit);
    let kept = characters.iter().enumerate().filter(|(at, character)| {
        !(matches!(character, ' ' | '-' | '+') && digit_at(at.checked_sub(1)) && digit_at(Some(at + 1)))
    });
    kept.map(|(_, character)| character).collect()
}

#[tokio::test]
async fn after_whole_stories_no_secret_is_in_any_row_or_log_line() {
    let log = Log::default();
    let listening = log.listen();
    // The card vault is on and every card is kept that can be, so that numbers are there to be found.
    let vault_key = STANDARD.encode([7; 32]);
    let settings = vec![("CARD_VAULT_KEYS", vault_key.clone())];
    let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let customer = merchant.post("/v1/customers", &[("email", "ada@example.com")]).await.ok();
    let keeping = [
        ("customer", customer["id"].as_str().expect("an id")),
        ("payment_intent_data[setup_future_usage]", "off_session"),
        ("saved_payment_method_options[allow_redisplay_filters][]", "limited"),
    ];
    let mut tokens = Vec::new();
    let mut browsers = Vec::new();

    for card in CARDS {
        let session = merchant
            .post_with_key("/v1/checkout/sessions", &coffee_with(&keeping), &format!("order-{}", tokens.len()))
            .await
            .ok();
        let mut payer = world.payer();
        tokens.push(payer.path_of(&session).rsplit('~').next().expect("a tag").to_owned());
        payer.pay(&session, card).await;
        // Typed into the wrong fields, and half a form: refused, and kept no more than the rest.
        let page = payer.open(&session).await;
        if page.has_card_form() {
            for field in 2..7 {
                let mut form = Payer::fill(&page, card);
                form[field].1 = card.number.to_owned();
                payer.submit(&page, &form).await;
            }
        }
        browsers.extend(payer.cookies().values().cloned());
    }
    // A kept card, charged by its provider's reference and by its number out of the vault.
    for without_reference in [false, true] {
        if without_reference {
            world.execute("update payment_method set provider_token = null").await;
        }
        let session = merchant.session_with(&keeping).await;
        let mut payer = world.payer();
        let page = payer.open(&session).await;
        let kept = crate::saved_cards::listed(&page);
        let form = crate::saved_cards::choose(&page, &kept[kept.len() - 1].value);
        let form = crate::saved_cards::with(form, "saved_card_cvc", "937");
        payer.submit(&page, &form).await.says("Payment complete");
    }
    assert_eq!(world.count("select count(*) from payment_method where vault_sealed is not null").await, 3);
    // The same on the merchant's own page: the card in its place, and in every place that it may stray into.
    for (number, card) in CARDS.into_iter().enumerate() {
        let session = merchant.session().await;
        let token = token_of(&session);
        tokens.push(token.rsplit('~').next().expect("a tag").to_owned());
        let shop = Storefront::new(&merchant);
        for place in ["/payer/email", "/payer/name", "/payment_method_data/type", "/payment_method_data/card/cvc", "/x"]
        {
            let stray = confirmation_with(card, "press-1", &[(place, serde_json::json!(card.number))]);
            let answer = shop.confirm(&token, &stray).await;
            assert!(answer.status.is_client_error() && !answer.text.contains(card.number), "{place}: {}", answer.text);
        }
        let attempt = format!("{number} {}", card.number);
        shop.confirm(&token, &confirmation(card, &attempt)).await;
        shop.look(&token).await.ok();
        shop.look(&format!("{token}x")).await.refused(404);
    }
    // In doubt, looked up, settled later; and one that the company never heard of.
    for fault in [SimulatorFault::FailAfter, SimulatorFault::FailBefore] {
        world.replicas[0].simulator.set(fault, Times::Next(1));
        let session = merchant.session().await;
        world.payer().pay(&session, Card { cvc: "937", ..GOOD_CARD }).await.says("We are checking your payment");
        world.advance(Duration::seconds(30));
        world.count_becomes("select count(*) from charge where state = 'pending'", 0).await;
    }
    // For one person: codes typed wrong, replaced and typed right, and the binding that they earn.
    let mut one_time_codes = Vec::new();
    for _ in 0..2 {
        let session = session_for_ada(&merchant).await;
        let mut ada = world.payer();
        for wait in [31, 0] {
            ada.ask_for_code(&session).await;
            one_time_codes.push(newest_code(&world).await);
            ada.type_code(&session, "0000 0000").await;
            world.advance(Duration::seconds(wait));
        }
        ada.type_code(&session, &one_time_codes[one_time_codes.len() - 1]).await;
        ada.pay(&session, Card { cvc: "937", ..GOOD_CARD }).await.says("Payment complete");
        tokens.push(ada.path_of(&session).rsplit('~').next().expect("a tag").to_owned());
        browsers.extend(ada.cookies().values().cloned());
    }
    receiver.wait_for("checkout.session.payment_failed").await;
    world.count_becomes("select count(*) from delivery", 0).await;

    let mut database = world.database().await;
    let mut places = dump(&mut database).await;
    assert!(
        places.iter().any(|(table, text)| table == "mail" && text.contains("Receipt from")),
        "receipts are written"
    );
    assert!(places.iter().any(|(table, text)| table == "mail" && text.contains("identity_code")), "and so are codes");
    assert!(places.iter().any(|(table, _)| table == "payer_binding"), "a browser was bound");
    assert!(places.iter().any(|(table, text)| table.starts_with("event") && text.contains("completed")));
    let lines = log.text();
    assert!(lines.contains("/c/{token}/pay"), "the log hears the story");
    assert!(lines.contains("the outcome of a charge is unknown"), "the log hears of trouble");
    places.extend(lines.lines().map(|line| ("log".to_owned(), line.to_owned())));
    places.extend(receiver.deliveries().into_iter().map(|delivery| ("webhook".to_owned(), delivery.body)));

    let mut secrets: Vec<String> = tokens;
    secrets.extend([merchant.key.clone(), receiver.secret.clone(), vault_key]);
    secrets.extend(browsers);
    secrets.extend(one_time_codes.iter().map(|code| format!("{} {}", &code[..4], &code[4..])));
    secrets.extend(one_time_codes);
    for card in CARDS {
        secrets.push(card.number.chars().filter(char::is_ascii_digit).collect());
    }
    let in_hexadecimal: Vec<String> = secrets.iter().map(hex::encode).collect();
    for (place, text) in &places {
        // Rendering their tests is the pages' own business: they name one card that anybody may use.
        let joined = without_separators(text);
        for secret in secrets.iter().chain(&in_hexadecimal) {
            let advice = "Use a test card such as 4242 4242 4242 4242.";
            let found = joined.replace(&without_separators(advice), "").contains(secret.as_str());
            assert!(!found, "{place} holds {secret}: {text}");
        }
        // A point joins: the fraction of a second is no code.
        let mut words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '.');
        assert!(!words.any(|word| CODES.contains(&word.trim_matches('.'))), "{place} holds a security code: {text}");
    }
    drop(listening);
    world.end().await;
}

#[tokio::test]
async fn what_is_sent_to_stripe_is_in_no_row_or_log_line_however_it_fails() {
    let log = Log::default();
    let listening = log.listen();
    let localstripe = LocalStripe::start().await;
    let proxy = FaultProxy::start(&localstripe.base, &REFUSED).await;
    let mut settings = crate::stripe_stories::settings(&proxy.base);
    settings.push(("STRIPE_CALLBACK_SECRETS", "whsec_never_to_be_seen".to_owned()));
    let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let quoting = r#"{"error":{"type":"invalid_request_error","message":"no card 4242424242424242 937",
        "param":"card[number]=4242424242424242","code":"937"}}"#;
    let faults = [
        ("/v1/payment_methods", Fault::CutBefore),
        ("/v1/payment_methods", Fault::AnswerAfter(400, quoting)),
        ("/v1/payment_intents", Fault::AnswerAfter(500, quoting)),
        ("/confirm", Fault::AnswerAfter(402, quoting)),
        ("/confirm", Fault::CutAfter),
    ];
    for (path, fault) in faults {
        proxy.strike(Method::POST, path, fault, 1);
        let session = merchant.session().await;
        world.payer().pay(&session, Card { cvc: "937", ..GOOD_CARD }).await;
        world.advance(Duration::minutes(2));
        world.count_becomes("select count(*) from charge where state = 'pending'", 0).await;
    }
    let sent = proxy.recorded();
    let card = sent.iter().filter(|sent| sent.form.contains(&("card[cvc]".to_owned(), "937".to_owned())));
    assert_eq!(card.count(), faults.len(), "the card went to Stripe and nowhere else");

    let mut places = dump(&mut world.database().await).await;
    let lines = log.text();
    for heard in ["a payment could not be begun at Stripe", "Stripe refused to begin a payment", "is unknown"] {
        assert!(lines.contains(heard), "the log hears of trouble: {heard}");
    }
    places.extend(lines.lines().map(|line| ("log".to_owned(), line.to_owned())));
    for (place, text) in &places {
        for secret in ["4242424242424242", KEY, "whsec_never_to_be_seen"] {
            assert!(!without_separators(text).contains(secret), "{place} holds {secret}: {text}");
        }
        let mut words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '.');
        assert!(!words.any(|word| word.trim_matches('.') == "937"), "{place} holds a security code: {text}");
    }
    drop(listening);
    world.end().await;
}

#[tokio::test]
async fn the_search_finds_what_it_looks_for() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session =
        merchant.session_with(&[("metadata[note]", "4242-4242 42424242"), ("client_reference_id", "937")]).await;
    let mut database = world.database().await;
    let rows = dump(&mut database).await;
    assert!(rows.iter().any(|(_, text)| without_separators(text).contains("4242424242424242")));
    assert!(rows.iter().any(|(_, text)| text.contains(session["id"].as_str().expect("an id"))));
    assert!(rows.iter().any(|(_, text)| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "937")));
    world.end().await;
}

#[tokio::test]
async fn what_is_kept_of_a_card_is_what_may_be_kept() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let mut fingerprints = Vec::new();
    for card in [GOOD_CARD, GOOD_CARD, CARDS[1]] {
        let session = merchant.session().await;
        world.payer().pay(&session, card).await.says("Payment complete");
        let id = session["id"].as_str().expect("an id");
        fingerprints.push(world.text("select card_fingerprint from charge where session_id = $1", id).await);
        let method = world.text("select payment_method from charge where session_id = $1", id).await;
        assert!(method.starts_with("pm_") && !method.contains("4242"), "{method}");
    }
    assert_eq!(fingerprints[0], fingerprints[1], "the same card is known again");
    assert_ne!(fingerprints[0], fingerprints[2]);
    let columns = "select count(*) from information_schema.columns
         where table_schema not in ('pg_catalog', 'information_schema')
           and column_name ~ '(^|_)(cvc|cvv|csc|pan|number|track)($|_)'
           -- The bank's judgement of the code, not the code.
           and column_name <> 'check_cvc'
           -- The place of an entry in an escrow's history.
           and (table_name, column_name) <> ('escrow_history', 'number')";
    assert_eq!(world.count(columns).await, 0);
    world.end().await;
}
