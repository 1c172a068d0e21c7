//! The certificates that a client trusts, of the platform or of the fleet's engine.

use crate::config::{Host, MAX_CERTIFICATES};
use crate::files::read_regular;
use reqwest::Certificate;
use std::path::Path;

/// The system's certificates if one of these hosts is reached over HTTPS, and those of a `ca_file`. Blocks on files.
pub(crate) fn trusted<'h>(
    mut hosts: impl Iterator<Item = &'h Host>,
    ca_file: Option<&Path>,
) -> Result<Vec<Certificate>, String> {
    let mut certificates = Vec::new();
    if hosts.any(|host| host.as_str().starts_with("https:")) {
        // Single unreadable certificates of the system are not our concern; a host that needs one says so.
        for certificate in rustls_native_certs::load_native_certs().certs {
            certificates.extend(Certificate::from_der(&certificate));
        }
    }
    if let Some(path) = ca_file {
        let wrong = |why: &str| format!("`{}`: {why}", path.display());
        let (pem, _) =
            read_regular(path, MAX_CERTIFICATES).map_err(|error| wrong(&error.to_string()))?;
        let more = Certificate::from_pem_bundle(&pem).map_err(|_| wrong("not PEM certificates"))?;
        if more.is_empty() {
            return Err(wrong("no PEM certificate in it"));
        }
        certificates.extend(more);
    }
    Ok(certificates)
}
