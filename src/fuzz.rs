//! Targets of the fuzzer in `tests/fuzz`: one for each parser that meets bytes of strangers. The tests below run all of
//! them for a moment.
//!
//! A target panics when something does not hold. It may not hold a lock, sleep, or keep state between two inputs.

#![allow(missing_docs, reason = "each is named after what it reads")]
#![allow(clippy::unwrap_used, reason = "a target panics")]

mod account;
mod api;

use crate::account::AccountName;
use crate::call::Call;
use crate::clock;
use crate::config::{self, Environment};
use crate::fleet::Envelope;
use crate::follow::StreamLine;
use crate::mirror::AppCall;
use crate::platform::{self, Ask, Platforms, RefusalSign, answer};
use crate::seal::{FleetKeys, SealedFor};
use crate::store::Store;
use crate::template::{Facts, Template};
use crate::value::ValueName;
use serde_json::json;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A target. It gets the bytes of one input.
pub type FuzzTarget = fn(&[u8]);

/// All targets by name. Each has a directory of that name in `tests/fuzz/seeds`.
pub const TARGETS: &[(&str, FuzzTarget)] = &[
    ("api_request", api::api_request),
    ("configuration", configuration),
    ("fleet_record", fleet_record),
    ("mirror_request", mirror_request),
    ("platform_answer", platform_answer),
    ("state_journal", state_journal),
    ("stream", stream),
    ("template", template),
];

/// A secret in the seeds and in each request. It must never come out again.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Writes a file that only its owner may read.
fn file(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).mode(0o600);
    std::io::Write::write_all(&mut options.open(&path).unwrap(), bytes).unwrap();
    path
}

fn configuration(bytes: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "config.toml", bytes);
    let environment = Environment {
        state_dir: Some(directory.path().join("state")),
        runtime_dir: Some(directory.path().to_owned()),
        ..Environment::default()
    };
    if let Err(faults) = config::load(&path, &environment) {
        assert!(!faults.is_empty(), "a rejection without a reason");
        for fault in faults {
            let text = fault.to_string();
            assert!(!text.contains(SECRET), "a secret in a fault");
        }
    }
}

/// The bytes are an envelope, the text in one, and a file of keys.
fn fleet_record(bytes: &[u8]) {
    let (now, name) = (clock::now(), AccountName::parse("shop").unwrap());
    let account = account::snapshot(&name).account;
    let keys = FleetKeys::parse(&std::array::from_fn::<u8, 32, _>(|n| n.try_into().unwrap()));
    let keys = keys.unwrap();
    let open = |bytes: &[u8], ahead| {
        let envelope = Envelope::read(bytes, &account)?;
        let _ = envelope.is_for(Some(&keys));
        envelope.open(&name, "record", &keys, ahead, &now)
    };
    let _ = open(bytes, 0);
    let to = SealedFor {
        account: name.as_str(),
        value: "record",
        fence: 7,
    };
    let envelope = json!({
        "version": 1, "host": "host1", "fence": 7, "written": now.unix_millis, "id": &*account.id,
        "sealed": keys.seal(to, bytes).unwrap(),
    });
    for ahead in [-86_400_000, 0, 86_400_000] {
        let _ = open(envelope.to_string().as_bytes(), ahead);
    }
    let _ = FleetKeys::parse(bytes);
}

fn template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(template) = Template::parse(Path::new("/template.j2"), source) else {
        return;
    };
    let values: Vec<_> = ValueName::ALL
        .into_iter()
        .map(|name| (name, "57_token"))
        .collect();
    // It may fail, and may not hang or panic.
    let _ = template.render(Facts {
        account: "shop",
        appid: "wx0123456789abcdef",
        values: &values,
        expire_time: 1_700_007_200,
        obtained_time: 1_700_000_000,
        expires_in: 7200,
    });
}

fn platform_answer(bytes: &[u8]) {
    for platform in platform::ALL {
        for call in [
            Call::Token,
            Call::Verify,
            Call::Ticket(ValueName::JsapiTicket),
        ] {
            let ask = Ask {
                call,
                path: "/",
                terms: platform.methods[0],
                id: "wx0123456789abcdef",
                credential: SECRET,
            };
            if let Err(refusal) = answer::interpret(platform, &ask, 200, bytes) {
                let text = format!("{refusal:?}");
                assert!(!text.contains(SECRET), "a secret in a refusal");
            }
        }
    }
}

