-- Where the bill goes, if the payer was asked: on the session what he typed last, on a charge what was sent with
-- it (with his name and e-mail address), on a kept card what it was kept with.

alter table checkout_session add column payer_address jsonb;
alter table charge add column billing_details jsonb;
alter table payment_method add column holder_address jsonb;
