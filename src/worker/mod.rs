//! Door 4: what time makes due. Two loops, each safe to run on any number of replicas.
//!
//! - [`deliver`] brings events to webhook endpoints.
//! - [`sweep`] ends sessions at their deadline, asks about charges in doubt, throws old things away
//!   and sets the clock.

mod attempt;
pub mod deliver;
mod lanes;
mod ledger;
mod post;
mod resolver;
pub mod sweep;
