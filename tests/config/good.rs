//! Configurations that are right, and what is made of them.

use crate as fixture;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use wxtokend::account::{
    Access, AccountName, Format, OnExpiry, Output, OutputKind, Principal, SecretSource,
};
use wxtokend::config::{Environment, Host, LogLevel};
use wxtokend::platform::wechat::{CLASSIC, STABLE};
use wxtokend::platform::wecom::GETTOKEN;
use wxtokend::value::ValueName;

/// A certificate that any host could have made.
pub(crate) const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUDeA4Tn793u+z01ZXbleumZEQZ2MwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIxNTE2NDNaGA8yMTI2MTAyOTE1MTY0
M1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABA6T
LCdd7T1xF1XrgkFoxz1fB6/ey/cSzfuhb4o0wVwhKkFGNzkHZfZAT9yAdvpeBZFC
NsdTChUD2FCRklgptsajUzBRMB0GA1UdDgQWBBS+jqTi6BlqNxFWMwZIrTyAw+tL
nzAfBgNVHSMEGDAWgBS+jqTi6BlqNxFWMwZIrTyAw+tLnzAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIAgpOI62cQ0AQWVd1QfCGtTJpqruL/retQqR
CH+DlZbuAiEA+UeAmmdSsd6nnMmCSaM3KkeqLNaXOomFNTj8itPGQTI=
-----END CERTIFICATE-----
";

const SHOP: &str = "[accounts.shop]\nappid = 'wx0123456789abcdef'\nsecret_file = 'DIR/secret'\n";

#[test]
fn an_empty_file_is_all_defaults() {
    let host = fixture::ConfigHost::new();
    let path = host.file("config.toml", 0o644, "");
    let config = wxtokend::config::load(&path, &Environment::default())
        .unwrap()
        .config;
    assert_eq!(config.path, path);
    assert_eq!(config.daemon.state_dir, Path::new("/var/lib/wxtokend"));
    assert_eq!(config.daemon.runtime_dir, Path::new("/run/wxtokend"));
    assert_eq!(config.daemon.log_level, LogLevel::Info);
    assert_eq!(config.api.socket, Path::new("/run/wxtokend/api.sock"));
    assert_eq!(config.api.admins[0], Principal::User("root".into(), 0));
    assert_eq!(config.api.metrics, None);
    let hosts: Vec<_> = config.platform.hosts[0]
        .hosts
        .iter()
        .map(Host::as_str)
        .collect();
    assert_eq!(
        hosts,
        ["https://api.weixin.qq.com", "https://api2.weixin.qq.com"]
    );
    assert_eq!(
        config.platform.hosts[1].hosts[0].as_str(),
        "https://qyapi.weixin.qq.com"
    );
    assert_eq!(config.platform.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.platform.timeout, Duration::from_secs(10));
    assert_eq!(config.platform.concurrency, 32);
    assert_eq!(config.platform.ca_file, None);
    assert_eq!(config.platform.proxy, None);
    assert!(config.accounts.is_empty());
}

#[test]
fn an_account_has_defaults_of_its_method() {
    let host = fixture::ConfigHost::new();
    let config = host.good(&format!(
        "{SHOP}
         [accounts.old]
         appid = 'wx00000000000000AA'
         secret = 'inline'
         method = 'classic'
         [accounts.corp]
         corpid = 'ww0123456789abcdef'
         secret = 'inline'
         [[accounts.corp.file]]
         path = 'DIR/run/not/yet/there.json'
         [[accounts.corp.socket]]
         path = 'DIR/run/corp.sock'"
    ));
    let [corp, old, shop] = ["corp", "old", "shop"].map(|name| Arc::clone(&config.accounts[name]));
    assert_eq!(shop.terms, STABLE);
    assert_eq!(shop.secret, SecretSource::File(host.path("secret")));
    assert_eq!(shop.poll_every, Duration::from_secs(300));
    assert_eq!(shop.verify_every, Duration::ZERO);
    assert!((shop.refresh_at - 0.5).abs() < f64::EPSILON);
    assert_eq!(shop.daily_budget, 10_000);
    assert!(!shop.force_on_dead && shop.readers.is_empty() && shop.tickets.is_empty());
    assert_eq!((old.terms, old.daily_budget), (CLASSIC, 1000));
    assert_eq!((corp.terms, corp.daily_budget), (GETTOKEN, 5000));
    assert_eq!((&*corp.id, corp.agentid), ("ww0123456789abcdef", None));
    let access = Access {
        mode: 0o600,
        owner: None,
        group: None,
        readers: [].into(),
    };
    let output = |kind, name| Output {
        kind,
        path: host.path(name).into(),
        value: ValueName::AccessToken,
        format: Format::Json,
        access: access.clone(),
    };
    let expected = [
        output(OutputKind::File(OnExpiry::Remove), "run/not/yet/there.json"),
        output(OutputKind::Socket, "run/corp.sock"),
    ];
    assert_eq!(*corp.outputs, expected);
}

