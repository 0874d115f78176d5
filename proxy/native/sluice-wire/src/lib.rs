//! PostgreSQL frames and tokens: bytes in, values out, no I/O.
