//! Every fault that an administrator can cause: where it is said to be, what is wrong, and what to do.

use crate::ConfigHost;

/// A host with things to stumble over.
pub(crate) fn host() -> ConfigHost {
    let host = ConfigHost::new();
    host.file("readable", 0o604, "0123456789abcdef0123456789abcdef");
    host.file("good.j2", 0o644, "{{ access_token }}");
    host.file("bad.j2", 0o644, "one\n{{ access_token");
    host.file("ticket.j2", 0o644, "{{ jsapi_ticket }}");
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    host.file("damaged.pem", 0o644, damaged);
    host.directory("open", 0o777);
    host.directory("sticky", 0o1777);
    host
}

/// Asserts that each text, put into its place by `complete`, has the faults that follow it and no others.
#[track_caller]
fn check(complete: impl Fn(&str) -> String, cases: &str) {
    let host = host();
    for case in cases.trim().split("\n\n") {
        let (faults, text): (Vec<_>, Vec<_>) =
            case.lines().partition(|line| line.starts_with("=> "));
        let faults: Vec<_> = faults.iter().map(|fault| &fault[3..]).collect();
        host.faults(&complete(&text.join("\n")), &faults);
    }
}

fn whole(text: &str) -> String {
    text.to_owned()
}

/// In the table of an account that is right, from line 4 on.
fn account(text: &str) -> String {
    format!("[accounts.shop]\nappid = 'wx0123456789abcdef'\nsecret_file = 'DIR/secret'\n{text}")
}

/// In the table of a file of such an account, from line 5 on.
fn file(text: &str) -> String {
    account(&format!("[[accounts.shop.file]]\n{text}"))
}

/// In the table of a socket of such an account, from line 5 on.
fn socket(text: &str) -> String {
    account(&format!("[[accounts.shop.socket]]\n{text}"))
}

#[test]
fn daemon() {
    check(
        whole,
        r#"
[daemon]
state_dir = 'var'
=> 2:13: `state_dir` "var" must be an absolute path: begin it with /

[daemon]
state_dir = 7
=> 2:13: `state_dir` 7 must be a text in quotes, not a number

[daemon]
state_dir = ''
=> 2:13: `state_dir` must not be empty

[daemon]
log_level = 'inof'
=> 2:13: `log_level` "inof" is unknown; did you mean "info"?

[daemon]
log_level = 'loud'
=> 2:13: `log_level` "loud" is unknown; use one of "error", "warn", "info", "debug", "trace"

[daemon]
log_level = 3
=> 2:13: `log_level` 3 must be a text in quotes, not a number

[daemon]
include = 'accounts.d/*.toml'
=> 2:11: `include` "accounts.d/*.toml" must be a list in [ ], not a text

[daemon]
include = ['*/shop.toml']
=> 2:12: `include` "*/shop.toml" must have its wildcards after the last /

[daemon]
include = ['..']
=> 2:12: `include` ".." must name a file

[daemon]
include = ['a/[.toml']
=> 2:12: `include` "a/[.toml" searches `DIR/a`, which does not exist: create that directory or correct the name

[daemon]
include = [1, 'none.toml']
=> 2:12: `include` 1 must be a text in quotes, not a number
=> 2:15: `include` "none.toml" names a file that is not there: create it, or use a pattern such as "accounts.d/*.toml"

[deamon]
state_dir = 7
=> 1:2: unknown key `deamon`; did you mean `daemon`?

daemon = 1
=> 1:10: `daemon` 1 must be a table, not a number

platform.'超时' = 1
platform.proxy = '超'
=> 1:10: unknown key `超时`; known here: `hosts`, `wecom_hosts`, `allow_http`, `connect_timeout`, `timeout`, `concurrency`, `ca_file`, `proxy`
=> 2:18: `proxy` "超" must be a URL such as "http://proxy.example:3128"

log_level = 'info'
=> 1:1: unknown key `log_level`; it belongs to [daemon]
"#,
    );
}

