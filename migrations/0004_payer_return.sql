-- Where a payer goes when he comes back from his bank, for attempts made on a merchant's own page. Apart
-- from the charge, because it is written before there is one, and most charges have none.
create table payer_return (
    session_id      text not null references checkout_session (id),
    -- The attempt as its charge names it.
    attempt_key     text not null,
    -- Covered by the merchant's allow-list when it was written.
    return_url      text not null constraint payer_return_url_length check (length(return_url) <= 2048),
    created_at      timestamptz not null,
    primary key (session_id, attempt_key)
);
