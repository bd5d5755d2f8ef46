//! Turns, so that one thing at a time is done with one charge in this process.
//!
//! Rule: what reads first and acts on what it read holds a turn meanwhile. Between processes the
//! claims of the operations and Stripe's own rules do the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as TurnMutex, OwnedMutexGuard};

/// So many charges are remembered before those that nobody holds are forgotten.
const FORGET_ABOVE: usize = 256;

/// The turns of all charges.
#[derive(Default)]
pub(super) struct Turns {
    by_name: Mutex<HashMap<String, Weak<TurnMutex<()>>>>,
}

impl Turns {
    /// Waits for the turn of that name; dropping the guard passes it on.
    pub(super) async fn take(&self, name: String) -> OwnedMutexGuard<()> {
        let turn = {
            let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
            if FORGET_ABOVE <= by_name.len() {
                by_name.retain(|_, turn| turn.strong_count() > 0);
            }
            let held = by_name.get(&name).and_then(Weak::upgrade);
            held.unwrap_or_else(|| {
                let turn = Arc::default();
                by_name.insert(name, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_name_is_held_once_and_forgotten_when_nobody_holds_it() {
        let turns = Turns::default();
        let held = turns.take("a".to_owned()).await;
        let _other = turns.take("b".to_owned()).await;
        {
            let waiting = turns.take("a".to_owned());
            tokio::pin!(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
            drop(held);
            waiting.await;
        }
        for number in 0..FORGET_ABOVE {
            drop(turns.take(number.to_string()).await);
        }
        assert!(turns.by_name.lock().expect("nobody panicked").len() <= FORGET_ABOVE);
    }
}
