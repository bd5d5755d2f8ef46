//! Lists of checkout sessions and of their lines: pages in both directions, filters, bounds.

use serde_json::{Value, json};

use crate::merchant::{Merchant, ids};
use crate::payer::GOOD_CARD;
use crate::world::World;

const SESSIONS: &str = "/v1/checkout/sessions";

/// Walks a list to its end, by `starting_after` or by `ending_before`; gives the pages as they came.
async fn walk(
    merchant: &Merchant,
    path: &str,
    limit: usize,
    cursor: &str,
    mut from: Option<String>,
) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    loop {
        let query = from.as_ref().map(|id| format!("&{cursor}={id}")).unwrap_or_default();
        let list = merchant.get(&format!("{path}?limit={limit}{query}")).await.ok();
        assert_eq!([&list["object"], &list["url"]], [&json!("list"), &json!(path)]);
        let page = ids(&list);
        from = if cursor == "starting_after" { page.last().cloned() } else { page.first().cloned() };
        let more = list["has_more"].as_bool().expect("a boolean");
        assert!(!more || page.len() == limit, "a page that is not the last is full");
        pages.push(page);
        if !more {
            return pages;
        }
        assert!(pages.len() < 50, "the list does not end");
    }
}

#[tokio::test]
async fn pages_of_sessions_lead_to_both_ends_without_gaps_or_repeats() {
    let world = World::without_worker().await;
    let (merchant, stranger) = (world.merchant().await, world.merchant().await);
    let mut made = Vec::new();
    for _ in 0..7 {
        stranger.session().await;
        made.push(merchant.session().await["id"].as_str().expect("an id").to_owned());
    }
    // Ids carry the millisecond, so newest first is their order backwards.
    made.sort_unstable();
    made.reverse();
    for limit in [1, 3, 7, 100] {
        let down = walk(&merchant, SESSIONS, limit, "starting_after", None).await;
        assert_eq!(down.concat(), made, "limit {limit}");
        let up = walk(&merchant, SESSIONS, limit, "ending_before", Some(made[6].clone())).await;
        let up: Vec<String> = up.into_iter().rev().flatten().collect();
        assert_eq!(up, made[..6], "limit {limit}");
    }
    let past_the_end = merchant.get(&format!("{SESSIONS}?starting_after={}", made[6])).await.ok();
    assert_eq!([&past_the_end["data"], &past_the_end["has_more"]], [&json!([]), &json!(false)]);
    world.end().await;
}

#[tokio::test]
async fn a_page_holds_ten_unless_asked_for_one_to_a_hundred() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    for _ in 0..11 {
        merchant.session().await;
    }
    let default = merchant.get(SESSIONS).await.ok();
    assert_eq!((ids(&default).len(), &default["has_more"]), (10, &json!(true)));
    let all = merchant.get(&format!("{SESSIONS}?limit=100")).await.ok();
    assert_eq!((ids(&all).len(), &all["has_more"]), (11, &json!(false)));
    for path in [SESSIONS, "/v1/events", "/v1/webhook_endpoints", "/v1/redirect_urls"] {
        for limit in ["0", "-1", "101", "ten", "1.5", "9223372036854775808"] {
            let query = format!("{path}?limit={limit}");
            merchant.get(&query).await.refused_with(400, "parameter_invalid_integer", "limit");
        }
        let both = format!("{path}?starting_after=a&ending_before=b");
        merchant.get(&both).await.refused_with(400, "parameters_exclusive", "ending_before");
        let error = merchant.get(&format!("{path}?limt=5")).await.refused_with(400, "parameter_unknown", "limt");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("Did you mean limit?")), "{error}");
    }
    world.end().await;
}

