//! What people hand in: files with disputes, and the history that nobody changes unseen.

use reqwest::Method;
use sqlx::Connection;

use crate::deal::{BUYER, Story, press_with_files, reader};
use crate::world::World;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n the rest of a picture";
const PDF: &[u8] = b"%PDF-1.7 the rest of a document";
const DISPUTE: [(&str, &str); 2] = [("reason", "damaged"), ("text", "It has a hole.")];

#[tokio::test]
async fn files_with_a_dispute_are_kept_as_what_they_are_and_only_ever_saved() {
    let world = World::start().await;
    let mut story = Story::delivered(&world, "quick").await;
    let session = story.session("dispute", BUYER).await;
    let files = [("../hole.jpg", "image/jpeg", PNG), ("invoice (1).pdf", "application/pdf", PDF)];
    press_with_files(&mut story.buyer, &session, &DISPUTE, &files).await.says("Dispute opened");
    let list = story.merchant.get(&format!("/v1/escrows/{}/attachments", story.id)).await.ok();
    let named: Vec<_> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| (file["file_name"].as_str().unwrap_or(""), file["content_type"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(named, [("hole.png", "image/png"), ("invoice__1_.pdf", "application/pdf")]);
    let path = format!("/v1/escrow_attachments/{}", list["data"][0]["id"].as_str().expect("an id"));
    assert_eq!(story.merchant.get(&path).await.ok()["size"], PNG.len());
    let bytes = |merchant: &crate::merchant::Merchant| {
        merchant.request(Method::GET, &path).header("Accept", "application/octet-stream")
    };
    let answer = story.merchant.send(bytes(&story.merchant)).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"hole.png\""));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    let stranger = world.merchant().await;
    stranger.send(bytes(&stranger)).await.refused(404);
    story.seller.visit(&path).await;
    world.end().await;
}

#[tokio::test]
async fn files_that_are_not_what_they_say_too_many_or_too_large_are_refused_and_nothing_is_done() {
    let world = World::start().await;
    let mut story = Story::paid(&world, "quick").await;
    let session = story.session("dispute", BUYER).await;
    let large = [PNG, &vec![0; 2 * 1024 * 1024 + 1 - PNG.len()]].concat();
    let huge = [PNG, &vec![0; 20 * 1024 * 1024]].concat();
    let page = ("page.png", "image/png", &b"<html><script>1</script>"[..]);
    let fine = ("fine.png", "image/png", PNG);
    for (files, words) in [
        (vec![fine, page], "Choose pictures (PNG, JPEG, WebP) or PDFs only."),
        (vec![fine; 4], "Choose at most 3 files."),
        (vec![("large.png", "image/png", large.as_slice())], "Choose files of at most 2 MB each."),
        (vec![fine, ("IMG_7.jpg", "image/jpeg", huge.as_slice())], "“IMG_7.jpg” is larger than 2 MB."),
        (vec![fine, ("empty.png", "image/png", &b""[..])], "“empty.png” is empty."),
        (vec![fine; 20], "more than this page can take"),
    ] {
        press_with_files(&mut story.buyer, &session, &DISPUTE, &files).await.says(words);
    }
    let answer = press_with_files(&mut story.buyer, &session, &[("reason", "damaged")], &[fine]).await;
    answer.says("Say what happened.");
    let turned = [("reason", "damaged"), ("text", "It is \u{202e}enif")];
    press_with_files(&mut story.buyer, &session, &turned, &[fine]).await.says("U+202E");
    assert_eq!(world.count("select count(*) from escrow_attachment").await, 0);
    assert_eq!(story.merchant.read(&session).await["state"], "pending");
    let mut thief = reader(&world, 0);
    thief.open(&session).await;
    thief.forget_cookies();
    let path = format!("{}/act", thief.path_of(&session));
    let body = b"--edge\r\nContent-Disposition: form-data; name=\"csrf_token\"\r\n\r\nx\r\n--edge--\r\n".to_vec();
    let media_type = "multipart/form-data; boundary=edge";
    for headers in [&[("sec-fetch-site", "cross-site")], &[("sec-fetch-site", "same-origin")]] {
        let refused = thief.send_body(Method::POST, &path, headers, Some((media_type, body.clone()))).await;
        assert_eq!(refused.status.as_u16(), 403, "{}", refused.text());
    }
    press_with_files(&mut story.buyer, &session, &DISPUTE, &[fine]).await.says("Dispute opened");
    world.end().await;
}

#[tokio::test]
async fn whoever_rewrites_the_history_is_found() {
    let world = World::start().await;
    let story = Story::delivered(&world, "standard").await;
    world.books_are_right().await;
    let mut connection = world.database().await;
    for sql in [
        "update escrow_history set entry = entry || ' '",
        "delete from escrow_history where number = 1",
        "truncate escrow_history",
    ] {
        let error = sqlx::query(sql).execute(&mut connection).await.expect_err(sql);
        assert!(error.to_string().contains("only ever added to"), "{error}");
    }
    connection.close().await.expect("it closes");
    world.execute("create table kept as select * from escrow_history").await;
    world.execute("alter table escrow_history disable trigger user").await;
    let last = story.escrow().await;
    assert_eq!(last["status"], "delivered");
    for (sql, number, what) in [
        (
            "update escrow_history set entry = replace(entry, 'Bea Buyer', 'Bob Buyer') where number = 3",
            3,
            "the entry is not what was hashed",
        ),
        ("delete from escrow_history where number = 2", 2, "the entry is missing"),
        (
            "delete from escrow_history where number = (select max(number) from escrow_history)",
            6,
            "the number of entries is not what the escrow says",
        ),
        (
            "update escrow_history set hash = sha256('x'), entry = '{}' where number = (select max(number) from escrow_history)",
            6,
            "the entry is not what was hashed",
        ),
        (
            "update escrow_history set previous_hash = sha256('x') where number = 4",
            4,
            "the entry does not follow the one before it",
        ),
    ] {
        world.execute(sql).await;
        let audit = world.audit().await;
        let rule = audit.rules.iter().find(|rule| rule.name == "escrow_histories_whole").expect("the rule is judged");
        assert_eq!((rule.broken, rule.findings[0].id.as_str()), (1, story.id.as_str()), "{sql}");
        let sentence = &rule.findings[0].sentence;
        assert!(sentence.contains(&format!("broken at entry {number}: {what}")), "{sql}: {sentence}");
        world.execute("delete from escrow_history; insert into escrow_history select * from kept").await;
    }
    world.books_are_right().await;
    world.end().await;
}
