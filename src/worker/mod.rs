//! Door 4: what time makes due. Loops, each safe to run on any number of replicas.
//!
//! - [`deliver`] brings events to webhook endpoints.
//! - [`mail`] brings mail to the operator's mail server.
//! - [`sweep`] ends sessions at their deadline, asks about charges in doubt, throws old things away
//!   and sets the clock.

mod attempt;
mod bounded_stream;
mod connections;
pub mod deliver;
mod lanes;
mod ledger;
pub mod mail;
mod name_servers;
mod post;
mod resolver;
mod settings;
pub mod sweep;
pub mod test_send;