#[tokio::test]
async fn filters_narrow_the_list_to_what_they_say() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let id = |session: &Value| session["id"].as_str().expect("an id").to_owned();
    let open = merchant.session_with(&[("customer_email", "Grace@Example.com"), ("client_reference_id", "r-1")]).await;
    world.advance(chrono::Duration::seconds(10));
    let expired = merchant.session().await;
    merchant.post(&format!("{SESSIONS}/{}/expire", id(&expired)), &[]).await.ok();
    world.advance(chrono::Duration::seconds(10));
    let paid = merchant.session().await;
    world.payer().pay(&paid, GOOD_CARD).await.says("Payment complete");
    let paid = merchant.read(&paid).await;
    let payment = paid["payment_intent"].as_str().expect("a payment").to_owned();
    let middle = expired["created"].as_i64().expect("a time");
    let [open, expired, paid] = [open, expired, paid].map(|session| id(&session));

    for (query, expected) in [
        (String::new(), vec![&paid, &expired, &open]),
        ("status=open".to_owned(), vec![&open]),
        ("status=complete".to_owned(), vec![&paid]),
        ("status=expired".to_owned(), vec![&expired]),
        ("state=pending".to_owned(), vec![&open]),
        ("state=cancelled".to_owned(), vec![]),
        (format!("payment_intent={payment}"), vec![&paid]),
        ("payment_intent=pi_x".to_owned(), vec![]),
        ("customer_details[email]=ada@example.com".to_owned(), vec![&paid]),
        ("customer_details%5Bemail%5D=grace%40example.com".to_owned(), vec![&open]),
        ("customer_details[email]=nobody@example.com".to_owned(), vec![]),
        ("client_reference_id=r-1".to_owned(), vec![&open]),
        ("customer=cus_x".to_owned(), vec![]),
        ("payment_link=plink_x".to_owned(), vec![]),
        ("subscription=sub_x".to_owned(), vec![]),
        (format!("created={middle}"), vec![&expired]),
        (format!("created[gt]={middle}"), vec![&paid]),
        (format!("created[gte]={middle}"), vec![&paid, &expired]),
        (format!("created[lt]={middle}"), vec![&open]),
        (format!("created[lte]={middle}"), vec![&expired, &open]),
        (format!("created[gte]={middle}&status=complete&limit=1"), vec![&paid]),
        (format!("created[gt]={}", middle + 86_400), vec![]),
    ] {
        let found = merchant.get(&format!("{SESSIONS}?{query}")).await.ok();
        assert_eq!(ids(&found).iter().collect::<Vec<_>>(), expected, "{query}");
    }
    for (query, code, param) in [
        ("status=paid", "parameter_invalid_value", "status"),
        ("state=open", "parameter_invalid", "state"),
        ("created=yesterday", "parameter_invalid_value", "created"),
        ("created[since]=5", "parameter_unknown", "created[since]"),
        ("created[gt]=x", "parameter_invalid_integer", "created[gt]"),
        ("created[gt]=9223372036854775807", "parameter_invalid_integer", "created[gt]"),
        ("created[lt]=-8000000000000", "parameter_invalid_integer", "created[lt]"),
        ("created[lt]=8000000000000", "parameter_invalid_integer", "created[lt]"),
        ("customer_details[name]=x", "parameter_unknown", "customer_details[name]"),
        ("status=open%00", "parameter_nul_character", "status"),
        ("sttus=open", "parameter_unknown", "sttus"),
    ] {
        merchant.get(&format!("{SESSIONS}?{query}")).await.refused_with(400, code, param);
    }
    world.end().await;
}

#[tokio::test]
async fn line_items_come_in_their_order_page_by_page() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let lines: Vec<Value> = (1..=5)
        .map(|number| {
            json!({
                "price_data": {
                    "currency": "eur",
                    "unit_amount": number * 100,
                    "product_data": {"name": format!("Line {number}"), "description": "d", "metadata": {"n": number.to_string()}},
                },
                "quantity": number,
            })
        })
        .collect();
    let session = merchant.post_json(SESSIONS, &json!({"line_items": lines})).await.ok();
    let path = format!("{SESSIONS}/{}/line_items", session["id"].as_str().expect("an id"));
    let all = merchant.get(&path).await.ok();
    for (place, line) in all["data"].as_array().expect("lines").iter().enumerate() {
        let number = i64::try_from(place + 1).expect("small");
        assert_eq!(line["description"], format!("Line {number}"));
        assert_eq!([&line["quantity"], &line["amount_total"]], [&json!(number), &json!(number * number * 100)]);
        assert!(line["price"]["product"].is_string());
    }
    let order = ids(&all);
    for limit in [1, 2, 5, 100] {
        assert_eq!(walk(&merchant, &path, limit, "starting_after", None).await.concat(), order);
        let up = walk(&merchant, &path, limit, "ending_before", Some(order[4].clone())).await;
        assert_eq!(up.into_iter().rev().flatten().collect::<Vec<_>>(), order[..4]);
    }
    for cursor in ["starting_after", "ending_before"] {
        let elsewhere = format!("{path}?{cursor}=li_00000000000000000000000000");
        merchant.get(&elsewhere).await.refused_with(400, "resource_missing", cursor);
    }
    let expanded = merchant.get(&format!("{path}?limit=1&expand[]=data.price.product")).await.ok();
    let product = &expanded["data"][0]["price"]["product"];
    assert_eq!([&product["object"], &product["metadata"]], [&json!("product"), &json!({"n": "1"})]);
    world.end().await;
}

#[tokio::test]
async fn a_hundred_lines_are_the_most() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let line = json!({
        "price_data": {"currency": "eur", "unit_amount": 1, "product_data": {"name": "Bean"}}, "quantity": 1,
    });
    let session = merchant.post_json(SESSIONS, &json!({"line_items": vec![line.clone(); 100]})).await.ok();
    assert_eq!(session["amount_total"], 100);
    let before = world.rows().await;
    let answer = merchant.post_json(SESSIONS, &json!({"line_items": vec![line; 101]})).await;
    answer.refused_with(400, "parameter_invalid", "line_items");
    assert_eq!(world.rows().await, before);
    world.end().await;
}

#[tokio::test]
async fn a_cursor_that_is_no_id_of_the_list_is_refused() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    merchant.session().await;
    for path in [SESSIONS, "/v1/events", "/v1/webhook_endpoints", "/v1/redirect_urls"] {
        for cursor in ["starting_after", "ending_before"] {
            for id in ["nonsense", "cs_test_nope", "acct_0000000000000000000000test"] {
                let error = merchant.get(&format!("{path}?{cursor}={id}")).await.refused(400);
                assert_eq!(
                    (&error["code"], &error["param"]),
                    (&"resource_missing".into(), &cursor.into()),
                    "{path} {id}"
                );
            }
        }
    }
    world.end().await;
}
