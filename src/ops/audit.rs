//! The audit: whether the books of a database are right, and what is wrong in words to act on.
//!
//! The rule: it only reads, from one moment, and what it tells is bounded. Each rule has a name for
//! programs and a sentence for people; each finding names the row and what to do first. The questions
//! themselves are `store::audit`'s.

use serde::Serialize;

use crate::error::Result;
use crate::store::audit::{BrokenRow, Check, Snapshot};
use crate::store::escrow_history::{BrokenChain, WrongBooks};
use crate::store::escrow_replay::WrongEvidence;

/// How an audit is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Findings told of one rule at most, 1 to 1000; all are counted.
    pub findings_max: i64,
    /// Minutes after which something in doubt is told, 0 to a week.
    pub doubts_after_minutes: i32,
}

/// What an audit found.
#[derive(Serialize, Debug)]
pub struct Audit {
    /// Always `audit`.
    pub object: &'static str,
    /// Whether every rule holds.
    pub clean: bool,
    /// The rules, in the order they were judged.
    pub rules: Vec<Rule>,
    /// What has been in doubt for long. Not a broken rule: it settles when the provider answers.
    pub doubts: Rule,
}

/// A rule and what breaks it.
#[derive(Serialize, Debug)]
pub struct Rule {
    /// Its name for programs.
    pub name: &'static str,
    /// What must hold.
    pub rule: &'static str,
    /// How many rows break it.
    pub broken: i64,
    /// The first of them.
    pub findings: Vec<Finding>,
}

/// A row that breaks a rule.
#[derive(Serialize, Debug)]
pub struct Finding {
    /// The row's id, or a currency.
    pub id: String,
    /// What is wrong and what to do first.
    pub sentence: String,
}

/// Judges the database behind `url`.
///
/// # Errors
/// When the database cannot be used or its schema is not this binary's; then nothing is known.
pub async fn run(url: &str, options: Options) -> Result<Audit> {
    let mut snapshot = Snapshot::take(url).await?;
    let mut rules = Vec::with_capacity(Check::ALL.len());
    for check in Check::ALL {
        if check.is_of_simulator() && !snapshot.has_simulator {
            continue;
        }
        let broken = snapshot.ask(check, options.findings_max).await?;
        let (name, rule) = described(check);
        let findings = broken.rows.into_iter().map(|row| finding(row, |row| sentence(check, row))).collect();
        rules.push(Rule { name, rule, broken: broken.total, findings });
    }
    rules.push(escrow_histories(snapshot.broken_chains().await?, options.findings_max));
    rules.push(escrow_evidence(snapshot.wrong_evidence(options.findings_max).await?));
    rules.push(escrow_books(snapshot.wrong_books(options.findings_max).await?));
    let old = snapshot.old_doubts(options.doubts_after_minutes, options.findings_max).await?;
    snapshot.end().await?;
    let doubts = Rule {
        name: "no_old_doubts",
        rule: "what a provider has not answered becomes known within minutes",
        broken: old.total,
        findings: old.rows.into_iter().map(|row| finding(row, doubt)).collect(),
    };
    Ok(Audit { object: "audit", clean: rules.iter().all(|rule| rule.broken == 0), rules, doubts })
}

fn escrow_histories(chains: Vec<BrokenChain>, findings_max: i64) -> Rule {
    let broken = i64::try_from(chains.len()).unwrap_or(i64::MAX);
    let shown = usize::try_from(findings_max).unwrap_or(usize::MAX);
    let findings = chains.into_iter().take(shown).map(|chain| Finding {
        sentence: format!(
            "the history of escrow {} is broken at entry {}: {}. Somebody wrote to the table by hand: compare it with a backup before anything is decided by it",
            chain.escrow_id, chain.number, chain.what
        ),
        id: chain.escrow_id,
    });
    Rule {
        name: "escrow_histories_whole",
        rule: "the history of each escrow is complete and chained by its hashes",
        broken,
        findings: findings.collect(),
    }
}

fn escrow_evidence((broken, wrong): (i64, Vec<WrongEvidence>)) -> Rule {
    let findings = wrong.into_iter().map(|wrong| Finding {
        sentence: format!(
            "{} of escrow {} {}. Somebody wrote to the tables by hand: the history, while its chain is whole, says what it was",
            wrong.thing, wrong.escrow_id, wrong.fault
        ),
        id: wrong.escrow_id,
    });
    Rule {
        name: "escrow_evidence_fits",
        rule: "deal, signatures, files, words, times and amounts of each escrow are what its history says",
        broken,
        findings: findings.collect(),
    }
}

fn escrow_books((broken, books): (i64, Vec<WrongBooks>)) -> Rule {
    let findings = books.into_iter().map(|wrong| Finding {
        sentence: format!(
            "the ledger holds {} for escrow {} and its status says {}. Look at its history and its refunds; pay nothing out until they agree",
            wrong.held, wrong.escrow_id, wrong.expected
        ),
        id: wrong.escrow_id,
    });
    Rule {
        name: "escrow_books_fit",
        rule: "the ledger holds for each escrow what its status says",
        broken,
        findings: findings.collect(),
    }
}

