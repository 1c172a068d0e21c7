//! The users and groups that the configuration names.

use super::name_service::{LookedUp, NameService};
use super::table::Table;
use super::value::{self, Checked};
use crate::account::{Principal, Role};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Looks each name up once, and keeps equal lists once.
pub(super) struct Names {
    service: NameService,
    known: HashMap<Box<str>, Checked<Principal>>,
    /// The reason why a name could not be looked up.
    reasons: HashMap<Arc<str>, String>,
    lists: HashSet<Arc<[Principal]>>,
}

impl Names {
    pub(super) fn new(service: &NameService) -> Self {
        Self {
            service: service.clone(),
            known: HashMap::new(),
            reasons: HashMap::new(),
            lists: HashSet::new(),
        }
    }

    /// The user `name` or group `@name`.
    pub(super) fn principal(&mut self, name: &str) -> Checked<Principal> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let found = match self.service.look_up(name) {
            LookedUp::Principal(principal) => Ok(principal),
            LookedUp::Absent => {
                let (kind, bare) = match name.strip_prefix('@') {
                    Some(group) => ("group", group),
                    None => ("user", name),
                };
                let shown = value::shown(bare);
                Err(format!(
                    "names a {kind} `{shown}` that this host does not have: create it or correct the name \
                     (\"name\" is a user, \"@name\" a group)"
                )
                .into())
            }
            LookedUp::Unavailable(reason) => {
                let name: Arc<str> = name.into();
                self.reasons.insert(name.clone(), reason);
                Ok(Principal::Unresolved(name, Role::Reader))
            }
        };
        self.known.insert(name.into(), found.clone());
        found
    }

    /// The reason why a name could not be looked up.
    pub(super) fn reason(&self, name: &str) -> &str {
        self.reasons.get(name).map_or("", String::as_str)
    }

    /// Warns of those that could not be looked up.
    pub(super) fn warn(&self, table: &Table<'_>, key: &str, list: &[Principal]) {
        for principal in list {
            if let Principal::Unresolved(name, _) = principal {
                table.warning(key, waits(name, self.reason(name)));
            }
        }
    }

    /// The `readers` of a table, or what stands for them when it has none; nothing if one of them is wrong.
    pub(super) fn read(
        &mut self,
        table: &Table<'_>,
        default: impl FnOnce() -> Option<Arc<[Principal]>>,
    ) -> Option<Arc<[Principal]>> {
        if !table.has("readers") {
            return default();
        }
        let readers = table.read_list("readers", |name| self.principal(value::text(name)?))?;
        self.warn(table, "readers", &readers);
        Some(self.list(readers))
    }

    /// The list, shared with all that are equal, without repetitions: an ACL may name nobody twice.
    pub(super) fn list(&mut self, principals: Vec<Principal>) -> Arc<[Principal]> {
        let mut list: Vec<Principal> = Vec::with_capacity(principals.len());
        for principal in principals {
            if !list.iter().any(|known| known.is_same(&principal)) {
                list.push(principal);
            }
        }
        if let Some(known) = self.lists.get(list.as_slice()) {
            return Arc::clone(known);
        }
        let list: Arc<[Principal]> = list.into();
        self.lists.insert(Arc::clone(&list));
        list
    }
}

/// The fault of a user `name` or group `@name` as a reader, if this host does not have it. Blocks.
pub(crate) fn missing_reader(service: &NameService, name: &str) -> Option<String> {
    let found = Names::new(service).principal(name);
    found.err().map(Cow::into_owned)
}

/// The warning about a name that is looked up again later.
pub(super) fn waits(name: &str, reason: &str) -> String {
    format!(
        "names \"{name}\", which cannot be looked up now: {reason}; what names it waits, and it is looked up again every 10 s"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let check = |name: &str, expected: Principal| {
            assert_eq!(
                Names::new(&NameService::default()).principal(name),
                Ok(expected)
            );
        };
        check("root", Principal::User("root".into(), 0));
        check("@root", Principal::Group("root".into(), 0));
        check("54321", Principal::User("54321".into(), 54321));
        check("@54321", Principal::Group("54321".into(), 54321));
        for unknown in [
            "",
            "@",
            "no-such-user",
            "@no-such-group",
            "4294967295",
            "-1",
            "a\0",
        ] {
            assert!(
                Names::new(&NameService::default())
                    .principal(unknown)
                    .is_err(),
                "{unknown:?}"
            );
        }
    }

    #[test]
    fn equal_lists_are_one_and_name_nobody_twice() {
        let mut names = Names::new(&NameService::default());
        let mut list = |texts: &[&str]| {
            let principals = texts.iter().map(|text| names.principal(text).unwrap());
            let principals = principals.collect();
            names.list(principals)
        };
        let first = list(&["root", "@root"]);
        assert!(Arc::ptr_eq(&first, &list(&["root", "@root", "root", "0"])));
        assert_eq!(first.len(), 2);
        assert_eq!(list(&["@root", "root"]).len(), 2);
    }
}
