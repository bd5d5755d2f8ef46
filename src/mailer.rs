//! The mails that payers get. Written here, sent by others.
//!
//! The rule: a subject is one line, an address was checked when it was typed, and a mail names the
//! card by its last four digits and nothing more. So far mails are captured for the development
//! mailbox; a receipt is the only kind.

use askama::Template;
use chrono::{DateTime, Utc};

use crate::domain::id::MailId;
use crate::domain::money::Money;
use crate::domain::payment::Charge;
use crate::domain::session::Session;
use crate::i18n::{Locale, format_money};
use crate::store::mails::Mail;

struct ReceiptLine {
    name: String,
    quantity: i64,
    total: String,
}

#[derive(Template)]
#[template(path = "mail/receipt.txt", escape = "none")]
struct ReceiptText<'a> {
    merchant: &'a str,
    lines: &'a [ReceiptLine],
    total: &'a str,
    card: &'a str,
    date: &'a str,
    reference: &'a str,
    test_mode: bool,
}

#[derive(Template)]
#[template(path = "mail/receipt.html")]
struct ReceiptHtml<'a> {
    subject: &'a str,
    merchant: &'a str,
    lines: &'a [ReceiptLine],
    total: &'a str,
    card: &'a str,
    date: &'a str,
    reference: &'a str,
    test_mode: bool,
}

/// The receipt for a paid session; `None` when nobody's address is known.
pub fn receipt(session: &Session, charge: &Charge, merchant: &str, now: DateTime<Utc>) -> Option<Mail> {
    let payer = session.payer.as_ref().map(|payer| payer.email.clone());
    let recipient = session.options.receipt_email.clone().or(payer)?;
    let locale = Locale::negotiate(session.options.locale.as_deref(), None);
    let show = |minor: i64| format_money(&locale, Money { minor, currency: session.total.currency });
    let lines: Vec<ReceiptLine> = session
        .lines
        .iter()
        .map(|line| ReceiptLine {
            name: line.priced.name.clone(),
            quantity: line.priced.quantity,
            total: show(line.priced.amount_total),
        })
        .collect();
    let total = show(session.total.minor);
    let subject: String =
        format!("Receipt from {merchant}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let card = format!("{} ending in {}", charge.card.brand.display_name(), charge.card.last4);
    let date = now.format("%Y-%m-%d %H:%M UTC").to_string();
    let reference = session.id.as_str();
    let test_mode = !session.livemode;
    let text = ReceiptText { merchant, lines: &lines, total: &total, card: &card, date: &date, reference, test_mode };
    let html = ReceiptHtml {
        subject: &subject,
        merchant,
        lines: &lines,
        total: &total,
        card: &card,
        date: &date,
        reference,
        test_mode,
    };
    Some(Mail {
        id: MailId::generate(now).to_string(),
        merchant_id: session.merchant_id.to_string(),
        kind: "receipt".to_owned(),
        recipient,
        body_text: text.render().ok()?,
        body_html: html.render().ok()?,
        subject,
        session_id: Some(session.id.to_string()),
        created_at: now,
    })
}
