//! What the brain answers about sessions: frozen values.

use crate::errors::ErrorFields;
use crate::tls::UpstreamTls;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sluice_dataplane::model;
use std::collections::HashSet;
use std::sync::Arc;

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct SessionAdmission(pub(crate) model::SessionAdmission);

#[pymethods]
impl SessionAdmission {
    #[new]
    #[pyo3(signature = (*, upstream, probe, parameters, audit, upstream_name, tls=None))]
    fn new(
        upstream: String,
        probe: Option<String>,
        parameters: Vec<(String, String)>,
        audit: &[u8],
        upstream_name: String,
        tls: Option<&Bound<'_, UpstreamTls>>,
    ) -> Self {
        let audit = audit.to_vec();
        Self(model::SessionAdmission {
            upstream,
            tls: tls.map(|tls| Arc::clone(&tls.get().0)),
            probe,
            parameters,
            audit,
            upstream_name,
        })
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
#[derive(Clone)]
pub struct Scrub(model::Scrub);

#[pymethods]
impl Scrub {
    #[new]
    #[pyo3(signature = (*, enabled, keep_primary=HashSet::new()))]
    const fn new(enabled: bool, keep_primary: HashSet<(String, String)>) -> Self {
        Self(model::Scrub {
            enabled,
            keep_primary,
        })
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct SessionState(pub(crate) model::SessionState);

#[pymethods]
impl SessionState {
    #[new]
    #[pyo3(signature = (
        *, context, level, revision, sequence, scrub, close=None, close_after_s=30.0, observe=false, channels=None
    ))]
    #[expect(clippy::too_many_arguments)] // The contract's fields.
    fn new(
        context: u64,
        level: u8,
        revision: String,
        sequence: u64,
        scrub: Scrub,
        close: Option<ErrorFields>,
        close_after_s: f64,
        observe: bool,
        channels: Option<HashSet<String>>,
    ) -> PyResult<Self> {
        if level > 2 {
            return Err(PyValueError::new_err(format!(
                "level must be 0, 1 or 2, not {level}"
            )));
        }
        Ok(Self(model::SessionState {
            context,
            level,
            revision,
            sequence,
            scrub: scrub.0,
            channels,
            close: close.map(|fields| Arc::new(fields.0)),
            close_after_s,
            observe,
        }))
    }

    #[getter]
    const fn context(&self) -> u64 {
        self.0.context
    }

    #[getter]
    const fn level(&self) -> u8 {
        self.0.level
    }
}
