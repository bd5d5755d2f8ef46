//! The questions of `checkstand audit`: one statement for each thing that must hold, all of them asked
//! of one moment.
//!
//! The rule: nothing here writes, and nothing here holds more than a page of rows: counting and
//! comparing is the database's work, which spills to its disk. What an answer means in words is
//! `ops::audit`'s. Events are kept by the day, so history is judged from the oldest day that is
//! still there.

use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::escrow_history::{self, BrokenChain, WrongBooks};
use super::escrow_replay::{self, WrongEvidence};
use super::{Connection, applied, audit_disputes, connect_once, options};
use crate::error::{Error, Result};

/// Something that must hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Check {
    /// A session has at most one charge that holds or may yet take money.
    OneLiveCharge,
    /// What a session's row says fits its charges.
    SessionsFitCharges,
    /// What a payment's row says fits its charges.
    PaymentsFitCharges,
    /// Replaying a session's events gives the state in its row.
    SessionsFollowEvents,
    /// Replaying a payment's events gives the status in its row.
    PaymentsFollowEvents,
    /// Replaying a charge's events gives the state in its row.
    ChargesFollowEvents,
    /// Replaying a refund's events gives the state in its row.
    RefundsFollowEvents,
    /// The events of a session are numbered from 1 without a gap up to the count in its row.
    EventsWithoutGaps,
    /// No money is kept or reserved for a session that ended unpaid.
    NoMoneyForEndedSessions,
    /// Refunds agree with their charge and never exceed what was captured.
    RefundsWithinCaptures,
    /// The entries of a movement sum to zero in one currency.
    MovementsBalance,
    /// All entries of a currency sum to zero.
    CurrenciesBalance,
    /// The ledger says of each charge what the charge's row and its refunds say.
    LedgerFitsCharges,
    /// A charge's disputes agree with its row, and with refunds never exceed what was captured.
    DisputesWithinCaptures,
    /// The ledger says of each dispute what its row says.
    LedgerFitsDisputes,
    /// What providers keep is booked once, as its charge or dispute says.
    FeesBookedOnce,
    /// The simulator's books say of each charge what ours say.
    SimulatorAgreesOnCharges,
    /// The simulator's books say of each refund what ours say.
    SimulatorAgreesOnRefunds,
    /// The simulator's books say of each dispute what ours say.
    SimulatorAgreesOnDisputes,
}

impl Check {
    /// Every check, in the order in which they are made.
    pub const ALL: [Self; 19] = [
        Self::OneLiveCharge,
        Self::SessionsFitCharges,
        Self::PaymentsFitCharges,
        Self::SessionsFollowEvents,
        Self::PaymentsFollowEvents,
        Self::ChargesFollowEvents,
        Self::RefundsFollowEvents,
        Self::EventsWithoutGaps,
        Self::NoMoneyForEndedSessions,
        Self::RefundsWithinCaptures,
        Self::MovementsBalance,
        Self::CurrenciesBalance,
        Self::LedgerFitsCharges,
        Self::DisputesWithinCaptures,
        Self::LedgerFitsDisputes,
        Self::FeesBookedOnce,
        Self::SimulatorAgreesOnCharges,
        Self::SimulatorAgreesOnRefunds,
        Self::SimulatorAgreesOnDisputes,
    ];

    /// Whether it looks into the simulator's books.
    pub fn is_of_simulator(self) -> bool {
        matches!(
            self,
            Self::SimulatorAgreesOnCharges | Self::SimulatorAgreesOnRefunds | Self::SimulatorAgreesOnDisputes
        )
    }

