-- Evidence is only ever added to, a deal never changes, and a refund that the provider refuses has a state.

create function escrow_evidence_is_only_added_to() returns trigger language plpgsql as $$
begin
    raise exception 'the evidence of an escrow is only ever added to';
end
$$;
create trigger escrow_signature_unchanged before update or delete on escrow_signature
    for each row execute function escrow_evidence_is_only_added_to();
create trigger escrow_signature_not_emptied before truncate on escrow_signature
    for each statement execute function escrow_evidence_is_only_added_to();
create trigger escrow_attachment_unchanged before update or delete on escrow_attachment
    for each row execute function escrow_evidence_is_only_added_to();
create trigger escrow_attachment_not_emptied before truncate on escrow_attachment
    for each statement execute function escrow_evidence_is_only_added_to();

create function escrow_deal_never_changes() returns trigger language plpgsql as $$
begin
    raise exception 'what an escrow was made for never changes';
end
$$;
create trigger escrow_deal_unchanged before update of merchant_id, livemode, mode, title, amount, currency,
        application_fee_amount, buyer_email, seller_email, estimated_delivery_days, inspection_days, contract_terms,
        contract_text, contract_sha256, created_at on escrow
    for each row execute function escrow_deal_never_changes();
create trigger escrow_kept before delete on escrow
    for each row execute function escrow_deal_never_changes();

-- The provider said that money cannot be given back: the merchant decides again.
alter table escrow
    add column refund_failed_at timestamptz,
    drop constraint escrow_status,
    drop constraint escrow_settled,
    add constraint escrow_status check (status in ('pending', 'paid', 'delivered', 'disputed', 'cancellation_requested',
        'refunding', 'refund_failed', 'completed', 'cancelled')),
    -- The parts sum to what was paid.
    add constraint escrow_settled check (
        (settled_buyer is null) = (settled_seller is null) and (settled_buyer is null) = (settled_merchant is null)
        and (status not in ('refunding', 'refund_failed', 'completed') or settled_buyer is not null)
        and (settled_buyer is null or (status in ('refunding', 'refund_failed', 'completed', 'cancelled')
            and settled_buyer >= 0 and settled_seller >= 0 and settled_merchant >= 0
            and settled_buyer + settled_seller + settled_merchant = amount))),
    add constraint escrow_refund_failed check (status <> 'refund_failed' or refund_failed_at is not null);
