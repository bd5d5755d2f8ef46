-- Payments in full: authorising first and capturing later, giving money back, authentication by the
-- payer's bank, and the ledger that every movement is written to.

alter table payment
    drop constraint payment_status,
    drop constraint payment_received,
    add column capture_method        text not null default 'automatic',
    add column amount_capturable     bigint not null default 0,
    add column statement_descriptor  text,
    add column statement_descriptor_suffix text,
    add column cancellation_reason   text,
    add column canceled_at           timestamptz,
    add constraint payment_capture_method check (capture_method in ('automatic', 'manual')),
    add constraint payment_status check (status in ('requires_payment_method', 'requires_action', 'processing',
        'requires_capture', 'succeeded', 'canceled')),
    -- Money is received when the payment succeeded and not before; never more than was asked for.
    add constraint payment_received check
        (case when status = 'succeeded' then amount_received between 1 and amount else amount_received = 0 end),
    add constraint payment_capturable check
        (case when status = 'requires_capture' then amount_capturable = amount else amount_capturable = 0 end),
    add constraint payment_canceled_at check ((status = 'canceled') = (canceled_at is not null));

alter table charge
    drop constraint charge_state,
    drop constraint charge_settled_at,
    drop constraint charge_look_up_at,
    add column amount_captured       bigint not null default 0,
    add column amount_refunded       bigint not null default 0,
    -- A capture or a void that is under way, and what the capture takes; the sweep repeats it until the
    -- provider has answered.
    add column under_way             text,
    add column capture_amount        bigint,
    add constraint charge_under_way check (case when under_way is null then capture_amount is null
        when under_way = 'capture' then capture_amount is not null and state = 'authorized'
        -- Of a reversed charge: its money came after it had been settled as not taken, and is going back.
        else under_way = 'void' and capture_amount is null and state in ('authorized', 'reversed') end),
    -- Where the payer proves to his bank that it is he, and the SHA-256 of the one-time word that the
    -- way back from there carries.
    add column action_url            text,
    add column return_state_hash     bytea,
    -- What the rules of the fraud check made of it: rule, risk, outcome.
    add column outcome               jsonb,
    -- What the provider reported of its checks and of the authentication.
    add column checks                jsonb,
    add constraint charge_state check
        (state in ('pending', 'requires_action', 'authorized', 'succeeded', 'failed', 'reversed')),
    add constraint charge_settled_at check
        ((state in ('pending', 'requires_action')) = (settled_at is null)),
    -- The sweep looks at every charge that can still change by itself.
    add constraint charge_look_up_at check
        ((state in ('pending', 'requires_action') or under_way is not null) = (look_up_at is not null)),
    add constraint charge_amounts check
        (amount_captured between 0 and amount and amount_refunded between 0 and amount_captured),
    add constraint charge_captured check
        (case state when 'succeeded' then amount_captured > 0 when 'reversed' then true else amount_captured = 0 end);
update charge set amount_captured = amount where state = 'succeeded';

-- When the money of a completed session was there: at once, or when it was captured.
alter table checkout_session add column paid_at timestamptz;
update checkout_session set paid_at = completed_at where state = 'completed';
alter table checkout_session add constraint checkout_session_paid_at check (paid_at is null or state = 'completed');

drop index charge_one_live_per_session;
create unique index charge_one_live_per_session on charge (session_id)
    where state in ('pending', 'requires_action', 'authorized', 'succeeded');
drop index charge_look_up_due;
create index charge_look_up_due on charge (look_up_at) where look_up_at is not null;
create unique index charge_return_state on charge (return_state_hash) where return_state_hash is not null;
create index charge_by_payment on charge (payment_id, id);

