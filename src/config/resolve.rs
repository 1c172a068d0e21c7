//! Looks again for users and groups that the name service could not tell when the configuration was loaded.

use super::Config;
use super::name_service::{LookedUp, NameService};
use crate::account::{Access, Account, Principal, Role};
use std::collections::HashMap;
use std::sync::Arc;

impl Config {
    /// Returns whether a name could not be looked up yet.
    pub(crate) fn has_unresolved(&self) -> bool {
        let is_unresolved = |list: &[Principal]| {
            (list.iter()).any(|principal| matches!(principal, Principal::Unresolved(..)))
        };
        let of_account = |account: &Account| {
            let mut outputs = account.outputs.iter();
            is_unresolved(&account.readers)
                || outputs.any(|output| output.access.unresolved().is_some())
        };
        is_unresolved(&self.api.admins) || self.accounts.values().any(|account| of_account(account))
    }

    /// The same configuration with the names that can be looked up now; nothing if there is none. Blocks on the name
    /// service.
    pub(crate) fn resolve_again(&self, names: &NameService) -> Option<Self> {
        let mut again = Again {
            names,
            known: HashMap::new(),
        };
        let mut config = self.clone();
        config.api.admins = again.list(&config.api.admins);
        for account in config.accounts.values_mut() {
            let resolved = again.account(account);
            // Equal accounts stay the same one, so that their tasks notice nothing.
            if resolved != **account {
                *account = Arc::new(resolved);
            }
        }
        (config != *self).then_some(config)
    }
}

struct Again<'a> {
    names: &'a NameService,
    known: HashMap<Arc<str>, Option<Principal>>,
}

impl Again<'_> {
    fn look_up(&mut self, name: &Arc<str>) -> Option<Principal> {
        let ask = || match self.names.look_up(name) {
            LookedUp::Principal(principal) => Some(principal),
            LookedUp::Absent | LookedUp::Unavailable(_) => None,
        };
        self.known.entry(name.clone()).or_insert_with(ask).clone()
    }

    fn list(&mut self, list: &Arc<[Principal]>) -> Arc<[Principal]> {
        let resolve = |principal: &Principal| match principal {
            Principal::Unresolved(name, Role::Reader) => {
                self.look_up(name).unwrap_or_else(|| principal.clone())
            }
            known => known.clone(),
        };
        let resolved: Vec<Principal> = list.iter().map(resolve).collect();
        if *resolved == **list {
            Arc::clone(list)
        } else {
            resolved.into()
        }
    }

    fn account(&mut self, account: &Account) -> Account {
        let mut account = account.clone();
        account.readers = self.list(&account.readers);
        for output in &mut account.outputs {
            self.access(&mut output.access);
        }
        account
    }

    fn access(&mut self, access: &mut Access) {
        let mut readers = self.list(&access.readers).to_vec();
        readers.retain(|reader| match reader {
            Principal::Unresolved(name, Role::Owner) => {
                access.owner = self.look_up(name).as_ref().and_then(id);
                access.owner.is_none()
            }
            Principal::Unresolved(name, Role::Group) => {
                access.group = self.look_up(name).as_ref().and_then(id);
                access.group.is_none()
            }
            _ => true,
        });
        if *readers != *access.readers {
            access.readers = readers.into();
        }
    }
}

fn id(principal: &Principal) -> Option<u32> {
    match principal {
        Principal::User(_, id) | Principal::Group(_, id) => Some(*id),
        Principal::Unresolved(..) => None,
    }
}
