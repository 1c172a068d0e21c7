//! Checks of single values. What is wrong with one is said as the rest of a sentence that its key begins, and never
//! shows the value itself: it may be a secret in the wrong place.

use super::keys::nearest;
use super::{Host, ProxyUrl};
use jiff::fmt::friendly::SpanParser;
use reqwest::Url;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use toml::de::{DeArray, DeTable, DeValue};

/// A value, or what is wrong with it: "must be …".
pub(super) type Checked<T> = Result<T, Cow<'static, str>>;

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn text<'a>(value: &'a DeValue<'a>) -> Checked<&'a str> {
    match value {
        DeValue::String(text) if text.chars().any(char::is_control) => {
            Err("must not hold control characters".into())
        }
        DeValue::String(text) if text.is_empty() => Err("must not be empty".into()),
        DeValue::String(text) => Ok(text),
        other => mismatch("a text in quotes", other),
    }
}

pub(super) fn flag(value: &DeValue<'_>) -> Checked<bool> {
    value
        .as_bool()
        .map_or_else(|| mismatch("true or false", value), Ok)
}

pub(super) fn list<'a>(value: &'a DeValue<'a>) -> Checked<&'a DeArray<'a>> {
    value
        .as_array()
        .map_or_else(|| mismatch("a list in [ ]", value), Ok)
}

pub(super) fn table<'a>(value: &'a DeValue<'a>) -> Checked<&'a DeTable<'a>> {
    value
        .as_table()
        .map_or_else(|| mismatch("a table", value), Ok)
}

pub(super) fn tables<'a>(value: &'a DeValue<'a>) -> Checked<&'a DeArray<'a>> {
    let right = "a list of tables, each under its own heading in [[ ]]";
    value.as_array().map_or_else(|| mismatch(right, value), Ok)
}

pub(super) fn whole(value: &DeValue<'_>, range: RangeInclusive<u32>) -> Checked<u32> {
    let right = || match (range.start(), range.end()) {
        (least, &u32::MAX) => format!("must be a whole number, at least {least}"),
        (least, most) => format!("must be a whole number from {least} to {most}"),
    };
    value
        .as_integer()
        .and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| right().into())
}

/// A part of a whole: more than 0 and less than 1.
pub(super) fn part(value: &DeValue<'_>) -> Checked<f64> {
    value
        .as_float()
        .and_then(|number| number.as_str().parse().ok())
        .filter(|number| 0.0 < *number && *number < 1.0)
        .ok_or_else(|| "must be a number between 0 and 1, such as 0.5".into())
}

/// One of some words.
pub(super) fn choice<T: Clone>(value: &DeValue<'_>, words: &[(&str, T)]) -> Checked<T> {
    let given = text(value)?;
    if let Some((_, chosen)) = words.iter().find(|(word, _)| *word == given) {
        return Ok(chosen.clone());
    }
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(match nearest(given, &words) {
        Some(word) => format!("has no such choice; did you mean \"{word}\"?"),
        None => format!("must be one of \"{}\"", words.join("\", \"")),
    }
    .into())
}

/// How long to wait at most: up to ten minutes.
pub(super) fn timeout(value: &DeValue<'_>) -> Checked<Duration> {
    Some(duration(value)?)
        .filter(|time| !time.is_zero() && *time <= HOUR / 6)
        .ok_or_else(|| "must be more than 0s and at most 10m".into())
}

/// How often to do something: zero for never, else from a second to a day.
pub(super) fn interval(value: &DeValue<'_>) -> Checked<Duration> {
    Some(duration(value)?)
        .filter(|time| time.is_zero() || (Duration::from_secs(1)..=24 * HOUR).contains(time))
        .ok_or_else(|| "must be \"0s\", or from 1s to 24h".into())
}

