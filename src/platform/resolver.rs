//! Looks up names with the system's own resolver, on threads of its own. It honours `/etc/hosts`, `resolv.conf`, search
//! lists and `nsswitch.conf` as every other program of the host does, and a name server that never answers holds up
//! nothing else: one thread a name, and nobody waits for it at exit.

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt, fs, io, thread};
use tokio::sync::watch;

/// Most look-ups that run at once. The names are those of `hosts` and `proxy`: a handful.
const MAX_THREADS: usize = 16;

/// The reason why a name has no address.
#[derive(Debug, Clone)]
pub(super) struct LookupError {
    pub(super) name: Box<str>,
    servers: Arc<[String]>,
    cause: Cause,
}

#[derive(Debug, Clone)]
enum Cause {
    /// No answer within this time.
    Silent(Duration),
    /// The resolver's words.
    Failed(Arc<str>),
    /// No look-up could be started.
    NotStarted(Arc<str>),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, servers) = (&self.name, self.servers.join(", "));
        let asked = if servers.is_empty() {
            "no name server is in /etc/resolv.conf".to_owned()
        } else {
            format!("name server in /etc/resolv.conf: {servers}")
        };
        match &self.cause {
            Cause::Silent(patience) => write!(
                f,
                "cannot find the address of {name}: no answer within {} ms ({asked})",
                patience.as_millis()
            ),
            Cause::Failed(reason) => {
                write!(f, "cannot find the address of {name}: {reason} ({asked})")
            }
            Cause::NotStarted(reason) => {
                write!(f, "cannot look up the address of {name}: {reason}")
            }
        }
    }
}

impl error::Error for LookupError {}

/// The result of one look-up.
type Lookup = Result<Arc<[SocketAddr]>, LookupError>;

/// Looks up names for one client. Clones share their look-ups.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    patience: Duration,
    names: Arc<Mutex<HashMap<Box<str>, NameState>>>,
}

/// A name's state.
#[derive(Debug, Default)]
struct NameState {
    /// Filled by the look-up that is under way.
    under_way: Option<watch::Receiver<Option<Lookup>>>,
    /// The last good answer.
    last: Option<Arc<[SocketAddr]>>,
}

impl Resolver {
    /// A resolver that waits so long for an answer.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            names: Arc::default(),
        }
    }

    /// The same look-ups, with another patience.
    pub(super) fn with_patience(&self, patience: Duration) -> Self {
        Self {
            patience,
            names: self.names.clone(),
        }
    }

    /// The addresses of a name. While the name server is silent, the last good answer serves.
    async fn look_up(&self, name: &str) -> Lookup {
        let (mut under_way, last) = self.begin(name)?;
        // With a last good answer, half of the patience is left to connect.
        let patience = if last.is_some() {
            self.patience / 2
        } else {
            self.patience
        };
        let found = tokio::time::timeout(patience, under_way.wait_for(Option::is_some)).await;
        let found = found
            .ok()
            .and_then(Result::ok)
            .and_then(|found| found.clone());
        match (found, last) {
            (Some(found), _) => found,
            (None, Some(last)) => Ok(last),
            (None, None) => Err(LookupError {
                name: name.into(),
                servers: name_servers(),
                cause: Cause::Silent(patience),
            }),
        }
    }

    /// The look-up of a name that is under way, started if there was none, and the last good answer.
    #[expect(
        clippy::type_complexity,
        reason = "two things that are taken under one lock"
    )]
    fn begin(
        &self,
        name: &str,
    ) -> Result<(watch::Receiver<Option<Lookup>>, Option<Arc<[SocketAddr]>>), LookupError> {
        let mut names = self.names.lock();
        let running = names.values().filter(|known| known.under_way.is_some());
        let is_full = running.count() >= MAX_THREADS;
        let known = names.entry(name.into()).or_default();
        if let Some(under_way) = &known.under_way {
            return Ok((under_way.clone(), known.last.clone()));
        }
        let not_started = |reason: &str| LookupError {
            name: name.into(),
            servers: [].into(),
            cause: Cause::NotStarted(reason.into()),
        };
        if is_full {
            return Err(not_started("too many look-ups have no answer yet"));
        }
        let (sender, receiver) = watch::channel(None);
        let (of_thread, name) = (self.names.clone(), Box::<str>::from(name));
        let look_up = move || {
            let found = ask_system(&name);
            let mut names = of_thread.lock();
            if let Some(known) = names.get_mut(&name) {
                known.under_way = None;
                if let Ok(found) = &found {
                    known.last = Some(found.clone());
                }
            }
            drop(names);
            // Those who asked may have gone.
            let _ = sender.send(Some(found));
        };
        thread::Builder::new()
            .name("look-up".into())
            .stack_size(256 * 1024)
            .spawn(look_up)
            .map_err(|error| not_started(&crate::fault::reason(&error)))?;
        known.under_way = Some(receiver.clone());
        Ok((receiver, known.last.clone()))
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found = this.look_up(name.as_str()).await?;
            let found: Vec<SocketAddr> = found.to_vec();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Asks the system's resolver. Blocks, for as long as it likes.
fn ask_system(name: &str) -> Lookup {
    let failed = |error: io::Error| LookupError {
        name: name.into(),
        servers: name_servers(),
        cause: Cause::Failed(reason(&error).into()),
    };
    let found = (name, 0).to_socket_addrs().map_err(failed)?;
    Ok(found.collect())
}

/// The resolver's words, without those of the standard library around them.
fn reason(error: &io::Error) -> String {
    let said = error.to_string();
    let words = said.strip_prefix("failed to lookup address information: ");
    words.unwrap_or(&said).to_lowercase()
}

/// The name servers that the system's resolver asks, for people.
fn name_servers() -> Arc<[String]> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text.lines().filter_map(|line| {
        let server = line.trim().strip_prefix("nameserver")?.trim();
        (!server.is_empty()).then(|| server.to_owned())
    });
    servers.take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver() -> Resolver {
        Resolver::new(Duration::from_secs(20))
    }

    #[tokio::test]
    async fn names_of_etc_hosts_are_found() {
        let found = resolver().look_up("localhost").await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()));
        assert!(!found.is_empty());
    }

    #[tokio::test]
    async fn a_name_without_address_is_named() {
        let error = resolver().look_up("no.such.invalid").await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("cannot find the address of no.such.invalid: "),
            "{said}"
        );
    }

    #[tokio::test]
    async fn the_last_answer_serves_while_the_name_server_is_silent() {
        let resolver = Resolver::new(Duration::from_millis(40));
        let address: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let (_sender, under_way) = watch::channel(None);
        let known = |last| NameState {
            under_way: Some(under_way.clone()),
            last,
        };
        let mut names = HashMap::new();
        names.insert("a.example".into(), known(Some([address].into())));
        names.insert("b.example".into(), known(None));
        *resolver.names.lock() = names;
        assert_eq!(*resolver.look_up("a.example").await.unwrap(), [address]);
        let said = resolver.look_up("b.example").await.unwrap_err().to_string();
        assert!(said.contains("b.example: no answer within 40 ms"), "{said}");
    }
}
