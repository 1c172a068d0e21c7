//! etcd lets in only whom it knows: by TLS, client certificates, or user and password. What is wrong is told in one line.

use crate::certificates::Authority;
use crate::cluster::{Cluster, Door};
use crate::hosts::TestFleet;
use crate::root::needs_root;
use serde_json::json;
use std::time::{Duration, Instant};

const LIFETIME: Duration = Duration::from_secs(40);
const AWAY: &str = "the fleet's engine is away";

/// Two hosts and one member of etcd.
fn prepare(door: Door) -> TestFleet {
    TestFleet::prepare_with(LIFETIME, 2, 1, door)
}

/// Adds lines to `[fleet]`.
fn with(more: &str) -> impl FnOnce(String) -> String {
    move |config| config.replacen("[fleet]\n", &format!("[fleet]\n{more}\n"), 1)
}

/// Both hosts hold one token of each account, and go on to the next.
fn assert_agree(fleet: &TestFleet) {
    for name in ["classic", "stable", "corp"] {
        fleet.wait_for_rotation(name, "", &[0, 1]);
    }
    let token = fleet.wait_for_rotation("classic", "", &[0, 1]);
    fleet.wait_for_rotation("classic", &token, &[0, 1]);
    // It may be slow, and lets nobody wait outside.
    let mut told = fleet.hosts[0].told(AWAY).into_iter();
    assert!(
        told.all(|line| line.contains(" in time")),
        "{}",
        fleet.logs()
    );
}

/// Starts the second host as it must not be: its daemon and `check --online` say so, each in one line, and no call is made.
fn assert_told(fleet: &mut TestFleet, config: &str, told: &str) {
    let (calls, began) = (fleet.calls("classic"), Instant::now());
    fleet.hosts[1].terminate();
    fleet.start_changed_host(1, with(config));
    let before = fleet.hosts[1].told(AWAY).len();
    fleet.wait_until(told, |fleet| {
        (fleet.hosts[1].told(AWAY).iter()).any(|line| line.contains(told))
    });
    fleet.wait_until("the same in the status", |fleet| {
        fleet.hosts[1].fleet("classic")["engine"] == "away"
    });
    fleet.wait_for_check(1, 69, told);
    // Tried again and again, told once.
    let lines = fleet.hosts[1].told(AWAY).len();
    assert!(lines <= before + 1, "{}", fleet.hosts[1].log());
    // The other host goes on.
    let rotations = began.elapsed().as_secs() / (LIFETIME.as_secs() / 2 - 1) + 1;
    assert!(fleet.calls("classic") <= calls + rotations);
}

fn assert_checked(fleet: &TestFleet) {
    fleet.wait_for_check(1, 0, ": ok: etcd 3.");
    fleet.wait_for_check(1, 0, "the fleet's key fits, hosts: 2");
}

#[test]
fn etcd_is_reached_by_tls_with_a_ca_of_its_own() {
    needs_root!();
    let mut fleet = prepare(Door::Tls);
    let ours = format!("ca_file = {:?}", fleet.cluster.authority().certificate());
    fleet.start_changed_host(0, with(&ours));
    fleet.start_changed_host(1, with(&ours));
    assert_agree(&fleet);
    assert_checked(&fleet);
    let other = Authority::make(fleet.cluster.directory(), "other");
    let other = format!("ca_file = {:?}", other.certificate());
    let told = "its issuer is not trusted; install the system's CA certificates (package ca-certificates), or set `ca_file` of [fleet]";
    assert_told(&mut fleet, &other, told);
    assert_told(&mut fleet, "", told);
    fleet.assert_quiet_logs();
}

