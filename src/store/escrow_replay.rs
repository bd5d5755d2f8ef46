//! What the histories of escrows say that the other tables must hold, for `checkstand audit`.
//!
//! The rule: the chain proves the entries (`store::escrow_history`), and the entries, read again from the
//! first, say what the deal, its signatures, files, words, times and amounts are. Digests of texts and
//! files are computed anew from what is stored, never believed. What an older entry does not say is not
//! asked of it.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::Connection;
use crate::error::Result;

/// Escrows that are read at once.
const ESCROWS_PER_ROUND: i64 = 100;

/// Something that is not what the history says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongEvidence {
    /// The escrow.
    pub escrow_id: String,
    /// What it is, as the beginning of a sentence.
    pub thing: String,
    /// What is wrong with it, as the end of the sentence.
    pub fault: String,
}

/// Columns of an escrow that only its history may fill; empty until an entry does.
const FILLED_BY_ENTRIES: [&str; 27] = [
    "settled_buyer",
    "settled_seller",
    "settled_merchant",
    "resolution",
    "tracking_reference",
    "delivery_note",
    "delivery_rejection_reason",
    "disputed_by",
    "dispute_reason",
    "dispute_text",
    "cancellation_reason",
    "cancellation_rejection_reason",
    "charge_id",
    "payment_session_id",
    "buyer_signed_at",
    "seller_signed_at",
    "paid_at",
    "delivered_at",
    "delivery_rejected_at",
    "disputed_at",
    "resolved_at",
    "cancellation_requested_at",
    "cancellation_rejected_at",
    "completed_at",
    "cancelled_at",
    "refund_failed_at",
    "refunded_at",
];

/// What must stand somewhere, and the entry that says so.
type Expected = BTreeMap<String, (i64, Value)>;

/// What a history says in the end.
#[derive(Default)]
struct Replay {
    /// Columns of the escrow.
    deal: Expected,
    /// Columns of the signature of each side.
    signatures: BTreeMap<String, Expected>,
    /// Columns of each file.
    files: BTreeMap<String, Expected>,
    /// What the ledger moved.
    books: Expected,
}

fn expect(into: &mut Expected, column: &str, number: i64, value: &Value) {
    into.insert(column.to_owned(), (number, value.clone()));
}

impl Replay {
    fn of(entries: &[Value]) -> Self {
        let mut replay = Self::default();
        for column in FILLED_BY_ENTRIES {
            expect(&mut replay.deal, column, 0, &Value::Null);
        }
        for column in ["released_to_seller", "released_to_merchant", "returned_to_buyer", "lost_at_bank"] {
            expect(&mut replay.books, column, 0, &json!(0));
        }
        for entry in entries {
            replay.read(entry);
        }
        replay
    }

    fn read(&mut self, entry: &Value) {
        let number = entry["number"].as_i64().unwrap_or(0);
        let (detail, at, to) = (&entry["detail"], &entry["at"], &entry["to"]);
        let deal = &mut self.deal;
        let mut say = |column: &str, value: &Value| expect(deal, column, number, value);
        say("status", to);
        for (column, value) in entry["stands"].as_object().into_iter().flatten() {
            say(column, value);
        }
        let act = entry["act"].as_str().unwrap_or_default();
        match act {
            "created" => {
                for (column, value) in detail.as_object().into_iter().flatten() {
                    say(column, value);
                }
                say("created_at", at);
            }
            "sign_contract" => self.read_signature(number, entry),
            "accept_pay" => {
                say("charge_id", &detail["charge"]);
                say("payment_session_id", &entry["session"]);
                say("paid_at", at);
            }
            "deliver" => {
                say("tracking_reference", &detail["tracking_reference"]);
                say("delivery_note", &detail["note"]);
                say("delivered_at", at);
            }
            "reject_delivery" => {
                say("delivery_rejection_reason", &detail["reason"]);
                say("delivery_rejected_at", at);
            }
            "dispute" => {
                say("disputed_by", &entry["by"]);
                say("dispute_reason", &detail["reason"]);
                say("dispute_text", &detail["text"]);
                say("disputed_at", at);
                self.read_files(number, entry);
            }
            "request_cancellation" => {
                say("cancellation_reason", &detail["reason"]);
                say("cancellation_requested_at", at);
            }
            "reject_cancellation" => {
                say("cancellation_rejection_reason", &detail["reason"]);
                say("cancellation_rejected_at", at);
            }
            "resolve" => {
                say("resolution", &detail["resolution"]);
                say("resolved_at", at);
            }
            "refund_refused" => say("refund_failed_at", at),
            "refunded" => {
                say("refunded_at", at);
                let before = self.books.get("returned_to_buyer").and_then(|(_, sum)| sum.as_i64()).unwrap_or(0);
                let sum = before.saturating_add(detail["amount"].as_i64().unwrap_or(0));
                expect(&mut self.books, "returned_to_buyer", number, &json!(sum));
            }
            _ => {}
        }
        let deal = &mut self.deal;
        if let Some([buyer, seller, merchant]) = detail["settlement"].as_array().map(Vec::as_slice) {
            expect(deal, "settled_buyer", number, buyer);
            expect(deal, "settled_seller", number, seller);
            expect(deal, "settled_merchant", number, merchant);
        }
        if matches!(to.as_str(), Some("completed" | "cancelled")) {
            let lost = deal.get("settled_lost").map_or(json!(0), |(_, value)| value.clone());
            expect(&mut self.books, "lost_at_bank", number, &lost);
        }
        match to.as_str() {
            Some("completed") => {
                expect(deal, "completed_at", number, at);
                for (column, settled) in
                    [("released_to_seller", "settled_seller"), ("released_to_merchant", "settled_merchant")]
                {
                    let value = deal.get(settled).map_or(Value::Null, |(_, value)| value.clone());
                    expect(&mut self.books, column, number, &value);
                }
            }
            Some("cancelled") => expect(deal, "cancelled_at", number, at),
            _ => {}
        }
    }