    fn sql(self) -> &'static str {
        match self {
            Self::OneLiveCharge => ONE_LIVE_CHARGE,
            Self::SessionsFitCharges => SESSIONS_FIT_CHARGES,
            Self::PaymentsFitCharges => PAYMENTS_FIT_CHARGES,
            Self::SessionsFollowEvents => SESSIONS_FOLLOW_EVENTS,
            Self::PaymentsFollowEvents => PAYMENTS_FOLLOW_EVENTS,
            Self::ChargesFollowEvents => CHARGES_FOLLOW_EVENTS,
            Self::RefundsFollowEvents => REFUNDS_FOLLOW_EVENTS,
            Self::EventsWithoutGaps => EVENTS_WITHOUT_GAPS,
            Self::NoMoneyForEndedSessions => NO_MONEY_FOR_ENDED_SESSIONS,
            Self::RefundsWithinCaptures => REFUNDS_WITHIN_CAPTURES,
            Self::MovementsBalance => MOVEMENTS_BALANCE,
            Self::CurrenciesBalance => CURRENCIES_BALANCE,
            Self::LedgerFitsCharges => LEDGER_FITS_CHARGES,
            Self::DisputesWithinCaptures => audit_disputes::DISPUTES_WITHIN_CAPTURES,
            Self::LedgerFitsDisputes => audit_disputes::LEDGER_FITS_DISPUTES,
            Self::FeesBookedOnce => audit_disputes::FEES_BOOKED_ONCE,
            Self::SimulatorAgreesOnDisputes => audit_disputes::SIMULATOR_AGREES_ON_DISPUTES,
            Self::SimulatorAgreesOnCharges => SIMULATOR_AGREES_ON_CHARGES,
            Self::SimulatorAgreesOnRefunds => SIMULATOR_AGREES_ON_REFUNDS,
        }
    }
}

/// Rows that break a rule.
#[derive(Clone, Debug, Default)]
pub struct Broken {
    /// How many there are.
    pub total: i64,
    /// The first of them, in the order of their ids.
    pub rows: Vec<BrokenRow>,
}

/// A row that breaks a rule.
#[derive(Clone, Debug)]
pub struct BrokenRow {
    /// Whose row it is: a session's, payment's, charge's or refund's id, or a currency.
    pub id: String,
    /// What the statement found, in the order in which it tells it; empty texts for what is not there.
    pub facts: Vec<String>,
}

/// Each statement gives `id` and `facts`; this counts them and gives the first `$1`.
macro_rules! page_of {
    ($($part:expr),+) => {
        concat!(
            "with broken (id, facts) as (", $($part),+,
            ") select id, array(select coalesce(fact, '') from unnest(facts) as f (fact)), count(*) over ()
               from broken order by id limit $1"
        )
    };
}

pub(super) use page_of;

/// Charges that hold money or may yet take it.
macro_rules! live {
    () => {
        "('pending', 'requires_action', 'authorized', 'succeeded')"
    };
}

/// The beginning of the oldest day whose events are kept. Days are dropped as a whole.
macro_rules! kept_from {
    () => {
        "(select coalesce(min(to_date(substr(c.relname, 7), 'YYYYMMDD')::timestamp at time zone 'UTC'), '-infinity')
          from pg_inherits i join pg_class c on c.oid = i.inhrelid
          where i.inhparent = 'event'::regclass and c.relname ~ '^event_[0-9]{8}$')"
    };
}

/// The same for events of payments, charges and refunds, which are announced since the second migration.
macro_rules! told_from {
    () => {
        concat!("greatest(", kept_from!(), ", (select installed_on from _sqlx_migrations where version = 2))")
    };
}

const ONE_LIVE_CHARGE: &str = page_of!(
    "select session_id, array[string_agg(id || ' (' || state || ')', ', ' order by id)] from charge
     where state in ",
    live!(),
    " group by session_id having count(*) > 1"
);

