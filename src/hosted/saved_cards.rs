//! Kept cards on the payment form: which to list, what the payer chose, what is said about keeping.
//!
//! The rule: the form names a card by its id and the id counts only if this session offers it, so a
//! changed form chooses nothing that the page did not show. Numbers and codes are `checkout`'s.

use super::views::{Keeping, SavedCardChoice, SavedCardList};
use crate::domain::billing::is_whole;
use crate::domain::payment_method::FutureUsage;
use crate::domain::session::Session;
use crate::ops::saved_cards::{Offered, OfferedCard};

/// The value of "another card".
const ANOTHER: &str = "new";

/// What the payer chose to pay with.
pub enum Choice<'a> {
    /// The card that he types.
    Another,
    /// A kept one.
    Saved(&'a OfferedCard),
    /// A kept one that is not to be had: removed meanwhile, expired, or never offered.
    Gone,
}

impl<'a> Choice<'a> {
    /// Reads what the form sent.
    pub fn of(offered: &'a Offered, sent: &str) -> Self {
        if matches!(sent, "" | ANOTHER) {
            return Self::Another;
        }
        let found = offered.cards.iter().find(|card| card.id.as_str() == sent && !card.is_expired);
        found.map_or(Self::Gone, Self::Saved)
    }
}

/// The list as the form shows it. Without a choice the card used last is chosen.
pub fn list(offered: &Offered, sent: &str) -> SavedCardList {
    let usable = |card: &&OfferedCard| !card.is_expired;
    let asked = offered.cards.iter().filter(usable).find(|card| card.id.as_str() == sent);
    let chosen = match sent {
        "" => offered.cards.iter().find(usable),
        _ => asked,
    };
    let cards = offered
        .cards
        .iter()
        .map(|offered| SavedCardChoice {
            value: offered.id.to_string(),
            name: format!("{} ending in {}", offered.card.brand.display_name(), offered.card.last4),
            expiry: format!("{:02} / {:02}", offered.card.exp_month, offered.card.exp_year % 100),
            is_expired: offered.is_expired,
            has_address: offered.holder_address.as_ref().is_some_and(is_whole),
            needs_code: offered.needs_code,
            checked: chosen.is_some_and(|chosen| chosen.id == offered.id),
        })
        .collect();
    SavedCardList { cards, another_checked: chosen.is_none() }
}

/// What is said about keeping the card that is typed.
pub fn keeping(session: &Session, merchant: &str, ticked: bool) -> Keeping {
    let options = &session.options.saved_cards;
    let notice = options.future_usage.map(|usage| match usage {
        FutureUsage::OnSession => format!("{merchant} keeps this card for your next payment there."),
        FutureUsage::OffSession => {
            format!("{merchant} keeps this card and may charge it later without asking again, as agreed with you.")
        }
    });
    let question = options.offer_to_save.then_some(match options.future_usage {
        None => "Save my card for next time",
        Some(_) => "Show me this card next time",
    });
    Keeping { notice, question, ticked }
}

/// An address that its owner recognises and nobody else can use.
pub fn masked(email: &str) -> String {
    match email.rsplit_once('@') {
        Some((name, domain)) => format!("{}•••@{domain}", name.chars().next().unwrap_or('•')),
        None => "•••".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::domain::card::{CardBrand, CardSummary};
    use crate::domain::id::PaymentMethodId;

    fn offered(is_expired: bool) -> OfferedCard {
        OfferedCard {
            id: PaymentMethodId::generate(Utc::now()),
            card: CardSummary {
                brand: CardBrand::Visa,
                last4: "4242".to_owned(),
                exp_month: 4,
                exp_year: 2031,
                funding: None,
                country: None,
                fingerprint: "f".to_owned(),
            },
            holder_name: None,
            holder_address: None,
            needs_code: false,
            is_expired,
        }
    }

    #[test]
    fn an_expired_card_is_shown_and_cannot_be_chosen() {
        let cards = vec![offered(true), offered(false)];
        let (old, good) = (cards[0].id.to_string(), cards[1].id.to_string());
        let offered = Offered { email: None, cards };
        let checked = |sent: &str| {
            let list = list(&offered, sent);
            (list.cards[0].checked, list.cards[1].checked, list.another_checked)
        };
        assert_eq!(checked(""), (false, true, false));
        assert_eq!(checked("new"), (false, false, true));
        assert_eq!(checked(&old), (false, false, true));
        assert_eq!(list(&offered, "").cards[0].expiry, "04 / 31");
        assert!(matches!(Choice::of(&offered, &old), Choice::Gone));
        assert!(matches!(Choice::of(&offered, &good), Choice::Saved(_)));
        assert!(matches!(Choice::of(&offered, "pm_x"), Choice::Gone));
        assert!(matches!(Choice::of(&offered, "new"), Choice::Another));
    }

    #[test]
    fn an_address_is_masked() {
        assert_eq!(masked("grace@navy.example"), "g•••@navy.example");
        assert_eq!(masked("@"), "••••@");
    }
}
