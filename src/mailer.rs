//! The mails that payers get, and the one that merchants get. Written here, kept by `store::mails`, sent by others.
//!
//! The rule: a subject is one line and says nothing secret, an address was checked when it was given, a
//! mail names the card by its last four digits and nothing more, and no mail has a link that acts. What
//! merchants call themselves is foreign text: what could break a line or turn one round is taken out.

use askama::Template;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::domain::endpoint_health::DisabledReason;
use crate::domain::id::MailId;
use crate::domain::identity::Code;
use crate::domain::money::Money;
use crate::domain::payment::Charge;
use crate::domain::session::Session;
use crate::i18n::identity_words::{IdentityWords, fill};
use crate::i18n::{Locale, format_money};

/// How long a receipt is worth sending.
const RECEIPT_USEFUL: chrono::Duration = chrono::Duration::days(3);

/// A mail before it is sealed.
pub struct Draft {
    /// `mail_…`
    pub id: String,
    /// Whose customer it is for.
    pub merchant_id: String,
    /// `receipt`, `identity_code` or `webhook_endpoint_disabled`.
    pub kind: &'static str,
    /// Where it goes.
    pub recipient: String,
    /// Its subject.
    pub subject: String,
    /// What is sealed.
    pub body: Body,
    /// The session that caused it.
    pub session_id: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// From when on it is of no use.
    pub give_up_at: DateTime<Utc>,
}

/// What a mail says and in whose name: everything that nobody but its reader is to see.
#[derive(Serialize, Deserialize, Clone)]
pub struct Body {
    /// Whom the reader sees as its sender.
    pub sender_name: String,
    /// Where answers go.
    #[serde(default)]
    pub reply_to: Option<String>,
    /// Its plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

impl Body {
    /// As bytes to be sealed.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("texts can be written as JSON"))
    }

    /// From bytes that were sealed; `None` when they are none of ours.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The place that a mail's body is sealed for.
pub fn seal_place(mail_id: &str) -> String {
    format!("mail/body/{mail_id}")
}

/// The merchant as mails show him.
#[derive(Debug, Clone, Default)]
pub struct Sender {
    /// His name.
    pub name: String,
    /// Where his payers get help.
    pub support_email: Option<String>,
}

/// A foreign text for one line of a mail: control characters become spaces, and what turns the direction
/// of writing round or cannot be seen is left out.
pub fn one_line(text: &str) -> String {
    let is_hidden = |character: char| matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}' | '\u{feff}');
    let shown: String = text.chars().filter(|c| !is_hidden(*c)).map(|c| if c.is_control() { ' ' } else { c }).collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

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
pub fn receipt(session: &Session, charge: &Charge, sender: &Sender, now: DateTime<Utc>) -> Option<Draft> {
    let payer = session.payer.as_ref().map(|payer| payer.email.clone());
    let recipient = session.options.receipt_email.clone().or(payer)?;
    let locale = Locale::negotiate(session.options.locale.as_deref(), None);
    let show = |minor: i64| format_money(&locale, Money { minor, currency: session.total.currency });
    let lines: Vec<ReceiptLine> = session
        .lines
        .iter()
        .map(|line| ReceiptLine {
            name: one_line(&line.priced.name),
            quantity: line.priced.quantity,
            total: show(line.priced.amount_total),
        })
        .collect();
    let total = show(session.total.minor);
    let merchant = &one_line(&sender.name);
    let subject = format!("Receipt from {merchant}");
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
    let body = Body {
        sender_name: merchant.clone(),
        reply_to: sender.support_email.clone(),
        text: text.render().ok()?,
        html: html.render().ok()?,
    };
    Some(draft("receipt", session, recipient, subject, body, now, now + RECEIPT_USEFUL))
}

#[derive(Template)]
#[template(path = "mail/identity_code.txt", escape = "none")]
struct CodeText<'a> {
    words: &'a IdentityWords,
    intro: &'a str,
    code: &'a str,
    act: &'a str,
    how: &'a str,
    secret: &'a str,
    not_you: &'a str,
    support: Option<&'a str>,
    reference: &'a str,
    test_mode: bool,
}

#[derive(Template)]
#[template(path = "mail/identity_code.html")]
struct CodeHtml<'a> {
    words: &'a IdentityWords,
    subject: &'a str,
    intro: &'a str,
    code: &'a str,
    act: &'a str,
    how: &'a str,
    secret: &'a str,
    not_you: &'a str,
    support: Option<&'a str>,
    reference: &'a str,
    test_mode: bool,
}

