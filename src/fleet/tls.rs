//! The certificates of the connection to etcd.

use crate::config::{FleetSection, Host, MAX_CERTIFICATES};
use crate::files::read_regular;
use reqwest::{Certificate, Identity};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// This host's client certificate, if it has one. Blocks on its files.
pub(super) fn identity(section: &FleetSection) -> Result<Option<Identity>, String> {
    let Some((certificate, key)) = &section.certificate else {
        return Ok(None);
    };
    let read = |path: &PathBuf| {
        let read = read_regular(path, MAX_CERTIFICATES);
        read.map_err(|error| format!("`{}`: {error}", path.display()))
    };
    let ((certificate_pem, _), (key_pem, _)) = (read(certificate)?, read(key)?);
    let pem = Zeroizing::new([&**certificate_pem, &**key_pem].concat());
    let wrong = |_| {
        format!(
            "`{}` and `{}` are no certificate and key in PEM",
            certificate.display(),
            key.display()
        )
    };
    Identity::from_pem(&pem).map(Some).map_err(wrong)
}

/// The certificates that are trusted. Blocks on their files.
pub(super) fn certificates(section: &FleetSection) -> Result<Vec<Certificate>, String> {
    let is_tls = |host: &Host| host.as_str().starts_with("https:");
    let mut certificates = Vec::new();
    if section.endpoints.iter().any(is_tls) {
        // Single unreadable certificates of the system are not our concern; a member that needs one says so.
        for certificate in rustls_native_certs::load_native_certs().certs {
            certificates.extend(Certificate::from_der(&certificate));
        }
    }
    if let Some(path) = &section.ca_file {
        let wrong = |why: &str| format!("`{}`: {why}", path.display());
        let (pem, _) =
            read_regular(path, MAX_CERTIFICATES).map_err(|error| wrong(&error.to_string()))?;
        let more = Certificate::from_pem_bundle(&pem).map_err(|_| wrong("not PEM certificates"))?;
        certificates.extend(more);
    }
    Ok(certificates)
}
