//! The platform's answers: who calls, what goes wrong, what is granted and what refused.

use super::account::SimAccount;
use super::call::{Denial, Endpoint, Params, SimRequest};
use super::control;
use super::fault::{Effect, SimFault};
use super::line::TokenLine;
use super::quota::Quota;
use super::record::CallRecord;
use super::reply::Reply;
use super::token::{Token, millis};
use super::world::World;
use crate::platform::Platform;
use crate::platform::wechat::WECHAT;
use crate::platform::wecom::WECOM;
use serde_json::{Value as Json, json};
use std::net::IpAddr;
use std::sync::Arc;

/// The origin and the target of a call.
pub(super) struct Context {
    pub(super) now: i64,
    pub(super) endpoint: Endpoint,
    /// The account that called, by index.
    caller: Option<usize>,
    /// The address that the platform sees.
    ip: IpAddr,
}

impl World {
    /// Answers a request that arrives at `now`.
    pub fn handle(&mut self, now: i64, request: &SimRequest<'_>) -> Reply {
        if let Some(reply) = control::handle(self, now, request) {
            return reply;
        }
        if request.path == "/redirected" {
            self.log.followed_redirects += 1;
            return Reply::json(&json!({"access_token": "redirected", "expires_in": 7200}));
        }
        let Some(endpoint) = Endpoint::at(request.path) else {
            return Reply::page(404, "<html><h1>404 Not Found</h1></html>");
        };
        if request.chunked {
            return Reply::page(412, "<html><h1>412 Precondition Failed</h1></html>");
        }
        let params = Params::of(endpoint, request);
        let caller = match &params {
            Ok(params) => self.caller(endpoint, params),
            Err(_) => None,
        };
        match caller {
            Some(index) => self.members[index].calls[endpoint as usize] += 1,
            None => self.log.strangers += 1,
        }
        let call = Context {
            now,
            endpoint,
            caller,
            ip: caller
                .and_then(|index| self.members[index].account.seen_as)
                .unwrap_or(request.remote_ip),
        };
        let fault = self.strike(&call);
        let works = fault.as_ref().is_none_or(|f| f.works || f.effect.alters());
        let answer = if works {
            params.and_then(|params| self.answer(&call, &params))
        } else {
            Ok(Json::Null)
        };
        self.log.push(CallRecord {
            at: now,
            account: caller.map(|index| self.members[index].account.key()),
            endpoint,
            outcome: match (&fault, &answer) {
                (Some(fault), _) => format!("fault {}", fault.effect.name()),
                (None, Err(refusal)) => format!("errcode {}", refusal.errcode),
                (None, Ok(_)) => "ok".into(),
            },
        });
        let answer = match fault.as_ref().map(|fault| &fault.effect) {
            Some(Effect::Refuse { errcode, errmsg }) => Err(match errmsg {
                Some(errmsg) => Denial::saying(*errcode, errmsg.clone()),
                None => Denial::of(*errcode),
            }),
            _ => answer,
        };
        let answer = answer.unwrap_or_else(|refusal| self.refused(&call, refusal));
        let account = caller.map(|index| &self.members[index].account);
        let content_type = account.map(|account| account.content_type);
        let truth = Reply {
            content_type: content_type.unwrap_or_default().as_str(),
            ..Reply::json(&answer)
        };
        let mut reply = match fault {
            Some(fault) => fault.strike(request, truth),
            None => truth,
        };
        reply.caller = caller;
        reply
    }

    /// The account that called, right secret or not.
    fn caller(&mut self, endpoint: Endpoint, params: &Params<'_>) -> Option<usize> {
        if !endpoint.takes_secret() {
            let token = self.tokens.get(params.access_token.as_deref()?)?;
            return Some(token.account);
        }
        let (id, secret) = (
            params.id.as_deref()?,
            params.secret.as_deref().unwrap_or(""),
        );
        let apps = self.apps(id);
        let right = |i: &&usize| self.members[**i].account.secret == secret;
        if let Some(&index) = apps.iter().find(right).or(apps.first()) {
            return Some(index);
        }
        let model = self.any_account.clone()?;
        Some(self.add(SimAccount {
            id: id.into(),
            secret: secret.into(),
            ..model
        }))
    }