#[test]
fn api() {
    check(
        whole,
        r#"
[api]
socket = 'api.sock'
=> 2:10: `socket` "api.sock" must be an absolute path: begin it with /

[api]
socket = 'DIR/run/'
=> 2:10: `socket` "DIR/run/" must name more than a directory: end it with a name

[api]
socket = '/run/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'
=> 2:10: `socket` "/run/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" is 108 bytes long, and a socket's path holds at most 107: shorten it

[api]
socket = 'DIR/open/api.sock'
=> 2:10: `socket` "DIR/open/api.sock" stands in `DIR/open`, where anybody may replace it: run `chmod o-w DIR/open`, or set the sticky bit with `chmod +t DIR/open`

[api]
admins = 'root'
=> 2:10: `admins` "root" must be a list in [ ], not a text

[api]
admins = ['root', '@no-such-group', 'no-such-user', 7, '']
=> 2:19: `admins` "@no-such-group" names a group `no-such-group` that this host does not have: create it or correct the name ("name" is a user, "@name" a group)
=> 2:37: `admins` "no-such-user" names a user `no-such-user` that this host does not have: create it or correct the name ("name" is a user, "@name" a group)
=> 2:53: `admins` 7 must be a text in quotes, not a number
=> 2:56: `admins` must not be empty

[api]
metrics = '0.0.0.0:9480'
=> 2:11: `metrics` "0.0.0.0:9480" must be a loopback address: write 127.0.0.1 or [::1]

[api]
metrics = '192.168.1.1:9480'
=> 2:11: `metrics` "192.168.1.1:9480" must be a loopback address: write 127.0.0.1 or [::1]

[api]
metrics = 'localhost:9480'
=> 2:11: `metrics` "localhost:9480" must be an address and port, such as "127.0.0.1:9480"

[api]
metrics = 9480
=> 2:11: `metrics` 9480 must be a text in quotes, not a number
"#,
    );
}

#[test]
fn platform() {
    check(
        whole,
        r#"
[platform]
hosts = []
=> 2:9: `hosts` must name at least one host: leave the key out to use the platform's own

[platform]
hosts = ['api.weixin.qq.com', 'http://api.weixin.qq.com', 'ftp://127.0.0.1', 'https://CANARY:CANARY@example.org']
=> 2:10: `hosts` "api.weixin.qq.com" must be a URL such as "https://api.weixin.qq.com"
=> 2:31: `hosts` "http://api.weixin.qq.com" must begin with https://; http:// is for loopback addresses and the hosts in `allow_http`
=> 2:59: `hosts` "ftp://127.0.0.1" must be a URL such as "https://api.weixin.qq.com"
=> 2:78: `hosts` must not hold a user or password

[platform]
hosts = 'https://api.weixin.qq.com'
=> 2:9: `hosts` "https://api.weixin.qq.com" must be a list in [ ], not a text

[platform]
wecom_hosts = ['https://example.org?CANARY', 'http://127.0.0.1.example.org', 'http://[::2]', '']
=> 2:16: `wecom_hosts` must end after the host or the path: no query
=> 2:46: `wecom_hosts` "http://127.0.0.1.example.org" must begin with https://; http:// is for loopback addresses and the hosts in `allow_http`
=> 2:78: `wecom_hosts` "http://[::2]" must begin with https://; http:// is for loopback addresses and the hosts in `allow_http`
=> 2:94: `wecom_hosts` must not be empty

[platform]
connect_timeout = 3
=> 2:19: `connect_timeout` 3 must be a duration in quotes, such as "90s", "5m" or "1h30m"

[platform]
connect_timeout = '3'
=> 2:19: `connect_timeout` "3" must be a duration in quotes, such as "90s", "5m" or "1h30m"

[platform]
timeout = '0s'
=> 2:11: `timeout` "0s" must be more than 0s and at most 10m

[platform]
timeout = '11m'
=> 2:11: `timeout` "11m" must be more than 0s and at most 10m

[platform]
timeout = '-5s'
=> 2:11: `timeout` "-5s" must be a duration in quotes, such as "90s", "5m" or "1h30m"

[platform]
timeout = '1 month'
=> 2:11: `timeout` "1 month" must be a duration in quotes, such as "90s", "5m" or "1h30m"

[platform]
timeout = '1d'
=> 2:11: `timeout` "1d" must be a duration in quotes, such as "90s", "5m" or "1h30m"

[platform]
timeout = '5s ago'
=> 2:11: `timeout` "5s ago" must be a duration in quotes, such as "90s", "5m" or "1h30m"

[platform]
concurrency = 0
=> 2:15: `concurrency` 0 must be a whole number from 1 to 1024

[platform]
concurrency = '32'
=> 2:15: `concurrency` "32" must be a whole number from 1 to 1024

[platform]
concurrency = 1e3
=> 2:15: `concurrency` 1e3 must be a whole number from 1 to 1024

[platform]
concurrency = 99999999999999999999
=> 2:15: `concurrency` must be a whole number from 1 to 1024

[platform]
ca_file = 'none.pem'
=> 2:11: `ca_file` "none.pem" names `DIR/none.pem`, which cannot be read: no such file or directory; name a PEM file that the daemon may read

[platform]
ca_file = 'DIR/secret'
=> 2:11: `ca_file` "DIR/secret" names `DIR/secret`, which holds no certificate: it must be PEM, with BEGIN CERTIFICATE

[platform]
ca_file = 'damaged.pem'
=> 2:11: `ca_file` "damaged.pem" names `DIR/damaged.pem`, where a certificate is damaged: export it again as PEM

[platform]
proxy = 'socks5://proxy:1080'
=> 2:9: `proxy` "socks5://proxy:1080" must be a URL such as "http://proxy.example:3128"

[platform]
proxy = 'CANARY:CANARY@proxy:3128'
=> 2:9: `proxy` must be a URL such as "http://proxy.example:3128"

[platform]
proxy = 'http://CANARY:CANARY@proxy:3128/path'
=> 2:9: `proxy` must be a URL such as "http://proxy.example:3128"

[platform]
proxy = 'http://CANARY:CANARY@:3128'
=> 2:9: `proxy` must be a URL such as "http://proxy.example:3128"

[platform]
proxy = false
=> 2:9: `proxy` false must be a text in quotes, not true or false

[platform]
time-out = '3s'
poll_every = '5m'
=> 2:1: unknown key `time-out`; did you mean `timeout`?
=> 3:1: unknown key `poll_every`; it belongs to [accounts.NAME]
"#,
    );
}

