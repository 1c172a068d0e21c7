//! `[accounts.*]`

use super::environment::Environment;
use super::keys;
use super::mirror::{self, MirrorKey};
use super::names::Names;
use super::output::{OutputsReader, Owner};
use super::places::{Places, Setting};
use super::secret::{self, OpenSecrets, secret};
use super::source::{Position, SourceFile};
use super::table::Table;
use super::value;
use crate::account::{Account, AccountName};
use crate::platform::{Platform, Platforms};
use crate::terms::Terms;
use crate::value::ValueName;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Reads accounts from one file after the other, and sees where they collide.
pub(super) struct AccountsReader<'e> {
    env: &'e Environment,
    names: Names,
    outputs: OutputsReader,
    /// This host never calls the platform.
    only_follows: bool,
    done: BTreeMap<AccountName, Arc<Account>>,
    mirror_keys: Vec<MirrorKey>,
    places: HashMap<AccountName, Position>,
    /// The positions of ids that may be used only once.
    ids: HashMap<(Box<str>, Option<u32>), Position>,
}

impl<'e> AccountsReader<'e> {
    pub(super) fn new(
        env: &'e Environment,
        names: Names,
        outputs: OutputsReader,
        only_follows: bool,
    ) -> Self {
        Self {
            env,
            names,
            outputs,
            only_follows,
            done: BTreeMap::new(),
            mirror_keys: Vec::new(),
            places: HashMap::new(),
            ids: HashMap::new(),
        }
    }

    /// Reads the accounts of one file, and takes them out of its tree: what one took in memory serves the next.
    pub(super) fn read(&mut self, source: &SourceFile, tree: &mut DeTable<'_>) {
        // A fault, if it is no table.
        let _ = Table::root(source, tree).table("accounts");
        let accounts = tree.remove("accounts").map(Spanned::into_inner);
        let Some(DeValue::Table(accounts)) = accounts else {
            return;
        };
        let open = OpenSecrets::of(source, &accounts, self.env);
        let none = DeTable::new();
        let root = Table::root(source, &none);
        for (key, item) in accounts {
            let Some(table) = root.below("accounts.NAME", &item) else {
                continue;
            };
            // Without a name, its other faults are found all the same.
            let name = self.name(key.get_ref(), key.span().start, &table);
            let table = table.known(&keys::ACCOUNT, self.env.platforms);
            let account = self.account(name, &table, &open);
            let secret = account.as_ref().map(|account| &account.secret);
            let mirror_keys = mirror::keys(&table, secret, self.env);
            if let Some(account) = account.map(Arc::new) {
                let of_account = mirror_keys.into_iter().map(|key| key.of(&account));
                self.mirror_keys.extend(of_account);
                self.done.insert(account.name.clone(), account);
            }
        }
    }

