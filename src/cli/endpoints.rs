//! `checkstand endpoint`: where events are delivered to.
//!
//! The rule: the signing secret is printed once, when the endpoint is made or its secret is replaced.

use std::path::Path;

use checkstand::domain::session::Metadata;
use checkstand::ops::endpoint_secrets::HeadersChange;
use checkstand::ops::endpoints::{self, EndpointChange, EndpointOptions, NewEndpoint};
use checkstand::ops::{endpoint_checks, endpoint_secrets};
use checkstand::wire::List;
use checkstand::wire::webhook_endpoint::{EndpointStatistics, WebhookEndpoint};
use clap::{Args, Subcommand};
use secrecy::SecretString;
use serde_json::Value;

use super::admin::{AdminOptions, Scope, administer, answered, event_name, whole_list, write};
use super::output::{Failure, Output, Table, cut, fields, mode, text_of, unix_time};

/// Event names in one endpoint, as in the API.
const ENABLED_EVENTS_MAX: usize = 100;

/// Characters in a description, as in the API.
const DESCRIPTION_CHARS_MAX: usize = 5000;

/// Characters of the event names that a row of the list shows.
const EVENTS_SHOWN_CHARS_MAX: usize = 60;

/// `checkstand endpoint …`
#[derive(Args, Debug)]
pub struct EndpointCommand {
    #[command(flatten)]
    options: AdminOptions,
    #[command(subcommand)]
    action: EndpointAction,
}

#[derive(Subcommand, Debug)]
enum EndpointAction {
    /// Make an endpoint and print its signing secret, this once
    #[command(after_help = "\
Examples:
  checkstand endpoint create --merchant acct_… --live --url https://shop.example/webhooks --events '*'
  checkstand endpoint create --merchant acct_… --url https://staging.shop.example/webhooks \\
      --events checkout.session.completed,checkout.session.expired")]
    Create {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        create: CreateOptions,
    },
    /// Change an endpoint; what is not named stays as it is
    #[command(after_help = "\
Examples:
  checkstand endpoint update we_… --merchant acct_… --live --url https://shop.example/hooks
  checkstand endpoint update we_… --merchant acct_… --events-per-second 20 --concurrency none --ordered=false
  TOKEN=… checkstand endpoint update we_… --merchant acct_… --header-from-env x-token=TOKEN --remove-header x-old")]
    Update {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        update: UpdateOptions,
    },
    /// List the endpoints, newest first
    List {
        #[command(flatten)]
        scope: Scope,
    },
    /// Show an endpoint, without its secret
    Show(Target),
    /// Delete an endpoint and what is still owed to it
    Delete(Target),
    /// Deliver to an endpoint again: what it is owed, and what happens from now on
    #[command(after_help = "\
Events that happened while it was disabled were never owed to it. Send them with:

  checkstand event replay --merchant acct_… --live --from <when it was disabled> --endpoint we_…")]
    Enable(Target),
    /// Stop delivering to an endpoint; what it is owed stays owed, what happens from now on is not
    Disable(Target),
    /// Replace an endpoint's signing secret and print the new one, this once
    #[command(after_help = "\
Both secrets sign for the given hours: put the new one into the receiver within that time.

Example:
  checkstand endpoint rotate we_… --merchant acct_… --live --overlap-hours 48")]
    Rotate {
        #[command(flatten)]
        target: Target,
        /// Hours that the old secret signs as well, 0 to 168
        #[arg(long, value_name = "HOURS", default_value_t = endpoint_secrets::OVERLAP_HOURS_DEFAULT,
            value_parser = clap::value_parser!(i64).range(0..=endpoint_secrets::OVERLAP_HOURS_MAX))]
        overlap_hours: i64,
    },
    /// Send a signed test event to an endpoint and print what its receiver said; fails unless it was taken
    Test(Target),
    /// Print what came of the newest attempts at an endpoint
    Statistics {
        #[command(flatten)]
        target: Target,
        /// How far back, in hours, 1 to 168
        #[arg(long, value_name = "HOURS", default_value_t = endpoint_checks::WINDOW_HOURS_DEFAULT,
            value_parser = clap::value_parser!(i64).range(1..=endpoint_checks::WINDOW_HOURS_MAX))]
        window_hours: i64,
    },
}

