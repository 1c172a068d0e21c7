//! Writes values to keys of Redis, always with a life: what is left of the value's.

use crate::config::{Address, Redis, Sentinels, Url};
use crate::failure::Failure;
use crate::found::LookFinding;
use crate::presets::KeyEntry;
use crate::wish::TargetWish;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubSink};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, TlsMode,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, Notify};
use tokio::task::AbortHandle;
use wxtokend::account::AccountName;
use wxtokend::follow::Holding;
use wxtokend::value::ValueName;
use zeroize::Zeroizing;

/// The longest time of a connection or an answer; the deadline of a write is beside it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A value with less than this left is removed rather than written: some SDKs take such a key for one without an end.
const SHORTEST_LIFE: Duration = Duration::from_secs(2);
/// By so much a key's life may differ from the value's.
const LIFE_TOLERANCE: Duration = Duration::from_secs(3);

/// A Redis that values are written to. Its clones share a connection.
#[derive(Clone)]
pub struct RedisWriter {
    config: Arc<Redis>,
    value: ValueName,
    shared: Arc<Mutex<RedisState>>,
    /// A key may have been changed.
    disturbed: Arc<Notify>,
}

#[derive(Default)]
struct RedisState {
    connection: Option<RedisConnection>,
    /// The keys that were written last.
    written: HashMap<AccountName, Vec<KeyEntry>>,
}

struct RedisConnection {
    commands: MultiplexedConnection,
    /// Subscribes to changes of keys. Nothing where that is not allowed.
    changes: Option<PubSubSink>,
    subscribed: HashSet<String>,
    listener: Option<AbortHandle>,
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

impl RedisWriter {
    /// A writer that has not connected to anything.
    pub fn new(config: Redis, value: ValueName) -> Self {
        Self {
            config: Arc::new(config),
            value,
            shared: Arc::default(),
            disturbed: Arc::default(),
        }
    }

    /// Waits until a key may have been changed, where Redis tells (`notify-keyspace-events`).
    pub async fn disturbed(&self) {
        self.disturbed.notified().await;
    }