#[test]
fn etcd_is_reached_with_client_certificates() {
    needs_root!();
    let mut fleet = prepare(Door::Certificates);
    let authority = fleet.cluster.authority();
    let ca = format!("ca_file = {:?}", authority.certificate());
    let with_certificate =
        |(certificate, key)| format!("{ca}\ncert_file = {certificate:?}\ncert_key_file = {key:?}");
    let ours = with_certificate(authority.sign("client", "10.77.0.200"));
    let other = Authority::make(fleet.cluster.directory(), "other");
    let theirs = with_certificate(other.sign("stranger", "10.77.0.201"));
    fleet.start_changed_host(0, with(&ours));
    fleet.start_changed_host(1, with(&ours));
    assert_agree(&fleet);
    assert_checked(&fleet);
    let told = "wants a client certificate: set `cert_file` and `cert_key_file` of [fleet]";
    assert_told(&mut fleet, &ca, told);
    let told =
        "`cert_file` of [fleet] must be one of the CA that etcd trusts (its --trusted-ca-file)";
    assert_told(&mut fleet, &theirs, told);
    fleet.assert_quiet_logs();
}

/// Users as the guide makes them, and some as it does not. All with the same password.
fn add_users(cluster: &Cluster) {
    let range = |prefix: &str| {
        let encode = crate::cluster::encode;
        let end = format!("{}0", prefix.trim_end_matches('/'));
        json!({"key": encode(prefix), "range_end": encode(&end)})
    };
    let add = |user: &str, permission: &str, prefix: &str| {
        cluster.ask("/v3/auth/role/add", &json!({"name": user}));
        let mut perm = range(prefix);
        perm["permType"] = permission.into();
        cluster.ask("/v3/auth/role/grant", &json!({"name": user, "perm": perm}));
        let password = json!({"name": user, "password": PASSWORD});
        cluster.ask("/v3/auth/user/add", &password);
        cluster.ask("/v3/auth/user/grant", &json!({"user": user, "role": user}));
    };
    add("wxtokend", "READWRITE", "/wxtokend/");
    add("reader", "READ", "/wxtokend/");
    add("stranger", "READWRITE", "/wxtoken/");
    cluster.ask("/v3/auth/role/add", &json!({"name": "root"}));
    let root = json!({"name": "root", "password": PASSWORD});
    cluster.ask("/v3/auth/user/add", &root);
    cluster.ask(
        "/v3/auth/user/grant",
        &json!({"user": "root", "role": "root"}),
    );
    cluster.ask("/v3/auth/enable", &json!({}));
}

const PASSWORD: &str = "PASSWORD-7f3a9c";

#[test]
fn etcd_lets_in_users_with_rights_below_the_prefix() {
    needs_root!();
    let mut fleet = prepare(Door::Tls);
    let tls = format!("ca_file = {:?}", fleet.cluster.authority().certificate());
    add_users(&fleet.cluster);
    let user = |name: &str, file: &str| {
        format!("{tls}\nusername = \"{name}\"\npassword_file = \"{{dir}}/{file}\"")
    };
    for host in &fleet.hosts {
        host.write("password", &format!("{PASSWORD}\n"));
        host.write("wrong", "PASSWORD-0\n");
    }
    let ours = user("wxtokend", "password");
    fleet.start_changed_host(0, with(&ours));
    fleet.start_changed_host(1, with(&ours));
    assert_agree(&fleet);
    assert_checked(&fleet);
    let told = "authentication failed, invalid user ID or password; correct `username` and the password's file";
    assert_told(&mut fleet, &user("wxtokend", "wrong"), told);
    let rights = "permission denied; let the user read and write below `prefix`";
    assert_told(&mut fleet, &user("stranger", "password"), rights);
    assert_told(&mut fleet, &user("reader", "password"), rights);
    let told = "etcd wants a login: set `username` and `password_file`";
    assert_told(&mut fleet, &tls, told);
    // The password is corrected while the daemon runs.
    fleet.hosts[1].terminate();
    fleet.start_changed_host(1, with(&user("wxtokend", "wrong")));
    fleet.wait_until("that it is told", |fleet| {
        fleet.hosts[1].fleet("classic")["engine"] == "away"
    });
    fleet.hosts[1].write("wrong", PASSWORD);
    fleet.wait_until("that it is let in", |fleet| {
        fleet.hosts[1].fleet("classic")["engine"] == "ok"
    });
    assert_agree(&fleet);
    assert!(!fleet.logs().contains("PASSWORD"), "a password in the log");
    fleet.assert_quiet_logs();
}
