//! The allow-list of redirect URLs, as merchants and operators manage it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Caller;
use super::replay::{Answer, Write};
use crate::app::App;
use crate::domain::id::{MerchantId, RedirectUrlId};
use crate::domain::redirect::AllowedRedirect;
use crate::error::{Error, Result};
use crate::store::Page;
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

/// How long a list is believed. Another replica's deletion takes effect within this time; an addition
/// at once, because what a remembered list does not allow is asked for again.
const LIST_LIFETIME: Duration = Duration::from_secs(3);

/// Lists remembered at most; beyond that the memory is emptied and filled anew.
const LISTS_MAX: usize = 1_000;

/// A whole allow-list.
pub type AllowList = Arc<[AllowedRedirect]>;

/// Allow-lists seen lately, by merchant and mode.
#[derive(Default)]
pub struct AllowLists(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    lists: HashMap<(MerchantId, bool), (AllowList, Instant)>,
    /// Grows with every deletion, so that a list read before one is not remembered after it.
    deletions: u64,
}

impl AllowLists {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, caller: &Caller) {
        let mut remembered = self.lock();
        remembered.deletions += 1;
        remembered.lists.remove(&(caller.merchant_id.clone(), caller.livemode));
    }
}

/// The allow-list as it was a few seconds ago at most. Whoever would refuse something by it asks
/// [`all`] first.
///
/// # Errors
/// The database's.
pub async fn remembered(app: &App, caller: &Caller) -> Result<AllowList> {
    let place = (caller.merchant_id.clone(), caller.livemode);
    let known = app.allow_lists.lock().lists.get(&place).cloned();
    match known {
        Some((list, read_at)) if read_at.elapsed() < LIST_LIFETIME => Ok(list),
        _ => all(app, caller).await,
    }
}

/// The whole allow-list of the caller's mode, for judging a session's URLs.
///
/// # Errors
/// The database's.
pub async fn all(app: &App, caller: &Caller) -> Result<AllowList> {
    let (deletions, read_at) = (app.allow_lists.lock().deletions, Instant::now());
    let page = Page { limit: REDIRECT_URLS_MAX, starting_after: None, ending_before: None };
    let rows = merchants::list_redirects(app.store.pool(), &caller.merchant_id, caller.livemode, &page).await?;
    let list: AllowList = rows.into_iter().map(|redirect| redirect.allowed).collect();
    let mut remembered = app.allow_lists.lock();
    if remembered.deletions == deletions {
        if remembered.lists.len() >= LISTS_MAX {
            remembered.lists.clear();
        }
        remembered.lists.insert((caller.merchant_id.clone(), caller.livemode), (Arc::clone(&list), read_at));
    }
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
    app.allow_lists.forget(caller);
    Ok(Deleted { id: parsed.to_string(), object: "redirect_url", deleted: true })
}
