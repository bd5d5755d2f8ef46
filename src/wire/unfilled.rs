//! Keys that Stripe's objects always have and ours never fill: there, and null, because Stripe's
//! Python SDK raises on a missing one. A key that is filled one day moves into its object.

use serde::Serialize;
use utoipa::ToSchema;

use super::Null;

macro_rules! unfilled {
    ($(#[$about:meta])* $name:ident: $($key:ident)+) => {
        $(#[$about])*
        #[derive(Serialize, ToSchema, Debug, Clone, Default)]
        pub struct $name {
            $(
                /// Always null.
                #[schema(value_type = Option<Object>)]
                pub $key: Null,
            )+
        }
    };
}

unfilled! {
    /// Of a payment intent.
    UnfilledOfPaymentIntent:
        allowed_payment_method_types application application_fee_amount automatic_payment_methods customer_account
        excluded_payment_method_types managed_payments on_behalf_of payment_method_configuration_details payment_record
        processing source transfer_data transfer_group
}

unfilled! {
    /// Of a charge.
    UnfilledOfCharge:
        application application_fee application_fee_amount balance_transaction calculated_statement_descriptor
        description failure_balance_transaction fraud_details on_behalf_of receipt_number shipping source
        source_transfer statement_descriptor statement_descriptor_suffix transfer_data transfer_group
}

unfilled! {
    /// Of a charge's card.
    UnfilledOfCard:
        amount_authorized authorization_code electronic_commerce_indicator installments mandate network_transaction_id
        regulated_status wallet
}

unfilled! {
    /// Of a charge's outcome.
    UnfilledOfOutcome: advice_code network_advice_code network_decline_code
}

unfilled! {
    /// Of a charge's authentication.
    UnfilledOfThreeDSecure: electronic_commerce_indicator exemption_indicator transaction_id
}

unfilled! {
    /// Of a charge's billing details.
    UnfilledOfBillingDetails: tax_id
}

unfilled! {
    /// Of a refund.
    UnfilledOfRefund: customer customer_account payment_method
}
