//! The database under measurement, on a real disk: made new for each benchmark, emptied between runs.
//!
//! Rows for pgbench are copied from one that the gateway made, so both write the same bytes. SQL that
//! is put together from column names comes from the catalogue and is no user's.

use std::path::PathBuf;

use checkstand::dev::postgres::{EmbeddedOptions, EmbeddedPostgres, Purpose};
use checkstand::store;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::runtime::Runtime;

/// pgbench at 64 clients, the gateway's pool, a look from outside.
const SESSIONS_MAX: u32 = 300;

/// The database inside the cluster.
pub const DATABASE: &str = "bench";

/// What one run leaves behind that the next must not find.
const TABLES_OF_A_RUN: &str = "checkout_session, event, idempotency_key, delivery, delivery_attempt, payment, charge,
     refund, ledger_entry, simulator.charge";

/// The embedded server with the benchmark's database.
pub struct Database {
    embedded: Option<EmbeddedPostgres>,
}

fn start() -> EmbeddedPostgres {
    let data_dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-data");
    let options = EmbeddedOptions { data_dir, purpose: Purpose::Benchmark, max_connections: SESSIONS_MAX };
    let embedded =
        EmbeddedPostgres::start(options).expect("PostgreSQL starts; run scripts/install-prerequisites bench");
    assert!(!embedded.attached(), "another benchmark is running on target/bench-data");
    embedded
}

