//! `checkstand dev`: everything on one machine with one command, and what the tests start with.

pub mod postgres;
