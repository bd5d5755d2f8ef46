//! `checkstand endpoint`: where events are delivered to.
//!
//! The rule: the signing secret is printed once, when the endpoint is made or its secret is replaced.

use std::path::Path;

use checkstand::domain::event_types::judge_pattern;
use checkstand::domain::session::Metadata;
use checkstand::ops::endpoints::{self, EndpointChange, EndpointOptions, NewEndpoint};
use checkstand::ops::{endpoint_checks, endpoint_secrets};
use checkstand::wire::List;
use checkstand::wire::webhook_endpoint::{EndpointStatistics, WebhookEndpoint};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::{AdminOptions, Scope, administer, answered, whole_list, write};
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
    /// The events of one session come one after the other
    #[arg(long)]
    ordered: bool,
    /// An Ed25519 signature (v1a) beside the secret's
    #[arg(long)]
    ed25519: bool,
}

#[derive(Args, Debug)]
struct Target {
    #[command(flatten)]
    scope: Scope,
    /// The endpoint, we_…
    id: String,
}

fn event_name(text: &str) -> Result<String, String> {
    judge_pattern(text).map(|()| text.to_owned())
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
                if create.events.len() > ENABLED_EVENTS_MAX {
                    return Err(format!("at most {ENABLED_EVENTS_MAX} event names are taken; * stands for all").into());
                }
                let new = NewEndpoint {
                    url: create.url,
                    enabled_events: create.events,
                    description: create.description,
                    metadata: Metadata::new(),
                    api_version: None,
                    options: EndpointOptions {
                        ordered: Some(create.ordered),
                        ed25519: Some(create.ed25519),
                        ..EndpointOptions::default()
                    },
                };
                let made = endpoints::create(app, &write(scope.caller(app).await?), new).await?;
                show_new(output, &answered(&made)?)
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

/// A receiver that does not take the test is no failure of the command: the answer is what was asked for.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_names_are_those_of_the_api() {
        for good in ["*", "checkout.session.completed", "checkout.session.*", "payment_intent.*"] {
            assert_eq!(event_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "checkout..completed", "checkout.session.complted", "checkout.*.completed", ".*", "a b"] {
            assert!(event_name(bad).is_err(), "{bad}");
        }
    }
}
