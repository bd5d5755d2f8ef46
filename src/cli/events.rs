//! `checkstand event`: what happened, and whether the merchant's backend knows.

use std::path::Path;

use checkstand::domain::id::{EventId, EventReplayId};
use checkstand::ops::event_replays::{self, NewReplay};
use checkstand::ops::events;
use checkstand::store::events::{self as rows, Filter, StoredEvent};
use checkstand::wire::event::EventDeliveries;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{AdminOptions, PageOptions, Scope, administer, answered, event_name, more_behind, write};
use super::output::{self, Failure, Output, Table, cut, text_of, time, unix_time};

/// Characters of a receiver's answer or an error that a row shows.
const EXCERPT_CHARS_MAX: usize = 60;

/// `checkstand event …`
#[derive(Args, Debug)]
pub struct EventCommand {
    #[command(flatten)]
    options: AdminOptions,
    #[command(subcommand)]
    action: EventAction,
}

#[derive(Subcommand, Debug)]
enum EventAction {
    /// List a merchant's events, newest first
    #[command(after_help = "\
Examples:
  checkstand event list --merchant acct_… --live --failed
  checkstand event list --merchant acct_… --type 'checkout.session.*' --limit 50")]
    List {
        #[command(flatten)]
        scope: Scope,
        /// Only this type, or a family such as checkout.session.*
        #[arg(long = "type", value_name = "TYPE", value_parser = event_name)]
        kind: Option<String>,
        /// Only those with a delivery that is still owed or was given up
        #[arg(long)]
        failed: bool,
        #[command(flatten)]
        page: PageOptions,
    },
    /// Show an event, what is owed of it, and every attempt to deliver it
    Show(Target),
    /// Send an event again, whether or not it arrived before
    #[command(after_help = "\
Examples:
  checkstand event resend evt_… --merchant acct_… --live
  checkstand event resend evt_… --merchant acct_… --endpoint we_…")]
    Resend {
        #[command(flatten)]
        target: Target,
        /// To this endpoint, we_…; to every one that subscribes to it unless given
        #[arg(long, value_name = "ID")]
        endpoint: Option<String>,
    },
    /// Send a range of events again, in the background
    #[command(after_help = "\
Examples:
  checkstand event replay --merchant acct_… --live --from 2026-11-20T00:00:00Z --failed
  checkstand event replay --merchant acct_… --from 2026-11-20T00:00:00Z --types 'checkout.session.*' --endpoint we_…")]
    Replay {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        replay: ReplayOptions,
    },
    /// List replays and how far they are, newest first
    Replays {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        page: PageOptions,
    },
    /// Call a replay off; what it has put into the queue is still delivered
    CancelReplay {
        #[command(flatten)]
        scope: Scope,
        /// The replay, evrp_…
        id: String,
    },
}

#[derive(Args, Debug)]
struct ReplayOptions {
    /// The first moment, as in 2026-11-20T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: DateTime<Utc>,
    /// The moment behind the last; now unless given
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// Events, separated by commas: names, or families such as checkout.session.*; all unless given
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = event_name)]
    types: Vec<String>,
    /// Only deliveries that failed or were given up
    #[arg(long)]
    failed: bool,
    /// To this endpoint, we_…; to every one that subscribes unless given
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
}

#[derive(Args, Debug)]
struct Target {
    /// The event, evt_…
    id: String,
    #[command(flatten)]
    scope: Scope,
}

