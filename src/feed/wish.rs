//! The values that a target is to hold.

use wxtokend::account::AccountName;
use wxtokend::follow::Holding;

/// The value that a target is to hold for one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetWish {
    /// The local name of the account.
    pub account: AccountName,
    /// Its appid or corpid.
    pub appid: Box<str>,
    /// The value; nothing when there is no valid one.
    pub holding: Option<Holding>,
}

/// A change of what is to stand.
#[derive(Debug, Clone)]
pub enum WishChange {
    /// This is to stand from now on.
    Wish(TargetWish),
    /// The account is configured no more: leave what stands.
    Forget(AccountName),
}
