//! The JSON that merchants see, in answers and in events, in Stripe's shapes.
//!
//! The rule: every key that is not marked optional is always there, null or not, because Stripe's
//! Python SDK raises on a missing one; each object names its kind in `object`; money is integers in
//! minor units and time is whole seconds since 1970. Objects are made from domain values and know
//! neither the database nor the request.

pub mod charge;
pub mod checkout_session;
pub mod customer;
pub mod dispute;
pub mod error;
pub mod escrow;
pub mod event;
pub mod event_replay;
pub mod line_item;
pub mod payer_session;
pub mod payment_intent;
pub mod payment_method;
pub mod redirect_url;
pub mod refund;
pub mod review;
pub mod unfilled;
pub mod webhook_endpoint;

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

/// A key that Stripe's object has and ours never fills.
pub type Null = Option<serde_json::Value>;

/// The newest API version whose shapes these are; every version is accepted and gets the same ones.
pub const API_VERSION: &str = "2026-10-28.endive";

/// A page of a list, newest first.
#[derive(Serialize, ToSchema, Debug)]
pub struct List<T> {
    /// Always `list`.
    pub object: &'static str,
    /// The page.
    pub data: Vec<T>,
    /// Whether more follow in the direction asked for.
    pub has_more: bool,
    /// The path of the list.
    pub url: String,
}

impl<T> List<T> {
    /// A page of the list at `url`.
    pub fn new(url: impl Into<String>, data: Vec<T>, has_more: bool) -> Self {
        Self { object: "list", data, has_more, url: url.into() }
    }
}

/// What remains of a deleted object.
#[derive(Serialize, ToSchema, Debug, Clone)]
pub struct Deleted {
    /// The id it had.
    pub id: String,
    /// The kind it was.
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}

/// A reference that `expand` turns into the object.
#[derive(Serialize, ToSchema, Debug, Clone)]
#[serde(untagged)]
pub enum Expandable<T> {
    /// The id.
    Id(String),
    /// The object.
    Object(Box<T>),
}

/// The paths named by `expand[]`.
#[derive(Default, Debug, Clone)]
pub struct Expand(BTreeSet<String>);

impl Expand {
    /// Takes the paths as they came, without `data.` in front (which lists ask for).
    pub fn new(paths: impl IntoIterator<Item = String>) -> Self {
        Self(paths.into_iter().map(|path| path.strip_prefix("data.").unwrap_or(&path).to_owned()).collect())
    }

    /// Whether `path` is asked for, by itself or on the way to a deeper one.
    pub fn wants(&self, path: &str) -> bool {
        self.0.iter().any(|asked| asked.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }
}
