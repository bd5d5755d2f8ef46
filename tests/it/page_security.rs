//! What the pages tell browsers not to do: headers, cookies, pinned assets; and that strings of
//! merchants and payers stay text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::merchant::Merchant;
use crate::payer::{DECLINED_CARD, GOOD_CARD, Page, Payer};
use crate::world::{World, WorldOptions};

/// On every answer, whatever its status.
const EVERYWHERE: [(&str, &str); 10] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "strict-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("origin-agent-cluster", "?1"),
    ("x-frame-options", "DENY"),
    ("x-robots-tag", "noindex, nofollow, noarchive"),
    ("x-dns-prefetch-control", "off"),
    ("reporting-endpoints", "csp=\"/csp-reports\""),
    (
        "permissions-policy",
        "accelerometer=(), autoplay=(), browsing-topics=(), camera=(), clipboard-read=(), display-capture=(), \
         encrypted-media=(), fullscreen=(), geolocation=(), gyroscope=(), hid=(), idle-detection=(), local-fonts=(), \
         magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), screen-wake-lock=(), \
         serial=(), storage-access=(), usb=(), xr-spatial-tracking=()",
    ),
];

const FORM: &str = "default-src 'none'; script-src '{script}'; style-src 'self'; img-src 'self'; font-src 'self'; \
     connect-src 'self'; form-action 'self'; frame-src 'none'; frame-ancestors 'none'; base-uri 'none'; \
     object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none';{upgrade} report-uri /csp-reports; \
     report-to csp";
const HOP: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A gateway that payers reach by https, through a proxy.
pub async fn https_world() -> World {
    let settings = vec![("PUBLIC_URL", "https://pay.shop.example".to_owned())];
    World::with(WorldOptions { settings, ..WorldOptions::default() }).await
}

async fn paid(world: &World, merchant: &Merchant) -> String {
    let session = merchant.session().await;
    let mut payer = world.payer();
    payer.pay(&session, GOOD_CARD).await.says("Payment complete");
    payer.path_of(&session)
}

/// Every hosted route in every status that it has: what was asked, the status, the policy.
async fn walk(world: &World) -> Vec<(String, Page, u16, &'static str)> {
    let merchant = world.merchant().await;
    let open = merchant.session().await;
    let done = paid(world, &merchant).await;
    let mut payer = world.payer();
    let page = payer.open(&open).await;
    let path = page.path.clone();
    let form = Payer::fill(&page, GOOD_CARD);
    let mut answers = Vec::new();
    for (method, target, status, policy) in [
        (Method::GET, path.clone(), 200, FORM),
        (Method::HEAD, path.clone(), 200, FORM),
        (Method::GET, format!("{path}/cancel"), 200, FORM),
        (Method::GET, format!("{path}/pay"), 303, NOTHING),
        (Method::GET, format!("{path}/done"), 303, NOTHING),
        (Method::GET, done.clone(), 303, NOTHING),
        (Method::GET, format!("{done}/done"), 200, HOP),
        (Method::GET, format!("{done}/status"), 200, HOP),
        (Method::GET, "/c/unknown".to_owned(), 404, HOP),
        (Method::GET, "/c/%ff".to_owned(), 404, HOP),
        (Method::GET, "/nowhere".to_owned(), 404, HOP),
        (Method::DELETE, path.clone(), 405, HOP),
        (Method::PUT, format!("{path}/pay"), 405, HOP),
        (Method::OPTIONS, format!("{path}/cancel"), 405, HOP),
        (Method::POST, "/csp-reports".to_owned(), 204, NOTHING),
        (Method::GET, "/csp-reports".to_owned(), 405, HOP),
        (Method::GET, "/assets/checkout.0000000000000000.js".to_owned(), 404, NOTHING),
    ] {
        let answer = payer.send(method.clone(), &target, None).await;
        answers.push((format!("{method} {target}"), answer, status, policy));
    }
    let with = |place: usize, text: &str| {
        let mut form = form.clone();
        form[place].1 = text.to_owned();
        form
    };
    for (what, end, form, status, policy) in [
        ("forged", "pay", with(0, "forged"), 403, HOP),
        ("too large", "pay", with(3, &"x".repeat(17_000)), 413, HOP),
        ("mistyped", "pay", with(4, "1"), 422, FORM),
        ("declined", "pay", with(4, DECLINED_CARD.number), 303, NOTHING),
        ("cancelled", "cancel", form.clone(), 303, NOTHING),
    ] {
        let answer = payer.press(&format!("{path}/{end}"), &form).await;
        answers.push((format!("POST {end}, {what}"), answer, status, policy));
    }
    answers
}

