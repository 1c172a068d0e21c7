//! The calls that show and clear a platform's own counts, as plain data.

use super::Request;

/// The fields of a platform whose counts look like those of its other answers.
pub(super) const USUAL_FIELDS: [&str; 3] = ["quota.daily_limit", "quota.used", "quota.remain"];

/// The calls that show and clear a platform's counts.
#[derive(Debug)]
pub struct CountCalls {
    /// The path that shows the count of one endpoint.
    pub show_path: &'static str,
    /// Makes the request for the count of an endpoint with an access token.
    pub show: fn(path: &'static str, endpoint: &str, token: &str) -> Request,
    /// The path that clears all counts.
    pub clear_path: &'static str,
    /// Makes the request that clears with an id and an AppSecret.
    pub clear: fn(path: &'static str, id: &str, secret: &str) -> Request,
    /// The fields of a count: the day's limit, calls used, calls left.
    pub fields: [&'static str; 3],
}
