//! The test cards that the page lists for developers do what the page says.

use crate::payer::{Card, Payer};
use crate::three_d_secure::{answer_the_bank, path_at};
use crate::world::World;

/// The one card that is refused before any bank hears of it: its check digit is wrong.
const MISTYPED: &str = "4242 4242 4242 4241";

/// Fewest cards that the page lists: a page without its list must not pass.
const CARDS_MIN: usize = 30;

#[tokio::test]
async fn every_card_on_the_test_page_does_what_the_page_says() {
    let world = World::start().await;
    let merchant = world.merchant().await;
    let page = world.payer().open(&merchant.session().await).await;
    let mut listed = 0;
    for table in page.html.split("<table>").skip(1) {
        let is_accepted = table.contains("<caption>Accepted</caption>");
        for row in table.split("<th scope=\"row\">").skip(1) {
            let (number, rest) = row.split_once("</th><td>").expect("a number and what happens");
            let what = rest.split('<').next().unwrap_or_default();
            let session = merchant.session().await;
            let mut payer = world.payer();
            let form = payer.open(&session).await;
            let cvc = if what == "American Express" { "1234" } else { "123" };
            let mut fields = Payer::fill(&form, Card { number: "", expiry: "12 / 49", cvc });
            fields
                .iter_mut()
                .filter(|(name, _)| name == "card_number")
                .for_each(|(_, value)| *value = number.to_owned());
            let mut after = payer.submit(&form, &fields).await;
            if what.starts_with("Asked") {
                let hop = answer_the_bank(&after, "approve").await;
                after = payer.visit(&path_at(&hop, world.base())).await;
            }
            if is_accepted || what.ends_with("paid") {
                after.says("Payment complete");
            } else if number == MISTYPED {
                after.says("needs your attention");
            } else {
                after.says("The payment did not go through");
            }
            listed += 1;
        }
    }
    assert!(listed >= CARDS_MIN, "only {listed} cards");
    world.end().await;
}
