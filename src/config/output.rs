//! `[[accounts.*.file]]` and `[[accounts.*.socket]]`

use super::directories::{DirectoryChecks, OutputDirectory};
use super::environment::Environment;
use super::keys;
use super::looks::Looks;
use super::names::{self, Names};
use super::places::{Places, Setting};
use super::source::Position;
use super::table::Table;
use super::value::{self, Checked};
use crate::account::{Access, Format, OnExpiry, Output, OutputKind, Principal, Role};
use crate::platform::Platforms;
use crate::template::{self, Template};
use crate::text::decode;
use crate::value::ValueName;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

const ON_EXPIRY: [(&str, OnExpiry); 2] = [("remove", OnExpiry::Remove), ("keep", OnExpiry::Keep)];

/// Reads outputs, and sees where they collide.
pub(super) struct OutputsReader {
    directories: DirectoryChecks,
    files: Looks,
    templates: HashMap<PathBuf, Checked<Arc<Template>>>,
    /// The paths that something stands at, without symbolic links.
    taken: HashMap<PathBuf, (&'static str, Position)>,
    /// The positions of keys of which a fault may be found later.
    pub(super) places: Places,
}

/// The part of an account that its outputs need.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    /// The values that it keeps; nothing if that is not certain.
    pub(super) values: Option<&'a [ValueName]>,
    /// The principals that may read them, unless the output says otherwise; `None` if that is not certain.
    pub(super) readers: Option<&'a Arc<[Principal]>>,
}

impl OutputsReader {
    /// No outputs yet; missing directories may be made below `runtime`.
    pub(super) fn new(runtime: &Path, env: &Environment, places: Places) -> Self {
        Self {
            directories: DirectoryChecks::new(runtime, &env.looks),
            files: env.files.clone(),
            templates: HashMap::new(),
            taken: HashMap::new(),
            places,
        }
    }

    /// Takes a path for what `key` of `table` says. Faults if it is taken, or cannot be where it is.
    pub(super) fn claim(
        &mut self,
        path: &Path,
        table: &Table<'_>,
        key: &'static str,
    ) -> Option<Rc<OutputDirectory>> {
        let directory = match self.directories.of(path) {
            Ok(directory) => Some(directory),
            Err(wrong) => {
                table.fault(key, wrong);
                None
            }
        };
        let real = match (&directory, path.file_name()) {
            (Some(directory), Some(name)) => directory.path.join(name),
            _ => path.to_path_buf(),
        };
        match self.taken.entry(real) {
            Entry::Occupied(other) => {
                let (other, place) = other.get();
                table.fault(
                    key,
                    format_args!("is taken already, by `{other}` at {place}: choose another"),
                );
            }
            Entry::Vacant(free) => drop(free.insert((key, table.place(key)))),
        }
        directory
    }

    /// Reads the outputs of an account.
    pub(super) fn read(
        &mut self,
        account: &Table<'_>,
        owner: Owner<'_>,
        names: &mut Names,
    ) -> Vec<Output> {
        let mut outputs = Vec::new();
        for table in account.tables("file") {
            let table = table.known(&keys::FILE, Platforms::default());
            let on_expiry = table.read("on_expiry", |word| value::choice(word, &ON_EXPIRY));
            let kind = OutputKind::File(on_expiry.unwrap_or(OnExpiry::Remove));
            outputs.extend(self.output(kind, &table, owner, names));
        }
        for table in account.tables("socket") {
            let table = table.known(&keys::SOCKET, Platforms::default());
            outputs.extend(self.output(OutputKind::Socket, &table, owner, names));
        }
        outputs
    }

    fn output(
        &mut self,
        kind: OutputKind,
        table: &Table<'_>,
        owner: Owner<'_>,
        names: &mut Names,
    ) -> Option<Output> {
        let path = if kind.listens() {
            table.read("path", value::socket)
        } else {
            table.read("path", value::path)
        };
        if !table.has("path") {
            table.fault_of_absence("`path` is missing: say where the value is to be found");
        }
        let directory = path.as_deref().and_then(|path| {
            let place = table.place("path");
            self.places.add(Setting::Output(path.into()), place);
            for key in ["owner", "group"].into_iter().filter(|key| table.has(key)) {
                let subject = Setting::OutputKey(path.into(), key);
                self.places.add(subject, table.place(key));
            }
            self.claim(path, table, "path")
        });
        let value = table
            .read("value", |name| value::choice(name, &ValueName::WORDS))
            .unwrap_or(ValueName::AccessToken);
        if owner.values.is_some_and(|values| !values.contains(&value)) {
            table.fault(
                "value",
                "is a ticket that the account does not keep: add it to the account's `tickets`",
            );
        }
        let format = self.format(table, owner);
        let access = access(kind, table, owner, names);
        let needs_acl = access
            .as_ref()
            .is_some_and(|access| !access.readers.is_empty());
        if needs_acl && directory.is_some_and(|directory| !directory.has_acl) {
            table.fault(
                "path",
                "is on a file system without ACLs, so `readers` cannot be let in: set `readers = []` here, \
                 and use `owner`, `group` and `mode`",
            );
        }
        Some(Output {
            kind,
            path: path?.into(),
            value,
            format: format?,
            access: access?,
        })
    }