#[test]
#[expect(clippy::too_many_lines, reason = "there is that much to set")]
fn everything_can_be_set() {
    let mut host = fixture::ConfigHost::new();
    host.env.credentials_dir = Some(host.path("credentials"));
    host.directory("out", 0o755);
    host.file("ca.pem", 0o644, &CERTIFICATE.repeat(2));
    std::os::unix::fs::symlink("ca.pem", host.path("link.pem")).unwrap();
    host.file("x.j2", 0o644, "{{ access_token }}");
    let config = host.good(
        "[daemon]
         state_dir = '/var/lib//other/'
         log_level = 'debug'
         [api]
         socket = 'DIR/out/api.sock'
         admins = ['@root', '4711', '@4711', 'root', '0']
         metrics = '[::1]:9480'
         [platform]
         hosts = ['http://127.0.0.1:8080/', 'http://localhost', 'http://[::1]:1']
         wecom_hosts = ['https://example.org:443']
         connect_timeout = '500ms'
         timeout = '1m30s'
         concurrency = 0x10
         ca_file = 'link.pem'
         proxy = 'http://user:word@proxy:3128'
         [accounts.shop]
         appid = 'wx0123456789abcdef'
         secret_credential = 'shop'
         method = 'stable'
         readers = ['root']
         tickets = ['wx_card', 'jsapi', 'jsapi']
         poll_every = '0s'
         refresh_at = 0.75
         verify_every = '1h30m'
         daily_budget = 7
         force_on_dead = true
         [[accounts.shop.file]]
         path = 'DIR/out/../out/./shop.json'
         value = 'wx_card_ticket'
         format = 'template'
         template = 'x.j2'
         mode = '640'
         owner = 'root'
         group = '4711'
         on_expiry = 'keep'
         [[accounts.shop.socket]]
         path = 'DIR/out/shop.sock'
         format = 'raw'
         mode = '0666'
         [[accounts.shop.socket]]
         path = 'DIR/out/open.sock'
         readers = []
         [accounts.corp]
         corpid = 'wx0123456789ABCdef'
         agentid = 1_000_002
         secret_file = 'nowhere/at/all'
         tickets = ['agent']",
    );
    assert_eq!(config.daemon.state_dir, Path::new("/var/lib/other"));
    assert_eq!(config.daemon.log_level, LogLevel::Debug);
    let admins: Vec<_> = config.api.admins.iter().map(ToString::to_string).collect();
    assert_eq!(admins, ["@root", "4711", "@4711", "root"]);
    assert_eq!(
        config.api.metrics,
        Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9480)))
    );
    let hosts: Vec<_> = config.platform.hosts[0]
        .hosts
        .iter()
        .map(Host::as_str)
        .collect();
    assert_eq!(
        hosts,
        [
            "http://127.0.0.1:8080",
            "http://localhost",
            "http://[::1]:1"
        ]
    );
    assert_eq!(
        config.platform.hosts[1].hosts[0].as_str(),
        "https://example.org"
    );
    assert_eq!(config.platform.connect_timeout, Duration::from_millis(500));
    assert_eq!(config.platform.timeout, Duration::from_secs(90));
    assert_eq!(config.platform.concurrency, 16);
    assert_eq!(config.platform.ca_file, Some(host.path("link.pem")));
    assert_eq!(
        config.platform.proxy.as_ref().unwrap().expose(),
        "http://user:word@proxy:3128"
    );

    let shop = &config.accounts["shop"];
    assert_eq!(
        shop.secret,
        SecretSource::File(host.path("credentials/shop"))
    );
    assert_eq!(
        *shop.tickets,
        [ValueName::JsapiTicket, ValueName::WxCardTicket]
    );
    assert_eq!(
        (shop.poll_every, shop.verify_every),
        (Duration::ZERO, Duration::from_secs(5400))
    );
    assert_eq!(
        (shop.refresh_at, shop.daily_budget, shop.force_on_dead),
        (0.75, 7, true)
    );
    let [file, socket, open] = &*shop.outputs else {
        panic!("{:?}", shop.outputs)
    };
    assert_eq!(*file.path, *host.path("out/shop.json"));
    assert_eq!(file.kind, OutputKind::File(OnExpiry::Keep));
    assert_eq!(file.value, ValueName::WxCardTicket);
    assert!(
        matches!(&file.format, Format::Template(template) if template.path() == host.path("x.j2"))
    );
    assert_eq!(
        (file.access.mode, file.access.owner, file.access.group),
        (0o640, Some(0), Some(4711))
    );
    assert!(Arc::ptr_eq(&file.access.readers, &shop.readers));
    assert_eq!(
        (socket.kind, &socket.format, socket.access.mode),
        (OutputKind::Socket, &Format::Raw, 0o666)
    );
    assert!(open.access.readers.is_empty());

    let corp = &config.accounts["corp"];
    assert_eq!(corp.agentid, Some(1_000_002));
    assert_eq!(corp.secret, SecretSource::File(host.path("nowhere/at/all")));
}

#[test]
fn included_files_add_accounts() {
    let host = fixture::ConfigHost::new();
    let account = |id: &str| {
        format!("[accounts.{id}]\nappid = 'wx0123456789abcde{id}'\nsecret_file = 'secret'\n")
    };
    host.file("accounts.d/a.toml", 0o644, &account("a"));
    host.file("accounts.d/b.toml", 0o644, &account("b"));
    for ignored in [".hidden.toml", "b.toml~", "b.toml.rpmsave", "README"] {
        host.file(&format!("accounts.d/{ignored}"), 0o644, "not = [ toml");
    }
    host.file("one", 0o644, &account("c"));
    let config = host
        .good("[daemon]\ninclude = ['accounts.d/*.toml', 'DIR/accounts.d/a*', 'one', '*.toml']");
    assert_eq!(
        config
            .accounts
            .keys()
            .map(AccountName::as_str)
            .collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    // Relative to the file that names it.
    assert_eq!(
        config.accounts["a"].secret,
        SecretSource::File(host.path("accounts.d/secret"))
    );
}
