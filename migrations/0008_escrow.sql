-- Escrow: a buyer's money, held until both sides, time or a decision say where it goes. What the code
-- decides in domain/escrow.rs is said again here as checks, so that no row can stand where no state does.

create table escrow (
    id                  text primary key,
    merchant_id         text not null,
    livemode            boolean not null,
    mode                text not null constraint escrow_mode check (mode in ('standard', 'quick', 'instant')),
    title               text not null constraint escrow_title check (char_length(title) between 1 and 200),
    amount              bigint not null constraint escrow_amount_positive check (amount > 0),
    currency            text not null,
    -- What the merchant keeps when the money is released.
    application_fee_amount bigint not null,
    buyer_email         text not null,
    -- Null where the merchant is the seller.
    seller_email        text,
    estimated_delivery_days smallint constraint escrow_delivery_days check (estimated_delivery_days >= 1),
    inspection_days     smallint not null constraint escrow_inspection_days check (inspection_days between 1 and 90),
    contract_terms      text constraint escrow_terms_length check (char_length(contract_terms) <= 10000),
    -- The whole text as it is signed. Its hash cannot disagree with it.
    contract_text       text,
    contract_sha256     bytea,
    metadata            jsonb not null,
    status              text not null,
    -- Where a suspended escrow came from, and how much of the inspection was left then.
    previous_status     text,
    inspection_left_us  bigint,
    completion_deadline timestamptz,
    -- The session whose payment is in flight. While there is one, nothing else moves a pending escrow.
    paying_session_id   text references checkout_session (id),
    payment_session_id  text references checkout_session (id),
    payment_id          text references payment (id),
    charge_id           text references charge (id),
    -- Who gets what, once that is decided.
    settled_buyer       bigint,
    settled_seller      bigint,
    settled_merchant    bigint,
    resolution          text constraint escrow_resolution check (resolution in ('release', 'refund', 'split')),
    tracking_reference  text,
    delivery_note       text,
    delivery_rejection_reason text,
    disputed_by         text constraint escrow_disputed_by check (disputed_by in ('buyer', 'seller')),
    dispute_reason      text,
    dispute_text        text,
    cancellation_reason text,
    cancellation_rejection_reason text,
    buyer_signed_at     timestamptz,
    seller_signed_at    timestamptz,
    paid_at             timestamptz,
    delivered_at        timestamptz,
    delivery_rejected_at timestamptz,
    disputed_at         timestamptz,
    resolved_at         timestamptz,
    cancellation_requested_at timestamptz,
    cancellation_rejected_at timestamptz,
    completed_at        timestamptz,
    cancelled_at        timestamptz,
    refunded_at         timestamptz,
    released_at         timestamptz,
    -- Events announced so far: gives each its gap-free number.
    event_count         integer not null,
    -- The history's length and the hash of its last entry: says when its end was cut off.
    history_count       integer not null,
    history_head        bytea not null constraint escrow_history_head check (octet_length(history_head) = 32),
    created_at          timestamptz not null,
    constraint escrow_status check (status in ('pending', 'paid', 'delivered', 'disputed', 'cancellation_requested',
        'refunding', 'completed', 'cancelled')),
    constraint escrow_fee check (application_fee_amount between 0 and amount),
    constraint escrow_seller check ((mode = 'instant') = (seller_email is null)),
    constraint escrow_contract check ((mode = 'standard') = (contract_terms is not null)
        and (contract_terms is null) = (contract_text is null)
        and (contract_text is null) = (contract_sha256 is null)),
    constraint escrow_contract_hash check (contract_sha256 = sha256(convert_to(contract_text, 'UTF8'))),
    constraint escrow_signed check (mode = 'standard' or (buyer_signed_at is null and seller_signed_at is null)),
    constraint escrow_paid_after_signing check (mode <> 'standard' or payment_id is null
        or (buyer_signed_at is not null and seller_signed_at is not null)),
    constraint escrow_paying check (paying_session_id is null or status = 'pending'),
    constraint escrow_payment check (
        case when status = 'pending' then payment_id is null
             when status = 'cancelled' then (payment_id is null) = (settled_buyer is null)
             else payment_id is not null end
        and (payment_id is null) = (charge_id is null) and (payment_id is null) = (payment_session_id is null)
        and (payment_id is null) = (paid_at is null)),
    constraint escrow_deadline check ((status = 'delivered') = (completion_deadline is not null)),
    constraint escrow_previous check (case status
        when 'disputed' then previous_status in ('paid', 'delivered', 'cancellation_requested')
        when 'cancellation_requested' then previous_status in ('paid', 'delivered')
        else previous_status is null end),
    constraint escrow_inspection_left check (case previous_status
        when 'delivered' then inspection_left_us is not null
        when 'cancellation_requested' then true
        else inspection_left_us is null end),
    constraint escrow_instant check (mode <> 'instant' or status <> 'delivered'),
    -- The parts sum to what was paid.
    constraint escrow_settled check (
        (settled_buyer is null) = (settled_seller is null) and (settled_buyer is null) = (settled_merchant is null)
        and (status not in ('refunding', 'completed') or settled_buyer is not null)
        and (settled_buyer is null or (status in ('refunding', 'completed', 'cancelled')
            and settled_buyer >= 0 and settled_seller >= 0 and settled_merchant >= 0
            and settled_buyer + settled_seller + settled_merchant = amount))),
    constraint escrow_completed_at check ((status = 'completed') = (completed_at is not null)),
    constraint escrow_cancelled_at check ((status = 'cancelled') = (cancelled_at is not null)),
    constraint escrow_released_at check (released_at is null or status = 'completed')
) with (fillfactor = 80);
create index escrow_by_merchant on escrow (merchant_id, livemode, id);
create index escrow_by_buyer on escrow (merchant_id, livemode, lower(buyer_email), id);
create index escrow_by_seller on escrow (merchant_id, livemode, lower(seller_email), id);
create index escrow_due on escrow (completion_deadline) where completion_deadline is not null;
create unique index escrow_one_per_payment on escrow (payment_id) where payment_id is not null;