    /// Writes a value with its life, or removes its keys.
    pub async fn write(&self, wish: &TargetWish) -> Result<(), Failure> {
        let entries = self.entries(wish)?;
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        let left = wish
            .holding
            .as_ref()
            .map(life)
            .filter(|left| *left >= SHORTEST_LIFE);
        for entry in &entries {
            match left {
                Some(left) => pipeline
                    .cmd("SET")
                    .arg(&entry.key)
                    .arg(entry.body.as_bytes())
                    .arg("PX")
                    .arg(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                None => pipeline.cmd("DEL").arg(&entry.key),
            }
            .ignore();
        }
        let mut shared = self.shared.lock().await;
        self.subscribe(&mut shared, &entries).await?;
        self.run::<()>(&mut shared, &pipeline).await?;
        if left.is_some() {
            shared.written.insert(wish.account.clone(), entries);
        } else {
            shared.written.remove(&wish.account);
        }
        Ok(())
    }

    /// Says of each wish whether its keys hold it, with the life that is left.
    pub async fn check(&self, wishes: &[TargetWish]) -> Result<Vec<bool>, Failure> {
        let mut shared = self.shared.lock().await;
        let mut pipeline = redis::pipe();
        let mut expected = Vec::new();
        for (index, wish) in wishes.iter().enumerate() {
            let Some(holding) = &wish.holding else {
                continue;
            };
            for entry in shared.written.get(&wish.account).into_iter().flatten() {
                pipeline
                    .cmd("GET")
                    .arg(&entry.key)
                    .cmd("PTTL")
                    .arg(&entry.key);
                expected.push((index, entry.body.clone(), life(holding)));
            }
        }
        let mut held = vec![true; wishes.len()];
        if expected.is_empty() {
            return Ok(held);
        }
        let answers: Vec<redis::Value> = self.run(&mut shared, &pipeline).await?;
        for ((index, body, left), answer) in expected.iter().zip(answers.chunks(2)) {
            let is_there =
                matches!(&answer[0], redis::Value::BulkString(bytes) if bytes == body.as_bytes());
            let lives = match answer.get(1) {
                Some(redis::Value::Int(millis)) => u64::try_from(*millis).is_ok_and(|millis| {
                    Duration::from_millis(millis).abs_diff(*left) <= LIFE_TOLERANCE
                }),
                _ => false,
            };
            // At its end a key goes by itself.
            held[*index] &= (is_there && lives) || *left < SHORTEST_LIFE;
        }
        Ok(held)
    }

    /// Says which keys would be changed, and changes nothing.
    pub async fn look(&self, wishes: &[TargetWish]) -> Result<Vec<LookFinding>, Failure> {
        let mut shared = self.shared.lock().await;
        let mut ping = redis::pipe();
        ping.cmd("PING").ignore();
        self.run::<()>(&mut shared, &ping).await?;
        let mut found = Vec::new();
        for wish in wishes {
            let entries = self.entries(wish)?;
            let Some(entry) = entries.last() else {
                continue;
            };
            let mut pipeline = redis::pipe();
            pipeline.cmd("EXISTS").arg(&entry.key);
            let (exists,): (bool,) = self.run(&mut shared, &pipeline).await?;
            found.push(LookFinding::Key(entry.key.clone(), exists));
        }
        Ok(found)
    }

    fn entries(&self, wish: &TargetWish) -> Result<Vec<KeyEntry>, Failure> {
        self.config
            .rule
            .entries(wish, self.value)
            .map_err(Failure::Refused)
    }

    /// Runs commands over the connection that stands, or a new one. After a failure none stands.
    async fn run<T: redis::FromRedisValue>(
        &self,
        shared: &mut RedisState,
        pipeline: &Pipeline,
    ) -> Result<T, Failure> {
        if shared.connection.is_none() {
            shared.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut shared.connection else {
            return Err(Failure::Away("there is no connection".to_owned()));
        };
        // Cancelled at its deadline, an answer may still be on its way: the connection is used no more.
        let mut commands = connection.commands.clone();
        let connection = shared.connection.take();
        match pipeline.query_async(&mut commands).await {
            Ok(answer) => {
                shared.connection = connection;
                Ok(answer)
            }
            Err(error) => {
                let failure = failure(&error);
                if matches!(failure, Failure::Refused(_)) {
                    shared.connection = connection;
                }
                Err(failure)
            }
        }
    }

    async fn connect(&self) -> Result<RedisConnection, Failure> {
        let password = match &self.config.password {
            Some(source) => Some(source.read().map_err(Failure::Away)?),
            None => None,
        };
        let client = self.client(password).await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let commands = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| Failure::Away(message(&error)))?;
        let (changes, listener) = match client.get_async_pubsub().await {
            Ok(subscriptions) => {
                let (sink, mut stream) = subscriptions.split();
                let disturbed = Arc::clone(&self.disturbed);
                let listener = tokio::spawn(async move {
                    while stream.next().await.is_some() {
                        disturbed.notify_one();
                    }
                });
                (Some(sink), Some(listener.abort_handle()))
            }
            Err(_) => (None, None),
        };
        Ok(RedisConnection {
            commands,
            changes,
            subscribed: HashSet::new(),
            listener,
        })
    }

    /// Asks to be told of changes of keys. Where that is not allowed the next check sees them.
    async fn subscribe(
        &self,
        shared: &mut RedisState,
        entries: &[KeyEntry],
    ) -> Result<(), Failure> {
        if shared.connection.is_none() {
            shared.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut shared.connection else {
            return Ok(());
        };
        for entry in entries {
            let Some(changes) = &mut connection.changes else {
                return Ok(());
            };
            let channel = format!("__keyspace@{}__:{}", self.config.database, entry.key);
            if connection.subscribed.insert(channel.clone())
                && changes.subscribe(&channel).await.is_err()
            {
                connection.changes = None;
            }
        }
        Ok(())
    }

    async fn client(&self, password: Option<Zeroizing<String>>) -> Result<Client, Failure> {
        let away = |error: RedisError| Failure::Away(message(&error));
        let certificates = match &self.config.ca_file {
            Some(path) => {
                let pem = std::fs::read(path).map_err(|error| {
                    let reason = wxtokend::fault::reason(&error);
                    Failure::Away(format!("`ca_file` cannot be read: {reason}"))
                })?;
                Some(pem)
            }
            None => None,
        };
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: certificates,
        };
        if let Some(sentinels) = &self.config.sentinels {
            return self.master(sentinels, password, certificates).await;
        }
        let Some(url) = &self.config.url else {
            return Err(Failure::Away("there is no address".to_owned()));
        };
        let mut settings = RedisConnectionInfo::default().set_db(self.config.database);
        if let Some(user) = &url.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &password {
            settings = settings.set_password(&**password);
        }
        let info = address(url)
            .into_connection_info()
            .map_err(away)?
            .set_redis_settings(settings);
        if url.scheme == "rediss" {
            Client::build_with_tls(info, certificates).map_err(away)
        } else {
            Client::open(info).map_err(away)
        }
    }

    /// The server that the sentinels name now.
    async fn master(
        &self,
        sentinels: &Sentinels,
        password: Option<Zeroizing<String>>,
        certificates: TlsCertificates,
    ) -> Result<Client, Failure> {
        let away = |error: RedisError| Failure::Away(message(&error));
        let addresses: Vec<_> = sentinels.urls.iter().map(address).collect();
        let is_encrypted = sentinels.urls.iter().any(|url| url.scheme == "rediss");
        let mut builder =
            SentinelClientBuilder::new(addresses, &sentinels.service, SentinelServerType::Master)
                .map_err(away)?
                .set_client_to_redis_db(self.config.database);
        if let Some(password) = &password {
            builder = builder.set_client_to_redis_password(&**password);
        }
        if is_encrypted {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            if certificates.root_cert.is_some() {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates);
            }
        }
        builder
            .build()
            .map_err(away)?
            .async_get_client()
            .await
            .map_err(away)
    }
}

fn address(url: &Url) -> ConnectionAddr {
    match &url.address {
        Address::Unix(path) => ConnectionAddr::Unix(path.clone()),
        Address::Tcp(host, port) if url.scheme == "rediss" => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: port.unwrap_or(6379),
            insecure: false,
            tls_params: None,
        },
        Address::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), port.unwrap_or(6379)),
    }
}

/// The rest of a value's life.
fn life(holding: &Holding) -> Duration {
    let end = Duration::from_secs(u64::try_from(holding.expire_time).unwrap_or(0));
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    end.saturating_sub(now)
}

fn failure(error: &RedisError) -> Failure {
    match error.kind() {
        // Others may be allowed.
        ErrorKind::Server(ServerErrorKind::NoPerm) => Failure::Refused(message(error)),
        _ => Failure::Away(message(error)),
    }
}

fn message(error: &RedisError) -> String {
    let text = error.to_string();
    crate::database::scrub::scrub(&text, None)
}
