//! Paying beside pgbench: the form's POST with the simulator at zero latency, against one statement that
//! writes the same rows.
//!
//! Each session is paid once: a second POST would be turned away and cost less. A run that comes to the end
//! of its sessions gets a page that does not exist, which fails it. The gateway commits three times for each
//! payment, because a charge is written down before its provider is asked and the provider keeps books of
//! its own; pgbench commits once.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use checkstand::domain::id::SessionId;
use checkstand::keyring::Keyring;
use secrecy::SecretString;

use crate::base::Script;
use crate::database::{Database, EVENT_PREFIX, ID_DIGITS, SESSION_PREFIX};
use crate::load::FORM_FIELDS;
use crate::measure::Bench;
use crate::report::{print_table, print_target, ratio};

/// Open sessions before each run; more than can be paid in it.
const SESSIONS: u32 = 150_000;

/// Of them for connections, caches and prepared statements to warm up with.
const WARM_UP_SESSIONS: u32 = 20_000;

/// The browser that all forms come from.
const BROWSER: &str = "bench-browser-bench-browser-0000";

/// One row as names and values.
type Row = Vec<(String, String)>;

/// The rows that paying writes, besides the session's own.
pub struct Paid {
    session: Row,
    payment: Row,
    charge: Row,
    entries: Vec<Row>,
    events: Vec<Row>,
    deliveries: Vec<Row>,
    simulated: Row,
}

impl Paid {
    /// Reads them of the only paid session.
    pub async fn read(database: &Database) -> Self {
        let event = "event where type <> 'checkout.session.created' and type <> 'checkout.session.opened'";
        let delivery = "delivery where event_id in (select id from event where type <> 'checkout.session.created'
             and type <> 'checkout.session.opened')";
        Self {
            session: database.sample("checkout_session where state = 'completed'").await,
            payment: database.sample("payment").await,
            charge: database.sample("charge").await,
            entries: database.samples("ledger_entry", "id").await,
            events: database.samples(event, "session_sequence").await,
            deliveries: database.samples(delivery, "event_id").await,
            simulated: database.sample("simulator.charge").await,
        }
    }
}

fn number_after(prefix: &str) -> String {
    format!("'{prefix}' || lpad(:n, {ID_DIGITS}, '0')")
}

/// One `insert` of rows with the same columns; ids are made of the run's number.
fn insert(name: &str, table: &str, rows: &[Row], types: &Row, variables: &mut Vec<(String, String)>) -> String {
    let columns: Vec<&str> = rows[0]
        .iter()
        .map(|(column, _)| column.as_str())
        .filter(|column| (table, *column) != ("ledger_entry", "id"))
        .collect();
    let mut values = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let mut of = |column: &str| {
            let id = |prefix: &str| Some(number_after(prefix));
            let made = match (table, column) {
                ("payment", "id") | (_, "payment_id") => id("pi_"),
                ("charge", "id") | (_, "charge_id") => id("ch_"),
                ("simulator.charge", "reference") | ("charge", "provider_reference") => id("sim_"),
                ("ledger_entry", "object_id") => id("ch_"),
                (_, "session_id") => id(SESSION_PREFIX),
                ("event", "id") | ("delivery", "event_id") => id(&format!("{EVENT_PREFIX}{place}")),
                ("charge", "return_state_hash") => Some("decode(lpad(:n, 64, '0'), 'hex')".to_owned()),
                _ => None,
            };
            made.unwrap_or_else(|| {
                let variable = format!("{name}{place}_{column}");
                let value = row.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone());
                let kind = types.iter().find(|(name, _)| name == column).map_or("text", |(_, kind)| kind);
                variables.push((variable.clone(), value.unwrap_or_default()));
                format!(":{variable}::{kind}")
            })
        };
        values.push(format!("({})", columns.iter().map(|column| of(column)).collect::<Vec<_>>().join(", ")));
    }
    format!("{name} as (insert into {table} ({}) values {})", columns.join(", "), values.join(", "))
}

