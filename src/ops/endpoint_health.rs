//! Endpoints that take nothing: left alone for a while, and given up in the end.
//!
//! The rule: an endpoint is switched off, the event that tells of it is stored and the mail is written in one
//! transaction. What is owed to it stays owed. Called by the worker, which knows no more of the application
//! than the database.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::endpoint_secrets::{EndpointSecrets, open_secrets};
use super::endpoints::render;
use super::mails::post_by;
use super::{Announcements, Caller};
use crate::app::MailRoad;
use crate::domain::endpoint_health::{DisabledReason, HealthLimits};
use crate::domain::event_types::ENDPOINT_DISABLED;
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::mailer::{self, DisabledEndpoint};
use crate::store::delivery_queue::{DeliveryEndpoint, Pool};
use crate::store::outbox::{self, Lease};
use crate::store::{endpoint_health, endpoints, merchants};
use crate::telemetry;
use crate::wire::event::EventRequest;

/// What the worker may do for endpoints, and all that it takes.
#[derive(Clone)]
pub struct EndpointKeeper {
    /// The database.
    pub pool: Pool,
    /// The operator's secret keys.
    pub keyring: Arc<Keyring>,
    /// Which way mail goes.
    pub mail: MailRoad,
    /// When an endpoint is paused and when it is given up.
    pub limits: HealthLimits,
}

impl EndpointKeeper {
    /// Opens what is sealed of an endpoint.
    ///
    /// # Errors
    /// A sentence for the log and for the merchant.
    pub fn open(&self, endpoint: &str, row: &DeliveryEndpoint, now: DateTime<Utc>) -> Result<EndpointSecrets, String> {
        open_secrets(&self.keyring, endpoint, row, now)
    }

    /// Switches an endpoint off, unless its URL was changed meanwhile, and tells of it: by an event to the merchant's other
    /// endpoints, and by mail where he left an address. True if this call did it.
    ///
    /// # Errors
    /// The database's.
    pub async fn disable(
        &self,
        endpoint_id: &str,
        url: &str,
        reason: DisabledReason,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let Some(endpoint) = endpoints::disable(&mut transaction, endpoint_id, url, reason).await? else {
            return Ok(false);
        };
        let owner = Caller { merchant_id: endpoint.merchant_id.clone(), livemode: endpoint.livemode };
        let cause = EventRequest::default();
        let mut announcements = Announcements::new(&cause, now);
        announcements.apart(&owner, ENDPOINT_DISABLED, endpoint_id, &render(&endpoint, None, now));
        outbox::append(&mut transaction, &announcements.into_events(), &Lease::open(now)).await?;
        let merchant = merchants::find(&mut *transaction, &endpoint.merchant_id).await?;
        let recipient = merchant.filter(|_| self.mail != MailRoad::Off).and_then(|merchant| merchant.support_email);
        if let Some(recipient) = recipient {
            let disabled = DisabledEndpoint {
                id: endpoint_id,
                url: &endpoint.url,
                livemode: endpoint.livemode,
                merchant_id: endpoint.merchant_id.as_str(),
                reason,
                given_up_after_days: self.limits.disable_after_days,
            };
            let mail = mailer::endpoint_disabled(&disabled, recipient, now)
                .map_err(|error| Error::Internal(format!("the mail about {endpoint_id}: {error}")))?;
            post_by(&self.keyring, self.mail, &mut transaction, mail).await?;
        }
        transaction.commit().await?;
        metrics::counter!(telemetry::WEBHOOK_ENDPOINTS_DISABLED_TOTAL, "reason" => reason.word()).increment(1);
        Ok(true)
    }

    /// Counts failures of an endpoint, and pauses it or gives it up when there are too many. `probe_until` is the end of the
    /// turn of the one delivery that went ahead after a pause, if one of them was that. True if the endpoint was
    /// changed.
    ///
    /// # Errors
    /// The database's.
    pub async fn note_failures(
        &self,
        endpoint_id: &str,
        failures: i32,
        probe_until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let mut connection = self.pool.acquire().await?;
        let Some(health) = endpoint_health::note_failures(&mut connection, endpoint_id, failures, now).await? else {
            return Ok(false);
        };
        let Some(endpoint) = endpoints::at_work(&mut connection, endpoint_id).await? else { return Ok(false) };
        if self.limits.is_given_up(health.failing_since, health.failures, now) {
            drop(connection);
            let given_up = self.disable(endpoint_id, &endpoint.url, DisabledReason::Failing, now).await?;
            if given_up {
                tracing::warn!(endpoint_id, "a webhook endpoint took nothing for days and was disabled");
            }
            return Ok(given_up);
        }
        let Some(pause) = self.limits.pause_after(endpoint.livemode, health.failures, health.pauses) else {
            // The first failure of many is known to the sender too, so that it tells of the first success.
            return Ok(health.failures == failures);
        };
        let paused = endpoint_health::pause(&mut connection, endpoint_id, now + pause, probe_until, now).await?;
        if paused {
            metrics::counter!(telemetry::WEBHOOK_ENDPOINT_PAUSES_TOTAL).increment(1);
        }
        Ok(paused)
    }
}
