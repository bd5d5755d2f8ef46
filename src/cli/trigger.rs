//! `checkstand trigger`: makes an event happen in test mode.
//!
//! The rule: nothing is faked. The real objects are made through the public API with the merchant's own
//! key, so the event has the others of its story beside it and arrives wherever it would.

use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::api_client::{ApiClient, ApiOptions};
use super::output::{self, Failure, text_of};

/// What is done, one call after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Makes a session.
    Session,
    /// Makes a session whose money is only reserved.
    SessionToCapture,
    /// Looks at the session's page, as a payer does.
    Open,
    /// Pays.
    Complete,
    /// Pays with a card whose bank asks the payer.
    CompleteWithChallenge,
    /// Is declined.
    Decline,
    /// Lets time run out.
    Expire,
    /// Takes the reserved money.
    Capture,
    /// Lets the reserved money go.
    CancelPayment,
    /// Gives the money back.
    Refund,
    /// Makes a customer.
    Customer,
}

use Step::{
    CancelPayment, Capture, Complete, CompleteWithChallenge, Customer, Decline, Expire, Open, Refund, Session,
    SessionToCapture,
};

/// How each event comes about.
const STORIES: &[(&str, &[Step])] = &[
    ("checkout.session.created", &[Session]),
    ("checkout.session.opened", &[Session, Open]),
    ("checkout.session.completed", &[Session, Complete]),
    ("checkout.session.payment_failed", &[Session, Decline]),
    ("checkout.session.failed", &[Session, Decline, Decline, Decline, Decline]),
    ("checkout.session.expired", &[Session, Expire]),
    ("checkout.session.async_payment_succeeded", &[SessionToCapture, Complete, Capture]),
    ("checkout.session.async_payment_failed", &[SessionToCapture, Complete, CancelPayment]),
    ("payment_intent.created", &[Session, Complete]),
    ("payment_intent.succeeded", &[Session, Complete]),
    ("payment_intent.payment_failed", &[Session, Decline]),
    ("payment_intent.requires_action", &[Session, CompleteWithChallenge]),
    ("payment_intent.amount_capturable_updated", &[SessionToCapture, Complete]),
    ("payment_intent.canceled", &[SessionToCapture, Complete, CancelPayment]),
    ("charge.succeeded", &[Session, Complete]),
    ("charge.failed", &[Session, Decline]),
    ("charge.captured", &[SessionToCapture, Complete, Capture]),
    ("charge.refunded", &[Session, Complete, Refund]),
    ("refund.created", &[Session, Complete, Refund]),
    ("customer.created", &[Customer]),
];

/// Options of `checkstand trigger`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  checkstand trigger checkout.session.completed      with the test key in CHECKSTAND_API_KEY
  checkstand trigger charge.refunded --api-url http://127.0.0.1:4242
  checkstand trigger --list")]
pub struct TriggerOptions {
    /// The event's type
    #[arg(value_name = "TYPE", required_unless_present = "list", value_parser = story_name)]
    event: Option<&'static str>,
    /// Print the types that can be made, and do nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    api: ApiOptions,
}

fn story_name(text: &str) -> Result<&'static str, String> {
    STORIES
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(name, _)| *name)
        .ok_or_else(|| "this type cannot be made here; `checkstand trigger --list` prints those that can".to_owned())
}

/// Makes the event happen.
///
/// # Errors
/// When the gateway cannot be reached or refuses a step.
pub async fn run(file: Option<&Path>, options: TriggerOptions) -> Result<(), Failure> {
    let Some(event) = options.event.filter(|_| !options.list) else {
        return output::print(&STORIES.iter().map(|(name, _)| format!("{name}\n")).collect::<String>());
    };
    let refusal = "live keys are not taken: events are made in test mode only";
    let client = ApiClient::new(file, options.api, Err(refusal))?;
    let steps = STORIES.iter().find(|(name, _)| *name == event).map_or(&[][..], |(_, steps)| steps);
    let mut story = Story { client, session: Value::Null };
    for step in steps {
        story.take(*step).await?;
    }
    output::print(&format!("{event} has happened.\n"))
}

struct Story {
    client: ApiClient,
    session: Value,
}

impl Story {
    fn session_id(&self) -> String {
        text_of(&self.session, "id")
    }

    fn payment_id(&self) -> String {
        text_of(&self.session, "payment_intent")
    }

    async fn take(&mut self, step: Step) -> Result<(), Failure> {
        let session = format!("/v1/test_helpers/checkout/sessions/{}", self.session_id());
        let payment = format!("/v1/payment_intents/{}", self.payment_id());
        match step {
            Session | SessionToCapture => {
                let mut fields = vec![
                    ("mode", "payment"),
                    ("line_items[0][price_data][currency]", "eur"),
                    ("line_items[0][price_data][product_data][name]", "A test of webhooks"),
                    ("line_items[0][price_data][unit_amount]", "2000"),
                    ("line_items[0][quantity]", "1"),
                ];
                if step == SessionToCapture {
                    fields.push(("payment_intent_data[capture_method]", "manual"));
                }
                self.session = self.done("/v1/checkout/sessions", &fields).await?;
            }
            Open => self.open().await?,
            Complete => self.session = self.done(&format!("{session}/complete"), &[]).await?,
            CompleteWithChallenge => {
                let fields = [("card", "three_d_secure_required")];
                self.session = self.done(&format!("{session}/complete"), &fields).await?;
            }
            Decline => self.session = self.done(&format!("{session}/decline"), &[]).await?,
            Expire => self.session = self.done(&format!("{session}/expire"), &[]).await?,
            Capture => drop(self.done(&format!("{payment}/capture"), &[]).await?),
            CancelPayment => drop(self.done(&format!("{payment}/cancel"), &[]).await?),
            Refund => drop(self.done("/v1/refunds", &[("payment_intent", &self.payment_id())]).await?),
            Customer => drop(self.done("/v1/customers", &[("email", "payer@example.com")]).await?),
        }
        Ok(())
    }

    async fn done(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value, Failure> {
        let object =
            self.client.post(path, fields).await?.map_err(|reason| format!("the card was declined: {reason}"))?;
        output::print(&format!("POST {path}  {}\n", text_of(&object, "id")))?;
        Ok(object)
    }

    async fn open(&self) -> Result<(), Failure> {
        // The page's own address may be one that only payers can reach; its path is the same here.
        let url = text_of(&self.session, "url");
        let path = url::Url::parse(&url).map(|url| url.path().to_owned());
        let path = path.map_err(|_| "the session has no page: was it made by this gateway?")?;
        let answer = self.client.request(reqwest::Method::GET, &path).send().await;
        answer.map_err(|error| self.client.unreachable(&error))?;
        output::print("GET  the session's page\n")
    }
}
