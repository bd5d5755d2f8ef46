//! What each hosted page shows: one struct a page, compiled with its template.
//! Rule: plain owned values only. Money, dates and words for the payer arrive formatted; nothing here reads a clock,
//! a database or a request, and nothing here can hold a card number or a CVC, so neither can be shown again.
//! Left to others: which page a session gets, response headers, reading the submitted form, serving the assets.

mod accent;
mod billing;
mod escrow;
mod fields;
mod identity;
mod saved_cards;

pub use accent::{accent_stylesheet, accent_stylesheet_path};
use askama::Template;
pub use billing::BillingBlock;
pub use escrow::{
    ActError, ActField, ActOutcomeView, ActTyped, ActView, ContractShown, Deal, Station, WrongMoment, WrongMomentView,
};
pub use fields::{CheckoutField, FieldError};
pub use identity::{IdentityStep, IdentityView};
pub use saved_cards::{Keeping, SavedCardChoice, SavedCardList};

use crate::domain::escrow::Act;

/// The one enhancement script and the hash that pins its bytes.
#[derive(Clone, Debug)]
pub struct PageScript {
    /// Path of the script, such as `/assets/checkout.<hash>.js`.
    pub url: String,
    /// Value of the `integrity` attribute, `sha256-<base64>`; the same hash stands in the page's CSP.
    pub integrity: String,
}

/// What every page has in common: language, mode and assets.
#[derive(Clone, Debug)]
pub struct PageFrame {
    /// BCP 47 tag of the page's text, for `<html lang>`.
    pub lang: String,
    /// `ltr` or `rtl`, for `<html dir>`.
    pub direction: String,
    /// True for a test session: shows the test banner.
    pub test_mode: bool,
    /// Path of the style sheet.
    pub stylesheet_url: String,
    /// Path of the merchant's accent style sheet, see [`accent_stylesheet_path`]; `None` keeps the default accent.
    pub accent_stylesheet_url: Option<String>,
    /// Path of the icon; `None` on pages whose CSP has no `img-src`, where the browser would report it.
    pub icon_url: Option<String>,
    /// The script; `None` on pages whose CSP has no `script-src`.
    pub script: Option<PageScript>,
}

/// One line of the order.
#[derive(Clone, Debug)]
pub struct OrderLine {
    /// Name of the item.
    pub name: String,
    /// What the merchant says about it.
    pub description: Option<String>,
    /// How many, 1 or more.
    pub quantity: u64,
    /// Price of one, formatted; shown when the quantity is more than one.
    pub unit_amount: String,
    /// Price of the line, formatted.
    pub line_total: String,
}

/// A labelled amount between the lines and the total, such as a subtotal, a discount or a tax.
#[derive(Clone, Debug)]
pub struct AmountLine {
    /// Name of the amount, such as `Discount SPRING10`.
    pub label: String,
    /// The amount, formatted, with its sign when it is taken off.
    pub amount: String,
}

/// How long the session can still be paid.
#[derive(Clone, Debug)]
pub struct TimeLeft {
    /// The deadline as RFC 3339 UTC, for `<time datetime>`.
    pub deadline_datetime: String,
    /// Whole seconds until then by the server's clock. The script counts from this number, so a payer's wrong clock does no harm.
    pub seconds: u32,
}

impl TimeLeft {
    /// The remaining time in words, rounded down so that it never promises too much.
    pub fn words(&self) -> String {
        let unit = |count: u32, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
        let (hours, minutes) = (self.seconds / 3600, self.seconds / 60 % 60);
        match (hours, minutes) {
            (0, 0) => "less than a minute".to_owned(),
            (0, _) => unit(minutes, "minute"),
            (_, 0) => unit(hours, "hour"),
            _ => format!("{} {}", unit(hours, "hour"), unit(minutes, "minute")),
        }
    }
}

/// Hints that stand in place of the template's own; `None` keeps those.
#[derive(Clone, Debug, Default)]
pub struct CheckoutHints {
    /// Beside the e-mail address; nothing by default.
    pub email: Option<String>,
    /// Beside the card number; nothing by default.
    pub card_number: Option<String>,
    /// Beside the expiry; an example by default.
    pub card_expiry: Option<String>,
    /// Beside the CVC; where to find it by default.
    pub card_cvc: Option<String>,
    /// Beside the name; nothing by default.
    pub card_name: Option<String>,
}