create table refund (
    id                  text primary key,
    merchant_id         text not null,
    livemode            boolean not null,
    charge_id           text not null references charge (id),
    payment_id          text not null references payment (id),
    amount              bigint not null constraint refund_amount_positive check (amount > 0),
    currency            text not null,
    reason              text,
    metadata            jsonb not null,
    state               text not null,
    provider_reference  text,
    failure_reason      text,
    created_at          timestamptz not null,
    settled_at          timestamptz,
    -- When the sweep repeats the call; refunds are safe to repeat by their id.
    look_up_at          timestamptz,
    look_ups            integer not null default 0,
    constraint refund_state check (state in ('pending', 'succeeded', 'failed')),
    constraint refund_settled_at check ((state = 'pending') = (settled_at is null)),
    constraint refund_look_up_at check ((state = 'pending') = (look_up_at is not null)),
    constraint refund_failure check ((state = 'failed') = (failure_reason is not null))
);
create index refund_by_merchant on refund (merchant_id, livemode, id);
create index refund_by_charge on refund (charge_id, id);
create index refund_due on refund (look_up_at) where look_up_at is not null;

-- Double entry: the rows of one movement sum to zero in its currency. Written in the transaction that
-- settles the movement and never changed. Money that leaves an account is negative.
create table ledger_entry (
    id              bigint generated always as identity primary key,
    merchant_id     text not null,
    livemode        boolean not null,
    -- The charge or refund that moved it, and how: unique, so that nothing is booked twice.
    movement        text not null,
    object_id       text not null,
    account         text not null constraint ledger_entry_account check
        (account in ('payer', 'authorized', 'merchant', 'fees', 'disputed')),
    currency        text not null,
    amount          bigint not null constraint ledger_entry_amount check (amount <> 0),
    created_at      timestamptz not null,
    constraint ledger_entry_movement check
        (movement in ('authorized', 'captured', 'voided', 'refunded', 'disputed', 'fee'))
);
create unique index ledger_entry_once on ledger_entry (object_id, movement, account);
create index ledger_entry_by_merchant on ledger_entry (merchant_id, livemode, id);

-- The simulator reserves money and takes it later, and its banks ask the payer who he is. What the
-- bank will say to a payer who passes is written beforehand, because the card is forgotten by then.
alter table simulator.charge
    drop constraint charge_state,
    drop constraint charge_refunded,
    add column manual_capture           boolean not null default false,
    add column amount_captured          bigint not null default 0,
    -- Who is paid, for the bank's page.
    add column merchant                 text,
    add column network                  text,
    add column risk                     text,
    add column check_cvc                text,
    add column check_address_line1      text,
    add column check_postal_code        text,
    add column three_d_secure_flow      text,
    add column three_d_secure_result    text,
    -- The address of the bank's page ends in it; who has it may answer for the payer.
    add column challenge_id             text constraint charge_challenge_unique unique,
    add column challenge_return_url     text,
    add column challenge_expires_at     timestamptz,
    add column challenge_answer         text,
    add column challenge_decline_code   text;
update simulator.charge set amount_captured = amount where state in ('captured', 'refunded', 'void');
alter table simulator.charge
    -- 'closed': voided while its payer was being asked, so that there was no money to give back.
    add constraint charge_state check
        (state in ('challenge', 'authorized', 'captured', 'declined', 'void', 'closed', 'refunded', 'refused')),
    add constraint charge_captured check
        (case when state in ('captured', 'refunded') then amount_captured between 1 and amount
              when state = 'void' then amount_captured between 0 and amount
              else amount_captured = 0 end),
    add constraint charge_refunded check (amount_refunded between 0 and amount_captured
        and (state = 'refunded') = (amount_captured > 0 and amount_refunded = amount_captured)),
    add constraint charge_challenge check ((state not in ('challenge', 'closed') or challenge_id is not null)
        and (challenge_id is null) = (challenge_return_url is null)
        and (challenge_id is null) = (challenge_expires_at is null)),
    add constraint charge_challenge_answer check (challenge_answer is null
        or (challenge_id is not null and state not in ('challenge', 'closed')
            and challenge_answer in ('approve', 'fail', 'cancel', 'approve_twice', 'approve_and_stay')));
