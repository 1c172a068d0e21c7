//! Every errcode of the platform's table, as an administrator meets it: what the log, `status`, the status line, `get`
//! and `check --online` say, when the platform is asked again, and that no valid token is given up for it.

use crate::common::{Bench, RunningDaemon};
use crate::fixture::{
    SECRET, account, appid, bench, get, in_file, in_socket, is_alive, platform, state, token_calls,
};
use serde_json::Value as Json;
use std::ops::RangeInclusive;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use wxtokend::sim::{Effect, Endpoint, SimFault, SimPlatform};

/// The platform; errcode, or what else comes instead of a token; class; what stands in the status line; what else
/// an administrator has to be told, wherever there is room; the platform's words, if they are others than usual.
const TABLE: &str = "
stable  | -1     | transient    | -1 system error     | asked again soon; nothing to do here
stable  | -1000  | transient    | -1000 system busy   | asked again soon; nothing to do here
stable  | 500    | transient    | the answer is HTTP status 500 | asked again soon
stable  | 503    | transient    | the answer is HTTP status 503 | asked again soon
stable  | 429    | transient    | the answer is HTTP status 429 | asked again soon
stable  | 412    | transient    | the answer is HTTP status 412 | a proxy that changes requests
stable  | reset  | transient    | the connection to http://127.0.0.1: | broke before the answer was complete; firewall
stable  | half   | transient    | the connection to http://127.0.0.1: | broke before the answer was complete; firewall
stable  | hang   | transient    | http://127.0.0.1:   | does not answer in time; network, DNS
stable  | empty  | transient    | the answer is not the platform's JSON | a proxy's login page
stable  | html   | transient    | the answer is not the platform's JSON | a proxy's login page
stable  | text   | transient    | the answer is not the platform's JSON | a proxy's login page
stable  | 40001  | operator     | 40001 invalid credential | copy it anew; 微信公众平台 → 设置与开发 → 基本配置 → AppSecret; no reload
stable  | 40002  | operator     | 40002 invalid grant_type | defect of wxtokend; report
stable  | 40013  | operator     | 40013 invalid appid | 微信公众平台 → 设置与开发 → 基本配置 → 开发者ID(AppID); reload
stable  | 40014  | operator     | 40014 invalid access_token | errcode 40014; 全局返回码
stable  | 40125  | operator     | 40125 invalid appsecret | reset; 微信公众平台 → 设置与开发 → 基本配置 → AppSecret; no reload
stable  | 40164  | operator     | 40164 IP 203.0.113.7 is not whitelisted | \
    add 203.0.113.7 to; 微信公众平台 → 设置与开发 → 基本配置 → IP白名单 | \
    invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist
classic | 40164  | operator     | 40164 IP 2001:db8::7 is not whitelisted | add 2001:db8::7 to; IP白名单 | invalid ip 2001:db8::7, not in whitelist
stable  | 40243  | operator     | 40243 AppSecret is frozen | unfreeze; 微信公众平台 → 设置与开发 → 基本配置 → AppSecret; 10 minutes
stable  | 41002  | operator     | 41002 appid missing | although it was sent; proxy; report
stable  | 41004  | operator     | 41004 appsecret missing | although it was sent; proxy; report
stable  | 42001  | operator     | 42001 access_token expired | errcode 42001; 全局返回码
stable  | 43002  | operator     | 43002 require POST method | defect of wxtokend; report
stable  | 45009  | daily_quota  | 45009 reach max api daily quota limit | who else; 接口权限; every 30 minutes; midnight UTC+8
stable  | 45011  | minute_quota | 45011 api minute-quota reach limit | who else; in the next one
stable  | 48006  | operator     | 48006 forbid to clear quota | midnight UTC+8
stable  | 50004  | operator     | 50004 forbidden to use token interface | notices in 微信公众平台
stable  | 50007  | operator     | 50007 account is frozen | notices in 微信公众平台
stable  | 61004  | operator     | 61004 IP 203.0.113.7 is not whitelisted | add 203.0.113.7 to; IP白名单 | \
    access clientip is not registered requestIP: 203.0.113.7