#[test]
fn account_names_and_ids() {
    check(
        whole,
        r#"
accounts = []
=> 1:12: `accounts` must be a table, not a list

[accounts]
shop = 1
=> 2:8: `accounts.NAME` 1 must be a table, not a number

[accounts.Shop]
appid = 'wx0123456789abcdef'
secret_file = 'DIR/secret'
=> 1:11: the name of an account must be 1 to 64 of a-z, 0-9, - and _, and begin with a letter or digit

[accounts.'']
appid = 'wx0123456789abcdef'
secret_file = 'DIR/secret'
=> 1:11: the name of an account must be 1 to 64 of a-z, 0-9, - and _, and begin with a letter or digit

[accounts.-shop]
appid = 'wx0123456789abcdef'
secret_file = 'DIR/secret'
=> 1:11: the name of an account must be 1 to 64 of a-z, 0-9, - and _, and begin with a letter or digit

[accounts.'商店']
appid = 'wx0123456789abcde'
secret_file = 'DIR/secret'
=> 1:11: the name of an account must be 1 to 64 of a-z, 0-9, - and _, and begin with a letter or digit
=> 2:9: `appid` "wx0123456789abcde" must be wx and 16 hexadecimal digits

[accounts.shop]
=> 1:1: `appid` is missing: an account needs `appid` (公众号, 小程序) or `corpid` (企业微信)
=> 1:1: the secret is missing: give one of `secret_file`, `secret_credential` and `secret`

[accounts.shop]
appid = 'wx0123456789abcd-g'
secret_file = 'DIR/secret'
=> 2:9: `appid` "wx0123456789abcd-g" must be wx and 16 hexadecimal digits

[accounts.shop]
appid = 'gh_0123456789ab'
secret_file = 'DIR/secret'
=> 2:9: `appid` "gh_0123456789ab" is an 原始ID; write the AppID, which begins with wx: 微信公众平台 → 设置与开发 → 基本配置

[accounts.shop]
appid = 'ww0123456789abcdef'
secret_file = 'DIR/secret'
=> 2:9: `appid` "ww0123456789abcdef" is the id of a 企业微信: name it `corpid`

[accounts.shop]
appid = 123
secret_file = 'DIR/secret'
=> 2:9: `appid` 123 must be wx and 16 hexadecimal digits, in quotes

[accounts.shop]
corpid = 'wz0123456789abcdef'
secret_file = 'DIR/secret'
=> 2:10: `corpid` "wz0123456789abcdef" must be ww (or wx) and 16 letters or digits, or for 代开发 wp (or wo) and 32 characters in all

[accounts.shop]
appid = 'wx0123456789abcdef'
corpid = 'ww0123456789abcdef'
secret_file = 'DIR/secret'
=> 3:10: `corpid` "ww0123456789abcdef" stands beside `appid`: keep `appid` for 公众号 and 小程序, `corpid` for 企业微信

[accounts.shop]
appid = 'wx0123456789abcdef'
agentid = 7
secret_file = 'DIR/secret'
=> 3:11: `agentid` 7 is for 企业微信 only, beside `corpid`: remove it

[accounts.shop]
corpid = 'ww0123456789abcdef'
agentid = 0
secret_file = 'DIR/secret'
=> 3:11: `agentid` 0 must be a whole number, at least 1

[accounts.shop]
corpid = 'ww0123456789abcdef'
agentid = '1000002'
secret_file = 'DIR/secret'
=> 3:11: `agentid` "1000002" must be a whole number, at least 1

[accounts.shop]
corpid = 'ww0123456789abcdef'
method = 'classic'
secret_file = 'DIR/secret'
=> 3:10: `method` "classic" is not for 企业微信, which has only one: remove it

[accounts.shop]
appid = 'wx0123456789abcdef'
method = 'clasic'
secret_file = 'DIR/secret'
=> 3:10: `method` "clasic" is unknown; did you mean "classic"?
"#,
    );
}

