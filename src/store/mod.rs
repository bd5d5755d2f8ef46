//! What we remember: the only SQL (beside the simulator's ledger, which plays another company).
//!
//! The rule: a function here runs one statement, or one step of a transaction that its caller holds;
//! it decides nothing. Rows become domain values by exhaustive match and a row that no type can
//! express is an internal error, never a default. Every merchant-facing query names the merchant.

pub mod allow_lists;
pub mod audit;
mod audit_disputes;
mod billing;
pub mod codec;
pub mod customers;
pub mod delivery_queue;
pub mod disputes;
pub mod endpoint_health;
pub mod endpoints;
pub mod escrow_evidence;
pub mod escrow_history;
pub mod escrow_replay;
pub mod escrows;
pub mod event_replays;
pub mod event_stream;
pub mod events;
pub mod fraud;
pub mod idempotency;
pub mod identity;

pub mod ledger;
pub mod mails;
pub mod merchants;
pub mod outbox;
mod page;
pub mod partitions;
pub mod payer_returns;
pub mod payment_lists;
pub mod payment_methods;
mod payment_writes;
pub mod payments;
pub mod references;
pub mod refunds;
pub mod retention;
pub mod reviews;
pub mod session_acts;
pub mod sessions;
pub mod together;

use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, PgPool, Postgres};

pub use page::{CreatedFilter, ListFilter, Page};

use crate::clock::Sample;
use crate::error::{Error, Result};

/// A database transaction.
pub type Transaction = sqlx::Transaction<'static, Postgres>;

/// A database connection inside a transaction.
pub type Connection = sqlx::PgConnection;

/// A lock that is not had in this time is somebody's mistake; the request is safe to repeat.
const LOCK_TIMEOUT: &str = "2s";

/// No statement of ours takes this long; one that does is hurting everybody else.
const STATEMENT_TIMEOUT: &str = "5s";

/// A transaction left open this long is a bug: PostgreSQL ends it.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "10s";

/// Longest wait for a first connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for a free connection. More would pile up requests in front of a busy database.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How far ahead event partitions are made: a worker that is down for a week still finds its day.
pub const PARTITIONS_AHEAD: chrono::Duration = chrono::Duration::days(7);

/// Connections set aside for statements that many requests share: two that write, so that one commits
/// while the other gathers, and one that reads. More only make the batches smaller.
const SHARED_CONNECTIONS_MAX: u32 = 3;

/// One connection in so many is set aside.
const CONNECTIONS_PER_SHARED: u32 = 4;

/// Every statement sees the moment of the first one.
const SNAPSHOT: &str = "begin isolation level repeatable read read only";

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    shared: Option<SharedPool>,
}

/// A connection out of a pool.
pub type SharedConnection = sqlx::pool::PoolConnection<Postgres>;

/// Connections for statements that many requests share. Whoever takes one keeps it while there is
/// work, because giving it back costs a round trip.
#[derive(Clone, Debug)]
pub struct SharedPool {
    pool: PgPool,
    /// How many there are.
    pub connections: u32,
}

/// The migrations, embedded in the binary.
static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Io(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => Self::Unavailable(format!("database: {error}")),
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // Lock, statement or idle time-out; deadlock; serialization; shutdown; start-up; full.
                Some(
                    "55P03" | "57014" | "40P01" | "40001" | "57P01" | "57P02" | "57P03" | "53100" | "53200" | "53300"
                    | "25P03" | "25006",
                ) => Self::Unavailable(format!("database: {error}")),
                _ => Self::Internal(format!("database: {error}")),
            },
            _ => Self::Internal(format!("database: {error}")),
        }
    }
}

/// What a statement fails with.
pub type Failure = sqlx::Error;

/// Whether the server says that it has refused a statement, so that nothing of it was done. After
/// every other failure it may have been done: a server that is shutting down can commit and still not
/// say so.
pub fn was_refused(failure: &Failure) -> bool {
    match failure {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| !code.starts_with("57P") && !code.starts_with("08"))
        }
        _ => false,
    }
}

/// A row that no type can express.
pub(crate) fn inconsistent(table: &str, id: &str, what: &str) -> Error {
    Error::Internal(format!("row {id} of table {table} is inconsistent: {what}"))
}

fn options(url: &str) -> Result<PgConnectOptions> {
    let not_postgres =
        || Error::Unavailable("the database URL is not one of PostgreSQL's (postgres://user@host/name)".to_owned());
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(not_postgres());
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| not_postgres())?;
    // Notices tell of things like a relation that exists already; what matters comes as an error.
    Ok(options.application_name("checkstand").options([("client_min_messages", "warning")]).disable_statement_logging())
}

/// One connection outside the pool, with the server's own words when it cannot be had.
async fn connect_once(options: &PgConnectOptions) -> Result<Connection> {
    let place = || format!("{}:{}", options.get_host(), options.get_port());
    match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(Error::Unavailable(format!("the database at {} cannot be used: {error}", place()))),
        Err(_) => Err(Error::Unavailable(format!("the database at {} did not answer in time", place()))),
    }
}

/// Brings the schema up to date and gives the names of the migrations that were applied. Safe to run
/// from several places at once: a lock in the database lets one go first. Statements may take as long
/// as they need here.
///
/// # Errors
/// When the database cannot be used, a migration fails, or the schema is newer than this binary.
pub async fn migrate(url: &str) -> Result<Vec<String>> {
    let mut connection = connect_once(&options(url)?).await?;
    let before = applied(&mut connection).await?;
    MIGRATOR
        .run(&mut connection)
        .await
        .map_err(|error| Error::Unavailable(format!("the database could not be migrated: {error}")))?;
    let now: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut connection).await?;
    partitions::ensure(&mut connection, now, PARTITIONS_AHEAD).await?;
    connection.close().await?;
    let new = MIGRATOR.iter().filter(|migration| !before.contains(&migration.version));
    Ok(new.map(|migration| migration.description.to_string()).collect())
}

