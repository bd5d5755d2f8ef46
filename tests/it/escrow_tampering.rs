//! Evidence that somebody changes by hand, with every guard of the database taken away: the audit names it.

use sqlx::Connection;

use crate::deal::{BUYER, Story, press_with_files};
use crate::world::World;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n the rest of a picture";
const DISPUTE: [(&str, &str); 2] = [("reason", "damaged"), ("text", "It has a hole.")];
const TABLES: [&str; 4] = ["escrow", "escrow_signature", "escrow_attachment", "ledger_entry"];

/// What somebody does, and how the audit begins to say so; `{}` stands for a file's id.
const TAMPERED: &[(&str, &str)] = &[
    ("update escrow set title = 'A kayak'", "`title` of escrow"),
    ("update escrow set buyer_email = 'eve@stranger.example'", "`buyer_email` of escrow"),
    ("update escrow set application_fee_amount = 0", "`application_fee_amount` of escrow"),
    (
        "update escrow set contract_text = replace(contract_text, 'It floats.', 'It sinks.')",
        "`contract_sha256` of escrow",
    ),
    (
        "update escrow set contract_text = replace(contract_text, 'It floats.', 'It sinks.'),
             contract_terms = replace(contract_terms, 'It floats.', 'It sinks.');
         update escrow set contract_sha256 = sha256(convert_to(contract_text, 'UTF8'))",
        "`contract_sha256` of escrow",
    ),
    ("update escrow set contract_terms = 'It flies.'", "`contract_sha256` of escrow"),
    ("update escrow set dispute_text = 'All is well.'", "`dispute_text` of escrow"),
    ("update escrow set disputed_by = 'seller'", "`disputed_by` of escrow"),
    ("update escrow set tracking_reference = 'TRACK-8'", "`tracking_reference` of escrow"),
    ("update escrow set cancellation_reason = 'I bought a kayak.'", "`cancellation_reason` of escrow"),
    ("update escrow set delivered_at = delivered_at - interval '1 day'", "`delivered_at` of escrow"),
    ("update escrow set status = 'paid', previous_status = null", "`status` of escrow"),
    (
        "update escrow set settled_seller = settled_seller - 1, settled_buyer = settled_buyer + 1",
        "`settled_buyer` of escrow",
    ),
    ("update escrow set resolution = 'release'", "`resolution` of escrow"),
    ("update escrow set amount_returned = 1", "`amount_returned` of escrow"),
    ("update escrow_signature set name = 'Bob Buyer' where party = 'buyer'", "`name` of the signature buyer of escrow"),
    (
        "update escrow_signature set signed_at = signed_at - interval '1 day' where party = 'buyer'",
        "`signed_at` of the signature buyer of escrow",
    ),
    (
        "update escrow_signature set email = 'eve@stranger.example' where party = 'seller'",
        "`email` of the signature seller",
    ),
    ("update escrow_signature set ip = '192.0.2.1' where party = 'buyer'", "`ip` of the signature buyer of escrow"),
    (
        "update escrow_signature set user_agent = 'x' where party = 'buyer'",
        "`user_agent` of the signature buyer of escrow",
    ),
    (
        "update escrow_signature set session_id = (select session_id from escrow_signature where party = 'seller')
         where party = 'buyer'",
        "`session_id` of the signature buyer of escrow",
    ),
    (
        "update escrow_signature set contract_sha256 = sha256('x') where party = 'buyer'",
        "`contract_sha256` of the signature buyer of escrow",
    ),
    ("delete from escrow_signature where party = 'seller'", "`is_there` of the signature seller of escrow"),
    (
        "update escrow_attachment set content = content || '\\x00'; update escrow_attachment set sha256 = sha256(content)",
        "`sha256` of the file {} of escrow",
    ),
    ("update escrow_attachment set file_name = 'whole.png'", "`file_name` of the file {} of escrow"),
    ("update escrow_attachment set content_type = 'application/pdf'", "`content_type` of the file {} of escrow"),
    ("update escrow_attachment set party = 'seller'", "`party` of the file {} of escrow"),
    ("delete from escrow_attachment", "`is_there` of the file {} of escrow"),
    (
        "insert into escrow_attachment select 'file_forged', escrow_id, merchant_id, livemode, session_id, party, 2,
             file_name, content_type, sha256, content, created_at from escrow_attachment",
        "`is_there` of the file file_forged of escrow",
    ),
    (
        "update ledger_entry set amount = amount + 1 where movement = 'released' and account = 'seller';
         update ledger_entry set amount = amount - 1 where movement = 'released' and account = 'merchant'",
        "`released_to_merchant` by the ledger of escrow",
    ),
    (
        "update ledger_entry set amount = 9999 where movement = 'returned' and account = 'payer'",
        "`returned_to_buyer` by the ledger of escrow",
    ),
];

