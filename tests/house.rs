//! The rules of the house: what ARCHITECTURE.md says of the floors is what the source does, and files are short.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a file, its tests not counted.
const MAX_LINES: usize = 400;
/// Most lines of the file in the middle when all are sorted by length.
const MAX_MEDIAN: usize = 150;
/// Words that begin a question or an inverted sentence, and so no doc comment.
const NO_BEGINNING: &[&str] = &[
    "How", "So", "What", "When", "Where", "Whether", "Which", "Who", "Whom", "Whose", "Why",
];

/// A source file, without its tests.
struct ModuleText {
    path: PathBuf,
    /// `["api", "route"]` for `src/api/route.rs`.
    module: Vec<String>,
    lines: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a directory of the repository.
fn files_below(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "the source is found");
    found
}

/// Every file of the libraries and the binaries that is not a test.
fn sources() -> Vec<ModuleText> {
    let mut found: Vec<ModuleText> = files_below("src")
        .into_iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests"))
        .map(ModuleText::read)
        .collect();
    found.sort_by(|one, two| one.module.cmp(&two.module));
    found
}

impl ModuleText {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let mut module: Vec<String> = relative
            .with_extension("")
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        Self {
            lines: text[..end].lines().map(str::to_owned).collect(),
            module,
            path,
        }
    }

    fn name(&self) -> String {
        self.module.join("::")
    }

    /// The root of its package: nothing for the daemon, the directory of a member package.
    fn package(&self) -> &[String] {
        let is_member = |module: &[String]| {
            root()
                .join("src")
                .join(module[0].as_str())
                .join("Cargo.toml")
                .exists()
        };
        match self.module.as_slice() {
            [] => &[],
            module if is_member(module) => &module[..1],
            _ => &[],
        }
    }

    fn is_top(&self) -> bool {
        matches!(&self.module[self.package().len()..], [last] if ["lib", "main"].contains(&last.as_str()))
    }

    /// The modules of this package that it names, as paths of words from the root.
    fn imports(&self) -> BTreeSet<Vec<String>> {
        let code: String = self
            .lines
            .iter()
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n");
        let mut imports = BTreeSet::new();
        for (root, base) in [("crate::", self.package()), ("wxtokend::", &[])] {
            for (at, _) in code.match_indices(root) {
                let before = code[..at].chars().next_back();
                if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '$') {
                    expand(&code[at + root.len()..], base, &mut imports);
                }
            }
        }
        for (at, _) in code.match_indices("super::") {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
                let mut base = self.module.clone();
                let mut rest = &code[at..];
                while let Some(after) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = after;
                }
                expand(rest, &base, &mut imports);
            }
        }
        imports
    }
}

/// Reads one path of a `use`, with all that stands in braces.
fn expand(text: &str, base: &[String], into: &mut BTreeSet<Vec<String>>) -> usize {
    let mut path = base.to_vec();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with('{') {
            at += 1;
            loop {
                at += text[at..].len() - text[at..].trim_start().len();
                match text[at..].chars().next() {
                    Some('}') | None => return at + 1,
                    Some(',') => at += 1,
                    Some(c) if c.is_alphanumeric() || c == '_' => {
                        at += expand(&text[at..], &path, into);
                    }
                    // An alias, an asterisk.
                    Some(c) => at += c.len_utf8(),
                }
            }
        }
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if end > 0 && &rest[..end] != "self" {
            path.push(rest[..end].to_owned());
        }
        at += end;
        if text[at..].starts_with("::") && end > 0 {
            at += 2;
        } else {
            into.insert(path);
            return at.max(1);
        }
    }
}

