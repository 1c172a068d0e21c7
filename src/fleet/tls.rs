//! The client certificate of the connection to etcd.

use crate::config::{FleetSection, MAX_CERTIFICATES};
use crate::files::read_regular;
use reqwest::Identity;
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
