//! PostgreSQL frames and tokens: bytes in, values out, no I/O.
pub mod scan;
pub mod splice;
pub mod template;
