//! Escrows by the API: what each mode takes, and which act is whose from where.

use checkstand::providers::simulator_faults::{Fault, Times};

use crate::deal::{BUYER, SELLER, Story, canoe};
use crate::world::World;

const STRANGER: &str = "eve@stranger.example";

const STATUSES: [&str; 8] =
    ["pending", "paid", "delivered", "disputed", "cancellation_requested", "completed", "cancelled", "refunding"];

/// An escrow that stands there; none where the mode never does.
async fn standing(world: &World, mode: &str, status: &str) -> Option<Story> {
    let why = [("text", "why")];
    Some(match status {
        "pending" => Story::begin(world, mode).await,
        "paid" => Story::paid(world, mode).await,
        "delivered" if mode == "instant" => return None,
        "delivered" => Story::delivered(world, mode).await,
        "disputed" => Story::disputed(world, mode).await,
        "cancellation_requested" => {
            let mut story = Story::paid(world, mode).await;
            story.act("request_cancellation", BUYER, &why).await;
            story
        }
        "completed" => {
            let story = Story::disputed(world, mode).await;
            story.call("resolve", &[("resolution", "release")]).await.ok();
            story
        }
        "cancelled" => {
            let story = Story::begin(world, mode).await;
            story.call("cancel", &[]).await.ok();
            story
        }
        _ => {
            let story = Story::disputed(world, mode).await;
            world.replicas[0].simulator.set(Fault::RefuseReversal, Times::Always);
            story.call("resolve", &[("resolution", "refund")]).await.ok();
            world.replicas[0].simulator.calm();
            story
        }
    })
}

/// What is to be answered to a wish for a session, written down once more and by itself.
fn expected(mode: &str, status: &str, action: &str, email: &str) -> &'static str {
    let instant = mode == "instant";
    let (buyer, seller) = (email == BUYER, email == SELLER && !instant);
    let sellers_act = ["accept_cancellation", "reject_cancellation", "cancel_escrow"].contains(&action);
    if (action == "sign_contract" && mode != "standard") || (instant && (sellers_act || action == "complete")) {
        return "escrow_action_not_allowed_in_mode";
    }
    let both_may = action == "sign_contract" || (action == "dispute" && !instant);
    if both_may && !buyer && !seller {
        return "escrow_target_not_party";
    }
    if sellers_act && !seller {
        return "escrow_target_not_seller";
    }
    if !sellers_act && !both_may && !buyer {
        return "escrow_target_not_buyer";
    }
    let from: &[&str] = match action {
        "sign_contract" | "accept_pay" => &["pending"],
        "complete" => &["delivered"],
        "dispute" => &["paid", "delivered", "cancellation_requested"],
        "request_cancellation" | "cancel_escrow" => &["paid", "delivered"],
        _ => &["cancellation_requested"],
    };
    match (from.contains(&status), action, mode) {
        (false, ..) => "escrow_action_not_allowed_in_state",
        (true, "accept_pay", "standard") => "escrow_contract_not_signed",
        _ => "",
    }
}

#[tokio::test]
async fn every_act_is_for_the_right_user_in_the_right_mode_from_the_right_status() {
    let world = World::start().await;
    let mut asked = 0;
    for mode in ["standard", "quick", "instant"] {
        for status in STATUSES {
            let Some(story) = standing(&world, mode, status).await else { continue };
            assert_eq!(story.status().await, status, "{mode}");
            for action in [
                "sign_contract",
                "accept_pay",
                "complete",
                "dispute",
                "request_cancellation",
                "accept_cancellation",
                "reject_cancellation",
                "cancel_escrow",
            ] {
                for email in [BUYER, SELLER, STRANGER] {
                    let answer = story.ask(action, email).await;
                    let code = answer.json["error"]["code"].as_str().unwrap_or_default();
                    let place = format!("{mode} {status} {action} {email}: {}", answer.text);
                    assert_eq!(code, expected(mode, status, action, email), "{place}");
                    assert_eq!(answer.status.as_u16(), if code.is_empty() { 200 } else { 400 }, "{place}");
                    asked += 1;
                }
            }
            assert_eq!(story.status().await, status, "asking moves nothing");
        }
    }
    assert_eq!(asked, 23 * 24);
    world.end().await;
}

