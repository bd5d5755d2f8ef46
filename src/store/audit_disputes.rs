//! The audit's questions about disputes and fees, beside the others of `store::audit`.
//!
//! The rule: as there. A provider may withdraw more than was left of a charge; its word counts, the charge is
//! marked, and only unmarked ones break a rule.

use super::audit::page_of;

pub(super) const DISPUTES_WITHIN_CAPTURES: &str = page_of!(
    "select c.id, array[c.amount_captured::text, c.amount_refunded::text, c.amount_withdrawn::text,
            coalesce(d.outstanding, 0)::text, c.currency]
     from charge c left join (
         select charge_id, sum(amount_withdrawn - amount_reinstated) as outstanding,
                min(currency) as least, max(currency) as greatest
         from dispute group by charge_id
     ) d on d.charge_id = c.id
     where c.amount_withdrawn <> coalesce(d.outstanding, 0)
        or c.disputed <> (d.charge_id is not null)
        or (c.amount_refunded + c.amount_withdrawn > c.amount_captured and not c.overdrawn)
        or d.least <> c.currency or d.greatest <> c.currency"
);

/// A dispute's money is the bank's while it is open, the payer's once it is lost, and the merchant's again where
/// it came back.
pub(super) const LEDGER_FITS_DISPUTES: &str = page_of!(
    "select coalesce(d.id, b.object_id), array[d.status, d.amount_withdrawn::text, d.amount_reinstated::text,
            coalesce(b.withdrawn, 0)::text, coalesce(b.reinstated, 0)::text, coalesce(b.lost, 0)::text, b.currencies]
     from dispute d full join (
         select object_id,
                coalesce(-sum(amount) filter (where (account, movement) = ('merchant', 'disputed')), 0) as withdrawn,
                coalesce(sum(amount) filter (where (account, movement) = ('merchant', 'dispute_won')), 0) as reinstated,
                coalesce(sum(amount) filter (where (account, movement) = ('payer', 'dispute_lost')), 0) as lost,
                string_agg(distinct currency, ', ') as currencies
         from ledger_entry where movement in ('disputed', 'dispute_won', 'dispute_lost') group by object_id
     ) b on b.object_id = d.id
     where d.id is null
        or coalesce(b.withdrawn, 0) <> d.amount_withdrawn
        or coalesce(b.reinstated, 0) <> d.amount_reinstated
        or coalesce(b.lost, 0) <> case d.status when 'lost' then d.amount_withdrawn - d.amount_reinstated else 0 end
        or b.currencies <> d.currency"
);

pub(super) const FEES_BOOKED_ONCE: &str = page_of!(
    "select coalesce(o.id, b.object_id), array[o.fee::text, coalesce(b.fee, 0)::text, coalesce(o.currency, b.currency),
            b.currency]
     from (select id, fee, currency from charge where fee is not null
           union all select id, fee, currency from dispute where fee is not null) o
     full join (
         select object_id, sum(amount) filter (where account = 'fees') as fee,
                string_agg(distinct currency, ', ') as currency
         from ledger_entry where movement = 'fee' group by object_id
     ) b on b.object_id = o.id
     where coalesce(b.fee, 0) <> coalesce(o.fee, 0) or b.currency <> o.currency"
);

/// Only what we have heard of is compared: the simulator moves first. What is under way may be decided there
/// and not yet here.
pub(super) const SIMULATOR_AGREES_ON_DISPUTES: &str = page_of!(
    "select coalesce(o.id, t.reference), array[o.status, o.amount::text, t.status, t.amount::text,
            coalesce(o.charge_id, t.charge_id)]
     from (select * from dispute where provider = 'simulator' or provider in (select provider from simulator.charge)) o
     full join simulator.dispute t on t.provider = o.provider and t.reference = o.provider_reference
     where case
         when o.id is null then t.heard
         when t.reference is null then true
         when t.charge_id <> o.charge_id or t.amount <> o.amount or t.currency <> o.currency then true
         else o.under_way is null and t.status <> o.status
     end"
);
