//! The router as a whole: what every answer carries, and who is answered.

use axum::body::Body;
use chrono::DateTime;
use tower::ServiceExt as _;

use super::*;
use crate::headers::EVERY_RESPONSE;
use crate::ops::mails::Mail;

fn tools() -> Router {
    let mail = Mail {
        id: "mail_1".to_owned(),
        merchant_id: "acct_1".to_owned(),
        kind: "receipt".to_owned(),
        recipient: "ada@example.com".to_owned(),
        subject: "Receipt".to_owned(),
        body_text: "You paid".to_owned(),
        body_html: "<p>You paid</p>".to_owned(),
        session_id: None,
        created_at: DateTime::UNIX_EPOCH,
    };
    router(ToolsOptions {
        api_base: "http://127.0.0.1:4242/".to_owned(),
        tools_base: "http://tools.example:4243/".to_owned(),
        secret_key: "sk_test_demo".to_owned(),
        webhook_secret: SigningSecret::generate(),
        mails: Arc::new(move || Box::pin(std::future::ready(Ok(vec![mail.clone()])))),
        now: Arc::new(|| DateTime::UNIX_EPOCH),
    })
}

async fn answer_to(host: &str, path: &str) -> Response {
    let request = Request::get(path).header("host", host).body(Body::empty()).expect("a request");
    tools().oneshot(request).await.expect("infallible")
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let paths = [
        ("/", 200),
        ("/shop", 200),
        ("/inbox", 200),
        ("/inbox.json", 200),
        ("/inbox/1", 404),
        ("/mailbox", 200),
        ("/mailbox/mail_1", 200),
        ("/mailbox/mail_1/html", 200),
        (page::ICON_PATH, 200),
        (page::stylesheet_path(), 200),
        ("/nowhere", 404),
        ("/shop/buy", 405),
    ];
    for (path, status) in paths {
        let answer = answer_to("localhost:4243", path).await;
        assert_eq!(answer.status(), status, "{path}");
        for header in EVERY_RESPONSE {
            assert!(answer.headers().contains_key(header.name), "{} of {path}", header.name);
        }
        let policy = answer.headers()["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("default-src 'none'") && !policy.contains("script"), "{path}: {policy}");
        let frames = if path.ends_with("/html") { "SAMEORIGIN" } else { "DENY" };
        assert_eq!(answer.headers()["x-frame-options"], frames, "{path}");
        assert!(answer.headers().contains_key("request-id"), "{path}");
    }
}

#[tokio::test]
async fn only_names_that_mean_this_machine_are_answered() {
    for known in
        ["localhost", "localhost:9", "a.localhost:1", "127.0.0.1:4243", "127.9.9.9", "[::1]:4243", "tools.example"]
    {
        assert_eq!(answer_to(known, "/").await.status(), StatusCode::OK, "{known}");
    }
    for unknown in ["evil.example:4243", "localhost.evil.example", "192.168.0.1:4243", "a b", ""] {
        assert_eq!(answer_to(unknown, "/").await.status(), StatusCode::MISDIRECTED_REQUEST, "{unknown}");
        let mail = answer_to(unknown, "/mailbox/mail_1/html").await;
        assert_eq!(mail.status(), StatusCode::MISDIRECTED_REQUEST, "{unknown}");
    }
}

#[tokio::test]
async fn the_first_page_says_where_everything_is() {
    let answer = answer_to("localhost", "/").await;
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    for said in ["sk_test_demo", "http://127.0.0.1:4242/v1/checkout/sessions", "http://tools.example:4243/webhooks"] {
        assert!(text.contains(said), "{said} in {text}");
    }
}
