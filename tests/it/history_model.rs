//! The model behind the random histories: what one session, its payment and the provider's books are,
//! as plainly as it can be said. It knows nothing of locks, rows or processes.

use std::collections::BTreeSet;

use checkstand::providers::simulator_faults::Fault;
use serde_json::{Value, json};

use crate::histories::{Bank, Step};

/// What the session is about.
pub const TOTAL: i64 = 2_598;

/// Charges that a session may try.
const TRIES_MAX: u8 = 4;

/// Seconds until the deadline, and the grace for a payer at his bank.
const LIFETIME: i64 = 30 * 60;
const GRACE: i64 = 10 * 60;

/// What the provider's books say of the newest charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Books {
    Absent,
    Asking,
    Authorized,
    Captured,
    Declined,
    GivenUp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum UnderWay {
    Capture(i64),
    Void,
}

#[derive(Clone, Copy, Debug)]
struct Charge {
    ours: &'static str,
    books: Books,
    bank: Bank,
    closing: bool,
    under_way: Option<UnderWay>,
    captured: i64,
    refunded: i64,
    /// A refund that is not known to have arrived, and whether it has.
    refunding: Option<(i64, bool)>,
    /// Whether it was ever disputed, what disputes hold of it, and what of that is not decided.
    disputed: bool,
    withdrawn: i64,
    open: Option<i64>,
}

/// One session.
pub struct Model {
    is_manual: bool,
    now: i64,
    state: &'static str,
    tries: u8,
    payment: Option<&'static str>,
    charge: Option<Charge>,
    faults: BTreeSet<&'static str>,
}

impl Model {
    pub fn new(is_manual: bool) -> Self {
        Self { is_manual, now: 0, state: "pending", tries: 0, payment: None, charge: None, faults: BTreeSet::new() }
    }

    /// No call goes wrong any more.
    pub fn calm(&mut self) {
        self.faults.clear();
    }

    pub fn has_pending_refund(&self) -> bool {
        self.charge.is_some_and(|charge| charge.refunding.is_some())
    }

    pub fn can_be_disputed(&self) -> bool {
        self.charge.is_some_and(|charge| charge.ours == "succeeded" && charge.open.is_none())
    }

    pub fn is_disputed(&self) -> bool {
        self.charge.is_some_and(|charge| charge.open.is_some())
    }

    /// What the API should say.
    pub fn told(&self) -> Value {
        let charge = self.charge.as_ref();
        let taken = charge.filter(|charge| charge.ours == "succeeded").map(|charge| charge.captured);
        let of_payment = |value: Value| if self.payment.is_some() { value } else { Value::Null };
        json!({
            "session": self.state,
            "paid": if taken.is_some() { "paid" } else { "unpaid" },
            "payment": self.payment,
            "received": of_payment(json!(taken.unwrap_or(0))),
            "capturable": of_payment(json!(if self.payment == Some("requires_capture") { TOTAL } else { 0 })),
            "captured": charge.map(|charge| charge.captured),
            "refunded": charge.map(|charge| charge.refunded),
            "disputed": charge.map(|charge| charge.disputed),
        })
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        self.faults.remove(fault.word())
    }

    /// What happens, and the API's status where it is asked.
    pub fn take(&mut self, step: Step) -> Option<u16> {
        match step {
            Step::Strike(fault) => {
                self.faults.insert(fault.word());
            }
            Step::Pay(bank) => self.pay(bank),
            Step::Answer { approves, comes_back } => self.answer(approves, comes_back),
            Step::Cancel if self.state == "pending" => self.end_unpaid("cancelled"),
            Step::Cancel => {}
            Step::Expire if self.state == "pending" => {
                self.end_unpaid("expired");
                return Some(200);
            }
            Step::Expire => return Some(400),
            Step::Capture(amount) => return self.payment.map(|_| self.capture(amount)),
            Step::Void => return self.payment.map(|_| self.void()),
            Step::Refund(amount) => return self.payment.map(|_| self.refund(amount)),
            Step::Dispute(amount) => return Some(self.dispute(amount)),
            Step::Decide { for_merchant } => {
                if let Some(charge) = &mut self.charge {
                    let decided = charge.open.take().unwrap_or(0);
                    charge.withdrawn -= if for_merchant { decided } else { 0 };
                }
                return Some(200);
            }
            Step::Pass(seconds) => self.pass(seconds),
        }
        None
    }