stable  | 61024  | operator     | 61024 third party platform account | cannot be kept here
stable  | 89501  | operator     | 89501 IP 203.0.113.7 waits for an administrator's confirmation | \
    must confirm 203.0.113.7; IP白名单 | ip 203.0.113.7 is waiting
stable  | 89503  | operator     | 89503 the IP of this host waits for an administrator's confirmation | \
    must confirm this host's public IP address; IP白名单
stable  | 89506  | timed_block  | 89506 the IP of this host was refused by an administrator, blocked for 24h | \
    refused this host's public IP address; for 24 hours
stable  | 89507  | timed_block  | 89507 IP 203.0.113.7 was refused by an administrator, blocked for 1h | \
    refused 203.0.113.7; for 1 hour | ip 203.0.113.7 was refused
stable  | 98765  | operator     | 98765 a word of tomorrow | errcode 98765; 全局返回码 | a word of tomorrow
wecom   | -1     | transient    | -1 system error     | asked again soon; nothing to do here
wecom   | 40001  | operator     | 40001 invalid credential | 企业微信管理后台 → 应用管理 → the app → Secret; no reload
wecom   | 40013  | operator     | 40013 invalid corpid | 企业微信管理后台 → 我的企业 → 企业信息 → 企业ID; reload | invalid corpid
wecom   | 45009  | frequency    | 45009 reach max api daily quota limit | who else; 1 minute; once an hour
wecom   | 45033  | transient    | 45033 api concurrent out of limit | asked again soon; nothing to do here
wecom   | 60020  | operator     | 60020 IP 127.0.0.1 is not whitelisted | \
    add 127.0.0.1 to; 企业微信管理后台 → 应用管理 → the app → 企业可信IP | not allow to access from your ip
wecom   | 98765  | operator     | 98765 a word of tomorrow | errcode 98765; 全局错误码 | a word of tomorrow
";

/// One of them.
struct Row {
    method: &'static str,
    effect: Effect,
    errcode: Option<i64>,
    class: &'static str,
    brief: &'static str,
    tells: Vec<&'static str>,
}

impl Row {
    fn parse(line: &'static str) -> Self {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let (answer, errmsg) = (cells[1], cells.get(5).map(|&errmsg| errmsg.to_owned()));
        let effect = match answer {
            "reset" => Effect::Reset,
            "half" => Effect::HalfBody,
            "hang" => Effect::Hang,
            "empty" => Effect::Empty,
            "html" => Effect::LoginPage,
            "text" => Effect::Body("busy".into()),
            number => match number.parse().unwrap() {
                status @ 100..600 => Effect::Status(u16::try_from(status).unwrap()),
                errcode => Effect::Refuse { errcode, errmsg },
            },
        };
        let errcode = match &effect {
            Effect::Refuse { errcode, .. } => Some(*errcode),
            _ => None,
        };
        Self {
            method: cells[0],
            effect,
            errcode,
            class: cells[2],
            brief: cells[3],
            tells: cells[4].split(';').map(str::trim).collect(),
        }
    }
}

/// A row with an account of its own.
struct Trial {
    row: Row,
    id: String,
    name: String,
}

impl Trial {
    fn all() -> Vec<Self> {
        let trial = |(n, row): (u64, Row)| Self {
            id: if row.method == "wecom" {
                format!("ww{n:016x}")
            } else {
                appid(n)
            },
            name: format!("a{n:02}"),
            row,
        };
        (1..)
            .zip(TABLE.trim().lines().map(Row::parse))
            .map(trial)
            .collect()
    }

    fn account(&self) -> String {
        match self.row.method {
            "stable" => account(&self.name, &self.id, "poll_every = \"1s\""),
            // After three seconds and a half.
            "classic" => account(
                &self.name,
                &self.id,
                "method = \"classic\"\nrefresh_at = 0.0005",
            ),
            _ => {
                account(&self.name, &self.id, "refresh_at = 0.0005").replace("appid =", "corpid =")
            }
        }
    }

    /// Only calls for tokens, by whichever interface: what else is called works.
    fn strike(&self, platform: &SimPlatform) {
        let endpoints = Endpoint::ALL.into_iter();
        platform.with(|world, _| {
            for endpoint in endpoints.filter(|endpoint| endpoint.grants_tokens()) {
                let fault = SimFault::from(self.row.effect.clone());
                world.set_fault(fault.of(&self.id).at(endpoint));
            }
        });
    }

