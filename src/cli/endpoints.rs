//! `checkstand endpoint`: where events are delivered to.
//!
//! The rule: the signing secret is printed once, when the endpoint is made.

use std::path::Path;

use checkstand::domain::session::Metadata;
use checkstand::ops::endpoints::{self, EndpointChange, NewEndpoint};
use checkstand::wire::List;
use checkstand::wire::webhook_endpoint::WebhookEndpoint;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::{AdminOptions, Scope, administer, answered, whole_list, write};
use super::output::{Failure, Output, Table, cut, fields, mode, text_of, unix_time};

/// Event names in one endpoint, as in the API.
const ENABLED_EVENTS_MAX: usize = 100;

/// Characters in an event name, as in the API.
const EVENT_NAME_CHARS_MAX: usize = 100;

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
    /// Deliver to an endpoint again, including what it missed meanwhile
    Enable(Target),
    /// Stop delivering to an endpoint; what it is owed stays owed
    Disable(Target),
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
}

#[derive(Args, Debug)]
struct Target {
    #[command(flatten)]
    scope: Scope,
    /// The endpoint, we_…
    id: String,
}

fn event_name(text: &str) -> Result<String, String> {
    let stem = text.strip_suffix(".*").unwrap_or(text);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if text == "*" || (text.len() <= EVENT_NAME_CHARS_MAX && stem.split('.').all(is_word)) {
        return Ok(text.to_owned());
    }
    Err("an event name looks like checkout.session.completed, checkout.session.* or *".to_owned())
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
        ("created", unix_time(endpoint.created)),
    ]);
    output.show(&text, endpoint)
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
        for bad in ["", "checkout..completed", "Checkout.session", "checkout.*.completed", ".*", "a b"] {
            assert!(event_name(bad).is_err(), "{bad}");
        }
    }
}
