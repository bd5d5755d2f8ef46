//! checkstand
