//! A corpus of URL forms, each with its verdict, before the judge that creation and sending share: every
//! notation of addresses that must not be reached, and names that may be.

use std::net::Ipv4Addr;

use checkstand::domain::address::{UrlPolicy, judge_webhook_url};

use crate::world::World;

const LIVE: UrlPolicy = UrlPolicy { livemode: true, allow_loopback: true };
const TEST: UrlPolicy = UrlPolicy { livemode: false, allow_loopback: false };
const TEST_WITH_LOOPBACK: UrlPolicy = UrlPolicy { livemode: false, allow_loopback: true };

/// Forms that the corpus must not fall below.
const FORMS_MIN: usize = 500;

/// Addresses behind the notations: this host, private, shared, link-local, clouds' own, benchmarks, examples,
/// multicast, reserved, and public ones, which are refused as well, because nobody vouches for them.
const ADDRESSES: [Ipv4Addr; 20] = [
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(127, 255, 255, 254),
    Ipv4Addr::new(0, 0, 0, 0),
    Ipv4Addr::new(0, 0, 0, 1),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(10, 255, 255, 255),
    Ipv4Addr::new(172, 16, 0, 1),
    Ipv4Addr::new(172, 31, 255, 254),
    Ipv4Addr::new(192, 168, 0, 1),
    Ipv4Addr::new(100, 64, 0, 1),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(198, 18, 0, 1),
    Ipv4Addr::new(203, 0, 113, 9),
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::new(255, 255, 255, 255),
    Ipv4Addr::new(93, 184, 216, 34),
];