    /// All accounts that were read, the mirror's keys to them, and where their keys stand.
    pub(super) fn finish(self) -> (BTreeMap<AccountName, Arc<Account>>, Vec<MirrorKey>, Places) {
        (self.done, self.mirror_keys, self.outputs.places)
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

    fn account(
        &mut self,
        name: Option<AccountName>,
        table: &Table<'_>,
        open: &OpenSecrets,
    ) -> Option<Account> {
        let platform = platform(table, self.env.platforms)?;
        let ids = &platform.ids;
        let id = table.read(ids.key, |id| value::id(id, ids.check));
        if let Some((_, Some(unusual))) = &id {
            table.warning(ids.key, unusual);
        }
        let id = id.map(|(id, _)| id);
        let app_id = |key| table.read(key, |id| value::whole(id, 1..=u32::MAX));
        let agentid = ids.app_key.and_then(app_id);
        let terms = terms(table, platform);
        if let Some(id) = &id {
            self.claim(id, agentid, (platform, terms), table);
        }
        let secret = secret(table, self.env, self.only_follows, open);
        if let Some(name) = &name
            && let Some(key) = secret::KEYS.into_iter().find(|key| table.has(key))
        {
            let subject = Setting::Secret(name.clone());
            self.outputs.places.add(subject, table.place(key));
        }
        let readers = self.names.read(table, || Some([].into()));
        let tickets = tickets(table, terms);
        let values =
            (tickets.as_deref()).map(|tickets| [&[ValueName::AccessToken], tickets].concat());
        let owner = Owner {
            values: values.as_deref(),
            readers: readers.as_ref(),
        };
        let outputs = self.outputs.read(table, owner, &mut self.names);
        let poll_every = table.read("poll_every", value::interval);
        let verify_every = table.read("verify_every", value::interval);
        let refresh_at = table.read("refresh_at", value::part);
        let daily_budget = table.read("daily_budget", |calls| value::whole(calls, 1..=u32::MAX));
        let force_on_dead = table.read("force_on_dead", value::flag);
        let usual = Account::usual(name?, &id?, terms);
        Some(Account {
            agentid,
            secret: secret?,
            readers: readers?,
            tickets: tickets?.into(),
            poll_every: poll_every.unwrap_or(usual.poll_every),
            refresh_at: refresh_at.unwrap_or(usual.refresh_at),
            verify_every: verify_every.unwrap_or(usual.verify_every),
            daily_budget: daily_budget.unwrap_or(usual.daily_budget),
            force_on_dead: force_on_dead.unwrap_or(usual.force_on_dead),
            outputs: outputs.into(),
            ..usual
        })
    }

    /// Two accounts that fetch for one app end each other's tokens, unless a repeat gives the same one.
    fn claim(
        &mut self,
        id: &str,
        agentid: Option<u32>,
        (platform, terms): (&Platform, &Terms),
        table: &Table<'_>,
    ) {
        if terms.overlap().is_none() && !terms.shares_id {
            return;
        }
        let (key, advice) = (platform.ids.key, platform.ids.twice);
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

/// The platform of an account, by the key of its id.
fn platform(table: &Table<'_>, platforms: Platforms) -> Option<&'static Platform> {
    let mut named = platforms
        .0
        .iter()
        .filter(|platform| table.has(platform.ids.key));
    let list = |say: fn(&Platform) -> String, between: &str| {
        let words: Vec<_> = platforms.0.iter().map(|platform| say(platform)).collect();
        words.join(between)
    };
    let Some(platform) = named.next() else {
        let keys = list(
            |platform| {
                format!(
                    "`{}` ({})",
                    platform.ids.key,
                    platform.products.replace(" and ", ", ")
                )
            },
            " or ",
        );
        let first = platforms.0.first()?;
        table.fault_of_absence(&format!(
            "`{}` is missing: an account needs {keys}",
            first.ids.key
        ));
        return Some(first);
    };
    let key = platform.ids.key;
    if let Some(other) = named.next() {
        let keys = list(
            |platform| format!("`{}` for {}", platform.ids.key, platform.products),
            ", ",
        );
        table.fault(
            other.ids.key,
            format_args!("stands beside `{key}`: keep {keys}"),
        );
    }
    for other in platforms.0 {
        if let Some(app_key) = other.ids.app_key
            && platform.ids.app_key != Some(app_key)
            && table.has(app_key)
        {
            table.fault(
                app_key,
                format_args!(
                    "is for {} only, beside `{}`: remove it",
                    other.products, other.ids.key
                ),
            );
        }
    }
    Some(platform)
}

/// The terms of the account's way to fetch a token.
fn terms(table: &Table<'_>, platform: &Platform) -> &'static Terms {
    let usual = platform.methods[0];
    if platform.methods.len() == 1 {
        if table.has("method") {
            table.fault(
                "method",
                format_args!(
                    "is not for {}, which has only one: remove it",
                    platform.products
                ),
            );
        }
        return usual;
    }
    let words: Vec<_> = (platform.methods.iter())
        .map(|terms| (terms.method, *terms))
        .collect();
    (table.read("method", |method| value::choice(method, &words))).unwrap_or(usual)
}

/// The tickets to keep, each once; nothing if some could not be read.
fn tickets(table: &Table<'_>, terms: &Terms) -> Option<Vec<ValueName>> {
    if !table.has("tickets") {
        // In the ruins of a file they may only be misspelt.
        return (!table.source().is_broken()).then(Vec::new);
    }
    let mut tickets = table.read_list("tickets", |ticket| value::choice(ticket, terms.tickets))?;
    tickets.sort_unstable();
    tickets.dedup();
    Some(tickets)
}
