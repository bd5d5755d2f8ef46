//! Decides: pure functions and types, without clock, IO, serialisation or async.
//!
//! The rule: everything that may happen to a session, a payment or a delivery is decided here, from
//! the present state and a request, and nowhere else. Names nothing of the other layers.

pub mod address;
pub mod api_key;
pub mod billing;
pub mod card;
pub mod charge_facts;
pub mod country;
pub mod custom_headers;
pub mod customer;
pub mod decline;
pub mod delivery;
pub mod dispute;
pub mod email;
pub mod endpoint_health;
pub mod escrow;
pub mod escrow_acts;
pub mod escrow_contract;
pub mod escrow_facts;
pub mod escrow_files;
pub mod escrow_money;
pub mod event_replay;
pub mod event_types;
pub mod fraud;
pub mod id;
pub mod identity;
pub mod key_pair;
pub mod ledger;
pub mod money;
pub mod network;
pub mod payment;
pub mod payment_method;
pub mod pricing;
pub mod redirect;
pub mod refusal;
pub mod review;
pub mod routing;
pub mod session;
pub mod session_acts;
pub mod signature;
pub mod unseen;
