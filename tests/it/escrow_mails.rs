//! What the mail with a code says that the code is for: each act of an escrow in its own words.

use crate::deal::{BUYER, SELLER, Story};
use crate::world::World;

#[tokio::test]
async fn the_mail_with_a_code_names_the_act_that_it_confirms() {
    let world = World::start().await;
    let signing = Story::begin(&world, "standard").await;
    let unpaid = Story::begin(&world, "quick").await;
    let paid = Story::paid(&world, "quick").await;
    let delivered = Story::delivered(&world, "quick").await;
    let mut asked = Story::paid(&world, "quick").await;
    asked.act("request_cancellation", BUYER, &[("text", "I moved away.")]).await;
    for (story, act, email, locale, words) in [
        (&signing, "sign_contract", SELLER, "en", "signs the contract about €250.00"),
        (&unpaid, "accept_pay", BUYER, "en", "accepts and pays €250.00"),
        (&delivered, "complete", BUYER, "en", "releases €250.00"),
        (&paid, "dispute", BUYER, "en", "opens a dispute about €250.00"),
        (&paid, "request_cancellation", BUYER, "en", "asks to cancel the deal about €250.00"),
        (&asked, "accept_cancellation", SELLER, "en", "agrees to cancel the deal about €250.00"),
        (&asked, "reject_cancellation", SELLER, "en", "refuses to cancel the deal about €250.00"),
        (&paid, "cancel_escrow", SELLER, "en", "cancels the deal about €250.00"),
        (&paid, "cancel_escrow", SELLER, "de", "der das Geschäft über 250,00\u{a0}€"),
    ] {
        let fields = [
            ("action", act),
            ("target_user_email", email),
            ("redirect_url", "https://shop.example/deal"),
            ("locale", locale),
        ];
        let session = story.merchant.post(&format!("/v1/escrows/{}/sessions", story.id), &fields).await.ok();
        let mut user = world.payer();
        user.ask_for_code(&session).await;
        let mail = &checkstand::ops::mails::newest(world.app(), 1).await.expect("the mailbox")[0];
        for body in [&mail.body_text, &mail.body_html] {
            assert!(body.contains(words), "{act}: {body}");
        }
        // Codes are counted by the hour.
        world.advance(chrono::Duration::minutes(61));
    }
    world.end().await;
}
