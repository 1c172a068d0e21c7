//! The rights of each user, by the kernel's word: as processes of other users.

use crate::fixture::{ApiDaemon, HttpReply, Who, account, directory, group, user};
use std::sync::Arc;
use wxtokend::changes::Changes;
use wxtokend::snapshot::Verdict;

const STRANGER: u32 = 4001;
const READER: u32 = 4002;
const APPS: u32 = 5001;
const ADMINS: u32 = 5002;

fn who(uid: u32, gid: u32, groups: &[u32]) -> Who {
    Who {
        uid,
        gid,
        groups: groups.to_vec(),
    }
}

fn daemon() -> ApiDaemon {
    let (shop, blog) = (
        account("shop", vec![user(READER), group(APPS)]),
        account("blog", vec![]),
    );
    for fake in [&shop, &blog] {
        fake.on_request(|_, _| Some(Verdict::StillValid));
    }
    let daemon = ApiDaemon::start(&[shop, blog], || Some(Ok(Changes::default())));
    daemon.admins.send_replace([user(0), group(ADMINS)].into());
    daemon
}

fn visible(reply: &HttpReply) -> Vec<String> {
    let accounts = reply.json()["accounts"].clone();
    let name = |account: &serde_json::Value| account["account"].as_str().unwrap().to_owned();
    accounts.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn each_sees_what_is_for_them() {
    crate::root::needs_root!();
    let daemon = daemon();
    for (who, sees, admin) in [
        (who(STRANGER, STRANGER, &[]), &[][..], false),
        (who(READER, STRANGER, &[]), &["shop"], false),
        (who(STRANGER, APPS, &[]), &["shop"], false),
        (who(STRANGER, STRANGER, &[1, APPS]), &["shop"], false),
        (who(STRANGER, READER, &[READER]), &[], false),
        (who(APPS, STRANGER, &[]), &[], false),
        (who(STRANGER, ADMINS, &[]), &["blog", "shop"], true),
        (
            who(STRANGER, STRANGER, &[APPS, ADMINS]),
            &["blog", "shop"],
            true,
        ),
    ] {
        let status =
            |method: &str, path: &str, body: &str| daemon.as_user(&who, method, path, body).status;
        assert_eq!(
            visible(&daemon.as_user(&who, "GET", "/v1/accounts", "")),
            sees
        );
        for name in ["shop", "blog"] {
            let allowed = if sees.contains(&name) { 200 } else { 404 };
            let path = format!("/v1/accounts/{name}");
            assert_eq!(status("GET", &path, ""), allowed);
            assert_eq!(status("GET", &format!("{path}/token"), ""), allowed);
            let refresh = format!("{path}/refresh");
            assert_eq!(status("POST", &refresh, r#"{"bad_token":"x"}"#), allowed);
            let without = match (admin, allowed) {
                (false, 200) => 403,
                _ => allowed,
            };
            assert_eq!(status("POST", &refresh, "{}"), without);
        }
        let admins_only = if admin { 200 } else { 403 };
        assert_eq!(status("POST", "/v1/reload", ""), admins_only);
        assert_eq!(status("GET", "/metrics", ""), admins_only);
    }
}

#[test]
fn an_account_of_others_looks_as_if_it_were_not_there() {
    crate::root::needs_root!();
    let daemon = daemon();
    let stranger = who(STRANGER, STRANGER, &[]);
    for (method, path, body) in [
        ("GET", "", ""),
        ("GET", "/token", ""),
        ("GET", "/token?value=wx_card_ticket", ""),
        ("GET", "/token?min_valid=9999&wait=300&after=00000000", ""),
        ("GET", "/token?wait=x", ""),
        ("PUT", "/token", ""),
        ("POST", "/refresh", r#"{"bad_token":"x"}"#),
        ("POST", "/refresh", "no JSON"),
    ] {
        let of = |name| {
            let path = format!("/v1/accounts/{name}{path}");
            let mut reply = daemon.as_user(&stranger, method, &path, body);
            reply.headers.remove("date");
            reply.body = reply.body.replace(name, "NAME");
            reply
        };
        assert_eq!(of("shop"), of("nope"), "{method} {path}");
        assert!((400..410).contains(&of("shop").status));
    }
    let denied = daemon.get("/metrics").body;
    assert!(
        denied.contains("wxtokend_reads_denied_total{via=\"api\"} 12\n"),
        "{denied}"
    );
}

#[test]
fn refusals_say_what_to_do() {
    crate::root::needs_root!();
    let daemon = daemon();
    let reader = who(READER, STRANGER, &[]);
    for (method, path, hint) in [
        ("POST", "/v1/reload", "`admins`"),
        ("GET", "/metrics", "`admins`"),
        ("POST", "/v1/accounts/shop/refresh", "`bad_token`"),
    ] {
        let reply = daemon.as_user(&reader, method, path, "");
        assert_eq!((reply.status, &*reply.error()), (403, "not_allowed"));
        assert!(
            reply.json()["hint"].as_str().unwrap().contains(hint),
            "{reply:?}"
        );
    }
}

#[test]
fn a_reader_is_no_admin_to_the_account() {
    crate::root::needs_root!();
    let shop = account("shop", vec![user(READER)]);
    let (asked, asks) = std::sync::mpsc::channel();
    shop.on_request(move |request, _| {
        asked.send(format!("{request:?}")).unwrap();
        Some(Verdict::Superseded)
    });
    let daemon = ApiDaemon::of(&[shop]);
    let body = r#"{"bad_token":"x"}"#;
    let reply = daemon.as_user(
        &who(READER, 1, &[]),
        "POST",
        "/v1/accounts/shop/refresh",
        body,
    );
    assert_eq!(reply.json()["outcome"], "superseded");
    assert!(asks.recv().unwrap().contains("admin: false"));
    daemon.post("/v1/accounts/shop/refresh", body);
    assert!(asks.recv().unwrap().contains("admin: true"));
}

#[test]
fn health_is_judged_by_what_one_may_see() {
    crate::root::needs_root!();
    let (shop, blog) = (account("shop", vec![user(READER)]), account("blog", vec![]));
    blog.publish(|snapshot| snapshot.grants = Box::default());
    let daemon = ApiDaemon::of(&[shop, blog]);
    let reader = daemon.as_user(&who(READER, 1, &[]), "GET", "/healthz", "");
    assert_eq!((reader.status, &*reader.body), (200, "ok\n"));
    let admin = daemon.get("/healthz");
    assert_eq!((admin.status, &*admin.body), (503, "blog expired\n"));
}

#[test]
fn new_readers_and_admins_count_at_once() {
    crate::root::needs_root!();
    let shop = account("shop", vec![]);
    let daemon = ApiDaemon::of_one(&shop);
    let reader = who(READER, 1, &[]);
    let status = || {
        daemon
            .as_user(&reader, "GET", "/v1/accounts/shop/token", "")
            .status
    };
    assert_eq!(status(), 404);
    let with_reader = account("shop", vec![user(READER)]);
    shop.publish(|snapshot| snapshot.account = Arc::clone(&with_reader.snapshot.latest().account));
    assert_eq!(status(), 200);
    daemon
        .accounts
        .send_replace(directory(&[account("shop", vec![])]));
    assert_eq!(status(), 404);
    daemon.admins.send_replace([user(READER)].into());
    assert_eq!(status(), 200);
    assert_eq!(
        daemon.get("/v1/accounts/shop/token").status,
        404,
        "root is not special"
    );
}
