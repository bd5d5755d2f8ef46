//! The mailbox of a developer's machine: the mails that would have been sent, shown instead.
//!
//! The rule: a mail's HTML is foreign text. It is never part of a page here: it is a document of
//! its own whose policy gives it an origin of nobody, no script, no form and nothing to load.
//! Writing mails and keeping them is left to others.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;

use super::page::{Area, Frame, Moment, message_page, page, page_with_frame};
use crate::error::Error;
use crate::ops::mails::Mail;

/// Reads the mails that are kept, newest first.
pub type ReadMails = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<Mail>, Error>> + Send + Sync>;

/// The policy of a mail's HTML. The sandbox holds when it is opened by itself, too.
const MAIL_POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

#[derive(Template)]
#[template(path = "dev/mailbox.html")]
struct MailboxPage {
    frame: Frame,
    mails: Vec<Mail>,
}

impl MailboxPage {
    fn moment(&self, mail: &Mail) -> Moment {
        Moment(mail.created_at)
    }
}

#[derive(Template)]
#[template(path = "dev/mail.html")]
struct MailPage {
    frame: Frame,
    mail: Mail,
    written: Moment,
}

/// The mailbox's pages.
pub fn router(read_mails: ReadMails) -> Router {
    Router::new().route("/mailbox", get(list)).route("/mailbox/{id}", get(show)).with_state(read_mails)
}

/// The mails' own HTML. Apart from the pages, because it alone may stand in a frame.
pub fn framed_router(read_mails: ReadMails) -> Router {
    Router::new().route("/mailbox/{id}/html", get(show_html)).with_state(read_mails)
}

async fn list(State(read_mails): State<ReadMails>) -> Response {
    match read_mails().await {
        Ok(mails) => page(StatusCode::OK, &MailboxPage { frame: Frame::of(Area::Mailbox), mails }),
        Err(error) => unreadable(&error),
    }
}

async fn show(State(read_mails): State<ReadMails>, Path(id): Path<String>) -> Response {
    match find(&read_mails, &id).await {
        Ok(mail) => {
            let written = Moment(mail.created_at);
            page_with_frame(&MailPage { frame: Frame::of(Area::Mailbox), mail, written })
        }
        Err(answer) => answer,
    }
}

async fn show_html(State(read_mails): State<ReadMails>, Path(id): Path<String>) -> Response {
    let mail = match find(&read_mails, &id).await {
        Ok(mail) => mail,
        Err(answer) => return answer,
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(MAIL_POLICY)),
    ];
    (headers, mail.body_html).into_response()
}

async fn find(read_mails: &ReadMails, id: &str) -> Result<Mail, Response> {
    let mails = read_mails().await.map_err(|error| unreadable(&error))?;
    mails.into_iter().find(|mail| mail.id == id).ok_or_else(|| {
        message_page(
            StatusCode::NOT_FOUND,
            Area::Mailbox,
            "No such mail",
            "It was never written, or it is too old and was removed.",
        )
    })
}

fn unreadable(error: &Error) -> Response {
    tracing::error!(cause = ?error, "the development mailbox could not be read from the database");
    message_page(
        StatusCode::SERVICE_UNAVAILABLE,
        Area::Mailbox,
        "The mailbox cannot be read",
        "The database did not answer. The log of checkstand says why.",
    )
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use chrono::DateTime;
    use tower::ServiceExt as _;

    use super::*;

    fn mailbox() -> Router {
        let read_mails: ReadMails = Arc::new(|| {
            let mail = Mail {
                id: "mail_1".to_owned(),
                merchant_id: "acct_1".to_owned(),
                kind: "receipt".to_owned(),
                recipient: "ada@example.com".to_owned(),
                subject: "Receipt <1>".to_owned(),
                body_text: "You paid & <so on>".to_owned(),
                body_html: "<h1>You paid</h1><script>alert(1)</script>".to_owned(),
                session_id: Some("cs_test_1".to_owned()),
                created_at: DateTime::UNIX_EPOCH,
            };
            Box::pin(std::future::ready(Ok(vec![mail])))
        });
        router(Arc::clone(&read_mails)).merge(framed_router(read_mails))
    }

    async fn get_page(path: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = mailbox().oneshot(request).await.expect("infallible");
        let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (status, policy, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn the_pages_escape_what_the_mail_says_and_frame_its_html() {
        let (status, _, list) = get_page("/mailbox").await;
        assert_eq!(status, StatusCode::OK);
        assert!(list.contains("Receipt &#60;1&#62;"), "{list}");
        let (_, policy, mail) = get_page("/mailbox/mail_1").await;
        assert!(policy.contains("frame-src 'self'"));
        assert!(mail.contains("sandbox src=\"/mailbox/mail_1/html\""), "{mail}");
        assert!(mail.contains("You paid &#38; &#60;so on&#62;") && !mail.contains("<script>"));
    }

    #[tokio::test]
    async fn a_mails_html_is_a_document_of_nobody() {
        let (status, policy, body) = get_page("/mailbox/mail_1/html").await;
        assert_eq!(status, StatusCode::OK);
        assert!(policy.starts_with("sandbox; default-src 'none';"), "{policy}");
        assert!(body.contains("<h1>You paid</h1>"));
    }

    #[tokio::test]
    async fn an_unknown_mail_is_said_to_be_unknown() {
        assert_eq!(get_page("/mailbox/mail_2").await.0, StatusCode::NOT_FOUND);
        assert_eq!(get_page("/mailbox/mail_2/html").await.0, StatusCode::NOT_FOUND);
    }
}
