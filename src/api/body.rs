//! The JSON of the API, as the server writes it and the client commands read it. Times are Unix seconds.

use crate::changes::Changes;
use crate::fault::Fault;
use crate::snapshot::{FleetView, OutputState, Snapshot, State};
use crate::time::Now;
use crate::trouble;
use crate::value::{Grant, ValueName};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// `GET /v1/accounts`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountsBody {
    /// The daemon's version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The faults of the configuration on disk, if a reload rejected it: for administrators only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Fault>,
    /// The accounts that the peer may see, by name.
    pub accounts: Vec<AccountBody>,
}

/// `GET /v1/accounts/A`: one account. Holds no value, only the fingerprints of some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountBody {
    /// Its local name.
    pub account: String,
    /// `wechat` or `wecom`.
    pub kind: String,
    /// appid or corpid.
    pub appid: String,
    /// `stable`, `classic` or `gettoken`.
    pub method: String,
    /// Its state.
    pub state: State,
    /// The moment when the access token ends, or ended.
    pub expire_time: Option<i64>,
    /// Seconds of life that are left of it; 0 when it has ended.
    pub expires_in: Option<u64>,
    /// Time of the next call.
    pub next_refresh_time: Option<i64>,
    /// The moment when a call for the access token last succeeded.
    pub last_success_time: Option<i64>,
    /// Calls made in the platform's day.
    pub calls_today: u32,
    /// The platform's own count of today, where it differs from ours: somebody else fetches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_calls_today: Option<i64>,
    /// Calls that it may make a day.
    pub daily_budget: u32,
    /// The first 8 hex digits of the access token's SHA-256.
    pub token_fingerprint: Option<String>,
    /// The tickets that it keeps.
    pub tickets: Vec<TicketBody>,
    /// The failure of the last attempt.
    pub last_error: Option<LastErrorBody>,
    /// Its outputs.
    pub outputs: Vec<OutputBody>,
    /// Its place in the fleet, if the host is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetBody>,
}

/// The place of an account in the fleet, as this host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetBody {
    /// True if this host leads: it makes the calls.
    pub leader: bool,
    /// The host that leads, if one does.
    pub host: Option<String>,
    /// The moment since which it leads, Unix seconds.
    pub since: Option<i64>,
    /// `ok`, or `away`: the engine is not reached, or this host may take no part.
    pub engine: String,
}

/// `GET /v1/accounts/A/quota`: the platform's own counts beside ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaBody {
    /// The count of each endpoint that the account calls.
    pub endpoints: Vec<EndpointBody>,
    /// Calls that the daemon made today.
    pub calls_today: u32,
    /// Those of them that the platform's counts have too: made since they were cleared, and no questions for them.
    pub calls_listed: u32,
}

/// The platform's count of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointBody {
    /// Its path.
    pub path: String,
    /// Calls that it allows a day.
    pub limit: i64,
    /// Calls that it counted today.
    pub used: i64,
    /// Calls that are left today.
    pub left: i64,
}

/// One ticket of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketBody {
    /// Its name.
    pub value: ValueName,
    /// The moment when it ends, or ended.
    pub expire_time: Option<i64>,
    /// Seconds of life that are left of it; 0 when it has ended.
    pub expires_in: Option<u64>,
    /// The first 8 hex digits of its SHA-256.
    pub fingerprint: Option<String>,
}

/// The failure of the last attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastErrorBody {
    /// The moment when it failed.
    pub time: i64,
    /// The class of the failure.
    pub class: String,
    /// The platform's errcode, if it answered with one.
    pub errcode: Option<i64>,
    /// The platform's request id, if it gave one.
    pub rid: Option<String>,
    /// The failure, for people.
    pub message: String,
    /// Advice for an administrator.
    pub hint: String,
}

/// One output of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputBody {
    /// `file` or `socket`.
    pub kind: String,
    /// Its path.
    pub path: String,
    /// The value.
    pub value: ValueName,
    /// `published`, `empty` or `failed`.
    pub state: String,
    /// The failure.
    pub error: Option<String>,
}

/// The result of a refresh that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshOutcome {
    /// The token in question had been replaced already.
    Superseded,
    /// The platform says that it still lives.
    StillValid,
    /// A new one stands.
    Refreshed,
}

/// `POST /v1/accounts/A/refresh`: the body of the request. Not `Debug`: it holds a token.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// The token that failed.
    pub bad_token: Option<String>,
    /// The errcode that the platform answered it with.
    pub errcode: Option<i64>,
}

