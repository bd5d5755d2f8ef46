//! What the payment form shows of cards: those kept for a returning payer, and whether this one is kept.
//!
//! The rule: of a kept card a page shows brand, last four digits and expiry. Whoever holds the link sees
//! the page, so there is nothing here that could hold more.

/// One kept card in the list.
#[derive(Clone, Debug)]
pub struct SavedCardChoice {
    /// What the form sends for it.
    pub value: String,
    /// Such as `Visa ending in 4242`.
    pub name: String,
    /// Such as `12 / 34`.
    pub expiry: String,
    /// Whether its last month is over: shown, and not to be chosen.
    pub is_expired: bool,
    /// Whether the billing address that the session asks for goes with it already.
    pub has_address: bool,
    /// Whether its security code must be typed.
    pub needs_code: bool,
    /// Whether it is chosen.
    pub checked: bool,
}

/// The list of kept cards; without any the form is for a new card alone.
#[derive(Clone, Debug, Default)]
pub struct SavedCardList {
    /// The cards.
    pub cards: Vec<SavedCardChoice>,
    /// Whether "another card" is chosen.
    pub another_checked: bool,
}

impl SavedCardList {
    /// Whether there is nothing to choose from.
    pub fn is_empty(&self) -> bool {
        self.cards.is_empty()
    }

    /// Whether any of them asks for a security code.
    pub fn asks_for_code(&self) -> bool {
        self.cards.iter().any(|card| card.needs_code && !card.is_expired)
    }
}

/// Whether the card that is typed will be kept.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    /// It will be, because the merchant asked for it: says so in a sentence.
    pub notice: Option<String>,
    /// The payer decides, with a box to tick: its label.
    pub question: Option<&'static str>,
    /// Whether the box was ticked.
    pub ticked: bool,
}