/// The rows of the table of floors in ARCHITECTURE.md, the highest first: the modules of each.
fn floors() -> Vec<Vec<Vec<String>>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = text
        .split("| floor | modules |")
        .nth(1)
        .expect("a table of floors");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let floors: Vec<Vec<Vec<String>>> = rows
        .map(|row| {
            let modules = row.split('|').nth(2).unwrap();
            let mut paths = BTreeSet::new();
            for module in modules.split('`').skip(1).step_by(2) {
                expand(module, &[], &mut paths);
            }
            paths.into_iter().collect()
        })
        .collect();
    assert!(floors.len() >= 5, "{floors:?}");
    floors
}

/// The row of the table, and the module in it, that a path belongs to.
fn floor_of<'f>(floors: &'f [Vec<Vec<String>>], path: &[String]) -> Option<(usize, &'f [String])> {
    let all = floors
        .iter()
        .enumerate()
        .flat_map(|(floor, modules)| modules.iter().map(move |module| (floor, module.as_slice())));
    all.filter(|(_, module)| path.starts_with(module))
        .max_by_key(|(_, module)| module.len())
}

/// The file that a path leads to.
fn resolve<'s>(sources: &'s [ModuleText], path: &[String]) -> Option<&'s ModuleText> {
    sources
        .iter()
        .filter(|source| !source.module.is_empty() && path.starts_with(&source.module))
        .max_by_key(|source| source.module.len())
}

/// Fails with a list of what is wrong.
fn expect_none(what: &str, wrong: &BTreeSet<String>) {
    let list: Vec<&str> = wrong.iter().map(String::as_str).collect();
    assert!(list.is_empty(), "{what}:\n{}", list.join("\n"));
}

#[test]
fn every_module_stands_on_one_floor() {
    let floors = floors();
    let sources = sources();
    let mut wrong = BTreeSet::new();
    for source in &sources {
        if !source.is_top() && floor_of(&floors, &source.module).is_none() {
            wrong.insert(format!("{} stands on no floor", source.name()));
        }
    }
    for module in floors.iter().flatten() {
        if !sources
            .iter()
            .any(|source| source.module.starts_with(module))
        {
            wrong.insert(format!("{} is not there", module.join("::")));
        }
        let rows = floors.iter().filter(|row| row.contains(module)).count();
        if rows > 1 {
            wrong.insert(format!("{} stands on {rows} floors", module.join("::")));
        }
    }
    expect_none("ARCHITECTURE.md, table of floors", &wrong);
}

#[test]
fn imports_only_go_down() {
    let (floors, sources) = (floors(), sources());
    let mut wrong = BTreeSet::new();
    for source in &sources {
        let Some((from, _)) = floor_of(&floors, &source.module) else {
            continue;
        };
        for import in source.imports() {
            let Some(target) = resolve(&sources, &import) else {
                continue;
            };
            if let Some((to, _)) = floor_of(&floors, &target.module)
                && to < from
            {
                wrong.insert(format!("{} imports {}", source.name(), import.join("::")));
            }
        }
    }
    expect_none("imports that go up", &wrong);
}

#[test]
fn modules_import_each_other_in_no_circle() {
    let (floors, sources) = (floors(), sources());
    // Once between the modules of the table, and once between the files of each module, where a module and the parts
    // that it was split into count as one idea.
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        for import in source.imports() {
            let Some(target) = resolve(&sources, &import) else {
                continue;
            };
            let unit = |path: &[String]| floor_of(&floors, path).map(|(_, unit)| unit.join("::"));
            if let (Some(from), Some(to)) = (unit(&source.module), unit(&target.module))
                && from != to
            {
                graph.entry(from).or_default().insert(to);
            }
            let related = source.module.starts_with(&target.module)
                || target.module.starts_with(&source.module);
            if !related {
                let from = format!("file {}", source.name());
                graph
                    .entry(from)
                    .or_default()
                    .insert(format!("file {}", target.name()));
            }
        }
    }
    let reach_of = |start: &str| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = graph.get(start).into_iter().flatten().collect();
        while let Some(name) = next.pop() {
            if seen.insert(name.clone()) {
                next.extend(graph.get(name).into_iter().flatten());
            }
        }
        seen
    };
    let mut wrong = BTreeSet::new();
    for name in graph.keys() {
        let reached = reach_of(name);
        if reached.contains(name) {
            let circle: Vec<&String> = reached
                .iter()
                .filter(|other| reach_of(other).contains(name))
                .collect();
            wrong.insert(format!("{circle:?}"));
        }
    }
    expect_none("circles", &wrong);
}

