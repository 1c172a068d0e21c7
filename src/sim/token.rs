//! Tokens and tickets: their look, their life, and their replacement.

use super::account::SimAccount;
use super::line::TokenLine;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The truth about a value. Times are Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    /// Its account, by index.
    pub(super) account: usize,
    pub(super) line: TokenLine,
    pub(super) minted: i64,
    /// The moment when its life ends if nothing happens.
    pub(super) expires: i64,
    /// The moment when it ends really: never after `expires`.
    pub(super) ends: i64,
    /// True if it is handed out although it has ended.
    pub(super) stuck: bool,
}

impl Token {
    pub(super) fn is_alive(&self, now: i64) -> bool {
        now < self.ends
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// All values that are alive or died not long ago.
pub(super) struct Tokens {
    known: HashMap<Arc<str>, Token>,
    rng: fastrand::Rng,
}

/// The values of one line of one account that are still known, the newest last.
pub(super) type TokenHistory = VecDeque<Arc<str>>;

impl Tokens {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            known: HashMap::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) fn get(&self, value: &str) -> Option<&Token> {
        self.known.get(value)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(|value| &**value)
    }

    /// The number of known ones, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The newest value of a line, if the platform would hand it out again.
    pub(super) fn standing<'a>(
        &'a self,
        history: &'a TokenHistory,
        now: i64,
    ) -> Option<(&'a Arc<str>, &'a Token)> {
        let value = history.back()?;
        let token = self.known.get(value)?;
        (token.is_alive(now) || token.stuck && now < token.expires).then_some((value, token))
    }

    /// Ends the newest value of a line at `end`, unless it ends before that anyway.
    pub(super) fn end(&mut self, history: &TokenHistory, end: i64, stuck: bool) {
        if let Some(token) = history.back().and_then(|v| self.known.get_mut(v)) {
            token.ends = token.ends.min(end);
            token.stuck = stuck;
        }
    }

    /// Mints a value, and forgets those of its line that died ten lives ago.
    pub(super) fn mint(
        &mut self,
        history: &mut TokenHistory,
        (index, account): (usize, &SimAccount),
        line: TokenLine,
        now: i64,
    ) -> Arc<str> {
        let lifetime = millis(match account.ticket_lifetime {
            Some(lifetime) if !line.is_token() => lifetime,
            _ => account.lifetime,
        });
        let memory = (10 * lifetime).max(60_000);
        while let Some(oldest) = history.front() {
            if self
                .known
                .get(oldest)
                .is_some_and(|t| now < t.ends + memory)
            {
                break;
            }
            self.known.remove(oldest);
            history.pop_front();
        }
        let value: Arc<str> = self.text(line, now).into();
        let token = Token {
            account: index,
            line,
            minted: now,
            expires: now + lifetime,
            ends: now + lifetime,
            stuck: false,
        };
        self.known.insert(value.clone(), token);
        history.push_back(value.clone());
        value
    }

    /// A value of the length and look of the platform's: tokens of 公众号 begin with a number that grows over the years.
    fn text(&mut self, line: TokenLine, now: i64) -> String {
        let (mut text, len) = match line {
            TokenLine::Classic | TokenLine::Stable => {
                (format!("{}_", now / (20 * 86_400_000) - 930), 136)
            }
            TokenLine::Wecom => (String::new(), 214),
            TokenLine::Jsapi | TokenLine::WxCard | TokenLine::Agent => (String::new(), 86),
        };
        while text.len() < len {
            text.push(char::from(LETTERS[self.rng.usize(..64)]));
        }
        text
    }

    /// An id of a request, as it stands at the end of an errmsg.
    pub(super) fn rid(&mut self, now: i64) -> String {
        let seconds = now.div_euclid(1000) & 0xffff_ffff;
        format!(
            "{seconds:08x}-{:08x}-{:08x}",
            self.rng.u32(..),
            self.rng.u32(..)
        )
    }
}
