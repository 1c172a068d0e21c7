//! Lines of values: each value of a line replaces the one before.

use crate::platform::wechat::{CLASSIC, STABLE};
use crate::platform::wecom::GETTOKEN;
use crate::terms::Terms;

/// A sequence of values, each of which replaces the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenLine {
    Classic,
    Stable,
    Wecom,
    Jsapi,
    WxCard,
    Agent,
}

impl TokenLine {
    pub(super) const ALL: [Self; 6] = [
        Self::Classic,
        Self::Stable,
        Self::Wecom,
        Self::Jsapi,
        Self::WxCard,
        Self::Agent,
    ];

    /// The name of its values.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Classic | Self::Stable | Self::Wecom => "access_token",
            Self::Jsapi => "jsapi_ticket",
            Self::WxCard => "wx_card_ticket",
            Self::Agent => "agent_ticket",
        }
    }

    /// The terms on which its tokens are granted; `None` for tickets.
    pub(super) const fn terms(self) -> Option<&'static Terms> {
        match self {
            Self::Classic => Some(CLASSIC),
            Self::Stable => Some(STABLE),
            Self::Wecom => Some(GETTOKEN),
            Self::Jsapi | Self::WxCard | Self::Agent => None,
        }
    }

    pub(super) const fn is_token(self) -> bool {
        self.terms().is_some()
    }
}