impl Database {
    /// Starts the server and makes the schema.
    pub fn start(runtime: &Runtime) -> Self {
        let database = Self { embedded: Some(start()) };
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&database.server().url("checkstand")).await.expect("connects");
            for sql in [
                "alter system reset track_commit_timestamp",
                "drop database if exists bench with (force)",
                "create database bench",
                "checkpoint",
            ] {
                connection.execute(sql).await.expect(sql);
            }
            store::migrate(&database.url()).await.expect("migrates");
        });
        database
    }

    /// The server.
    pub fn server(&self) -> &EmbeddedPostgres {
        self.embedded.as_ref().expect("the server runs")
    }

    /// The database through the unix socket.
    pub fn url(&self) -> String {
        self.server().url(DATABASE)
    }

    /// The postmaster's process number.
    pub fn process(&self) -> u32 {
        let cluster = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-data").join("pg");
        let file = std::fs::read_to_string(cluster.join("postmaster.pid")).unwrap_or_default();
        file.lines().next().and_then(|line| line.trim().parse().ok()).expect("the postmaster's pid file")
    }

    /// Starts the server again, for settings that it reads only then.
    pub fn restart(&mut self) {
        self.embedded.take().expect("the server runs").stop().expect("the server stops");
        self.embedded = Some(start());
    }

    /// Stops the server.
    pub fn stop(mut self) {
        if let Some(embedded) = self.embedded.take() {
            embedded.stop().expect("the server stops");
        }
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("the database answers")
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
        connection.close().await.expect("closes");
    }

    /// One value as text.
    pub async fn text(&self, sql: &str) -> String {
        let mut connection = self.connect().await;
        let text: String =
            sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect(sql);
        connection.close().await.expect("closes");
        text
    }

    /// Two columns of text.
    pub async fn pairs(&self, sql: &str) -> Vec<(String, String)> {
        let mut connection = self.connect().await;
        let rows = sqlx::query_as(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.expect(sql);
        connection.close().await.expect("closes");
        rows
    }

    /// Rows of a table.
    pub async fn count(&self, table: &str) -> u64 {
        self.text(&format!("select count(*)::text from {table}")).await.parse().expect("a number")
    }

    /// Empties what a run fills. The checkpoint keeps the run before from writing into the next.
    pub async fn empty(&self) {
        // The cascade reaches tables whose triggers let nobody empty them; this session passes triggers by.
        self.execute(&format!("set session_replication_role = replica; truncate {TABLES_OF_A_RUN} cascade")).await;
        self.execute("checkpoint").await;
    }

    /// The columns of a table's only row that hold something, as text.
    pub async fn sample(&self, table: &str) -> Vec<(String, String)> {
        let sql = format!(
            "select e.key, e.value from (select * from {table} limit 1) t, jsonb_each_text(to_jsonb(t)) e where e.value is not null"
        );
        let columns = self.pairs(&sql).await;
        assert!(!columns.is_empty(), "{table} has a row to copy");
        columns
    }

    /// Like [`Self::sample`], of every row in the order of a column.
    pub async fn samples(&self, table: &str, order: &str) -> Vec<Vec<(String, String)>> {
        let mut rows = Vec::new();
        for place in 0..self.count(table).await {
            rows.push(self.sample(&format!("(select * from {table} order by {order} offset {place}) o")).await);
        }
        assert!(!rows.is_empty(), "{table} has rows to copy");
        rows
    }

    /// The columns of a table with their types.
    pub async fn types(&self, table: &str) -> Vec<(String, String)> {
        let sql = format!(
            "select attname::text, format_type(atttypid, null) from pg_attribute where attrelid = '{table}'::regclass and attnum > 0"
        );
        self.pairs(&sql).await
    }

    /// Fills the session table with `count` copies of a sample, opened already, with ids from 1 on.
    pub async fn fill_sessions(&self, sample: &[(String, String)], count: u32) {
        let (names, values) = copy_columns(sample, |name| match name {
            "id" => Some(format!("'{}' || lpad(n::text, {}, '0')", SESSION_PREFIX, ID_DIGITS)),
            "opened_at" => Some("now()".to_owned()),
            "expires_at" => Some("now() + interval '1 day'".to_owned()),
            _ => None,
        });
        self.execute(&format!(
            "insert into checkout_session ({names}, opened_at) select {values}, now() from generate_series(1, {count}) n"
        ))
        .await;
        self.execute("vacuum analyze checkout_session").await;
    }

    /// Writes `count` events that are owed to one of `endpoints` each, due now.
    pub async fn fill_deliveries(
        &self,
        event: &[(String, String)],
        delivery: &[(String, String)],
        endpoints: &[String],
        count: i64,
    ) {
        let id = format!("'{EVENT_PREFIX}' || lpad(n::text, {ID_DIGITS}, '0')");
        let (names, values) = copy_columns(event, |name| match name {
            "id" => Some(id.clone()),
            "created_at" => Some("now()".to_owned()),
            _ => None,
        });
        let list = endpoints.iter().map(|endpoint| format!("'{endpoint}'")).collect::<Vec<_>>().join(",");
        let (delivery_names, delivery_values) = copy_columns(delivery, |name| match name {
            "event_id" => Some(id.clone()),
            "event_created_at" | "due_at" => Some("now()".to_owned()),
            "endpoint_id" => Some(format!("(array[{list}])[1 + n % {}]", endpoints.len())),
            _ => None,
        });
        self.execute(&format!(
            "begin;
             insert into event ({names}) select {values} from generate_series(1, {count}) n;
             insert into delivery ({delivery_names}) select {delivery_values} from generate_series(1, {count}) n;
             commit"
        ))
        .await;
        self.execute("vacuum analyze event, delivery").await;
    }
}

/// How ids made of a number begin, and how long the number is.
pub const SESSION_PREFIX: &str = "cs_test_";
/// The same for events.
pub const EVENT_PREFIX: &str = "evt_";
/// Digits of the number.
pub const ID_DIGITS: usize = 26;

/// Names and SQL values of copied columns, some of them replaced.
fn copy_columns(sample: &[(String, String)], replaced: impl Fn(&str) -> Option<String>) -> (String, String) {
    let names = sample.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>().join(", ");
    let value =
        |(name, value): &(String, String)| replaced(name).unwrap_or_else(|| format!("'{}'", value.replace('\'', "''")));
    (names, sample.iter().map(value).collect::<Vec<_>>().join(", "))
}
