//! A day in the journal: what an administrator reads when something was wrong, and when it was right again.

use crate::accounts::{APPID, token};
use crate::machine::Machine;
use crate::packages::Packages;
use crate::platform::order;

/// A day with a whitelist failure reads like a story.
pub(crate) fn story(machine: &mut Machine, _packages: &Packages) {
    let (since, before) = (machine.now(), token(machine));
    order(
        machine,
        "PUT",
        "whitelist",
        &format!(r#"{{"account":"{APPID}","allow":["198.51.100.1"],"seen_as":"203.0.113.7"}}"#),
    );
    // It asks by itself every 10 s, and every 5 min once it knows that somebody has to act.
    machine.until("wxtokend status shop --json | grep -q '\"state\": *\"degraded\"'");
    assert_eq!(token(machine), before, "a valid token is never given up");
    machine.until("systemctl show wxtokend -P StatusText | grep -F 203.0.113.7");
    let healthy = format!(r#"{{"account":"{APPID}","allow":null,"seen_as":null}}"#);
    order(machine, "PUT", "whitelist", &healthy);
    // Somebody who does not want to wait asks for a token with more life than this one has.
    machine.until("wxtokend get shop --min-valid 119m59s >/dev/null; wxtokend status shop");
    machine.sh("systemctl reload wxtokend; systemctl restart wxtokend");

    let events = machine.events(&since);
    let story = [
        "operator_action_needed",
        "account_recovered",
        "config_reloaded",
        "stopped",
        "started",
    ];
    assert_eq!(events, story);

    let text = machine.journal(&since, "-o cat");
    for said in ["40164", "203.0.113.7", "IP白名单"] {
        assert!(text.contains(said), "{said} in:\n{text}");
    }
    for secret in [before.as_str(), crate::accounts::SECRET] {
        assert!(!text.contains(secret), "a secret in:\n{text}");
    }
    let explained = machine.journal(&since, "-x");
    assert!(
        explained.contains("Account shop needs somebody to act"),
        "{explained}"
    );
}