    fn end_unpaid(&mut self, state: &'static str) {
        self.state = state;
        if self.payment.is_some() {
            self.payment = Some("canceled");
        }
    }

    fn pay(&mut self, bank: Bank) {
        if self.state != "pending" {
            return;
        }
        self.state = "processing";
        self.payment = Some("processing");
        self.tries += 1;
        let charge = Charge {
            ours: "pending",
            books: Books::Absent,
            bank,
            closing: false,
            under_way: None,
            captured: 0,
            refunded: 0,
            refunding: None,
            disputed: false,
            withdrawn: 0,
            open: None,
        };
        self.charge = Some(charge);
        if self.strikes(Fault::FailBefore) {
            return;
        }
        self.books(match bank {
            Bank::Declines => Books::Declined,
            Bank::Grants => self.granted(),
            Bank::AsksAndGrants | Bank::AsksAndDeclines => Books::Asking,
        });
        if !self.strikes(Fault::FailAfter) {
            self.hear();
        }
    }

    fn granted(&self) -> Books {
        if self.is_manual { Books::Authorized } else { Books::Captured }
    }

    fn books(&mut self, books: Books) {
        if let Some(charge) = &mut self.charge {
            charge.books = books;
        }
    }

    fn answer(&mut self, approves: bool, comes_back: bool) {
        let Some(charge) = self.charge else { return };
        if charge.ours != "requires_action" {
            return;
        }
        if charge.books == Books::Asking {
            self.books(match (approves, charge.bank) {
                (true, Bank::AsksAndGrants) => self.granted(),
                _ => Books::Declined,
            });
            if comes_back {
                self.look_up();
            }
        }
        // One that answered before may come back now; what was withdrawn leads nowhere.
        else if comes_back && matches!(charge.books, Books::Authorized | Books::Captured | Books::Declined) {
            self.look_up();
        }
    }

    /// The provider's word on the newest charge is taken in.
    fn hear(&mut self) {
        let (now, is_last) = (self.now, self.tries >= TRIES_MAX);
        let Some(charge) = &mut self.charge else { return };
        match charge.books {
            Books::Captured => {
                (charge.ours, charge.captured) = ("succeeded", TOTAL);
                (self.state, self.payment) = ("completed", Some("succeeded"));
            }
            Books::Authorized => {
                charge.ours = "authorized";
                (self.state, self.payment) = ("completed", Some("requires_capture"));
            }
            Books::Asking => {
                charge.ours = "requires_action";
                self.payment = Some("requires_action");
            }
            Books::Declined | Books::GivenUp | Books::Absent => {
                charge.ours = "failed";
                self.state = if is_last {
                    "failed"
                } else if now >= LIFETIME {
                    "expired"
                } else {
                    "pending"
                };
                self.payment = Some(if self.state == "pending" { "requires_payment_method" } else { "canceled" });
            }
        }
    }

    fn look_up(&mut self) {
        let Some(charge) = self.charge else { return };
        if charge.closing {
            return self.close();
        }
        if self.strikes(Fault::RefuseLookUp) {
            return;
        }
        match charge.books {
            Books::Absent => self.close(),
            Books::Asking if charge.ours == "requires_action" => {
                if self.now >= LIFETIME + GRACE {
                    self.close();
                }
            }
            _ => self.hear(),
        }
    }