    fn format(&mut self, table: &Table<'_>, owner: Owner<'_>) -> Option<Format> {
        // The rest is not known before its file is read.
        const TEMPLATE: Option<Format> = None;
        let words = [
            ("json", Some(Format::Json)),
            ("raw", Some(Format::Raw)),
            ("php", Some(Format::Php)),
            ("api", Some(Format::Api)),
            ("env", Some(Format::Env)),
            ("template", TEMPLATE),
        ];
        let format = if table.has("format") {
            table.read("format", |word| value::choice(word, &words))?
        } else {
            Some(Format::Json)
        };
        match (format, table.has("template")) {
            (Some(format), false) => Some(format),
            (Some(_), true) => {
                table.fault(
                    "template",
                    "is for `format = \"template\"` only: set that, or remove it",
                );
                None
            }
            (None, false) => {
                table.fault_of_absence(
                    "`template` is missing: `format = \"template\"` needs the path of one",
                );
                None
            }
            (None, true) => table.read("template", |path| {
                let path = table.source().directory().join(value::text(path)?);
                self.template(&path, owner.values)
            }),
        }
    }

    fn template(&mut self, path: &Path, kept: Option<&[ValueName]>) -> Checked<Format> {
        let template = (self.templates.entry(path.to_path_buf()))
            .or_insert_with(|| read_template(path, &self.files))
            .clone()?;
        if let Some(kept) = kept {
            template
                .check(kept)
                .map_err(|error| unusable(path, &error))?;
        }
        Ok(Format::Template(template))
    }
}

fn read_template(path: &Path, files: &Looks) -> Checked<Arc<Template>> {
    let (source, _) =
        (files.read(path, template::MAX_SOURCE)).map_err(|error| unusable(path, &error))?;
    let source = decode(&source).map_err(|error| unusable(path, &error))?;
    match Template::parse(path, source) {
        Ok(template) => Ok(Arc::new(template)),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn unusable(path: &Path, error: &dyn Display) -> Cow<'static, str> {
    format!("cannot be used: `{}`, {error}", path.display()).into()
}

fn access(
    kind: OutputKind,
    table: &Table<'_>,
    owner: Owner<'_>,
    names: &mut Names,
) -> Option<Access> {
    let readers = names.read(table, || owner.readers.cloned());
    let mode = table.read("mode", value::mode).unwrap_or(0o600);
    // A socket checks its clients against the readers.
    let checks_peer = kind.listens() && readers.as_ref().is_none_or(|readers| !readers.is_empty());
    if mode & 0o007 != 0 && !checks_peer {
        let act = if kind.listens() {
            "connect"
        } else {
            "read the value"
        };
        table.fault(
            "mode",
            format_args!("lets everybody {act}: end it with 0, and name in `readers` who may"),
        );
    }
    let mut waiting = Vec::new();
    let owner = table.read("owner", |name| {
        match names.principal(value::text(name)?)? {
            Principal::User(_, uid) => Ok(Some(uid)),
            Principal::Group(..) => Err("must be a user: for a group use `group`".into()),
            Principal::Unresolved(name, _) if name.starts_with('@') => {
                Err("must be a user: for a group use `group`".into())
            }
            Principal::Unresolved(name, _) => {
                waiting.push(("owner", Principal::Unresolved(name, Role::Owner)));
                Ok(None)
            }
        }
    });
    let group = table.read("group", |name| match value::text(name)? {
        name if name.starts_with('@') => Err("must be the name of a group without @".into()),
        name => match names.principal(&format!("@{name}"))? {
            Principal::Group(_, gid) | Principal::User(_, gid) => Ok(Some(gid)),
            Principal::Unresolved(name, _) => {
                waiting.push(("group", Principal::Unresolved(name, Role::Group)));
                Ok(None)
            }
        },
    });
    let mut readers = readers?;
    for (key, principal) in waiting {
        let name = principal.to_string();
        table.warning(key, names::waits(&name, names.reason(&name)));
        readers = names.list(readers.iter().cloned().chain([principal]).collect());
    }
    Some(Access {
        mode,
        owner: owner.flatten(),
        group: group.flatten(),
        readers,
    })
}
