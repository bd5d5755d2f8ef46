//! Reads the forms of acts: the plain ones, and the one that brings files.
//!
//! The rule: a form with files is bounded as a whole and file by file while it is read, a file's kind is
//! told by its content, and nothing of it is believed before the form has proven that it is ours.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use multer::{Constraints, Multipart, SizeLimit};

use super::browser::{Browser, FormOrigin, form_origin};
use super::checkout::{Form, trusted_form};
use super::page::Pages;
use super::views::{ActError, ActField, ActTyped, MessageKind};
use crate::domain::escrow::{Act, DISPUTE_REASONS, REASON_CHARS_MAX, SIGNATURE_NAME_CHARS_MAX};
use crate::domain::escrow_acts::Request;
use crate::domain::escrow_files::{FILE_BYTES_MAX, FILES_MAX, FileKind};
use crate::domain::session::Session;
use crate::domain::unseen::{Lines, first_unseen};
use crate::ops::escrow_acts::HandedInFile;

/// Bytes of a form with files that are read at all: a few pictures as phones take them, so that the page can say which
/// is too large. Of a file no more is kept than is taken.
const FILES_FORM_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// Characters of a file's name that are shown again.
const SHOWN_NAME_CHARS_MAX: usize = 60;

/// Largest text field in a form with files: the longest text in its longest encoding.
const TEXT_BYTES_MAX: u64 = 16 * 1024;

/// Parts read of one form; a browser sends the four fields and at most as many files as are taken, or says
/// of one more that it is too many.
const PARTS_MAX: usize = 16;

/// What an act's form says.
#[derive(Default)]
pub struct ActForm {
    csrf_token: String,
    typed: ActTyped,
    consent: bool,
    files: Vec<HandedInFile>,
    trouble: Option<String>,
}

impl ActForm {
    fn take(&mut self, name: &str, value: String) {
        match name {
            "csrf_token" => self.csrf_token = value,
            "name" => self.typed.name = value.trim().to_owned(),
            "reason" => self.typed.reason = value,
            // Browsers send line ends as two characters and count them as one.
            "text" => value.replace("\r\n", "\n").trim().clone_into(&mut self.typed.text),
            "consent" => self.consent = value == "yes",
            _ => {}
        }
    }

    fn of(form: &Form) -> Self {
        let mut read = Self::default();
        for name in ["name", "reason", "text", "consent"] {
            read.take(name, form.field(name).to_owned());
        }
        read
    }

    /// What was typed, to be shown again.
    pub fn typed(&self) -> ActTyped {
        self.typed.clone()
    }

    /// What the form asks for, with the name and the files that go with it.
    ///
    /// # Errors
    /// What to put right, field by field.
    pub fn request(self, act: Act) -> Result<(Request, Option<String>, Vec<HandedInFile>), Vec<ActError>> {
        let mut errors = Vec::new();
        let mut wrong = |field, message: &str| errors.push(ActError { field, message: message.to_owned() });
        let ActTyped { name, reason, text } = self.typed;
        if act == Act::SignContract {
            let is_seen = first_unseen(&name, Lines::One).is_none_or(char::is_control);
            if name.chars().filter(|one| one.is_alphabetic()).count() < 2 || !is_seen {
                wrong(ActField::Name, "Enter your full name, in letters.");
            } else if name.chars().count() > SIGNATURE_NAME_CHARS_MAX || name.chars().any(char::is_control) {
                wrong(ActField::Name, "Enter your name in one line of at most 100 characters.");
            }
            if !self.consent {
                wrong(ActField::Consent, "Tick the box to sign the contract.");
            }
        }
        if act == Act::Dispute && !DISPUTE_REASONS.contains(&reason.as_str()) {
            wrong(ActField::Reason, "Choose what is wrong.");
        }
        if matches!(act, Act::Dispute | Act::RequestCancellation | Act::RejectCancellation) {
            if text.is_empty() {
                let message = if act == Act::Dispute { "Say what happened." } else { "Say why." };
                wrong(ActField::Text, message);
            } else if text.chars().count() > REASON_CHARS_MAX {
                wrong(ActField::Text, "Use at most 2,000 characters.");
            } else if let Some(one) = first_unseen(&text, Lines::Many) {
                // The other side reads it: what it does not show, or shows the other way round, is not said.
                let message = format!("Leave the character U+{:04X} out: it cannot be seen.", u32::from(one));
                wrong(ActField::Text, &message);
            }
        }
        if let Some(message) = &self.trouble {
            wrong(ActField::Files, message);
        }
        let request = match act {
            Act::SignContract => Request::SignContract,
            Act::Dispute => Request::Dispute { reason, text },
            Act::RequestCancellation => Request::RequestCancellation { reason: text },
            Act::AcceptCancellation => Request::AcceptCancellation,
            Act::RejectCancellation => Request::RejectCancellation { reason: text },
            Act::CancelEscrow => Request::CancelEscrow,
            _ => Request::Complete,
        };
        if errors.is_empty() {
            // Only a dispute asks for files; what another form brings was not asked for and is not kept.
            let files = if act == Act::Dispute { self.files } else { Vec::new() };
            Ok((request, (act == Act::SignContract).then_some(name), files))
        } else {
            Err(errors)
        }
    }
}

