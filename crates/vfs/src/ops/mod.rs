//! The calls that need no open file, each with what it costs: names, attributes, links.

mod access;
mod attributes;
mod names;
mod removal;
