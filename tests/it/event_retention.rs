//! Old events and attempts are thrown away, by the day where that is possible, and never what is still
//! owed to somebody.

use checkstand::ops::sweep;
use chrono::{DateTime, Duration, NaiveTime, Utc};

use crate::world::World;

/// One event made so many days ago, with its delivery in this state.
async fn old_event(world: &World, days: i64, name: &str, delivery: Option<&str>) {
    let created_at = (world.app().clock.now() - Duration::days(days)).to_rfc3339();
    world
        .execute(&format!(
            "insert into event (id, created_at, merchant_id, livemode, type, object_id, body)
             values ('{name}', '{created_at}', 'acct_1', false, 'a.b', 'x', '{{}}')"
        ))
        .await;
    if let Some(dead_at) = delivery {
        world
            .execute(&format!(
                "insert into delivery values ('we_1', '{name}', '{created_at}', 'acct_1', 3, now() + interval '1 day',
                     gen_random_uuid(), {dead_at})"
            ))
            .await;
    }
    world
        .execute(&format!(
            "insert into delivery_attempt (merchant_id, endpoint_id, event_id, attempt, started_at, duration_ms, outcome)
             values ('acct_1', 'we_1', '{name}', 1, '{created_at}', 5, 'retry')"
        ))
        .await;
}

async fn make_day(world: &World, days: i64) -> String {
    let day: DateTime<Utc> = world.app().clock.now() - Duration::days(days);
    let begin = day.date_naive().and_time(NaiveTime::MIN).and_utc();
    let name = format!("event_{}", begin.format("%Y%m%d"));
    let (from, to) = (begin.to_rfc3339(), (begin + Duration::days(1)).to_rfc3339());
    world.execute(&format!("create table {name} partition of event for values from ('{from}') to ('{to}')")).await;
    name
}

const EXISTS: &str = "select (to_regclass($1) is not null)::text";
const KEPT: &str = "select coalesce(string_agg(id, ' ' order by id), '') from event where merchant_id = $1";
const LOGGED: &str =
    "select coalesce(string_agg(event_id, ' ' order by event_id), '') from delivery_attempt where merchant_id = $1";

#[tokio::test]
async fn what_is_old_goes_and_what_is_owed_stays() {
    let world = World::without_worker().await;
    world.execute("insert into merchant (id, name, created_at) values ('acct_1', 'm', now())").await;
    world
        .execute(
            "insert into webhook_endpoint (id, merchant_id, livemode, url, enabled_events, metadata, status, secret_sealed, created_at)
             values ('we_1', 'acct_1', false, 'https://shop.example/', '{*}', '{}', 'disabled', '', now())",
        )
        .await;
    // Ninety days and thirty are what is kept unless the operator says otherwise.
    let (forgotten, owed) = (make_day(&world, 100).await, make_day(&world, 95).await);
    old_event(&world, 100, "evt_day_done", None).await;
    old_event(&world, 100, "evt_day_dead", Some("now()")).await;
    old_event(&world, 95, "evt_day_of_the_owed", None).await;
    old_event(&world, 95, "evt_owed", Some("null")).await;
    old_event(&world, 120, "evt_without_a_day", None).await;
    old_event(&world, 40, "evt_in_time", None).await;
    old_event(&world, 1, "evt_fresh", None).await;

    sweep::tidy(world.app()).await.expect("the round is done");
    assert_eq!(world.text(KEPT, "acct_1").await, "evt_fresh evt_in_time evt_owed");
    assert_eq!(world.text(LOGGED, "acct_1").await, "evt_fresh evt_owed");
    assert_eq!(world.text(EXISTS, &forgotten).await, "false");
    assert_eq!(world.text(EXISTS, &owed).await, "true");
    assert_eq!(world.count("select count(*) from delivery").await, 1, "what was given up goes with its event");

    // Once it is delivered the day goes as well.
    world.execute("delete from delivery").await;
    sweep::tidy(world.app()).await.expect("the round is done");
    assert_eq!(world.text(KEPT, "acct_1").await, "evt_fresh evt_in_time");
    assert_eq!(world.text(EXISTS, &owed).await, "false");
    world.end().await;
}

#[tokio::test]
async fn a_day_that_somebody_holds_is_left_for_the_next_round() {
    let world = World::without_worker().await;
    let day = make_day(&world, 100).await;
    let mut holder = world.database().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("begin; select * from {day}"))).execute(&mut holder).await.expect("held");
    sweep::tidy(world.app()).await.expect("the round is done");
    assert_eq!(world.text(EXISTS, &day).await, "true");
    sqlx::raw_sql("commit").execute(&mut holder).await.expect("let go");
    sweep::tidy(world.app()).await.expect("the round is done");
    assert_eq!(world.text(EXISTS, &day).await, "false");
    drop(holder);
    world.end().await;
}
