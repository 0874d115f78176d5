//! The data plane.
pub mod spool;
