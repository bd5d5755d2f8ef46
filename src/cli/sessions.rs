//! `checkstand session`: checkout sessions, as whoever helps a merchant looks at them.

use std::path::Path;

use checkstand::domain::id::SessionId;
use checkstand::ops::sessions;
use checkstand::store::sessions::Filter;
use checkstand::wire::checkout_session::CheckoutSession;
use checkstand::wire::{Expand, Expandable, List};
use clap::{Args, Subcommand, ValueEnum};

use super::admin::{AdminOptions, PageOptions, Scope, administer, answered, caller, more_behind, write};
use super::output::{Failure, Output, Table, fields, mode, text_of, unix_time, wire_money};

/// What `session show` wants to see in full.
const EXPANDED: [&str; 2] = ["line_items", "payment_intent.latest_charge"];

/// `checkstand session …`
#[derive(Args, Debug)]
pub struct SessionCommand {
    #[command(flatten)]
    options: AdminOptions,
    #[command(subcommand)]
    action: SessionAction,
}

#[derive(Subcommand, Debug)]
enum SessionAction {
    /// List a merchant's sessions, newest first
    #[command(after_help = "\
Examples:
  checkstand session list --merchant acct_… --live --status open
  checkstand session list --merchant acct_… --limit 100 --json | jq -r '.data[].id'")]
    List {
        #[command(flatten)]
        scope: Scope,
        /// Only those with this status
        #[arg(long)]
        status: Option<Status>,
        #[command(flatten)]
        page: PageOptions,
    },
    /// Show a session with its lines and its payment
    Show(Target),
    /// End an open session at once, so that it cannot be paid any more
    Expire(Target),
}

/// Stripe's view of a session's state.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Status {
    /// It can still be paid
    Open,
    /// It was paid
    Complete,
    /// It ended without being paid: expired, cancelled or failed
    Expired,
}

#[derive(Args, Debug)]
struct Target {
    /// The session, cs_test_… or cs_live_…
    id: String,
    /// The merchant, acct_…
    #[arg(long, value_name = "ID")]
    merchant: String,
}

impl Target {
    /// The id tells the mode.
    fn is_live(&self) -> bool {
        self.id.starts_with("cs_live_")
    }
}

impl SessionCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// One sentence.
    pub async fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        let Self { options, action } = self;
        administer(file, &options, async |app, output| match action {
            SessionAction::List { scope, status, page } => {
                let status = status.map(|status| match status {
                    Status::Open => "open".to_owned(),
                    Status::Complete => "complete".to_owned(),
                    Status::Expired => "expired".to_owned(),
                });
                let filter = Filter { status, ..Filter::default() };
                let page = page.page(SessionId::parse)?;
                let caller = scope.caller(app).await?;
                list(output, &sessions::list(app, &caller, &filter, &page, &Expand::default()).await?)
            }
            SessionAction::Show(target) => {
                let caller = caller(app, &target.merchant, target.is_live()).await?;
                let expand = Expand::new(EXPANDED.map(str::to_owned));
                show(output, &sessions::retrieve(app, &caller, &target.id, &expand).await?)
            }
            SessionAction::Expire(target) => {
                let write = write(caller(app, &target.merchant, target.is_live()).await?);
                let ended = answered(&sessions::expire(app, &write, &target.id, &Expand::default()).await?)?;
                output.show(&format!("{} is {}.", text_of(&ended, "id"), text_of(&ended, "state")), &ended)
            }
        })
        .await
    }
}

fn list(output: Output, found: &List<CheckoutSession>) -> Result<(), Failure> {
    let mut table = Table::new(&["id", "state", "amount", "created", "expires", "reference"]);
    for session in &found.data {
        table.push(vec![
            session.id.clone(),
            session.state.to_owned(),
            wire_money(session.amount_total, session.currency.as_deref()),
            unix_time(session.created),
            unix_time(session.expires_at),
            session.client_reference_id.clone().unwrap_or_default(),
        ]);
    }
    let mut text = table.render("There are no such sessions.");
    text.push_str(&more_behind(found.has_more, found.data.last().map(|session| session.id.as_str())));
    output.show(&text, found)
}

fn show(output: Output, session: &CheckoutSession) -> Result<(), Failure> {
    let payment = match &session.payment_intent {
        Some(Expandable::Object(payment)) => Some(payment),
        _ => None,
    };
    let charge = payment.and_then(|payment| match &payment.latest_charge {
        Some(Expandable::Object(charge)) => Some(format!("{} {}", charge.id, charge.status)),
        _ => None,
    });
    let declined = payment.and_then(|payment| payment.last_payment_error.as_ref()).map(|error| {
        let reason = error.decline_code.as_deref().unwrap_or(&error.code);
        format!("{reason}: {}", error.message)
    });
    let email = session.customer_details.as_ref().and_then(|details| details.email.clone());
    let mut text = fields(&[
        ("id", session.id.clone()),
        ("mode", mode(session.livemode).to_owned()),
        ("state", session.state.to_owned()),
        ("status", session.status.to_owned()),
        ("amount", wire_money(session.amount_total, session.currency.as_deref())),
        ("payment", payment.map_or_else(String::new, |payment| format!("{} {}", payment.id, payment.status))),
        ("last charge", charge.unwrap_or_default()),
        ("declined", declined.unwrap_or_default()),
        ("e-mail", email.unwrap_or_default()),
        ("reference", session.client_reference_id.clone().unwrap_or_default()),
        ("created", unix_time(session.created)),
        ("opened", unix_time(session.opened_at)),
        ("expires", unix_time(session.expires_at)),
        ("ended", unix_time(session.ended_at)),
        ("page", session.url.clone().unwrap_or_default()),
    ]);
    if let Some(lines) = &session.line_items {
        let mut table = Table::new(&["quantity", "amount", "line"]);
        for line in &lines.data {
            let amount = wire_money(Some(line.amount_total), Some(&line.currency));
            table.push(vec![line.quantity.to_string(), amount, line.description.clone()]);
        }
        text.push('\n');
        text.push_str(&table.render("The session has no lines."));
    }
    output.show(&text, session)
}
