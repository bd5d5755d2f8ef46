//! How the simulator misbehaves when told to: slow, cut off before or after charging, capturing or
//! giving back, silent, answering twice, out of reach.
//!
//! Rule: a fault changes what the caller *hears*, never what the ledger says; [`Fault::DeclineSoftly`]
//! alone is an answer of the company's own. Everything is off until it is set. One handle is shared by the simulator and whoever sets it: the configuration
//! for a whole process, or a test for its next calls.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Report;

/// Longest latency that may be set: beyond every caller's patience, and a typing mistake above.
pub const LATENCY_MS_MAX: u64 = 60_000;

/// Stored in place of a count for [`Times::Always`].
const ALWAYS: u32 = u32::MAX;

/// Hears of a charge apart from the call that made it, as a provider's callback would.
pub type ReportSink = Arc<dyn Fn(String, Report) + Send + Sync>;

/// One way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens, whatever is asked: of a charge it is certain that nothing was sent.
    RefuseConnection,
    /// A charge is declined with `processing_error`, whatever the card: nothing is taken, and another
    /// company might take it.
    DeclineSoftly,
    /// A charge gets stuck before it arrives: nothing is taken, and the line stays open past any time-out.
    HangBefore,
    /// A charge is lost on the way: nothing is taken, and the caller cannot know.
    FailBefore,
    /// A charge is made and its answer lost.
    FailAfter,
    /// A charge is made and the line stays open without an answer, past any time-out.
    HangAfter,
    /// A charge's report also goes to the report sink.
    AnswerTwice,
    /// A look-up gets no answer.
    RefuseLookUp,
    /// A void or refund is lost on the way: nothing is returned, and the caller cannot know.
    RefuseReversal,
    /// A void or refund is made and its answer lost.
    FailReversalAfter,
    /// A capture is lost on the way: nothing is taken, and the caller cannot know.
    FailCaptureBefore,
    /// A capture is made and its answer lost.
    FailCaptureAfter,
    /// Asked how a dispute stands, or handed an answer to it, it does what it was asked for and its answer is lost.
    FailDisputeAfter,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 13] = [
        Fault::RefuseConnection,
        Fault::DeclineSoftly,
        Fault::HangBefore,
        Fault::FailBefore,
        Fault::FailAfter,
        Fault::HangAfter,
        Fault::AnswerTwice,
        Fault::RefuseLookUp,
        Fault::RefuseReversal,
        Fault::FailReversalAfter,
        Fault::FailCaptureBefore,
        Fault::FailCaptureAfter,
        Fault::FailDisputeAfter,
    ];

    /// The word for it in configuration.
    pub fn word(self) -> &'static str {
        match self {
            Fault::RefuseConnection => "refuse_connection",
            Fault::DeclineSoftly => "decline_softly",
            Fault::HangBefore => "hang_before",
            Fault::FailBefore => "fail_before",
            Fault::FailAfter => "fail_after",
            Fault::HangAfter => "hang_after",
            Fault::AnswerTwice => "answer_twice",
            Fault::RefuseLookUp => "refuse_look_up",
            Fault::RefuseReversal => "refuse_reversal",
            Fault::FailReversalAfter => "fail_reversal_after",
            Fault::FailCaptureBefore => "fail_capture_before",
            Fault::FailCaptureAfter => "fail_capture_after",
            Fault::FailDisputeAfter => "fail_dispute_after",
        }
    }

    /// The fault behind a word; `None` when there is no such fault.
    pub fn from_word(word: &str) -> Option<Fault> {
        Self::ALL.into_iter().find(|fault| fault.word() == word)
    }
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Off.
    Never,
    /// The next calls that it concerns, then no more.
    Next(u32),
    /// Until it is set otherwise.
    Always,
}

impl Times {
    /// Reads `never`, `always` or a count.
    pub fn parse(text: &str) -> Option<Times> {
        match text {
            "never" => Some(Times::Never),
            "always" => Some(Times::Always),
            count => count.parse().ok().map(Times::Next),
        }
    }
}

/// The simulator's behaviour; clones share it.
#[derive(Clone, Default)]
pub struct SimulatorBehaviour {
    shared: Arc<Shared>,
}

/// What the company keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimulatorFees {
    /// Of what it takes, in hundredths of a percent.
    pub basis_points: u16,
    /// Of each taking, minor units beside.
    pub fixed: u32,
    /// Of each dispute, minor units.
    pub dispute: u32,
}

impl SimulatorFees {
    /// What is kept of that many minor units, rounded up, and never more than all of them; none where the company
    /// does not say.
    pub(super) fn of_capture(self, minor: i64) -> Option<i64> {
        if self.basis_points == 0 && self.fixed == 0 {
            return None;
        }
        let share = (i128::from(minor) * i128::from(self.basis_points) + 9_999) / 10_000;
        let fee = share + i128::from(self.fixed);
        Some(i64::try_from(fee).unwrap_or(i64::MAX).min(minor))
    }

