-- A dispute at the buyer's bank: what was lost there is part of a settlement, and a release can wait for the bank.
alter table escrow
    -- Of the buyer's part, what his bank has taken back for him.
    add column settled_lost    bigint not null default 0,
    -- What the provider has given back to the buyer.
    add column amount_returned bigint not null default 0,
    drop constraint escrow_status,
    drop constraint escrow_settled,
    add constraint escrow_status check (status in ('pending', 'paid', 'delivered', 'disputed', 'cancellation_requested',
        'refunding', 'refund_failed', 'release_held', 'completed', 'cancelled')),
    -- The parts sum to what was paid.
    add constraint escrow_settled check (
        (settled_buyer is null) = (settled_seller is null) and (settled_buyer is null) = (settled_merchant is null)
        and (status not in ('refunding', 'refund_failed', 'release_held', 'completed') or settled_buyer is not null)
        and (settled_buyer is null or (status in ('refunding', 'refund_failed', 'release_held', 'completed', 'cancelled')
            and settled_buyer >= 0 and settled_seller >= 0 and settled_merchant >= 0
            and settled_buyer + settled_seller + settled_merchant = amount))),
    add constraint escrow_lost check (settled_lost between 0 and coalesce(settled_buyer, 0)),
    add constraint escrow_returned check (amount_returned between 0 and amount);
create index escrow_release_held on escrow (id) where status = 'release_held';

update escrow e set amount_returned = given.amount
    from (select payment_id, sum(amount) as amount from refund where state = 'succeeded' group by payment_id) given
    where given.payment_id = e.payment_id;

alter table ledger_entry
    drop constraint ledger_entry_movement,
    add constraint ledger_entry_movement check (movement in ('authorized', 'captured', 'voided', 'refunded', 'disputed',
        'refund_returned', 'dispute_won', 'dispute_lost', 'fee', 'held', 'returned', 'held_lost', 'released'));
