//! The table of `wxtokend status`, for people.

use super::client::printable;
use crate::api::body::{AccountBody, AccountsBody};
use crate::snapshot::State;
use crate::time::human;
use anstyle::{AnsiColor, Style};
use std::time::Duration;
use textwrap::Options;
use unicode_width::UnicodeWidthStr;

const HEADING: Style = Style::new().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

const COLUMNS: [&str; 5] = ["ACCOUNT", "STATE", "EXPIRES", "NEXT REFRESH", "CALLS TODAY"];

/// The table at Unix time `now`, for a terminal of so many columns, in colour.
pub(super) fn render(all: &AccountsBody, now: i64, columns: usize) -> String {
    let rows: Vec<TableRow> = all
        .accounts
        .iter()
        .map(|account| cells(account, now))
        .collect();
    let widths: [usize; 5] = std::array::from_fn(|i| {
        let cells = rows.iter().map(|row| row[i].width());
        cells.chain([COLUMNS[i].width()]).max().unwrap_or(0)
    });
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.push(line(&COLUMNS.map(str::to_owned), widths, [HEADING; 5]));
    }
    for (account, row) in all.accounts.iter().zip(&rows) {
        let mut styles = [Style::new(); 5];
        styles[1] = style(account.state);
        lines.push(line(row, widths, styles));
        for trouble in troubles(account, now) {
            lines.extend(paragraph("  ", &trouble, Style::new(), columns));
        }
        let hint = account.last_error.as_ref().map(|error| &*error.hint);
        if let Some(hint) = hint.filter(|hint| !hint.is_empty()) {
            lines.extend(paragraph("  → ", hint, HINT, columns));
        }
    }
    lines.push(summary(all));
    if let Some(first) = all.rejected.first() {
        let more = match all.rejected.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more: wxtokend check)"),
        };
        let words =
            format!("the configuration on disk is rejected, the old one runs on: {first}{more}");
        lines.extend(paragraph("", &words, style(State::Expired), columns));
        let hint = "correct it and run `wxtokend reload`; a restart would fail";
        lines.extend(paragraph("  → ", hint, HINT, columns));
    }
    lines.join("\n") + "\n"
}

type TableRow = [String; 5];

fn cells(account: &AccountBody, now: i64) -> TableRow {
    let when = |time: Option<i64>| time.map_or_else(|| "-".to_owned(), |time| relative(time - now));
    [
        account.account.clone(),
        account.state.as_str().to_owned(),
        when(account.expire_time),
        next_refresh(account, when(account.next_refresh_time)),
        format!("{} of {}", account.calls_today, account.daily_budget),
    ]
    .map(|cell| printable(&cell))
}

/// The next call, and the host of the fleet that makes it.
fn next_refresh(account: &AccountBody, when: String) -> String {
    match &account.fleet {
        None => when,
        Some(fleet) if fleet.engine != "ok" => format!("{when}, etcd away"),
        Some(fleet) if fleet.leader => format!("{when}, leads"),
        Some(fleet) => match &fleet.host {
            Some(host) => format!("{host} leads"),
            None => "nobody leads".to_owned(),
        },
    }
}

/// Its troubles, each in a sentence.
fn troubles(account: &AccountBody, now: i64) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(error) = &account.last_error {
        troubles.push(format!(
            "{} ({})",
            error.message,
            relative(error.time - now)
        ));
    }
    if let Some(count) = account.platform_calls_today {
        troubles.push(format!(
            "the platform counts {count} calls today, and the daemon made another number: somebody else fetches for this account; \
             `wxtokend quota {}` shows more",
            account.account
        ));
    }
    for ticket in &account.tickets {
        match ticket.expire_time {
            Some(time) if time <= now => {
                troubles.push(format!("{} expired {}", ticket.value, relative(time - now)));
            }
            None if account.state != State::Starting => {
                troubles.push(format!("no {} yet", ticket.value));
            }
            _ => {}
        }
    }
    troubles.extend(
        account
            .outputs
            .iter()
            .filter_map(|output| output.error.clone()),
    );
    troubles
}

