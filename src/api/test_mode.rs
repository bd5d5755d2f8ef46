//! `/v1/test_helpers/checkout/sessions/{id}`: a merchant's automated tests play payer, bank and time.
//!
//! The rule: test keys only, and every parameter has a default, so that the shortest call does the
//! usual thing. What happens is what would have happened on the page.

use serde::Deserialize;
use utoipa::ToSchema;

use super::fields::{ExpandParams, email, expand};
use super::guard::{Call, Id};
use crate::error::{Error, Result};
use crate::ops::replay::Answer;
use crate::ops::test_mode::{self, ChallengeAnswer, Rehearsal};
use crate::wire::checkout_session::CheckoutSession;
use crate::wire::error::ErrorEnvelope;

/// Pays when the test does not say with what.
const CARD_DEFAULT: &str = "visa";

/// Who pays when neither the session nor the test says so.
const EMAIL_DEFAULT: &str = "payer@example.com";

/// Why the bank declines when the test does not say.
const DECLINE_DEFAULT: &str = "generic_decline";

pub(super) fn test_mode_only(call: &Call) -> Result<()> {
    if call.caller.livemode {
        let message = "Test helpers work in test mode only: use a test key (sk_test_…). Nothing was changed.";
        return Err(Error::invalid("test_mode_only", "", message));
    }
    Ok(())
}

fn payers_email(given: Option<String>) -> Result<String> {
    Ok(email("email", given)?.unwrap_or_else(|| EMAIL_DEFAULT.to_owned()))
}

/// How a test pays.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct CompleteTestSession {
    /// A test card's number, or a word such as `visa`, `amex`, `three_d_secure_required` or `insufficient_funds`;
    /// `visa` unless given.
    pub card: Option<String>,
    /// The payer's address; the session's own has precedence.
    pub email: Option<String>,
    /// Paths to expand in the answer.
    pub expand: Option<Vec<String>>,
}

/// Pays a test session with a test card, without a browser.
///
/// A card that needs authentication leaves the session processing until `authenticate` is called; one that is
/// declined is a 402.
#[utoipa::path(post, path = "/v1/test_helpers/checkout/sessions/{id}/complete", tag = "Test helpers", operation_id = "complete_test_session", params(("id" = String, Path)),
    request_body(content((CompleteTestSession = "application/x-www-form-urlencoded"), (CompleteTestSession = "application/json"))),
    responses((status = 200, body = CheckoutSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn complete(Id(id): Id, call: Call) -> Result<Answer> {
    test_mode_only(&call)?;
    let params: CompleteTestSession = call.params()?;
    let rehearsal = Rehearsal {
        card: params.card.unwrap_or_else(|| CARD_DEFAULT.to_owned()),
        param: "card",
        email: payers_email(params.email)?,
        is_to_be_declined: false,
    };
    test_mode::pay(&call.app, &call.write(), &id, rehearsal, &expand(params.expand)?).await
}

/// How a test is declined.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct DeclineTestSession {
    /// `generic_decline` (unless given), `insufficient_funds`, `lost_card`, `stolen_card`, `card_velocity_exceeded`,
    /// `expired_card`, `incorrect_cvc`, `processing_error` or `fraudulent`.
    pub decline_code: Option<String>,
    /// The payer's address; the session's own has precedence.
    pub email: Option<String>,
    /// Paths to expand in the answer.
    pub expand: Option<Vec<String>>,
}

/// Tries to pay a test session with a card that is declined. The fourth decline fails the session.
#[utoipa::path(post, path = "/v1/test_helpers/checkout/sessions/{id}/decline", tag = "Test helpers", operation_id = "decline_test_session", params(("id" = String, Path)),
    request_body(content((DeclineTestSession = "application/x-www-form-urlencoded"), (DeclineTestSession = "application/json"))),
    responses((status = 200, body = CheckoutSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn decline(Id(id): Id, call: Call) -> Result<Answer> {
    test_mode_only(&call)?;
    let params: DeclineTestSession = call.params()?;
    let decline_code = params.decline_code.unwrap_or_else(|| DECLINE_DEFAULT.to_owned());
    if !test_mode::is_decline_code(&decline_code) {
        return Err(test_mode::no_such_decline());
    }
    let rehearsal = Rehearsal {
        card: decline_code,
        param: "decline_code",
        email: payers_email(params.email)?,
        is_to_be_declined: true,
    };
    test_mode::pay(&call.app, &call.write(), &id, rehearsal, &expand(params.expand)?).await
}

/// What the payer answers his bank.
#[derive(Deserialize, ToSchema, Debug, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticationResultParam {
    /// It is he.
    Approve,
    /// He cannot prove it.
    Fail,
    /// He gives up.
    Cancel,
}

/// How a test answers the bank.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct AuthenticateTestSession {
    /// `approve` (unless given), `fail` or `cancel`.
    #[schema(inline)]
    pub result: Option<AuthenticationResultParam>,
    /// Paths to expand in the answer.
    pub expand: Option<Vec<String>>,
}

/// Answers an open 3-D Secure challenge of a test session in its payer's place.
#[utoipa::path(post, path = "/v1/test_helpers/checkout/sessions/{id}/authenticate", tag = "Test helpers", operation_id = "authenticate_test_session", params(("id" = String, Path)),
    request_body(content((AuthenticateTestSession = "application/x-www-form-urlencoded"), (AuthenticateTestSession = "application/json"))),
    responses((status = 200, body = CheckoutSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn authenticate(Id(id): Id, call: Call) -> Result<Answer> {
    test_mode_only(&call)?;
    let params: AuthenticateTestSession = call.params()?;
    let answer = match params.result {
        None | Some(AuthenticationResultParam::Approve) => ChallengeAnswer::Approve,
        Some(AuthenticationResultParam::Fail) => ChallengeAnswer::Fail,
        Some(AuthenticationResultParam::Cancel) => ChallengeAnswer::Cancel,
    };
    test_mode::authenticate(&call.app, &call.write(), &id, answer, &expand(params.expand)?).await
}

/// Lets a test session run out of time: its deadline becomes now, and what the sweep does then is done.
#[utoipa::path(post, path = "/v1/test_helpers/checkout/sessions/{id}/expire", tag = "Test helpers", operation_id = "expire_test_session", params(("id" = String, Path)),
    request_body(content((ExpandParams = "application/x-www-form-urlencoded"), (ExpandParams = "application/json"))),
    responses((status = 200, body = CheckoutSession), (status = "4XX", body = ErrorEnvelope)))]
pub async fn expire(Id(id): Id, call: Call) -> Result<Answer> {
    test_mode_only(&call)?;
    let params: ExpandParams = call.params()?;
    test_mode::run_out_of_time(&call.app, &call.write(), &id, &expand(params.expand)?).await
}
