//! Counts of calls: their limits, and the interfaces that show and clear them.

use super::answer::Context;
use super::call::{Denial, Endpoint, Params};
use super::quota::{Quota, Usage};
use super::world::World;
use crate::platform::wecom::{GETTOKEN, WECOM};
use serde_json::{Value as Json, json};

/// The time for which a corp that asked too often is refused, milliseconds.
const BLOCK: i64 = 3_600_000;
/// Times a month that the counts may be cleared.
const CLEARS_A_MONTH: u32 = 10;
/// Days of the longest month: the simulation's month has as many.
const MONTH_DAYS: i64 = 31;

impl World {
    /// Counts a call, unless there is no room for it.
    pub(super) fn count_usage(&mut self, call: &Context, index: usize) -> Result<(), Denial> {
        let &Context { now, endpoint, .. } = call;
        let member = &self.members[index];
        let (quota, id) = (member.account.quota(endpoint), member.account.id.clone());
        let mut refusal = member.usage[endpoint as usize].refusal(now, quota);
        if quota.hour.is_some() {
            let limits = GETTOKEN.ticket_limits;
            let used = |&i: &usize| self.members[i].usage[endpoint as usize].this_hour(now);
            let corp: u32 = self.apps(&id).iter().map(used).sum();
            let is_full = limits.id.is_some_and(|limit| corp >= limit);
            let is_blocked = self.blocked.get(&*id).is_some_and(|until| now < *until);
            refusal = refusal.or((is_full || is_blocked).then_some(45009));
            if refusal.is_some() && !is_blocked {
                // All apps of the corp suffer for what one of them did.
                self.blocked.insert(id.into(), now + BLOCK);
            }
        }
        if let Some(errcode) = refusal {
            return Err(Denial::of(errcode));
        }
        self.members[index].usage[endpoint as usize].count(now);
        Ok(())
    }

    /// The count of one endpoint.
    pub(super) fn count_of(
        &self,
        now: i64,
        index: usize,
        params: &Params<'_>,
    ) -> Result<Json, Denial> {
        let path = params.cgi_path.as_deref().unwrap_or_default();
        let endpoint = Endpoint::at(path)
            .filter(|endpoint| endpoint.platform() != Some(WECOM))
            .ok_or_else(|| Denial::of(76021))?;
        let member = &self.members[index];
        let limit = member.account.quota(endpoint).day.unwrap_or(UNLIMITED);
        let used = member.usage[endpoint as usize].today(now);
        Ok(json!({
            "errcode": 0, "errmsg": "ok",
            "quota": {"daily_limit": limit, "used": used, "remain": limit.saturating_sub(used)},
            "rate_limit": {"call_count": 0, "refresh_second": 60},
        }))
    }

    /// Clears every count of an account.
    pub(super) fn clear_counts(&mut self, now: i64, index: usize) -> Result<Json, Denial> {
        let month = Quota {
            day: Some(CLEARS_A_MONTH),
            ..Quota::default()
        };
        let member = &mut self.members[index];
        // The simulated month is one long day of the count.
        let in_month = now.div_euclid(MONTH_DAYS);
        if member.clears.refusal(in_month, month).is_some() {
            return Err(Denial::of(48006));
        }
        member.clears.count(in_month);
        member.usage = [Usage::default(); Endpoint::ALL.len()];
        Ok(json!({"errcode": 0, "errmsg": "ok"}))
    }
}

/// Shown where the simulation knows no limit.
const UNLIMITED: u32 = 5_000_000;
