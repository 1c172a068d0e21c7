//! The control API: what a test or an administrator of the simulation may do over HTTP.

use super::account::SimAccount;
use super::call::{Endpoint, SimRequest};
use super::fault::SimFault;
use super::line::TokenLine;
use super::reply::Reply;
use super::world::{Kill, Member, World};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};
use std::net::IpAddr;

/// Answers a request for `/probe` or below `/sim/`.
pub(super) fn handle(world: &mut World, now: i64, request: &SimRequest<'_>) -> Option<Reply> {
    if request.path == "/probe" {
        return Some(Reply::json(&probe(world, now, request)));
    }
    let path = request.path.strip_prefix("/sim/")?;
    let answer = match (request.method, path) {
        ("GET", "counts") => Ok(counts(world)),
        ("GET", "log") => Ok(json!(world.log().calls)),
        ("PUT", "accounts") => parse(request).map(|accounts: OneOrMany| {
            let accounts = match accounts {
                OneOrMany::One(account) => vec![*account],
                OneOrMany::Many(accounts) => accounts,
            };
            let count = accounts.len();
            for account in accounts {
                world.add(account);
            }
            json!({"accounts": count})
        }),
        ("PUT", "fault") => parse(request).map(|fault: SimFault| {
            world.set_fault(fault);
            json!({"faults": world.faults.len()})
        }),
        ("GET", "fault") => Ok(json!(world.faults)),
        ("DELETE", "fault") => heal(world, request),
        ("POST", "kill") => parse(request).and_then(|order: KillOrder| {
            let kind = order.kind.as_deref().unwrap_or("access_token");
            found(world.kill(now, &order.account, kind, order.how))
        }),
        ("POST", "secret") => parse(request).and_then(|order: SecretOrder| {
            change(world, &order.account, |account| {
                account.secret.clone_from(&order.secret);
            })
        }),
        ("PUT", "whitelist") => parse(request).and_then(|order: WhitelistOrder| {
            change(world, &order.account, |account| {
                account.whitelist.clone_from(&order.allow);
                account.seen_as = order.seen_as;
            })
        }),
        ("POST", "freeze") => {
            world.freeze_connections();
            Ok(json!({"connections": world.log().connections}))
        }
        _ => Err("there is no such control, or not with this method".to_owned()),
    };
    Some(match answer {
        Ok(json) => Reply::json(&json),
        Err(error) => Reply {
            status: 400,
            ..Reply::json(&json!({"error": error}))
        },
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Box<SimAccount>),
    Many(Vec<SimAccount>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KillOrder {
    account: String,
    kind: Option<String>,
    how: Kill,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretOrder {
    account: String,
    secret: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhitelistOrder {
    account: String,
    /// Everybody when absent.
    allow: Option<Vec<IpAddr>>,
    seen_as: Option<IpAddr>,
}

fn parse<T: DeserializeOwned>(request: &SimRequest<'_>) -> Result<T, String> {
    serde_json::from_slice(request.body).map_err(|error| error.to_string())
}

fn probe(world: &World, now: i64, request: &SimRequest<'_>) -> Json {
    let value = match request.parameter("access_token") {
        Some(value) => value.into_owned(),
        None => String::from_utf8_lossy(request.body).trim().to_owned(),
    };
    json!(world.probe(now, &value))
}

fn found(accounts: usize) -> Result<Json, String> {
    match accounts {
        0 => Err("no such account".into()),
        _ => Ok(json!({"accounts": accounts})),
    }
}

fn change(
    world: &mut World,
    account: &str,
    mut change: impl FnMut(&mut SimAccount),
) -> Result<Json, String> {
    let indices = world.find(account);
    for &index in &indices {
        change(&mut world.members[index].account);
    }
    found(indices.len())
}

fn heal(world: &mut World, request: &SimRequest<'_>) -> Result<Json, String> {
    let account = request.parameter("account");
    let endpoint = match request.parameter("endpoint") {
        Some(name) => {
            let path = format!("/cgi-bin/{name}");
            Some(Endpoint::at(&path).ok_or_else(|| format!("unknown endpoint `{name}`"))?)
        }
        None => None,
    };
    if account.is_none() && endpoint.is_none() {
        world.heal_all();
    } else {
        world.heal(account.as_deref(), endpoint);
    }
    Ok(json!({"faults": world.faults.len()}))
}

/// Calls by account and endpoint, values minted, and the most calls in flight at once.
fn counts(world: &World) -> Json {
    let of = |member: &Member| {
        let mut json = Map::new();
        for endpoint in Endpoint::ALL {
            let calls = member.calls[endpoint as usize];
            if calls > 0 {
                json.insert(endpoint.name().into(), calls.into());
            }
        }
        let minted = |kind: &str| -> u64 {
            let lines = TokenLine::ALL
                .into_iter()
                .filter(|line| line.kind() == kind);
            lines.map(|line| member.minted[line as usize]).sum()
        };
        json.insert("minted".into(), minted("access_token").into());
        json.insert("peak_in_flight".into(), member.in_flight.peak.into());
        (member.account.key(), Json::from(json))
    };
    let log = world.log();
    json!({
        "accounts": world.members.iter().map(of).collect::<Map<_, _>>(),
        "strangers": log.strangers,
        "connections": log.connections,
        "followed_redirects": log.followed_redirects,
        "in_flight": log.in_flight.now,
        "peak_in_flight": log.in_flight.peak,
        "token_calls": world.token_calls(),
        "values_known": world.tokens.len(),
    })
}
