//! A replay: a range of a merchant's events that is sent again, in the background.
//!
//! The rule: it runs until it has looked at all of its range, is called off, or has nobody to send to;
//! then it stays as it is.

use chrono::{DateTime, Utc};

use super::id::{EndpointId, EventId, EventReplayId, MerchantId};

/// Where a replay is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplayState {
    /// There is more to look at.
    Running,
    /// All of the range was looked at; what was to be sent is owed.
    Completed(DateTime<Utc>),
    /// The merchant called it off. What is owed already stays owed.
    Cancelled(DateTime<Utc>),
    /// It could not go on.
    Failed {
        /// When.
        at: DateTime<Utc>,
        /// Why, for the merchant.
        why: String,
    },
}

impl ReplayState {
    /// The word in the database and in the API.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed(_) => "completed",
            Self::Cancelled(_) => "cancelled",
            Self::Failed { .. } => "failed",
        }
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Running => None,
            Self::Completed(at) | Self::Cancelled(at) | Self::Failed { at, .. } => Some(*at),
        }
    }
}

/// A replay of events.
#[derive(Clone, Debug)]
pub struct EventReplay {
    /// `evrp_…`
    pub id: EventReplayId,
    /// Whose.
    pub merchant_id: MerchantId,
    /// Mode.
    pub livemode: bool,
    /// The first moment of the range.
    pub from: DateTime<Utc>,
    /// The moment behind its last.
    pub to: DateTime<Utc>,
    /// Types; a trailing `.*` stands for a family. None stands for all.
    pub types: Vec<String>,
    /// Whether only deliveries that failed, or were given up, are made again.
    pub only_failed: bool,
    /// The one endpoint it is for; every one that subscribes unless given.
    pub endpoint: Option<EndpointId>,
    /// Where it is.
    pub state: ReplayState,
    /// Everything up to here has been looked at.
    pub reached: EventId,
    /// Events looked at.
    pub events_scanned: i64,
    /// Deliveries that were put into the queue.
    pub deliveries: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}
