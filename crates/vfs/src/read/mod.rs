//! Reading: pages that are kept, the decision what to fetch before it is asked for, and the READs under way.

pub(crate) mod fetch;
pub(crate) mod pages;
pub(crate) mod planner;