/// The e-mail field.
#[derive(Clone, Debug)]
pub struct EmailField {
    /// What was typed or prefilled; may be empty.
    pub value: String,
    /// True when the merchant fixed the address: shown, not editable. The server must not read it from the form then.
    pub locked: bool,
}

/// The last try was refused; the payer may try again.
#[derive(Clone, Debug)]
pub struct DeclineNotice {
    /// What happened, that no money moved, and what to do, such as `Your card was declined. You were not charged. Use another
    /// card.`
    pub message: String,
    /// How many tries are left; `None` says nothing about it.
    pub tries_left: Option<u32>,
}

/// A card scheme that the page says it accepts. The marks are letters in a frame, drawn for this page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardMark {
    /// Visa.
    Visa,
    /// Mastercard.
    Mastercard,
    /// American Express.
    Amex,
    /// Discover.
    Discover,
    /// Diners Club.
    Diners,
    /// JCB.
    Jcb,
    /// UnionPay.
    UnionPay,
}

impl CardMark {
    /// Every mark, in the order shown.
    pub const ALL: [Self; 7] =
        [Self::Visa, Self::Mastercard, Self::Amex, Self::Discover, Self::Diners, Self::Jcb, Self::UnionPay];

    /// The scheme's name in full.
    pub fn name(self) -> &'static str {
        match self {
            Self::Visa => "Visa",
            Self::Mastercard => "Mastercard",
            Self::Amex => "American Express",
            Self::Discover => "Discover",
            Self::Diners => "Diners Club",
            Self::Jcb => "JCB",
            Self::UnionPay => "UnionPay",
        }
    }

    /// The letters drawn in the mark, five at most so that they fit.
    pub fn letters(self) -> &'static str {
        match self {
            Self::Visa => "VISA",
            Self::Mastercard => "MC",
            Self::Amex => "AMEX",
            Self::Discover => "DISC",
            Self::Diners => "DC",
            Self::Jcb => "JCB",
            Self::UnionPay => "UP",
        }
    }
}

/// The form that takes the payment, `GET /c/{token}` of an open session.
#[derive(Clone, Template)]
#[template(path = "hosted/checkout.html")]
pub struct CheckoutView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// Who is paid.
    pub merchant_name: String,
    /// The deal that is accepted by paying; `None` for a plain payment.
    pub deal: Option<Deal>,
    /// The order, one line or more.
    pub lines: Vec<OrderLine>,
    /// Subtotal, discounts, shipping, taxes, in the order shown; empty when the lines are the total.
    pub amounts: Vec<AmountLine>,
    /// What will be charged, formatted.
    pub total: String,
    /// ISO 4217 code in capitals, beside the total: `$` alone is ambiguous.
    pub currency_code: String,
    /// Time until the session expires.
    pub time_left: TimeLeft,
    /// Schemes shown beside the card number; empty shows none.
    pub card_marks: Vec<CardMark>,
    /// The e-mail field.
    pub email: EmailField,
    /// The cards that are kept for the payer.
    pub saved: SavedCardList,
    /// Whether the card that is typed is kept.
    pub keeping: Keeping,
    /// Name on the card as typed before; may be empty.
    pub card_name: String,
    /// Expiry as typed before; may be empty.
    pub card_expiry: String,
    /// The billing address, where the session asks for it.
    pub billing: BillingBlock,
    /// Hints in place of the template's own.
    pub hints: CheckoutHints,
    /// What to put right, in the order of the fields; empty on a first visit.
    pub errors: Vec<FieldError>,
    /// A refused try; `None` when there was none.
    pub decline: Option<DeclineNotice>,
    /// Path that the form posts to, `/c/{token}/pay`.
    pub pay_path: String,
    /// Path of the page that asks about cancelling, `/c/{token}/cancel`.
    pub cancel_path: String,
    /// Token that ties the form to this browser, sent as `csrf_token`.
    pub csrf_token: String,
    /// Key of this rendering of the form, sent as `attempt_key`: a second press with the same key is the same try.
    pub attempt_key: String,
    /// Session id to quote to support.
    pub reference: String,
}

impl CheckoutView {
    /// What paying does to a deal.
    const ACT: Act = Act::AcceptPay;

    fn error_for(&self, field: CheckoutField) -> Option<&str> {
        self.errors.iter().find(|error| error.field == field).map(|error| error.message.as_str())
    }

