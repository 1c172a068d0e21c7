//! Requests as SDKs send them, and the platform's habits in what they get.

use crate::fixture::{CORP, SECRET, SHOP, Stage, key, stable_body, token_target};
use crate::http::HttpClient;
use std::time::Duration;
use wxtokend::sim::Effect;

const LIFE: Duration = Duration::from_secs(7200);

#[test]
fn sdks_are_answered_as_by_the_platform() {
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    let daemon = stage.start();
    let mut client = stage.client();
    let cms = key("shop", "cms");
    let classic = client.get(&token_target(SHOP, cms));
    let token = classic.token();
    assert!(stage.is_alive(&token));
    assert_eq!(classic.expires_in(), 120);
    // As the platform answers: no errcode, nothing else.
    assert_eq!(
        classic.body,
        format!(r#"{{"access_token":"{token}","expires_in":120}}"#)
    );
    let json = stable_body(SHOP, cms, false);
    // Who sends what, as read in their sources: EasyWeChat, WxJava, Senparc, silenceper, PowerWeChat, wechatpy, co-wechat-api.
    let gets = [
        // EasyWeChat 4 and 5, and 6 with `use_stable_access_token` false.
        format!("/cgi-bin/token?grant_type=client_credential&appid={SHOP}&secret={cms}"),
        // WxJava: an api-host that ends in a slash; parameters in their order.
        format!("//cgi-bin/token?grant_type=client_credential&appid={SHOP}&secret={cms}"),
        // Senparc: the same with parameters that it escapes.
        format!(
            "/cgi-bin/token?grant_type=client%5Fcredential&appid={SHOP}&secret={}",
            cms.replace('-', "%2D")
        ),
        // co-wechat-api: prefix ends in a slash.
        format!("/cgi-bin/token?grant_type=client_credential&appid={SHOP}&secret={cms}&"),
        // Hand-written PHP.
        format!("/cgi-bin/token?&secret={cms}&appid={SHOP}&grant_type=client_credential"),
        // An absolute address, as through a proxy.
        format!(
            "http://{}/cgi-bin/token?grant_type=client_credential&appid={SHOP}&secret={cms}",
            stage.address
        ),
    ];
    for target in gets {
        assert_eq!(client.get(&target).token(), token, "{target}");
    }
    let posts = [
        ("/cgi-bin/stable_token", "application/json"),
        ("/cgi-bin/stable_token", "application/json; charset=utf-8"),
        ("//cgi-bin/stable_token", "text/plain"),
        ("/cgi-bin/stable_token", "application/x-www-form-urlencoded"),
        ("/cgi-bin/stable_token?", ""),
    ];
    for (target, content_type) in posts {
        let answer = client.post(target, content_type, &json);
        assert_eq!(answer.token(), token, "{target} {content_type}");
    }
    // .NET asks first whether it may send a body.
    let length = json.len();
    let expecting = format!(
        "POST /cgi-bin/stable_token HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{json}"
    );
    assert_eq!(client.send(&expecting).token(), token);
    for target in [
        format!("/cgi-bin/ticket/getticket?access_token={token}&type=jsapi"),
        format!("/cgi-bin/ticket/getticket?&type=jsapi&access_token={token}"),
        format!("//cgi-bin/ticket/getticket?type=jsapi&access_token={token}&"),
    ] {
        let answer = client.get(&target);
        let ticket = answer.token();
        assert!(stage.is_alive(&ticket), "{target}");
        assert_eq!(
            answer.body,
            format!(r#"{{"errcode":0,"errmsg":"ok","ticket":"{ticket}","expires_in":120}}"#)
        );
    }
    drop(client);
    daemon.terminate();
}

#[test]
fn the_secret_alone_tells_the_agents_of_a_corp_apart() {
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    let daemon = stage.start();
    let mut client = stage.client();
    let mut token = |account, app| {
        let key = key(account, app);
        let answer = client.get(&format!("/cgi-bin/gettoken?corpid={CORP}&corpsecret={key}"));
        assert_eq!(answer.json()["errcode"], 0, "{answer:?}");
        assert_eq!(answer.json()["errmsg"], "ok");
        answer.token()
    };
    let (office, door) = (token("office", "erp"), token("door", "lock"));
    assert_ne!(office, door);
    let mut ticket =
        |token: &str, target: &str| client.get(&target.replace("TOKEN", token)).token();
    for target in [
        "/cgi-bin/get_jsapi_ticket?access_token=TOKEN",
        "/cgi-bin/ticket/get?access_token=TOKEN&type=agent_config",
        // WxJava
        "/cgi-bin/ticket/get?&type=agent_config&access_token=TOKEN",
    ] {
        let tickets = [ticket(&office, target), ticket(&door, target)];
        assert!(
            tickets.iter().all(|ticket| stage.is_alive(ticket)),
            "{target}"
        );
        assert_ne!(tickets[0], tickets[1], "{target}");
    }
    drop(client);
    daemon.terminate();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn errors_are_the_platforms_with_http_200() {
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    let daemon = stage.start();
    let mut client = stage.client();
    let cms = key("shop", "cms");
    let erp = key("office", "erp");
    let shop = client.get(&token_target(SHOP, cms)).token();
    let corp = client
        .get(&format!("/cgi-bin/gettoken?corpid={CORP}&corpsecret={erp}"))
        .token();
    let wechat: &[(i64, &str)] = &[
        (
            40013,
            "/cgi-bin/token?grant_type=client_credential&appid=wx9999999999999999&secret=KEY",
        ),
        (
            40125,
            "/cgi-bin/token?grant_type=client_credential&appid=APPID&secret=wrong",
        ),
        (40002, "/cgi-bin/token?appid=APPID&secret=KEY"),
        (
            41002,
            "/cgi-bin/token?grant_type=client_credential&appid=&secret=KEY",
        ),
        (
            41004,
            "/cgi-bin/token?grant_type=client_credential&appid=APPID",
        ),
        (
            40013,
            "/cgi-bin/token?grant_type=client_credential&appid=CORPID&secret=ERP",
        ),
        (
            43002,
            "/cgi-bin/stable_token?grant_type=client_credential&appid=APPID&secret=KEY",
        ),
        (41001, "/cgi-bin/ticket/getticket?type=jsapi"),
        (
            40001,
            "/cgi-bin/ticket/getticket?access_token=69_not-ours&type=jsapi",
        ),
        (
            40001,
            "/cgi-bin/ticket/getticket?access_token=CORP&type=jsapi",
        ),
        (
            40097,
            "/cgi-bin/ticket/getticket?access_token=TOKEN&type=no",
        ),
        // The account keeps no ticket for cards.
        (
            -1,
            "/cgi-bin/ticket/getticket?access_token=TOKEN&type=wx_card",
        ),
        (40066, "/cgi-bin/menu/get?access_token=TOKEN"),
        (40066, "/"),
    ];
    let wecom: &[(i64, &str)] = &[
        (
            40013,
            "/cgi-bin/gettoken?corpid=ww9999999999999999&corpsecret=ERP",
        ),
        (40013, "/cgi-bin/gettoken?corpid=APPID&corpsecret=KEY"),
        (40001, "/cgi-bin/gettoken?corpid=CORPID&corpsecret=wrong"),
        (41004, "/cgi-bin/gettoken?corpid=CORPID&corpsecret="),
        (40001, "/cgi-bin/get_jsapi_ticket?access_token=TOKEN"),
        (40001, "/cgi-bin/get_jsapi_ticket?access_token=not-ours"),
    ];
    for (rows, mark) in [(wechat, " rid: "), (wecom, ", hint: [")] {
        for (errcode, target) in rows {
            let target = (target.replace("APPID", SHOP).replace("KEY", cms))
                .replace("CORPID", CORP)
                .replace("ERP", erp)
                .replace("TOKEN", &shop)
                .replace("CORP", &corp);
            let answer = client.get(&target);
            assert_eq!(answer.errcode(), *errcode, "{target}: {answer:?}");
            assert!(answer.errmsg().contains(mark), "{answer:?}");
        }
    }
    let answer = client.post("/cgi-bin/stable_token", "application/json", "appid=1");
    assert_eq!(answer.errcode(), 47001);
    let answer = client.post(&token_target(SHOP, cms), "application/json", "{}");
    assert_eq!(answer.errcode(), 43001);
    let answer = client.send(&format!(
        "DELETE {} HTTP/1.1\r\nHost: x\r\n\r\n",
        token_target(SHOP, cms)
    ));
    assert_eq!(answer.errcode(), 43001);
    let head = client.send(&format!(
        "HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n",
        token_target(SHOP, cms)
    ));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(
        client.get(&token_target(SHOP, cms)).errcode() == 0,
        "and the connection is kept"
    );
    let log = daemon.log_with(&["add \"wx_card\" to its `tickets`", "`/cgi-bin/menu/get`"]);
    assert!(!log.contains("CANARY"), "{log}");
    drop(client);
    daemon.terminate();
}

#[test]
fn without_a_value_it_is_the_system_that_is_busy() {
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    stage.platform.with(|world, _| {
        world.set_fault(
            Effect::Refuse {
                errcode: -1,
                errmsg: None,
            }
            .into(),
        );
    });
    let daemon = stage.start_without_values();
    let answer = stage.ask(SHOP, key("shop", "cms"));
    assert_eq!(answer.errcode(), -1);
    assert!(
        answer.errmsg().starts_with("system error rid: "),
        "{answer:?}"
    );
    let forced = stage.ask_stable(SHOP, key("shop", "cms"), true);
    assert_eq!(forced.errcode(), -1);
    daemon.terminate();
}

#[test]
fn the_unix_socket_answers_as_well_and_asks_for_keys_too() {
    crate::root::needs_root!();
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    let daemon = stage.start();
    let path = stage.bench.path("run/mirror.sock");
    let ask = |key: &str| HttpClient::connect_unix(&path).get(&token_target(SHOP, key));
    let token = crate::common::as_user(65534, 65534, &[], || ask(key("shop", "cms"))).token();
    assert!(stage.is_alive(&token));
    assert_eq!(ask("wrong").errcode(), 40125);
    assert_eq!(ask(SECRET).errcode(), 40125);
    daemon.terminate();
    let daemon = stage.start();
    assert_eq!(ask(key("shop", "cms")).token(), token, "after a restart");
    daemon.terminate();
}
