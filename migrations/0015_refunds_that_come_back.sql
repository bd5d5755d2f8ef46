-- A refund may come back after it had succeeded. A kept card keeps its first six digits (which may be kept beside
-- the last four), so that lists of them see it; cards kept before stay without.

alter table ledger_entry
    drop constraint ledger_entry_movement,
    add constraint ledger_entry_movement check (movement in ('authorized', 'captured', 'voided', 'refunded',
        'refund_returned', 'disputed', 'dispute_won', 'dispute_lost', 'fee', 'held', 'returned', 'released'));
alter table payment_method
    add column card_bin text,
    add constraint payment_method_card_bin check (card_bin ~ '^[0-9]{6}$');