fn finding(row: BrokenRow, words: impl Fn(&BrokenRow) -> String) -> Finding {
    let sentence = words(&row);
    Finding { id: row.id, sentence }
}

/// A rule's name and what it says.
fn described(check: Check) -> (&'static str, &'static str) {
    match check {
        Check::OneLiveCharge => {
            ("one_live_charge", "a session has at most one charge that holds money or may yet take it")
        }
        Check::SessionsFitCharges => ("sessions_fit_charges", "a session's state fits its charges"),
        Check::PaymentsFitCharges => ("payments_fit_charges", "a payment's status and amounts fit its charges"),
        Check::SessionsFollowEvents => {
            ("sessions_follow_events", "a session's events, replayed, give its state, and nothing follows its end")
        }
        Check::PaymentsFollowEvents => ("payments_follow_events", "a payment's events, replayed, give its status"),
        Check::ChargesFollowEvents => ("charges_follow_events", "a charge's events, replayed, give its state"),
        Check::RefundsFollowEvents => ("refunds_follow_events", "a refund's events, replayed, give its state"),
        Check::EventsWithoutGaps => {
            ("events_without_gaps", "the events of a session are numbered from 1 without a gap")
        }
        Check::NoMoneyForEndedSessions => {
            ("no_money_for_ended_sessions", "no money is kept or reserved for a session that ended unpaid")
        }
        Check::RefundsWithinCaptures => {
            ("refunds_within_captures", "refunds agree with their charge and never exceed what was captured")
        }
        Check::MovementsBalance => ("movements_balance", "the ledger's entries of each movement sum to zero"),
        Check::CurrenciesBalance => ("currencies_balance", "the ledger's entries of each currency sum to zero"),
        Check::LedgerFitsCharges => ("ledger_fits_charges", "the ledger says of each charge what its row says"),
        Check::DisputesWithinCaptures => (
            "disputes_within_captures",
            "disputes agree with their charge and with refunds never exceed what was captured, unless the provider did so",
        ),
        Check::LedgerFitsDisputes => ("ledger_fits_disputes", "the ledger says of each dispute what its row says"),
        Check::FeesBookedOnce => {
            ("fees_booked_once", "what providers keep is booked once, as the charge or dispute says")
        }
        Check::SimulatorAgreesOnDisputes => {
            ("simulator_agrees_on_disputes", "the simulator's books say of each dispute what ours say")
        }
        Check::SimulatorAgreesOnCharges => {
            ("simulator_agrees_on_charges", "the simulator's books say of each charge what ours say")
        }
        Check::SimulatorAgreesOnRefunds => {
            ("simulator_agrees_on_refunds", "the simulator's books say of each refund what ours say")
        }
    }
}

