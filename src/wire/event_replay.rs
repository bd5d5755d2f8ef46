//! Replays of events, ours in Stripe's manner.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::event_replay;

/// A range of events that is sent again in the background.
#[derive(Serialize, ToSchema, Debug)]
pub struct EventReplay {
    /// `evrp_…`
    pub id: String,
    /// Always `event_replay`.
    pub object: &'static str,
    /// When it was made, in Unix seconds.
    pub created: i64,
    /// Mode.
    pub livemode: bool,
    /// The first second of the range.
    pub from: i64,
    /// The second behind its last.
    pub to: i64,
    /// Types, or families such as `checkout.session.*`; none for all.
    pub types: Vec<String>,
    /// Whether only failed deliveries are made again.
    pub only_failed: bool,
    /// The one endpoint; null for every one that subscribes.
    pub webhook_endpoint: Option<String>,
    /// `running`, `completed`, `cancelled` or `failed`.
    pub status: &'static str,
    /// Why it failed.
    pub failure_message: Option<String>,
    /// Events looked at so far.
    pub events_scanned: i64,
    /// Deliveries put into the queue so far.
    pub deliveries: i64,
    /// Everything up to this second has been looked at.
    pub reached: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
}

impl EventReplay {
    /// As the merchant sees it.
    pub fn new(replay: &event_replay::EventReplay) -> Self {
        let reached = match replay.state {
            event_replay::ReplayState::Completed(_) => replay.to,
            _ => replay.reached.created_at().max(replay.from),
        };
        Self {
            id: replay.id.to_string(),
            object: "event_replay",
            created: replay.created_at.timestamp(),
            livemode: replay.livemode,
            from: replay.from.timestamp(),
            to: replay.to.timestamp(),
            types: replay.types.clone(),
            only_failed: replay.only_failed,
            webhook_endpoint: replay.endpoint.as_ref().map(ToString::to_string),
            status: replay.state.word(),
            failure_message: match &replay.state {
                event_replay::ReplayState::Failed { why, .. } => Some(why.clone()),
                _ => None,
            },
            events_scanned: replay.events_scanned,
            deliveries: replay.deliveries,
            reached: reached.timestamp(),
            ended_at: replay.state.ended_at().map(|at| at.timestamp()),
        }
    }
}