/// The versions of the migrations that have been applied.
async fn applied(connection: &mut Connection) -> Result<Vec<i64>> {
    match sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(connection).await {
        Ok(versions) => Ok(versions),
        // The table is not there before the first migration.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

impl Store {
    /// Opens a pool of at most `connections_max` connections; the first is made at once, so that a
    /// wrong address is found at start.
    ///
    /// # Errors
    /// When the URL is malformed or the server does not answer.
    pub async fn connect(url: &str, connections_max: u32) -> Result<Self> {
        let options = options(url)?.statement_cache_capacity(256).options([
            ("lock_timeout", LOCK_TIMEOUT),
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
            // What is read is in memory or on a solid state disk. By its own default PostgreSQL would rather read
            // the whole of a small table than look a few hundred rows up.
            ("random_page_cost", "1.1"),
        ]);
        connect_once(&options).await?.close().await?;
        let set_aside = (connections_max / CONNECTIONS_PER_SHARED).min(SHARED_CONNECTIONS_MAX);
        // With one connection there would be a writer and no reader.
        let set_aside = if set_aside < 2 { 0 } else { set_aside };
        let shared = (set_aside > 0).then(|| SharedPool {
            connections: set_aside,
            pool: PgPoolOptions::new()
                .max_connections(set_aside)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
                // Their few statements have one good plan each, whatever the values are; making a plan
                // anew takes longer than carrying it out.
                .connect_lazy_with(options.clone().options([("plan_cache_mode", "force_generic_plan")])),
        });
        let pool = PgPoolOptions::new()
            .max_connections(connections_max - set_aside)
            .min_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A ping before each use costs a round trip; a connection that died in the pool costs one
            // failed request, which answers 503 and is safe to repeat.
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Ok(Self { pool, shared })
    }

    /// Whether every migration of this binary has been applied.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_migrated(&self) -> Result<bool> {
        let mut connection = self.pool.acquire().await?;
        let applied = applied(&mut connection).await?;
        Ok(MIGRATOR.iter().all(|migration| applied.contains(&migration.version)))
    }

    /// The database's clock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn now(&self) -> Result<DateTime<Utc>> {
        let (now,): (DateTime<Utc>,) = sqlx::query_as("select clock_timestamp()").fetch_one(&self.pool).await?;
        Ok(now)
    }

    /// The database's clock, with what there is to know of how late it was heard.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clock_sample(&self) -> Result<Sample> {
        let asked_at = Instant::now();
        let database_now = self.now().await?;
        let answered_at = Instant::now();
        Ok(Sample { database_now, waited: answered_at - asked_at, answered_at })
    }

    /// The pool, for single reads.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection for shared statements.
    ///
    /// # Errors
    /// When none is to be had.
    pub async fn shared_connection(&self) -> Result<SharedConnection, Failure> {
        self.shared.as_ref().map_or(&self.pool, |shared| &shared.pool).acquire().await
    }

    /// The connections for shared statements; none where `connections_max` is too small for any.
    pub fn shared(&self) -> Option<&SharedPool> {
        self.shared.as_ref()
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn begin(&self) -> Result<Transaction> {
        begin(&self.pool).await
    }

    /// Begins a transaction that only reads and sees one moment, however many statements it takes: what one
    /// answer says of a session, its payment and its charges must have been true together. Dropping it ends it.
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn snapshot(&self) -> Result<Transaction> {
        let pool = self.pool.clone();
        // In a task of its own for the reason given at `begin`.
        let begun = tokio::spawn(async move { pool.begin_with(SNAPSHOT).await }).await;
        Ok(begun.map_err(|error| Error::Internal(format!("a snapshot could not be begun: {error}")))??)
    }

    /// Commits a transaction.
    ///
    /// # Errors
    /// When the connection is lost; the caller cannot know whether the commit arrived.
    pub async fn commit(&self, transaction: Transaction) -> Result<()> {
        Ok(transaction.commit().await?)
    }

    /// Connections of this process: open, and idle among them.
    pub fn pool_connections(&self) -> (u32, usize) {
        let shared = self.shared.as_ref().map_or((0, 0), |shared| (shared.pool.size(), shared.pool.num_idle()));
        (self.pool.size() + shared.0, self.pool.num_idle() + shared.1)
    }

    /// Closes the pool after the connections in use have come back.
    pub async fn close(&self) {
        if let Some(shared) = &self.shared {
            shared.pool.close().await;
        }
        self.pool.close().await;
    }
}

/// Begins a transaction. sqlx 0.9 may give a connection back inside an open transaction when a `begin`
/// is cancelled (transact-rs/sqlx#4385), and a payer who closes his tab cancels whatever his request
/// awaits. A task of its own is not cancelled: a transaction that nobody waits for any more is dropped
/// there, which rolls it back.
pub(crate) async fn begin(pool: &PgPool) -> Result<Transaction> {
    let pool = pool.clone();
    match tokio::spawn(async move { pool.begin().await }).await {
        Ok(begun) => Ok(begun?),
        Err(error) => Err(Error::Internal(format!("a transaction could not be begun: {error}"))),
    }
}