fn duration(value: &DeValue<'_>) -> Checked<Duration> {
    let right = "must be a duration in quotes, such as \"90s\", \"5m\" or \"1h30m\"";
    (value.as_str())
        .and_then(|text| SpanParser::new().parse_unsigned_duration(text).ok())
        .ok_or_else(|| right.into())
}

/// Permission bits.
pub(super) fn mode(value: &DeValue<'_>) -> Checked<u32> {
    let digits = (value.as_str()).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|digits| u32::from_str_radix(digits, 8).ok()) {
        Some(mode @ 0..=0o777) => Ok(mode),
        Some(_) => Err("must be at most \"0777\": no set-uid, set-gid or sticky bit".into()),
        None => Err("must be an octal number in quotes, such as \"0640\"".into()),
    }
}

/// A path of something that is made: absolute, and without `.` and `..` in what is returned.
pub(super) fn path(value: &DeValue<'_>) -> Checked<PathBuf> {
    let text = text(value)?;
    if !text.starts_with('/') {
        return Err("must be an absolute path: begin it with /".into());
    }
    if text.ends_with('/') || text.ends_with("/.") || text.ends_with("/..") {
        return Err("must name more than a directory: end it with a name".into());
    }
    Ok(normal(Path::new(text)))
}

/// The directory that a path names.
pub(super) fn directory(value: &DeValue<'_>) -> Checked<PathBuf> {
    match text(value)? {
        text if text.starts_with('/') => Ok(normal(Path::new(text))),
        _ => Err("must be an absolute path: begin it with /".into()),
    }
}

fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            Component::Normal(name) => normal.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    normal
}

/// A path of a Unix socket.
pub(super) fn socket(value: &DeValue<'_>) -> Checked<PathBuf> {
    let path = path(value)?;
    match path.as_os_str().len() {
        ..=107 => Ok(path),
        length => Err(format!(
            "is {length} bytes long, and a socket's path holds at most 107: shorten it"
        )
        .into()),
    }
}

/// A base URL of the platform.
pub(super) fn host(value: &DeValue<'_>) -> Checked<Host> {
    let right = "must be a URL such as \"https://api.weixin.qq.com\"";
    let url = Url::parse(text(value)?).map_err(|_| right)?;
    let host = url.host_str().ok_or(right)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password".into());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("must end after the host: no path or query".into());
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(host) => {}
        "http" => return Err("must begin with https://; http:// is for loopback only".into()),
        _ => return Err(right.into()),
    }
    Ok(Host(url.origin().ascii_serialization().into()))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || (address.parse()).is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The URL of a proxy.
pub(super) fn proxy(value: &DeValue<'_>) -> Checked<ProxyUrl> {
    let text = text(value)?;
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none())
        .map(|_| ProxyUrl(text.into()))
        .ok_or_else(|| "must be a URL such as \"http://proxy.example:3128\"".into())
}

/// Where a server listens that only this host may reach.
pub(super) fn loopback(value: &DeValue<'_>) -> Checked<SocketAddr> {
    let address: SocketAddr = text(value)?
        .parse()
        .map_err(|_| "must be an address and port, such as \"127.0.0.1:9480\"")?;
    if !address.ip().is_loopback() {
        return Err("must be a loopback address: write 127.0.0.1 or [::1]".into());
    }
    Ok(address)
}

/// The id of an account.
pub(super) fn id(
    value: &DeValue<'_>,
    check: fn(&str) -> Result<(), &'static str>,
) -> Checked<Box<str>> {
    // No id is empty: the check says what is right.
    let id = value.as_str().unwrap_or_default();
    check(id)?;
    Ok(id.into())
}

/// A name from the configuration as a message may show it: one that is as long as a secret may be one.
pub(super) fn shown(name: &str) -> String {
    if name.len() < 32 {
        name.escape_debug().to_string()
    } else {
        "…".to_owned()
    }
}

fn mismatch<T>(right: &str, value: &DeValue<'_>) -> Checked<T> {
    let found = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Err(format!("must be {right}, not {found}").into())
}
