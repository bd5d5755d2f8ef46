//! Follows a merchant's events as they happen, for one reader.
//!
//! The rule: nothing that was committed is left out. Ids sort by the moment an event was made and not by
//! its commit, so one may appear behind those that were read already; each look therefore reaches back
//! over the longest time between the two, and what was given is remembered that long. After a
//! reconnection that memory is gone: the last moments come again, with the same ids.

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, Utc};

use super::Caller;
use crate::app::App;
use crate::domain::id::EventId;
use crate::error::Result;
use crate::store::event_stream::{Look, StreamedEvent, look};

/// Longest time from an event's making to its commit, with room: a statement may take five seconds, a
/// transaction may idle ten, and the clocks of two processes differ by less than one.
const COMMIT_DELAY_MAX: Duration = Duration::seconds(16);

/// How far back a reader may resume. What is older is read from the list of events.
const RESUME_MAX: Duration = Duration::hours(24);

/// Events of one look; an event is some kilobytes.
const EVENTS_PER_LOOK: i64 = 32;

/// Ids remembered. A merchant with more events than this in [`COMMIT_DELAY_MAX`] has the memory, and with
/// it the reach of a look, cut short.
const REMEMBERED_MAX: usize = 2_000;

/// One reader's place.
#[derive(Debug)]
pub struct Follower {
    caller: Caller,
    kinds: Vec<String>,
    /// Everything up to here is done with.
    behind: EventId,
    /// What was given of what lies behind that.
    given: BTreeSet<String>,
}

impl Follower {
    /// Begins behind the event `last`, or with what happens from now on.
    ///
    /// # Errors
    /// The database's.
    pub async fn start(app: &App, caller: Caller, kinds: Vec<String>, last: Option<EventId>) -> Result<Self> {
        let now = app.clock.now();
        let recent = EventId::first_at(now - COMMIT_DELAY_MAX);
        let Some(last) = last else {
            let mut follower = Self { caller, kinds, behind: recent, given: BTreeSet::new() };
            // What happened in the last moments is not new to somebody who comes now.
            while !follower.next(app).await?.is_empty() {}
            return Ok(follower);
        };
        let begin = last.created_at().clamp(now - RESUME_MAX, now);
        let behind = EventId::first_at(begin - COMMIT_DELAY_MAX);
        Ok(Self { caller, kinds, behind, given: BTreeSet::new() })
    }

    /// What is new, oldest first; nothing when there is nothing yet.
    ///
    /// # Errors
    /// The database's; the place is kept.
    pub async fn next(&mut self, app: &App) -> Result<Vec<StreamedEvent>> {
        let now = app.clock.now();
        let given: Vec<String> = self.given.iter().cloned().collect();
        let asked = Look {
            merchant: &self.caller.merchant_id,
            livemode: self.caller.livemode,
            kinds: &self.kinds,
            behind: &self.behind,
            but: &given,
            limit: EVENTS_PER_LOOK,
        };
        let found = look(app.store.pool(), &asked).await?;
        self.given.extend(found.iter().map(|event| event.id.to_string()));
        self.forget(now, found.last().map(|event| &event.id));
        Ok(found)
    }

    /// Moves the place up to where nothing can appear any more, but not past what was not looked at yet.
    fn forget(&mut self, now: DateTime<Utc>, last: Option<&EventId>) {
        let settled = EventId::first_at(now - COMMIT_DELAY_MAX);
        let settled = last.map_or(settled.clone(), |last| last.clone().min(settled));
        self.behind = settled.max(self.behind.clone());
        while self.given.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.given.pop_first() {
                self.behind = EventId::from_stored(oldest).max(self.behind.clone());
            }
        }
        self.given = self.given.split_off(self.behind.as_str());
    }
}