#[test]
fn secrets() {
    check(
        whole,
        r#"
[accounts.shop]
appid = 'wx0123456789abcdef'
=> 1:1: the secret is missing: give one of `secret_file`, `secret_credential` and `secret`

[accounts.shop]
appid = 'wx0123456789abcdef'
secret_file = 'DIR/secret'
secret = 'CANARY'
=> 4:10: `secret` stands beside `secret_file`: keep one of them

[accounts.shop]
appid = 'wx0123456789abcdef'
secret_file = 'DIR/readable'
=> 3:15: `secret_file` "DIR/readable" names a file that everybody may read: run `chmod o-r DIR/readable`

[accounts.shop]
appid = 'wx0123456789abcdef'
secret_file = 'decafc0ffee0123456789abcdef01234'
=> 3:15: `secret_file` looks like the secret itself: put that into a file, and name the file here

[accounts.shop]
appid = 'wx0123456789abcdef'
secret_file = ['DIR/secret']
=> 3:15: `secret_file` must be a text in quotes, not a list

[accounts.shop]
appid = 'wx0123456789abcdef'
secret_credential = '../shop'
=> 3:21: `secret_credential` "../shop" must be the name of a credential, without a directory

[accounts.shop]
appid = 'wx0123456789abcdef'
secret = 12345
=> 3:10: `secret` must be a text in quotes

[accounts.shop]
appid = 'wx0123456789abcdef'
secret = ['CANARY']
=> 3:10: `secret` must be a text in quotes

[accounts.shop]
appid = 'wx0123456789abcdef'
secret = { CANARY = 'CANARY' }
=> 3:10: `secret` must be a text in quotes

[accounts.shop]
appid = 'wx0123456789abcdef'
secret = ' '
=> 3:10: `secret` cannot be used, the secret is empty: copy it from the platform's console again

[accounts.shop]
appid = 'wx0123456789abcdef'
secret = 'CANARY CANARY'
=> 3:10: `secret` cannot be used, the secret holds a character that no AppSecret has: copy it from the platform's console again

[accounts.shop]
appid = 'wx0123456789abcdef'
secrte = 'CANARY'
=> 1:1: the secret is missing: give one of `secret_file`, `secret_credential` and `secret`
=> 3:1: unknown key `secrte`; did you mean `secret`?

[accounts.shop]
appid = 'wx0123456789abcdef'
decafc0ffee0123456789abcdef01234 = ''
secret_file = 'DIR/secret'
=> 3:1: unknown key `…`; known here: `appid`, `corpid`, `agentid`, `secret_file`, `secret_credential`, `secret`, `method`, `readers`, `tickets`, `poll_every`, `refresh_at`, `verify_every`, `daily_budget`, `force_on_dead`, `file`, `socket`, `mirror`
"#,
    );
}

