//! What can be wrong with a frame.

use thiserror::Error;

/// A frame that does not follow the protocol. Every one of these is SQLSTATE 08P01 for the client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The declared length is below the smallest possible or above the bound.
    #[error("invalid message length")]
    Length,
    /// A string has no closing NUL, or bytes are left over behind the last field.
    #[error("invalid message format")]
    Format,
    /// Fewer bytes than the fields need.
    #[error("insufficient data left in message")]
    Short,
    /// The startup packet's list of parameters is broken.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    StartupLayout,
}
