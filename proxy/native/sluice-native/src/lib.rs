//! The Python binding: `sluice_proxy._native`.
use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _native {}