#[test]
fn account_keys() {
    check(
        account,
        r#"
readers = 'www-data'
=> 4:11: `readers` "www-data" must be a list in [ ], not a text

readers = ['root', 'no-such-user']
=> 4:20: `readers` "no-such-user" names a user `no-such-user` that this host does not have: create it or correct the name ("name" is a user, "@name" a group)

tickets = ['agent']
=> 4:12: `tickets` "agent" is unknown; use one of "jsapi", "wx_card"

tickets = ['jsapi_ticket']
=> 4:12: `tickets` "jsapi_ticket" is unknown; use one of "jsapi", "wx_card"

tickets = [true]
=> 4:12: `tickets` true must be a text in quotes, not true or false

poll_every = '5'
=> 4:14: `poll_every` "5" must be a duration in quotes, such as "90s", "5m" or "1h30m"

poll_every = '500ms'
=> 4:14: `poll_every` "500ms" must be "0s", or from 1s to 24h

poll_every = '25h'
=> 4:14: `poll_every` "25h" must be "0s", or from 1s to 24h

verify_every = 300
=> 4:16: `verify_every` 300 must be a duration in quotes, such as "90s", "5m" or "1h30m"

refresh_at = 1
=> 4:14: `refresh_at` 1 must be a number between 0 and 1, such as 0.5

refresh_at = 0.0
=> 4:14: `refresh_at` 0.0 must be a number between 0 and 1, such as 0.5

refresh_at = nan
=> 4:14: `refresh_at` nan must be a number between 0 and 1, such as 0.5

refresh_at = '50%'
=> 4:14: `refresh_at` "50%" must be a number between 0 and 1, such as 0.5

daily_budget = 0
=> 4:16: `daily_budget` 0 must be a whole number, at least 1

daily_budget = -1
=> 4:16: `daily_budget` -1 must be a whole number, at least 1

force_on_dead = 'yes'
=> 4:17: `force_on_dead` "yes" must be true or false, not a text

colour = 'red'
=> 4:1: unknown key `colour`; known here: `appid`, `corpid`, `agentid`, `secret_file`, `secret_credential`, `secret`, `method`, `readers`, `tickets`, `poll_every`, `refresh_at`, `verify_every`, `daily_budget`, `force_on_dead`, `file`, `socket`, `mirror`

path = 'DIR/run/shop.json'
=> 4:1: unknown key `path`; it belongs to [[accounts.NAME.file]]

file = 'DIR/run/shop.json'
=> 4:8: `file` "DIR/run/shop.json" must be a list of tables, each under its own heading in [[ ]], not a text

[accounts.shop.file]
path = 'DIR/run/shop.json'
=> 4:1: `file` must be a list of tables, each under its own heading in [[ ]], not a table
"#,
    );
}

#[test]
fn wecom() {
    check(
        whole,
        r#"
[accounts.corp]
corpid = 'ww0123456789abcdef'
secret_file = 'DIR/secret'
tickets = ['wx_card']
=> 4:12: `tickets` "wx_card" is unknown; use one of "jsapi", "agent"
"#,
    );
}