/// A value, for those who may have it: `{"access_token":"…","expire_time":…,"expires_in":…}`.
pub struct ValueBody<'a> {
    /// The result of the refresh that was asked for; goes first.
    pub outcome: Option<RefreshOutcome>,
    /// Seconds since the platform said so, if it was not asked for this.
    pub verified_seconds_ago: Option<u64>,
    /// The name of the value, which is its key.
    pub name: ValueName,
    /// The value and its life.
    pub grant: &'a Grant,
    /// The moment when it is given.
    pub now: Now,
}

impl Serialize for ValueBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(outcome) = self.outcome {
            map.serialize_entry("outcome", &outcome)?;
        }
        if let Some(seconds) = self.verified_seconds_ago {
            map.serialize_entry("verified_seconds_ago", &seconds)?;
        }
        map.serialize_entry(self.name.as_str(), self.grant.value.expose())?;
        map.serialize_entry("expire_time", &self.grant.expire_time())?;
        map.serialize_entry("expires_in", &expires_in(self.grant, &self.now))?;
        map.end()
    }
}

/// `POST /v1/reload`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadBody {
    /// True if the new configuration is in force.
    pub reloaded: bool,
    /// The accounts, by what changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Changes>,
    /// Sections besides the accounts that changed, such as `platform`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<String>,
    /// Things that look like mistakes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Fault>,
    /// The faults that kept the old one running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<Vec<Fault>>,
}

impl AccountBody {
    /// The account of a snapshot, at `now`.
    pub fn of(snapshot: &Snapshot, now: &Now) -> Self {
        let account = &snapshot.account;
        let grant = |name| find(snapshot, name);
        let token = grant(ValueName::AccessToken);
        Self {
            account: account.name.to_string(),
            kind: account.terms.kind.to_owned(),
            appid: account.id.to_string(),
            method: account.terms.method.to_owned(),
            state: snapshot.state_at(now.at),
            expire_time: token.map(Grant::expire_time),
            expires_in: token.map(|token| expires_in(token, now)),
            next_refresh_time: snapshot.next_refresh.map(|at| now.unix(at)),
            last_success_time: snapshot.last_success.map(|at| now.unix(at)),
            calls_today: snapshot.calls_today_at(now),
            platform_calls_today: (snapshot.quota.as_ref())
                .and_then(|quota| quota.foreign_count(now)),
            daily_budget: account.daily_budget,
            token_fingerprint: token.map(|token| token.value.fingerprint().to_string()),
            tickets: account
                .tickets
                .iter()
                .map(|&value| TicketBody {
                    value,
                    expire_time: grant(value).map(Grant::expire_time),
                    expires_in: grant(value).map(|ticket| expires_in(ticket, now)),
                    fingerprint: grant(value).map(|ticket| ticket.value.fingerprint().to_string()),
                })
                .collect(),
            last_error: snapshot
                .last_error
                .as_deref()
                .map(|error| LastErrorBody::of(error, now)),
            outputs: account
                .outputs
                .iter()
                .zip(&snapshot.outputs)
                .map(|(output, state)| OutputBody::of(output, state))
                .collect(),
            fleet: snapshot.fleet.as_ref().map(FleetBody::of),
        }
    }
}

impl AccountBody {
    /// The reason why it is not fresh, in one sentence, if one is known.
    pub fn trouble(&self) -> Option<&str> {
        let error = self.last_error.as_ref().map(|error| error.message.as_str());
        let mut outputs = self.outputs.iter();
        error.or_else(|| outputs.find_map(|output| output.error.as_deref()))
    }
}

impl FleetBody {
    fn of(view: &FleetView) -> Self {
        Self {
            leader: view.leads,
            host: view.leader.as_ref().map(|(host, _)| host.to_string()),
            since: view.leader.as_ref().map(|(_, since)| *since),
            engine: if view.is_away || view.is_joining {
                "away"
            } else {
                "ok"
            }
            .to_owned(),
        }
    }
}

impl LastErrorBody {
    fn of(error: &trouble::LastError, now: &Now) -> Self {
        Self {
            time: now.unix(error.at),
            class: error.class.as_str().to_owned(),
            errcode: error.errcode,
            rid: error.rid.clone(),
            message: error.message.clone(),
            hint: error.hint.clone(),
        }
    }
}

