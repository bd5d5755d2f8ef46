//! What the payer sees while the session is open: the form and what is wrong with it. And what a link
//! that opens nothing shows.

use reqwest::Method;

use crate::merchant::coffee;
use crate::payer::{GOOD_CARD, Page, Payer};
use crate::world::World;

const MAIL_SCANNERS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0) SafeLinks",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "WhatsApp/2.23",
    "Mozilla/5.0 (compatible; Barracuda Sentinel)",
];

/// One input's tag.
fn input<'p>(page: &'p Page, name: &str) -> &'p str {
    let marker = format!("name=\"{name}\"");
    let tag = page.html.split('<').find(|tag| tag.starts_with("input") && tag.contains(&marker));
    tag.unwrap_or_else(|| panic!("no field {name} on the page"))
}

#[tokio::test]
async fn the_form_shows_who_is_paid_what_for_how_much_and_until_when() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let mut fields = coffee();
    fields.extend([
        ("line_items[1][price_data][currency]", "eur"),
        ("line_items[1][price_data][product_data][name]", "Filter papers"),
        ("line_items[1][price_data][product_data][description]", "A hundred, unbleached"),
        ("line_items[1][price_data][unit_amount]", "350"),
        ("line_items[1][quantity]", "1"),
    ]);
    let session = merchant.post("/v1/checkout/sessions", &fields).await.ok();
    let page = world.payer().open(&session).await;
    assert_eq!(page.status, 200);
    page.says("Corner Coffee")
        .says("House blend 2 × €12.99 €25.98")
        .says("Filter papers A hundred, unbleached €3.50")
        .says("Total €29.48")
        .says("€29.48 EUR")
        .says("Time left to pay: 29 minutes")
        .says("Test mode. No real money moves.")
        .says(session["id"].as_str().expect("an id"));
    for (name, attributes) in [
        ("email", ["type=\"email\"", "inputmode=\"email\"", "autocomplete=\"email\""]),
        ("card_number", ["type=\"text\"", "inputmode=\"numeric\"", "autocomplete=\"cc-number\""]),
        ("card_expiry", ["type=\"text\"", "inputmode=\"numeric\"", "autocomplete=\"cc-exp\""]),
        ("card_cvc", ["type=\"text\"", "inputmode=\"numeric\"", "autocomplete=\"cc-csc\""]),
        ("card_name", ["type=\"text\"", "required", "autocomplete=\"cc-name\""]),
    ] {
        for attribute in attributes {
            assert!(input(&page, name).contains(attribute), "{name} has no {attribute}");
        }
        assert!(page.html.contains(&format!("<label for=\"{name}\">")), "{name} has no label");
    }
    assert!(!input(&page, "email").contains("readonly"));
    world.end().await;
}

#[tokio::test]
async fn amounts_are_written_as_the_payer_reads_them() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    // Locale of the session, of the browser, currency, minor units, as shown.
    for (locale, accepted, currency, minor, shown) in [
        (None, None, "eur", "123450", "€1,234.50"),
        (None, Some("de-DE,de;q=0.9,en;q=0.5"), "eur", "123450", "1.234,50 €"),
        (Some("auto"), Some("de"), "eur", "123450", "1.234,50 €"),
        (Some("de"), Some("en"), "eur", "123450", "1.234,50 €"),
        (Some("en"), Some("de"), "eur", "123450", "€1,234.50"),
        (None, Some("xx;q=1, fr;q=0.8, de;q=0.1"), "eur", "123450", "1 234,50 €"),
        (None, Some("\u{fffd};;;,,q=9"), "eur", "123450", "€1,234.50"),
        (None, None, "jpy", "1234560", "¥1,234,560"),
        (Some("de"), None, "jpy", "1234560", "1.234.560 ¥"),
        (None, None, "kwd", "1234560", "KWD 1,234.560"),
        (Some("de"), None, "kwd", "1234560", "1.234,560 KWD"),
    ] {
        let mut fields = vec![
            ("line_items[0][price_data][currency]", currency),
            ("line_items[0][price_data][unit_amount]", minor),
            ("line_items[0][quantity]", "1"),
        ];
        fields.extend(locale.map(|locale| ("locale", locale)));
        let session = merchant.session_with(&fields).await;
        let mut payer = world.payer();
        let path = payer.path_of(&session);
        let headers: Vec<(&str, &str)> = accepted.map(|value| ("accept-language", value)).into_iter().collect();
        let page = payer.send_with(Method::GET, &path, &headers, None).await;
        page.says(&format!("Total: {shown} {}", currency.to_uppercase())).says(&format!("Pay {shown}"));
        let form = Payer::fill(&page, GOOD_CARD);
        payer.submit(&page, &form).await;
        let done = payer.send_with(Method::GET, &format!("{path}/done"), &headers, None).await;
        done.says(&format!("You paid {shown}."));
    }
    world.end().await;
}