    fn close(&mut self) {
        if let Some(charge) = &mut self.charge {
            charge.closing = true;
        }
        if self.strikes(Fault::RefuseReversal) {
            return;
        }
        if self.charge.is_some_and(|charge| charge.books != Books::Declined) {
            self.books(Books::GivenUp);
        }
        if !self.strikes(Fault::FailReversalAfter) {
            self.hear();
        }
    }

    fn capture(&mut self, amount: Option<i64>) -> u16 {
        let amount = amount.unwrap_or(TOTAL);
        let Some(charge) = &mut self.charge else { return 400 };
        if charge.ours != "authorized" || charge.under_way.is_some() || !(1..=TOTAL).contains(&amount) {
            return 400;
        }
        charge.under_way = Some(UnderWay::Capture(amount));
        self.go_on();
        200
    }

    fn void(&mut self) -> u16 {
        let Some(charge) = &mut self.charge else { return 400 };
        if charge.ours != "authorized" || charge.under_way.is_some() {
            return 400;
        }
        charge.under_way = Some(UnderWay::Void);
        self.go_on();
        200
    }

    /// Asks the provider for what is under way with reserved money.
    fn go_on(&mut self) {
        match self.charge.and_then(|charge| charge.under_way) {
            Some(UnderWay::Capture(amount)) => {
                if self.strikes(Fault::FailCaptureBefore) {
                    return;
                }
                self.books(Books::Captured);
                if self.strikes(Fault::FailCaptureAfter) {
                    return;
                }
                if let Some(charge) = &mut self.charge {
                    (charge.ours, charge.captured, charge.under_way) = ("succeeded", amount, None);
                }
                self.payment = Some("succeeded");
            }
            Some(UnderWay::Void) => {
                if self.strikes(Fault::RefuseReversal) {
                    return;
                }
                self.books(Books::GivenUp);
                if self.strikes(Fault::FailReversalAfter) {
                    return;
                }
                if let Some(charge) = &mut self.charge {
                    (charge.ours, charge.under_way) = ("reversed", None);
                }
                self.payment = Some("canceled");
            }
            None => {}
        }
    }

    fn refund(&mut self, amount: Option<i64>) -> u16 {
        let Some(charge) = &mut self.charge else { return 400 };
        let left = charge.captured - charge.refunded - charge.withdrawn;
        let amount = amount.unwrap_or(left);
        if charge.ours != "succeeded" || !(1..=left).contains(&amount) {
            return 400;
        }
        charge.refunding = Some((amount, false));
        self.go_on_refunding();
        200
    }

    fn go_on_refunding(&mut self) {
        let Some((amount, has_arrived)) = self.charge.and_then(|charge| charge.refunding) else { return };
        if self.strikes(Fault::RefuseReversal) {
            return;
        }
        let is_heard = !self.strikes(Fault::FailReversalAfter);
        let Some(charge) = &mut self.charge else { return };
        // A dispute that came in between may have left too little, at the provider above all.
        let fits = has_arrived || amount <= charge.captured - charge.refunded - charge.withdrawn;
        charge.refunding = Some((amount, fits));
        if is_heard {
            charge.refunded += if fits { amount } else { 0 };
            charge.refunding = None;
        }
    }

    fn dispute(&mut self, amount: Option<i64>) -> u16 {
        let Some(charge) = &mut self.charge else { return 400 };
        let arrived = charge.refunding.filter(|(_, has_arrived)| *has_arrived).map_or(0, |(amount, _)| amount);
        let left = charge.captured - charge.refunded - arrived - charge.withdrawn;
        let amount = amount.unwrap_or(left);
        if !(1..=left).contains(&amount) {
            return 400;
        }
        charge.disputed = true;
        charge.withdrawn += amount;
        charge.open = Some(amount);
        200
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        if self.state == "pending" && self.now >= LIFETIME {
            self.end_unpaid("expired");
        }
        match self.charge {
            Some(charge) if ["pending", "requires_action"].contains(&charge.ours) => self.look_up(),
            Some(charge) if charge.under_way.is_some() => self.go_on(),
            _ => {}
        }
        self.go_on_refunding();
    }
}