fn state_journal(bytes: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    file(&directory, "state.jsonl", bytes);
    let store = Store::open(directory.path()).unwrap();
    let now = clock::now();
    let kept = store.load(&now).unwrap();
    let _ = kept.record(&AccountName::parse("shop").unwrap(), &now);
}

fn stream(bytes: &[u8]) {
    for line in bytes.split(|&byte| byte == b'\n') {
        let _ = StreamLine::parse(line);
    }
}

/// A line with path and query, then a body.
fn mirror_request(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let (target, body) = bytes.split_at(end.unwrap_or(bytes.len()));
    let target = String::from_utf8_lossy(target);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let Some(call) = AppCall::at(path, Platforms::default()) else {
        return;
    };
    if let Err(refused) = call.parse(query, body) {
        let sign = RefusalSign {
            at: 0,
            random: [0; 2],
            from: None,
        };
        let answer = (call.platform.mirrored.refuse)(refused, &sign);
        assert!(!answer.contains(SECRET), "a key in a refusal");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["errcode"].as_i64() != Some(0), "a refusal says why");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    /// Inputs of each target: a second or so for all of them.
    const INPUTS: usize = 300;
    /// Longest input, bytes.
    const MAX_INPUT: usize = 64 * 1024;

    fn seeds_of(target: &str) -> Vec<Vec<u8>> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
        let files = fs::read_dir(directory.join(target)).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    /// Changes an input in one place.
    fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Rng) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..64)).min(bytes.len());
        match random.u8(..7) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].repeat(random.usize(1..40));
                bytes.splice(at..at, part);
            }
            4 => bytes.insert(
                at,
                *random
                    .choice(b"\0\t\r\n %?&=:;,.[]{}'\"\\\xff\x80")
                    .unwrap(),
            ),
            5 => {
                let seed = random.choice(seeds).unwrap();
                let from = random.usize(..=seed.len());
                bytes.splice(at..end, seed[from..].iter().take(64).copied());
            }
            6 => {
                let words = [
                    "-1",
                    "0",
                    "1e999",
                    "9223372036854775807",
                    "18446744073709551616",
                    "\u{202e}",
                    "null",
                ];
                bytes.splice(at..end, random.choice(words).unwrap().bytes());
            }
            _ => {}
        }
        bytes.truncate(MAX_INPUT);
    }

    /// Shows the input that a target panicked on.
    struct ShownInput<'a>(&'a str, &'a [u8]);

    #[expect(clippy::print_stderr, reason = "the output of a test that fails")]
    impl Drop for ShownInput<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{}: b\"{}\"", self.0, self.1.escape_ascii());
            }
        }
    }

    fn fuzz(name: &str) {
        let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).unwrap();
        let seeds = seeds_of(name);
        let mut random = Rng::with_seed(11);
        for number in 0..INPUTS {
            let mut bytes = seeds[number % seeds.len()].clone();
            for _ in 0..number.div_ceil(seeds.len()).min(random.usize(..8)) {
                mutate(&mut bytes, &seeds, &mut random);
            }
            let shown = ShownInput(name, &bytes);
            target(shown.1);
        }
    }

    #[test]
    fn each_target_has_seeds_and_each_seed_a_target() {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let targets: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, targets);
    }

    #[test]
    fn no_api_request_panics_or_is_answered_in_anything_but_http() {
        fuzz("api_request");
    }

    #[test]
    fn no_configuration_panics_or_shows_a_secret() {
        fuzz("configuration");
    }

    #[test]
    fn no_fleet_record_panics() {
        fuzz("fleet_record");
    }

    #[test]
    fn no_request_to_the_mirror_panics_or_shows_a_key() {
        fuzz("mirror_request");
    }

    #[test]
    fn no_platform_answer_panics_or_shows_a_secret() {
        fuzz("platform_answer");
    }

    #[test]
    fn no_state_journal_panics() {
        fuzz("state_journal");
    }

    #[test]
    fn no_stream_panics() {
        fuzz("stream");
    }

    #[test]
    fn no_template_panics() {
        fuzz("template");
    }
}
