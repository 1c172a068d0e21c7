//! Walks the tables of a file with its faults at hand: a bad key costs a fault and no more.

use super::keys::{self, Keys};
use super::source::{Position, SourceFile};
use super::value;
use crate::platform::Platforms;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table of a file; one that is not there is empty.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    source: &'a SourceFile,
    entries: Option<&'a DeTable<'a>>,
    /// The offset where it starts.
    at: usize,
}

impl<'a> Table<'a> {
    /// The top level of a file.
    pub fn root(source: &'a SourceFile, entries: &'a DeTable<'a>) -> Self {
        Self {
            source,
            entries: Some(entries),
            at: 0,
        }
    }

    /// The file that it stands in.
    pub fn source(&self) -> &'a SourceFile {
        self.source
    }

    /// The same table, with a fault for each key that is not known.
    #[must_use]
    pub fn known(self, known: &Keys, platforms: Platforms) -> Self {
        let right = known.with(platforms);
        self.only(&right, |name| keys::advice(&right, name, platforms))
    }

    /// The same table, with a fault for each key that is none of `right`, and what `advice` says of it.
    #[must_use]
    pub fn only(self, right: &[&str], advice: impl Fn(&str) -> String) -> Self {
        for (key, _) in self.entries.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if !right.contains(&name) {
                // In the ruins of a line it may be a part of a value.
                let shown = if self.source.is_broken() {
                    "…".to_owned()
                } else {
                    value::shown(name)
                };
                let message = format!("unknown key `{shown}`; {}", advice(name));
                self.source.fault(key.span().start, message);
            }
        }
        self
    }

    /// Returns whether a key is there, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The value of a key, or nothing: because it is not there, or because it is wrong, which is then a fault.
    pub fn read<T>(
        &self,
        key: &str,
        check: impl FnOnce(&'a DeValue<'a>) -> value::Checked<T>,
    ) -> Option<T> {
        self.check(key, self.entry(key)?, check)
    }

    /// As `read`, for each item of a list; nothing if one of them is wrong.
    pub fn read_list<T>(
        &self,
        key: &str,
        check: impl FnMut(&'a DeValue<'a>) -> value::Checked<T>,
    ) -> Option<Vec<T>> {
        let items = self.read_items(key, check)?;
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// As `read`, for each item of a list by itself, with its offset.
    pub(crate) fn read_items<T>(
        &self,
        key: &str,
        mut check: impl FnMut(&'a DeValue<'a>) -> value::Checked<T>,
    ) -> Option<Vec<(usize, Option<T>)>> {
        let list = self.read(key, value::list)?;
        let checked = list
            .iter()
            .map(|item| (item.span().start, self.check(key, item, &mut check)));
        Some(checked.collect())
    }

    /// The table below a key.
    #[must_use]
    pub fn table(&self, key: &str) -> Self {
        let entry = self.entry(key);
        Self {
            source: self.source,
            entries: self.read(key, value::table),
            at: entry.map_or(self.at, |entry| entry.span().start),
        }
    }

    /// The tables in the list below a key.
    pub fn tables(&self, key: &'a str) -> impl Iterator<Item = Self> + use<'a> {
        let list = self
            .read(key, value::tables)
            .into_iter()
            .flat_map(|list| list.iter());
        let this = *self;
        list.filter_map(move |item| this.below(key, item))
    }

    /// The table that is the value of a key.
    pub(super) fn below(&self, key: &str, item: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        Some(Self {
            source: self.source,
            entries: Some(self.check(key, item, value::table)?),
            at: item.span().start,
        })
    }

    /// A fault of the value of a key: where it stands, or else where the table starts.
    pub fn fault(&self, key: &str, message: impl std::fmt::Display) {
        let shown = self.shown(key);
        self.source
            .fault(self.position(key), format!("`{key}`{shown} {message}"));
    }

    /// A warning about the value of a key: where it stands, or else where the table starts.
    pub fn warning(&self, key: &str, message: impl std::fmt::Display) {
        let shown = self.shown(key);
        self.source
            .warning(self.position(key), format!("`{key}`{shown} {message}"));
    }

    fn shown(&self, key: &str) -> String {
        self.entry(key)
            .map(|item| self.display(key, item))
            .unwrap_or_default()
    }

    /// The value of a key as messages show it. In the ruins of a line, a piece of a secret may seem to be one.
    fn display(&self, key: &str, item: &Spanned<DeValue<'_>>) -> String {
        if key == "secret" || self.source.is_broken() {
            String::new()
        } else {
            value::display(item.get_ref())
        }
    }

    /// A fault about something that is not there; unless what is there could not be read.
    pub fn fault_of_absence(&self, message: &str) {
        if !self.source.is_broken() {
            self.source.fault(self.at, message.to_owned());
        }
    }

    /// The place of a key.
    pub fn place(&self, key: &str) -> Position {
        self.source.place(self.position(key))
    }

    fn position(&self, key: &str) -> usize {
        self.entry(key).map_or(self.at, |entry| entry.span().start)
    }

    fn entry(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries?.get(key)
    }

    fn check<T>(
        &self,
        key: &str,
        item: &'a Spanned<DeValue<'a>>,
        check: impl FnOnce(&'a DeValue<'a>) -> value::Checked<T>,
    ) -> Option<T> {
        check(item.get_ref())
            .map_err(|wrong| {
                let shown = self.display(key, item);
                self.source
                    .fault(item.span().start, format!("`{key}`{shown} {wrong}"));
            })
            .ok()
    }
}