    fn read_signature(&mut self, number: i64, entry: &Value) {
        let detail = &entry["detail"];
        let party = detail["party"].as_str().unwrap_or_default();
        expect(&mut self.deal, &format!("{party}_signed_at"), number, &entry["at"]);
        let signature = self.signatures.entry(party.to_owned()).or_default();
        for (column, value) in detail.as_object().into_iter().flatten() {
            expect(signature, column, number, value);
        }
        let method = if entry["session"].is_null() { "creation" } else { "page" };
        expect(signature, "signed_at", number, &entry["at"]);
        expect(signature, "session_id", number, &entry["session"]);
        expect(signature, "method", number, &json!(method));
        expect(signature, "consent", number, &json!(true));
    }

    fn read_files(&mut self, number: i64, entry: &Value) {
        for told in entry["detail"]["files"].as_array().into_iter().flatten() {
            let file = self.files.entry(told["id"].as_str().unwrap_or_default().to_owned()).or_default();
            for (column, value) in told.as_object().into_iter().flatten() {
                expect(file, column, number, value);
            }
            expect(file, "party", number, &entry["by"]);
            expect(file, "session_id", number, &entry["session"]);
            expect(file, "created_at", number, &entry["at"]);
        }
    }

    /// What is not as it should be.
    fn compare(&self, id: &str, stored: &Stored, mut found: impl FnMut(WrongEvidence)) {
        let mut wrong = |thing: String, number: i64| {
            let fault = match number {
                0 => "says something that no entry of its history does".to_owned(),
                number => format!("is not what entry {number} of its history says"),
            };
            found(WrongEvidence { escrow_id: id.to_owned(), thing, fault });
        };
        let mut differ = |of: &str, expected: &Expected, row: &Value| {
            for (column, (number, _)) in
                expected.iter().filter(|(column, (_, value))| !is_same(column, value, &row[column.as_str()]))
            {
                wrong(format!("`{column}`{of}"), *number);
            }
        };
        differ("", &self.deal, &stored.escrow);
        differ(" by the ledger", &self.books, &stored.books);
        for (kind, said, rows) in
            [("signature", &self.signatures, &stored.signatures), ("file", &self.files, &stored.files)]
        {
            // Where there is no row, its `is_there` is missing; where no entry tells of one, it must be.
            let is_there = |number: i64, value: Value| Expected::from([("is_there".to_owned(), (number, value))]);
            for (key, expected) in said {
                let of = format!(" of the {kind} {key}");
                match rows.get(key) {
                    Some(row) => differ(&of, expected, row),
                    None => {
                        let number = expected.values().next().map_or(0, |(number, _)| *number);
                        differ(&of, &is_there(number, json!(true)), &json!({"is_there": false}));
                    }
                }
            }
            for key in rows.keys().filter(|key| !said.contains_key(*key)) {
                differ(&format!(" of the {kind} {key}"), &is_there(0, json!(false)), &json!({"is_there": true}));
            }
        }
    }
}

/// Whether a column holds what an entry says: moments by their value, because the database and the entry write them
/// differently.
fn is_same(column: &str, said: &Value, stored: &Value) -> bool {
    if said == stored {
        return true;
    }
    let moment = |value: &Value| value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    (column.ends_with("_at") || column == "completion_deadline")
        && moment(said).is_some_and(|said| Some(said) == moment(stored))
}

