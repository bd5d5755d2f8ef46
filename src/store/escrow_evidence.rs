//! What people handed in: signatures under contracts and files with disputes.
//!
//! The rule: evidence is inserted in the transaction of its act and never changed. The bytes of a file
//! are read only for the one who downloads it.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row as _};

use super::{Connection, inconsistent};
use crate::domain::escrow::Actor;
use crate::domain::escrow_files::FileKind;
use crate::domain::id::{AttachmentId, EscrowId, MerchantId, SessionId};
use crate::error::Result;

/// A signature with what proves it.
#[derive(Debug, Clone)]
pub struct Signature {
    /// The escrow.
    pub escrow_id: EscrowId,
    /// Who signed.
    pub party: Actor,
    /// The address of who signed.
    pub email: String,
    /// The name as typed; none where the seller signed by making the escrow.
    pub name: Option<String>,
    /// When.
    pub signed_at: DateTime<Utc>,
    /// From where.
    pub ip: Option<String>,
    /// With which browser, as it says.
    pub user_agent: Option<String>,
    /// What proves the address, by its id, and when it was proven.
    pub proof: Option<(String, DateTime<Utc>)>,
    /// The session whose page proved the address; none where the seller signed by making the escrow.
    pub session_id: Option<SessionId>,
    /// SHA-256 of the exact text.
    pub contract_sha256: [u8; 32],
}

fn party(table: &str, id: &str, row: &PgRow) -> Result<Actor> {
    let word: String = row.try_get("party")?;
    Actor::parse_party(&word).ok_or_else(|| inconsistent(table, id, "unknown side"))
}

/// Writes a signature.
///
/// # Errors
/// When the database does not answer, or the side has signed before.
pub async fn insert_signature(connection: &mut Connection, signature: &Signature) -> Result<()> {
    let method = if signature.session_id.is_some() { "page" } else { "creation" };
    sqlx::query(
        "insert into escrow_signature (escrow_id, party, method, email, name, consent, signed_at, ip, user_agent,
             session_id, contract_sha256, email_proof, email_proven_at)
         values ($1, $2, $3, $4, $5, true, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(signature.escrow_id.as_str())
    .bind(signature.party.as_str())
    .bind(method)
    .bind(&signature.email)
    .bind(&signature.name)
    .bind(signature.signed_at)
    .bind(&signature.ip)
    .bind(&signature.user_agent)
    .bind(signature.session_id.as_ref().map(SessionId::as_str))
    .bind(signature.contract_sha256.as_slice())
    .bind(signature.proof.as_ref().map(|(id, _)| id.as_str()))
    .bind(signature.proof.as_ref().map(|(_, at)| *at))
    .execute(connection)
    .await?;
    Ok(())
}

/// The signatures under an escrow's contract, the first first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn signatures(database: impl PgExecutor<'_>, escrow: &EscrowId) -> Result<Vec<Signature>> {
    let rows = sqlx::query("select * from escrow_signature where escrow_id = $1 order by signed_at, party")
        .bind(escrow.as_str())
        .fetch_all(database)
        .await?;
    rows.iter()
        .map(|row| {
            let id = escrow.as_str();
            let hash: Vec<u8> = row.try_get("contract_sha256")?;
            Ok(Signature {
                escrow_id: escrow.clone(),
                party: party("escrow_signature", id, row)?,
                email: row.try_get("email")?,
                name: row.try_get("name")?,
                signed_at: row.try_get("signed_at")?,
                ip: row.try_get("ip")?,
                user_agent: row.try_get("user_agent")?,
                proof: row.try_get::<Option<String>, _>("email_proof")?.zip(row.try_get("email_proven_at")?),
                session_id: row.try_get::<Option<String>, _>("session_id")?.map(SessionId::from_stored),
                contract_sha256: hash
                    .try_into()
                    .map_err(|_| inconsistent("escrow_signature", id, "a hash has not 32 bytes"))?,
            })
        })
        .collect()
}

