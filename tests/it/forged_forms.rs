//! Forms that our page did not send in this browser, or that it could not have sent: refused with a
//! page, and nothing has changed. And where the answers to forms lead.

use reqwest::Method;

use crate::page_security::https_world;
use crate::payer::{DECLINED_CARD, GOOD_CARD, Payer};
use crate::world::World;

/// Of the row of any session, all that a refused form could have changed.
const UNTOUCHED: &str = "select count(*) from checkout_session where state = 'pending' and tries = 0
     and payer_email is null and payment_id is null";

#[tokio::test]
async fn a_form_that_is_not_from_our_page_in_this_browser_changes_nothing() {
    for (world, ours) in [(World::start().await, None), (https_world().await, Some("https://pay.shop.example"))] {
        let ours = ours.unwrap_or(world.base()).to_owned();
        let merchant = world.merchant().await;
        let session = merchant.session().await;
        let other_session = merchant.session().await;
        let mut payer = world.payer();
        let page = payer.open(&session).await;
        let form = Payer::fill(&page, GOOD_CARD);
        let own = form[0].1.clone();
        let of_another_session = payer.open(&other_session).await.field("csrf_token").expect("a token");
        let of_another_browser = world.payer().open(&session).await.field("csrf_token").expect("a token");
        let null = "null".to_owned();
        let foreign = "https://evil.example".to_owned();
        let lookalike = format!("{ours}.evil.example");
        let site = |value: &str| vec![("sec-fetch-site", value.to_owned())];
        let origin = |value: &String| vec![("origin", value.clone())];
        let both = |value: &str| vec![("sec-fetch-site", value.to_owned()), ("origin", ours.clone())];
        for (what, headers, token, cookies, words) in [
            ("no cookie", site("same-origin"), own.as_str(), false, "Your browser did not send our cookie"),
            ("no token", site("same-origin"), "", true, "too old to send"),
            ("wrong token", site("same-origin"), "AAAA", true, "too old to send"),
            ("not even base64", site("same-origin"), "%%%", true, "too old to send"),
            ("token of another session", site("same-origin"), &of_another_session, true, "too old to send"),
            ("token of another browser", site("same-origin"), &of_another_browser, true, "too old to send"),
            ("another site", both("cross-site"), &own, true, "too old to send"),
            ("a sibling host", both("same-site"), &own, true, "too old to send"),
            ("typed", both("none"), &own, true, "too old to send"),
            ("garbage", both("Same-Origin, cross-site"), &own, true, "too old to send"),
            ("foreign origin", origin(&foreign), &own, true, "too old to send"),
            ("lookalike origin", origin(&lookalike), &own, true, "too old to send"),
            ("null origin", origin(&null), &own, true, "too old to send"),
            ("neither header", vec![], &own, true, "too old to send"),
        ] {
            for end in ["pay", "cancel"] {
                let mut sender = payer.clone();
                if !cookies {
                    sender.forget_cookies();
                }
                let mut form = form.clone();
                form[0].1 = token.to_owned();
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let target = format!("{}/{end}", page.path);
                let answer = sender.send_with(Method::POST, &target, &headers, Some(&Payer::filled(&form))).await;
                assert_eq!(answer.status, 403, "{what}, {end}");
                answer.says(words).says("No money was taken");
                let back = format!("href=\"{}\"", page.path);
                assert!(answer.html.contains(&back), "{what}, {end}: no way back to the payment");
                assert!(!answer.has_card_form(), "{what}, {end}");
            }
        }
        assert_eq!(world.count(UNTOUCHED).await, 2);
        assert_eq!(world.count("select count(*) from charge").await, 0);

        // An old browser, which sends Origin alone, is believed.
        let headers = [("origin", ours.as_str())];
        let target = format!("{}/pay", page.path);
        let answer = payer.send_with(Method::POST, &target, &headers, Some(&Payer::filled(&form))).await;
        assert_eq!(answer.status, 303);
        world.end().await;
    }
}

#[tokio::test]
async fn no_answer_to_a_form_leads_off_our_origin_or_sends_the_form_on() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let ways = [("success_url", "https://shop.example/a"), ("cancel_url", "https://shop.example/b")];
    for (end, card) in [("pay", GOOD_CARD), ("pay", DECLINED_CARD), ("cancel", GOOD_CARD)] {
        let session = merchant.session_with(&ways).await;
        let mut payer = world.payer();
        let (path, form) = payer.ready(&session, card).await;
        // Again after the end, too, and with a target that only the form names.
        for extra in [None, Some("https://evil.example/"), Some("//evil.example")] {
            let mut form = form.clone();
            for name in ["success_url", "return_url", "url", "next", "redirect"] {
                form.extend(extra.map(|url| (name.to_owned(), url.to_owned())));
            }
            for query in ["", "?next=https://evil.example", "?status=completed&session_id=x"] {
                let answer = payer.press(&format!("{}{query}", path.replace("/pay", &format!("/{end}"))), &form).await;
                assert_eq!(answer.status, 303);
                let location = answer.header("location").unwrap_or("/c/");
                assert!(location.starts_with("/c/") && !location.contains("evil"), "{location}");
                assert_eq!(answer.header("refresh"), None);
                assert!(!answer.html.contains("evil.example"));
            }
        }
        let done = payer.visit(&path.replace("/pay", "/done?status=completed&url=https://evil.example")).await;
        assert!(!done.html.contains("evil"), "{}", done.html);
    }
    world.end().await;
}

#[tokio::test]
async fn a_form_larger_than_any_real_one_is_refused_with_a_page() {
    let world = World::start().await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let (path, form) = payer.ready(&session, GOOD_CARD).await;
    for (characters, status) in [(15_000, 422), (16_384, 413), (1_000_000, 413)] {
        let mut form = form.clone();
        form[3].1 = "x".repeat(characters);
        let answer = payer.press(&path, &form).await;
        assert_eq!(answer.status, status, "{characters}");
        if status == 413 {
            answer.says("That was more than this page can take").says("no money was taken");
        }
    }
    let many: Vec<(String, String)> = (0..500).map(|number| (format!("f{number}"), "x".to_owned())).collect();
    assert_eq!(payer.press(&path, &many).await.status, 403);
    assert_eq!(world.count(UNTOUCHED).await, 1);
    world.end().await;
}

#[tokio::test]
async fn methods_that_a_page_does_not_know_do_nothing_and_say_so() {
    let world = World::start().await;
    let session = world.merchant().await.session().await;
    let mut payer = world.payer();
    let (path, form) = payer.ready(&session, GOOD_CARD).await;
    let page = path.replace("/pay", "");
    let methods = [Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE];
    for method in methods {
        for end in ["", "/pay", "/cancel", "/done", "/status"] {
            let form = Payer::filled(&form);
            let answer = payer.send(method.clone(), &format!("{page}{end}"), Some(&form)).await;
            assert_eq!(answer.status, 405, "{method} {end}");
            answer.says("This page cannot be opened that way").says("Nothing was done.");
        }
    }
    for end in ["", "/done", "/status"] {
        let answer = payer.press(&format!("{page}{end}"), &form).await;
        assert_eq!(answer.status, 405, "POST {end}");
    }
    assert_eq!(world.count(UNTOUCHED).await, 1);
    world.end().await;
}
