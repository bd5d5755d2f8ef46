//! The main job from end to end: a session, a payment on its page, the way back, a signed webhook.

use checkstand::domain::signature::SigningSecret;

use crate::payer::GOOD_CARD;
use crate::world::World;

#[tokio::test]
async fn a_payer_pays_on_the_hosted_page_and_the_shop_hears_of_it() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let receiver = world.receiver(&merchant).await;

    let session = merchant.session().await;
    assert_eq!(session["status"], "open");
    assert_eq!(session["amount_total"], 2598);

    let page = world.payer().pay(&session, GOOD_CARD).await;
    page.says("Payment complete").says("You paid €25.98");
    let id = session["id"].as_str().expect("an id");
    assert_eq!(
        page.refresh_url().as_deref(),
        Some(format!("https://shop.example/thanks?id={id}&session_id={id}&status=completed").as_str())
    );

    let delivery = receiver.wait_for("checkout.session.completed").await;
    assert_eq!(delivery.object_id(), id);
    let secret = SigningSecret::parse(&receiver.secret).expect("a secret");
    let header = &delivery.headers["stripe-signature"];
    let timestamp: i64 = header.split(['=', ',']).nth(1).and_then(|text| text.parse().ok()).expect("a timestamp");
    let expected = checkstand::domain::signature::stripe_signature_header(&[secret], timestamp, &delivery.body);
    assert_eq!(header, &expected);

    let after = merchant.read(&session).await;
    assert_eq!(after["status"], "complete");
    assert_eq!(after["payment_status"], "paid");
    assert_eq!(after["customer_details"]["email"], "ada@example.com");
    world.end().await;
}
