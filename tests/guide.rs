//! The documents agree with each other: README and guide in English and Chinese, and the figures that both give.

use std::fs;
use std::path::{Path, PathBuf};

/// Pages in English and in Chinese.
const PAIRS: &[(&str, &str)] = &[
    ("README.md", "README.zh.md"),
    ("packaging/guide/php.md", "packaging/guide/php.zh.md"),
    ("packaging/guide/csharp.md", "packaging/guide/csharp.zh.md"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The blocks of code, each with its language first, without comments.
fn code(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => open = Some(format!("{language}\n")),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.push_str(without_comment(line));
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block that does not end");
    blocks
}

/// A comment begins with two spaces and `#` or `//`.
fn without_comment(line: &str) -> &str {
    let at = ["  #", "  //"]
        .iter()
        .filter_map(|mark| line.find(mark))
        .min();
    line[..at.unwrap_or(line.len())].trim_end()
}

/// The text outside of blocks of code.
fn prose(text: &str) -> String {
    let parts = text.split("```");
    parts.step_by(2).collect()
}

/// The part of a line that is equal in both languages: code between backticks and numbers outside of it, sorted.
fn facts(line: &str) -> Vec<String> {
    let mut facts = Vec::new();
    for (n, part) in line.split('`').enumerate() {
        if n % 2 == 1 {
            facts.push(format!("`{part}`"));
        } else {
            // A link leads to the page in the same language.
            let words = part.replace('(', " (");
            let words = words
                .split_whitespace()
                .filter(|word| !word.starts_with('('));
            facts.extend(words.flat_map(numbers));
        }
    }
    facts.sort();
    facts
}

fn numbers(word: &str) -> Vec<String> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == ',';
    let parts = word.split(|c| !is_number(c));
    let trimmed = parts.map(|part| part.trim_matches(['.', ',']));
    trimmed
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The facts of each row of each table.
fn tables(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    rows.map(facts).collect()
}

#[test]
fn chinese_pages_have_the_same_commands_tables_and_code() {
    for (english, chinese) in PAIRS {
        let texts = [english, chinese].map(|path| page(path));
        let [ours, theirs] = texts.each_ref().map(|text| code(text));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{english}, {chinese}");
        }
        assert_eq!(ours.len(), theirs.len(), "blocks of code in {chinese}");
        let [ours, theirs] = texts.each_ref().map(|text| tables(text));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "a row in {english}, {chinese}");
        }
        assert_eq!(ours.len(), theirs.len(), "rows of tables in {chinese}");
    }
}

#[test]
fn chinese_pages_name_the_same_code_and_have_the_same_sections() {
    for (english, chinese) in PAIRS {
        let texts = [english, chinese].map(|path| prose(&page(path)));
        let spans = |text: &String| {
            let spans = text.split('`').skip(1).step_by(2);
            let mut spans: Vec<_> = spans.map(str::to_owned).collect();
            spans.sort();
            spans.dedup();
            spans
        };
        let [ours, theirs] = texts.each_ref().map(spans);
        assert_eq!(
            ours, theirs,
            "code between backticks in {english}, {chinese}"
        );
        let headings = |text: &String| {
            let headings = text.lines().filter(|line| line.starts_with('#'));
            headings
                .map(|line| line.chars().take_while(|&c| c == '#').count())
                .collect::<Vec<_>>()
        };
        let [ours, theirs] = texts.each_ref().map(headings);
        assert_eq!(ours, theirs, "headings in {english}, {chinese}");
    }
}

/// Figures that README's table of performance and a page of the guide both give.
#[test]
fn readme_and_guide_give_the_same_figures() {
    let readme = page("README.md");
    let row = readme
        .lines()
        .find(|line| line.starts_with("| a PHP page gets its token"))
        .expect("a row about PHP pages");
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    let ways: Vec<_> = cells[2].trim_end_matches(" µs").split(", ").collect();
    let guide = page("packaging/guide/migration.md");
    let row = guide
        .lines()
        .find(|line| line.starts_with("| costs a PHP page"))
        .expect("a row about PHP pages");
    let guide_ways: Vec<_> = row.split('|').skip(2).take(3).map(str::trim).collect();
    let ways: Vec<_> = ways.iter().map(|way| format!("{way} µs")).collect();
    assert_eq!(ways, guide_ways);
    for other in cells[3].split(", ") {
        assert!(guide.contains(other), "{other} in migration.md");
    }
}

#[test]
fn readme_asks_for_the_rust_that_the_packages_need() {
    let version = |manifest: &str| {
        let text = page(manifest);
        let (_, rest) = text.split_once("\nrust-version = \"").expect("a version");
        rest.split('"').next().expect("its end").to_owned()
    };
    let (all, daemon) = (version("src/feed/Cargo.toml"), version("Cargo.toml"));
    let words = format!("Rust {all} or later (the daemon alone, {daemon})");
    assert!(page("README.md").contains(&words), "{words}");
}

#[test]
fn manifests_name_no_repository_that_is_not_there() {
    for manifest in ["Cargo.toml", "src/feed/Cargo.toml"] {
        let text = page(manifest);
        let named = text.lines().any(|line| line.starts_with("repository"));
        assert!(!named, "{manifest}");
    }
}

/// Every page below a directory, and README.
fn pages() -> Vec<PathBuf> {
    let guide = fs::read_dir(root().join("packaging/guide")).expect("a guide");
    let guide = guide.map(|entry| entry.expect("a page").path());
    let readmes = ["README.md", "README.zh.md", "ARCHITECTURE.md"].map(|name| root().join(name));
    guide.chain(readmes).collect()
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    for path in pages() {
        let text = fs::read_to_string(&path).expect("a page");
        let text = prose(&text);
        for link in text.split("](").skip(1) {
            let (link, _) = link.split_once(')').expect("an end of the link");
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().expect("a directory").join(file)
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let target = fs::read_to_string(&target).expect("a page");
                let headings = target.lines().filter(|line| line.starts_with('#'));
                let is_there = headings.map(anchor_of).any(|name| name == anchor);
                assert!(is_there, "{}: {link}", path.display());
            }
        }
    }
}

/// The anchor that a heading gets: its text without links and marks, in lower case, with `-` for each space.
fn anchor_of(heading: &str) -> String {
    let mut text = String::new();
    let mut in_target = false;
    for c in heading.trim_start_matches('#').trim().chars() {
        match c {
            '(' if text.ends_with(']') => in_target = true,
            ')' if in_target => in_target = false,
            _ if in_target => {}
            c => text.push(c),
        }
    }
    text.to_lowercase()
        .chars()
        .filter(|&c| c.is_alphanumeric() || c == ' ' || c == '-' || c == '_')
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// A token in an argument is seen by every user of the host.
#[test]
fn no_example_puts_a_token_into_an_argument() {
    let token = ["$token", "${token}", "$bad_token", "$ACCESS_TOKEN"];
    let commands = ["curl ", "wxtokend ", "mysql ", "psql ", "redis-cli "];
    let mut texts: Vec<_> = pages();
    for directory in ["shell", "database"] {
        let files =
            fs::read_dir(root().join("packaging/examples").join(directory)).expect("examples");
        texts.extend(files.map(|file| file.expect("a file").path()));
    }
    for path in texts {
        let text = fs::read_to_string(&path).expect("a page");
        for line in text.lines() {
            for command in commands {
                let Some((_, arguments)) = line.split_once(command) else {
                    continue;
                };
                let named = token.iter().any(|token| arguments.contains(token));
                assert!(!named, "{}: {line}", path.display());
            }
        }
    }
}