const SESSIONS_FIT_CHARGES: &str = page_of!(
    "select s.id, array[s.state, string_agg(c.id || ' (' || c.state || ')', ', ' order by c.id)]
     from checkout_session s left join charge c on c.session_id = s.id
     where s.mode = 'payment'
     group by s.id, s.state
     having case s.state
         when 'pending' then count(*) filter (where c.state in ",
    live!(),
    ") > 0
         when 'processing' then count(*) filter (where c.state in ('pending', 'requires_action')) <> 1
         when 'completed' then count(*) filter (where c.state in ('authorized', 'succeeded', 'reversed')) = 0
             or count(*) filter (where c.state in ('pending', 'requires_action')) > 0
         else count(*) filter (where c.state in ('pending', 'requires_action')) > 0
     end"
);

const PAYMENTS_FIT_CHARGES: &str = page_of!(
    "select p.id, array[p.status, p.amount_received::text, p.amount::text, p.currency,
            string_agg(c.id || ' (' || c.state || ', ' || c.amount_captured || ')', ', ' order by c.id)]
     from payment p left join charge c on c.payment_id = p.id
     group by p.id
     having case p.status
         when 'succeeded' then count(*) filter (where c.state = 'succeeded' and c.amount_captured = p.amount_received) <> 1
         when 'requires_capture' then count(*) filter (where c.state = 'authorized') <> 1
         when 'requires_action' then count(*) filter (where c.state = 'requires_action') <> 1
         when 'canceled' then count(*) filter (where c.state in ",
    live!(),
    ") > 0
         when 'requires_payment_method' then count(*) filter (where c.state in ",
    live!(),
    ") > 0
         else count(*) filter (where c.state in ('authorized', 'succeeded')) > 0
     end or count(*) filter (where c.currency <> p.currency or c.amount <> p.amount) > 0"
);

const SESSIONS_FOLLOW_EVENTS: &str = page_of!(
    "select s.id, array[s.state, coalesce(t.ended_as, 'open'), coalesce(t.ends, 0)::text, t.end_number::text, t.last_act::text]
     from checkout_session s left join (
         select session_id,
                count(*) filter (where is_end) as ends,
                string_agg(substr(type, 18), ', ' order by session_sequence) filter (where is_end) as ended_as,
                min(session_sequence) filter (where is_end) as end_number,
                max(session_sequence) filter (where type in ('checkout.session.opened', 'checkout.session.payment_failed')) as last_act,
                min(session_sequence) filter (where type = 'checkout.session.created') as beginning
         from (select *, type in ('checkout.session.completed', 'checkout.session.expired',
                                  'checkout.session.cancelled', 'checkout.session.failed') as is_end
               from event where type like 'checkout.session.%') e
         group by session_id
     ) t on t.session_id = s.id
     where s.created_at >= ",
    kept_from!(),
    " and (coalesce(t.ended_as, 'open') <> case when s.state in ('pending', 'processing') then 'open' else s.state end
           or t.last_act > t.end_number or t.beginning is distinct from 1)"
);

const PAYMENTS_FOLLOW_EVENTS: &str = page_of!(
    "select p.id, array[p.status, t.type, p.session_id]
     from payment p left join (
         select distinct on (object_id) object_id, type from event
         where type in ('payment_intent.created', 'payment_intent.requires_action', 'payment_intent.payment_failed',
                        'payment_intent.amount_capturable_updated', 'payment_intent.succeeded', 'payment_intent.canceled')
         order by object_id, session_sequence desc
     ) t on t.object_id = p.id
     where p.created_at >= ",
    told_from!(),
    " and not coalesce(case t.type
         when 'payment_intent.created' then p.status in ('requires_payment_method', 'processing')
         when 'payment_intent.payment_failed' then p.status in ('requires_payment_method', 'processing')
         when 'payment_intent.requires_action' then p.status in ('requires_action', 'processing')
         when 'payment_intent.amount_capturable_updated' then p.status = 'requires_capture'
         when 'payment_intent.succeeded' then p.status = 'succeeded'
         when 'payment_intent.canceled' then p.status = 'canceled'
     end, false)"
);

