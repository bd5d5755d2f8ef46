//! What the operator is told to alert on exists, from the first moment on, and tells the truth.

use std::path::Path;

use sqlx::Executor as _;

use crate::program::Program;
use crate::world::{World, WorldOptions, eventually};

const CREATED: &str = "checkout.session.created";

/// The names that the operator's page puts into code, each with its label where one is given.
fn alerted() -> Vec<(String, Option<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let (_, alerts) = page.split_once("Alert on ").expect("the alerts");
    let (alerts, _) = alerts.split_once("\n## ").expect("the next section");
    let mut names = Vec::new();
    for code in alerts.split('`').skip(1).step_by(2) {
        let Some(at) = code.find("checkstand_") else { continue };
        let rest = &code[at..];
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        let label = rest[end..].strip_prefix('{').and_then(|labels| labels.split_once('}')).map(|(label, _)| label);
        names.push((rest[..end].to_owned(), label.map(str::to_owned)));
    }
    names
}

/// The value of the first series of this name, and with this label.
fn value(metrics: &str, name: &str, label: Option<&str>) -> Option<f64> {
    let line = metrics.lines().find(|line| {
        let series = line.split(' ').next().unwrap_or_default();
        let (own, labels) = series.split_once('{').unwrap_or((series, ""));
        let suffix = own.strip_prefix(name).unwrap_or("none");
        matches!(suffix, "" | "_count") && label.is_none_or(|label| labels.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn every_series_of_the_alert_list_is_there_before_anything_has_happened() {
    let names = alerted();
    assert!(names.len() >= 10, "only {} names were found: is the search still right?", names.len());
    let world = World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await;
    // What tells of mail is there where mail is sent.
    let mail = [
        ("CHECKSTAND_SMTP_HOST", "localhost"),
        ("CHECKSTAND_SMTP_TLS", "none"),
        ("CHECKSTAND_MAIL_FROM", "a@b.example"),
    ];
    let (program, base) = Program::serve(&world, &mail).await;
    let missing = async || {
        let metrics = reqwest::get(format!("{base}/metrics")).await.expect("an answer").text().await.expect("text");
        let is_missing = |(name, label): &&(String, Option<String>)| value(&metrics, name, label.as_deref()).is_none();
        names.iter().filter(is_missing).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    // Only levels may have to be measured first, by the worker's first rounds.
    let levels = |name: &String| ["_owed", "_seconds", "_overdue", "_in_flight"].iter().any(|end| name.ends_with(end));
    let at_first = missing().await;
    assert!(at_first.iter().all(levels), "a counter begins with its first event: {at_first:?}");
    for name in &at_first {
        eventually(name, async || (!missing().await.contains(name)).then_some(())).await;
    }
    program.kill().await;
    world.end().await;
}

/// What is told once one delivery is owed and the oldest due one has this age.
async fn metrics_when(base: &str, age_is_right: fn(f64) -> bool) -> String {
    eventually("the queue's age", async || {
        let metrics = reqwest::get(format!("{base}/metrics")).await.expect("an answer").text().await.expect("text");
        let owes_one = value(&metrics, "checkstand_webhook_owed", None)? == 1.0;
        let age = value(&metrics, "checkstand_webhook_oldest_due_seconds", None)?;
        (owes_one && age_is_right(age)).then_some(metrics)
    })
    .await
}

#[tokio::test]
async fn queue_depth_age_outcomes_and_latencies_are_told() {
    let world = World::with(WorldOptions { worker: false, ..WorldOptions::default() }).await;
    let (program, base) = Program::serve(&world, &[]).await;
    let merchant = world.merchant().await.at(&base);
    let sound = world.receiver(&merchant).await;
    let broken = world.receiver(&merchant).await;
    broken.answer_with(500);
    merchant.session().await;
    let event = sound.wait_for(CREATED).await;
    merchant.attempts_of(event.event_id(), 2).await;
    // The failed one is due for five minutes now. While its endpoint is paused, that is nobody's delay.
    world
        .execute(
            "insert into webhook_endpoint_health (endpoint_id, failing_since, failures, pauses, paused_until)
                 select endpoint_id, now(), 20, 1, now() + interval '1 hour' from delivery
                 on conflict (endpoint_id) do update set paused_until = excluded.paused_until;
             update delivery set due_at = now() - interval '5 minutes', lease_token = gen_random_uuid()",
        )
        .await;
    metrics_when(&base, |age| age == 0.0).await;
    // Nobody can claim a row that another transaction holds: a worker that stands still.
    let mut holder = world.database().await;
    holder.execute("begin; select from delivery for update").await.expect("held");
    world.execute("update webhook_endpoint_health set paused_until = null").await;
    let metrics = metrics_when(&base, |age| age >= 299.0).await;
    holder.execute("rollback").await.expect("let go");
    let told = |name: &str, label: Option<&str>| value(&metrics, &format!("checkstand_webhook_{name}"), label);
    assert_eq!(told("owed", None), Some(1.0));
    assert_eq!(told("attempts_total", Some("outcome=\"delivered\"")), Some(1.0));
    let retried = told("attempts_total", Some("outcome=\"retry\"")).expect("counted");
    assert!(retried >= 1.0);
    assert_eq!(told("first_attempt_delay_seconds", None), Some(2.0));
    assert_eq!(told("attempt_duration_seconds", None), Some(1.0 + retried));
    assert!(metrics.contains("checkstand_webhook_attempt_duration_seconds_bucket{le=\""), "no histogram");
    // How soon events leave is not told by what is sent again, however often.
    let owed_to_the_sound = "select count(*) from delivery d
        where not exists (select 1 from webhook_endpoint_health h where h.endpoint_id = d.endpoint_id)";
    merchant.resend(event.event_id(), Some(&sound.endpoint_id)).await.ok();
    sound.wait_for_many(CREATED, 2).await;
    world.count_becomes(owed_to_the_sound, 0).await;
    let from = (world.now() - 60).to_string();
    let range = [("from", from.as_str()), ("webhook_endpoint", &sound.endpoint_id)];
    merchant.post("/v1/event_replays", &range).await.ok();
    sound.wait_for_many(CREATED, 3).await;
    let metrics = reqwest::get(format!("{base}/metrics")).await.expect("an answer").text().await.expect("text");
    assert_eq!(value(&metrics, "checkstand_webhook_first_attempt_delay_seconds", None), Some(2.0));
    program.kill().await;
    world.end().await;
}