/// The characters of a text moved into another block of Unicode, where they have a counterpart.
fn moved(text: &str, zero: u32, dot: char) -> String {
    let digit = |c: char| c.to_digit(10).and_then(|value| char::from_u32(zero + value));
    text.chars().map(|c| if c == '.' { dot } else { digit(c).unwrap_or(c) }).collect()
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Every way in which an address is known to be written as a host.
fn notations(ip: Ipv4Addr) -> Vec<String> {
    let ([a, b, c, d], bits) = (ip.octets(), ip.to_bits());
    let (low24, low16) = (bits & 0xff_ffff, bits & 0xffff);
    let (high, low) = (bits >> 16, bits & 0xffff);
    let plain = ip.to_string();
    vec![
        plain.clone(),
        format!("{plain}."),
        format!("{plain}.."),
        bits.to_string(),
        format!("{bits}."),
        format!("0x{bits:x}"),
        format!("0X{bits:08X}"),
        format!("0x{bits:x}."),
        format!("0{bits:o}"),
        format!("000{bits:o}"),
        format!("{a}.{low24}"),
        format!("{a}.{b}.{low16}"),
        format!("0x{a:x}.{low24}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("0{a:o}.{b}.0x{c:x}.{d}"),
        format!("{a:03}.{b:03}.{c:03}.{d:03}"),
        format!("0x{a:x}.0{b:o}.{low16}"),
        format!("{a}.{b}.{c}.0x{d:x}"),
        moved(&plain, 0xff10, '.'),
        moved(&plain, 0x1d7ce, '.'),
        plain.replace('.', "\u{3002}"),
        plain.replace('.', "\u{ff0e}"),
        plain.replace('.', "\u{ff61}"),
        moved(&plain, 0xff10, '\u{3002}'),
        percent_encoded(&plain),
        plain.replacen('.', "%2e", 1),
        plain.replacen('.', "%2E", 3),
        format!("{plain}%00.shop.example").replace("%00", "%2500").replace("%25", "%"),
        format!("[::ffff:{plain}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[0:0:0:0:0:FFFF:{high:x}:{low:x}]"),
        format!("[::{plain}]"),
        format!("[::{high:x}:{low:x}]"),
        format!("[::ffff:0:{plain}]"),
        format!("[64:ff9b::{plain}]"),
        format!("[64:ff9b::{high:x}:{low:x}]"),
        format!("[64:ff9b:1::{plain}]"),
        format!("[2002:{high:x}:{low:x}::]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[2001:0:{high:x}:{low:x}::1]"),
        format!("[fe80::5efe:{plain}]"),
    ]
}

/// Addresses of IPv6 that are nothing else.
const IPV6: [&str; 34] = [
    "[::]",
    "[::1]:0",
    "[0:0:0:0:0:0:0:0]",
    "[0::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::0001]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[::1%25lo]",
    "[::1%lo]",
    "[febf::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00::1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[ff02::1]",
    "[ff05::1:3]",
    "[100::1]",
    "[2001:db8::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[2001:2::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[2606:4700::1111]",
    "[2a00:1450:4001::200e]",
    "[v1.x]",
    "[]",
    "[1]",
    "[127.0.0.1]",
    "[::1",
];

/// Names, and things in the place of a name, that lead nowhere on the public internet or that two readers read
/// differently.
const NAMES: [&str; 40] = [
    "metadata",
    "metadata.",
    "metadata.google.internal.",
    "intranet",
    "db",
    "localhost.",
    "LOCALHOST.",
    "localhost..",
    "shop.example.",
    "shop.example..",
    "shop..example",
    ".shop.example",
    "-",
    "a b.example",
    "shop.example\t",
    "sh\nop.example",
    "shop.example\\.evil.example",
    "shop.example%2f@10.0.0.1",
    "shop.example%00.evil.example",
    "shop.example%0d%0a.evil.example",
    "shop.example:443@10.0.0.1",
    "10.0.0.1@shop.example",
    "user@shop.example",
    "user:pass@shop.example",
    ":@shop.example",
    "@shop.example",
    "shop.example@",
    "shop.example:0",
    "shop.example:65536",
    "shop.example:-1",
    "shop.example:+443",
    "shop.example:4 43",
    "shop.example:x",
    "shop.example:443:443",
    "<shop.example>",
    "shop.example|evil.example",
    "shop^example.org",
    "xn--",
    "xn--a.example",
    "\u{ad}",
];

/// Schemes and shapes that are not `https://host/…`.
const SHAPES: [&str; 32] = [
    "",
    "/",
    "//shop.example/",
    "///shop.example/",
    "shop.example",
    "shop.example/hooks",
    "https",
    "https:",
    "https:/",
    "https://",
    "https:///",
    "https:////shop.example/",
    "https:////user:secret@shop.example/",
    "https:///shop.example/",
    "https:shop.example",
    "https:/shop.example",
    "https:\\\\shop.example",
    "https:/\\shop.example",
    "http://shop.example/",
    "HTTP://SHOP.EXAMPLE/",
    "http:shop.example",
    "ftp://shop.example/",
    "file:///etc/passwd",
    "file://shop.example/etc/passwd",
    "gopher://127.0.0.1:6379/_x",
    "dict://127.0.0.1:11211/",
    "ldap://127.0.0.1/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "unix:///var/run/docker.sock",
    "https://shop.example/#fragment",
    "https://?shop.example",
];

/// What may be reached, in live mode too.
const PUBLIC: [&str; 16] = [
    "https://shop.example",
    "https://shop.example/",
    "https://shop.example:443/",
    "https://SHOP.Example/Hooks",
    "https://hooks.shop.example/a/b?c=d&e=f",
    "https://shop.example/?url=http://127.0.0.1/",
    "https://shop.example/127.0.0.1",
    "https://shop.example/@127.0.0.1",
    "https://shop.example?@127.0.0.1",
    "https://127.0.0.1.shop.example/",
    "https://127-0-0-1.shop.example/",
    "https://0x7f.shop.example/",
    "https://bücher.example/",
    "https://xn--bcher-kva.example/",
    "https://localhost.shop.example/",
    "https://10.example/",
];

/// The machine itself, for test mode where the operator allows it.
const LOOPBACK: [&str; 10] = [
    "http://localhost/",
    "http://localhost:3000/hooks",
    "https://localhost/",
    "http://LOCALHOST:3000/",
    "http://shop.localhost:3000/",
    "http://127.0.0.1/",
    "http://127.0.0.1:3000/hooks",
    "https://127.0.0.1:8443/",
    "http://[::1]/",
    "http://[::1]:3000/hooks",
];

/// Every form that is refused whatever is allowed.
fn refused() -> Vec<String> {
    let plain_loopback = Ipv4Addr::LOCALHOST.to_string();
    let hosts = ADDRESSES
        .into_iter()
        .flat_map(notations)
        .filter(|host| *host != plain_loopback && host != "[::1]")
        .chain(IPV6.into_iter().chain(NAMES).map(str::to_owned));
    let mut forms: Vec<String> = Vec::new();
    for (place, host) in hosts.enumerate() {
        // A path, a port, a user in front: what stands round a host must not change the verdict.
        forms.push(match place % 4 {
            0 => format!("https://{host}/"),
            1 => format!("https://{host}/latest/meta-data/?a=b"),
            2 => format!("HTTPS://{host}"),
            _ => format!("https://{host}?x=https://shop.example/"),
        });
    }
    forms.extend(ADDRESSES.into_iter().flat_map(|ip| {
        [
            format!("https://{ip}:443/"),
            format!("https://{ip}:8443/"),
            format!("https://shop.example@{ip}/"),
            format!("https://{ip}#@shop.example/"),
            format!("https://{ip}\\@shop.example/"),
            format!("ftp://{ip}/"),
        ]
    }));
    forms.extend(SHAPES.into_iter().map(str::to_owned));
    // Written plainly, the machine itself is for another table.
    forms.retain(|form| !form.contains("//127.0.0.1:") || form.contains("ftp"));
    forms
}

#[test]
fn every_form_of_the_corpus_gets_its_verdict() {
    let refused = refused();
    let forms = refused.len() + PUBLIC.len() + LOOPBACK.len();
    assert!(forms >= FORMS_MIN, "only {forms} forms");
    let mut wrong = Vec::new();
    for url in &refused {
        for policy in [LIVE, TEST, TEST_WITH_LOOPBACK] {
            if let Ok(read) = judge_webhook_url(url, policy) {
                wrong.push(format!("taken: {url:?} as {read} under {policy:?}"));
            }
        }
    }
    for url in PUBLIC {
        for policy in [LIVE, TEST, TEST_WITH_LOOPBACK] {
            if let Err(reason) = judge_webhook_url(url, policy) {
                wrong.push(format!("refused: {url:?} under {policy:?}: {reason}"));
            }
        }
    }
    for url in LOOPBACK {
        for (policy, expected) in [(LIVE, false), (TEST, false), (TEST_WITH_LOOPBACK, true)] {
            if judge_webhook_url(url, policy).is_ok() != expected {
                wrong.push(format!("{url:?} under {policy:?} should be {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {forms}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn the_door_refuses_what_the_judge_refuses() {
    let world = World::without_worker().await;
    let merchant = world.merchant().await;
    for url in refused().iter().filter(|url| !url.is_empty()) {
        let fields = [("url", url.as_str()), ("enabled_events[]", "*")];
        let error = merchant.post("/v1/webhook_endpoints", &fields).await.refused(400);
        assert_eq!(error["param"], "url", "{url}");
    }
    assert_eq!(world.count("select count(*) from webhook_endpoint").await, 0);
    world.end().await;
}

#[tokio::test]
async fn the_sender_refuses_what_the_judge_refuses_though_it_stands_in_the_table() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let canary = world.receiver(&merchant).await;
    // Every eleventh, so that each notation has its turn with some address.
    let forms: Vec<String> = refused().into_iter().filter(|url| !url.contains('\0')).step_by(11).collect();
    for (place, url) in forms.iter().enumerate() {
        let url = url.replace('\'', "''");
        world
            .execute(&format!(
                "insert into webhook_endpoint (id, merchant_id, livemode, url, enabled_events, metadata, status, secret_sealed, created_at)
                 select 'we_{place}', merchant_id, livemode, '{url}', enabled_events, metadata, status, secret_sealed, created_at
                 from webhook_endpoint where id = '{}'",
                canary.endpoint_id
            ))
            .await;
    }
    merchant.session().await;
    let event = canary.wait_for("checkout.session.created").await;
    let log = merchant.attempts_of(event.event_id(), 1 + forms.len()).await;
    for attempt in log["attempts"].as_array().expect("attempts") {
        let is_canary = attempt["webhook_endpoint"] == canary.endpoint_id;
        assert_eq!(attempt["outcome"] == "delivered", is_canary, "{attempt}");
        assert!(is_canary || attempt["error"].as_str().expect("a reason").contains("URL is refused"), "{attempt}");
    }
    assert_eq!(canary.deliveries().len(), 1);
    world.end().await;
}
