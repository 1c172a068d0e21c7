//! The roots that TLS trusts: the system's, and those of `ca_file`.

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wxtokend::fault::reason;

/// Reads PEM certificates. Says what is wrong as the rest of a sentence that names the file.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem =
        std::fs::read(path).map_err(|error| format!("which cannot be read: {}", reason(&error)))?;
    let mut certificates = Vec::new();
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        match certificate {
            Ok(certificate) if store.add(certificate.clone()).is_ok() => {
                certificates.push(certificate);
            }
            _ => return Err("where a certificate is damaged: export it again as PEM".to_owned()),
        }
    }
    if certificates.is_empty() {
        return Err(
            "which holds no certificate: it must be PEM, with BEGIN CERTIFICATE".to_owned(),
        );
    }
    Ok(certificates)
}

/// For so long settings are kept. To read the system's roots takes longer than a handshake.
const KEPT: Duration = Duration::from_mins(1);

/// The settings of a client that trusts the system's roots and those of a `ca_file`, read anew every minute.
pub(crate) struct ClientSettings {
    ca_file: Option<PathBuf>,
    versions: &'static [&'static SupportedProtocolVersion],
    kept: Mutex<Option<(Instant, ClientConfig)>>,
}

impl ClientSettings {
    /// Settings of any version.
    pub(crate) fn new(ca_file: Option<&Path>) -> Self {
        Self::of(ca_file, rustls::DEFAULT_VERSIONS)
    }

    /// Settings without TLS 1.3, which SQL Server does not speak inside its own packets.
    pub(crate) fn of_tls12(ca_file: Option<&Path>) -> Self {
        static TLS12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
        Self::of(ca_file, &TLS12)
    }

    fn of(ca_file: Option<&Path>, versions: &'static [&'static SupportedProtocolVersion]) -> Self {
        Self {
            ca_file: ca_file.map(Path::to_path_buf),
            versions,
            kept: Mutex::default(),
        }
    }

    /// Blocks on files, at most once a minute while connections succeed.
    pub(crate) fn get(&self) -> Result<ClientConfig, String> {
        let mut kept = self.kept.lock();
        if let Some((at, config)) = &*kept
            && at.elapsed() < KEPT
        {
            return Ok(config.clone());
        }
        let mut config = client_of(self.ca_file.as_deref(), self.versions)?;
        // Each connection is a new one, as far as the server can tell.
        config.resumption = Resumption::disabled();
        *kept = Some((Instant::now(), config.clone()));
        Ok(config)
    }

    /// After a failure: another certificate may be trusted by now.
    pub(crate) fn forget(&self) {
        *self.kept.lock() = None;
    }
}

fn client_of(
    ca_file: Option<&Path>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One that cannot be used is trusted by nobody.
        let _ = roots.add(certificate);
    }
    if let Some(path) = ca_file {
        let certificates = read_certificates(path)
            .map_err(|wrong| format!("`ca_file` names `{}`, {wrong}", path.display()))?;
        for certificate in certificates {
            let _ = roots.add(certificate);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| format!("TLS cannot be set up: {error}"))
}
