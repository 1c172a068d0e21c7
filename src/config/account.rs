//! `[accounts.*]`

use super::environment::Environment;
use super::keys;
use super::names::Names;
use super::output::{Outputs, Owner};
use super::secret::secret;
use super::source::Place;
use super::table::Table;
use super::value;
use crate::account::{Account, AccountName, Method};
use crate::value::ValueName;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

const METHODS: [(&str, Method); 2] = [("stable", Method::Stable), ("classic", Method::Classic)];
const WECHAT_TICKETS: [(&str, ValueName); 2] = [
    ("jsapi", ValueName::JsapiTicket),
    ("wx_card", ValueName::WxCardTicket),
];
const WECOM_TICKETS: [(&str, ValueName); 2] = [
    ("jsapi", ValueName::JsapiTicket),
    ("agent", ValueName::AgentTicket),
];

/// Reads accounts from one file after the other, and sees where they collide.
pub(super) struct Accounts<'e> {
    env: &'e Environment,
    names: Names,
    outputs: Outputs,
    done: BTreeMap<AccountName, Arc<Account>>,
    places: HashMap<AccountName, Place>,
    /// Of the ids that may be used only once.
    ids: HashMap<(Box<str>, Option<u32>), Place>,
}

impl<'e> Accounts<'e> {
    pub(super) fn new(env: &'e Environment, names: Names, outputs: Outputs) -> Self {
        Self {
            env,
            names,
            outputs,
            done: BTreeMap::new(),
            places: HashMap::new(),
            ids: HashMap::new(),
        }
    }

    /// Reads the accounts of one file.
    pub(super) fn read(&mut self, root: &Table<'_>) {
        for (name, at, table) in root.table("accounts").named() {
            // Without a name, its other faults are found all the same.
            let name = self.name(name, at, &table);
            if let Some(account) = self.account(name, &table.known(&keys::ACCOUNT)) {
                let name = account.name.clone();
                self.done.insert(name, Arc::new(account));
            }
        }
    }

    /// All accounts that were read.
    pub(super) fn finish(self) -> BTreeMap<AccountName, Arc<Account>> {
        self.done
    }

    fn name(&mut self, name: &str, at: usize, table: &Table<'_>) -> Option<AccountName> {
        let source = table.source();
        let Some(name) = AccountName::parse(name) else {
            let right = "the name of an account must be 1 to 64 of a-z, 0-9, - and _, and begin with a letter or digit";
            source.fault(at, right.to_owned());
            return None;
        };
        if let Some(other) = self.places.get(&name) {
            let message =
                format!("account `{name}` is there already, at {other}: rename one of them");
            source.fault(at, message);
            return None;
        }
        self.places.insert(name.clone(), source.place(at));
        Some(name)
    }

    fn account(&mut self, name: Option<AccountName>, table: &Table<'_>) -> Option<Account> {
        let method = method(table);
        let id = match method {
            Method::Stable | Method::Classic => table.read("appid", value::appid),
            Method::Wecom => table.read("corpid", value::corpid),
        };
        let agentid = table.read("agentid", |id| value::whole(id, 1..=u32::MAX));
        if let Some(id) = &id {
            self.claim(id, agentid, method, table);
        }
        let secret = secret(table, self.env);
        let readers = self.names.read(table, || Some([].into()));
        let tickets = tickets(table, method);
        let values =
            (tickets.as_deref()).map(|tickets| [&[ValueName::AccessToken], tickets].concat());
        let owner = Owner {
            values: values.as_deref(),
            readers: readers.as_ref(),
        };
        let outputs = self.outputs.read(table, owner, &mut self.names);
        let interval = |key, default| {
            let configured = table.read(key, value::interval);
            configured.unwrap_or(Duration::from_secs(default))
        };
        let poll_every = interval("poll_every", 300);
        let verify_every = interval("verify_every", 0);
        let refresh_at = table.read("refresh_at", value::part).unwrap_or(0.5);
        let daily_budget = (table.read("daily_budget", |calls| value::whole(calls, 1..=u32::MAX)))
            .unwrap_or(default_budget(method));
        let force_on_dead = table.read("force_on_dead", value::flag).unwrap_or(false);
        Some(Account {
            name: name?,
            id: id?,
            agentid,
            method,
            secret: secret?,
            readers: readers?,
            tickets: tickets?.into(),
            poll_every,
            refresh_at,
            verify_every,
            daily_budget,
            force_on_dead,
            outputs: outputs.into(),
        })
    }

    /// Two accounts that fetch for one app end each other's tokens, but for `stable`.
    fn claim(&mut self, id: &str, agentid: Option<u32>, method: Method, table: &Table<'_>) {
        let (key, advice) = match method {
            Method::Stable => return,
            Method::Classic => ("appid", "merge the two, or set `method = \"stable\"`"),
            Method::Wecom => ("corpid", "merge the two, or give each app its `agentid`"),
        };
        match self.ids.entry((id.into(), agentid)) {
            Entry::Occupied(other) => {
                let other = other.get();
                table.fault(
                    key,
                    format_args!(
                        "is used at {other} too, and each account would end the other's token: {advice}"
                    ),
                );
            }
            Entry::Vacant(free) => drop(free.insert(table.place(key))),
        }
    }
}

/// How the token is fetched, which also says what kind of account it is.
fn method(table: &Table<'_>) -> Method {
    let method = table.read("method", |method| value::choice(method, &METHODS));
    match (table.has("appid"), table.has("corpid")) {
        (true, true) => table.fault(
            "corpid",
            "stands beside `appid`: keep `appid` for 公众号 and 小程序, `corpid` for 企业微信",
        ),
        (false, false) => table.fault_of_absence(
            "`appid` is missing: an account needs `appid` (公众号, 小程序) or `corpid` (企业微信)",
        ),
        (true, false) if table.has("agentid") => table.fault(
            "agentid",
            "is for 企业微信 only, beside `corpid`: remove it",
        ),
        (false, true) if table.has("method") => table.fault(
            "method",
            "is not for 企业微信, which has only one: remove it",
        ),
        _ => {}
    }
    if table.has("corpid") {
        Method::Wecom
    } else {
        method.unwrap_or(Method::Stable)
    }
}

const fn default_budget(method: Method) -> u32 {
    match method {
        Method::Stable => 10_000,
        Method::Classic => 1000,
        Method::Wecom => 5000,
    }
}

/// The tickets to keep, each once; nothing if some could not be read.
fn tickets(table: &Table<'_>, method: Method) -> Option<Vec<ValueName>> {
    if !table.has("tickets") {
        // In the ruins of a file they may only be misspelt.
        return (!table.source().is_broken()).then(Vec::new);
    }
    let words = match method {
        Method::Stable | Method::Classic => WECHAT_TICKETS,
        Method::Wecom => WECOM_TICKETS,
    };
    let mut tickets = table.read_list("tickets", |ticket| value::choice(ticket, &words))?;
    tickets.sort_unstable();
    tickets.dedup();
    Some(tickets)
}
