//! The kinds of outputs: a file, and a socket. Another kind is another [`Sink`].

use super::shared::Shared;
use crate::account::{OnExpiry, OutputKind};
use crate::clock;
use crate::counters::Counters;
use crate::format::Rendered;
use crate::publish::Place;
use crate::publish::PublishError;
use crate::publish::file::{self, PublishedFile};
use crate::publish::socket::{BoundSocket, TokenSocket};
use std::sync::Arc;

/// Work on an output that may hang.
pub(super) type SinkWork<T> = Box<dyn FnOnce() -> Result<T, PublishError> + Send>;

/// The result of showing a value.
#[derive(Debug)]
pub(super) struct Shown {
    /// True if something had to be changed.
    pub(super) is_changed: bool,
    /// The socket that serves from now on.
    pub(super) socket: Option<Box<TokenSocket>>,
}

/// The reason why an output ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputEnd {
    /// It is configured no more: its file or socket goes.
    Removed,
    /// Another output has its path now.
    Replaced,
    /// The daemon stops: a file stays, a socket goes.
    Stopped,
    /// The daemon stops and the service manager keeps its sockets.
    Kept,
}

/// A kind of output: it shows values to apps.
pub(super) trait Sink: Send + Sync {
    /// Shows something without any I/O. False if that is not possible.
    fn show_at_once(&mut self, _what: Option<&Rendered>, _place: &Arc<Place>) -> bool {
        false
    }

    /// Shows something where that may hang.
    fn show(
        &mut self,
        what: Option<Rendered>,
        place: &Arc<Place>,
        shared: &Arc<Shared>,
        counters: &Arc<Counters>,
    ) -> SinkWork<Shown>;

    /// Serves by another socket from now on. Gives the one before.
    fn on_bound(&mut self, _socket: Arc<TokenSocket>) -> Option<Arc<TokenSocket>> {
        None
    }

    /// The socket that serves, if there is one.
    fn serving(&self) -> Option<Arc<TokenSocket>> {
        None
    }

    /// The work that the end of the output takes.
    fn end(self: Box<Self>, place: Arc<Place>, end: OutputEnd) -> Option<SinkWork<()>>;
}

/// Makes the sink of an output. `serving` is the socket that its predecessor serves by.
pub(super) fn sink(
    kind: OutputKind,
    bound: Option<Box<BoundSocket>>,
    serving: Option<Arc<TokenSocket>>,
) -> Box<dyn Sink> {
    match kind {
        OutputKind::File(on_expiry) => Box::new(FileSink(on_expiry)),
        OutputKind::Socket => Box::new(SocketSink { bound, serving }),
    }
}

/// A file.
struct FileSink(OnExpiry);

impl Sink for FileSink {
    fn show(
        &mut self,
        what: Option<Rendered>,
        place: &Arc<Place>,
        shared: &Arc<Shared>,
        _: &Arc<Counters>,
    ) -> SinkWork<Shown> {
        let (place, on_expiry, expiry) = (place.clone(), self.0, shared.expiry.clone());
        Box::new(move || {
            // By the clock of this moment: it may have waited for a slow disk.
            let now = clock::now().at;
            let content = what
                .as_ref()
                .filter(|what| what.expires() > now + file::EARLY)
                .and_then(|what| Some((what.at(now)?, what.expires())));
            let is_changed = match (content, on_expiry) {
                (Some((text, until)), OnExpiry::Remove) => {
                    // Before it is there, so that it cannot stay.
                    expiry.add(place.clone(), until);
                    file::publish(&place, &text, Some(until))? == PublishedFile::Written
                }
                (Some((text, _)), OnExpiry::Keep) => {
                    file::publish(&place, &text, None)? == PublishedFile::Written
                }
                (None, OnExpiry::Remove) => file::remove(&place)?,
                (None, OnExpiry::Keep) => false,
            };
            Ok(Shown {
                is_changed,
                socket: None,
            })
        })
    }

    fn end(self: Box<Self>, place: Arc<Place>, end: OutputEnd) -> Option<SinkWork<()>> {
        (end == OutputEnd::Removed)
            .then(|| -> SinkWork<()> { Box::new(move || file::remove(&place).map(drop)) })
    }
}

/// A socket that is read to its end.
struct SocketSink {
    bound: Option<Box<BoundSocket>>,
    serving: Option<Arc<TokenSocket>>,
}

impl Sink for SocketSink {
    fn show_at_once(&mut self, what: Option<&Rendered>, place: &Arc<Place>) -> bool {
        let Some(serving) = &self.serving else {
            return false;
        };
        serving.set(what.cloned());
        Arc::ptr_eq(serving.place(), place)
    }

    fn show(
        &mut self,
        what: Option<Rendered>,
        place: &Arc<Place>,
        shared: &Arc<Shared>,
        counters: &Arc<Counters>,
    ) -> SinkWork<Shown> {
        let (place, bound, serving) = (place.clone(), self.bound.take(), self.serving.clone());
        let (shared, counters) = (shared.clone(), counters.clone());
        Box::new(move || {
            let serving = serving.filter(|serving| Arc::ptr_eq(serving.place(), &place));
            if serving.is_some() && place.is_intact() {
                return Ok(Shown {
                    is_changed: false,
                    socket: None,
                });
            }
            let bound =
                bound.map_or_else(|| BoundSocket::prepare(place, None), |bound| Ok(*bound))?;
            let socket = bound.commit(what, &shared.server, counters)?;
            Ok(Shown {
                is_changed: true,
                socket: Some(Box::new(socket)),
            })
        })
    }

    fn on_bound(&mut self, socket: Arc<TokenSocket>) -> Option<Arc<TokenSocket>> {
        self.serving.replace(socket)
    }

    fn serving(&self) -> Option<Arc<TokenSocket>> {
        self.serving.clone()
    }

    fn end(self: Box<Self>, _: Arc<Place>, end: OutputEnd) -> Option<SinkWork<()>> {
        let socket = self.serving?;
        matches!(end, OutputEnd::Removed | OutputEnd::Stopped)
            .then(|| -> SinkWork<()> { Box::new(move || socket.retire()) })
    }
}