    /// The fault that strikes a call, counted down.
    fn strike(&mut self, call: &Context) -> Option<SimFault> {
        let account = call.caller.map(|index| &self.members[index].account);
        let strikes = |fault: &SimFault| {
            fault.endpoint.is_none_or(|at| at == call.endpoint)
                && fault.account.as_deref().is_none_or(|key| {
                    account.is_some_and(|account| account.id == key || account.key() == key)
                })
        };
        let position = self.faults.iter().position(strikes)?;
        let fault = self.faults[position].clone();
        if let Some(times) = &mut self.faults[position].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.faults.remove(position);
            }
        }
        Some(fault)
    }

    /// The true answer.
    fn answer(&mut self, call: &Context, params: &Params<'_>) -> Result<Json, Denial> {
        let &Context { now, endpoint, .. } = call;
        let index = if endpoint.takes_secret() {
            self.authenticate(call, params)?
        } else {
            self.check_token(call, params)?
        };
        self.count_usage(call, index)?;
        let line = match (endpoint, params.ticket.as_deref()) {
            (Endpoint::Token, _) => TokenLine::Classic,
            (Endpoint::StableToken, _) => TokenLine::Stable,
            (Endpoint::GetToken, _) => TokenLine::Wecom,
            (Endpoint::GetTicket, Some("jsapi")) | (Endpoint::GetJsapiTicket, _) => {
                TokenLine::Jsapi
            }
            (Endpoint::GetTicket, Some("wx_card")) => TokenLine::WxCard,
            (Endpoint::AgentTicket, Some("agent_config")) => TokenLine::Agent,
            (Endpoint::GetTicket | Endpoint::AgentTicket, _) => return Err(Denial::of(40097)),
            (Endpoint::QuotaGet, _) => return self.count_of(now, index, params),
            (Endpoint::ClearQuota, _) => return self.clear_counts(now, index),
            (Endpoint::ApiDomainIp | Endpoint::CallbackIp, _) => {
                return Ok(json!({"ip_list": ["101.226.103.0/25"]}));
            }
            (Endpoint::MenuGet, _) => return Ok(json!({"menu": {"button": []}})),
        };
        if params.force_refresh {
            self.force(now, index)?;
        }
        let (value, expires_in) = self.fetch(now, index, line);
        Ok(match line {
            TokenLine::Classic | TokenLine::Stable => {
                json!({"access_token": value, "expires_in": expires_in})
            }
            TokenLine::Wecom => {
                json!({"errcode": 0, "errmsg": "ok", "access_token": value, "expires_in": expires_in})
            }
            TokenLine::Jsapi | TokenLine::WxCard | TokenLine::Agent => {
                json!({"errcode": 0, "errmsg": "ok", "ticket": value, "expires_in": expires_in})
            }
        })
    }

    fn authenticate(&self, call: &Context, params: &Params<'_>) -> Result<usize, Denial> {
        let platform = call.endpoint.platform().unwrap_or(WECHAT);
        let grants = call.endpoint.grants_tokens();
        if platform == WECHAT && grants && params.grant_type.as_deref() != Some("client_credential")
        {
            return Err(Denial::of(40002));
        }
        if params.id.is_none() {
            let key = platform.ids.key;
            return Err(Denial::saying(41002, format!("{key} missing")));
        }
        let Some(secret) = &params.secret else {
            let key = platform.ids.key.replace("id", "secret");
            return Err(Denial::saying(41004, format!("{key} missing")));
        };
        let index = call
            .caller
            .filter(|&index| self.members[index].account.platform() == platform)
            .ok_or_else(|| Denial::of(40013))?;
        let account = &self.members[index].account;
        check_ip(account, call.ip)?;
        if account.secret != *secret {
            let errcode = if platform == WECOM { 40001 } else { 40125 };
            return Err(Denial::of(errcode));
        }
        Ok(index)
    }

    fn check_token(&self, call: &Context, params: &Params<'_>) -> Result<usize, Denial> {
        let now = call.now;
        let value = params.access_token.as_deref();
        let value = value.ok_or_else(|| Denial::of(41001))?;
        let is_of = |platform: &Platform, token: &Token| {
            (token.line == TokenLine::Wecom) == (platform == WECOM)
        };
        let platform = call.endpoint.platform();
        let token = self
            .tokens
            .get(value)
            .filter(|token| token.line.is_token())
            .filter(|token| platform.is_none_or(|platform| is_of(platform, token)))
            .ok_or_else(|| Denial::of(40014))?;
        let settling = millis(self.members[token.account].account.settle);
        if now >= token.expires {
            Err(Denial::of(42001))
        } else if !token.is_alive(now) && token.line == TokenLine::Wecom {
            Err(Denial::of(40014))
        } else if !token.is_alive(now) || now < token.minted + settling {
            Err(Denial::of(40001))
        } else {
            Ok(token.account)
        }
    }

    /// A forced refresh: ends the standing stable token at once, unless the last one was too short a while ago.
    fn force(&mut self, now: i64, index: usize) -> Result<(), Denial> {
        const A_DAY: Quota = Quota {
            minute: None,
            hour: None,
            day: Some(20),
        };
        let member = &mut self.members[index];
        let gap = millis(member.account.force_gap);
        if member.last_forced.is_some_and(|last| now < last + gap) {
            return Ok(());
        }
        if let Some(errcode) = member.forced.refusal(now, A_DAY) {
            return Err(Denial::of(errcode));
        }
        member.forced.count(now);
        member.last_forced = Some(now);
        let history = &member.histories[TokenLine::Stable as usize];
        self.tokens.end(history, now, false);
        Ok(())
    }

    /// The value of a line and its `expires_in`: whole seconds, rounded down. A value with less than a second left is not
    /// given any more: it could be said to last 0 seconds, or longer than it does.
    pub(super) fn fetch(&mut self, now: i64, index: usize, line: TokenLine) -> (Arc<str>, i64) {
        let member = &mut self.members[index];
        let account = &member.account;
        let history = &mut member.histories[line as usize];
        let window = account.window(line);
        let seconds = |millis: i64| millis / 1000;
        if let Some((value, token)) = self.tokens.standing(history, now)
            && token.expires - now > millis(window)
            && token.expires - now >= 1000
        {
            let looks_new = !line.is_token() && account.ticket_looks_new;
            let from = if looks_new { token.minted } else { now };
            return (value.clone(), seconds(token.expires - from));
        }
        if matches!(line, TokenLine::Classic | TokenLine::Stable) {
            let end = now + millis(account.overlap());
            self.tokens.end(history, end, false);
        }
        let value = self.tokens.mint(history, (index, account), line, now);
        member.minted[line as usize] += 1;
        let remaining = self.tokens.get(&value).map_or(0, |t| t.expires - now);
        (value, seconds(remaining))
    }

    /// The body of a refusal, in the words of 公众号 or 企业微信.
    fn refused(&mut self, call: &Context, refusal: Denial) -> Json {
        let account = call.caller.map(|index| &self.members[index].account);
        let platform = account
            .map(SimAccount::platform)
            .or(call.endpoint.platform());
        let Denial { errcode, errmsg } = refusal;
        let errmsg = if platform == Some(WECOM) {
            let Context { now, ip, .. } = call;
            let more = "more info at https://open.work.weixin.qq.com/devtool/query?e=";
            format!("{errmsg}, hint: [{now}], from ip: {ip}, {more}{errcode}")
        } else {
            format!("{errmsg} rid: {}", self.tokens.rid(call.now))
        };
        json!({"errcode": errcode, "errmsg": errmsg})
    }
}