/// A signed, delivered, disputed and split escrow with a file: something of everything.
async fn whole_story(world: &World) -> (Story, String) {
    let mut story = Story::delivered(world, "standard").await;
    let session = story.session("dispute", BUYER).await;
    press_with_files(&mut story.buyer, &session, &DISPUTE, &[("hole.png", "image/png", PNG)]).await;
    let list = story.merchant.get(&format!("/v1/escrows/{}/attachments", story.id)).await.ok();
    let file = list["data"][0]["id"].as_str().expect("a file").to_owned();
    let fields = [("resolution", "split"), ("refund_amount", "10000"), ("release_amount", "15000")];
    assert_eq!(story.call("resolve", &fields).await.ok()["status"], "completed");
    (story, file)
}

#[tokio::test]
async fn the_database_refuses_to_change_evidence_and_deals() {
    let world = World::without_worker().await;
    let (story, _) = whole_story(&world).await;
    let mut connection = world.database().await;
    for (sql, says) in [
        ("update escrow_signature set name = 'Bob Buyer'", "only ever added to"),
        ("delete from escrow_signature", "only ever added to"),
        ("truncate escrow_signature", "only ever added to"),
        ("update escrow_attachment set file_name = 'whole.png'", "only ever added to"),
        ("delete from escrow_attachment", "only ever added to"),
        ("truncate escrow_attachment", "only ever added to"),
        ("update escrow set amount = 1, application_fee_amount = 0", "never changes"),
        ("update escrow set contract_terms = 'x'", "never changes"),
        ("delete from escrow", "never changes"),
    ] {
        let error = sqlx::query(sql).execute(&mut connection).await.expect_err(sql);
        assert!(error.to_string().contains(says), "{sql}: {error}");
    }
    connection.close().await.expect("it closes");
    // The merchant's own note is neither.
    let noted = story.merchant.post(&format!("/v1/escrows/{}", story.id), &[("metadata[order]", "7")]).await.ok();
    assert_eq!(noted["metadata"]["order"], "7");
    world.books_are_right().await;
    world.end().await;
}

