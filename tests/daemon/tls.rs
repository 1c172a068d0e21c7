//! TLS before a platform, with certificates of every kind.

use crate::common::{Bench, PATIENCE, output_of, wait_until};
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command};

/// TLS before a platform. Killed when dropped.
pub(crate) struct Tls {
    socat: Child,
    pub(crate) url: String,
}

/// A certificate for a server.
#[derive(Clone, Copy)]
pub(crate) struct CertificateKind {
    /// The name it is for.
    pub(crate) name: &'static str,
    /// Its first and last moment, as `openssl ca` reads them; two days from now if empty.
    pub(crate) valid: Option<(&'static str, &'static str)>,
}

/// One for the address that the server listens on.
pub(crate) const USUAL: CertificateKind = CertificateKind {
    name: "IP:127.0.0.1",
    valid: None,
};

const NEW_KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

fn path(bench: &Bench, name: &str) -> String {
    bench.path(name).into_os_string().into_string().unwrap()
}

fn openssl(arguments: &[&[&str]]) {
    output_of(Command::new("openssl").args(arguments.concat()));
}

impl Tls {
    /// Makes `ca.pem` in the bench, and listens with a certificate of that CA.
    pub(crate) fn start(bench: &Bench, platform: SocketAddr) -> Self {
        Self::of_ca(bench, platform, USUAL)
    }

    /// The same with another certificate.
    pub(crate) fn of_ca(bench: &Bench, platform: SocketAddr, kind: CertificateKind) -> Self {
        let [ca, ca_key, request, key, certificate, settings] = [
            "ca.pem",
            "ca.key",
            "server.csr",
            "server.key",
            "server.pem",
            "ca.cnf",
        ]
        .map(|name| path(bench, name));
        let new = |more: &[&str], out: &str, key: &str| {
            let out = ["-nodes", "-out", out, "-keyout", key];
            openssl(&[&["req"], more, &NEW_KEY, &out]);
        };
        let of_ca = [
            "-x509",
            "-days",
            "2",
            "-subj",
            "/CN=a test",
            "-addext",
            "keyUsage=critical,keyCertSign",
        ];
        new(&of_ca, &ca, &ca_key);
        let name = format!("subjectAltName={}", kind.name);
        let end = "basicConstraints=critical,CA:FALSE";
        new(
            &["-subj", "/CN=server", "-addext", &name, "-addext", end],
            &request,
            &key,
        );
        let dir = path(bench, "");
        let text = format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase={dir}/index.txt\nnew_certs_dir={dir}\nserial={dir}/serial\n\
             default_md=sha256\npolicy=p\ncopy_extensions=copy\nunique_subject=no\n[p]\ncommonName=supplied\n"
        );
        fs::write(&settings, text).unwrap();
        fs::write(bench.path("index.txt"), "").unwrap();
        fs::write(bench.path("serial"), "01\n").unwrap();
        let times = match kind.valid {
            Some((from, until)) => ["-startdate", from, "-enddate", until].to_vec(),
            None => ["-days", "2"].to_vec(),
        };
        let signed = [
            "-in",
            &request,
            "-out",
            &certificate,
            "-cert",
            &ca,
            "-keyfile",
            &ca_key,
        ];
        openssl(&[
            &["ca", "-batch", "-notext", "-config", &settings],
            &signed,
            &times,
        ]);
        Self::listen(platform, &certificate, &key)
    }

    /// Makes `self.pem` in the bench, and listens with it: as people do, or with more extensions.
    pub(crate) fn self_signed(bench: &Bench, platform: SocketAddr, more: &[&str]) -> Self {
        let [certificate, key] = ["self.pem", "self.key"].map(|name| path(bench, name));
        let usual = [
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=server",
        ];
        let out = [
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-out",
            &certificate,
            "-keyout",
            &key,
        ];
        openssl(&[&usual, &NEW_KEY, &out, more]);
        Self::listen(platform, &certificate, &key)
    }

    fn listen(platform: SocketAddr, certificate: &str, key: &str) -> Self {
        let listen = format!(
            "OPENSSL-LISTEN:0,bind=127.0.0.1,reuseaddr,fork,cert={certificate},key={key},verify=0"
        );
        let log = format!("{certificate}.log");
        let socat = Command::new("socat")
            .args(["-d", "-d", &listen, &format!("TCP:{platform}")])
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let said = || fs::read_to_string(&log).unwrap();
        let mut port = 0;
        wait_until("socat listens", PATIENCE, said, || {
            let said = said();
            let line = said.lines().find(|line| line.contains(" listening on "));
            let found = line.and_then(|line| line.rsplit(':').next()?.trim().parse().ok());
            port = found.unwrap_or(0);
            port > 0
        });
        Self {
            socat,
            url: format!("https://127.0.0.1:{port}"),
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}
