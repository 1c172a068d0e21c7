//! The users and groups that the configuration names.

use super::table::Table;
use super::value::{self, Checked};
use crate::account::Principal;
use crate::fault::reason;
use nix::unistd::{Group, User};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Looks each name up once, and keeps equal lists once.
#[derive(Default)]
pub(super) struct Names {
    known: HashMap<Box<str>, Checked<Principal>>,
    lists: HashSet<Arc<[Principal]>>,
}

impl Names {
    /// The user `name` or group `@name`.
    pub(super) fn principal(&mut self, name: &str) -> Checked<Principal> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let found = look_up(name);
        self.known.insert(name.into(), found.clone());
        found
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
        let readers = table.read_list("readers", |name| self.principal(value::text(name)?));
        readers.map(|readers| self.list(readers))
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

fn look_up(text: &str) -> Checked<Principal> {
    let (kind, name) = match text.strip_prefix('@') {
        Some(group) => ("group", group),
        None => ("user", text),
    };
    let id = if kind == "group" {
        Group::from_name(name).map(|found| found.map(|group| group.gid.as_raw()))
    } else {
        User::from_name(name).map(|found| found.map(|user| user.uid.as_raw()))
    };
    // As chown does: a number is an id unless it is a name. The last one stands for "unchanged" to the kernel.
    let is_number = name.bytes().all(|b| b.is_ascii_digit());
    let number = || (name.parse().ok()).filter(|id| is_number && *id != u32::MAX);
    let shown = value::shown(name);
    match id.map(|id| id.or_else(number)) {
        Ok(Some(id)) if kind == "group" => Ok(Principal::Group(name.into(), id)),
        Ok(Some(id)) => Ok(Principal::User(name.into(), id)),
        Ok(None) => Err(format!(
            "names a {kind} `{shown}` that this host does not have: create it or correct the name \
             (\"name\" is a user, \"@name\" a group)"
        )
        .into()),
        Err(error) => Err(format!(
            "names a {kind} `{shown}` that cannot be looked up: {}; try again when the name service answers",
            reason(&error.into())
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let check = |name: &str, expected: Principal| {
            assert_eq!(Names::default().principal(name), Ok(expected));
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
            assert!(Names::default().principal(unknown).is_err(), "{unknown:?}");
        }
    }

    #[test]
    fn equal_lists_are_one_and_name_nobody_twice() {
        let mut names = Names::default();
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