fn script_hash(page: &str) -> &str {
    page.split("integrity=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("the script is pinned")
}

#[tokio::test]
async fn every_answer_in_every_status_has_the_headers_that_it_needs() {
    for (world, https) in [(World::start().await, false), (https_world().await, true)] {
        let answers = walk(&world).await;
        let script = script_hash(&answers[0].1.html).to_owned();
        for (what, answer, status, policy) in &answers {
            assert_eq!(answer.status.as_u16(), *status, "{what}: {}", answer.text());
            for (name, value) in EVERYWHERE {
                assert_eq!(answer.header(name), Some(value), "{what}: {name}");
                assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{what}: {name} is there twice");
            }
            let upgrade = if https { " upgrade-insecure-requests;" } else { "" };
            let policy = policy.replace("{script}", &script).replace("{upgrade}", upgrade);
            assert_eq!(answer.header("content-security-policy"), Some(policy.as_str()), "{what}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
            let tls = https.then_some("max-age=63072000; includeSubDomains");
            assert_eq!(answer.header("strict-transport-security"), tls, "{what}");
            for name in ["server", "x-powered-by", "access-control-allow-origin", "x-xss-protection"] {
                assert_eq!(answer.header(name), None, "{what}: {name}");
            }
            assert!(answer.header("request-id").is_some() || what.contains("/nowhere"), "{what}: no request id");
            if !answer.html.is_empty() {
                assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{what}");
                let scripts = answer.html.matches("<script").count();
                assert_eq!(scripts, usize::from(policy.contains("script-src")), "{what}");
                assert!(!answer.html.contains("<style") && !answer.html.contains(" style="), "{what}");
            }
            if *status == 405 {
                assert!(answer.header("allow").is_some_and(|allowed| !allowed.is_empty()), "{what}: no Allow");
            }
        }
        world.end().await;
    }
}

#[tokio::test]
async fn cookies_are_out_of_reach_of_scripts_sibling_hosts_and_other_sites() {
    for (world, prefix, secure) in [(World::start().await, "", ""), (https_world().await, "__Host-", "; Secure")] {
        let session = world.merchant().await.session().await;
        let mut payer = world.payer();
        let page = payer.open(&session).await;
        let set = |page: &Page| -> Vec<String> {
            let cookies = page.headers.get_all("set-cookie").iter();
            cookies.map(|cookie| cookie.to_str().expect("text").to_owned()).collect()
        };
        let attributes = format!("; Path=/{secure}; HttpOnly; SameSite=Lax; Max-Age=3600");
        let first = set(&page);
        assert_eq!(first.len(), 1, "{first:?}");
        let id = payer.cookies()[&format!("{prefix}cs")].clone();
        assert_eq!(first[0], format!("{prefix}cs={id}{attributes}"));
        assert!(id.len() >= 22, "128 bits in base64 at least");

        let mut shown = Vec::new();
        for (end, field, text) in
            [("pay", 4, "1"), ("pay", 4, DECLINED_CARD.number), ("pay", 0, "forged"), ("cancel", 0, "")]
        {
            let mut form = Payer::fill(&page, GOOD_CARD);
            if !text.is_empty() {
                form[field].1 = text.to_owned();
            }
            let answer = payer.press(&format!("{}/{end}", page.path), &form).await;
            let cookies = set(&answer);
            // The second one is new each time, which throws the filled form out of the browser's memory.
            let name = format!("{prefix}v");
            let fresh = payer.cookies()[&name].clone();
            assert!(cookies.contains(&format!("{name}={fresh}{attributes}")), "{cookies:?}");
            assert_eq!(payer.cookies()[&format!("{prefix}cs")], id, "the first one stays");
            assert_eq!(cookies.len(), 2, "{cookies:?}");
            shown.push(fresh);
        }
        let total = shown.len();
        shown.sort();
        shown.dedup();
        assert_eq!(shown.len(), total);
        assert_ne!(
            world.payer().open(&world.merchant().await.session().await).await.header("set-cookie"),
            Some(first[0].as_str())
        );
        world.end().await;
    }
}

/// The attributes and names of a page's tags, without attribute values and text.
fn skeleton(html: &str) -> String {
    let mut skeleton = String::new();
    for tag in html.split('<').skip(1) {
        let mut quoted = false;
        for character in tag.chars() {
            match character {
                '"' => quoted = !quoted,
                '>' if !quoted => break,
                other if !quoted => skeleton.push(other),
                _ => {}
            }
        }
        skeleton.push('\n');
    }
    skeleton
}

#[tokio::test]
async fn strings_of_merchants_and_payers_stay_text() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let mut database = world.database().await;
    let plain = {
        let session = merchant.session_with(&[("line_items[0][price_data][product_data][description]", "x")]).await;
        let mut payer = world.payer();
        let form = payer.open(&session).await;
        let asked = payer.visit(&format!("{}/cancel", form.path)).await;
        let mut typed = Payer::fill(&form, GOOD_CARD);
        typed[4].1 = "1".to_owned();
        let wrong = payer.submit(&form, &typed).await;
        [form, asked, wrong].map(|page| skeleton(&page.html))
    };
    for evil in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onfocus='alert(1)' autofocus='",
        "\" onfocus=\"alert(1)\" autofocus=\"",
        "</title><script src=//evil.example></script>",
        "<svg/onload=alert(1)>",
        "<!--<script>",
        "]]><meta http-equiv=refresh content=0;url=//evil.example>",
        "{{ 7 * 7 }}${7*7}<% 7 %>",
        "<base href=//evil.example>&lt;script&gt;&#60;script&#62;",
        "<form action=//evil.example><input name=card_number>",
    ] {
        sqlx::query("update merchant set name = $1").bind(evil).execute(&mut database).await.expect("renamed");
        let session = merchant
            .session_with(&[
                ("line_items[0][price_data][product_data][name]", evil),
                ("line_items[0][price_data][product_data][description]", evil),
                ("client_reference_id", evil),
                ("metadata[note]", evil),
            ])
            .await;
        let mut payer = world.payer();
        let form = payer.open(&session).await;
        form.says(evil);
        let asked = payer.visit(&format!("{}/cancel", form.path)).await;
        let mut typed = Payer::fill(&form, GOOD_CARD);
        typed[2].1 = "a@b.example".to_owned();
        typed[3].1 = evil.to_owned();
        typed[4].1 = "1".to_owned();
        let wrong = payer.submit(&form, &typed).await;
        assert_eq!(wrong.field("card_name").as_deref(), Some(evil), "what was typed stays as typed");
        for (page, plain) in [&form, &asked, &wrong].into_iter().zip(&plain) {
            assert_eq!(&skeleton(&page.html), plain, "{evil} becomes markup");
        }
        let fresh = payer.open(&session).await;
        let paid = payer.submit(&fresh, &Payer::fill(&fresh, GOOD_CARD)).await;
        paid.says("Payment complete").says(evil);
        assert!(!paid.html.contains("<script") && !paid.html.contains("<img") && !paid.html.contains("<base"));
        assert_eq!(skeleton(&paid.html).matches("http-equiv").count(), 1);
    }
    world.end().await;
}

