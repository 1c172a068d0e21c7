//! Deadlines of what is done with a server.

use crate::failure::Failure;
use std::time::Duration;
use tokio::time::timeout;

/// Does something within a limit; a server that is late is away.
pub(crate) async fn within<T>(
    limit: Duration,
    act: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| {
        Err(Failure::Away(format!(
            "there is no answer within {limit:?}"
        )))
    };
    timeout(limit, act).await.unwrap_or_else(late)
}
