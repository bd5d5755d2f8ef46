//! What the identity pages show: the offer to send a code, the input for it, and the ends of that road.
//! Before the proof a page names the merchant and nothing of the act, and the address only under its mask.

use askama::Template;

use super::{PageFrame, initial};
use crate::i18n::identity_words::IdentityWords;

/// Which page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityStep {
    /// Offers to send a code.
    Ask,
    /// Takes the code.
    Code,
    /// No code is left for this link.
    Spent,
    /// Too many codes were asked for.
    Busy,
}

/// The identity page, `GET /c/{token}` of an open session whose target user has not proven himself here.
#[derive(Clone, Template)]
#[template(path = "hosted/identity.html")]
pub struct IdentityView {
    /// Language, mode and assets.
    pub frame: PageFrame,
    /// The sentences that need nothing filled in.
    pub words: &'static IdentityWords,
    /// Which page.
    pub step: IdentityStep,
    /// Who made the link.
    pub merchant_name: String,
    /// What the page is about.
    pub lead: String,
    /// More about it; empty for nothing.
    pub note: String,
    /// What to put right; `None` for nothing.
    pub error: Option<String>,
    /// Whether the code is held up because the mail server does not answer.
    pub is_held_up: bool,
    /// Beside the input.
    pub hint: String,
    /// Before the button for another code; empty where there is none to be had.
    pub resend: String,
    /// For one whose address it is not.
    pub not_yours: String,
    /// Where the merchant helps payers.
    pub support_email: Option<String>,
    /// Path that asks for a code.
    pub send_path: String,
    /// Path that takes the code.
    pub confirm_path: String,
    /// Token that ties the forms to this browser.
    pub csrf_token: String,
    /// Session id to quote to support.
    pub reference: String,
}

impl IdentityView {
    fn merchant_initial(&self) -> String {
        initial(&self.merchant_name)
    }

    fn title(&self) -> &'static str {
        match self.step {
            IdentityStep::Ask => self.words.ask_title,
            IdentityStep::Code => self.words.code_title,
            IdentityStep::Spent => self.words.spent_title,
            IdentityStep::Busy => self.words.busy_title,
        }
    }
}
