//! Endpoints as the sender needs them: looked up, judged, their secrets opened, and believed for a moment.
//! What is wrong with a row (its URL is refused, a secret cannot be opened) is told, not hidden: the
//! deliveries to it fail with that reason until the row is mended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::OnceCell;

use crate::domain::address::{UrlPolicy, judge_webhook_url};
use crate::domain::key_pair::SigningKeyPair;
use crate::domain::signature::SigningSecret;
use crate::ops::endpoint_health::EndpointKeeper;
use crate::ops::endpoint_secrets::EndpointSecrets;
use crate::store::delivery_queue::{self, Failure, is_passing};
use crate::worker::deliver::ClockFn;

/// How long an endpoint's settings are believed: a change takes this long to reach every other process. The one
/// that made it knows at once.
const SETTINGS_LIFE: Duration = Duration::from_secs(2);

/// Endpoints remembered at once.
const SETTINGS_MAX: usize = 4096;

/// An endpoint, ready for use.
pub struct Settings {
    /// `we_…`
    pub id: String,
    /// Live or test.
    pub livemode: bool,
    /// Whether it is to be delivered to at all.
    pub enabled: bool,
    /// The URL as the merchant gave it, and as it was judged.
    pub url_text: String,
    /// The same, as requests name it.
    pub uri: Uri,
    /// The merchant's own headers.
    pub headers: HeaderMap,
    /// The merchant's bound on attempts that begin within a second.
    pub events_per_second: Option<i32>,
    /// The merchant's bound on attempts at once.
    pub concurrency: Option<usize>,
    /// Whether the events of one session come one after the other.
    pub ordered: bool,
    /// Whether it failed since its last success.
    pub is_unwell: bool,
    /// The end of its newest pause, if there was one since then.
    pub paused_until: Option<DateTime<Utc>>,
    secret: SigningSecret,
    key_pair: Option<SigningKeyPair>,
    previous: Option<Previous>,
}

/// What signed before the last rotation, and still does until then.
struct Previous {
    until: DateTime<Utc>,
    secret: Option<SigningSecret>,
    key_pair: Option<SigningKeyPair>,
}

impl Settings {
    fn previous_at(&self, now: DateTime<Utc>) -> Option<&Previous> {
        self.previous.as_ref().filter(|previous| now < previous.until)
    }

    /// The secrets that sign now, the newest first.
    pub fn secrets(&self, now: DateTime<Utc>) -> Vec<SigningSecret> {
        let previous = self.previous_at(now).and_then(|previous| previous.secret.clone());
        std::iter::once(self.secret.clone()).chain(previous).collect()
    }

    /// The key pairs that sign now, the newest first.
    pub fn key_pairs(&self, now: DateTime<Utc>) -> Vec<&SigningKeyPair> {
        let previous = self.previous_at(now).and_then(|previous| previous.key_pair.as_ref());
        self.key_pair.iter().chain(previous).collect()
    }
}

/// Why an endpoint cannot be used.
pub enum Unusable {
    /// The database is away.
    Unknown(Failure),
    /// The row says so, and only a change of the row will mend it.
    Broken(String),
    /// There is no such endpoint any more.
    Deleted,
}

/// What looking an endpoint up takes.
pub struct LookUp {
    /// Knows where endpoints are and opens what is sealed of them.
    pub keeper: EndpointKeeper,
    /// The time.
    pub clock: ClockFn,
    /// Whether test endpoints may be on the machine itself.
    pub allow_loopback: bool,
}

impl LookUp {
    /// Looks an endpoint up.
    pub async fn endpoint(&self, endpoint_id: &str) -> Result<Settings, Unusable> {
        let found = match self.keeper.pool.acquire().await {
            Ok(mut connection) => delivery_queue::endpoint(&mut connection, endpoint_id).await,
            Err(error) => Err(error),
        };
        let row = match found {
            Ok(Some(row)) => row,
            Ok(None) => return Err(Unusable::Deleted),
            Err(error) if is_passing(&error) => return Err(Unusable::Unknown(error)),
            Err(error) => {
                return Err(Unusable::Broken(format!("the endpoint's row cannot be read: {error}")));
            }
        };
        let policy = UrlPolicy { livemode: row.livemode, allow_loopback: self.allow_loopback };
        let url = judge_webhook_url(&row.url, policy)
            .map_err(|reason| Unusable::Broken(format!("the endpoint's URL is refused: {reason}")))?;
        let uri = Uri::try_from(url.as_str())
            .map_err(|error| Unusable::Broken(format!("the endpoint's URL cannot be requested: {error}")))?;
        let opened = self.keeper.open(endpoint_id, &row, (self.clock)()).map_err(Unusable::Broken)?;
        let EndpointSecrets { secret, previous_secret, key_pair, previous_key_pair, headers } = opened;
        let previous = row.previous_secret_until.map(|until| Previous {
            until,
            secret: previous_secret,
            key_pair: previous_key_pair,
        });
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::try_from(name.as_str()).ok()?;
                let mut value = HeaderValue::try_from(value.as_str()).ok()?;
                // Kept out of whatever prints a request.
                value.set_sensitive(true);
                Some((name, value))
            })
            .collect::<Option<HeaderMap>>()
            .ok_or_else(|| Unusable::Broken("a header of the endpoint is malformed".to_owned()))?;
        Ok(Settings {
            id: endpoint_id.to_owned(),
            livemode: row.livemode,
            enabled: row.enabled,
            url_text: row.url,
            uri,
            headers,
            events_per_second: row.events_per_second,
            concurrency: row.concurrency.and_then(|places| usize::try_from(places).ok()),
            ordered: row.ordered,
            is_unwell: row.failures > 0,
            paused_until: row.paused_until,
            secret,
            key_pair,
            previous,
        })
    }
}

type Slot = Arc<OnceCell<Arc<Settings>>>;

/// Remembers endpoints for [`SETTINGS_LIFE`]; concurrent look-ups of one endpoint are one query.
#[derive(Default)]
pub struct SettingsCache(Mutex<HashMap<String, (Instant, Slot)>>);

impl SettingsCache {
    /// An endpoint as it was within [`SETTINGS_LIFE`].
    pub async fn get(&self, look_up: &LookUp, endpoint_id: &str) -> Result<Arc<Settings>, Unusable> {
        let slot = self.slot(endpoint_id);
        slot.get_or_try_init(async || look_up.endpoint(endpoint_id).await.map(Arc::new)).await.cloned()
    }

    fn slot(&self, endpoint_id: &str) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((since, slot)) = slots.get(endpoint_id)
            && now.duration_since(*since) < SETTINGS_LIFE
        {
            return Arc::clone(slot);
        }
        if slots.len() >= SETTINGS_MAX {
            slots.retain(|_, (since, _)| now.duration_since(*since) < SETTINGS_LIFE);
        }
        if slots.len() >= SETTINGS_MAX {
            slots.clear();
        }
        let slot = Slot::default();
        slots.insert(endpoint_id.to_owned(), (now, Arc::clone(&slot)));
        slot
    }

    /// Has an endpoint looked up anew.
    pub fn forget(&self, endpoint_id: &str) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.remove(endpoint_id);
    }
}