/// A line about all of them, and about the daemon.
fn summary(all: &AccountsBody) -> String {
    let count = |state| {
        all.accounts
            .iter()
            .filter(|account| account.state == state)
            .count()
    };
    let states = State::ALL
        .into_iter()
        .filter(|state| count(*state) > 0)
        .map(|state| format!("{} {}", count(state), state.as_str()));
    let states = match all.accounts.len() {
        0 => "no accounts".to_owned(),
        _ => states.collect::<Vec<_>>().join(", "),
    };
    let uptime = human(Duration::from_secs(all.uptime_seconds));
    format!("{states}; wxtokend {} up {uptime}", printable(&all.version))
}

fn line(cells: &TableRow, widths: [usize; 5], styles: [Style; 5]) -> String {
    let cells = cells
        .iter()
        .zip(widths)
        .zip(styles)
        .map(|((cell, width), style)| {
            let padding = " ".repeat(width - cell.width());
            format!("{style}{cell}{style:#}{padding}")
        });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

fn paragraph(indent: &str, words: &str, style: Style, columns: usize) -> Vec<String> {
    let rest = " ".repeat(indent.width());
    let options = Options::new(columns.max(40))
        .initial_indent(indent)
        .subsequent_indent(&rest);
    let words = printable(words);
    let lines = textwrap::wrap(&words, options);
    lines
        .iter()
        .map(|line| format!("{style}{line}{style:#}"))
        .collect()
}

fn style(state: State) -> Style {
    match state {
        State::Starting => AnsiColor::Cyan.on_default(),
        State::Fresh => AnsiColor::Green.on_default(),
        State::Degraded => AnsiColor::Yellow.on_default(),
        State::Expired => AnsiColor::Red.on_default().bold(),
    }
}

/// `in 4m`, `now`, `2h5m ago`
fn relative(seconds: i64) -> String {
    let duration = human(Duration::from_secs(seconds.unsigned_abs()));
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {duration}"),
        _ => format!("{duration} ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::body::{LastErrorBody, OutputBody, TicketBody};
    use crate::fault::Fault;
    use crate::value::ValueName;
    use anstream::adapter::strip_str;

    const NOW: i64 = 1_700_000_000;

    fn account(name: &str, state: State) -> AccountBody {
        AccountBody {
            account: name.to_owned(),
            kind: "wechat".to_owned(),
            appid: "wx0123456789abcdef".to_owned(),
            method: "stable".to_owned(),
            state,
            expire_time: Some(NOW + 6735),
            expires_in: Some(6735),
            next_refresh_time: Some(NOW + 250),
            last_success_time: Some(NOW - 50),
            calls_today: 31,
            platform_calls_today: None,
            daily_budget: 10_000,
            token_fingerprint: Some("0123abcd".to_owned()),
            tickets: Vec::new(),
            last_error: None,
            outputs: Vec::new(),
            fleet: None,
        }
    }

    fn all(accounts: Vec<AccountBody>) -> AccountsBody {
        AccountsBody {
            version: "1.2.3".to_owned(),
            uptime_seconds: 273_840,
            rejected: Vec::new(),
            accounts,
        }
    }

    fn troubled() -> AccountsBody {
        let mut blog = account("blog", State::Expired);
        blog.expire_time = Some(NOW - 180);
        blog.calls_today = 9;
        blog.daily_budget = 1000;
        blog.last_error = Some(LastErrorBody {
            time: NOW - 240,
            class: "operator".to_owned(),
            errcode: Some(40164),
            rid: Some("6aac005a-01bfdbee-79769285".to_owned()),
            message: "40164 invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist \
                      rid: 6aac005a-01bfdbee-79769285"
                .to_owned(),
            hint: "add 203.0.113.7 to the IP whitelist: 微信公众平台 → 设置与开发 → 基本配置 → IP白名单; \
                   takes about 5 minutes"
                .to_owned(),
        });
        let mut new = account("new", State::Starting);
        (new.expire_time, new.next_refresh_time) = (None, None);
        new.calls_today = 0;
        let mut shop = account("shop_with_a_long_name", State::Degraded);
        shop.outputs = vec![OutputBody {
            kind: "file".to_owned(),
            path: "/run/wxtokend/shop.json".to_owned(),
            value: ValueName::AccessToken,
            state: "failed".to_owned(),
            error: Some("cannot write `/run/wxtokend/shop.json`: permission denied".to_owned()),
        }];
        let ticket = |value, expire_time| TicketBody {
            value,
            expire_time,
            expires_in: None,
            fingerprint: None,
        };
        shop.tickets = vec![
            ticket(ValueName::JsapiTicket, Some(NOW - 60)),
            ticket(ValueName::WxCardTicket, None),
        ];
        all(vec![blog, account("fine", State::Fresh), new, shop])
    }

    #[test]
    fn at_eighty_columns() {
        let table = strip_str(&render(&troubled(), NOW, 80)).to_string();
        assert_eq!(
            table,
            "\
ACCOUNT                STATE     EXPIRES   NEXT REFRESH  CALLS TODAY
blog                   expired   3m ago    in 4m         9 of 1000
  40164 invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid:
  6aac005a-01bfdbee-79769285 (4m ago)
  → add 203.0.113.7 to the IP whitelist: 微信公众平台 → 设置与开发 → 基本配置 →
    IP白名单; takes about 5 minutes
fine                   fresh     in 1h52m  in 4m         31 of 10000
new                    starting  -         -             0 of 10000
shop_with_a_long_name  degraded  in 1h52m  in 4m         31 of 10000
  jsapi_ticket expired 1m ago
  no wx_card_ticket yet
  cannot write `/run/wxtokend/shop.json`: permission denied
1 starting, 1 fresh, 1 degraded, 1 expired; wxtokend 1.2.3 up 76h4m
"
        );
    }

    #[test]
    fn no_line_of_prose_is_wider_than_the_terminal() {
        for columns in [40, 80, 132] {
            let table = strip_str(&render(&troubled(), NOW, columns)).to_string();
            for line in table.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.width() <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn states_have_colours() {
        for (state, colour) in [
            (State::Fresh, "\x1b[32m"),
            (State::Degraded, "\x1b[33m"),
            (State::Starting, "\x1b[36m"),
            (State::Expired, "\x1b[1m\x1b[31m"),
        ] {
            let table = render(&all(vec![account("shop", state)]), NOW, 80);
            let cell = format!("{colour}{}\x1b[0m", state.as_str());
            assert!(table.contains(&cell), "{table:?}");
        }
    }

    #[test]
    fn words_of_the_platform_are_no_terminal_commands() {
        let mut evil = account("shop", State::Degraded);
        evil.last_error = Some(LastErrorBody {
            time: NOW,
            class: "operator".to_owned(),
            errcode: Some(1),
            rid: None,
            message: "1 \x1b]0;owned\x07 \u{9b}2J".to_owned(),
            hint: "see\nbelow".to_owned(),
        });
        let table = strip_str(&render(&all(vec![evil]), NOW, 80)).to_string();
        assert!(
            !table.contains(|c: char| c.is_control() && c != '\n'),
            "{table:?}"
        );
        assert!(table.contains("see below"));
    }

    #[test]
    fn a_rejected_configuration_is_told_below_the_accounts() {
        let mut accounts = all(vec![account("shop", State::Fresh)]);
        accounts.rejected = vec![
            Fault::of_file("/etc/wxtokend/config.toml", "unknown key `x`"),
            Fault::of_file("/etc/wxtokend/config.toml", "unknown key `y`"),
        ];
        let table = strip_str(&render(&accounts, NOW, 200)).to_string();
        let below = table.lines().skip_while(|line| !line.contains("1 fresh;"));
        assert_eq!(
            below.skip(1).collect::<Vec<_>>(),
            [
                "the configuration on disk is rejected, the old one runs on: /etc/wxtokend/config.toml:1:1: unknown key `x` \
                 (and 1 more: wxtokend check)",
                "  → correct it and run `wxtokend reload`; a restart would fail",
            ]
        );
    }

    #[test]
    fn without_accounts() {
        assert_eq!(
            render(&all(Vec::new()), NOW, 80),
            "no accounts; wxtokend 1.2.3 up 76h4m\n"
        );
    }

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "now"),
            (1, "in 1s"),
            (-59, "59s ago"),
            (240, "in 4m"),
            (6735, "in 1h52m"),
        ] {
            assert_eq!(relative(seconds), text);
        }
    }
}