    fn heal(&self, platform: &SimPlatform) {
        platform.with(|world, _| world.heal(Some(&self.id), None));
    }

    fn is_blocked(&self) -> bool {
        self.row.class == "timed_block"
    }

    /// Seconds from a failure to the next call.
    fn interval(&self, failed: i64) -> RangeInclusive<i64> {
        const DAY: i64 = 86_400;
        const ZONE: i64 = 8 * 3600;
        match (self.row.class, self.row.errcode) {
            ("transient", _) => 0..=60,
            ("minute_quota", _) => {
                let left = 60 - failed.rem_euclid(60);
                left..=left + 3
            }
            ("daily_quota", _) => {
                let left = DAY - (failed + ZONE).rem_euclid(DAY);
                left.min(1800)..=(left + 31).min(1801)
            }
            // A first failure after a success may be a hiccup, and is tried again within seconds.
            ("operator", _) => 2..=301,
            ("frequency", _) => 59..=61,
            ("timed_block", Some(89507)) => 3599..=3601,
            ("timed_block", Some(89506)) => DAY - 1..=DAY + 1,
            (class, errcode) => panic!("{class} {errcode:?}"),
        }
    }

    /// Checks that a text tells an administrator all that it has to tell.
    fn must_tell(&self, text: &str) {
        assert_eq!(self.untold(text), None, "{text}");
    }

    /// The first thing that a text should tell an administrator and does not.
    fn untold(&self, text: &str) -> Option<String> {
        // A terminal breaks lines anywhere.
        let squeezed = |text: &str| text.split_whitespace().collect::<String>();
        let said = squeezed(text);
        let errcode = self.row.errcode.map(|errcode| errcode.to_string());
        let mut parts = self.row.tells.iter().copied().chain(errcode.as_deref());
        let untold = parts.find(|part| !said.contains(&squeezed(part)));
        untold.map(str::to_owned)
    }

    /// Looks at `last_error` in the JSON of the account, and when the platform is asked next. While it is being asked, that
    /// is now.
    fn look_at(&self, bench: &Bench, daemon: &RunningDaemon<'_>) {
        let mut account = Json::Null;
        daemon.wait_until("the next try", || {
            account = get(bench, &format!("/v1/accounts/{}", self.name)).json();
            let error = &account["last_error"];
            let times = [&error["time"], &account["next_refresh_time"]];
            let [Some(failed), Some(next)] = times.map(Json::as_i64) else {
                return false;
            };
            self.interval(failed).contains(&(next - failed))
        });
        let error = &account["last_error"];
        assert_eq!(error["class"], self.row.class, "{account}");
        assert_eq!(error["errcode"].as_i64(), self.row.errcode, "{account}");
        let [message, hint] = ["message", "hint"].map(|key| error[key].as_str().unwrap());
        self.must_tell(&format!("{message} {hint}"));
        // A proxy has no request id, and 企业微信 names another thing.
        if self.row.errcode.is_some() && self.row.method != "wecom" {
            let rid = error["rid"].as_str().unwrap();
            assert!(message.ends_with(&format!(" rid: {rid}")), "{error}");
        } else {
            assert!(error["rid"].is_null(), "{error}");
        }
    }

    /// Waits until an account tells of this trouble, and of no other: a busy host may be late with an answer before.
    fn wait_for(&self, bench: &Bench, daemon: &RunningDaemon<'_>) {
        daemon.wait_until("its trouble", || {
            let account = get(bench, &format!("/v1/accounts/{}", self.name)).json();
            let error = &account["last_error"];
            let [message, hint] = ["message", "hint"].map(|key| error[key].as_str());
            error["class"] == self.row.class
                && self.untold(&format!("{message:?} {hint:?}")).is_none()
        });
    }

