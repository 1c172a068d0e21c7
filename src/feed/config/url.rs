//! The address of a target: `mysql://user@host:3306/database?socket=/path`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use wxtokend::config::value::Checked;

/// A URL of a database or of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `mysql`, `postgres`, …
    pub scheme: String,
    /// The user, if one is named.
    pub user: Option<String>,
    /// The address of the server.
    pub address: Address,
    /// The text after the host: the name of a database, or a path.
    pub path: String,
}

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host and perhaps a port.
    Tcp(String, Option<u16>),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Tells whether it is this host.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(host, _) => {
                host == "localhost"
                    || host
                        .parse()
                        .is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }
}

impl Url {
    /// Reads a URL of one of some schemes. A password in it is a fault.
    pub fn parse(text: &str, schemes: &[&str], example: &str) -> Checked<Self> {
        let right = || format!("must be a URL such as \"{example}\"");
        let url = ::url::Url::parse(text).map_err(|_| right())?;
        if !schemes.contains(&url.scheme()) {
            return Err(format!("{}; known here: {}://", right(), schemes.join("://, ")).into());
        }
        if url.password().is_some() {
            return Err(
                "holds a password: put that into a file, and name the file with `password_file`"
                    .into(),
            );
        }
        let decoded = |text: &str| {
            let bytes = percent_decode(text);
            String::from_utf8(bytes).map_err(|_| right())
        };
        let mut socket = None;
        for (key, value) in url.query_pairs() {
            match &*key {
                "socket" if value.starts_with('/') => socket = Some(PathBuf::from(&*value)),
                "socket" => {
                    return Err(
                        "must name the path of a socket after ?socket=, which begins with /".into(),
                    );
                }
                other => {
                    let shown: String = other.chars().take(40).collect();
                    return Err(
                        format!("has a parameter `{shown}`, and knows only ?socket=").into(),
                    );
                }
            }
        }
        let address = match socket {
            Some(path) => Address::Unix(path),
            None => Address::Tcp(
                url.host_str()
                    .unwrap_or_default()
                    .trim_matches(['[', ']'])
                    .to_owned(),
                url.port(),
            ),
        };
        Ok(Self {
            scheme: url.scheme().to_owned(),
            user: match url.username() {
                "" => None,
                user => Some(decoded(user)?),
            },
            address,
            path: decoded(url.path())?,
        })
    }

    /// The name of a database, which is all of the path.
    pub fn database(&self) -> Option<&str> {
        let name = self.path.trim_start_matches('/');
        (!name.is_empty() && !name.contains('/')).then_some(name)
    }

    /// For people: without what is not needed to tell it from others.
    pub fn shown(&self) -> String {
        let at = |user: &Option<String>| {
            user.as_ref()
                .map_or_else(String::new, |user| format!("{user}@"))
        };
        let user = at(&self.user);
        match &self.address {
            Address::Tcp(host, Some(port)) => {
                format!("{}://{user}{host}:{port}{}", self.scheme, self.path)
            }
            Address::Tcp(host, None) => format!("{}://{user}{host}{}", self.scheme, self.path),
            Address::Unix(path) => {
                format!("{}://{user}{}{}", self.scheme, path.display(), self.path)
            }
        }
    }
}

/// The usual socket of a server on this host.
pub(super) fn usual_socket(paths: &[&str]) -> Option<PathBuf> {
    paths
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .map(Path::to_path_buf)
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let parse = |text: &str| Url::parse(text, &["mysql", "sqlite"], "mysql://user@host/app");
        let url = parse("mysql://wx%40feed@db.example:3307/app").unwrap();
        assert_eq!(url.user.as_deref(), Some("wx@feed"));
        assert_eq!(
            url.address,
            Address::Tcp("db.example".to_owned(), Some(3307))
        );
        assert_eq!(url.database(), Some("app"));
        assert!(!url.address.is_local());
        let url = parse("mysql://wxfeed@localhost/app?socket=/run/mysqld/mysqld.sock").unwrap();
        assert_eq!(url.address, Address::Unix("/run/mysqld/mysqld.sock".into()));
        assert_eq!(
            parse("sqlite:///srv/app/app.db").unwrap().path,
            "/srv/app/app.db"
        );
        assert!(parse("mysql://u@[::1]/app").unwrap().address.is_local());
        for (text, wrong) in [
            ("app", "must be a URL such as"),
            ("oracle://u@h/app", "known here: mysql://, sqlite://"),
            ("mysql://u:CANARY@h/app", "holds a password"),
            ("mysql://u@h/app?tls=off", "knows only ?socket="),
        ] {
            let said = parse(text).unwrap_err();
            assert!(
                said.contains(wrong) && !said.contains("CANARY"),
                "{text}: {said}"
            );
        }
    }
}