/// The statement that writes all rows of a paid session.
async fn script(database: &Database, folder: &Path, paid: &Paid, clients: u32) -> Script {
    let mut variables = vec![("i".to_owned(), "0".to_owned())];
    let mut text = format!("\\set i :i + 1\n\\set n :i * {clients} + :client_id\nwith ");
    let tables: [(&str, &str, &[Row]); 6] = [
        ("p", "payment", std::slice::from_ref(&paid.payment)),
        ("c", "charge", std::slice::from_ref(&paid.charge)),
        ("l", "ledger_entry", &paid.entries),
        ("e", "event", &paid.events),
        ("d", "delivery", &paid.deliveries),
        ("m", "simulator.charge", std::slice::from_ref(&paid.simulated)),
    ];
    for (name, table, rows) in tables {
        let types = database.types(table).await;
        text += &insert(name, table, rows, &types, &mut variables);
        text += ", ";
    }
    let of_session =
        |column: &str| paid.session.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone());
    let mut sets = format!("payment_id = {}", number_after("pi_"));
    for (column, kind) in [
        ("state", "text"),
        ("payer_email", "text"),
        ("payer_name", "text"),
        ("tries", "int2"),
        ("event_count", "int4"),
        ("completed_at", "timestamptz"),
        ("ended_at", "timestamptz"),
        ("paid_at", "timestamptz"),
    ] {
        variables.push((format!("s_{column}"), of_session(column).expect("a paid session has it")));
        write!(sets, ", {column} = :s_{column}::{kind}").expect("a string takes everything");
    }
    writeln!(text, "s as (update checkout_session set {sets} where id = {}) select 1;", number_after(SESSION_PREFIX))
        .expect("a string takes everything");
    Script::write(folder, "confirm.sql", &text, variables)
}

impl Bench {
    /// Payments beside pgbench.
    pub fn confirm(&mut self) {
        let names = ["pgbench: all rows of a payment, one statement", "gateway: the form's POST"];
        let [warm, measured] = self.write_forms();
        let clients = self.options.clients;
        let (paid, folder) = (self.paid.clone(), self.folder.path().to_owned());
        let script = self.runtime.block_on(script(&self.database, &folder, &paid, clients));
        let runs = self.compare(&names, |bench, place| {
            bench.runtime.block_on(async {
                bench.database.empty().await;
                bench.database.fill_sessions(&bench.samples.session, SESSIONS).await;
            });
            if place == 0 {
                return bench.run_base(&script);
            }
            let run = bench.run_gateway(false, |wrk, address, seconds, run| {
                let forms = if run == "warm" { &warm } else { &measured };
                wrk.confirm(address, clients, seconds, forms, BROWSER)
            });
            let counts = [
                "checkout_session where state = 'completed'",
                "charge where state = 'succeeded'",
                "simulator.charge where state = 'captured'",
                "payment",
            ];
            let counts: Vec<u64> =
                counts.iter().map(|table| bench.runtime.block_on(bench.database.count(table))).collect();
            assert!(counts[0] as f64 >= run.rate && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
            run
        });
        print_table("Payments, as ratio to the first line", &names, &runs);
        print_target("confirm / pgbench the same rows in one statement", ratio(&runs[1], &runs[0]).0, 0.5, false);
        println!();
    }

    /// What each form's POST needs, a line each: for warming up, and for measuring.
    fn write_forms(&self) -> [PathBuf; 2] {
        let keyring = Keyring::new(&[SecretString::from(self.secret_key.clone())]).expect("a key ring");
        let line = |number: u32| {
            let id =
                SessionId::parse(&format!("{SESSION_PREFIX}{number:0digits$}", digits = ID_DIGITS)).expect("an id");
            format!("/c/{}/pay {}\n", keyring.payer_token(&id), keyring.csrf_token(&id, BROWSER))
        };
        let write = |name: &str, numbers: std::ops::RangeInclusive<u32>| {
            let file = self.folder.path().join(name);
            std::fs::write(&file, numbers.map(line).collect::<String>()).expect("the temporary folder takes files");
            file
        };
        [write("warm.txt", 1..=WARM_UP_SESSIONS), write("forms.txt", WARM_UP_SESSIONS + 1..=SESSIONS)]
    }

    /// Pays the sample session, so that there is a row of each kind.
    pub async fn pay_sample(client: &reqwest::Client, address: &str, keyring: &Keyring, session: &str) {
        let id = SessionId::parse(session).expect("an id");
        let answer = client
            .post(format!("http://{address}/c/{}/pay", keyring.payer_token(&id)))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .header("cookie", format!("cs={BROWSER}"))
            .body(format!("csrf_token={}&{FORM_FIELDS}", keyring.csrf_token(&id, BROWSER)))
            .send()
            .await
            .expect("the gateway answers");
        assert_eq!(answer.status(), 303, "the sample session is paid");
    }
}
