//! Reading: pages that are kept, and the decision what to fetch before it is asked for.

pub(crate) mod pages;
pub(crate) mod planner;