/// A file that came with a dispute, without its bytes.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its id.
    pub id: AttachmentId,
    /// The escrow.
    pub escrow_id: EscrowId,
    /// Whose escrow it is.
    pub merchant_id: MerchantId,
    /// Whether it moves real money.
    pub livemode: bool,
    /// The session with which it came.
    pub session_id: SessionId,
    /// Who sent it.
    pub party: Actor,
    /// Its place among the files of the session, from 1.
    pub place: i16,
    /// Its name, made safe to show.
    pub file_name: String,
    /// What it is, told by its content.
    pub kind: FileKind,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// How many bytes it has.
    pub size_bytes: i64,
    /// When it came.
    pub created_at: DateTime<Utc>,
}

const ATTACHMENT_COLUMNS: &str =
    "id, escrow_id, merchant_id, livemode, session_id, party, place, file_name, content_type, sha256,
    octet_length(content)::int8 as size_bytes, created_at";

fn to_attachment(row: &PgRow) -> Result<Attachment> {
    let id: String = row.try_get("id")?;
    let broken = |what: &str| inconsistent("escrow_attachment", &id, what);
    let content_type: String = row.try_get("content_type")?;
    let hash: Vec<u8> = row.try_get("sha256")?;
    Ok(Attachment {
        escrow_id: EscrowId::from_stored(row.try_get("escrow_id")?),
        merchant_id: MerchantId::from_stored(row.try_get("merchant_id")?),
        livemode: row.try_get("livemode")?,
        session_id: SessionId::from_stored(row.try_get("session_id")?),
        party: party("escrow_attachment", &id, row)?,
        place: row.try_get("place")?,
        file_name: row.try_get("file_name")?,
        kind: FileKind::parse(&content_type).ok_or_else(|| broken("unknown content type"))?,
        sha256: hash.try_into().map_err(|_| broken("a hash has not 32 bytes"))?,
        size_bytes: row.try_get("size_bytes")?,
        created_at: row.try_get("created_at")?,
        id: AttachmentId::from_stored(id),
    })
}

/// Writes a file.
///
/// # Errors
/// When the database does not answer.
pub async fn insert_attachment(connection: &mut Connection, attachment: &Attachment, content: &[u8]) -> Result<()> {
    sqlx::query(
        "insert into escrow_attachment (id, escrow_id, merchant_id, livemode, session_id, party, place, file_name,
             content_type, sha256, content, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(attachment.id.as_str())
    .bind(attachment.escrow_id.as_str())
    .bind(attachment.merchant_id.as_str())
    .bind(attachment.livemode)
    .bind(attachment.session_id.as_str())
    .bind(attachment.party.as_str())
    .bind(attachment.place)
    .bind(&attachment.file_name)
    .bind(attachment.kind.content_type())
    .bind(attachment.sha256.as_slice())
    .bind(content)
    .bind(attachment.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// The files of an escrow, the first first.
///
/// # Errors
/// When the database does not answer or a row is inconsistent.
pub async fn attachments(pool: &PgPool, escrow: &EscrowId) -> Result<Vec<Attachment>> {
    let sql =
        format!("select {ATTACHMENT_COLUMNS} from escrow_attachment where escrow_id = $1 order by created_at, place");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(escrow.as_str()).fetch_all(pool).await?;
    rows.iter().map(to_attachment).collect()
}

/// A merchant's file, with its bytes.
///
/// # Errors
/// When the database does not answer or the row is inconsistent.
pub async fn attachment(
    pool: &PgPool,
    merchant: &MerchantId,
    livemode: bool,
    id: &AttachmentId,
) -> Result<Option<(Attachment, Vec<u8>)>> {
    let sql = format!(
        "select {ATTACHMENT_COLUMNS}, content from escrow_attachment where id = $1 and merchant_id = $2 and livemode = $3"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id.as_str())
        .bind(merchant.as_str())
        .bind(livemode)
        .fetch_optional(pool)
        .await?;
    row.map(|row| Ok((to_attachment(&row)?, row.try_get("content")?))).transpose()
}