#[derive(Args, Debug)]
struct CreateOptions {
    /// Where events are posted to
    #[arg(long)]
    url: String,
    /// Events to deliver, separated by commas: names, families such as checkout.session.*, or * for all
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true, value_parser = event_name)]
    events: Vec<String>,
    /// Your words about the endpoint
    #[arg(long, value_name = "TEXT", value_parser = description)]
    description: Option<String>,
    #[command(flatten)]
    delivery: DeliveryOptions,
}

#[derive(Args, Debug)]
struct UpdateOptions {
    /// Where events are posted to
    #[arg(long)]
    url: Option<String>,
    /// Events to deliver instead of those until now, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = event_name)]
    events: Option<Vec<String>>,
    /// Your words about the endpoint; empty for none
    #[arg(long, value_name = "TEXT", value_parser = description)]
    description: Option<String>,
    /// A header of your own that deliveries are to carry no more; may be given several times
    #[arg(long, value_name = "NAME")]
    remove_header: Vec<String>,
    #[command(flatten)]
    delivery: DeliveryOptions,
}

/// How an endpoint is delivered to.
#[derive(Args, Debug)]
struct DeliveryOptions {
    /// Deliveries that may begin within a second, 1 to 1000, or none for no bound
    #[arg(long, value_name = "NUMBER", value_parser = bound)]
    events_per_second: Option<Bound>,
    /// Deliveries at once, 1 to 64, or none for the gateway's own bound alone
    #[arg(long, value_name = "NUMBER", value_parser = bound)]
    concurrency: Option<Bound>,
    /// Whether the events of one session come one after the other
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ordered: Option<bool>,
    /// Whether an Ed25519 signature (v1a) stands beside the secret's
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ed25519: Option<bool>,
    /// A header that deliveries are to carry, and the environment variable that holds its value, which then stands in
    /// no list of processes; may be given several times
    #[arg(long, value_name = "NAME=VARIABLE", value_parser = header_from_env)]
    header_from_env: Vec<Header>,
}

/// A number, or none.
#[derive(Clone, Copy, Debug)]
struct Bound(Option<i64>);

/// A header's name and its value.
#[derive(Clone)]
struct Header(String, SecretString);

impl std::fmt::Debug for Header {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl UpdateOptions {
    fn is_empty(&self) -> bool {
        let Self { url, events, description, remove_header, delivery } = self;
        let DeliveryOptions { events_per_second, concurrency, ordered, ed25519, header_from_env } = delivery;
        let texts = url.is_none() && events.is_none() && description.is_none();
        let bounds = events_per_second.is_none() && concurrency.is_none();
        let headers = remove_header.is_empty() && header_from_env.is_empty();
        texts && bounds && ordered.is_none() && ed25519.is_none() && headers
    }
}

impl DeliveryOptions {
    fn change(self, removed: Vec<String>) -> EndpointOptions {
        let removed = removed.into_iter().map(|name| (name, None));
        let set = self.header_from_env.into_iter().map(|Header(name, value)| (name, Some(value)));
        EndpointOptions {
            custom_headers: HeadersChange { clears: false, entries: removed.chain(set).collect() },
            events_per_second: self.events_per_second.map(|Bound(bound)| bound),
            concurrency: self.concurrency.map(|Bound(bound)| bound),
            ordered: self.ordered,
            ed25519: self.ed25519,
        }
    }
}

#[derive(Args, Debug)]
struct Target {
    #[command(flatten)]
    scope: Scope,
    /// The endpoint, we_…
    id: String,
}

fn bound(text: &str) -> Result<Bound, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    text.parse().map(|bound| Bound(Some(bound))).map_err(|_| "it must be a number, or none".to_owned())
}

fn header_from_env(text: &str) -> Result<Header, String> {
    let Some((name, variable)) = text.split_once('=') else {
        return Err("it must be a header's name, =, and the name of an environment variable".to_owned());
    };
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => Ok(Header(name.to_owned(), value.into())),
        _ => Err(format!("the environment variable {variable} holds no text")),
    }
}

