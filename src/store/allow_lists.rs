//! Allow-lists of redirect URLs that were read lately, so that making a session need not read its
//! merchant's again each time.
//!
//! The rule: a list that was being read while one was deleted from is not remembered. What a
//! remembered list does not allow is asked for again by whoever would refuse it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::id::MerchantId;
use crate::domain::redirect::AllowedRedirect;

/// How long a list is believed. Another replica's deletion takes effect within this time; an addition
/// at once.
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

/// The moment in which reading a list began.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    deletions: u64,
    began_at: Instant,
}

impl AllowLists {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list as it was a few seconds ago at most.
    pub fn recent(&self, merchant: &MerchantId, livemode: bool) -> Option<AllowList> {
        let (list, read_at) = self.lock().lists.get(&(merchant.clone(), livemode)).cloned()?;
        (read_at.elapsed() < LIST_LIFETIME).then_some(list)
    }

    /// To be asked before a list is read.
    pub fn reading(&self) -> Reading {
        Reading { deletions: self.lock().deletions, began_at: Instant::now() }
    }

    /// Remembers a list, unless something was deleted since its reading began.
    pub fn remember(&self, merchant: &MerchantId, livemode: bool, list: &AllowList, reading: Reading) {
        let mut remembered = self.lock();
        if remembered.deletions != reading.deletions {
            return;
        }
        if remembered.lists.len() >= LISTS_MAX {
            remembered.lists.clear();
        }
        remembered.lists.insert((merchant.clone(), livemode), (Arc::clone(list), reading.began_at));
    }

    /// Forgets a list that something was deleted from.
    pub fn forget(&self, merchant: &MerchantId, livemode: bool) {
        let mut remembered = self.lock();
        remembered.deletions += 1;
        remembered.lists.remove(&(merchant.clone(), livemode));
    }
}