#[tokio::test]
async fn whoever_changes_what_was_handed_in_or_decided_is_found() {
    let world = World::without_worker().await;
    let (story, file) = whole_story(&world).await;
    world.books_are_right().await;
    // The hand of somebody who may do everything.
    world
        .execute(
            "do $$ declare it record; begin
                for it in select conrelid::regclass as owner, conname from pg_constraint
                    where (contype = 'c' and conrelid in ('escrow'::regclass, 'escrow_signature'::regclass,
                        'escrow_attachment'::regclass)) or (contype = 'f' and confrelid = 'escrow'::regclass)
                loop execute format('alter table %s drop constraint %I', it.owner, it.conname); end loop;
            end $$",
        )
        .await;
    for table in TABLES {
        world.execute(&format!("alter table {table} disable trigger user")).await;
        world.execute(&format!("create table kept_{table} as select * from {table}")).await;
    }
    let evidence = async || {
        let audit = world.audit().await;
        audit.rules.into_iter().find(|rule| rule.name == "escrow_evidence_fits").expect("the rule is judged")
    };
    for (sql, begins) in TAMPERED {
        world.execute(sql).await;
        let rule = evidence().await;
        assert!(rule.broken >= 1, "{sql} was not found");
        assert_eq!(rule.findings[0].id, story.id, "{sql}");
        let begins = begins.replace("{}", &file);
        let found = rule.findings.iter().any(|finding| finding.sentence.starts_with(&begins));
        assert!(found, "{sql}: {:#?}", rule.findings);
        for table in TABLES {
            world.execute(&format!("delete from {table}")).await;
            world.execute(&format!("insert into {table} overriding system value select * from kept_{table}")).await;
        }
        assert_eq!(evidence().await.broken, 0, "after {sql}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_an_older_entry_does_not_say_is_not_asked_of_it() {
    let world = World::without_worker().await;
    let (story, _) = whole_story(&world).await;
    world.execute("alter table escrow_history disable trigger user").await;
    // As entries were written before they told the whole deal and the names of files.
    let mut connection = world.database().await;
    let mut previous = vec![0_u8; 32];
    let rows: Vec<(i32, String)> =
        sqlx::query_as("select number, entry from escrow_history where escrow_id = $1 order by number")
            .bind(&story.id)
            .fetch_all(&mut connection)
            .await
            .expect("a history");
    for (number, entry) in rows {
        let mut entry: serde_json::Value = serde_json::from_str(&entry).expect("JSON");
        if let Some(detail) = entry["detail"].as_object_mut() {
            for new in ["title", "mode", "application_fee_amount", "buyer_email", "seller_email"] {
                detail.remove(new);
            }
        }
        for file in entry["detail"]["files"].as_array_mut().into_iter().flatten() {
            *file = serde_json::json!({"id": file["id"], "sha256": file["sha256"]});
        }
        let hash: Vec<u8> = sqlx::query_scalar(
            "update escrow_history set entry = $3, previous_hash = $4, hash = sha256($4 || convert_to($3, 'UTF8'))
             where escrow_id = $1 and number = $2 returning hash",
        )
        .bind(&story.id)
        .bind(number)
        .bind(entry.to_string())
        .bind(&previous)
        .fetch_one(&mut connection)
        .await
        .expect("it is written");
        previous = hash;
    }
    sqlx::query("update escrow set history_head = $2 where id = $1")
        .bind(&story.id)
        .bind(&previous)
        .execute(&mut connection)
        .await
        .expect("it is written");
    connection.close().await.expect("it closes");
    world.books_are_right().await;
    world.end().await;
}

#[tokio::test]
async fn the_audit_counts_every_escrow_whose_books_are_wrong_however_few_it_shows() {
    let world = World::without_worker().await;
    for _ in 0..3 {
        Story::paid(&world, "instant").await;
    }
    world.execute("delete from ledger_entry where movement = 'held'").await;
    world.execute("alter table escrow disable trigger user; update escrow set title = 'x'").await;
    let options = checkstand::ops::audit::Options { findings_max: 1, doubts_after_minutes: 10 };
    let audit = checkstand::ops::audit::run(&world.database_url().await, options).await.expect("it can be made");
    for name in ["escrow_books_fit", "escrow_evidence_fits"] {
        let rule = audit.rules.iter().find(|rule| rule.name == name).expect("the rule is judged");
        assert_eq!((rule.broken, rule.findings.len()), (3, 1), "{name}");
    }
    world.end().await;
}

#[tokio::test]
async fn whoever_moves_the_deadline_or_the_time_that_is_left_is_found() {
    let world = World::without_worker().await;
    let mut story = Story::delivered(&world, "quick").await;
    world.books_are_right().await;
    let finding = async || {
        let audit = world.audit().await;
        let rule =
            audit.rules.into_iter().find(|rule| rule.name == "escrow_evidence_fits").expect("the rule is judged");
        rule.findings.first().map(|finding| finding.sentence.clone()).unwrap_or_default()
    };
    world.execute("update escrow set completion_deadline = completion_deadline - interval '6 days'").await;
    assert!(finding().await.starts_with("`completion_deadline` of escrow"), "{}", finding().await);
    world.execute("update escrow set completion_deadline = completion_deadline + interval '6 days'").await;
    assert_eq!(finding().await, "");
    story.act("request_cancellation", BUYER, &[("text", "I moved away.")]).await;
    world.books_are_right().await;
    world.execute("update escrow set inspection_left_us = 1").await;
    assert!(finding().await.starts_with("`inspection_left_us` of escrow"), "{}", finding().await);
    world.end().await;
}
