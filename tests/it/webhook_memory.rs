//! What hostile answers cost the real program in memory: next to nothing, however much is offered to it. Measured by the
//! kernel, as the highest that was ever resident.

use crate::hostile_receiver::{BOMB, BOMB_BYTES, HostileReceiver};
use crate::program::Program;
use crate::receiver::Receiver;
use crate::tls_receiver::{Authority, Manner, TlsReceiver};
use crate::world::{World, WorldOptions, eventually};

const CREATED: &str = "checkout.session.created";

/// Sessions that every endpoint is told of.
const SESSIONS: usize = 8;

/// Endpoints of each of the manners that send much.
const OF_EACH: usize = 4;

/// What the program may grow by at most. It may hold a window of 64 KiB for each attempt and a few buffers; each of these
/// answers alone is sixteen times as large.
const GROWTH_KB_MAX: u64 = 20 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_answers_of_any_size_leave_the_memory_of_the_program_flat() {
    assert!(BOMB_BYTES >= 1 << 30 && BOMB.len() < 2 << 20, "{} bytes are no bomb", BOMB.len());
    let authority = Authority::new();
    let both = &["h2", "http/1.1"];
    let settings = vec![authority.setting(), ("WEBHOOK_ENDPOINTS_MAX", "64".to_owned())];
    let world = World::with(WorldOptions { worker: false, settings, ..WorldOptions::default() }).await;
    let (program, base) = Program::serve(&world, &[]).await;
    let merchant = world.merchant().await.at(&base);
    // The neighbour shows that nobody is stalled, and its first deliveries bring the program to its usual size.
    let neighbour: Receiver = world.receiver(&merchant).await;
    for _ in 0..SESSIONS {
        merchant.session().await;
    }
    neighbour.wait_for_many(CREATED, SESSIONS).await;

    let hostile = HostileReceiver::start().await;
    let mut urls = Vec::new();
    for path in ["/huge", "/bomb", "/endless-head", "/endless-refusal", "/large-head", "/early-answers"] {
        urls.extend((0..OF_EACH).map(|_| hostile.url(path)));
    }
    urls.extend(["/reset", "/close", "/garbage", "/half"].map(|path| hostile.url(path)));
    urls.push("https://hooks.nowhere.invalid/".to_owned());
    let expired = authority.tls("localhost", both, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let mut refusing = Vec::new();
    for tls in [Authority::self_signed("localhost"), authority.tls("shop.example", both, |_| {}), expired] {
        let receiver = TlsReceiver::start(tls, Manner::Good).await;
        urls.push(receiver.url("localhost"));
        refusing.push(receiver);
    }
    let mut endless = Vec::new();
    for _ in 0..OF_EACH {
        let receiver = TlsReceiver::start(authority.tls("localhost", both, |_| {}), Manner::Endless).await;
        urls.push(receiver.url("localhost"));
        endless.push(receiver);
    }
    for url in &urls {
        merchant.post("/v1/webhook_endpoints", &[("url", url), ("enabled_events[]", CREATED)]).await.ok();
    }
    let before = program.peak_memory_kb();
    for _ in 0..SESSIONS {
        merchant.session().await;
    }
    neighbour.wait_for_many(CREATED, 2 * SESSIONS).await;
    let wanted = i64::try_from((urls.len() + 2) * SESSIONS).expect("few");
    let mut made = 0;
    eventually("every endpoint has been tried with every event", async || {
        made = world.count("select count(*) from delivery_attempt where attempt = 1").await;
        (made >= wanted).then_some(())
    })
    .await;
    let grown = program.peak_memory_kb() - before;
    assert!(grown < GROWTH_KB_MAX, "{grown} kB more than the {before} kB of an ordinary day");

    // It was not for want of attempts: each manner was met, and much more was offered than was taken.
    assert!(hostile.written() > 0 && endless.iter().all(|receiver| receiver.seen().resets >= SESSIONS));
    assert!(refusing.iter().all(|receiver| receiver.seen().requests.is_empty()), "a bad certificate was believed");
    let taken = "select count(*) from delivery_attempt where outcome = 'delivered' and attempt = 1";
    let good = i64::try_from((3 * OF_EACH + 2) * SESSIONS).expect("few");
    assert_eq!(world.count(taken).await, good, "the status of a huge answer counts, others fail");
    assert_eq!(
        world.count("select count(*) from delivery_attempt where octet_length(response_excerpt) > 1024").await,
        0
    );
    program.kill().await;
    world.end().await;
}
