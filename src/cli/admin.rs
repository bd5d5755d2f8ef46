//! How commands get at the database: the one that is configured, or the one that `checkstand dev`
//! keeps on this machine.
//!
//! The rule: a command never makes a database by accident. An embedded one is used when it exists
//! already, joined when it is running, and put back to rest when the command had to start it.

use std::path::{Path, PathBuf};

use checkstand::app::App;
use checkstand::config::Config;
use checkstand::dev;
use checkstand::dev::postgres::{EmbeddedOptions, EmbeddedPostgres, Purpose, default_data_dir};
use checkstand::domain::event_types::judge_pattern;
use checkstand::error::Error;
use checkstand::gateway::{Gateway, Roles};
use checkstand::ops::replay::{Answer, Write};
use checkstand::ops::{Caller, merchants};
use checkstand::store::Page;
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::output::{Failure, Output};
use super::read_config;

/// Connections of one command. An operation may read beside its transaction, so one is not enough.
const CONNECTIONS_MAX: u32 = 4;

/// Sessions of an embedded server that a command had to start. Somebody may start `checkstand dev` in
/// that second and join it, so it gets room for a whole gateway.
const SERVER_SESSIONS_MAX: u32 = 100;

/// The file that makes a folder an embedded database.
const CLUSTER_MARK: &str = "pg/PG_VERSION";

/// Longest list that is read where there is no paging. The bounds on what a merchant may have are at
/// or below it.
const LIST_MAX: i64 = 100;

/// What all commands that use the database take.
#[derive(Args, Debug)]
pub struct AdminOptions {
    /// Use the database that `checkstand dev` keeps in this folder
    ///
    /// Without it DATABASE_URL is used, and where that is not set, the folder that `checkstand dev`
    /// uses by itself.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON, in the API's shapes, instead of text
    #[arg(long, global = true)]
    json: bool,
}

impl AdminOptions {
    /// How the result is printed.
    pub fn output(&self) -> Output {
        Output { json: self.json }
    }
}

/// Whose objects, in which mode.
#[derive(Args, Debug)]
pub struct Scope {
    /// The merchant, acct_…
    #[arg(long, value_name = "ID")]
    merchant: String,
    /// Live mode; test mode unless given
    #[arg(long)]
    live: bool,
}

impl Scope {
    /// The merchant as if it called the API.
    ///
    /// # Errors
    /// When there is no such merchant.
    pub async fn caller(&self, app: &App) -> Result<Caller, Failure> {
        caller(app, &self.merchant, self.live).await
    }
}

/// A merchant as if it called the API.
///
/// # Errors
/// When there is no such merchant.
pub async fn caller(app: &App, merchant: &str, livemode: bool) -> Result<Caller, Failure> {
    Ok(Caller { merchant_id: merchants::find(app, merchant).await?, livemode })
}

/// A change by the operator: no request caused it.
pub fn write(caller: Caller) -> Write {
    Write { caller, request_id: None, idempotency: None }
}

/// Reads an event's name or a pattern of names; what no event is called is refused, as by the API.
///
/// # Errors
/// A sentence with the nearest name that there is.
pub fn event_name(text: &str) -> Result<String, String> {
    judge_pattern(text).map(|()| text.to_owned())
}

