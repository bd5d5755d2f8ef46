//! One message to one endpoint, outside of the queue: how a merchant tries an endpoint out. It is sent exactly as a
//! delivery is, with its limits and its judge of addresses, once, whether or not the endpoint is enabled.
//! At most one at a time for each merchant and a few in all, because whoever asks waits for the answer.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OnceCell, Semaphore};

use crate::app::Posted;
use crate::domain::id::MerchantId;
use crate::error::{Error, Result};
use crate::worker::deliver::DeliverSettings;
use crate::worker::post::{Message, Poster};
use crate::worker::settings::{LookUp, Unusable};

pub use crate::worker::settings::LookUp as EndpointLookUp;

/// Test sends at once in a process.
const TEST_SENDS_MAX: usize = 16;

/// Sends tests.
pub struct TestSender {
    look_up: LookUp,
    settings: DeliverSettings,
    /// Made when it is first needed: most commands never send anything.
    poster: OnceCell<Poster>,
    places: Semaphore,
    busy: Arc<Mutex<HashSet<MerchantId>>>,
}

/// A merchant's one place, until it is dropped.
struct Place {
    busy: Arc<Mutex<HashSet<MerchantId>>>,
    merchant: MerchantId,
}

impl Place {
    fn take(busy: &Arc<Mutex<HashSet<MerchantId>>>, merchant: &MerchantId) -> Option<Place> {
        let is_free = busy.lock().unwrap_or_else(PoisonError::into_inner).insert(merchant.clone());
        is_free.then(|| Place { busy: Arc::clone(busy), merchant: merchant.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.merchant);
    }
}

impl TestSender {
    /// Sends with the limits of these settings.
    pub fn new(look_up: LookUp, settings: DeliverSettings) -> TestSender {
        let places = Semaphore::new(TEST_SENDS_MAX);
        TestSender { look_up, settings, poster: OnceCell::new(), places, busy: Arc::default() }
    }

    /// Sends once. Whatever the receiver does is an answer, not an error.
    ///
    /// # Errors
    /// `Invalid` while another test of the merchant runs, `Unavailable` beyond the places in all and while the database
    /// is away, `NotFound` if the endpoint was deleted.
    pub async fn send(&self, merchant: &MerchantId, endpoint_id: &str, event_id: &str, body: &str) -> Result<Posted> {
        let Some(_place) = Place::take(&self.busy, merchant) else {
            let message = "Another test of a webhook endpoint is running. Wait for its answer.";
            return Err(Error::invalid("endpoint_test_in_progress", "", message));
        };
        let Ok(_permit) = self.places.try_acquire() else {
            return Err(Error::Unavailable("all places for test sends are taken".to_owned()));
        };
        let started = Instant::now();
        let settings = match self.look_up.endpoint(endpoint_id).await {
            Ok(settings) => settings,
            Err(Unusable::Unknown(error)) => return Err(error.into()),
            Err(Unusable::Deleted) => return Err(Error::not_found("webhook_endpoint", endpoint_id)),
            Err(Unusable::Broken(error)) => {
                return Ok(Posted { error: Some(error), ..Posted::default() });
            }
        };
        let poster = self
            .poster
            .get_or_try_init(async || Poster::new(&self.settings))
            .await
            .map_err(|error| Error::Internal(format!("the webhook client could not be made: {error}")))?;
        poster.forget_idle();
        let now = (self.look_up.clock)();
        let answer = poster.post(Message { event_id, body, settings: &settings, now }).await;
        Ok(Posted {
            delivered: answer.outcome.is_delivered(),
            status: answer.status,
            duration_ms: i32::try_from(started.elapsed().as_millis()).unwrap_or(i32::MAX),
            error: answer.error,
            excerpt: answer.excerpt,
        })
    }
}