/// The rows of one escrow, as JSON by column.
#[derive(Default)]
struct Stored {
    escrow: Value,
    books: Value,
    entries: Vec<Value>,
    signatures: BTreeMap<String, Value>,
    files: BTreeMap<String, Value>,
}

/// Compares everything that was handed in or decided with what the histories say. Gives how much differs, and the
/// first `limit` of it in order of the escrow's id.
///
/// # Errors
/// When the database does not answer.
pub async fn wrong_evidence(connection: &mut Connection, limit: i64) -> Result<(i64, Vec<WrongEvidence>)> {
    let mut total = 0_i64;
    let mut shown = Vec::new();
    let mut after = String::new();
    loop {
        let round = stored_after(connection, &after).await?;
        let Some(last) = round.keys().next_back() else { return Ok((total, shown)) };
        after.clone_from(last);
        for (id, stored) in &round {
            Replay::of(&stored.entries).compare(id, stored, |wrong| {
                if total < limit {
                    shown.push(wrong);
                }
                total = total.saturating_add(1);
            });
        }
    }
}

/// The next escrows by id. The caller holds one moment of the database, so several statements see the same.
async fn stored_after(connection: &mut Connection, after: &str) -> Result<BTreeMap<String, Stored>> {
    // The text is hashed anew: the column beside it is not believed.
    let rows = sqlx::query(
        "select e.id,
             to_jsonb(e) - 'contract_text' - 'contract_terms' || jsonb_build_object('contract_sha256',
                 case when e.contract_sha256 = sha256(convert_to(e.contract_text, 'UTF8'))
                         and position(e.contract_terms in e.contract_text) > 0
                      then to_jsonb(encode(e.contract_sha256, 'hex'))
                      when e.contract_text is null and e.contract_terms is null then 'null'::jsonb
                      else to_jsonb('of another text'::text) end) as escrow,
             (select jsonb_build_object(
                  'released_to_seller', coalesce(sum(l.amount) filter (where l.account = 'seller'), 0),
                  'released_to_merchant',
                      coalesce(sum(l.amount) filter (where l.account = 'merchant' and l.movement = 'released'), 0),
                  'lost_at_bank', coalesce(-sum(l.amount) filter (where l.account = 'held' and l.movement = 'held_lost'), 0),
                  'returned_to_buyer', (select coalesce(sum(b.amount), 0) from refund r
                      join ledger_entry b on b.object_id = r.id and b.account = 'payer' where r.payment_id = e.payment_id))
              from ledger_entry l where l.object_id = e.id and l.movement in ('released', 'held_lost')) as books
         from escrow e where e.id > $1 order by e.id limit $2",
    )
    .bind(after)
    .bind(ESCROWS_PER_ROUND)
    .fetch_all(&mut *connection)
    .await?;
    let mut stored = BTreeMap::new();
    for row in &rows {
        let (escrow, books) = (row.try_get("escrow")?, row.try_get("books")?);
        stored.insert(row.try_get("id")?, Stored { escrow, books, ..Stored::default() });
    }
    let ids: Vec<String> = stored.keys().cloned().collect();
    let entries = sqlx::query("select escrow_id, entry from escrow_history where escrow_id = any($1) order by number");
    for row in entries.bind(&ids).fetch_all(&mut *connection).await? {
        let entry: String = row.try_get("entry")?;
        let of: &mut Stored = stored.entry(row.try_get("escrow_id")?).or_default();
        // What is no JSON any more breaks the chain, which is judged by itself.
        of.entries.extend(serde_json::from_str::<Value>(&entry));
    }
    let signatures = sqlx::query(
        "select escrow_id, party, to_jsonb(s) || jsonb_build_object('contract_sha256', encode(contract_sha256, 'hex')) as row
         from escrow_signature s where escrow_id = any($1)",
    );
    for row in signatures.bind(&ids).fetch_all(&mut *connection).await? {
        let of: &mut Stored = stored.entry(row.try_get("escrow_id")?).or_default();
        of.signatures.insert(row.try_get("party")?, row.try_get("row")?);
    }
    let files = sqlx::query(
        "select escrow_id, id, jsonb_build_object('id', id, 'sha256', encode(sha256(content), 'hex'),
             'file_name', file_name, 'content_type', content_type, 'size', octet_length(content), 'party', party,
             'session_id', session_id, 'created_at', created_at) as row
         from escrow_attachment where escrow_id = any($1)",
    );
    for row in files.bind(&ids).fetch_all(&mut *connection).await? {
        let of: &mut Stored = stored.entry(row.try_get("escrow_id")?).or_default();
        of.files.insert(row.try_get("id")?, row.try_get("row")?);
    }
    Ok(stored)
}