fn check_ip(account: &SimAccount, ip: IpAddr) -> Result<(), Denial> {
    let allowed = account.whitelist.as_ref();
    if allowed.is_none_or(|allowed| allowed.contains(&ip)) {
        return Ok(());
    }
    if account.platform() == WECOM {
        return Err(Denial::saying(60020, "not allow to access from your ip"));
    }
    let mapped = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let errmsg = format!("invalid ip {ip} ipv6 {mapped}, not in whitelist");
    Err(Denial::saying(40164, errmsg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Kill;
    use proptest::prelude::*;
    use std::time::Duration;

    const APP: &str = "wx0123456789abcdef";
    const CORP: &str = "ww0123456789abcdef";
    /// Noon in UTC+8.
    const NOON: i64 = 1_700_020_800_000;
    const SECOND: i64 = 1000;

    /// A world and its time, with one 公众号 and one app of 企业微信.
    struct WorldStage {
        world: World,
        now: i64,
    }

    impl WorldStage {
        fn new() -> Self {
            let mut world = World::new();
            world.account(APP, "s");
            world.account(CORP, "s");
            Self { world, now: NOON }
        }

        fn app(&mut self) -> &mut SimAccount {
            self.world.account(APP, "s")
        }

        fn after(&mut self, seconds: i64) -> &mut Self {
            self.now += seconds * SECOND;
            self
        }

        fn get(&mut self, target: &str) -> Json {
            self.world
                .handle(self.now, &SimRequest::get(target))
                .to_json()
        }

        fn post(&mut self, body: &str) -> Json {
            let request = SimRequest::post("/cgi-bin/stable_token", body.as_bytes());
            self.world.handle(self.now, &request).to_json()
        }

        fn classic(&mut self) -> (String, i64) {
            grant(&self.get(&format!("/cgi-bin/token?{CREDENTIALS}")))
        }

        fn stable(&mut self, force: bool) -> (String, i64) {
            grant(&self.post(&stable_body("s", force)))
        }

        fn wecom(&mut self) -> (String, i64) {
            grant(&self.get(&format!("/cgi-bin/gettoken?corpid={CORP}&corpsecret=s")))
        }

        fn ticket(&mut self, path: &str, token: &str) -> (String, i64) {
            grant(&self.get(&format!("/cgi-bin/{path}access_token={token}")))
        }

        fn alive(&self, value: &str) -> bool {
            self.world.probe(self.now, value).alive
        }

        /// The platform's errcode for a call with a token: 0 when it works.
        fn verdict(&mut self, token: &str) -> i64 {
            errcode(&self.get(&format!("/cgi-bin/get_api_domain_ip?access_token={token}")))
        }
    }

    const CREDENTIALS: &str = "grant_type=client_credential&appid=wx0123456789abcdef&secret=s";

    fn stable_body(secret: &str, force: bool) -> String {
        json!({"grant_type": "client_credential", "appid": APP, "secret": secret, "force_refresh": force})
            .to_string()
    }

    fn grant(answer: &Json) -> (String, i64) {
        let value = answer.get("access_token").or(answer.get("ticket"));
        let value = value.unwrap_or_else(|| panic!("no grant: {answer}"));
        (
            value.as_str().unwrap().into(),
            answer["expires_in"].as_i64().unwrap(),
        )
    }

    fn errcode(answer: &Json) -> i64 {
        answer["errcode"].as_i64().unwrap_or(0)
    }

    #[test]
    fn classic_mints_each_time_and_the_one_before_lives_five_minutes_more() {
        let mut stage = WorldStage::new();
        let (first, life) = stage.classic();
        assert_eq!((first.len(), life), (136, 7200));
        let (second, life) = stage.after(3600).classic();
        assert_eq!(life, 7200);
        assert_ne!(first, second);
        stage.after(299);
        assert_eq!((stage.verdict(&first), stage.verdict(&second)), (0, 0));
        stage.after(1);
        assert_eq!((stage.verdict(&first), stage.verdict(&second)), (40001, 0));
        assert_eq!(stage.world.probe(stage.now, &first).ended_ms_ago, Some(0));
        stage.after(3300);
        assert_eq!((stage.verdict(&first), stage.verdict(&second)), (42001, 0));
        stage.after(3600);
        assert_eq!(stage.verdict(&second), 42001);
        assert_eq!(stage.verdict("86_neverminted"), 40014);
    }

    #[test]
    fn stable_gives_the_same_token_with_the_remaining_seconds_until_its_last_five_minutes() {
        let mut stage = WorldStage::new();
        let (first, _) = stage.stable(false);
        for (wait, left) in [(1000, 6200), (5000, 1200), (899, 301)] {
            assert_eq!(stage.after(wait).stable(false), (first.clone(), left));
        }
        let (second, life) = stage.after(1).stable(false);
        assert_eq!(life, 7200);
        assert_ne!(first, second);
        stage.after(299);
        assert!(stage.alive(&first) && stage.alive(&second));
        stage.after(1);
        assert!(!stage.alive(&first) && stage.alive(&second));
        assert_eq!(stage.verdict(&first), 42001);
    }

    #[test]
    fn classic_and_stable_do_not_disturb_each_other() {
        let mut stage = WorldStage::new();
        let (stable, classic) = (stage.stable(false).0, stage.classic().0);
        stage.after(400).stable(true);
        assert!(!stage.alive(&stable) && stage.alive(&classic));
        let stable = stage.stable(false).0;
        stage.classic();
        stage.after(400);
        assert!(stage.alive(&stable) && !stage.alive(&classic));
    }

    #[test]
    fn a_refresh_is_forced_at_once_but_not_within_thirty_seconds_nor_over_twenty_times_a_day() {
        let mut stage = WorldStage::new();
        let mut token = stage.stable(false).0;
        for _ in 0..20 {
            let next = stage.after(1).stable(true).0;
            assert_ne!(next, token);
            assert_eq!(stage.verdict(&token), 40001);
            assert_eq!(stage.after(29).stable(true).0, next);
            token = next;
        }
        let refusal = stage.after(30).post(&stable_body("s", true));
        assert_eq!(errcode(&refusal), 45009);
        assert!(stage.alive(&token));
        assert_ne!(stage.after(12 * 3600).stable(true).0, token);
    }

    #[test]
    fn short_lives_keep_their_proportions() {
        let mut stage = WorldStage::new();
        stage.app().lifetime(Duration::from_secs(4));
        let (token, life) = stage.stable(false);
        assert_eq!(life, 4);
        stage.now += 2999;
        assert_eq!(stage.stable(false), (token.clone(), 1));
        stage.now += 1;
        let (next, _) = stage.stable(false);
        assert_ne!(next, token);
        assert!(stage.alive(&token));
        stage.now += 1000;
        assert!(!stage.alive(&token));
    }

    #[test]
    fn wecom_repeats_its_token_until_the_end() {
        let mut stage = WorldStage::new();
        let (first, life) = stage.wecom();
        assert_eq!(life, 7200);
        assert_eq!(stage.after(7199).wecom(), (first.clone(), 1));
        let (second, life) = stage.after(1).wecom();
        assert_ne!(first, second);
        assert_eq!(life, 7200);
        stage.world.kill(stage.now, CORP, "access_token", Kill::End);
        assert_eq!(stage.verdict(&second), 40014);
        assert_ne!(stage.wecom().0, second);
    }

    #[test]
    fn apps_of_a_corp_are_apart() {
        let mut stage = WorldStage::new();
        for (agentid, secret) in [(1, "one"), (2, "two")] {
            let mut app = SimAccount::new("wwmany", secret);
            app.agentid = Some(agentid);
            stage.world.add(app);
        }
        let mut token = |secret| {
            grant(&stage.get(&format!(
                "/cgi-bin/gettoken?corpid=wwmany&corpsecret={secret}"
            )))
            .0
        };
        let (one, two) = (token("one"), token("two"));
        assert_eq!((token("one"), token("two")), (one, two.clone()));
        stage
            .world
            .kill(stage.now, "wwmany/1", "access_token", Kill::End);
        assert!(stage.alive(&two));
        assert_eq!(stage.world.calls("wwmany/1", Endpoint::GetToken), 2);
        assert_eq!(stage.world.calls("wwmany", Endpoint::GetToken), 4);
    }

    #[test]
    fn tickets_live_like_stable_tokens() {
        let mut stage = WorldStage::new();
        let token = stage.stable(false).0;
        let corp = stage.wecom().0;
        for (path, token, kind) in [
            ("ticket/getticket?type=jsapi&", &token, "jsapi_ticket"),
            ("ticket/getticket?type=wx_card&", &token, "wx_card_ticket"),
            ("get_jsapi_ticket?", &corp, "jsapi_ticket"),
            ("ticket/get?type=agent_config&", &corp, "agent_ticket"),
        ] {
            let (ticket, life) = stage.ticket(path, token);
            assert_eq!(life, 7200, "{path}");
            assert_eq!(stage.world.probe(stage.now, &ticket).kind, Some(kind));
            stage.now += 60 * SECOND;
            assert_eq!(stage.ticket(path, token), (ticket.clone(), 7140), "{path}");
            assert_eq!(stage.verdict(&ticket), 40014, "a ticket is no token");
        }
        stage.app().ticket_looks_new = true;
        let path = "ticket/getticket?type=jsapi&";
        let (ticket, life) = stage.ticket(path, &token);
        assert_eq!(life, 7200);
        assert_eq!(
            stage.world.probe(stage.now, &ticket).ends_in_ms,
            Some(6960 * SECOND)
        );
    }

    #[test]
    fn refuses_as_the_platform_does() {
        let mut stage = WorldStage::new();
        let token = stage.classic().0;
        for (target, expected) in [
            (
                "token?grant_type=client_credential&appid=wxnobody&secret=s",
                40013,
            ),
            ("token?grant_type=client_credential&secret=s", 41002),
            ("token?grant_type=client_credential&appid=&secret=s", 41002),
            (
                "token?grant_type=client_credential&appid=wx0123456789abcdef",
                41004,
            ),
            (
                "token?grant_type=client_credential&appid=wx0123456789abcdef&secret=x",
                40125,
            ),
            ("token?appid=wx0123456789abcdef&secret=s", 40002),
            (
                "token?grant_type=client_credential&appid=ww0123456789abcdef&secret=s",
                40013,
            ),
            ("stable_token", 43002),
            ("gettoken?corpid=ww0123456789abcdef&corpsecret=x", 40001),
            ("gettoken?corpid=wwnobody&corpsecret=s", 40013),
            ("gettoken?appid=ww0123456789abcdef&secret=s", 41002),
            ("get_api_domain_ip", 41001),
            ("menu/get?access_token=x", 40014),
            (&format!("menu/get?access_token={token}"), 0),
            (
                &format!("ticket/getticket?access_token={token}&type=x"),
                40097,
            ),
            (&format!("get_jsapi_ticket?access_token={token}"), 40014),
        ] {
            let answer = stage.get(&format!("/cgi-bin/{target}"));
            assert_eq!(errcode(&answer), expected, "{target}: {answer}");
        }
        assert_eq!(errcode(&stage.post("{")), 47001);
        assert_eq!(errcode(&stage.post(&stable_body("x", false))), 40125);
        let errmsg = stage.get("/cgi-bin/token?appid=x")["errmsg"].to_string();
        let (words, rid) = errmsg.trim_matches('"').split_once(" rid: ").unwrap();
        assert_eq!((words, rid.len()), ("invalid grant_type", 26));
        let chunked = SimRequest {
            chunked: true,
            ..SimRequest::post("/cgi-bin/stable_token", b"{}")
        };
        assert_eq!(stage.world.handle(NOON, &chunked).status, 412);
        let post = SimRequest::post("/cgi-bin/token", b"");
        assert_eq!(errcode(&stage.world.handle(NOON, &post).to_json()), 43001);
    }

    #[test]
    fn a_strange_address_is_refused_and_named() {
        let mut stage = WorldStage::new();
        for id in [APP, CORP] {
            let account = stage.world.account(id, "s");
            account.whitelist = Some(Vec::new());
            account.seen_as = Some([203, 0, 113, 7].into());
        }
        let errmsg = stage.get(&format!("/cgi-bin/token?{CREDENTIALS}"))["errmsg"].to_string();
        let expected = "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: ";
        assert!(errmsg.contains(expected), "{errmsg}");
        let answer = stage.get(&format!("/cgi-bin/gettoken?corpid={CORP}&corpsecret=s"));
        assert_eq!(errcode(&answer), 60020);
        assert!(
            answer["errmsg"]
                .as_str()
                .unwrap()
                .contains("from ip: 203.0.113.7,")
        );
        stage.app().whitelist = Some(vec![[203, 0, 113, 7].into()]);
        stage.classic();
    }

    #[test]
    fn a_minted_token_settles() {
        let mut stage = WorldStage::new();
        stage.app().settle = Duration::from_millis(500);
        let token = stage.stable(false).0;
        assert_eq!(stage.verdict(&token), 40001);
        stage.now += 500;
        assert_eq!(stage.verdict(&token), 0);
    }

    #[test]
    fn a_stuck_token_is_handed_out_until_a_refresh_is_forced() {
        let mut stage = WorldStage::new();
        let token = stage.stable(false).0;
        stage
            .world
            .kill(stage.now, APP, "access_token", Kill::Stuck);
        assert_eq!(stage.verdict(&token), 40001);
        assert_eq!(stage.stable(false).0, token);
        let next = stage.stable(true).0;
        assert_ne!(next, token);
        assert_eq!(stage.verdict(&next), 0);
    }

    #[test]
    fn a_second_fetcher_ends_a_classic_token_after_the_overlap() {
        let mut stage = WorldStage::new();
        let (classic, stable) = (stage.classic().0, stage.stable(false).0);
        stage
            .world
            .kill(stage.now, APP, "access_token", Kill::SecondFetcher);
        stage.after(299);
        assert!(stage.alive(&classic));
        stage.after(1);
        assert_eq!(
            (stage.verdict(&classic), stage.verdict(&stable)),
            (40001, 0)
        );
        assert_eq!(stage.world.calls(APP, Endpoint::Token), 1);
    }

    #[test]
    fn quotas_run_out() {
        let mut stage = WorldStage::new();
        stage.app().per_day = Some(3);
        for expected in [0, 0, 0, 45009, 45009] {
            let answer = stage.get(&format!("/cgi-bin/token?{CREDENTIALS}"));
            assert_eq!(errcode(&answer), expected);
        }
        stage.after(12 * 3600).classic();
        let corp = stage.wecom().0;
        for _ in 0..100 {
            stage.ticket("get_jsapi_ticket?", &corp);
        }
        let target = format!("/cgi-bin/get_jsapi_ticket?access_token={corp}");
        assert_eq!(errcode(&stage.get(&target)), 45009);
        stage.after(3600).ticket("get_jsapi_ticket?", &corp);
    }

    #[test]
    fn a_year_leaves_no_trace() {
        let mut stage = WorldStage::new();
        for _ in 0..365 * 24 {
            stage.after(3600).classic();
            let token = stage.stable(false).0;
            stage.ticket("ticket/getticket?type=jsapi&", &token);
        }
        assert!(
            stage.world.tokens.len() < 100,
            "{}",
            stage.world.tokens.len()
        );
        assert_eq!(stage.world.log().calls.len(), 1000);
    }

    /// A step of a random story: wait so many milliseconds, then do.
    #[derive(Debug, Clone, Copy)]
    enum StoryStep {
        Classic,
        Stable,
        Force,
        Wecom,
        Kill(Kill),
    }

    proptest! {
        #[test]
        fn nothing_lives_longer_than_promised(
            lifetime in 1_000..20_000_u64,
            steps in prop::collection::vec((0..8_000_i64, prop::sample::select(vec![
                StoryStep::Classic, StoryStep::Stable, StoryStep::Force, StoryStep::Wecom,
                StoryStep::Kill(Kill::End), StoryStep::Kill(Kill::Stuck), StoryStep::Kill(Kill::SecondFetcher),
            ])), 1..60),
        ) {
            let mut stage = WorldStage::new();
            for id in [APP, CORP] {
                stage.world.account(id, "s").lifetime(Duration::from_millis(lifetime));
            }
            stage.app().force_gap = Duration::from_secs(1);
            stage.app().per_day = Some(1_000_000);
            // Each value with the first moment at which it was seen, and whether it was ever seen dead.
            let mut seen: Vec<(String, i64, bool)> = Vec::new();
            for (wait, step) in steps {
                stage.now += wait;
                let fetched = match step {
                    StoryStep::Classic => Some(stage.classic()),
                    StoryStep::Stable => Some(stage.stable(false)),
                    StoryStep::Force if stage.world.members[0].forced.refusal(stage.now, Quota {
                        day: Some(20), ..Quota::default()
                    }).is_none() => Some(stage.stable(true)),
                    StoryStep::Force => None,
                    StoryStep::Wecom => Some(stage.wecom()),
                    StoryStep::Kill(how) => {
                        for id in [APP, CORP] {
                            stage.world.kill(stage.now, id, "access_token", how);
                        }
                        None
                    }
                };
                if let Some((value, expires_in)) = fetched {
                    if !seen.iter().any(|(known, ..)| *known == value) {
                        seen.push((value.clone(), stage.now, false));
                    }
                    let truth = stage.world.probe(stage.now, &value);
                    if let (true, Some(left)) = (truth.alive, truth.ends_in_ms) {
                        prop_assert!(expires_in * 1000 <= left.max(1000));
                    }
                }
                for (value, first, dead) in &mut seen {
                    let alive = stage.world.probe(stage.now, value).alive;
                    let verdict = stage.world.handle(stage.now, &SimRequest::get(
                        &format!("/cgi-bin/get_api_domain_ip?access_token={value}"),
                    ));
                    prop_assert_eq!(alive, errcode(&verdict.to_json()) == 0);
                    prop_assert!(!(alive && *dead), "it rose from the dead");
                    prop_assert!(!alive || stage.now < *first + i64::try_from(lifetime).unwrap());
                    *dead |= !alive;
                }
            }
        }
    }
}