fn few_enough(events: &[String]) -> Result<(), Failure> {
    if events.len() > ENABLED_EVENTS_MAX {
        return Err(format!("at most {ENABLED_EVENTS_MAX} event names are taken; * stands for all").into());
    }
    Ok(())
}

fn description(text: &str) -> Result<String, String> {
    if text.chars().count() <= DESCRIPTION_CHARS_MAX {
        return Ok(text.to_owned());
    }
    Err(format!("it may have {DESCRIPTION_CHARS_MAX} characters at most"))
}

impl EndpointCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// One sentence.
    pub async fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        let Self { options, action } = self;
        administer(file, &options, async |app, output| match action {
            EndpointAction::Create { scope, create } => {
                few_enough(&create.events)?;
                let new = NewEndpoint {
                    url: create.url,
                    enabled_events: create.events,
                    description: create.description,
                    metadata: Metadata::new(),
                    api_version: None,
                    options: create.delivery.change(Vec::new()),
                };
                let made = endpoints::create(app, &write(scope.caller(app).await?), new).await?;
                show_new(output, &answered(&made)?)
            }
            EndpointAction::Update { target: Target { scope, id }, update } => {
                few_enough(update.events.as_deref().unwrap_or_default())?;
                if update.is_empty() {
                    return Err("say what to change; `checkstand endpoint update --help` tells what there is".into());
                }
                let change = EndpointChange {
                    url: update.url,
                    enabled_events: update.events,
                    description: update.description.map(|text| Some(text).filter(|text| !text.is_empty())),
                    disabled: None,
                    options: update.delivery.change(update.remove_header),
                };
                let caller = scope.caller(app).await?;
                endpoints::update(app, &write(caller.clone()), &id, change, |_| Ok(())).await?;
                show(output, &endpoints::retrieve(app, &caller, &id).await?)
            }
            EndpointAction::List { scope } => {
                list(output, &endpoints::list(app, &scope.caller(app).await?, &whole_list()).await?)
            }
            EndpointAction::Show(Target { scope, id }) => {
                show(output, &endpoints::retrieve(app, &scope.caller(app).await?, &id).await?)
            }
            EndpointAction::Delete(Target { scope, id }) => {
                let deleted = endpoints::delete(app, &scope.caller(app).await?, &id).await?;
                output.show(&format!("{} is deleted.", deleted.id), &deleted)
            }
            EndpointAction::Enable(Target { scope, id }) => {
                let write = write(scope.caller(app).await?);
                let change = EndpointChange { disabled: Some(false), ..EndpointChange::default() };
                let changed = endpoints::update(app, &write, &id, change, |_| Ok(())).await?;
                output.show(&format!("{id} is enabled."), &answered(&changed)?)
            }
            EndpointAction::Disable(Target { scope, id }) => {
                let write = write(scope.caller(app).await?);
                let change = EndpointChange { disabled: Some(true), ..EndpointChange::default() };
                let changed = endpoints::update(app, &write, &id, change, |_| Ok(())).await?;
                output.show(&format!("{id} is disabled."), &answered(&changed)?)
            }
            EndpointAction::Rotate { target: Target { scope, id }, overlap_hours } => {
                let write = write(scope.caller(app).await?);
                show_new(output, &answered(&endpoint_secrets::rotate(app, &write, &id, Some(overlap_hours)).await?)?)
            }
            EndpointAction::Test(Target { scope, id }) => {
                let write = write(scope.caller(app).await?);
                show_test(output, &answered(&endpoint_checks::test(app, &write, &id).await?)?)
            }
            EndpointAction::Statistics { target: Target { scope, id }, window_hours } => {
                let caller = scope.caller(app).await?;
                show_statistics(output, &endpoint_checks::statistics(app, &caller, &id, Some(window_hours)).await?)
            }
        })
        .await
    }
}