#[tokio::test]
async fn an_address_that_the_merchant_knows_is_shown_and_cannot_be_changed() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session_with(&[("customer_email", "grace@navy.example")]).await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    assert!(input(&page, "email").contains("value=\"grace@navy.example\" readonly"), "{}", input(&page, "email"));
    let mut form = Payer::fill(&page, GOOD_CARD);
    form.iter_mut().find(|(name, _)| name == "email").expect("is there").1 = "mallory@evil.example".to_owned();
    payer.submit(&page, &form).await.says("Payment complete");
    assert_eq!(merchant.read(&session).await["customer_details"]["email"], "grace@navy.example");
    assert_eq!(world.count("select count(*) from checkout_session where payer_email like '%mallory%'").await, 0);
    world.end().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays() {
    let world = World::start().await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    // Field, what is typed into it, what the page says.
    for (field, typed, words) in [
        ("email", "", "Enter an e-mail address, such as name@example.com."),
        ("email", "ada@", "Enter an e-mail address, such as name@example.com."),
        ("card_number", "", "Enter the long number on your card."),
        ("card_number", "4242 4242 4242 4241", "Check the card number"),
        ("card_number", "4242", "Check the card number"),
        ("card_expiry", "", "Enter the month and year on your card"),
        ("card_expiry", "13 / 49", "Enter the expiry date as month and year"),
        ("card_expiry", "01 / 20", "This card has expired."),
        ("card_cvc", "", "Enter the 3 digits on the back of your card."),
        ("card_cvc", "12", "Enter the security code"),
        ("card_cvc", "1234", "Enter the security code"),
        ("card_name", "", "Enter the name on your card."),
        ("card_name", "x\u{7}y", "Enter the name as it stands on your card"),
    ] {
        let mut form = Payer::fill(&page, GOOD_CARD);
        form.iter_mut().find(|(name, _)| name == field).expect("is there").1 = typed.to_owned();
        let answer = payer.submit(&page, &form).await;
        assert_eq!(answer.status, 422, "{field}={typed}");
        answer.says("One thing needs your attention").says("No money was taken.");
        let beside = format!("id=\"{field}-error\"");
        let note = answer.html.split(&beside).nth(1).unwrap_or_else(|| panic!("{field}={typed}: nothing beside it"));
        assert!(note.split("</p>").next().is_some_and(|note| note.contains(words)), "{field}={typed}: {note}");
        assert!(input(&answer, field).contains("aria-invalid=\"true\""), "{field}={typed}");
        for (name, value) in &form {
            let kept = answer.field(name).unwrap_or_default();
            match name.as_str() {
                "card_number" | "card_cvc" => assert!(!input(&answer, name).contains("value="), "{name} is kept"),
                "attempt_key" => assert_ne!(&kept, value, "a page's attempt key is its own"),
                _ => assert_eq!(&kept, value.trim(), "{field}={typed}: {name} is not kept"),
            }
        }
    }
    let empty: Vec<(String, String)> = Payer::fill(&page, GOOD_CARD).into_iter().take(2).collect();
    let answer = payer.submit(&page, &empty).await;
    answer.says("5 things need your attention");
    assert_eq!(world.count("select count(*) from charge").await, 0);
    payer.pay(&session, GOOD_CARD).await.says("Payment complete");
    world.end().await;
}

#[tokio::test]
async fn a_card_number_in_another_field_is_refused_and_neither_kept_nor_shown() {
    let world = World::start().await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    for (field, typed) in [
        ("card_name", "4242424242424242"),
        ("card_name", "4242 4242 4242 4242"),
        ("card_name", "4242-4242-4242-4242"),
        ("card_name", "Ada 4242 4242 4242 4242 Lovelace"),
        ("card_name", "４２４２４２４２４２４２４２４２"),
        ("card_expiry", "4242424242424242"),
        ("card_cvc", "4242424242424242"),
        ("email", "4242424242424242"),
        ("email", "4242424242424242@example.com"),
        ("attempt_key", "4242424242424242"),
    ] {
        let mut form = Payer::fill(&page, GOOD_CARD);
        form.iter_mut().find(|(name, _)| name == field).expect("is there").1 = typed.to_owned();
        let answer = payer.submit(&page, &form).await;
        assert!([403, 422].contains(&answer.status.as_u16()), "{field}={typed}: {}", answer.status);
        let form_shown = answer.html.split("<main").nth(1).unwrap_or_default();
        for leak in [typed, "4242424242424242", "4242 4242 4242 4242"] {
            assert!(!form_shown.contains(leak), "{field}={typed} comes back in the page");
        }
        assert_eq!(world.count("select count(*) from charge").await, 0, "{field}={typed}");
        assert_eq!(world.count("select count(*) from checkout_session where payer_name is not null").await, 0);
    }
    world.end().await;
}

