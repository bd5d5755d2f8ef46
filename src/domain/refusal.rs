//! Why a request that is well-formed is refused all the same: a closed list with stable codes.
//!
//! The rule: each refusal has one code and one sentence, so merchants can branch on the first and
//! read the second. How it is put into an HTTP answer or a page is the doors' business.

use super::session::StateName;

/// A named refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The session is not in a state from which the request is possible.
    SessionNotOpen(StateName),
    /// A payment for the session is with the provider right now.
    SessionProcessing,
    /// The session's deadline has passed, though it has not been swept yet.
    SessionPastDeadline,
}

impl Refusal {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::SessionNotOpen(_) | Self::SessionPastDeadline => "session_not_open",
            Self::SessionProcessing => "session_processing",
        }
    }

    /// What to tell the developer.
    pub fn message(self) -> String {
        match self {
            Self::SessionNotOpen(state) => {
                format!("Only checkout sessions that are open can do this; this one is {}.", state.as_str())
            }
            Self::SessionProcessing => {
                "A payment for this checkout session is being processed; wait for its outcome and try again.".to_owned()
            }
            Self::SessionPastDeadline => {
                "Only checkout sessions that are open can do this; the deadline of this one has passed.".to_owned()
            }
        }
    }
}
