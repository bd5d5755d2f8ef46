//! A transaction that is begun and dropped half-way must not poison the pool: the next user of the
//! connection would work inside somebody else's transaction and lose everything it writes.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use checkstand::store::Store;
use chrono::{DateTime, Utc};

use crate::world::World;

/// Connections of the pool: few, so that each is cancelled on often.
const CONNECTIONS: u32 = 4;

/// Transactions begun and dropped.
const CANCELLED: usize = 2_000;

/// Polls a future so many times and drops it, as a server does whose client goes away.
async fn poll_and_drop<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        let done = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
        if done {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Inside a transaction the time stands still.
async fn is_inside_a_transaction(connection: &mut sqlx::PgConnection) -> bool {
    let mut times: Vec<DateTime<Utc>> = Vec::new();
    for _ in 0..2 {
        times.push(sqlx::query_scalar("select now()").fetch_one(&mut *connection).await.expect("the database answers"));
    }
    times[0] == times[1]
}

#[tokio::test]
async fn a_cancelled_begin_never_leaves_a_connection_inside_a_transaction() {
    let world = World::start().await;
    let store = Store::connect(&world.database_url().await, CONNECTIONS).await.expect("the store opens");
    let mut cut_off = 0;
    for round in 0..CANCELLED {
        let finished = poll_and_drop(store.begin(), 1 + round % 7).await;
        cut_off += usize::from(!finished);
        let mut connection = store.pool().acquire().await.expect("a connection");
        assert!(!is_inside_a_transaction(&mut connection).await, "round {round} left a transaction open");
    }
    assert!(cut_off > CANCELLED / 10, "only {cut_off} of {CANCELLED} were cut off: the story proves nothing");

    // None was lost either: all of them can be had at once.
    let mut all = Vec::new();
    for _ in 0..CONNECTIONS {
        all.push(store.pool().acquire().await.expect("every place of the pool is still there"));
    }
    drop(all);
    store.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_work_leaves_neither_locks_nor_half_a_change() {
    let world = World::start().await;
    let store = Store::connect(&world.database_url().await, CONNECTIONS).await.expect("the store opens");
    world.execute("create table counter (n int not null); insert into counter values (0)").await;
    let bump = async || -> Result<(), checkstand::error::Error> {
        let mut transaction = store.begin().await?;
        sqlx::query("update counter set n = n + 1").execute(&mut *transaction).await?;
        sqlx::query("update counter set n = n + 1").execute(&mut *transaction).await?;
        store.commit(transaction).await
    };
    let mut finished = 0;
    for round in 0..300 {
        finished += i64::from(poll_and_drop(bump(), 1 + round % 40).await);
    }
    // The row's lock is free, and no transaction was committed in part.
    bump().await.expect("nobody holds the row");
    let count = world.count("select n::int8 from counter").await;
    assert_eq!(count % 2, 0, "half a transaction was committed");
    assert!(count >= 2 * (finished + 1), "{count} after {finished} whole transactions");
    store.close().await;
    world.end().await;
}