/// Reads an act's form that is proven to come from our page in this browser.
pub async fn read(
    pages: &Pages,
    session: &Session,
    headers: &HeaderMap,
    body: Body,
    browser: &Browser,
) -> Result<ActForm, MessageKind> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(boundary) = multer::parse_boundary(media_type) else {
        return Ok(ActForm::of(&trusted_form(pages, session, headers, body, browser).await?));
    };
    if form_origin(headers, &pages.app.settings) == FormOrigin::Elsewhere {
        return Err(MessageKind::RequestRefused);
    }
    if browser.is_new() {
        return Err(MessageKind::CookiesMissing);
    }
    let form = with_files(body, boundary).await?;
    if !browser.sent(&pages.app.keyring, &session.id, &form.csrf_token) {
        return Err(MessageKind::RequestRefused);
    }
    Ok(form)
}

fn refused(error: &multer::Error) -> MessageKind {
    match error {
        multer::Error::FieldSizeExceeded { .. } | multer::Error::StreamSizeExceeded { .. } => MessageKind::TooLarge,
        _ => MessageKind::RequestRefused,
    }
}

/// A file's name for a sentence, without what could not be seen or would turn it round.
fn shown_name(file_name: &str) -> String {
    let plain = |one: &char| one.is_alphanumeric() || " .-_()".contains(*one);
    let name: String = file_name.chars().filter(plain).take(SHOWN_NAME_CHARS_MAX).collect();
    if name.trim().is_empty() { "A file".to_owned() } else { format!("“{}”", name.trim()) }
}

async fn with_files(body: Body, boundary: String) -> Result<ActForm, MessageKind> {
    let limits = SizeLimit::new()
        .whole_stream(FILES_FORM_BYTES_MAX)
        .per_field(TEXT_BYTES_MAX)
        .for_field("files", FILES_FORM_BYTES_MAX);
    let constraints = Constraints::new().size_limit(limits);
    let mut parts = Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
    let mut form = ActForm::default();
    for _ in 0..PARTS_MAX {
        let Some(mut part) = parts.next_field().await.map_err(|error| refused(&error))? else { return Ok(form) };
        let name = part.name().unwrap_or_default().to_owned();
        if name != "files" {
            let value = part.text().await.map_err(|error| refused(&error))?;
            form.take(&name, value);
            continue;
        }
        let file_name = part.file_name().unwrap_or_default().to_owned();
        let mut content = Vec::new();
        let mut is_too_large = false;
        while let Some(chunk) = part.chunk().await.map_err(|error| refused(&error))? {
            is_too_large |= content.len() + chunk.len() > FILE_BYTES_MAX;
            if !is_too_large {
                content.extend_from_slice(&chunk);
            }
        }
        // A browser sends one empty part without a name where no file was chosen.
        if content.is_empty() && !is_too_large && file_name.is_empty() {
            continue;
        }
        let shown = shown_name(&file_name);
        if is_too_large {
            form.trouble = Some(format!("{shown} is larger than 2 MB. Choose files of at most 2 MB each."));
        } else if content.is_empty() {
            form.trouble = Some(format!("{shown} is empty. Choose another file, or none."));
        } else if form.files.len() == FILES_MAX {
            form.trouble = Some("Choose at most 3 files.".to_owned());
        } else if let Some(kind) = FileKind::of(&content) {
            form.files.push(HandedInFile { name: file_name, kind, content });
        } else {
            form.trouble = Some("Choose pictures (PNG, JPEG, WebP) or PDFs only.".to_owned());
        }
    }
    Err(MessageKind::TooLarge)
}
