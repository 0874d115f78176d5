//! TLS of both hops, as Python gives it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sluice_dataplane::tls;
use std::sync::Arc;

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct UpstreamTls(pub(crate) Arc<tls::UpstreamTls>);

#[pymethods]
impl UpstreamTls {
    #[new]
    #[pyo3(signature = (*, mode, names, authorities=None, certificate=None, advice=None))]
    fn new(
        mode: &str,
        names: Vec<String>,
        authorities: Option<&[u8]>,
        certificate: Option<(Vec<u8>, Vec<u8>)>,
        advice: Option<String>,
    ) -> PyResult<Self> {
        let tls = tls::UpstreamTls::new(mode, names, authorities, certificate);
        let tls = tls.map_err(PyValueError::new_err)?;
        Ok(Self(Arc::new(tls.advising(advice))))
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "sluice_proxy._native")]
pub struct ClientTls(pub(crate) Arc<tls::ClientTls>);

#[pymethods]
impl ClientTls {
    #[new]
    fn new(chain: &[u8], key: &[u8]) -> PyResult<Self> {
        let tls = tls::ClientTls::new(chain, key);
        Ok(Self(Arc::new(tls.map_err(PyValueError::new_err)?)))
    }
}
