//! The daemon is down, and apps go on with what it has left: `packaging/guide/outage.md` under the shipped unit.

use crate::accounts::{APPID, SECRET, SHOP, token};
use crate::machine::{Machine, eventually};
use crate::packages::Packages;
use crate::platform::{URL, is_alive, order};
use crate::readers::read_files;

/// Files stay through a stop, a failed start and a start.
pub(crate) fn files_stay(machine: &mut Machine, _packages: &Packages) {
    let before = token(machine);
    let inode = || machine.sh("stat -c %i /run/wxtokend");
    let directory = inode();
    // A service that has the directory mounted somewhere else, as a container has.
    machine.sh(
        "mkdir -p /srv/mounted; systemd-run --quiet --unit=mounted --uid=www-data \
         -p BindReadOnlyPaths=/run/wxtokend:/srv/mounted -p ProtectSystem=strict -p PrivateTmp=yes sleep infinity",
    );
    let mounted = |script: &str| {
        machine.try_sh(&format!(
            "nsenter --mount --target $(systemctl show mounted -P MainPID) sh -euc '{script}'"
        ))
    };
    assert!(mounted("cat /srv/mounted/shop.json").text.contains(&before));

    read_files(machine, || {
        let everything_stays = |when: &str| {
            assert_eq!(inode(), directory, "{when}");
            let file = machine.sh_as("www-data", "cat /run/wxtokend/shop.json");
            assert!(file.contains(&before), "{when}");
            assert!(is_alive(machine, &before), "{when}");
            let file = mounted("cat /srv/mounted/shop.json").text;
            assert!(file.contains(&before), "{when}: {file}");
        };
        machine.sh("systemctl stop wxtokend");
        everything_stays("stopped");

        let typo = "/etc/wxtokend/accounts.d/typo.toml";
        machine.write(typo, "[accounts.typo]\nappidd = 1\n", 0o644);
        assert_eq!(machine.try_sh("systemctl start wxtokend").code, Some(1));
        assert_eq!(machine.property("ExecMainStatus"), "78");
        everything_stays("a start has failed");

        machine.sh(&format!("rm {typo}; systemctl start wxtokend"));
        everything_stays("started");

        machine.write(typo, "[accounts.typo]\nappidd = 1\n", 0o644);
        assert_eq!(machine.try_sh("systemctl restart wxtokend").code, Some(1));
        everything_stays("a restart has failed");
        machine.sh(&format!("rm {typo}; systemctl start wxtokend"));
        everything_stays("started again");
    });
    // What is written from now on arrives there too.
    let later = SHOP.replace(".shop", ".later").replace("/shop.", "/later.");
    let later = later
        .replace("later\"\nreaders", "shop\"\nreaders")
        .replace(APPID, LATER);
    order(
        machine,
        "PUT",
        "accounts",
        &format!(r#"{{"appid":"{LATER}","secret":"{SECRET}"}}"#),
    );
    machine.write("/etc/wxtokend/accounts.d/later.toml", later, 0o644);
    machine.sh("chown root:wxtokend /etc/wxtokend/secrets/shop; systemctl reload wxtokend");
    machine.until("wxtokend status later");
    eventually("the new file where it is mounted", || {
        let there = mounted("cat /srv/mounted/later.json").text;
        there
            .contains(&machine.sh("wxtokend get later"))
            .then_some(())
    });
    machine.sh(
        "rm /etc/wxtokend/accounts.d/later.toml; systemctl reload wxtokend; systemctl stop mounted",
    );
    assert_ne!(mounted("true").code, Some(0));
}

const LATER: &str = "wx00000000000000b1";

/// The writable file of `outage.md`, followed to the letter.
pub(crate) fn writable_file(machine: &mut Machine, _packages: &Packages) {
    let guide = include_str!("../../packaging/guide/outage.md");
    let blocks = |language: &str| -> Vec<String> {
        let opening = format!("   ```{language}\n");
        let blocks = guide.split(&opening).skip(1);
        let body = |block: &str| {
            let (body, _) = block.split_once("   ```").expect("an end of the block");
            body.lines()
                .map(str::trim_start)
                .collect::<Vec<_>>()
                .join("\n")
        };
        blocks.map(body).collect()
    };
    let (shell, toml) = (blocks("sh"), blocks("toml"));
    assert_eq!((shell.len(), toml.len()), (2, 1), "the steps of the guide");

    // An account whose tokens live for seconds.
    let lives = |seconds: u32| {
        let account = format!(r#"{{"appid":"{APPID}","secret":"{SECRET}","lifetime":{seconds}}}"#);
        order(machine, "PUT", "accounts", &account);
    };
    let usual = machine.sh("cat /etc/wxtokend/accounts.d/shop.toml");
    let (head, _) = usual.split_once("[[").expect("outputs");
    machine.sh(&shell[0]);
    machine.write(
        "/etc/wxtokend/accounts.d/shop.toml",
        format!("{head}{}\n", toml[0]),
        0o644,
    );
    lives(40);
    // So that it starts with such a token.
    machine.sh("systemctl stop wxtokend; find /var/lib/wxtokend -type f -delete");
    let end = format!(r#"{{"account":"{APPID}","how":"end"}}"#);
    order(machine, "POST", "kill", &end);
    let said = machine.sh(&shell[1]);
    machine.until("wxtokend status shop");
    assert_eq!(
        machine.sh("stat -c '%U:%G %a' /run/wxtokend/shop.json"),
        "wxtokend:www-data 660",
        "{said}"
    );
    machine.write(
        "/usr/local/lib/own_cache_file.php",
        include_str!("../../packaging/examples/php/own_cache_file.php"),
        0o644,
    );
    let app = format!(
        "WECHAT_HOST={URL} APPID={APPID} APPSECRET={SECRET} \
         php -r \"require \\\"/usr/local/lib/own_cache_file.php\\\"; echo access_token(\\\"/run/wxtokend/shop.json\\\");\""
    );
    let read = || machine.sh_as("www-data", &app);
    let own_calls = || {
        let counts = machine.sh(&format!("curl -fsS {URL}/sim/counts"));
        let counts: serde_json::Value = serde_json::from_str(&counts).expect("JSON");
        counts["accounts"][APPID]["token"].as_u64().unwrap_or(0)
    };
    let calls = own_calls();
    assert!(is_alive(machine, &read()));

    // Away for longer than the token lives: the app fetches once, and lives on its file.
    machine.sh("systemctl stop wxtokend");
    lives(7200);
    machine.until("test $(php -r 'echo json_decode(file_get_contents(\"/run/wxtokend/shop.json\"))->expire_time;') -lt $(date +%s)");
    assert_eq!(own_calls(), calls, "the app had no reason to fetch");
    let fetched = read();
    assert!(is_alive(machine, &fetched));
    assert_eq!((read(), read()), (fetched.clone(), fetched.clone()));
    assert_eq!(own_calls(), calls + 1);

    // Back: the file is the daemon's again.
    machine.sh("systemctl start wxtokend");
    machine.until("wxtokend status shop");
    assert_eq!(read(), token(machine));
    assert_ne!(read(), fetched);
    assert_eq!(own_calls(), calls + 1);

    machine.write(
        "/etc/wxtokend/accounts.d/shop.toml",
        format!("{usual}\n"),
        0o644,
    );
    machine.sh(
        "rm /etc/systemd/system/wxtokend.service.d/group.conf; rmdir /etc/systemd/system/wxtokend.service.d; \
         systemctl daemon-reload; systemctl restart wxtokend",
    );
    machine.until("wxtokend status shop");
}