/// Which page of a list.
#[derive(Args, Debug)]
pub struct PageOptions {
    /// Rows to show, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=100))]
    limit: i64,
    /// Go on behind this id, the last one of the page before
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

impl PageOptions {
    /// The page. `parse_id` reads ids of what is listed.
    ///
    /// # Errors
    /// When it is to begin behind something else: it would begin anew and be taken for what follows.
    pub fn page<T>(self, parse_id: impl Fn(&str) -> Option<T>) -> Result<Page, Failure> {
        if self.after.as_deref().is_some_and(|id| parse_id(id).is_none()) {
            return Err("--after is not the id of an object in this list".into());
        }
        Ok(Page { limit: self.limit, starting_after: self.after, ending_before: None })
    }
}

/// The only page of a list that is short by its nature.
pub fn whole_list() -> Page {
    Page { limit: LIST_MAX, starting_after: None, ending_before: None }
}

/// What a table says at its end when rows were left out.
pub fn more_behind(has_more: bool, last_id: Option<&str>) -> String {
    match last_id {
        Some(id) if has_more => format!("There are more: go on with --after {id}\n"),
        _ => String::new(),
    }
}

/// Opens the database, does `work` and closes everything again, whatever came of it.
///
/// # Errors
/// Those of `work`, and of the database.
pub async fn administer<F>(file: Option<&Path>, options: &AdminOptions, work: F) -> Result<(), Failure>
where
    F: AsyncFnOnce(&App, Output) -> Result<(), Failure>,
{
    let output = options.output();
    with_database(file, options, async |config| {
        let gateway = Gateway::open(config, Roles { worker: false }).await?;
        let result = work(&gateway.app, output).await;
        gateway.stop().await;
        result
    })
    .await
}

/// Finds the database and does `work` with the settings that lead to it.
///
/// # Errors
/// Those of `work`, and when there is no database to be had.
pub async fn with_database<F>(file: Option<&Path>, options: &AdminOptions, work: F) -> Result<(), Failure>
where
    F: AsyncFnOnce(Config) -> Result<(), Failure>,
{
    let mut config = read_config(file)?;
    config.database_connections_max = CONNECTIONS_MAX;
    let server = match (&options.data_dir, config.database_url.expose_secret().is_empty()) {
        (Some(named), _) => Some(join_embedded(&mut config, named.clone()).await?),
        (None, true) => Some(join_embedded(&mut config, default_data_dir()).await?),
        (None, false) => None,
    };
    let result = work(config).await;
    let stopped = match server {
        Some(server) => blocking(move || server.stop()).await,
        None => Ok(()),
    };
    result.and(stopped)
}

/// Joins or starts the embedded server of `data_dir` and makes the settings those of `checkstand dev`.
async fn join_embedded(config: &mut Config, data_dir: PathBuf) -> Result<EmbeddedPostgres, Failure> {
    if !data_dir.join(CLUSTER_MARK).exists() {
        let sentence = format!(
            "no database is configured: set DATABASE_URL, or start `checkstand dev`, which makes its own (there is none in {} yet)",
            data_dir.display()
        );
        return Err(sentence.into());
    }
    if config.secret_keys.is_empty() {
        config.secret_keys = dev::secrets(&data_dir)?;
    }
    let options = EmbeddedOptions { data_dir, purpose: Purpose::Durable, max_connections: SERVER_SESSIONS_MAX };
    let server = blocking(move || EmbeddedPostgres::start(options)).await?;
    config.database_url = SecretString::from(server.url("checkstand"));
    // Endpoints on this machine are what a development set-up has.
    config.loopback_webhooks = true;
    Ok(server)
}

/// Does something that waits without giving its thread back.
async fn blocking<T, E, F>(work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    E: Into<Failure> + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(Error::Internal(format!("starting or stopping the database was cut short: {error}")).into()),
    }
}

/// The object in an operation's answer.
///
/// # Errors
/// When the answer is not JSON.
pub fn answered(answer: &Answer) -> Result<Value, Failure> {
    serde_json::from_str(&answer.body).map_err(|error| Failure::from(format!("the answer is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use checkstand::domain::id::EventId;

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

    #[test]
    fn a_page_goes_on_behind_an_id_of_its_own_kind_only() {
        let behind = |after: Option<&str>| {
            PageOptions { limit: 20, after: after.map(str::to_owned) }
                .page(EventId::parse)
                .map(|page| page.starting_after)
        };
        let id = "evt_00000000000000000000000000";
        assert_eq!(behind(None).expect("the first page"), None);
        assert_eq!(behind(Some(id)).expect("the next page").as_deref(), Some(id));
        for other in ["", "nonsense", "we_00000000000000000000000000"] {
            assert!(behind(Some(other)).is_err(), "{other}");
        }
    }
}