fn show_new(output: Output, made: &Value) -> Result<(), Failure> {
    let text = fields(&[
        ("secret", text_of(made, "secret")),
        ("id", text_of(made, "id")),
        ("url", text_of(made, "url")),
        ("mode", mode(made["livemode"] == true).to_owned()),
        ("public key", text_of(made, "public_key")),
        ("old secret until", unix_time(made["previous_secret_expires_at"].as_i64())),
    ]);
    let note = "This is the only time that the secret is shown. The receiver needs it to verify signatures.";
    output.show(&format!("{text}\n{note}"), made)
}

fn show(output: Output, endpoint: &WebhookEndpoint) -> Result<(), Failure> {
    let text = fields(&[
        ("id", endpoint.id.clone()),
        ("url", endpoint.url.clone()),
        ("mode", mode(endpoint.livemode).to_owned()),
        ("status", endpoint.status.clone()),
        ("events", endpoint.enabled_events.join(",")),
        ("description", endpoint.description.clone().unwrap_or_default()),
        ("disabled because", endpoint.disabled_reason.clone().unwrap_or_default()),
        ("headers", endpoint.custom_header_names.join(",")),
        ("events a second", endpoint.events_per_second.map(|bound| bound.to_string()).unwrap_or_default()),
        ("at once", endpoint.concurrency.map(|bound| bound.to_string()).unwrap_or_default()),
        ("ordered", endpoint.ordered.to_string()),
        ("public key", endpoint.public_key.clone().unwrap_or_default()),
        ("old secret until", unix_time(endpoint.previous_secret_expires_at)),
        ("created", unix_time(endpoint.created)),
    ]);
    output.show(&text, endpoint)
}

/// A receiver that does not take the test is a failure of the command, so that a script sees it; what it said is
/// printed all the same.
fn show_test(output: Output, test: &Value) -> Result<(), Failure> {
    let text = fields(&[
        ("delivered", if test["delivered"] == true { "yes" } else { "no" }.to_owned()),
        ("status", test["status_code"].as_i64().map(|status| status.to_string()).unwrap_or_default()),
        ("milliseconds", test["duration_ms"].as_i64().unwrap_or_default().to_string()),
        ("error", text_of(test, "error")),
        ("answer", text_of(test, "response_excerpt")),
        ("event", text_of(test, "event")),
    ]);
    output.show(&text, test)?;
    if test["delivered"] == true {
        return Ok(());
    }
    Err(Failure::from("the endpoint did not take the test event: mend the receiver, or the endpoint's URL".to_owned()))
}

fn show_statistics(output: Output, statistics: &EndpointStatistics) -> Result<(), Failure> {
    let number = |value: Option<i32>| value.map(|value| value.to_string()).unwrap_or_default();
    let failure = statistics.last_failure.as_ref();
    let text = fields(&[
        ("attempts", statistics.attempts.to_string()),
        ("delivered", statistics.delivered.to_string()),
        ("success rate", statistics.success_rate.clone().unwrap_or_default()),
        ("ms, half under", number(statistics.duration_ms_p50)),
        ("ms, 95 % under", number(statistics.duration_ms_p95)),
        ("last failure", unix_time(failure.map(|failure| failure.at))),
        ("its error", failure.and_then(|failure| failure.error.clone()).unwrap_or_default()),
        ("owed", statistics.pending.to_string()),
        ("oldest due", unix_time(statistics.oldest_due_at)),
        ("failing since", unix_time(statistics.failing_since)),
        ("failures since", statistics.failures.to_string()),
        ("paused until", unix_time(statistics.paused_until)),
    ]);
    output.show(&text, statistics)
}

fn list(output: Output, found: &List<WebhookEndpoint>) -> Result<(), Failure> {
    let mut table = Table::new(&["id", "mode", "status", "created", "url", "events"]);
    for endpoint in &found.data {
        table.push(vec![
            endpoint.id.clone(),
            mode(endpoint.livemode).to_owned(),
            endpoint.status.clone(),
            unix_time(endpoint.created),
            endpoint.url.clone(),
            cut(&endpoint.enabled_events.join(","), EVENTS_SHOWN_CHARS_MAX),
        ]);
    }
    let when_empty = "There are no webhook endpoints in this mode: make one with `checkstand endpoint create`.";
    output.show(&table.render(when_empty), found)
}
