//! The shop against a stand-in for the API that answers what it is told and remembers what it got.

use std::sync::Mutex;

use axum::body::Body;
use axum::http::Request;
use chrono::DateTime;
use serde_json::json;
use tower::ServiceExt as _;

use super::*;
use crate::domain::signature::{SigningSecret, standard_webhooks_signature, stripe_signature_header};

const SESSION: &str = "cs_test_1";

#[derive(Clone, Default)]
struct Api {
    answer: Arc<Mutex<(u16, String)>>,
    got: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

struct World {
    api: Api,
    shop: Shop,
    secret: SigningSecret,
}

async fn answer_as_told(State(api): State<Api>, headers: HeaderMap, body: String) -> Response {
    api.got.lock().expect("not poisoned").push((headers, body));
    let (status, body) = api.answer.lock().expect("not poisoned").clone();
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("request-id", "req_stand_in")], body).into_response()
}

impl World {
    async fn new(status: u16, body: Value) -> World {
        let api = Api::default();
        *api.answer.lock().expect("not poisoned") = (status, body.to_string());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = Router::new().fallback(answer_as_told).with_state(api.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper_util::service::TowerToHyperService::new(routes.clone());
                let stream = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
            }
        });
        let secret = SigningSecret::generate();
        let now = Arc::new(|| DateTime::UNIX_EPOCH);
        let shop = Shop {
            client: ShopClient::new(base.clone(), "sk_test_demo".to_owned()),
            gateway_origin: base,
            tools_base: "http://127.0.0.1:4243".to_owned(),
            inbox: Inbox::new(secret.clone(), now),
        };
        World { api, shop, secret }
    }

    fn deliver(&self, kind: &str, payment_status: &str) {
        let object = json!({ "id": SESSION, "payment_status": payment_status });
        let id = format!("evt_{kind}");
        let body = json!({ "id": id, "type": kind, "data": { "object": object } }).to_string();
        let secrets = std::slice::from_ref(&self.secret);
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, text: String| {
            headers.insert(name, text.parse().expect("a header value"));
        };
        set("stripe-signature", stripe_signature_header(secrets, 0, &body));
        set("webhook-signature", standard_webhooks_signature(secrets, &id, 0, &body));
        set("webhook-id", id);
        set("webhook-timestamp", "0".to_owned());
        assert!(self.shop.inbox.receive(&headers, body.as_bytes()).verified());
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let answer = router(self.shop.clone()).oneshot(request).await.expect("infallible");
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (status, headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    async fn open(&self, path: &str) -> (StatusCode, HeaderMap, String) {
        self.ask(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    async fn buy(&self, form: &str) -> (StatusCode, HeaderMap, String) {
        self.ask(Request::post("/shop/buy").body(Body::from(form.to_owned())).expect("a request")).await
    }
}

fn paid_session() -> Value {
    json!({
        "id": SESSION, "state": "completed", "status": "complete", "payment_status": "paid", "amount_total": 123_450,
        "currency": "eur", "customer_details": { "email": "ada@example.com" }, "metadata": { "order_id": "order_7" },
    })
}

#[tokio::test]
async fn buying_creates_a_session_as_a_merchant_would_and_sends_the_payer_to_it() {
    let world = World::new(200, json!({ "url": "http://127.0.0.1:4242/c/token" })).await;
    let (status, headers, _) = world.buy("currency=jpy&coffee=2&mug=0&poster=1").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(headers["location"], "http://127.0.0.1:4242/c/token");

    let (sent, body) = world.api.got.lock().expect("not poisoned")[0].clone();
    assert_eq!(sent["authorization"], "Bearer sk_test_demo");
    let order_id = field(body.as_bytes(), "metadata[order_id]").expect("an order");
    assert_eq!(sent["idempotency-key"], format!("create-{order_id}"));
    for (name, value) in [
        ("mode", "payment"),
        ("success_url", "http://127.0.0.1:4243/shop/thanks?session_id={CHECKOUT_SESSION_ID}"),
        ("cancel_url", "http://127.0.0.1:4243/shop?cancelled=1"),
        ("line_items[0][price_data][currency]", "jpy"),
        ("line_items[0][price_data][unit_amount]", "2100"),
        ("line_items[0][quantity]", "2"),
        ("line_items[1][price_data][product_data][name]", "Poster, A2"),
        ("line_items[1][quantity]", "1"),
    ] {
        assert_eq!(field(body.as_bytes(), name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(field(body.as_bytes(), "line_items[2][quantity]"), None);
}

#[tokio::test]
async fn the_form_may_lead_to_the_gateway_and_nowhere_else() {
    let world = World::new(200, json!({})).await;
    let (_, headers, page) = world.open("/shop?currency=JPY&cancelled=1").await;
    let policy = headers["content-security-policy"].to_str().expect("text");
    let wanted = format!("form-action 'self' {};", world.shop.gateway_origin);
    assert!(policy.contains(&wanted), "{policy}");
    assert!(page.contains("¥2,100") && page.contains("You came back without paying"), "{page}");
}

#[tokio::test]
async fn a_refusal_of_the_api_is_shown_with_all_that_it_said() {
    let error = json!({ "error": {
        "type": "invalid_request_error", "code": "redirect_url_not_allowed", "param": "success_url", "message": "No <b>.",
    } });
    let world = World::new(400, error).await;
    let (status, _, page) = world.buy("coffee=3").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    for said in ["No &#60;b&#62;.", "redirect_url_not_allowed", "success_url", "req_stand_in", "400"] {
        assert!(page.contains(said), "{said} in {page}");
    }
    assert!(page.contains("<option value=\"3\" selected>"), "the cart is kept");
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named() {
    let mut world = World::new(200, json!({})).await;
    // A port that was free a moment ago and is closed again.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", closed.local_addr().expect("an address"));
    drop(closed);
    world.shop.client = ShopClient::new(base.clone(), "sk_test_demo".to_owned());
    let (status, _, page) = world.buy("coffee=1").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(page.contains(&format!("The gateway at {base} did not answer")), "{page}");
}

#[tokio::test]
async fn a_session_without_a_web_address_leads_nowhere() {
    let world = World::new(200, json!({ "url": "javascript:alert(1)" })).await;
    let (status, headers, page) = world.buy("coffee=1").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(!headers.contains_key("location") && page.contains("no `url`"), "{page}");
}

#[tokio::test]
async fn an_empty_cart_and_another_sites_form_buy_nothing() {
    let world = World::new(200, json!({})).await;
    let (status, _, page) = world.buy("coffee=0&mug=x&poster=-1").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(page.contains("The cart is empty"));
    for (site, wanted) in [("cross-site", 403), ("same-site", 403), ("none", 400), ("same-origin", 400)] {
        let request = Request::post("/shop/buy").header("sec-fetch-site", site).body(Body::empty());
        assert_eq!(world.ask(request.expect("a request")).await.0, wanted, "{site}");
    }
    assert!(world.api.got.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn the_thank_you_page_waits_for_the_webhook_twenty_times() {
    let world = World::new(200, paid_session()).await;
    let path = format!("/shop/thanks?session_id={SESSION}&status=completed");
    let (_, _, first) = world.open(&path).await;
    assert!(
        first.contains("content=\"1;url=/shop/thanks?session_id=cs_test_1&#38;status=completed&#38;n=1\""),
        "{first}"
    );
    assert!(first.contains("Waiting for the webhook") && !first.contains("your order is paid"), "{first}");
    assert!(first.contains("€1,234.50") && first.contains("order_7"), "{first}");
    let (_, _, otherwise) = world.open(&path.replace("completed", "expired")).await;
    assert!(otherwise.contains("We are checking what happened"), "{otherwise}");
    let (_, _, last) = world.open(&format!("{path}&n=20")).await;
    assert!(!last.contains("http-equiv") && last.contains("Look again"), "{last}");
}

#[tokio::test]
async fn the_webhook_decides_what_the_page_says() {
    for (kind, payment_status, title) in [
        ("checkout.session.completed", "paid", "Thank you, your order is paid"),
        ("checkout.session.completed", "unpaid", "Your payment is on its way"),
        ("checkout.session.async_payment_failed", "unpaid", "The payment did not go through"),
        ("checkout.session.expired", "unpaid", "Time ran out"),
        ("checkout.session.cancelled", "unpaid", "The payment was cancelled"),
        ("checkout.session.failed", "unpaid", "The payment did not go through"),
    ] {
        let world = World::new(200, paid_session()).await;
        world.deliver(kind, payment_status);
        let (_, _, page) = world.open(&format!("/shop/thanks?session_id={SESSION}")).await;
        assert!(page.contains(title) && page.contains("href=\"/inbox/1\""), "{kind}: {page}");
        assert!(!page.contains("http-equiv"), "{kind}");
    }
}

#[tokio::test]
async fn an_address_without_a_session_is_not_looked_up() {
    let world = World::new(200, paid_session()).await;
    for query in ["", "?session_id=", "?session_id=../v1", "?session_id=%7BCHECKOUT_SESSION_ID%7D"] {
        let (status, _, _) = world.open(&format!("/shop/thanks{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
    }
    assert!(world.api.got.lock().expect("not poisoned").is_empty());
}