impl OutputBody {
    fn of(output: &crate::account::Output, state: &OutputState) -> Self {
        let (state, error) = match state {
            OutputState::Published => ("published", None),
            OutputState::Empty => ("empty", None),
            OutputState::Failed(error) => ("failed", Some(error.to_string())),
        };
        Self {
            kind: output.kind.as_str().to_owned(),
            path: output.path.display().to_string(),
            value: output.value,
            state: state.to_owned(),
            error,
        }
    }
}

/// The value of that name, even one that has expired.
fn find(snapshot: &Snapshot, name: ValueName) -> Option<&Grant> {
    snapshot
        .grants
        .iter()
        .find(|(other, _)| *other == name)
        .map(|(_, grant)| grant)
}

fn expires_in(grant: &Grant, now: &Now) -> u64 {
    now.at.until(grant.expires).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{self, AccountName, SecretSource};
    use crate::platform::wecom::GETTOKEN;
    use crate::secret::Secret;
    use crate::time::Moment;
    use crate::trouble::Class;
    use crate::value::Value;
    use serde_json::json;
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Now = Now {
        at: Moment::from_millis(5_000_000),
        unix_millis: 1_700_000_000_999,
    };

    fn snapshot() -> Snapshot {
        Snapshot {
            account: Arc::new(account::Account {
                agentid: Some(1_000_002),
                secret: SecretSource::Inline(Secret::parse("SECRET").unwrap()),
                tickets: [ValueName::JsapiTicket].into(),
                ..account::Account::usual(
                    AccountName::parse("corp").unwrap(),
                    "ww0123456789abcdef",
                    GETTOKEN,
                )
            }),
            state: State::Starting,
            grants: Box::default(),
            valid_values: 0,
            next_refresh: None,
            last_success: None,
            calls_today: 7,
            quota: None,
            fleet: None,
            calls_day: NOW.platform_day(),
            last_error: None,
            outputs: Box::default(),
        }
    }

    #[test]
    fn unknown_fields_are_null() {
        assert_eq!(
            serde_json::to_value(AccountBody::of(&snapshot(), &NOW)).unwrap(),
            json!({
                "account": "corp", "kind": "wecom", "appid": "ww0123456789abcdef", "method": "gettoken",
                "state": "starting", "expire_time": null, "expires_in": null, "next_refresh_time": null,
                "last_success_time": null, "calls_today": 7, "daily_budget": 5000, "token_fingerprint": null,
                "tickets": [{"value": "jsapi_ticket", "expire_time": null, "expires_in": null, "fingerprint": null}],
                "last_error": null, "outputs": [],
            })
        );
    }

    #[test]
    fn times_are_unix_seconds_and_never_too_late() {
        let expires = NOW.at + Duration::from_millis(7_199_500);
        let grant = Grant::new(Value::parse("abc").unwrap(), NOW.at, expires, &NOW);
        let snapshot = Snapshot {
            state: State::Degraded,
            grants: [
                (ValueName::AccessToken, grant.clone()),
                (ValueName::JsapiTicket, grant.clone()),
            ]
            .into(),
            next_refresh: Some(NOW.at + Duration::from_secs(60)),
            last_success: Some(NOW.at - Duration::from_secs(60)),
            last_error: Some(Arc::new(trouble::LastError {
                at: NOW.at,
                class: Class::TimedBlock(Duration::from_secs(3600)),
                errcode: Some(89507),
                rid: None,
                message: "refused".to_owned(),
                hint: "wait".to_owned(),
            })),
            ..snapshot()
        };
        let account = AccountBody::of(&snapshot, &NOW);
        assert_eq!(account.expire_time, Some(1_700_007_200));
        assert_eq!(account.expires_in, Some(7199));
        assert_eq!(account.next_refresh_time, Some(1_700_000_060));
        assert_eq!(account.last_success_time, Some(1_699_999_940));
        // printf abc | sha256sum
        assert_eq!(account.token_fingerprint.as_deref(), Some("ba7816bf"));
        assert_eq!(account.tickets[0].expires_in, Some(7199));
        assert_eq!(account.trouble(), Some("refused"));
        let error = account.last_error.unwrap();
        assert_eq!((error.time, &*error.class), (1_700_000_000, "timed_block"));

        let given = ValueBody {
            outcome: Some(RefreshOutcome::StillValid),
            verified_seconds_ago: Some(7),
            name: ValueName::JsapiTicket,
            grant: &grant,
            now: NOW,
        };
        assert_eq!(
            serde_json::to_string(&given).unwrap(),
            r#"{"outcome":"still_valid","verified_seconds_ago":7,"jsapi_ticket":"abc","expire_time":1700007200,"expires_in":7199}"#
        );
    }
}
