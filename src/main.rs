//! checkstand
fn main(){}