const CHARGES_FOLLOW_EVENTS: &str = page_of!(
    "select c.id, array[c.state, t.told, c.session_id]
     from charge c left join (
         select object_id, string_agg(type, ', ' order by session_sequence) as told,
                count(*) filter (where type = 'charge.succeeded') as succeeded,
                count(*) filter (where type = 'charge.failed') as failed,
                count(*) filter (where type = 'charge.captured') as captured
         from event where type in ('charge.succeeded', 'charge.failed', 'charge.captured') group by object_id
     ) t on t.object_id = c.id
     where c.created_at >= ",
    told_from!(),
    " and not case c.state
         when 'pending' then t.told is null
         when 'requires_action' then t.told is null
         when 'authorized' then coalesce(t.told, '') = 'charge.succeeded'
         when 'succeeded' then coalesce(t.succeeded, 0) = 1 and t.failed = 0 and t.captured <= 1
         when 'failed' then coalesce(t.told, '') = 'charge.failed'
         else coalesce(t.captured, 0) = 0
     end"
);

const REFUNDS_FOLLOW_EVENTS: &str = page_of!(
    "select r.id, array[r.state, t.told, r.charge_id]
     from refund r left join (
         select object_id, string_agg(type, ', ' order by session_sequence) as told,
                count(*) filter (where type = 'refund.created') as created,
                count(*) filter (where type = 'refund.updated') as updated,
                count(*) filter (where type = 'refund.failed') as failed
         from event where type in ('refund.created', 'refund.updated', 'refund.failed') group by object_id
     ) t on t.object_id = r.id
     where r.created_at >= ",
    told_from!(),
    " and not (coalesce(t.created, 0) = 1 and case r.state
         when 'succeeded' then t.updated >= 1 and t.failed = 0
         when 'failed' then t.failed = 1
         else t.failed = 0
     end)"
);

const EVENTS_WITHOUT_GAPS: &str = page_of!(
    "select coalesce(s.id, t.session_id), array[s.event_count::text, coalesce(t.total, 0)::text, t.first::text, t.last::text,
            (t.total - t.numbers)::text]
     from checkout_session s full join (
         select session_id, count(*) as total, count(distinct session_sequence) as numbers,
                min(session_sequence) as first, max(session_sequence) as last
         from event where session_id is not null group by session_id
     ) t on t.session_id = s.id
     where s.id is null
        or (s.created_at >= ",
    kept_from!(),
    " and (t.total is null or t.first <> 1))
        or t.numbers <> t.total or t.last <> s.event_count or t.last - t.first + 1 <> t.total"
);

const NO_MONEY_FOR_ENDED_SESSIONS: &str = page_of!(
    "select s.id, array[s.state, c.id, c.state, (case c.state when 'authorized' then c.amount
            else c.amount_captured - c.amount_refunded - c.amount_withdrawn end)::text, c.currency, c.provider]
     from checkout_session s join charge c on c.session_id = s.id
     where s.state in ('expired', 'cancelled', 'failed')
       and c.under_way is distinct from 'void'
       and (c.amount_captured > c.amount_refunded + c.amount_withdrawn or c.state = 'authorized')"
);

const REFUNDS_WITHIN_CAPTURES: &str = page_of!(
    "select c.id, array[c.amount_captured::text, c.amount_refunded::text, coalesce(r.given, 0)::text,
            coalesce(r.asked, 0)::text, c.currency]
     from charge c left join (
         select charge_id, coalesce(sum(amount) filter (where state = 'succeeded'), 0) as given,
                coalesce(sum(amount) filter (where state = 'pending'), 0) as asked,
                min(currency) as least, max(currency) as greatest
         from refund group by charge_id
     ) r on r.charge_id = c.id
     where c.amount_refunded <> case c.state when 'reversed' then c.amount_refunded else coalesce(r.given, 0) end
        or r.given + r.asked > c.amount_captured
        or r.least <> c.currency or r.greatest <> c.currency"
);

const MOVEMENTS_BALANCE: &str = page_of!(
    "select object_id, array[movement, sum(amount)::text, string_agg(distinct currency, ', '), count(*)::text]
     from ledger_entry group by object_id, movement
     having sum(amount) <> 0 or count(distinct currency) > 1"
);

const CURRENCIES_BALANCE: &str = page_of!(
    "select currency, array[sum(amount)::text, count(*)::text] from ledger_entry group by currency having sum(amount) <> 0"
);