    fn no_hint(&self) -> Option<&str> {
        None
    }

    fn has_trouble(&self) -> bool {
        !self.errors.is_empty() || self.decline.is_some()
    }

    fn merchant_initial(&self) -> String {
        initial(&self.merchant_name)
    }
}

/// The page that asks before a payment is given up, `GET /c/{token}/cancel`.
#[derive(Clone, Template)]
#[template(path = "hosted/cancel.html")]
pub struct CancelView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// Who would have been paid.
    pub merchant_name: String,
    /// What would have been charged, formatted.
    pub total: String,
    /// Whether the session is for an act of an escrow.
    pub is_act: bool,
    /// Whether it would have taken money.
    pub takes_money: bool,
    /// Path that the form posts to, `/c/{token}/cancel`.
    pub cancel_path: String,
    /// Path back to the form, `/c/{token}`.
    pub checkout_path: String,
    /// Token that ties the form to this browser, sent as `csrf_token`.
    pub csrf_token: String,
    /// Session id to quote to support.
    pub reference: String,
}

impl CancelView {
    fn merchant_initial(&self) -> String {
        initial(&self.merchant_name)
    }
}

/// The page between the form and the payer's bank, `GET /c/{token}/3ds`.
#[derive(Clone, Template)]
#[template(path = "hosted/authenticate.html")]
pub struct AuthenticateView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// Who is paid.
    pub merchant_name: String,
    /// What will be charged, formatted.
    pub total: String,
    /// The bank's page, as the provider gave it.
    pub bank_url: String,
    /// Its host as shown to the payer.
    pub bank_domain: String,
    /// Whether the browser goes there by itself.
    pub leave: bool,
    /// Path of the page that looks what became of it.
    pub status_path: String,
    /// Session id to quote to support.
    pub reference: String,
}

impl AuthenticateView {
    fn merchant_initial(&self) -> String {
        initial(&self.merchant_name)
    }
}

/// The page between the payer's bank and the merchant's own page, `GET /3ds/{state}`.
#[derive(Clone, Template)]
#[template(path = "hosted/back.html")]
pub struct BackView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// Where the payer goes on, covered by the merchant's allow-list.
    pub url: String,
    /// Its host as shown to the payer.
    pub domain: String,
    /// Session id to quote to support.
    pub reference: String,
}

/// How a session stands once it shows no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, once.
    Completed,
    /// In flight: the provider has not answered.
    Processing,
    /// Time ran out.
    Expired,
    /// Ended by the merchant before its time was over.
    Withdrawn,
    /// Given up by the payer or the merchant.
    Cancelled,
    /// Cannot succeed any more.
    Failed,
}

impl Outcome {
    /// The class of the mark above the heading.
    fn tone(self) -> &'static str {
        match self {
            Outcome::Completed => "good",
            Outcome::Processing => "wait",
            Outcome::Expired | Outcome::Withdrawn | Outcome::Cancelled => "calm",
            Outcome::Failed => "bad",
        }
    }
}

/// Whether money moved, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoneyMoved {
    /// No money was taken.
    Nothing,
    /// There was nothing to pay.
    NothingDue,
    /// Taken from the payer.
    Taken {
        /// How much, formatted.
        amount: String,
    },
    /// Reserved, to be taken later by the merchant.
    Reserved {
        /// How much, formatted.
        amount: String,
    },
    /// Taken or reserved, and released again.
    GivenBack {
        /// How much, formatted.
        amount: String,
    },
    /// The provider has not said.
    NotYetKnown {
        /// How much it is about, formatted.
        amount: String,
    },
}

/// A point in time for people and for machines.
#[derive(Clone, Debug)]
pub struct Moment {
    /// RFC 3339 UTC, for `<time datetime>`.
    pub datetime: String,
    /// The same, formatted for the payer.
    pub text: String,
}

/// The way back to the merchant.
#[derive(Clone, Debug)]
pub struct WayBack {
    /// Absolute URL, already checked against the merchant's allow-list; never taken from the request.
    pub url: String,
    /// The URL's host as shown to the payer.
    pub domain: String,
    /// Seconds until the browser goes there by itself, or `None` for a plain link. 0 meets WCAG 2.2.1; more than 0 does not, as the
    /// payer cannot stop it.
    pub refresh_seconds: Option<u32>,
}

