//! A certificate authority of the fleet's own, and what it signs.

use crate::common::output_of;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate authority in a directory: `NAME.pem`, and what it signed beside it.
pub(crate) struct Authority {
    directory: PathBuf,
    name: &'static str,
}

impl Authority {
    /// Makes one.
    pub(crate) fn make(directory: &Path, name: &'static str) -> Self {
        let authority = Self {
            directory: directory.to_owned(),
            name,
        };
        let (certificate, key) = authority.files(name);
        let usage = "keyUsage=critical,keyCertSign";
        openssl(&format!(
            "req -x509 -days 2 -subj /CN={name} -addext {usage} {NEW_KEY} -keyout {key} -out {certificate}"
        ));
        authority
    }

    /// The certificate that whoever trusts this authority needs.
    pub(crate) fn certificate(&self) -> String {
        self.files(self.name).0
    }

    /// Signs a certificate for an address, for servers and for clients. Returns it and its key.
    pub(crate) fn sign(&self, name: &str, address: &str) -> (String, String) {
        let (certificate, key) = self.files(name);
        let (authority, authority_key) = self.files(self.name);
        let [request, settings] = ["csr", "cnf"].map(|end| format!("{certificate}.{end}"));
        let text = format!(
            "subjectAltName=IP:{address},IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n"
        );
        fs::write(&settings, text).unwrap();
        openssl(&format!(
            "req -new -subj /CN={name} {NEW_KEY} -keyout {key} -out {request}"
        ));
        openssl(&format!(
            "x509 -req -days 2 -in {request} -CA {authority} -CAkey {authority_key} -CAcreateserial -extfile {settings} -out {certificate}"
        ));
        (certificate, key)
    }

    fn files(&self, name: &str) -> (String, String) {
        let file = |end| {
            let path = self.directory.join(format!("{name}{end}"));
            path.to_str().unwrap().to_owned()
        };
        (file(".pem"), file("-key.pem"))
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn openssl(arguments: &str) {
    output_of(Command::new("openssl").args(arguments.split_whitespace()));
}
