//! The allow-list of redirect URLs, as merchants and operators manage it.

use super::Caller;
use super::replay::{Answer, Write};
use crate::app::App;
use crate::domain::id::RedirectUrlId;
use crate::domain::redirect::AllowedRedirect;
use crate::error::{Error, Result};
use crate::store::Page;
use crate::store::allow_lists::AllowList;
use crate::store::merchants::{self, RedirectInserted, StoredRedirect};
use crate::wire::redirect_url::RedirectUrl;
use crate::wire::{Deleted, List};

/// Entries that one merchant may have in one mode. All of them are read when a session is made.
pub const REDIRECT_URLS_MAX: i64 = 100;

fn render(redirect: &StoredRedirect) -> RedirectUrl {
    RedirectUrl {
        id: redirect.id.to_string(),
        object: "redirect_url",
        created: redirect.created_at.timestamp(),
        livemode: redirect.livemode,
        url: redirect.allowed.to_string(),
    }
}

/// Allows a redirect URL.
///
/// # Errors
/// `Invalid` for a malformed one, for one that is there already, and beyond [`REDIRECT_URLS_MAX`].
pub async fn create(app: &App, write: &Write, url: &str) -> Result<Answer> {
    let caller = &write.caller;
    let allowed = AllowedRedirect::parse(url, caller.livemode)
        .map_err(|error| Error::invalid("url_invalid", "url", format!("`url` {}.", error.message())))?;
    write
        .once(app, async |connection, now| {
            let redirect = StoredRedirect {
                id: RedirectUrlId::generate(now),
                livemode: caller.livemode,
                allowed: allowed.clone(),
                created_at: now,
            };
            match merchants::insert_redirect(connection, &caller.merchant_id, &redirect, REDIRECT_URLS_MAX).await? {
                RedirectInserted::Done => Ok((Answer::new(&render(&redirect)), Vec::new())),
                RedirectInserted::AlreadyThere => {
                    Err(Error::invalid("resource_already_exists", "url", "This redirect URL is allowed already."))
                }
                RedirectInserted::TooMany => {
                    let message = format!(
                        "At most {REDIRECT_URLS_MAX} redirect URLs are kept; delete one that is not used any more."
                    );
                    Err(Error::invalid("redirect_urls_limit", "url", message))
                }
            }
        })
        .await
}

/// The allow-list as it was a few seconds ago at most. Whoever would refuse something by it asks
/// [`all`] first.
///
/// # Errors
/// The database's.
pub async fn remembered(app: &App, caller: &Caller) -> Result<AllowList> {
    match app.allow_lists.recent(&caller.merchant_id, caller.livemode) {
        Some(list) => Ok(list),
        None => Box::pin(all(app, caller)).await,
    }
}

/// The whole allow-list of the caller's mode, for judging a session's URLs.
///
/// # Errors
/// The database's.
pub async fn all(app: &App, caller: &Caller) -> Result<AllowList> {
    let reading = app.allow_lists.reading();
    let page = Page { limit: REDIRECT_URLS_MAX, starting_after: None, ending_before: None };
    let rows = merchants::list_redirects(app.store.pool(), &caller.merchant_id, caller.livemode, &page).await?;
    let list: AllowList = rows.into_iter().map(|redirect| redirect.allowed).collect();
    app.allow_lists.remember(&caller.merchant_id, caller.livemode, &list, reading);
    Ok(list)
}

/// One entry.
///
/// # Errors
/// `NotFound`.
pub async fn retrieve(app: &App, caller: &Caller, id: &str) -> Result<RedirectUrl> {
    let absent = || Error::not_found("redirect_url", id);
    let id = RedirectUrlId::parse(id).ok_or_else(absent)?;
    let found = merchants::find_redirect(app.store.pool(), &caller.merchant_id, caller.livemode, &id).await?;
    Ok(render(&found.ok_or_else(absent)?))
}

/// A page of the list.
///
/// # Errors
/// The database's.
pub async fn list(app: &App, caller: &Caller, page: &Page) -> Result<List<RedirectUrl>> {
    let mut rows = merchants::list_redirects(app.store.pool(), &caller.merchant_id, caller.livemode, page).await?;
    let has_more = page.cut(&mut rows);
    Ok(List::new("/v1/redirect_urls", rows.iter().map(render).collect(), has_more))
}

/// Disallows a redirect URL for new sessions; sessions made under it keep theirs.
///
/// # Errors
/// `NotFound`.
pub async fn delete(app: &App, caller: &Caller, id: &str) -> Result<Deleted> {
    let absent = || Error::not_found("redirect_url", id);
    let parsed = RedirectUrlId::parse(id).ok_or_else(absent)?;
    if !merchants::delete_redirect(app.store.pool(), &caller.merchant_id, caller.livemode, &parsed).await? {
        return Err(absent());
    }
    app.allow_lists.forget(&caller.merchant_id, caller.livemode);
    Ok(Deleted { id: parsed.to_string(), object: "redirect_url", deleted: true })
}
