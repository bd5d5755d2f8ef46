-- Sessions for one person: the address that a code is sent to, the code that is out, the browsers that
-- have proven themselves, and mail as an outbox whose words nobody can read from here.

alter table checkout_session add column if not exists target_user_email text;

-- What was asked for in the name of a session's target user. One row a session, so that its lock decides
-- which guess comes first. The code itself is nowhere: only a keyed MAC over session, number, browser and code.
create table payer_check (
    session_id      text primary key references checkout_session (id) on delete cascade,
    merchant_id     text not null,
    -- Codes made so far, and thereby the number of the one that is out.
    codes           smallint not null constraint payer_check_codes check (codes between 0 and 3),
    -- Null once the code was used.
    code_mac        bytea,
    -- The browser that asked for it. Guesses of others are not judged, so that they cannot use it up.
    browser_mac     bytea not null,
    -- Counted in the statement that judges, right ones too.
    guesses         smallint not null constraint payer_check_guesses check (guesses between 0 and 5),
    made_at         timestamptz not null,
    expires_at      timestamptz not null,
    mail_id         text not null,
    constraint payer_check_lifetime check (expires_at <= made_at + interval '10 minutes')
) with (fillfactor = 70);

-- A browser that may act for the target user. Its cookie carries this id under a MAC; the row says when and
-- for which address it was earned.
create table payer_binding (
    session_id      text not null references checkout_session (id) on delete cascade,
    id              text not null,
    merchant_id     text not null,
    email           text not null,
    proven_at       timestamptz not null,
    primary key (session_id, id)
);

-- Codes sent within one hour, for an address, a merchant or a network each. The subject is a keyed MAC: this table
-- tells nobody who was written to or from where.
create table mail_budget (
    kind            text not null constraint mail_budget_kind check (kind in ('address', 'merchant', 'network')),
    subject         bytea not null,
    hour            timestamptz not null,
    used            integer not null,
    primary key (kind, subject, hour)
);
create index mail_budget_age on mail_budget (hour);

-- Mails captured so far have no sealed body. They are copies for the development mailbox and nothing else.
delete from mail;
alter table mail
    drop constraint mail_kind,
    drop column body_text,
    drop column body_html,
    -- The words, sealed with a key that is not in the database; gone once the mail is sent or given up.
    add column body_sealed  bytea,
    add column state        text not null,
    add column due_at       timestamptz,
    add column give_up_at   timestamptz not null,
    add column attempts     integer not null default 0,
    add column lease_token  uuid,
    -- Whether the last attempt failed through the mail server and not through the address.
    add column server_trouble boolean not null default false,
    add column last_error   text,
    add column ended_at     timestamptz,
    add constraint mail_kind check (kind in ('receipt', 'identity_code')),
    add constraint mail_state check (state in ('captured', 'owed', 'sent', 'given_up')),
    add constraint mail_due check ((state = 'owed') = (due_at is not null)),
    add constraint mail_body check ((state in ('captured', 'owed')) = (body_sealed is not null)),
    add constraint mail_ended check ((state in ('sent', 'given_up')) = (ended_at is not null));
create index mail_due on mail (due_at) where state = 'owed';
