//! Double entry: what each movement of money does to which account.
//!
//! The rule: the entries of one movement sum to zero, whatever the amounts. Accounts are seen from
//! the gateway: money comes from `payer` and ends with `merchant`, or goes back. Storing them once per
//! movement is the store's business.

/// Where money can be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Account {
    /// The payers' side: negative by what was taken from them.
    Payer,
    /// Reserved on cards and not taken.
    Authorized,
    /// What the merchant has earned.
    Merchant,
    /// What the provider keeps.
    Fees,
    /// Taken back by payers' banks until a dispute is decided.
    Disputed,
    /// Held in escrow: nobody's until it is released or goes back.
    Held,
    /// What sellers have earned in escrows. Paying it out happens outside.
    Seller,
}

impl Account {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Authorized => "authorized",
            Self::Merchant => "merchant",
            Self::Fees => "fees",
            Self::Disputed => "disputed",
            Self::Held => "held",
            Self::Seller => "seller",
        }
    }
}

/// One movement of money. Amounts are minor units above zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Movement {
    /// Reserved on a card.
    Authorized {
        /// How much.
        amount: i64,
    },
    /// Taken. Where it had been reserved, the rest of the reservation is let go.
    Captured {
        /// How much had been reserved; zero for a charge that was taken at once.
        authorized: i64,
        /// How much was taken.
        amount: i64,
    },
    /// A reservation was let go.
    Voided {
        /// How much.
        amount: i64,
    },
    /// Given back, at the merchant's word or by itself because its session had ended otherwise.
    Refunded {
        /// How much.
        amount: i64,
    },
    /// Did not reach the payer, some time after it was given back, and is the merchant's again.
    RefundReturned {
        /// How much.
        amount: i64,
    },
    /// Taken back by the payer's bank.
    Disputed {
        /// How much.
        amount: i64,
    },
    /// A dispute was decided for the merchant, who gets back what had been taken.
    DisputeWon {
        /// How much.
        amount: i64,
    },
    /// A dispute was decided for the payer, who keeps what had been taken.
    DisputeLost {
        /// How much.
        amount: i64,
    },
    /// Kept by the provider.
    Fee {
        /// How much.
        amount: i64,
    },
    /// Taken for an escrow.
    Held {
        /// How much.
        amount: i64,
    },
    /// Given back out of an escrow.
    Returned {
        /// How much.
        amount: i64,
    },
    /// Of what was held in an escrow, what the buyer's bank has taken back for good: the merchant, from whom it was
    /// taken, has it out of what was held.
    HeldLost {
        /// How much.
        amount: i64,
    },
    /// Let go out of an escrow; one of the two may be zero.
    Released {
        /// To the seller.
        seller: i64,
        /// To the merchant.
        merchant: i64,
    },
}

/// One line: an account and what comes to it, negative for what leaves it. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The account.
    pub account: Account,
    /// Minor units.
    pub amount: i64,
}