    /// The line of the log that tells of it, at this level, after the first bytes.
    fn look_at_log(&self, daemon: &RunningDaemon<'_>, after: usize, begin: &str) -> String {
        let begin = begin.replace("NAME", &self.name);
        let mut found = None;
        daemon.wait_until(&begin, || {
            let log = daemon.log().split_off(after);
            let is_it = |line: &&str| line.contains(&begin) && self.untold(line).is_none();
            found = log.lines().find(is_it).map(str::to_owned);
            found.is_some()
        });
        let line = found.unwrap();
        assert!(line.contains("; next try "), "{line}");
        line
    }
}

fn status_json(bench: &Bench) -> Json {
    let output = bench.wxtokend(&["status", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The table's lines about an account, up to those about the next one or the end.
fn of_account(table: &str, name: &str) -> String {
    let lines = table.lines().skip_while(|line| !line.starts_with(name));
    let rest = lines
        .clone()
        .skip(1)
        .take_while(|line| line.starts_with(' '));
    lines.take(1).chain(rest).collect::<Vec<_>>().join("\n")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(bench: &Bench, arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = bench.wxtokend(arguments).output().unwrap();
    (status.code(), text(&stdout) + &text(&stderr))
}

fn platform_for(trials: &[Trial]) -> Arc<SimPlatform> {
    platform(|world| {
        for trial in trials {
            world.account(&trial.id, SECRET);
        }
    })
}

/// Short for the one that hangs, and long enough for the others on a machine that does much else.
const KEYS: &str = "timeout = \"8s\"\n";

#[test]
fn each_errcode_leaves_a_valid_token_and_says_what_to_do() {
    let trials = Trial::all();
    let platform = platform_for(&trials);
    let trials = Mutex::new(trials.iter());
    // They mostly wait.
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let next = || trials.lock().unwrap().next();
                while let Some(trial) = next() {
                    while_a_token_stands(trial, &platform);
                }
            });
        }
    });
}

fn while_a_token_stands(trial: &Trial, platform: &SimPlatform) {
    let (row, name) = (&trial.row, &trial.name);
    let bench = bench();
    bench.configure(platform, &(KEYS.to_owned() + &trial.account()));
    let daemon = bench.start();
    daemon.wait_until("fresh", || state(&bench, name) == "fresh");
    let logged = daemon.log().len();
    trial.strike(platform);
    trial.wait_for(&bench, &daemon);
    assert_eq!(state(&bench, name), "degraded");
    let token = in_file(&bench, name).unwrap();
    let begin = "WARN  NAME: cannot refresh access_token: ";
    let line = trial.look_at_log(&daemon, logged, begin);
    assert!(line.contains("; the present one is valid for "), "{line}");
    let (code, table) = run(&bench, &["status"]);
    assert_eq!(code, Some(1));
    let about = of_account(&table, name);
    assert!(about.contains("degraded"), "{about}");
    trial.must_tell(&about);
    trial.look_at(&bench, &daemon);
    let said = format!("0/1 accounts fresh; {name}: {}", row.brief);
    daemon.wait_until(&format!("STATUS={said}"), || {
        bench
            .manager
            .status()
            .is_some_and(|line| line.starts_with(&said))
    });

    let daemon = if trial.is_blocked() {
        over_a_restart(trial, platform, &bench, daemon)
    } else {
        daemon
    };
    assert_eq!(in_file(&bench, name).as_ref(), Some(&token));
    assert_eq!(in_socket(&bench, name), token);
    assert!(is_alive(platform, &token));
    trial.heal(platform);
    let refresh = || run(&bench, &["refresh", name]);
    match row.class {
        "transient" => {}
        // An administrator may try once what the platform said to wait for.
        _ => assert_eq!(refresh().0, Some(0)),
    }
    daemon.wait_until("fresh", || state(&bench, name) == "fresh");
    daemon.wait_until("the line that says so", || {
        daemon.log().contains(&format!("INFO  {name}: fresh again"))
    });
    daemon.wait_until("the status line", || {
        let status = bench.manager.status();
        status.is_some_and(|line| line.starts_with("1/1 accounts fresh; next refresh"))
    });
    let account = &status_json(&bench)["accounts"][0];
    assert!(account["last_error"].is_null(), "{account}");
    assert_eq!(run(&bench, &["status"]).0, Some(0));
    assert!(is_alive(platform, &in_file(&bench, name).unwrap()));
    daemon.terminate();
}

