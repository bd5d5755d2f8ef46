-- Charges that succeeded before there was a ledger.
insert into ledger_entry (merchant_id, livemode, movement, object_id, account, currency, amount, created_at)
select c.merchant_id, c.livemode, 'captured', c.id, e.account, c.currency, e.sign * c.amount_captured, c.settled_at
from charge c cross join (values ('payer', -1), ('merchant', 1)) as e (account, sign)
where c.state = 'succeeded'
    and not exists (select from ledger_entry l where l.object_id = c.id and l.movement = 'captured');

-- A dispute ends for the merchant or for the payer.
alter table ledger_entry
    drop constraint ledger_entry_movement,
    add constraint ledger_entry_movement check (movement in
        ('authorized', 'captured', 'voided', 'refunded', 'disputed', 'dispute_won', 'dispute_lost', 'fee'));