/// The page of a session that shows no form: `GET /c/{token}/done` and `/c/{token}/status`.
#[derive(Clone, Template)]
#[template(path = "hosted/outcome.html")]
pub struct OutcomeView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// Who is paid.
    pub merchant_name: String,
    /// What happened.
    pub outcome: Outcome,
    /// Whether money moved.
    pub money: MoneyMoved,
    /// One more sentence about what happened, such as `All 3 tries were used.`
    pub detail: Option<String>,
    /// What was paid with, such as `Visa ending in 4242`.
    pub payment_method: Option<String>,
    /// When it happened.
    pub happened_at: Option<Moment>,
    /// Where a receipt goes; `None` when none is sent.
    pub receipt_email: Option<String>,
    /// The way back; `None` says that the page can be closed.
    pub way_back: Option<WayBack>,
    /// Path of this page, for the link that looks again while processing; `None` shows no such link.
    pub status_path: Option<String>,
    /// Seconds after which the page loads itself again while processing, 1 or more; `None` never.
    pub status_refresh_seconds: Option<u32>,
    /// Where the merchant helps payers; `None` where he has not said.
    pub support_email: Option<String>,
    /// Session id to quote to support.
    pub reference: String,
}

impl OutcomeView {
    fn merchant_initial(&self) -> String {
        initial(&self.merchant_name)
    }

    fn amount(&self) -> Option<&str> {
        match &self.money {
            MoneyMoved::Nothing | MoneyMoved::NothingDue => None,
            MoneyMoved::Taken { amount }
            | MoneyMoved::Reserved { amount }
            | MoneyMoved::GivenBack { amount }
            | MoneyMoved::NotYetKnown { amount } => Some(amount),
        }
    }
}

/// Why a page cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Unknown, forged and purged links alike, so that nothing can be learned from the answer.
    UnknownLink,
    /// The form came without its cookie.
    CookiesMissing,
    /// The form did not come from our page, or from a page that is too old.
    RequestRefused,
    /// The address is known, the method is not meant for it.
    MethodNotAllowed,
    /// The form was larger than any real one.
    TooLarge,
    /// Too many requests from one place.
    TooManyRequests,
    /// A fault of ours.
    Internal,
    /// Not able to answer just now.
    Unavailable,
    /// Nobody would take the money: the gateway is not set up for it.
    NotPayable,
}

impl MessageKind {
    /// Every kind, for walks over all of them.
    pub const ALL: [Self; 9] = [
        Self::UnknownLink,
        Self::CookiesMissing,
        Self::RequestRefused,
        Self::MethodNotAllowed,
        Self::TooLarge,
        Self::TooManyRequests,
        Self::Internal,
        Self::Unavailable,
        Self::NotPayable,
    ];

    /// The HTTP status that goes with the page (RFC 9110, RFC 6585 for 429).
    pub fn http_status(self) -> u16 {
        match self {
            Self::UnknownLink => 404,
            Self::CookiesMissing | Self::RequestRefused => 403,
            Self::MethodNotAllowed => 405,
            Self::TooLarge => 413,
            Self::TooManyRequests => 429,
            Self::Internal => 500,
            Self::Unavailable | Self::NotPayable => 503,
        }
    }
}

/// A link offered at the end of a message.
#[derive(Clone, Debug)]
pub struct MessageLink {
    /// Where it leads.
    pub url: String,
    /// What it says.
    pub label: String,
}

/// A page that says why another cannot be shown.
#[derive(Clone, Template)]
#[template(path = "hosted/message.html")]
pub struct MessageView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// Why.
    pub kind: MessageKind,
    /// Id of the request to quote to support.
    pub request_id: Option<String>,
    /// A way on.
    pub link: Option<MessageLink>,
}

/// The first letter or digit of a name, for the square that stands in for a logo.
fn initial(name: &str) -> String {
    name.chars()
        .find(|character| character.is_alphanumeric())
        .map(|character| character.to_uppercase().collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_rounded_down() {
        let words = |seconds| TimeLeft { deadline_datetime: String::new(), seconds }.words();
        assert_eq!(words(59), "less than a minute");
        assert_eq!(words(119), "1 minute");
        assert_eq!(words(1_799), "29 minutes");
        assert_eq!(words(7_200), "2 hours");
        assert_eq!(words(86_399), "23 hours 59 minutes");
    }
}