const LEDGER_FITS_CHARGES: &str = page_of!(
    "select coalesce(c.id, b.charge_id), array[c.state, c.currency,
            c.held::text, coalesce(b.reserved, 0)::text,
            c.amount_captured::text, coalesce(b.captured, 0)::text, c.amount_refunded::text, coalesce(b.refunded, 0)::text,
            b.currencies]
     from (select *, case when state = 'authorized' or (under_way = 'void' and amount_captured = 0) then amount else 0 end as held
           from charge) c full join (
         select coalesce(r.charge_id, e.object_id) as charge_id,
                coalesce(sum(e.amount) filter (where e.account = 'authorized'), 0) as reserved,
                coalesce(sum(e.amount) filter (where (e.account, e.movement) in
                    (('merchant', 'captured'), ('held', 'held'))), 0) as captured,
                coalesce(-sum(e.amount) filter (where (e.account, e.movement) in
                    (('merchant', 'refunded'), ('merchant', 'refund_returned'), ('held', 'returned'))), 0) as refunded,
                string_agg(distinct e.currency, ', ') as currencies
         from ledger_entry e left join refund r on r.id = e.object_id
         -- What an escrow releases is no charge's any more; disputes and fees have rules of their own.
         where e.movement not in ('released', 'held_lost', 'disputed', 'dispute_won', 'dispute_lost', 'fee')
         group by 1
     ) b on b.charge_id = c.id
     where c.id is null
        or coalesce(b.reserved, 0) <> c.held
        or coalesce(b.captured, 0) <> c.amount_captured
        or coalesce(b.refunded, 0) <> c.amount_refunded
        or b.currencies <> c.currency"
);

/// Only what is settled is compared: the provider moves first, and we learn of it afterwards. What was taken
/// and went back as a whole is nothing taken in the end; a provider may call that a void.
const SIMULATOR_AGREES_ON_CHARGES: &str = page_of!(
    "select coalesce(o.id, t.charge_id), array[o.state, o.held::text, o.taken::text, o.refunded::text,
            t.state, t.held::text, t.taken::text, t.refunded::text, coalesce(o.currency, t.currency)]
     from (
         select id, provider, state, currency, under_way, case state when 'authorized' then amount else 0 end as held,
                case state when 'succeeded' then amount_captured else 0 end as taken,
                case state when 'succeeded' then amount_refunded else 0 end as refunded
         from charge where provider = 'simulator' or provider in (select provider from simulator.charge)
     ) o full join (
         select charge_id, provider, state, currency, case state when 'authorized' then amount else 0 end as held,
                case when state in ('captured', 'refunded') then amount_captured else 0 end as taken,
                case when state in ('captured', 'refunded') then amount_refunded else 0 end as refunded
         from simulator.charge
     ) t on t.charge_id = o.id and t.provider = o.provider
     where case
         when o.id is null then t.held > 0 or t.taken > t.refunded
         when o.state in ('pending', 'requires_action') or o.under_way is not null then false
         else coalesce(t.held, 0) <> o.held or coalesce(t.taken, 0) <> o.taken or t.currency <> o.currency
              or (coalesce(t.refunded, 0) <> o.refunded
                  and not exists (select from refund r where r.charge_id = o.id and r.state = 'pending'))
     end"
);

const SIMULATOR_AGREES_ON_REFUNDS: &str = page_of!(
    "select coalesce(o.id, t.refund_id), array[o.state, o.amount::text, t.amount::text, coalesce(o.charge_id, t.charge_id)]
     from (select r.* from refund r join charge c on c.id = r.charge_id
             and (c.provider = 'simulator' or c.provider in (select provider from simulator.charge))) o
     full join simulator.refund t on t.refund_id = o.id
     where case
         when o.id is null then true
         when o.state = 'succeeded' then t.amount is distinct from o.amount or t.charge_id <> o.charge_id
         when o.state = 'failed' then t.refund_id is not null
         else false
     end"
);

