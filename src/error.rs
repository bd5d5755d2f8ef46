//! What can go wrong, said without HTTP: doors turn it into the API's envelope or a page.
//!
//! The rule: the list is closed, a message for outside never holds what only we may know, and
//! `Internal` carries the inside half for the log, where the door writes it once.

use thiserror::Error as ThisError;

use crate::domain::refusal::Refusal;

/// A failed operation.
#[derive(Debug, ThisError)]
pub enum Error {
    /// Well-formed, but the present state does not allow it.
    #[error("{}", .0.message())]
    Refused(Refusal),
    /// The card was not charged: it cannot be one, or its bank says no.
    #[error("{}", .0.message)]
    Declined(Box<CardRefusal>),
    /// Too many requests for one thing in a short time.
    #[error("Too many requests for this checkout session. Wait a few seconds and try again.")]
    RateLimited,
    /// A parameter is wrong.
    #[error("{message}")]
    Invalid {
        /// Stripe's code, or one of ours.
        code: &'static str,
        /// The parameter in bracket form; empty when the body as a whole is wrong.
        param: String,
        /// What to do about it.
        message: String,
    },
    /// No such object for this caller. Another merchant's object is just as absent.
    #[error("No such {what}: '{id}'")]
    NotFound {
        /// The kind of object, as in `checkout.session`.
        what: &'static str,
        /// The id asked for, cut to a sane length.
        id: String,
    },
    /// The key is absent, malformed, unknown, revoked or used from where it may not be.
    #[error("{0}")]
    Unauthenticated(String),
    /// The idempotency key was used for another request.
    #[error(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '{0}' if you meant to execute a different request."
    )]
    IdempotencyMismatch(String),
    /// A request with the same idempotency key is still running.
    #[error(
        "There is currently another in-progress request using this idempotency key ('{0}'); wait for it to finish and try again."
    )]
    IdempotencyInUse(String),
    /// Something we depend on is down or too busy. Safe to try again.
    #[error(
        "The service cannot answer right now. Try again in a moment; with the same idempotency key nothing is done twice."
    )]
    Unavailable(String),
    /// Our fault. The text is for the log only.
    #[error("An error occurred on our side. Quote the request id to support.")]
    Internal(String),
}

/// Why a card was not charged, in words for whom it is told.
#[derive(Debug, Clone)]
pub struct CardRefusal {
    /// Stripe's code.
    pub code: &'static str,
    /// Stripe's decline code.
    pub decline_code: Option<&'static str>,
    /// The parameter at fault, where what was sent can be no card.
    pub param: Option<&'static str>,
    /// What to do.
    pub message: String,
}

impl Error {
    /// A wrong parameter.
    pub fn invalid(code: &'static str, param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { code, param: param.into(), message: message.into() }
    }

    /// An absent object; long ids are cut, since they come from outside.
    pub fn not_found(what: &'static str, id: &str) -> Self {
        Self::NotFound { what, id: id.chars().take(100).collect() }
    }

    /// The absence of an object that a parameter names, not the path: the parameter is wrong then.
    pub fn named_in(self, param: &str) -> Self {
        match self {
            Self::NotFound { .. } => Self::invalid("resource_missing", param, self.to_string()),
            other => other,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