#[test]
fn files() {
    check(
        file,
        r#"
=> 4:1: `path` is missing: say where the value is to be found

path = 'shop.json'
=> 5:8: `path` "shop.json" must be an absolute path: begin it with /

path = './shop.json'
=> 5:8: `path` "./shop.json" must be an absolute path: begin it with /

path = 'DIR/run/'
=> 5:8: `path` "DIR/run/" must name more than a directory: end it with a name

path = 'DIR/run/..'
=> 5:8: `path` "DIR/run/.." must name more than a directory: end it with a name

path = "DIR/run/a\nb"
=> 5:8: `path` "DIR/run/a\nb" must not hold control characters

path = "DIR/run/a\u0000b"
=> 5:8: `path` "DIR/run/a\0b" must not hold control characters

path = 'DIR/missing/shop.json'
=> 5:8: `path` "DIR/missing/shop.json" stands in `DIR/missing`, which does not exist: create that directory, or choose a path below `DIR/run`, where directories are made

path = 'DIR/run/../missing/shop.json'
=> 5:8: `path` "DIR/run/../missing/shop.json" stands in `DIR/missing`, which does not exist: create that directory, or choose a path below `DIR/run`, where directories are made

path = 'DIR/secret/shop.json'
=> 5:8: `path` "DIR/secret/shop.json" stands in `DIR/secret`, which is not a directory: choose another path

path = 'DIR/open/shop.json'
=> 5:8: `path` "DIR/open/shop.json" stands in `DIR/open`, where anybody may replace it: run `chmod o-w DIR/open`, or set the sticky bit with `chmod +t DIR/open`

path = 'DIR/sticky/shop.json'
mode = '0641'
=> 6:8: `mode` "0641" lets everybody read the value: end it with 0, and name in `readers` who may

path = 'DIR/run/shop.json'
value = 'jsapi_ticket'
=> 6:9: `value` "jsapi_ticket" is a ticket that the account does not keep: add it to the account's `tickets`

path = 'DIR/run/shop.json'
value = 'acces_token'
=> 6:9: `value` "acces_token" is unknown; did you mean "access_token"?

path = 'DIR/run/shop.json'
value = 'ticket'
=> 6:9: `value` "ticket" is unknown; use one of "access_token", "jsapi_ticket", "wx_card_ticket", "agent_ticket"

path = 'DIR/run/shop.json'
format = 'yaml'
=> 6:10: `format` "yaml" is unknown; use one of "json", "raw", "php", "api", "env", "template"

path = 'DIR/run/shop.json'
format = 'template'
=> 4:1: `template` is missing: `format = "template"` needs the path of one

path = 'DIR/run/shop.json'
template = 'good.j2'
=> 6:12: `template` "good.j2" is for `format = "template"` only: set that, or remove it

path = 'DIR/run/shop.json'
format = 'json'
template = 'good.j2'
=> 7:12: `template` "good.j2" is for `format = "template"` only: set that, or remove it

path = 'DIR/run/shop.json'
format = 'template'
template = 'none.j2'
=> 7:12: `template` "none.j2" cannot be used: `DIR/none.j2`, no such file or directory

path = 'DIR/run/shop.json'
format = 'template'
template = 'bad.j2'
=> 7:12: `template` "bad.j2" cannot be used: `DIR/bad.j2`, line 2: syntax error: unexpected end of input, expected end of variable block

path = 'DIR/run/shop.json'
format = 'template'
template = 'ticket.j2'
=> 7:12: `template` "ticket.j2" cannot be used: `DIR/ticket.j2`, line 1: `jsapi_ticket` is not kept by the account; add "jsapi" to its `tickets`

path = 'DIR/run/shop.json'
mode = 640
=> 6:8: `mode` 640 must be an octal number in quotes: "0640"

path = 'DIR/run/shop.json'
mode = 0o640
=> 6:8: `mode` 0o640 must be an octal number in quotes: "0640"

path = 'DIR/run/shop.json'
mode = 'rw-r-----'
=> 6:8: `mode` "rw-r-----" must be an octal number in quotes, such as "0640"

path = 'DIR/run/shop.json'
mode = '0680'
=> 6:8: `mode` "0680" must be an octal number in quotes, such as "0640"

path = 'DIR/run/shop.json'
mode = '4640'
=> 6:8: `mode` "4640" must be at most "0777": no set-uid, set-gid or sticky bit

path = 'DIR/run/shop.json'
mode = '0644'
=> 6:8: `mode` "0644" lets everybody read the value: end it with 0, and name in `readers` who may

path = 'DIR/run/shop.json'
owner = 'no-such-user'
group = 'no-such-group'
=> 6:9: `owner` "no-such-user" names a user `no-such-user` that this host does not have: create it or correct the name ("name" is a user, "@name" a group)
=> 7:9: `group` "no-such-group" names a group `no-such-group` that this host does not have: create it or correct the name ("name" is a user, "@name" a group)

path = 'DIR/run/shop.json'
owner = '@root'
group = '@root'
=> 6:9: `owner` "@root" must be a user: for a group use `group`
=> 7:9: `group` "@root" must be the name of a group without @

path = 'DIR/run/shop.json'
readers = ['@no-such-group']
=> 6:12: `readers` "@no-such-group" names a group `no-such-group` that this host does not have: create it or correct the name ("name" is a user, "@name" a group)

path = 'DIR/run/shop.json'
on_expiry = 'stay'
=> 6:13: `on_expiry` "stay" is unknown; use one of "remove", "keep"

path = '/proc/shop.json'
readers = ['root']
=> 5:8: `path` "/proc/shop.json" is on a file system without ACLs, so `readers` cannot be let in: set `readers = []` here, and use `owner`, `group` and `mode`
"#,
    );
}