impl EventCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// One sentence.
    pub async fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        let Self { options, action } = self;
        administer(file, &options, async |app, output| match action {
            EventAction::List { scope, kind, failed, page } => {
                let caller = scope.caller(app).await?;
                let filter = Filter {
                    kinds: kind.into_iter().collect(),
                    delivery_success: failed.then_some(false),
                    ..Filter::default()
                };
                let page = page.page(EventId::parse)?;
                if output.json {
                    return output.show("", &events::list(app, &caller, &filter, &page).await?);
                }
                // The API's list does not count the deliveries that were given up.
                let pool = app.store.pool();
                let mut found = rows::list(pool, &caller.merchant_id, caller.livemode, &filter, &page).await?;
                let has_more = page.cut(&mut found);
                output::print(&list(&found, has_more))
            }
            EventAction::Show(Target { id, scope }) => {
                let caller = scope.caller(app).await?;
                let event = events::retrieve(app, &caller, &id).await?;
                show(output, &event, &events::deliveries(app, &caller, &id).await?)
            }
            EventAction::Resend { target: Target { id, scope }, endpoint } => {
                let write = write(scope.caller(app).await?);
                let sent = answered(&events::resend(app, &write, &id, endpoint.as_deref()).await?)?;
                let endpoints = match sent["pending_webhooks"].as_u64().unwrap_or_default() {
                    1 => "one endpoint".to_owned(),
                    count => format!("{count} endpoints"),
                };
                let text = format!("{id} is on its way to {endpoints}: the worker sends it within a second.");
                output.show(&text, &sent)
            }
            EventAction::Replay { scope, replay } => {
                let write = write(scope.caller(app).await?);
                let ReplayOptions { from, to, types, failed, endpoint } = replay;
                let new = NewReplay { from, to, types, only_failed: failed, endpoint };
                let made = answered(&event_replays::create(app, &write, new).await?)?;
                let id = text_of(&made, "id");
                let text = format!("{id} has begun: the worker goes on with it; see `checkstand event replays`.");
                output.show(&text, &made)
            }
            EventAction::Replays { scope, page } => {
                let page = page.page(EventReplayId::parse)?;
                let found = event_replays::list(app, &scope.caller(app).await?, &page).await?;
                let mut table =
                    Table::new(&["id", "status", "from", "to", "reached", "events", "deliveries", "endpoint"]);
                for replay in &found.data {
                    table.push(vec![
                        replay.id.clone(),
                        replay.status.to_owned(),
                        unix_time(replay.from),
                        unix_time(replay.to),
                        unix_time(replay.reached),
                        replay.events_scanned.to_string(),
                        replay.deliveries.to_string(),
                        replay.webhook_endpoint.clone().unwrap_or_default(),
                    ]);
                }
                let mut text = table.render("There are no replays in this mode.");
                text.push_str(&more_behind(found.has_more, found.data.last().map(|replay| replay.id.as_str())));
                output.show(&text, &found)
            }
            EventAction::CancelReplay { scope, id } => {
                let write = write(scope.caller(app).await?);
                let replay = answered(&event_replays::cancel(app, &write, &id).await?)?;
                output.show(&format!("{id} is {}.", text_of(&replay, "status")), &replay)
            }
        })
        .await
    }
}

fn list(events: &[StoredEvent], has_more: bool) -> String {
    let mut table = Table::new(&["id", "created", "owed", "given up", "type", "object"]);
    for event in events {
        let body: Value = serde_json::from_str(&event.body).unwrap_or_default();
        table.push(vec![
            event.id.clone(),
            time(event.created_at),
            event.pending.to_string(),
            event.dead.to_string(),
            event.kind.clone(),
            text_of(&body["data"]["object"], "id"),
        ]);
    }
    let mut text = table.render("There are no such events.");
    text.push_str(&more_behind(has_more, events.last().map(|event| event.id.as_str())));
    text
}

fn show(output: Output, event: &Value, deliveries: &EventDeliveries) -> Result<(), Failure> {
    let body = serde_json::to_string_pretty(event)
        .map_err(|error| Failure::from(format!("the event cannot be put into JSON: {error}")))?;
    let mut table =
        Table::new(&["attempt", "endpoint", "started", "ms", "status", "outcome", "next", "what came back"]);
    for attempt in &deliveries.attempts {
        let came_back = attempt.error.as_ref().or(attempt.response_excerpt.as_ref());
        table.push(vec![
            attempt.attempt.to_string(),
            attempt.webhook_endpoint.clone(),
            unix_time(attempt.started_at),
            attempt.duration_ms.to_string(),
            attempt.status_code.map(|status| status.to_string()).unwrap_or_default(),
            attempt.outcome.clone(),
            unix_time(attempt.next_attempt_at),
            cut(came_back.map_or("", String::as_str), EXCERPT_CHARS_MAX),
        ]);
    }
    let table = table.render("No attempt to deliver it was made.");
    let text = format!("{body}\n\nowed {}, given up {}\n{table}", deliveries.pending, deliveries.dead);
    output.show(&text, &json!({ "event": event, "deliveries": deliveries }))
}
