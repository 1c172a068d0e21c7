//! Something that holds values: rows of a database or keys of Redis.

use crate::config::{Target, TargetKind};
use crate::database;
use crate::deadline::within;
use crate::failure::Failure;
use crate::found::LookFinding;
use crate::redis;
use crate::wish::TargetWish;
use std::future::pending;
use std::time::Duration;
use wxtokend::follow::Holding;

/// Something that holds values.
#[derive(Clone)]
pub enum Writer {
    /// Rows of a database.
    Database(database::DatabaseWriter),
    /// Keys of Redis.
    Redis(redis::RedisWriter),
}

impl Writer {
    /// The writer of a target, not connected to anything.
    pub fn new(target: &Target) -> Self {
        match &target.kind {
            TargetKind::Database(database) => {
                Self::Database(database::DatabaseWriter::new(database.clone()))
            }
            TargetKind::Redis(config) => {
                Self::Redis(redis::RedisWriter::new(config.clone(), target.value))
            }
        }
    }

    pub(crate) async fn write(&self, wish: &TargetWish) -> Result<(), Failure> {
        match self {
            Self::Database(writer) => writer.write(wish).await,
            Self::Redis(writer) => writer.write(wish).await,
        }
    }

    /// Says of each wish whether it stands.
    pub(crate) async fn check(
        &self,
        wishes: &[TargetWish],
        limit: Duration,
    ) -> Result<Vec<bool>, Failure> {
        match self {
            Self::Database(writer) => writer.check(wishes, limit).await,
            Self::Redis(writer) => within(limit, writer.check(wishes)).await,
        }
    }

    /// Says what would be changed for each wish, and changes nothing.
    pub async fn look(&self, wishes: &[TargetWish]) -> Result<Vec<LookFinding>, Failure> {
        match self {
            Self::Database(writer) => writer.look(wishes).await,
            Self::Redis(writer) => writer.look(wishes).await,
        }
    }

    pub(crate) fn can_check(&self) -> bool {
        match self {
            Self::Database(writer) => writer.can_check(),
            Self::Redis(_) => true,
        }
    }

    pub(crate) fn acts_on_none(&self) -> bool {
        match self {
            Self::Database(writer) => writer.has_on_none(),
            Self::Redis(_) => true,
        }
    }

    pub(crate) fn differ(&self, old: &Holding, new: &Holding) -> bool {
        match self {
            Self::Database(writer) => writer.differ(old, new),
            Self::Redis(_) => old != new,
        }
    }

    /// Waits until somebody else may have changed something. Never ends where nothing tells.
    pub(crate) async fn disturbed(&self) {
        match self {
            Self::Database(_) => pending().await,
            Self::Redis(writer) => writer.disturbed().await,
        }
    }
}
