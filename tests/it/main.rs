//! Black-box stories: a real database each, real sockets, the gateway as its users meet it.
//!
//! One binary, a file a feature. `world` starts the gateway, and three actors with verbs use it:
//! `merchant` calls the API, `payer` fills in pages, `receiver` takes webhooks. Time is moved, never
//! waited for.

mod fault_proxy;
mod localstripe;
mod mail_server;
mod merchant;
mod outside;
mod payer;
mod receiver;
mod storefront;
mod world;

mod audit;
mod authentication;
mod bad_input;
mod browser;
mod captures;
mod card_vault;
mod checkout_session_lists;
mod checkout_sessions;
mod crashes;
mod customers_api;
mod declines;
mod dev_command;
mod events_api;
mod expiry;
mod first_payment;
mod forged_forms;
mod fraud;
mod histories;
mod history_model;
mod hosted_pages;
mod idempotency;
mod mail_delivery;
mod money_races;
mod one_story;
mod openapi;
mod page_ends;
mod page_security;
mod payer_identity;
mod payment_objects;
mod pool;
mod provider_conformance;
mod provider_faults;
mod races;
mod redirect_urls;
mod refunds;
mod replicas;
mod reviews;
mod saved_cards;
mod sdks;
mod secrets;
mod semi_hosted;
mod semi_hosted_doors;
mod shutdown;
mod simulator;
mod simulator_bank;
mod stripe_callbacks;
mod stripe_conformance;
mod stripe_requests;
mod stripe_stories;
mod test_cards;
mod test_mode;
mod three_d_secure;
mod tidy;
mod webhook_endpoints_api;
mod webhook_hostile;
mod webhook_isolation;
mod webhook_retries;
mod webhooks;