#[test]
fn sockets() {
    check(
        socket,
        r#"
path = '/run/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.sock'
=> 5:8: `path` "/run/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.sock" is 108 bytes long, and a socket's path holds at most 107: shorten it

path = 'DIR/run/shop.sock'
mode = '0666'
=> 6:8: `mode` "0666" lets everybody connect: end it with 0, and name in `readers` who may

path = 'DIR/run/shop.sock'
mode = '0666'
readers = ['no-such-user']
=> 7:12: `readers` "no-such-user" names a user `no-such-user` that this host does not have: create it or correct the name ("name" is a user, "@name" a group)

path = 'DIR/run/shop.sock'
on_expiry = 'keep'
=> 6:1: unknown key `on_expiry`; it belongs to [[accounts.NAME.file]]

path = 'DIR/run/api.sock'
=> 5:8: `path` "DIR/run/api.sock" is taken already, by `socket` at DIR/config.toml:1: choose another
"#,
    );
}

#[test]
fn line_that_is_not_toml_hides_no_other_fault() {
    check(
        whole,
        r#"
[daemon]
log_level = info
log_level = 'info' 'debug'
state_dir = 'var'
[api
[platform]
timeout = '3'
concurrency =
hosts = ['x', 'y'
=> 2:13: this is not valid TOML: invalid float, expected `inf`; put a text in quotes
=> 3:20: this is not valid TOML: unexpected key or value, expected newline, `#`; put a text in quotes
=> 4:13: `state_dir` must be an absolute path: begin it with /
=> 5:5: this is not valid TOML: unclosed table, expected `]`
=> 7:11: `timeout` must be a duration in quotes, such as "90s", "5m" or "1h30m"
=> 8:14: this is not valid TOML: string values must be quoted, expected literal string; put a text in quotes
=> 9:18: this is not valid TOML: unclosed array, expected `]`

[api]
metrics = '127.0.0.1:9480'
metrics = '127.0.0.1:9481'
[api]
socket = 1
=> 3:1: this is not valid TOML: duplicate key; keep one of the two
=> 4:2: this is not valid TOML: duplicate key; keep one of the two
=> 5:10: `socket` must be a text in quotes, not a number

[platform]
proxy = '商' x = 'CANARY'
hosts = ['http://x']
=> 2:13: this is not valid TOML: unexpected key or value, expected newline, `#`; put a text in quotes
=> 3:10: `hosts` must begin with https://; http:// is for loopback addresses and the hosts in `allow_http`
"#,
    );
}

#[test]
fn key_on_a_broken_line_is_not_called_missing() {
    check(
        whole,
        r#"
[accounts.shop]
appid = wx0123456789abcdef
secret_fil = x
[[accounts.shop.file]]
value = 'jsapi_ticket'
mode = 640
=> 2:9: this is not valid TOML: string values must be quoted, expected literal string; put a text in quotes
=> 3:14: this is not valid TOML: string values must be quoted, expected literal string; put a text in quotes
=> 6:8: `mode` must be an octal number in quotes: "0640"
"#,
    );
}
