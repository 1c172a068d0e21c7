//! Accounts: added, mistyped, their secrets, their apps.

use crate::machine::Machine;
use crate::packages::Packages;
use crate::platform::{is_alive, order, token_calls};

/// The account that all scenarios share.
pub(crate) const SHOP: &str = r#"
[accounts.shop]
appid       = "wx0123456789abcdef"
secret_file = "/etc/wxtokend/secrets/shop"
readers     = ["www-data"]
poll_every  = "10s"

[[accounts.shop.file]]
path = "/run/wxtokend/shop.json"

[[accounts.shop.socket]]
path   = "/run/wxtokend/shop.sock"
format = "raw"
"#;

/// The appid of the account `shop`.
pub(crate) const APPID: &str = "wx0123456789abcdef";

/// Its AppSecret.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Its token, as an administrator gets it.
pub(crate) fn token(machine: &Machine) -> String {
    machine.sh("wxtokend get shop")
}

/// An account is added by a reload.
pub(crate) fn reload(machine: &mut Machine, _packages: &Packages) {
    order(
        machine,
        "PUT",
        "accounts",
        &format!(r#"{{"appid":"{APPID}","secret":"{SECRET}"}}"#),
    );
    machine.write("/etc/wxtokend/secrets/shop", SECRET, 0o640);
    machine.sh("chown root:wxtokend /etc/wxtokend/secrets/shop");
    machine.write("/etc/wxtokend/accounts.d/shop.toml", SHOP, 0o644);
    let (pid, since) = (machine.property("MainPID"), machine.now());
    machine.sh("systemctl reload wxtokend");
    machine.until("wxtokend status shop");
    assert_eq!(machine.property("MainPID"), pid);
    machine.until_status("1/1 accounts fresh");
    assert!(is_alive(machine, &token(machine)));
    assert_eq!(machine.events(&since), ["config_reloaded"]);
}

/// A bad file is rejected, and the old one runs on.
pub(crate) fn bad_reload(machine: &mut Machine, _packages: &Packages) {
    let (pid, since, before) = (machine.property("MainPID"), machine.now(), token(machine));
    machine.write(
        "/etc/wxtokend/accounts.d/typo.toml",
        "[accounts.typo]\nappid = \"wx0123456789abcdee\"\nsecret_fil = \"/etc/wxtokend/secrets/typo\"\n",
        0o644,
    );
    let failed = machine.try_sh("systemctl reload wxtokend");
    assert_eq!(failed.code, Some(1), "{}", failed.text);
    let fault = "/etc/wxtokend/accounts.d/typo.toml:3:1: ";
    // Said by the daemon and in the status, and not again by the reload that failed.
    let journal = machine.journal(&since, "-o cat");
    assert_eq!(journal.matches(fault).count(), 1, "{journal}");
    assert!(journal.contains("secret_file"), "{journal}");
    let explained = machine.journal(&since, "-x");
    let times = explained.matches("wxtokend rejected its new configuration");
    assert_eq!(times.count(), 1, "{explained}");
    let table = machine.try_sh("wxtokend status").text;
    assert!(
        table.contains("configuration on disk is rejected"),
        "{table}"
    );
    let status = machine.sh("systemctl status --no-pager --full wxtokend");
    assert!(status.contains(fault), "{status}");
    let check = machine.try_sh("wxtokend check");
    assert_eq!(check.code, Some(78));
    assert!(check.text.contains(fault), "{}", check.text);

    assert_eq!(machine.sh("systemctl is-active wxtokend"), "active");
    assert_eq!((machine.property("MainPID"), token(machine)), (pid, before));
    machine.sh("rm /etc/wxtokend/accounts.d/typo.toml; systemctl reload wxtokend");
    machine.until_status("1/1 accounts fresh");
}

/// The check tells where the unit does not let the daemon write, and what it says to do helps.
pub(crate) fn ungranted(machine: &mut Machine, _packages: &Packages) {
    machine.sh("install -d -o wxtokend -g wxtokend /srv/tokens");
    let drop_in = "/etc/wxtokend/accounts.d/elsewhere.toml";
    machine.write(
        drop_in,
        "[accounts.elsewhere]\nappid = \"wx00000000000000a3\"\nsecret_file = \"/etc/wxtokend/secrets/shop\"\n\
         [[accounts.elsewhere.file]]\npath = \"/srv/tokens/x.json\"\n",
        0o644,
    );
    let advice = "[Service] ReadWritePaths=/srv/tokens";
    let warned = machine.try_sh("wxtokend check");
    assert_eq!(warned.code, Some(0), "{}", warned.text);
    let place = format!("{drop_in}:5:8: warning: ");
    assert!(warned.text.contains(&place), "{}", warned.text);
    assert!(warned.text.contains(advice), "{}", warned.text);
    assert_eq!(machine.try_sh("wxtokend check --strict").code, Some(78));
    machine.write(
        "/etc/systemd/system/wxtokend.service.d/granted.conf",
        advice.replace(' ', "\n"),
        0o644,
    );
    machine.sh("systemctl daemon-reload; systemctl restart wxtokend");
    let granted = machine.sh("wxtokend check");
    assert!(!granted.contains("/srv/tokens"), "{granted}");
    machine.sh(&format!(
        "rm -r {drop_in} /srv/tokens /etc/systemd/system/wxtokend.service.d; systemctl daemon-reload; \
         systemctl restart wxtokend"
    ));
}

/// Secrets come as credentials.
pub(crate) fn credentials(machine: &mut Machine, _packages: &Packages) {
    machine.write("/root/secrets/plain", SECRET, 0o600);
    machine.sh(&format!(
        "mkdir -p /etc/credstore.encrypted; \
         printf %s {SECRET} | systemd-creds encrypt --with-key=host --name=sealed - /etc/credstore.encrypted/sealed"
    ));
    machine.write(
        "/etc/systemd/system/wxtokend.service.d/credentials.conf",
        "[Service]\nLoadCredential=plain:/root/secrets/plain\n\
         LoadCredentialEncrypted=sealed:/etc/credstore.encrypted/sealed\n",
        0o644,
    );
    for (name, appid) in [
        ("plain", "wx00000000000000a1"),
        ("sealed", "wx00000000000000a2"),
    ] {
        order(
            machine,
            "PUT",
            "accounts",
            &format!(r#"{{"appid":"{appid}","secret":"{SECRET}"}}"#),
        );
        machine.write(
            &format!("/etc/wxtokend/accounts.d/{name}.toml"),
            format!("[accounts.{name}]\nappid = \"{appid}\"\nsecret_credential = \"{name}\"\n"),
            0o644,
        );
    }
    machine.sh("systemctl daemon-reload; systemctl restart wxtokend");
    machine.until("wxtokend status");
    for name in ["plain", "sealed"] {
        assert!(is_alive(
            machine,
            &machine.sh(&format!("wxtokend get {name}"))
        ));
    }
    // Credentials cannot be looked at from outside the service: no reason for the package not to restart it.
    let pid = machine.property("MainPID");
    machine.sh("apt-get install -y --reinstall /root/wxtokend.deb");
    assert_ne!(machine.property("MainPID"), pid);
    machine.until("wxtokend status");
    machine.sh("wxtokend get plain; wxtokend get sealed");
    machine.sh("rm /etc/wxtokend/accounts.d/plain.toml /etc/wxtokend/accounts.d/sealed.toml");
    machine.sh(
        "rm -r /etc/systemd/system/wxtokend.service.d; systemctl daemon-reload; systemctl restart wxtokend",
    );
}

/// Apps read as other users and as services.
pub(crate) fn apps(machine: &mut Machine, _packages: &Packages) {
    let current = token(machine);
    let (began, calls) = (machine.uptime(), token_calls(machine, APPID));
    for read in [
        r#"php -r "echo json_decode(file_get_contents(\"/run/wxtokend/shop.json\"))->access_token;""#,
        r#"php -r "echo stream_get_contents(stream_socket_client(\"unix:///run/wxtokend/shop.sock\"));""#,
        "wxtokend get shop",
    ] {
        assert_eq!(machine.sh_as("www-data", read), current, "{read}");
        let stranger = machine.try_sh(&format!("runuser -u nobody -- {read}"));
        assert!(!stranger.text.contains(&current), "{read} as nobody");
    }
    assert_eq!(
        machine
            .try_sh("runuser -u nobody -- wxtokend get shop")
            .code,
        Some(77)
    );
    assert_eq!(
        machine.try_sh("runuser -u nobody -- wxtokend reload").code,
        Some(77)
    );

    // A group by permission bits, where there are no ACLs: with the drop-in that the package brings as an example.
    machine.write(
        "/etc/wxtokend/accounts.d/grouped.toml",
        SHOP.replace(".shop", ".grouped")
            .replace("/shop.", "/grouped.")
            .replace(
                "grouped.json\"",
                "grouped.json\"\ngroup = \"www-data\"\nmode = \"0640\"\nreaders = []",
            ),
        0o644,
    );
    machine.write(
        "/etc/systemd/system/wxtokend.service.d/group.conf",
        include_str!("../../packaging/systemd/examples/group.conf"),
        0o644,
    );
    machine.sh("systemctl daemon-reload; systemctl restart wxtokend");
    machine.until("wxtokend status");
    assert_eq!(
        machine.sh("stat -c '%U:%G %a' /run/wxtokend/grouped.json"),
        "wxtokend:www-data 640"
    );
    // A restart takes away what is configured no more, as a reload does.
    machine.sh(
        "rm /etc/wxtokend/accounts.d/grouped.toml /etc/systemd/system/wxtokend.service.d/group.conf; \
         systemctl daemon-reload; systemctl restart wxtokend",
    );
    machine.sh("test ! -e /run/wxtokend/grouped.json");

    // A service of a user that exists only while it runs, which systemd hands the token.
    let example = include_str!("../../packaging/systemd/examples/app.service");
    let command = "ExecStart=/usr/local/bin/count-followers --token-file=%d/shop-token\n";
    assert!(example.contains(command));
    machine.write(
        "/etc/systemd/system/app.service",
        example.replace(
            command,
            "StateDirectory=app\nExecStart=/bin/sh -c 'id -u >%S/app/user; cat %d/shop-token >%S/app/token'\n",
        ),
        0o644,
    );
    machine.sh("systemctl daemon-reload; systemctl start app");
    assert_eq!(machine.sh("cat /var/lib/private/app/token"), current);
    let user = machine.sh("cat /var/lib/private/app/user");
    let is_dynamic = |uid: u32| (61_184..=65_519).contains(&uid);
    assert!(user.parse().is_ok_and(is_dynamic), "{user}");

    // A service with a /tmp of its own reads what the daemon, with one of its own too, has published.
    let text = machine.sh(
        "systemd-run --quiet --pipe --wait --uid=www-data -p PrivateTmp=yes -p ProtectSystem=strict \
         cat /run/wxtokend/shop.json",
    );
    assert!(text.contains(&current));
    // The feed keeps a row, as a user that exists only while it runs.
    machine.sh(
        "sed -i 's/^readers *= *\\[/&\"@wxtokend-feed\", /' /etc/wxtokend/config.toml /etc/wxtokend/accounts.d/*.toml 2>/dev/null; \
         systemctl reload wxtokend",
    );
    machine.sh("mkdir -p /etc/wxtokend/feeds.d; systemd-analyze --man=no verify wxtokend-feed@shop.service");
    machine.write(
        "/etc/wxtokend/feeds.d/shop.toml",
        "accounts = [\"shop\"]\n[[redis]]\nurl = \"redis://127.0.0.1:1/0\"\npreset = \"wxjava\"\n",
        0o644,
    );
    machine.sh("systemctl start wxtokend-feed@shop");
    machine.until("systemctl show -p StatusText wxtokend-feed@shop | grep 'redis 1'");
    machine.sh("systemctl stop wxtokend-feed@shop");

    // Reading made nobody call the platform more than the daemon does by itself: every 10 s, and at each restart.
    let (made, took) = (
        token_calls(machine, APPID) - calls,
        machine.uptime() - began,
    );
    assert!(made < 20 + took / 8, "{made} calls in {took} s");
}
