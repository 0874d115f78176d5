//! TLS on both hops. What is asked for comes from the brain; rustls judges the certificates.

use crate::transport::{Inbox, Outbox, Stream, reunite};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Its name in ALPN, which direct TLS must use.
const ALPN: &[u8] = b"postgresql";
/// First byte of a TLS handshake record.
const HANDSHAKE: u8 = 0x16;
/// `SSLRequest`: its length and code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How the hop to a server is encrypted, as libpq's `sslmode` says it.
#[derive(Debug)]
pub struct UpstreamTls {
    optional: bool,
    /// What is expected of the server, for whoever sees it fail.
    advice: Option<String>,
    asked: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl UpstreamTls {
    /// Read the certificates: of the authorities, and our own with its private key. All are PEM.
    ///
    /// # Errors
    ///
    /// What is wrong, as a sentence's part.
    pub fn new(
        mode: &str,
        names: impl IntoIterator<Item = String>,
        authorities: Option<&[u8]>,
        certificate: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, String> {
        let full = match mode {
            "prefer" | "require" | "verify-ca" => false,
            "verify-full" => true,
            other => return Err(format!("there is no TLS mode {other:?}")),
        };
        let names = names.into_iter().map(|name| server_name(&name));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let Some(asked) = names.first().cloned() else {
            return Err("no name of the server was given".to_owned());
        };
        let provider = Arc::new(ring::default_provider());
        let chain = authorities
            .map(|pem| trusting(pem, &provider))
            .transpose()?;
        if chain.is_none() && mode.starts_with("verify") {
            return Err(format!("TLS mode {mode} needs certificates of authorities"));
        }
        let verifier = Verifier {
            chain,
            names: if full { names } else { Vec::new() },
            provider: Arc::clone(&provider),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match certificate {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let (certificates, key) = chain_and_key(&chain, &key)?;
                config
                    .with_client_auth_cert(certificates, key)
                    .map_err(|error| format!("the certificate and its key: {error}"))?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            optional: mode == "prefer",
            advice: None,
            asked,
            config: Arc::new(config),
        })
    }

    /// Ask a server for TLS on a new connection.
    ///
    /// # Errors
    ///
    /// The server has none, or shows a certificate that does not hold.
    pub async fn begin(&self, mut stream: TcpStream) -> io::Result<Stream> {
        stream.write_all(&SSL_REQUEST).await?;
        // One byte and no more: what came behind it in the clear would be taken for the server's.
        let answer = stream.read_u8().await?;
        match answer {
            b'S' => {
                let connector = TlsConnector::from(Arc::clone(&self.config));
                let secured = connector.connect(self.asked.clone(), stream).await;
                secured
                    .map(|stream| Stream::ToServer(Box::new(stream)))
                    .map_err(|error| io::Error::new(error.kind(), in_words(&error)))
            }
            b'N' if self.optional => Ok(Stream::Tcp(stream)),
            b'N' => Err(io::Error::other(
                "server does not support SSL, but SSL was required",
            )),
            _ => Err(io::Error::other(
                "server sent an error response during SSL exchange",
            )),
        }
    }

    /// Say what is expected of the server, in sentences, when a session fails for it.
    #[must_use]
    pub fn advising(mut self, advice: Option<String>) -> Self {
        self.advice = advice;
        self
    }

    /// What is expected of the server.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// Whether the hop may be plain, too.
    #[must_use]
    pub const fn optional(&self) -> bool {
        self.optional
    }
}

/// What is shown to clients that ask for TLS.
pub struct ClientTls(Arc<ServerConfig>);

impl ClientTls {
    /// Read the certificate and its private key, both PEM.
    ///
    /// # Errors
    ///
    /// What is wrong, as a sentence's part.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let (certificates, key) = chain_and_key(chain, key)?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|error| format!("the certificate and its key: {error}"))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Whether a client begins with TLS and not with `SSLRequest` (`sslnegotiation=direct`). Nothing is taken from the stream.
    pub async fn is_direct(stream: &Stream) -> bool {
        let mut first = [0];
        matches!(stream, Stream::Tcp(stream) if matches!(stream.peek(&mut first).await, Ok(1)) && first[0] == HANDSHAKE)
    }

    /// Shake hands with a client.
    ///
    /// # Errors
    ///
    /// It broke, or direct TLS was meant for another protocol.
    pub async fn accept(&self, stream: Stream, direct: bool) -> io::Result<Stream> {
        let Stream::Tcp(stream) = stream else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let stream = TlsAcceptor::from(Arc::clone(&self.0))
            .accept(stream)
            .await?;
        if direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Stream::ToClient(Box::new(stream)))
    }

    /// Shake hands with a client that was told so.
    ///
    /// # Errors
    ///
    /// As `accept`; or it sent more before the handshake, which anybody may have put there.
    pub async fn upgrade(&self, inbox: Inbox, outbox: Outbox) -> io::Result<(Inbox, Outbox)> {
        if !inbox.buffer.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let stream = reunite(inbox, outbox).ok_or(io::ErrorKind::Unsupported)?;
        Ok(self.accept(stream, false).await?.split())
    }
}

/// Checks a server's certificate as far as the mode asks for it.
#[derive(Debug)]
struct Verifier {
    /// None: any certificate will do.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// The certificate must have one of them; empty: any name will do.
    names: Vec<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        // Names are looked at after the chain: who has another name has a sound chain.
        let check = |name: &ServerName<'_>| {
            chain.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        let first = check(asked);
        match first {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.names.is_empty() => Ok(ServerCertVerified::assertion()),
            Err(_) => self
                .names
                .iter()
                .skip(1)
                .find_map(|name| check(name).ok())
                .map_or(first, Ok),
            found => found,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// A host name, with or without the dot at its end, or an address.
fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    let bare = name.strip_suffix('.').unwrap_or(name);
    if let Ok(address) = bare.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(ServerName::from(address));
    }
    ServerName::try_from(bare.to_owned()).map_err(|_| format!("{name:?} is no host name"))
}

fn trusting(
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| format!("the authorities' certificates: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("the authorities' certificates: {error}"))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| format!("the authorities' certificates: {error}"))
}

fn chain_and_key(
    chain: &[u8],
    key: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("the certificate: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate: there is none in it".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key);
    Ok((
        chain,
        key.map_err(|error| format!("the private key: {error}"))?,
    ))
}

/// What broke a handshake, for people.
fn in_words(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "certificate verify failed: none of the authorities given signed the server's certificate"
                .to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "certificate verify failed: the server's certificate has expired".to_owned()
        }
        Some(Error::InvalidCertificate(why)) => format!("certificate verify failed: {why}"),
        Some(other) => format!("SSL error: {other}"),
        None => format!("SSL error: {}", crate::upstream::system_words(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(mode: &str, names: &[&str], authorities: Option<&[u8]>) -> String {
        let names = names.iter().map(|name| (*name).to_owned());
        UpstreamTls::new(mode, names, authorities, None)
            .err()
            .unwrap_or_default()
    }

    #[test]
    fn verifying_needs_authorities() {
        assert!(refused("verify-ca", &["db"], None).contains("authorities"));
        assert!(refused("verify-full", &["db"], Some(b"")).contains("authorities"));
        assert_eq!(refused("require", &["db"], None), "");
    }

    #[test]
    fn modes_and_names_are_checked() {
        assert!(refused("allow", &["db"], None).contains("allow"));
        assert!(refused("require", &[], None).contains("name"));
        assert!(refused("require", &["a b"], None).contains("a b"));
        assert_eq!(
            refused("require", &["db.shop.svc.", "::1", "10.0.0.1"], None),
            ""
        );
    }
}