/// What is wrong with a row and what to do first.
fn sentence(check: Check, row: &BrokenRow) -> String {
    let id = &row.id;
    let fact = |place: usize| row.facts.get(place).map_or("", String::as_str);
    let or_none = |place: usize| if fact(place).is_empty() { "none" } else { fact(place) };
    match check {
        Check::OneLiveCharge => format!(
            "session {id} has several live charges: {}. Its payer may have paid twice: look each up at its provider, keep one and give the others back",
            fact(0)
        ),
        Check::SessionsFitCharges => format!(
            "session {id} is {} but its charges are: {}. What its provider says of the charges decides; the session's row or a charge's row was changed by something else than the gateway",
            fact(0),
            or_none(1)
        ),
        Check::PaymentsFitCharges => format!(
            "payment {id} is {} with {} of {} {} received but its charges are: {}. What the provider says of the charges decides",
            fact(0),
            fact(1),
            fact(2),
            fact(3),
            or_none(4)
        ),
        Check::SessionsFollowEvents => format!(
            "session {id} is {} in its row, but its {} ending event(s) say: {}; the first of them has number {}, and the last event before an end has number {}. The merchant was told something else than what is stored",
            fact(0),
            fact(2),
            fact(1),
            or_none(3),
            or_none(4)
        ),
        Check::PaymentsFollowEvents => format!(
            "payment {id} of session {} is {} in its row, but the last event about it is: {}. The merchant was told something else than what is stored",
            fact(2),
            fact(0),
            or_none(1)
        ),
        Check::ChargesFollowEvents => format!(
            "charge {id} of session {} is {} in its row, but the events about it are: {}. The merchant was told something else than what is stored",
            fact(2),
            fact(0),
            or_none(1)
        ),
        Check::RefundsFollowEvents => format!(
            "refund {id} of charge {} is {} in its row, but the events about it are: {}. The merchant was told something else than what is stored",
            fact(2),
            fact(0),
            or_none(1)
        ),
        Check::EventsWithoutGaps => format!(
            "session {id} has announced {} event(s) by its row, but {} are stored, numbered {} to {}, {} of them twice. Events were lost or doubled: send the merchant what is missing",
            or_none(0),
            fact(1),
            or_none(2),
            or_none(3),
            if fact(4).is_empty() { "0" } else { fact(4) }
        ),
        Check::NoMoneyForEndedSessions => format!(
            "session {id} is {}, but charge {} ({}) still holds {} {} at {}. The payer was told that nothing was taken: give it back now",
            fact(0),
            fact(1),
            fact(2),
            fact(3),
            fact(4),
            fact(5)
        ),
        Check::RefundsWithinCaptures => format!(
            "charge {id} captured {} {}, its row says that {} were refunded, its refunds say {} and {} more are pending. Stop refunding it and compare with the provider's list of refunds",
            fact(0),
            fact(4),
            fact(1),
            fact(2),
            fact(3)
        ),
        Check::MovementsBalance => format!(
            "the {} ledger entries of {id}, movement {}, sum to {} {} and not to zero. An entry was lost or changed",
            fact(3),
            fact(0),
            fact(1),
            fact(2)
        ),
        Check::CurrenciesBalance => {
            format!(
                "the {} ledger entries in {id} sum to {} and not to zero. See the movements above",
                fact(1),
                fact(0)
            )
        }
        Check::LedgerFitsCharges if fact(0).is_empty() => {
            format!("the ledger has entries of {id}, but there is no such charge or refund")
        }
        Check::LedgerFitsCharges => format!(
            "charge {id} is {} in {}: by its row {} reserved, {} captured, {} refunded; by the ledger ({}) {} reserved, {} captured, {} refunded",
            fact(0),
            fact(1),
            fact(2),
            fact(4),
            fact(6),
            or_none(8),
            fact(3),
            fact(5),
            fact(7)
        ),
        Check::DisputesWithinCaptures => format!(
            "charge {id} captured {} {} and refunded {}; by its row disputes hold {} of it, by its disputes {}. Compare with the provider's list of disputes, and refund nothing meanwhile",
            fact(0),
            fact(4),
            fact(1),
            fact(2),
            fact(3)
        ),
        Check::LedgerFitsDisputes if fact(0).is_empty() => {
            format!("the ledger has movements of a dispute {id}, but there is no such dispute")
        }
        Check::LedgerFitsDisputes => format!(
            "dispute {id} is {}: by its row {} withdrawn, {} reinstated; by the ledger ({}) {} withdrawn, {} reinstated, {} lost. An entry was lost or added: the provider's list of disputes decides",
            fact(0),
            fact(1),
            fact(2),
            or_none(6),
            fact(3),
            fact(4),
            fact(5)
        ),
        Check::FeesBookedOnce => format!(
            "the provider keeps {} {} of {id} by its row, and {} by the ledger ({}). Compare with the provider's statement",
            or_none(0),
            fact(2),
            fact(1),
            or_none(3)
        ),
        Check::SimulatorAgreesOnDisputes => format!(
            "dispute {id} of charge {}: ours is {} over {}; the simulator's is {} over {}",
            fact(4),
            or_none(0),
            or_none(1),
            or_none(2),
            or_none(3)
        ),
        Check::SimulatorAgreesOnCharges => format!(
            "charge {id} ({}): ours is {} with {} reserved, {} captured, {} refunded; the simulator's is {} with {} reserved, {} captured, {} refunded",
            fact(8),
            or_none(0),
            or_none(1),
            or_none(2),
            or_none(3),
            or_none(4),
            or_none(5),
            or_none(6),
            or_none(7)
        ),
        Check::SimulatorAgreesOnRefunds => format!(
            "refund {id} of charge {}: ours is {} over {}; the simulator gave back {}",
            fact(3),
            or_none(0),
            or_none(1),
            or_none(2)
        ),
    }
}

fn doubt(row: &BrokenRow) -> String {
    let fact = |place: usize| row.facts.get(place).map_or("", String::as_str);
    format!(
        "{} {} ({}) has waited {} minutes for {}, which was asked {} times. It settles by itself when the provider answers; see whether a worker runs and what its log says of this id",
        fact(0),
        row.id,
        fact(1),
        fact(4),
        fact(3),
        fact(2)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_name_of_its_own_and_tells_of_whom() {
        let mut names: Vec<&str> = Check::ALL.iter().map(|check| described(*check).0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Check::ALL.len());
        for check in Check::ALL {
            for facts in [Vec::new(), (0..9).map(|place| place.to_string()).collect::<Vec<_>>()] {
                let row = BrokenRow { id: "the_id".to_owned(), facts };
                assert!(sentence(check, &row).contains("the_id"), "{check:?}");
            }
        }
    }
}