-- What was done to an escrow, by whom and when: only ever added to. `entry` is the exact text that is
-- hashed after the hash before it, so that no entry can be changed, taken out or moved unseen.
create table escrow_history (
    escrow_id       text not null references escrow (id),
    number          integer not null constraint escrow_history_number check (number >= 1),
    entry           text not null,
    previous_hash   bytea not null,
    hash            bytea not null,
    created_at      timestamptz not null,
    primary key (escrow_id, number),
    constraint escrow_history_hashes check (octet_length(previous_hash) = 32 and octet_length(hash) = 32)
);
create function escrow_history_is_only_added_to() returns trigger language plpgsql as $$
begin
    raise exception 'the history of an escrow is only ever added to';
end
$$;
create trigger escrow_history_unchanged before update or delete on escrow_history
    for each row execute function escrow_history_is_only_added_to();
create trigger escrow_history_not_emptied before truncate on escrow_history
    for each statement execute function escrow_history_is_only_added_to();

-- Evidence of a signature. A seller may sign by making the escrow; everybody else typed a name on the page.
create table escrow_signature (
    escrow_id       text not null references escrow (id),
    party           text not null constraint escrow_signature_party check (party in ('buyer', 'seller')),
    method          text not null constraint escrow_signature_method check (method in ('page', 'creation')),
    email           text not null,
    name            text,
    consent         boolean not null,
    signed_at       timestamptz not null,
    ip              text,
    user_agent      text,
    -- The session whose page proved the address by a code sent to it, the proof, and when it was given.
    session_id      text references checkout_session (id),
    email_proof     text,
    email_proven_at timestamptz,
    contract_sha256 bytea not null constraint escrow_signature_hash check (octet_length(contract_sha256) = 32),
    primary key (escrow_id, party),
    constraint escrow_signature_on_page check (method <> 'page'
        or (name is not null and consent and session_id is not null and email_proof is not null
            and email_proven_at is not null))
);

-- Files that came with a dispute. They come from strangers: their type is told by content, they are bounded, and
-- nothing ever shows them in a page.
create table escrow_attachment (
    id              text primary key,
    escrow_id       text not null references escrow (id),
    merchant_id     text not null,
    livemode        boolean not null,
    session_id      text not null references checkout_session (id),
    party           text not null constraint escrow_attachment_party check (party in ('buyer', 'seller')),
    place           smallint not null constraint escrow_attachment_place check (place between 1 and 3),
    file_name       text not null,
    content_type    text not null constraint escrow_attachment_type check
        (content_type in ('image/png', 'image/jpeg', 'image/webp', 'application/pdf')),
    sha256          bytea not null,
    content         bytea not null,
    created_at      timestamptz not null,
    constraint escrow_attachment_size check (octet_length(content) between 1 and 2097152),
    constraint escrow_attachment_hash check (sha256 = sha256(content))
);
create unique index escrow_attachment_place_once on escrow_attachment (session_id, place);
create index escrow_attachment_by_escrow on escrow_attachment (escrow_id, id);

-- A session can be for one act of an escrow, by one user.
alter table checkout_session
    drop constraint checkout_session_mode,
    add column if not exists target_user_email text,
    add column action       text,
    add column act_party    text,
    add column escrow_id    text references escrow (id),
    add constraint checkout_session_mode check (mode in ('payment', 'escrow')),
    add constraint checkout_session_escrow check (
        (mode = 'escrow') = (escrow_id is not null) and (mode = 'escrow') = (action is not null)
        and (mode = 'escrow') = (act_party is not null) and (mode <> 'escrow' or target_user_email is not null)),
    add constraint checkout_session_action check (action in ('sign_contract', 'accept_pay', 'complete', 'dispute',
        'request_cancellation', 'accept_cancellation', 'reject_cancellation', 'cancel_escrow')),
    add constraint checkout_session_act_party check (act_party in ('buyer', 'seller')),
    -- Only paying is ever in flight.
    add constraint checkout_session_act_processing check (state <> 'processing' or action is null or action = 'accept_pay');
create index checkout_session_by_escrow on checkout_session (escrow_id, id) where escrow_id is not null;

-- What is held is nobody's until it is released or goes back.
alter table ledger_entry
    drop constraint ledger_entry_account,
    drop constraint ledger_entry_movement,
    add constraint ledger_entry_account check
        (account in ('payer', 'authorized', 'merchant', 'fees', 'disputed', 'held', 'seller')),
    add constraint ledger_entry_movement check (movement in ('authorized', 'captured', 'voided', 'refunded', 'disputed',
        'fee', 'held', 'returned', 'released'));

-- An event that belongs to no session is numbered within its object.
comment on column event.session_sequence is 'number within session_id, or where that is null within object_id; from 1, without gaps';
