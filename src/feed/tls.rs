//! The roots that TLS trusts: the system's, and those of `ca_file`.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::path::Path;
use std::sync::Arc;
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

/// The settings of a client that trusts these authorities. Blocks on files.
pub fn client(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    client_of(ca_file, rustls::DEFAULT_VERSIONS)
}

/// As `client`, without TLS 1.3, which SQL Server does not speak inside its own packets.
pub fn client_of_tls12(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    client_of(ca_file, &[&rustls::version::TLS12])
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