#[test]
fn files_are_short() {
    let sources = sources();
    let mut lengths: Vec<usize> = sources.iter().map(|source| source.lines.len()).collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(
        median <= MAX_MEDIAN,
        "the file in the middle has {median} lines"
    );
    let wrong = sources
        .iter()
        .filter(|source| source.lines.len() > MAX_LINES)
        .map(|source| format!("{}: {} lines", source.path.display(), source.lines.len()))
        .collect();
    expect_none("long files", &wrong);
}

#[test]
fn each_type_name_means_one_thing() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files_below("src").into_iter().chain(files_below("tests")) {
        let text = fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(root()).unwrap().display().to_string();
        for line in text.lines() {
            // A `type` that is indented is one of a trait.
            let is_alias = !line.starts_with(' ');
            let line = line.trim_start();
            let line = ["pub ", "pub(crate) ", "pub(super) "]
                .iter()
                .find_map(|word| line.strip_prefix(word))
                .unwrap_or(line);
            let keywords = ["struct ", "enum ", "trait ", "type "];
            let Some(rest) = keywords[..if is_alias { 4 } else { 3 }]
                .iter()
                .find_map(|word| line.strip_prefix(word))
            else {
                continue;
            };
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = rest[..end.unwrap_or(rest.len())].to_owned();
            found.entry(name).or_default().insert(relative.clone());
        }
    }
    let wrong = found
        .into_iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| format!("{name}: {files:?}"))
        .collect();
    expect_none("type names that mean several things", &wrong);
}

#[test]
fn doc_comments_begin_with_the_thing_itself() {
    let mut wrong = BTreeSet::new();
    for path in files_below("src").into_iter().chain(files_below("tests")) {
        let text = fs::read_to_string(&path).unwrap();
        let is_doc = |line: &str| line.starts_with("///") || line.starts_with("//!");
        let mut was_doc = false;
        for (number, line) in text.lines().map(str::trim_start).enumerate() {
            if is_doc(line) && !was_doc {
                let first = line[3..].split_whitespace().next().unwrap_or_default();
                if NO_BEGINNING.contains(&first) {
                    let path = path.strip_prefix(root()).unwrap();
                    wrong.insert(format!("{}:{}: {line}", path.display(), number + 1));
                }
            }
            was_doc = is_doc(line);
        }
    }
    expect_none("doc comments that begin with a question", &wrong);
}