#[tokio::test]
async fn the_merchants_own_acts_are_refused_from_every_other_status() {
    let world = World::start().await;
    let reason: &[(&str, &str)] = &[("reason", "why")];
    let release: &[(&str, &str)] = &[("resolution", "release")];
    for mode in ["quick", "instant"] {
        for status in STATUSES {
            let Some(story) = standing(&world, mode, status).await else { continue };
            let instant = mode == "instant";
            for (verb, fields, from) in [
                ("deliver", &[][..], &["paid"][..]),
                ("reject_delivery", reason, &["delivered"]),
                ("cancel", &[], if instant { &["pending", "paid", "cancellation_requested"] } else { &["pending"] }),
                ("resolve", release, &["disputed", "cancellation_requested"]),
            ] {
                if from.contains(&status) {
                    continue;
                }
                let code = if instant && verb == "reject_delivery" { "mode" } else { "state" };
                let refused = story.call(verb, fields).await.refused(400);
                let code = format!("escrow_action_not_allowed_in_{code}");
                assert_eq!(refused["code"], code.as_str(), "{mode} {status} {verb}");
            }
            assert_eq!(story.status().await, status);
        }
    }
    world.end().await;
}

#[tokio::test]
async fn each_mode_takes_what_it_needs_and_refuses_the_rest() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    let rows = world.rows().await;
    for (mode, change, code, param) in [
        ("standard", ("title", Some("")), "parameter_invalid_empty", "title"),
        ("standard", ("title", Some("   ")), "parameter_invalid_empty", "title"),
        ("standard", ("amount", Some("0")), "amount_too_small", "amount"),
        ("standard", ("amount", Some("1000000000000")), "amount_too_large", "amount"),
        ("standard", ("currency", Some("xxx")), "parameter_invalid", "currency"),
        ("standard", ("buyer_email", Some("nobody")), "email_invalid", "buyer_email"),
        ("standard", ("seller_email", None), "parameter_missing", "seller_email"),
        ("standard", ("seller_email", Some("BEA@buyer.example")), "parameter_invalid", "seller_email"),
        ("standard", ("estimated_delivery_days", None), "parameter_missing", "estimated_delivery_days"),
        ("standard", ("estimated_delivery_days", Some("0")), "parameter_invalid_integer", "estimated_delivery_days"),
        ("standard", ("contract_terms", None), "parameter_missing", "contract_terms"),
        ("standard", ("inspection_days", Some("91")), "parameter_invalid_integer", "inspection_days"),
        ("standard", ("application_fee_amount", Some("25001")), "parameter_invalid_integer", "application_fee_amount"),
        ("quick", ("contract_terms", Some("As seen.")), "parameter_invalid", "contract_terms"),
        ("quick", ("auto_sign", Some("true")), "parameter_invalid", "auto_sign"),
        ("instant", ("seller_email", Some(SELLER)), "parameter_invalid", "seller_email"),
        ("instant", ("application_fee_amount", Some("1")), "parameter_invalid", "application_fee_amount"),
        ("instant", ("colour", Some("red")), "parameter_unknown", "colour"),
    ] {
        let (name, value) = change;
        let mut fields = canoe(mode);
        fields.retain(|(field, _)| *field != name);
        fields.extend(value.map(|value| (name, value)));
        merchant.post("/v1/escrows", &fields).await.refused_with(400, code, param);
    }
    let long = "x".repeat(10_001);
    let mut fields = canoe("standard");
    fields.retain(|(field, _)| *field != "contract_terms");
    fields.push(("contract_terms", &long));
    merchant.post("/v1/escrows", &fields).await.refused_with(400, "parameter_invalid_string", "contract_terms");
    assert_eq!(world.rows().await, rows);
    assert_eq!(world.count("select count(*) from escrow").await, 0);

    fields.retain(|(field, _)| *field != "contract_terms");
    fields.extend([("contract_terms", "As seen."), ("auto_sign", "true"), ("metadata[deal]", "7")]);
    let first = merchant.post_with_key("/v1/escrows", &fields, "deal-7").await;
    let again = merchant.post_with_key("/v1/escrows", &fields, "deal-7").await;
    assert_eq!(first.text, again.text);
    let escrow = first.ok();
    assert!(escrow["seller_signed_at"].is_i64() && escrow["buyer_signed_at"].is_null());
    assert_eq!(world.count("select count(*) from escrow").await, 1);
    world.end().await;
}

