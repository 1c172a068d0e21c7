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
pub type Checked<T> = Result<T, Cow<'static, str>>;

const HOUR: Duration = Duration::from_secs(3600);

/// A text without control characters.
pub fn text<'a>(value: &'a DeValue<'a>) -> Checked<&'a str> {
    match value {
        DeValue::String(text) if text.chars().any(char::is_control) => {
            Err("must not hold control characters".into())
        }
        DeValue::String(text) if text.is_empty() => Err("must not be empty".into()),
        DeValue::String(text) => Ok(text),
        other => mismatch("a text in quotes", other),
    }
}

/// True or false.
pub(crate) fn flag(value: &DeValue<'_>) -> Checked<bool> {
    value
        .as_bool()
        .map_or_else(|| mismatch("true or false", value), Ok)
}

/// A list.
pub fn list<'a>(value: &'a DeValue<'a>) -> Checked<&'a DeArray<'a>> {
    value
        .as_array()
        .map_or_else(|| mismatch("a list in [ ]", value), Ok)
}

/// A table.
pub fn table<'a>(value: &'a DeValue<'a>) -> Checked<&'a DeTable<'a>> {
    value
        .as_table()
        .map_or_else(|| mismatch("a table", value), Ok)
}

/// A list of tables.
pub fn tables<'a>(value: &'a DeValue<'a>) -> Checked<&'a DeArray<'a>> {
    let right = "a list of tables, each under its own heading in [[ ]]";
    value.as_array().map_or_else(|| mismatch(right, value), Ok)
}

