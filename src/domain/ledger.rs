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
    /// Taken back by the payer's bank.
    Disputed {
        /// How much.
        amount: i64,
    },
    /// Kept by the provider.
    Fee {
        /// How much.
        amount: i64,
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
            Self::Disputed { .. } => "disputed",
            Self::Fee { .. } => "fee",
        }
    }

    /// Its lines. They sum to zero.
    pub fn entries(self) -> Vec<Entry> {
        use Account::{Authorized, Disputed, Fees, Merchant, Payer};
        let lines: Vec<(Account, i64)> = match self {
            Self::Authorized { amount } => vec![(Payer, -amount), (Authorized, amount)],
            Self::Captured { authorized: 0, amount } => vec![(Payer, -amount), (Merchant, amount)],
            Self::Captured { authorized, amount } => {
                vec![(Authorized, -authorized), (Merchant, amount), (Payer, authorized - amount)]
            }
            Self::Voided { amount } => vec![(Authorized, -amount), (Payer, amount)],
            Self::Refunded { amount } => vec![(Merchant, -amount), (Payer, amount)],
            Self::Disputed { amount } => vec![(Merchant, -amount), (Disputed, amount)],
            Self::Fee { amount } => vec![(Merchant, -amount), (Fees, amount)],
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
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_movement_sums_to_zero(amount in 1..=999_999_999_999_i64, more in 0..=999_999_999_i64) {
            for movement in [
                Movement::Authorized { amount },
                Movement::Captured { authorized: 0, amount },
                Movement::Captured { authorized: amount + more, amount },
                Movement::Voided { amount },
                Movement::Refunded { amount },
                Movement::Disputed { amount },
                Movement::Fee { amount },
            ] {
                let entries = movement.entries();
                proptest::prop_assert_eq!(entries.iter().map(|entry| entry.amount).sum::<i64>(), 0);
                proptest::prop_assert!(entries.iter().all(|entry| entry.amount != 0));
            }
        }
    }
}