fn attribute<'p>(page: &'p Page, tag: &str, name: &str) -> Vec<&'p str> {
    let tags = page.html.split('<').filter(|piece| piece.starts_with(tag));
    let marker = format!(" {name}=\"");
    tags.filter_map(|tag| tag.split(&marker).nth(1)?.split('"').next()).collect()
}

#[tokio::test]
async fn assets_are_named_by_their_content_and_the_script_is_pinned() {
    let world = World::start().await;
    let session: Value = world.merchant().await.session().await;
    let mut payer = world.payer();
    let page = payer.open(&session).await;
    let mut urls = attribute(&page, "link", "href");
    urls.extend(attribute(&page, "script", "src"));
    assert_eq!(urls.len(), 4, "style sheet, accent, icon, script: {urls:?}");
    for url in urls {
        assert!(url.starts_with("/assets/"), "{url} is somebody else's");
        let mut stranger = world.payer();
        let asset = stranger.send(Method::GET, url, None).await;
        assert_eq!(asset.status, 200, "{url}");
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"), "{url}");
        assert_eq!(asset.header("content-security-policy"), Some(NOTHING), "{url}");
        assert_eq!(asset.header("set-cookie"), None, "{url}");
        for (name, value) in EVERYWHERE {
            assert_eq!(asset.header(name), Some(value), "{url}: {name}");
        }
        let digest = Sha256::digest(asset.html.as_bytes());
        let kind = url.rsplit('.').next().expect("an ending");
        let content_type = match kind {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(asset.header("content-type"), Some(content_type), "{url}");
        if !url.contains("accent-") {
            assert!(url.contains(&hex::encode(digest)[..16]), "{url} is not named by its content");
        }
        if kind == "js" {
            let pinned = format!("sha256-{}", STANDARD.encode(digest));
            assert_eq!(script_hash(&page.html), pinned);
            let policy = page.header("content-security-policy").expect("a policy");
            assert!(policy.contains(&format!("script-src '{pinned}';")), "{policy}");
        }
        assert_eq!(stranger.send(Method::HEAD, url, None).await.status, 200, "{url}");
        assert_eq!(stranger.send(Method::POST, url, None).await.status, 405, "{url}");
    }
    for url in ["/assets/", "/assets/accent-zzzzzz.css", "/assets/..%2f..%2fCargo.toml", "/assets/accent-%22.css"] {
        assert_eq!(payer.send(Method::GET, url, None).await.status, 404, "{url}");
    }
    world.end().await;
}
