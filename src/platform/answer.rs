//! Answers of a platform: bytes become a grant, a sign of life, or a refusal that says what to do.

use super::errcode::{self, AskedFor};
use super::json::{self, Object};
use super::scrub::scrub;
use super::{Ask, Platform};
use crate::call::{Answer, Call, Refusal};
use crate::value::Value;
use std::time::Duration;

/// The names of the fields in a platform's answers. One further in is written `quota.daily_limit`.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    /// The number of an error; 0 or absent when there is none.
    pub errcode: &'static str,
    /// The platform's words for it.
    pub errmsg: &'static str,
    /// An access token.
    pub token: &'static str,
    /// A ticket.
    pub ticket: &'static str,
    /// Seconds of life that are left of either.
    pub expires_in: &'static str,
    /// A field that only an answer to a token that lives has.
    pub alive: &'static str,
}

impl Fields {
    /// As most platforms name them.
    pub const USUAL: Self = Self {
        errcode: "errcode",
        errmsg: "errmsg",
        token: "access_token",
        ticket: "ticket",
        expires_in: "expires_in",
        alive: "ip_list",
    };
}

/// The longest life that is believed, seconds.
const MAX_LIFE: i64 = 86_400;

const STANDS: &str =
    "the value that stands is kept; if it lasts, look for a proxy that changes answers";

/// Reads the answer to a question. The credential that the call carried is cut out of all that is said.
pub(crate) fn interpret(
    platform: &Platform,
    ask: &Ask<'_>,
    status: u16,
    body: &[u8],
) -> Result<Answer, Refusal> {
    let asked = match ask.call {
        Call::Token | Call::ForceToken => AskedFor::Token,
        Call::Verify => AskedFor::Verify,
        Call::Ticket(_) => AskedFor::WithToken,
    };
    read(platform, asked, ask.credential, status, body, |object| {
        granted(platform, ask.call, object)
    })
}

/// Reads an answer that is no refusal with `understand`.
pub(super) fn read<T>(
    platform: &Platform,
    asked: AskedFor,
    credential: &str,
    status: u16,
    body: &[u8],
    understand: impl FnOnce(&Object<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    if status != 200 {
        return Err(refused_by_status(status));
    }
    let fields = &platform.fields;
    let text = json::readable(body);
    let Some(object) = Object::parse(&text) else {
        return Err(match json::salvage(&text, fields.errcode) {
            Some(errcode) if errcode != 0 => refused(platform, asked, credential, errcode, &text),
            _ => Refusal::transient(
                "the answer is not the platform's JSON",
                "something between here and the platform answered instead: look for a proxy's login page, or cut-off answers",
            ),
        });
    };
    match object
        .get(fields.errcode)
        .map(|raw| (raw, json::integer(raw)))
    {
        None | Some((_, Some(0))) => understand(&object),
        Some((_, Some(errcode))) => {
            let errmsg = object.get(fields.errmsg).map(json::text);
            let errmsg = errmsg.as_ref().map_or("", |errmsg| errmsg.as_str());
            Err(refused(platform, asked, credential, errcode, errmsg))
        }
        Some((raw, None)) => Err(Refusal::transient(
            format!(
                "the answer's {} is no number: {}",
                fields.errcode,
                scrub(raw, &[credential])
            ),
            STANDS,
        )),
    }
}

fn granted(platform: &Platform, call: Call, object: &Object<'_>) -> Result<Answer, Refusal> {
    let fields = &platform.fields;
    let name = match call {
        Call::Verify => {
            let says_ok = object.get(fields.errcode).is_some();
            return if says_ok || object.get(fields.alive).is_some() {
                Ok(Answer::Alive)
            } else {
                Err(incomplete(fields.alive))
            };
        }
        Call::Ticket(_) => fields.ticket,
        Call::Token | Call::ForceToken => fields.token,
    };
    let text = object
        .get(name)
        .map(json::text)
        .ok_or_else(|| incomplete(name))?;
    let value = Value::parse(&text).ok_or_else(|| {
        Refusal::transient(
            format!("the {name} in the answer is not one: empty, too long, or with characters that none has"),
            STANDS,
        )
    })?;
    let expires_in = fields.expires_in;
    match object.get(expires_in).map(json::integer) {
        Some(Some(life @ 1..=MAX_LIFE)) => Ok(Answer::Granted(
            value,
            Duration::from_secs(life.unsigned_abs()),
        )),
        Some(Some(life)) => Err(Refusal::transient(
            format!("the answer's {expires_in} is {life}, not between 1 and {MAX_LIFE}"),
            STANDS,
        )),
        Some(None) => Err(Refusal::transient(
            format!("the answer's {expires_in} is no number"),
            STANDS,
        )),
        None => Err(incomplete(expires_in)),
    }
}

fn incomplete(name: &str) -> Refusal {
    Refusal::transient(format!("the answer has no {name}"), STANDS)
}

fn refused_by_status(status: u16) -> Refusal {
    let message = format!("the answer is HTTP status {status}");
    let hint = match status {
        300..=399 => {
            "the platform never redirects and none is followed: look for a proxy or captive portal in between"
        }
        407 => "the proxy wants a login: put it into `proxy` of [platform]",
        429 | 500..=599 => "the platform or a proxy is in trouble: asked again soon",
        412 => {
            "the platform or a proxy took the request for a chunked one: look for a proxy that changes requests"
        }
        _ => "the platform answers with 200: look at `hosts` and `proxy` of [platform]",
    };
    Refusal::transient(message, hint)
}

fn refused(
    platform: &Platform,
    asked: AskedFor,
    credential: &str,
    errcode: i64,
    errmsg: &str,
) -> Refusal {
    let errmsg = scrub(errmsg, &[credential]);
    let row = errcode::find(platform.errcodes, errcode, asked);
    Refusal {
        class: row.class,
        errcode: Some(errcode),
        rid: errcode::rid(&errmsg).map(str::to_owned),
        hint: errcode::fill(row.hint, errcode, &errmsg),
        message: if errmsg.is_empty() {
            format!("errcode {errcode}")
        } else {
            format!("{errcode} {errmsg}")
        },
    }
}