#[tokio::test]
async fn escrows_are_listed_read_and_noted_on_and_their_events_are_numbered_without_gaps() {
    let world = World::start().await;
    let mut story = Story::begin(&world, "quick").await;
    let other = [
        ("title", "A tent"),
        ("amount", "100"),
        ("currency", "eur"),
        ("buyer_email", "x@y.example"),
        ("mode", "instant"),
    ];
    story.merchant.post("/v1/escrows", &other).await.ok();
    story.pay().await;
    story.call("deliver", &[]).await.ok();
    story.act("complete", BUYER, &[]).await;
    let ids = async |query: &str| -> Vec<String> {
        let list = story.merchant.get(&format!("/v1/escrows?{query}")).await.ok();
        let data = list["data"].as_array().expect("a list");
        data.iter().map(|escrow| escrow["title"].as_str().expect("a title").to_owned()).collect()
    };
    assert_eq!(ids("").await, ["A tent", "A canoe"]);
    assert_eq!(ids("limit=1").await, ["A tent"]);
    assert_eq!(ids("status=completed").await, ["A canoe"]);
    assert_eq!(ids("status=pending").await, ["A tent"]);
    assert_eq!(ids("email=SAM@seller.example").await, ["A canoe"]);
    assert_eq!(ids("email=bea@buyer.example&status=pending").await, Vec::<String>::new());
    assert_eq!(ids("created[lt]=1000").await, Vec::<String>::new());
    assert_eq!(ids(&format!("starting_after=esc_{}", "7".repeat(26))).await.len(), 2);
    story.merchant.get("/v1/escrows?status=lost").await.refused_with(400, "parameter_invalid", "status");
    let path = format!("/v1/escrows/{}", story.id);
    let noted = story.merchant.post(&path, &[("metadata[case]", "7")]).await.ok();
    assert_eq!((&noted["metadata"]["case"], &noted["status"]), (&"7".into(), &"completed".into()));
    let gaps = "select count(*) from (select object_id, max(session_sequence) as last, count(*) as events
                from event where session_id is null and session_sequence is not null group by object_id) numbers
                where last <> events";
    assert_eq!(world.count(gaps).await, 0);
    let gaps = "select count(*) from (select session_id, max(session_sequence) as last, count(*) as events
                from event where session_id is not null group by session_id) numbers where last <> events";
    assert_eq!(world.count(gaps).await, 0);
    assert_eq!(story.escrow().await["event_count"], 5);
    let session = story.merchant.get("/v1/checkout/sessions?limit=1&expand[]=data.escrow").await.ok();
    assert_eq!(session["data"][0]["escrow"]["id"], story.id.as_str());
    world.end().await;
}

#[tokio::test]
async fn a_link_to_an_act_lives_half_an_hour_at_most() {
    let world = World::without_worker().await;
    let story = Story::begin(&world, "quick").await;
    let now = world.app().clock.now().timestamp();
    let ask = async |expires_at: Option<i64>| {
        let text = expires_at.map(|at| at.to_string()).unwrap_or_default();
        let mut fields = vec![("action", "accept_pay"), ("target_user_email", BUYER)];
        fields.push(("redirect_url", "https://shop.example/deal"));
        if expires_at.is_some() {
            fields.push(("expires_at", &text));
        }
        story.merchant.post(&format!("/v1/escrows/{}/sessions", story.id), &fields).await
    };
    for late in [now + 31 * 60 + 30, now + 86_400] {
        let refused = ask(Some(late)).await.refused_with(400, "parameter_invalid", "expires_at");
        assert!(refused["message"].as_str().is_some_and(|text| text.contains("30 minutes")), "{refused}");
    }
    ask(Some(now + 5)).await.refused_with(400, "parameter_invalid", "expires_at");
    assert_eq!(ask(Some(now + 300)).await.ok()["expires_at"], now + 300);
    let lives = ask(None).await.ok()["expires_at"].as_i64().expect("a deadline") - now;
    assert!((29 * 60..=31 * 60).contains(&lives), "{lives}");
    world.end().await;
}