/// A whole number.
pub fn whole(value: &DeValue<'_>, range: RangeInclusive<u32>) -> Checked<u32> {
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
pub fn part(value: &DeValue<'_>) -> Checked<f64> {
    value
        .as_float()
        .and_then(|number| number.as_str().parse().ok())
        .filter(|number| 0.0 < *number && *number < 1.0)
        .ok_or_else(|| "must be a number between 0 and 1, such as 0.5".into())
}

/// One of some words.
pub fn choice<T: Clone>(value: &DeValue<'_>, words: &[(&str, T)]) -> Checked<T> {
    let given = text(value)?;
    if let Some((_, chosen)) = words.iter().find(|(word, _)| *word == given) {
        return Ok(chosen.clone());
    }
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(match nearest(given, &words) {
        Some(word) => format!("is unknown; did you mean \"{word}\"?"),
        None => format!("is unknown; use one of \"{}\"", words.join("\", \"")),
    }
    .into())
}

/// A time limit: up to ten minutes.
pub fn timeout(value: &DeValue<'_>) -> Checked<Duration> {
    Some(duration(value)?)
        .filter(|time| !time.is_zero() && *time <= HOUR / 6)
        .ok_or_else(|| "must be more than 0s and at most 10m".into())
}

/// An interval: zero for never, else from a second to a day.
pub fn interval(value: &DeValue<'_>) -> Checked<Duration> {
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
pub fn mode(value: &DeValue<'_>) -> Checked<u32> {
    let digits = (value.as_str()).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|digits| u32::from_str_radix(digits, 8).ok()) {
        Some(mode @ 0..=0o777) => Ok(mode),
        Some(_) => Err("must be at most \"0777\": no set-uid, set-gid or sticky bit".into()),
        None => Err(octal(value).into()),
    }
}

fn octal(value: &DeValue<'_>) -> String {
    // `640` and `0o640` both mean what `"0640"` says.
    let digits = value
        .as_integer()
        .map(|number| (number.radix(), number.as_str()));
    match digits {
        Some((8 | 10, digits)) if digits.len() <= 4 && u32::from_str_radix(digits, 8).is_ok() => {
            format!("must be an octal number in quotes: \"{digits:0>4}\"")
        }
        _ => "must be an octal number in quotes, such as \"0640\"".to_owned(),
    }
}

/// A path of something that is made: absolute, and without `.` and `..` in what is returned.
pub fn path(value: &DeValue<'_>) -> Checked<PathBuf> {
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
pub fn directory(value: &DeValue<'_>) -> Checked<PathBuf> {
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
pub fn socket(value: &DeValue<'_>) -> Checked<PathBuf> {
    let path = path(value)?;
    match path.as_os_str().len() {
        ..=107 => Ok(path),
        length => Err(format!(
            "is {length} bytes long, and a socket's path holds at most 107: shorten it"
        )
        .into()),
    }
}

/// A host that may be named with http://, with a port or for any.
#[derive(Debug, PartialEq, Eq)]
pub struct HttpHost {
    name: String,
    port: Option<u16>,
}

/// An entry of `allow_http`.
pub(crate) fn http_host(value: &DeValue<'_>) -> Checked<HttpHost> {
    let right = "must be a host and perhaps its port, such as \"wecom.corp.example:8080\"";
    let text = text(value)?;
    let url = Url::parse(&format!("http://{text}")).map_err(|_| right)?;
    let name = url.host_str().ok_or(right)?;
    // All of the text was taken for host and port.
    let bare = url.path() == "/" && !text.contains(['/', '?', '#', '@']);
    let has_port = text
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    bare.then(|| HttpHost {
        name: name.to_owned(),
        port: has_port.then(|| url.port_or_known_default()).flatten(),
    })
    .ok_or_else(|| right.into())
}

/// A base URL of the platform: a host, or a gateway with a path.
pub fn host(value: &DeValue<'_>, allow_http: &[HttpHost]) -> Checked<Host> {
    let right = "must be a URL such as \"https://api.weixin.qq.com\"";
    let url = Url::parse(text(value)?).map_err(|_| right)?;
    let host = url.host_str().ok_or(right)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end after the host or the path: no query".into());
    }
    let port = url.port_or_known_default();
    let is_allowed = |allowed: &HttpHost| {
        allowed.name == host && allowed.port.is_none_or(|allowed| port == Some(allowed))
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(host) || allow_http.iter().any(is_allowed) => {}
        "http" => {
            return Err(
                "must begin with https://; http:// is for loopback addresses and the hosts in `allow_http`"
                    .into(),
            );
        }
        _ => return Err(right.into()),
    }
    let origin = url.origin().ascii_serialization();
    Ok(Host((origin + url.path().trim_end_matches('/')).into()))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || (address.parse()).is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The URL of a proxy.
pub fn proxy(value: &DeValue<'_>) -> Checked<ProxyUrl> {
    let text = text(value)?;
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none())
        .map(|_| ProxyUrl(text.into()))
        .ok_or_else(|| "must be a URL such as \"http://proxy.example:3128\"".into())
}

/// The address of a server that only this host may reach.
pub fn loopback(value: &DeValue<'_>) -> Checked<SocketAddr> {
    let address: SocketAddr = text(value)?
        .parse()
        .map_err(|_| "must be an address and port, such as \"127.0.0.1:9480\"")?;
    if !address.ip().is_loopback() {
        return Err("must be a loopback address: write 127.0.0.1 or [::1]".into());
    }
    Ok(address)
}

/// The id of an account, and what is unusual about it.
pub fn id(
    value: &DeValue<'_>,
    check: fn(&str) -> Result<Option<&'static str>, &'static str>,
) -> Checked<(Box<str>, Option<&'static str>)> {
    let Some(id) = value.as_str() else {
        // No id is empty: the check says what is right.
        let wanted = check("").err().unwrap_or("must be a text");
        return Err(format!("{wanted}, in quotes").into());
    };
    let unusual = check(id)?;
    Ok((id.into(), unusual))
}

/// A value as a message about it may show it, with a space before; nothing if it is no single value, or may hold a
/// secret: an AppSecret has 32 or 43 characters, a URL may hold a password.
pub fn display(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if is_showable(text) => format!(" \"{}\"", text.escape_debug()),
        DeValue::Integer(number) if number.as_str().len() < 20 => format!(" {number}"),
        DeValue::Float(number) if number.as_str().len() < 20 => format!(" {number}"),
        DeValue::Boolean(flag) => format!(" {flag}"),
        _ => String::new(),
    }
}

fn is_showable(text: &str) -> bool {
    let is_url = text.contains("://") && text.len() < 200;
    let is_path = text.starts_with('/') && text.len() < 200;
    !text.is_empty() && !text.contains(['@', '?']) && (text.len() < 32 || is_path || is_url)
        || text.starts_with('@') && text.len() < 32
}

/// A name from the configuration as a message may show it: one that is as long as a secret may be one.
pub fn shown(name: &str) -> String {
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
