//! The errcode decides, whatever the platform's words are made of; and what is shown of them is harmless.

use crate::fixture::{SECRET, account, appid, bench, get, in_file, platform, state};
use serde_json::Value as Json;
use wxtokend::sim::{Effect, SimFault};

/// An answer with an errcode, as it comes, and a part of what is shown of it.
const REFUSALS: &[(&[u8], &str)] = &[
    // GBK; the second byte of the last character is a backslash.
    (
        b"{\"errcode\":40164,\"errmsg\":\"\xb2\xbb\xba\xcf\xb7\xa8 ip 203.0.113.7 \x81\x5c\"}",
        "ip 203.0.113.7",
    ),
    (
        b"{\"errmsg\":\"\xb2\xbb\xba\xcf \\\" 203.0.113.7\",\"errcode\":40164}",
        "203.0.113.7",
    ),
    (
        b"{\"errcode\":40164,\"errmsg\":\"invalid ip\r\n203.0.113.7\x07\x1b[31m\"}",
        "invalid ip 203.0.113.7",
    ),
    (b"{\"errcode\":40164,\"errmsg\":40164}", "40164 40164"),
    (
        b"{\"errcode\":40164,\"errmsg\":[\"203.0.113.7\"]}",
        "203.0.113.7",
    ),
    (b"{\"errcode\":40164,\"errmsg\":null}", "errcode 40164"),
    (
        b"{\"errcode\":40164,\"errmsg\":\"\\ud83d ip 203.0.113.7 \\udc00\"}",
        "ip 203.0.113.7",
    ),
    (
        b"\xef\xbb\xbf{\"errcode\":40164,\"errmsg\":\"ip 203.0.113.7\"}",
        "ip 203.0.113.7",
    ),
    (b"{\"errcode\":40164,\"errmsg\":\"ip\"}\0\0\n", "40164 ip"),
    (b"{\"errcode\":40164.0,\"errmsg\":\"ip\"}", "40164 ip"),
    (b"{\"errcode\":\"40164\",\"errmsg\":\"ip\"}", "40164 ip"),
    (b"{\"errcode\":\"40164.0\",\"errmsg\":\"ip\"}", "40164 ip"),
    (
        b"{\"errcode\":40164,\"errmsg\":\"an \"ip\" 203.0.113.7\"}",
        "203.0.113.7",
    ),
    (b"{\"errcode\":40164,\"errmsg\":\"cut of", "cut of"),
    (
        "{\"errcode\":40164,\"errmsg\":\"a\u{202e}b\u{2066}c\u{200b}d\u{9b}e\"}".as_bytes(),
        "40164 a b c d e",
    ),
];

/// Answers that grant `TOKEN`.
const GRANTS: &[&[u8]] = &[
    b"\xef\xbb\xbf{\"access_token\":\"TOKEN\",\"expires_in\":7200.0}",
    b"{\"access_token\":\"TOKEN\",\"expires_in\":\"7200\"}\0",
    b"{\"errcode\":0.0,\"errmsg\":7,\"access_token\":\"TOKEN\",\"expires_in\":\"7200.0\"}",
    b"{\"errcode\":\"0\",\"errmsg\":\"\xba\xc3\",\"access_token\":\"TOKEN\",\"expires_in\":7.2e3}",
];

#[test]
fn the_errcode_decides_and_its_words_are_shown_harmless() {
    let bodies = REFUSALS
        .iter()
        .map(|(body, _)| *body)
        .chain(GRANTS.iter().copied());
    let accounts: Vec<_> = (1..).map(appid).zip(bodies).collect();
    let platform = platform(|world| {
        for (id, body) in &accounts {
            world.account(id, SECRET);
            world.set_fault(SimFault::from(Effect::Bytes(body.to_vec())).of(id));
        }
    });
    let bench = bench();
    let configured: Vec<_> = accounts
        .iter()
        .enumerate()
        .map(|(n, (id, _))| account(&format!("a{n:02}"), id, ""))
        .collect();
    bench.configure(&platform, &configured.concat());
    let daemon = bench.start();
    for (n, (body, shown)) in REFUSALS.iter().enumerate() {
        let body = String::from_utf8_lossy(body);
        let account = get(&bench, &format!("/v1/accounts/a{n:02}")).json();
        let error = &account["last_error"];
        assert_eq!(error["errcode"], 40164, "{body}: {account}");
        assert_eq!(error["class"], "operator", "{body}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(shown), "{body}: {message}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("IP白名单"), "{body}: {hint}");
        if shown.contains("203.0.113.7") {
            assert!(hint.starts_with("add 203.0.113.7 to"), "{body}: {hint}");
        }
    }
    for n in REFUSALS.len()..accounts.len() {
        let name = format!("a{n:02}");
        assert_eq!(state(&bench, &name), "fresh", "{name}");
        assert_eq!(in_file(&bench, &name).as_deref(), Some("TOKEN"));
    }
    let status = bench.wxtokend(&["status"]).output().unwrap().stdout;
    for said in [&daemon.log(), &String::from_utf8(status).unwrap()] {
        let bad = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2066}\u{200b}".contains(c));
        assert!(!said.contains(bad), "{said:?}");
    }
    daemon.terminate();
}

#[test]
fn a_secret_is_cut_out_of_what_is_shown_however_it_is_written() {
    let dotted: String = SECRET.chars().flat_map(|c| [c, '.']).collect();
    let spaced: String = SECRET.chars().flat_map(|c| [c, ' ']).collect();
    let invisible: String = SECRET.chars().flat_map(|c| [c, '\u{200b}']).collect();
    let halves = format!("{} and {}", &SECRET[..15], &SECRET[15..]);
    let errmsgs = [dotted, spaced, invisible, halves, SECRET.to_lowercase()];
    let platform = platform(|world| {
        for (id, errmsg) in (1..).map(appid).zip(&errmsgs) {
            world.account(&id, SECRET);
            let effect = Effect::Refuse {
                errcode: 40125,
                errmsg: Some(format!("invalid appsecret {errmsg} here")),
            };
            world.set_fault(SimFault::from(effect).of(&id));
        }
    });
    let bench = bench();
    let configured: Vec<_> = (1..)
        .map(appid)
        .zip(&errmsgs)
        .map(|(id, _)| account(&format!("a{}", &id[17..]), &id, ""))
        .collect();
    bench.configure(&platform, &configured.concat());
    let daemon = bench.start();
    daemon.wait_until("what is wrong with each", || {
        daemon.log().matches("ERROR a").count() == errmsgs.len()
    });
    let log = daemon.log();
    let accounts = get(&bench, "/v1/accounts").json();
    for account in accounts["accounts"].as_array().unwrap() {
        let message = account["last_error"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("40125 invalid appsecret …"),
            "{message}"
        );
    }
    for said in [log, Json::to_string(&accounts)] {
        let letters: String = said.chars().filter(char::is_ascii_alphanumeric).collect();
        assert!(
            !letters.to_lowercase().contains("0123456789abcdef"),
            "{said}"
        );
    }
    daemon.terminate();
}