/// The mail that brings a code to a session's target user. `action` is the escrow act that the session is
/// for; `None` for a payment.
///
/// # Errors
/// When a template fails, which only a defect of ours can cause.
pub fn identity_code(
    session: &Session,
    action: Option<&str>,
    recipient: &str,
    code: &Code,
    sender: &Sender,
    locale: &Locale,
    (now, expires_at): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Draft, askama::Error> {
    let words = IdentityWords::of(locale);
    let merchant = one_line(&sender.name);
    let amount = format_money(locale, session.total);
    // Rounded down, so that it promises nothing that does not hold.
    let minutes = (expires_at - now).num_minutes().max(1).to_string();
    let filled =
        |sentence: &str| fill(sentence, &[("merchant", &merchant), ("amount", &amount), ("minutes", &minutes)]);
    let subject = filled(words.mail_subject);
    let support = sender.support_email.as_deref().map(|support| fill(words.mail_support, &[("support", support)]));
    let (intro, code) = (filled(words.mail_intro), Zeroizing::new(code.grouped()));
    let (act, how) = (filled(words.act(action)), filled(words.mail_how));
    let (secret, not_you) = (filled(words.mail_secret), filled(words.mail_not_you));
    let reference = session.id.as_str();
    let test_mode = !session.livemode;
    let text = CodeText {
        words,
        intro: &intro,
        code: &code,
        act: &act,
        how: &how,
        secret: &secret,
        not_you: &not_you,
        support: support.as_deref(),
        reference,
        test_mode,
    };
    let html = CodeHtml {
        words,
        subject: &subject,
        intro: &intro,
        code: &code,
        act: &act,
        how: &how,
        secret: &secret,
        not_you: &not_you,
        support: support.as_deref(),
        reference,
        test_mode,
    };
    let body = Body {
        sender_name: merchant.clone(),
        reply_to: sender.support_email.clone(),
        text: text.render()?,
        html: html.render()?,
    };
    Ok(draft("identity_code", session, recipient.to_owned(), subject, body, now, expires_at))
}

fn draft(
    kind: &'static str,
    session: &Session,
    recipient: String,
    subject: String,
    body: Body,
    created_at: DateTime<Utc>,
    give_up_at: DateTime<Utc>,
) -> Draft {
    Draft {
        id: MailId::generate(created_at).to_string(),
        merchant_id: session.merchant_id.to_string(),
        kind,
        recipient,
        subject,
        body,
        session_id: Some(session.id.to_string()),
        created_at,
        give_up_at,
    }
}

#[derive(Template)]
#[template(path = "mail/endpoint_disabled.txt", escape = "none")]
struct EndpointDisabledText<'a> {
    url: &'a str,
    why: &'a str,
    endpoint: &'a str,
    merchant: &'a str,
    mode: &'a str,
    date: &'a str,
    since: &'a str,
}

#[derive(Template)]
#[template(path = "mail/endpoint_disabled.html")]
struct EndpointDisabledHtml<'a> {
    subject: &'a str,
    url: &'a str,
    why: &'a str,
    endpoint: &'a str,
    merchant: &'a str,
    mode: &'a str,
    date: &'a str,
    since: &'a str,
}

/// How long it is worth telling that an endpoint was switched off.
const ENDPOINT_NEWS_USEFUL: chrono::Duration = chrono::Duration::days(3);

/// An endpoint that was switched off, as a mail tells of it.
pub struct DisabledEndpoint<'a> {
    /// `we_…`
    pub id: &'a str,
    /// Where deliveries went.
    pub url: &'a str,
    /// Mode.
    pub livemode: bool,
    /// `acct_…`
    pub merchant_id: &'a str,
    /// Why.
    pub reason: DisabledReason,
    /// Days without one success after which an endpoint is given up.
    pub given_up_after_days: i64,
}

/// Word to a merchant of an endpoint that was switched off.
///
/// # Errors
/// When a template fails, which only a defect of ours can cause.
pub fn endpoint_disabled(
    endpoint: &DisabledEndpoint<'_>,
    recipient: String,
    now: DateTime<Utc>,
) -> Result<Draft, askama::Error> {
    let why = match endpoint.reason {
        DisabledReason::Requested => "It was asked for.".to_owned(),
        DisabledReason::Gone => "The receiver answered 410: it says that it is gone for good.".to_owned(),
        DisabledReason::Failing => match endpoint.given_up_after_days {
            1 => "Nothing was delivered to it for a day.".to_owned(),
            days => format!("Nothing was delivered to it for {days} days."),
        },
    };
    let subject = "A webhook endpoint is switched off";
    let date = now.format("%Y-%m-%d %H:%M UTC").to_string();
    let since = now.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (url, why, date, since) = (endpoint.url, why.as_str(), date.as_str(), since.as_str());
    let (id, owner) = (endpoint.id, endpoint.merchant_id);
    let mode = if endpoint.livemode { "live" } else { "test" };
    let text = EndpointDisabledText { url, why, endpoint: id, merchant: owner, mode, date, since };
    let html = EndpointDisabledHtml { subject, url, why, endpoint: id, merchant: owner, mode, date, since };
    Ok(Draft {
        id: MailId::generate(now).to_string(),
        merchant_id: owner.to_owned(),
        kind: "webhook_endpoint_disabled",
        recipient,
        subject: subject.to_owned(),
        body: Body { sender_name: "checkstand".to_owned(), reply_to: None, text: text.render()?, html: html.render()? },
        session_id: None,
        created_at: now,
        give_up_at: now + ENDPOINT_NEWS_USEFUL,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_name_stays_on_its_line_and_reads_one_way() {
        for (name, shown) in [
            ("Corner\r\nBcc: all@shop.example", "Corner Bcc: all@shop.example"),
            ("moc.knab\u{202e}", "moc.knab"),
            ("a\u{200b}b\u{2066}c\u{2069}\u{feff}", "abc"),
            ("  Café   Zoë ☕ ", "Café Zoë ☕"),
            ("\0\u{7f}\u{85}x", "x"),
        ] {
            assert_eq!(one_line(name), shown);
        }
    }

    #[test]
    fn a_body_survives_its_bytes() {
        let body = Body { sender_name: "A".into(), reply_to: None, text: "t".into(), html: "<p>".into() };
        let read = Body::from_bytes(&body.to_bytes()).expect("ours");
        assert_eq!((read.text.as_str(), read.html.as_str()), ("t", "<p>"));
        assert!(Body::from_bytes(b"{}").is_none());
    }
}
