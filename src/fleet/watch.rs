//! One watch over all keys of a fleet: lines of JSON, as long as it stands.

use super::error::EngineError;
use super::wire::{EngineHeader, Streamed, WatchEvent, WatchReply};
use reqwest::Response;

/// The longest line of a watch, bytes.
const MAX_LINE: usize = 64 << 20;

/// A watch over all keys of a prefix.
pub(crate) struct EtcdWatch {
    response: Response,
    buffer: Vec<u8>,
}

/// Changes that belong together.
pub(crate) struct Batch {
    pub(crate) header: EngineHeader,
    pub(crate) events: Vec<WatchEvent>,
}

impl EtcdWatch {
    pub(super) const fn new(response: Response) -> Self {
        Self {
            response,
            buffer: Vec::new(),
        }
    }

    /// Waits for the next changes.
    pub(crate) async fn next(&mut self) -> Result<Batch, EngineError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return batch(&line);
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Err(EngineError::away("etcd ended the watch")),
                Err(_) => return Err(EngineError::away("the connection of the watch broke")),
            }
            if self.buffer.len() > MAX_LINE {
                return Err(EngineError::away("a line of the watch is too long"));
            }
        }
    }
}

fn batch(line: &[u8]) -> Result<Batch, EngineError> {
    let reply: Streamed<WatchReply> = serde_json::from_slice(line)
        .map_err(|_| EngineError::away("a line of the watch cannot be understood"))?;
    match (reply.result, reply.error) {
        (Some(reply), _) if reply.compact_revision > 0 => Err(EngineError::compacted()),
        (Some(reply), _) if reply.canceled => Err(EngineError::away(format!(
            "etcd canceled the watch: {}",
            reply.cancel_reason
        ))),
        (Some(reply), _) => Ok(Batch {
            header: reply.header,
            events: reply.events,
        }),
        (None, Some(error)) => Err(EngineError::of_code(error.grpc_code, &error.message)),
        (None, None) => Err(EngineError::away(
            "a line of the watch cannot be understood",
        )),
    }
}