/// A block is slept out, whether the daemon runs or not.
fn over_a_restart<'a>(
    trial: &Trial,
    platform: &SimPlatform,
    bench: &'a Bench,
    daemon: RunningDaemon<'a>,
) -> RunningDaemon<'a> {
    let account = || get(bench, &format!("/v1/accounts/{}", trial.name)).json();
    let (before, calls) = (account(), token_calls(platform, &trial.id));
    daemon.terminate();
    let daemon = bench.start();
    trial.look_at(bench, &daemon);
    assert_eq!(account()["last_error"], before["last_error"]);
    assert_eq!(account()["state"], "degraded");
    assert_eq!(token_calls(platform, &trial.id), calls);
    daemon
}

#[test]
fn each_errcode_is_told_wherever_a_token_is_missed() {
    let trials = Trial::all();
    let (bench, platform) = (bench(), platform_for(&trials));
    let accounts: String = trials.iter().map(Trial::account).collect();
    bench.configure(&platform, &(KEYS.to_owned() + &accounts));
    for trial in &trials {
        trial.strike(&platform);
    }

    let (code, report) = run(&bench, &["check", "--online"]);
    assert_eq!(code, Some(69), "{report}");
    for trial in &trials {
        trial.must_tell(&of_account(&report, &trial.name));
    }

    let daemon = bench.start();
    for trial in &trials {
        trial.wait_for(&bench, &daemon);
    }
    let (code, table) = run(&bench, &["status"]);
    assert_eq!(code, Some(1));
    let all = status_json(&bench);
    for (trial, account) in trials.iter().zip(all["accounts"].as_array().unwrap()) {
        let name = &trial.name;
        assert_eq!(
            (&account["account"], &account["state"]),
            (&name.as_str().into(), &"expired".into())
        );
        trial.look_at(&bench, &daemon);
        let about = of_account(&table, name);
        assert!(about.contains("expired"), "{about}");
        trial.must_tell(&about);
        let line = trial.look_at_log(&daemon, 0, "ERROR NAME: no valid access_token: ");
        assert!(!line.contains("; the present one"), "{line}");
        let (code, said) = run(&bench, &["get", name]);
        assert_eq!(code, Some(69), "{said}");
        trial.must_tell(&said);
        assert!(said.contains("try again in "), "{said}");
        assert_eq!(
            (in_file(&bench, name), in_socket(&bench, name)),
            (None, String::new())
        );
    }

    platform.with(|world, _| world.heal_all());
    for trial in &trials {
        let name = &trial.name;
        if trial.row.class != "transient" {
            // Also what the platform said to wait for: an administrator may try once.
            let (code, said) = run(&bench, &["refresh", name]);
            assert_eq!(code, Some(0), "{said}");
        }
        daemon.wait_until("fresh", || state(&bench, name) == "fresh");
        assert!(is_alive(&platform, &in_file(&bench, name).unwrap()));
    }
    daemon.terminate();
}

#[test]
fn a_41002_that_comes_once_is_nobodys_business() {
    let trial = Trial::all().remove(0);
    let (bench, platform) = (bench(), platform_for(std::slice::from_ref(&trial)));
    bench.configure(&platform, &trial.account());
    let daemon = bench.start();
    let fault = SimFault::from(Effect::errcode(41002)).times(1);
    platform.with(|world, _| world.set_fault(fault));
    let calls = token_calls(&platform, &trial.id);
    daemon.wait_until("a call after the one that was refused", || {
        assert_eq!(state(&bench, &trial.name), "fresh");
        token_calls(&platform, &trial.id) >= calls + 2
    });
    let refused = platform.with(|world, _| {
        let log = &world.log().calls;
        log.iter()
            .filter(|call| call.outcome == "fault refuse")
            .count()
    });
    assert_eq!(refused, 1);
    let log = daemon.log_with(&["asking again: 41002 appid missing"]);
    let is_told =
        |line: &str| line.contains("41002") && (line.contains("WARN") || line.contains("ERROR"));
    assert!(!log.lines().any(is_told), "{log}");
    daemon.terminate();
}