    /// What is kept for a dispute.
    pub(super) fn of_dispute(self) -> Option<i64> {
        (self.dispute > 0).then(|| i64::from(self.dispute))
    }
}

#[derive(Default)]
struct Shared {
    latency_ms: AtomicU64,
    fees: Mutex<SimulatorFees>,
    strikes_left: [AtomicU32; Fault::ALL.len()],
    report_sink: Mutex<Option<ReportSink>>,
}

impl SimulatorBehaviour {
    /// Sets how often a fault strikes from now on.
    pub fn set(&self, fault: Fault, times: Times) {
        let left = match times {
            Times::Never => 0,
            Times::Next(count) => count.min(ALWAYS - 1),
            Times::Always => ALWAYS,
        };
        self.strikes_left(fault).store(left, Ordering::SeqCst);
    }

    /// Delays the answer to every call, up to [`LATENCY_MS_MAX`].
    pub fn set_latency_ms(&self, latency_ms: u64) {
        self.shared.latency_ms.store(latency_ms.min(LATENCY_MS_MAX), Ordering::SeqCst);
    }

    /// Sets what the company keeps from now on.
    pub fn set_fees(&self, fees: SimulatorFees) {
        *self.shared.fees.lock().unwrap_or_else(PoisonError::into_inner) = fees;
    }

    pub(super) fn fees(&self) -> SimulatorFees {
        *self.shared.fees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who hears the second answers of [`Fault::AnswerTwice`], and twice of a challenge whose answer
    /// was to be sent twice. Called on the task of the charge or the page, so it must return at once;
    /// what takes longer it hands on.
    pub fn on_report(&self, sink: Option<ReportSink>) {
        *self.shared.report_sink.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    /// Everything off, the sink excepted.
    pub fn calm(&self) {
        Fault::ALL.into_iter().for_each(|fault| self.set(fault, Times::Never));
        self.set_latency_ms(0);
    }

    pub(super) fn latency(&self) -> Duration {
        Duration::from_millis(self.shared.latency_ms.load(Ordering::SeqCst))
    }

    /// Whether the fault strikes this call, which uses up one strike.
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        self.strikes_left(fault)
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
                0 => None,
                ALWAYS => Some(ALWAYS),
                left => Some(left - 1),
            })
            .is_ok()
    }

    /// Tells the sink, if there is one.
    pub(super) fn report(&self, charge_id: &str, report: &Report) {
        let sink = self.shared.report_sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sink) = sink {
            sink(charge_id.to_owned(), report.clone());
        }
    }

    fn strikes_left(&self, fault: Fault) -> &AtomicU32 {
        &self.shared.strikes_left[fault as usize]
    }
}

impl fmt::Debug for SimulatorBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = f.debug_struct("SimulatorBehaviour");
        printed.field("latency_ms", &self.shared.latency_ms);
        for fault in Fault::ALL {
            printed.field(fault.word(), self.strikes_left(fault));
        }
        printed.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_it_was_told() {
        let behaviour = SimulatorBehaviour::default();
        let handle = behaviour.clone();
        assert!(!behaviour.strikes(Fault::FailAfter));
        handle.set(Fault::FailAfter, Times::Next(2));
        let struck: Vec<bool> = (0..3).map(|_| behaviour.strikes(Fault::FailAfter)).collect();
        assert_eq!(struck, [true, true, false]);
        handle.set(Fault::FailAfter, Times::Always);
        assert!((0..10).all(|_| behaviour.strikes(Fault::FailAfter)));
        assert!(!behaviour.strikes(Fault::FailBefore));
        handle.calm();
        assert!(!behaviour.strikes(Fault::FailAfter));
    }

    #[test]
    fn fees_are_rounded_up_and_never_more_than_what_was_taken() {
        let fees = SimulatorFees { basis_points: 290, fixed: 30, dispute: 0 };
        assert_eq!([1, 30, 31, 2_598].map(|minor| fees.of_capture(minor)), [1, 30, 31, 106].map(Some));
        assert_eq!(fees.of_capture(i64::MAX).map(|fee| fee < i64::MAX), Some(true));
        assert_eq!((SimulatorFees::default().of_capture(100), fees.of_dispute()), (None, None));
    }

    #[test]
    fn latency_is_bounded() {
        let behaviour = SimulatorBehaviour::default();
        behaviour.set_latency_ms(u64::MAX);
        assert_eq!(behaviour.latency(), Duration::from_millis(LATENCY_MS_MAX));
    }

    #[test]
    fn words_read_back() {
        for fault in Fault::ALL {
            assert_eq!(Fault::from_word(fault.word()), Some(fault));
        }
        assert_eq!(Fault::from_word("explode"), None);
        let times = ["never", "3", "always", "often", "-1"].map(Times::parse);
        let expected = [Some(Times::Never), Some(Times::Next(3)), Some(Times::Always), None, None];
        assert_eq!(times, expected);
    }
}