/// Charges and refunds whose outcome has not been known for `$2` minutes.
const OLD_DOUBTS: &str = page_of!(
    "select id, array['charge', coalesce(under_way, state), look_ups::text, provider,
            floor(extract(epoch from now() - created_at) / 60)::text]
     from charge where look_up_at is not null and (state = 'pending' or under_way is not null)
         and created_at < now() - $2 * interval '1 minute'
     union all
     select c.id, array['charge', c.state, c.look_ups::text, c.provider,
            floor(extract(epoch from now() - c.created_at) / 60)::text]
     from charge c join checkout_session s on s.id = c.session_id
     where c.state = 'requires_action' and c.look_up_at is not null
         and s.expires_at + interval '10 minutes' < now() - $2 * interval '1 minute'
     union all
     select r.id, array['refund', r.state, r.look_ups::text, c.provider,
            floor(extract(epoch from now() - r.created_at) / 60)::text]
     from refund r join charge c on c.id = r.charge_id
     where r.look_up_at is not null and r.created_at < now() - $2 * interval '1 minute'"
);

/// One moment of a database, to be asked about.
pub struct Snapshot {
    connection: Connection,
    /// Whether the simulator keeps books here.
    pub has_simulator: bool,
}

impl Snapshot {
    /// Takes a moment of the database behind `url`, which may be a replica that cannot be written to.
    ///
    /// # Errors
    /// When the database cannot be used, or its schema is not this binary's.
    pub async fn take(url: &str) -> Result<Self> {
        let mut connection = connect_once(&options(url)?).await?;
        let applied = applied(&mut connection).await?;
        if super::MIGRATOR.iter().any(|migration| !applied.contains(&migration.version)) {
            return Err(Error::Unavailable(
                "the database's schema is not up to date: run `checkstand migrate` first".to_owned(),
            ));
        }
        // Nobody waits for the answers of an audit but the one who asked, who can interrupt it.
        for statement in ["set statement_timeout = 0", "begin transaction isolation level repeatable read, read only"] {
            sqlx::query(statement).execute(&mut connection).await?;
        }
        let has_simulator =
            sqlx::query_scalar("select to_regclass('simulator.charge') is not null").fetch_one(&mut connection).await?;
        Ok(Self { connection, has_simulator })
    }

    /// Asks for what breaks a rule: how much there is, and the first `limit` rows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ask(&mut self, check: Check, limit: i64) -> Result<Broken> {
        let query = sqlx::query(AssertSqlSafe(check.sql())).bind(limit);
        read(&query.fetch_all(&mut self.connection).await?)
    }

    /// Escrows whose history was rewritten or is not whole.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn broken_chains(&mut self) -> Result<Vec<BrokenChain>> {
        escrow_history::broken_chains(&mut self.connection).await
    }

    /// What was handed in to escrows, or decided, and is not what their histories say: how much, and the first `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn wrong_evidence(&mut self, limit: i64) -> Result<(i64, Vec<WrongEvidence>)> {
        escrow_replay::wrong_evidence(&mut self.connection, limit).await
    }

    /// Escrows for which the ledger holds another amount than their status says.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn wrong_books(&mut self, limit: i64) -> Result<(i64, Vec<WrongBooks>)> {
        escrow_history::wrong_books(&mut self.connection, limit).await
    }

    /// Asks for doubts that are older than so many minutes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn old_doubts(&mut self, minutes: i32, limit: i64) -> Result<Broken> {
        let query = sqlx::query(OLD_DOUBTS).bind(limit).bind(minutes);
        read(&query.fetch_all(&mut self.connection).await?)
    }

    /// Lets the moment go.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn end(mut self) -> Result<()> {
        sqlx::query("rollback").execute(&mut self.connection).await?;
        Ok(self.connection.close().await?)
    }
}

fn read(rows: &[sqlx::postgres::PgRow]) -> Result<Broken> {
    let mut broken = Broken::default();
    for row in rows {
        broken.total = row.try_get(2)?;
        broken.rows.push(BrokenRow { id: row.try_get(0)?, facts: row.try_get(1)? });
    }
    Ok(broken)
}
