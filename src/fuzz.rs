//! Entry points for the fuzzer in `tests/fuzz`: one for each parser that meets bytes of strangers. The API is fuzzed over
//! its socket and needs none.
//!
//! A target panics when something does not hold. It may not hold a lock, sleep, or keep state between two inputs.

#![allow(missing_docs, reason = "each is named after what it reads")]
#![allow(clippy::unwrap_used, reason = "a target panics")]

use crate::account::AccountName;
use crate::call::Call;
use crate::clock;
use crate::config::{self, Environment};
use crate::follow::StreamLine;
use crate::mirror::{AppCall, AppRequest};
use crate::platform::{self, Ask, answer};
use crate::store::Store;
use crate::template::{Facts, Template};
use crate::value::ValueName;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

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

pub fn configuration(bytes: &[u8]) {
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

pub fn template(bytes: &[u8]) {
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

pub fn platform_answer(bytes: &[u8]) {
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

pub fn state_journal(bytes: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    file(&directory, "state.jsonl", bytes);
    let store = Store::open(directory.path()).unwrap();
    let now = clock::now();
    let kept = store.load(&now).unwrap();
    let _ = kept.record(&AccountName::parse("shop").unwrap(), &now);
}

pub fn stream(bytes: &[u8]) {
    for line in bytes.split(|&byte| byte == b'\n') {
        let _ = StreamLine::parse(line);
    }
}

/// A line with path and query, then a body.
pub fn mirror_request(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let (target, body) = bytes.split_at(end.unwrap_or(bytes.len()));
    let target = String::from_utf8_lossy(target);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let Some(call) = AppCall::at(path) else {
        return;
    };
    if let Err(refused) = AppRequest::parse(call, query, body) {
        let answer = refused.body(call.is_wecom(), None);
        assert!(!answer.contains(SECRET), "a key in a refusal");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["errcode"].as_i64() != Some(0), "a refusal says why");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    /// Some seed of a target, cut and with a few bytes changed.
    fn seeds(target: &str) -> impl Strategy<Value = Vec<u8>> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
        let files = fs::read_dir(directory.join(target)).unwrap();
        let seeds: Vec<_> = files
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect();
        let change = (any::<Index>(), any::<u8>());
        let changes = proptest::collection::vec(change, 0..4);
        (proptest::sample::select(seeds), any::<Index>(), changes).prop_map(
            |(mut bytes, end, changes)| {
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                // Half of them stay whole.
                bytes.truncate(end.index(bytes.len() * 2) + 1);
                bytes
            },
        )
    }

    proptest! {
        #[test]
        fn no_configuration_panics_or_shows_a_secret(bytes in seeds("configuration")) {
            configuration(&bytes);
        }

        #[test]
        fn no_template_panics(bytes in seeds("template")) {
            template(&bytes);
        }

        #[test]
        fn no_platform_answer_panics_or_shows_a_secret(bytes in seeds("platform_answer")) {
            platform_answer(&bytes);
        }

        #[test]
        fn no_state_journal_panics(bytes in seeds("state_journal")) {
            state_journal(&bytes);
        }

        #[test]
        fn no_request_to_the_mirror_panics_or_shows_a_key(bytes in seeds("mirror_request")) {
            mirror_request(&bytes);
        }

        #[test]
        fn no_stream_panics(bytes in seeds("stream")) {
            stream(&bytes);
        }
    }
}