impl Movement {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorized { .. } => "authorized",
            Self::Captured { .. } => "captured",
            Self::Voided { .. } => "voided",
            Self::Refunded { .. } => "refunded",
            Self::RefundReturned { .. } => "refund_returned",
            Self::Disputed { .. } => "disputed",
            Self::DisputeWon { .. } => "dispute_won",
            Self::DisputeLost { .. } => "dispute_lost",
            Self::Fee { .. } => "fee",
            Self::Held { .. } => "held",
            Self::Returned { .. } => "returned",
            Self::HeldLost { .. } => "held_lost",
            Self::Released { .. } => "released",
        }
    }

    /// Its lines. They sum to zero.
    pub fn entries(self) -> Vec<Entry> {
        use Account::{Authorized, Disputed, Fees, Held, Merchant, Payer, Seller};
        let lines: Vec<(Account, i64)> = match self {
            Self::Authorized { amount } => vec![(Payer, -amount), (Authorized, amount)],
            Self::Captured { authorized: 0, amount } => vec![(Payer, -amount), (Merchant, amount)],
            Self::Captured { authorized, amount } => {
                vec![(Authorized, -authorized), (Merchant, amount), (Payer, authorized - amount)]
            }
            Self::Voided { amount } => vec![(Authorized, -amount), (Payer, amount)],
            Self::Refunded { amount } => vec![(Merchant, -amount), (Payer, amount)],
            Self::RefundReturned { amount } => vec![(Payer, -amount), (Merchant, amount)],
            Self::Disputed { amount } => vec![(Merchant, -amount), (Disputed, amount)],
            Self::DisputeWon { amount } => vec![(Disputed, -amount), (Merchant, amount)],
            Self::DisputeLost { amount } => vec![(Disputed, -amount), (Payer, amount)],
            Self::Fee { amount } => vec![(Merchant, -amount), (Fees, amount)],
            Self::Held { amount } => vec![(Payer, -amount), (Held, amount)],
            Self::Returned { amount } => vec![(Held, -amount), (Payer, amount)],
            Self::HeldLost { amount } => vec![(Held, -amount), (Merchant, amount)],
            Self::Released { seller, merchant } => {
                vec![(Held, -(seller + merchant)), (Seller, seller), (Merchant, merchant)]
            }
        };
        lines
            .into_iter()
            .filter(|(_, amount)| *amount != 0)
            .map(|(account, amount)| Entry { account, amount })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn movement() -> impl Strategy<Value = Movement> {
        let amount = 1..=999_999_999_999_i64;
        (0..14, amount, 0..=999_999_999_i64).prop_map(|(kind, amount, more)| match kind {
            0 => Movement::Authorized { amount },
            1 => Movement::Captured { authorized: 0, amount },
            2 => Movement::Captured { authorized: amount + more, amount },
            3 => Movement::Voided { amount },
            4 => Movement::Refunded { amount },
            5 => Movement::Disputed { amount },
            6 => Movement::DisputeWon { amount },
            7 => Movement::DisputeLost { amount },
            8 => Movement::Held { amount },
            9 => Movement::Returned { amount },
            10 => Movement::Released { seller: amount, merchant: more },
            11 => Movement::RefundReturned { amount },
            12 => Movement::HeldLost { amount },
            _ => Movement::Fee { amount },
        })
    }

    fn balances(movements: &[Movement]) -> HashMap<Account, i64> {
        let mut balances = HashMap::new();
        for entry in movements.iter().flat_map(|movement| movement.entries()) {
            *balances.entry(entry.account).or_default() += entry.amount;
        }
        balances.retain(|_, amount| *amount != 0);
        balances
    }

    proptest! {
        #[test]
        fn every_sequence_of_movements_sums_to_zero(movements in prop::collection::vec(movement(), 0..50)) {
            for movement in &movements {
                let entries = movement.entries();
                prop_assert_eq!(entries.iter().map(|entry| entry.amount).sum::<i64>(), 0);
                prop_assert!(entries.iter().all(|entry| entry.amount != 0));
            }
            prop_assert_eq!(balances(&movements).values().sum::<i64>(), 0);
        }

        #[test]
        fn what_comes_and_goes_leaves_nothing(amount in 1..=999_999_999_999_i64, taken in 1..=999_999_999_999_i64) {
            let (amount, taken) = (amount.max(taken), amount.min(taken));
            let reserved = Movement::Authorized { amount };
            let captured = Movement::Captured { authorized: amount, amount: taken };
            let voided = [reserved, Movement::Voided { amount }];
            prop_assert!(balances(&voided).is_empty());
            let refunded = [reserved, captured, Movement::Refunded { amount: taken }];
            prop_assert!(balances(&refunded).is_empty());
            let disputed = [reserved, captured, Movement::Disputed { amount: taken }];
            let lost = [&disputed[..], &[Movement::DisputeLost { amount: taken }]].concat();
            prop_assert!(balances(&lost).is_empty());
            let won = [&disputed[..], &[Movement::DisputeWon { amount: taken }]].concat();
            prop_assert_eq!(balances(&won), HashMap::from([(Account::Payer, -taken), (Account::Merchant, taken)]));
        }
    }
}