#[tokio::test]
async fn links_that_open_nothing_are_told_nothing_apart() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let session = merchant.session().await;
    let purged = merchant.session().await;
    let mut payer = world.payer();
    let path = payer.path_of(&session);
    let other = payer.path_of(&purged);
    let (id, tag) = path.split_once('~').expect("an id and a tag");
    let (other_id, other_tag) = other.split_once('~').expect("an id and a tag");
    let mut database = world.database().await;
    for sql in ["delete from event where session_id = $1", "delete from checkout_session where id = $1"] {
        let purged = purged["id"].as_str().expect("an id");
        sqlx::query(sql).bind(purged).execute(&mut database).await.expect("deletes");
    }
    let paths = [
        other.clone(),
        format!("{id}~{other_tag}"),
        format!("{other_id}~{tag}"),
        id.to_owned(),
        format!("{id}~"),
        format!("{path}x"),
        path.replace("cs_test_", "cs_live_"),
        path.to_uppercase().replace("/C/", "/c/"),
        "/c/x".to_owned(),
        "/c/%00".to_owned(),
        "/c/%ff%fe".to_owned(),
        format!("/c/{}", "a".repeat(4000)),
    ];
    let reference = payer.send(Method::GET, "/c/unknown", None).await;
    assert_eq!(reference.status, 404);
    reference.says("This link does not lead to a payment");
    let plain = |page: &Page| -> Vec<(String, String)> {
        let of_the_request = |name: &str| ["date", "request-id"].contains(&name);
        let mut headers: Vec<(String, String)> = page
            .headers
            .iter()
            .filter(|(name, _)| !of_the_request(name.as_str()))
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        headers.sort();
        headers
    };
    for path in &paths {
        for end in ["", "/status", "/done", "/cancel", "/pay"] {
            let page = payer.send(Method::GET, &format!("{path}{end}"), None).await;
            assert_eq!(page.status, 404, "{path}{end}");
            assert_eq!(page.html, reference.html, "{path}{end}");
            assert_eq!(plain(&page), plain(&reference), "{path}{end}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn opening_a_link_changes_nothing_but_when_it_was_first_opened() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;
    let session = merchant.session().await;
    let id = session["id"].as_str().expect("an id");
    let row = "select (to_jsonb(s) - 'opened_at' - 'event_count')::text from checkout_session s where id = $1";
    let before = world.text(row, id).await;
    let mut scanner = world.payer();
    let path = scanner.path_of(&session);
    for end in ["", "/cancel", "/done", "/status", "/pay"] {
        scanner.send(Method::HEAD, &format!("{path}{end}"), None).await;
    }
    let untouched = "select count(*) from checkout_session where opened_at is null";
    assert_eq!(world.count(untouched).await, 1, "HEAD is not an opening");
    for visit in 0..100 {
        let agent = MAIL_SCANNERS[visit % MAIL_SCANNERS.len()];
        let end = ["", "", "/cancel", "/status"][visit / MAIL_SCANNERS.len() % 4];
        scanner.forget_cookies();
        let page = scanner.send_with(Method::GET, &format!("{path}{end}"), &[("user-agent", agent)], None).await;
        assert!(page.status.is_success() || page.status == 303, "{}", page.status);
    }
    receiver.wait_for("checkout.session.opened").await;
    assert_eq!(world.text(row, id).await, before);
    assert_eq!(world.count(untouched).await, 0);
    assert_eq!(world.count("select count(*) from event where type = 'checkout.session.opened'").await, 1);
    world.payer().pay(&session, GOOD_CARD).await.says("Payment complete");
    world.end().await;
}

#[tokio::test]
async fn an_open_session_sends_every_other_page_to_its_form() {
    let world = World::start().await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let path = payer.path_of(&session);
    for end in ["/done", "/status", "/pay"] {
        let page = payer.send(Method::GET, &format!("{path}{end}"), None).await;
        assert_eq!((page.status.as_u16(), page.header("location")), (303, Some(path.as_str())), "{end}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_price_with_a_fraction_of_a_cent_is_shown_in_euros_too() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let mut fields = coffee();
    fields.retain(|(name, _)| !name.ends_with("[unit_amount]") && !name.ends_with("[quantity]"));
    fields.extend([("line_items[0][price_data][unit_amount_decimal]", "1050.5"), ("line_items[0][quantity]", "3")]);
    let session = merchant.post("/v1/checkout/sessions", &fields).await.ok();
    let page = world.payer().open(&session).await;
    page.says("3 × 10.505 EUR").says("€31.52");
    world.end().await;
}
