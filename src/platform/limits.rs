//! Bounds the calls in flight, so that hosts and accounts that hang leave room for those that answer.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bounds: of all calls together, of one platform's, and of one platform's accounts in trouble.
#[derive(Debug)]
pub(super) struct Limits {
    total: Arc<Semaphore>,
    groups: Box<[Group]>,
}

/// The bounds of one platform.
#[derive(Debug)]
struct Group {
    all: Arc<Semaphore>,
    in_trouble: Arc<Semaphore>,
}

/// Leave to make one call. Dropped when the call has ended.
#[derive(Debug)]
pub struct Permit {
    _held: [Option<OwnedSemaphorePermit>; 3],
}

impl Limits {
    /// `concurrency` calls in all. A quarter of them is kept from each platform for the others, and half of what is left
    /// from accounts whose last call brought no answer.
    pub(super) fn new(concurrency: usize, platforms: usize) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.max(1)));
        let kept = if platforms > 1 {
            concurrency.div_ceil(4)
        } else {
            0
        };
        let group = |_| {
            let all = concurrency.saturating_sub(kept).max(1);
            Group {
                all: semaphore(all),
                in_trouble: semaphore(all / 2),
            }
        };
        Self {
            total: semaphore(concurrency),
            groups: (0..platforms).map(group).collect(),
        }
    }

    /// Waits until a call of the platform with this index may be made.
    pub(super) async fn permit(&self, platform: usize, in_trouble: bool) -> Permit {
        let group = self.groups.get(platform);
        let trouble = group.filter(|_| in_trouble).map(|group| &group.in_trouble);
        Permit {
            // The narrow bound first: whoever waits there holds nothing of the wider ones.
            _held: [
                acquire(trouble).await,
                acquire(group.map(|group| &group.all)).await,
                acquire(Some(&self.total)).await,
            ],
        }
    }
}

async fn acquire(semaphore: Option<&Arc<Semaphore>>) -> Option<OwnedSemaphorePermit> {
    // No semaphore is ever closed.
    semaphore?.clone().acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_core::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    fn fill(limits: &Limits, platform: usize, in_trouble: bool) -> Vec<Permit> {
        std::iter::from_fn(|| now(limits.permit(platform, in_trouble))).collect()
    }

    #[test]
    fn hanging_accounts_leave_permits_to_others() {
        for (concurrency, in_trouble, of_one, of_other) in
            [(32, 12, 12, 8), (4, 1, 2, 1), (2, 1, 0, 1)]
        {
            let limits = Limits::new(concurrency, 2);
            let troubled = fill(&limits, 0, true);
            assert_eq!(troubled.len(), in_trouble);
            let healthy = fill(&limits, 0, false);
            assert_eq!(healthy.len(), of_one, "of the same platform");
            let others = fill(&limits, 1, false);
            assert_eq!(others.len(), of_other, "of the other platform");
        }
    }

    #[test]
    fn one_call_at_a_time_is_one() {
        let limits = Limits::new(1, 2);
        let held = fill(&limits, 1, false);
        assert_eq!((held.len(), fill(&limits, 0, false).len()), (1, 0));
    }
}
