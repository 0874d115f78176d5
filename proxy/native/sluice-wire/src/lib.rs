//! PostgreSQL frames and tokens: bytes in, values out, no I/O.
pub mod backend;
pub mod error;
pub mod frame;
pub mod frontend;
pub mod scan;
pub mod scrub;
pub mod splice;
pub mod template;