/// The places in code that is no test that say something, as `path:line`, unless its module is below one of `allowed`.
fn said_outside(allowed: &[&[&str]], says: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        let starts = |module: &&[&str]| {
            source.module.len() >= module.len()
                && source.module.iter().zip(*module).all(|(a, b)| a == b)
        };
        if allowed.iter().any(starts) {
            continue;
        }
        for (number, line) in source.lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if says(code) {
                let path = source.path.strip_prefix(root()).unwrap();
                wrong.insert(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    wrong
}

#[test]
fn only_a_platforms_own_file_asks_which_platform_it_is() {
    let allowed: &[&[&str]] = &[
        &["platform"],
        &["sim"],
        // Its accounts are two ways of one platform, to be looked at.
        &["cli", "demo"],
        &["fuzz"],
        &["publish", "testing"],
    ];
    let names = ["\"wechat\"", "\"wecom\"", "wechat::", "wecom::", "is_wecom"];
    let methods = ["\"stable\"", "\"classic\"", "\"gettoken\""];
    let wrong = said_outside(allowed, |code| {
        names.iter().chain(&methods).any(|name| code.contains(name))
    });
    expect_none("names of platforms", &wrong);
}

#[test]
fn kinds_of_outputs_are_told_apart_in_three_places() {
    let allowed: &[&[&str]] = &[
        &["account"],
        &["config", "output"],
        &["daemon", "sink"],
        &["publish", "testing"],
    ];
    let wrong = said_outside(allowed, |code| code.contains("OutputKind::"));
    expect_none("kinds of outputs", &wrong);
}

/// The texts in quotes of a file, each with its line, and with its lines joined where a backslash ends one.
fn texts(lines: &[String]) -> Vec<(usize, String)> {
    let code = lines.join("\n");
    let (mut texts, mut rest) = (Vec::new(), code.as_str());
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let from = &rest[at..];
        let escaped = |from: &str, end: char| {
            let mut is_escaped = false;
            from[1..].find(|c: char| {
                let ends = c == end && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                ends
            })
        };
        let length = if from.starts_with("//") {
            from.find('\n').unwrap_or(from.len())
        } else if from.starts_with("'\"'") || from.starts_with("'\\") {
            2 + escaped(&from[1..], '\'').unwrap_or(0)
        } else if let Some(text) = from.strip_prefix('"') {
            let hashes = rest[..at].chars().rev().take_while(|&c| c == '#').count();
            let is_raw = rest[..at - hashes].ends_with('r');
            let end = if is_raw {
                text.find(&format!("\"{}", "#".repeat(hashes)))
            } else {
                escaped(from, '"')
            };
            let end = end.expect("a text that ends") + 1;
            if !is_raw {
                let line = code[..code.len() - from.len()].lines().count();
                texts.push((line, from[1..end].to_owned()));
            }
            end + 1
        } else {
            1
        };
        rest = &from[length..];
    }
    texts
}

#[test]
fn no_sentence_has_stray_or_lost_blanks() {
    let mut wrong = BTreeSet::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || "`)},;:.".contains(c);
    for source in sources() {
        for (line, text) in texts(&source.lines) {
            let mut is_wrong = false;
            // Where a backslash ends a line, one blank stands before it.
            for (at, _) in text.match_indices("\\\n") {
                let before = text[..at].chars().next_back();
                let after = text[at + 2..].trim_start().chars().next();
                let is_lost = before.is_some_and(is_word)
                    && !text[..at].ends_with("\\n")
                    && after.is_some_and(|c| c.is_ascii_lowercase() || c == '`');
                is_wrong |= is_lost;
            }
            let mut joined = String::new();
            for part in text.split("\\\n") {
                joined.push_str(if joined.is_empty() {
                    part
                } else {
                    part.trim_start()
                });
            }
            let joined = joined.replace("\\n", "\n");
            // In a line of words, and where a line goes on that a backslash should have ended.
            let blanks = joined.match_indices("  ").filter(|(at, _)| {
                let (before, after) = joined.split_at(*at);
                let mut lines = before.rsplit('\n');
                let (line, last) = (lines.next().unwrap_or_default(), lines.next());
                let is_words = |line: &str| !line.is_empty() && !line.starts_with(' ');
                let goes_on =
                    line.is_empty() && last.is_some_and(is_words) && after.starts_with("    ");
                let ends = before.trim_end().chars().next_back();
                let begins = after.trim_start().chars().next();
                (goes_on || is_words(line))
                    && ends.is_some_and(|c| c.is_ascii_lowercase() || ",;:`".contains(c))
                    && begins.is_some_and(|c| c.is_ascii_lowercase() || "`[{".contains(c))
            });
            if is_wrong || blanks.count() > 0 {
                let path = source.path.strip_prefix(root()).unwrap();
                wrong.insert(format!("{}:{line}: {text}", path.display()));
            }
        }
    }
    expect_none("texts with blanks too many or too few", &wrong);
}
