//! Asks on a terminal, shows nothing of what is secret, and leaves the terminal as it was, whatever ends it.

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::low_level::{emulate_default_handler, pipe};
use std::io::{self, IsTerminal, Stdin, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use zeroize::Zeroizing;

/// The longest input, bytes: as much as a terminal takes in a line.
const MAX_INPUT: usize = 4096;

/// Standard input. Signals wait until it is read, so that nothing is left half done.
pub(super) struct Prompt {
    input: Stdin,
    /// The last signal that came; zero for none.
    signal: Arc<AtomicUsize>,
    /// Readable once a signal came.
    wake: UnixStream,
    /// True if Ctrl-Z stops the process at once, without a look at the terminal.
    may_stop: Arc<AtomicBool>,
}

/// The reason why reading ended.
enum InputEnd {
    Line,
    EndOfInput,
    Signal(i32),
}

impl Prompt {
    /// From here on signals act only while input is read.
    pub(super) fn new() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        let may_stop = Arc::new(AtomicBool::new(false));
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        signal_hook::flag::register_conditional_default(SIGTSTP, may_stop.clone())?;
        for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP] {
            let value = usize::try_from(number).unwrap_or_default();
            signal_hook::flag::register_usize(number, signal.clone(), value)?;
            pipe::register(number, waker.try_clone()?)?;
        }
        Ok(Self {
            input: io::stdin(),
            signal,
            wake,
            may_stop,
        })
    }

    /// Returns whether there is somebody to ask, who sees the questions.
    pub(super) fn is_answered(&self) -> bool {
        self.is_terminal() && io::stderr().is_terminal()
    }

    /// Returns whether a terminal would show what is typed.
    pub(super) fn is_terminal(&self) -> bool {
        self.input.is_terminal()
    }

    /// Asks for a line. `UnexpectedEof` when there is none to come.
    pub(super) fn ask(&self, question: &str) -> io::Result<String> {
        Ok(self.line(question, false)?.as_str().to_owned())
    }

    /// Asks for a line that is not shown.
    pub(super) fn ask_hidden(&self, question: &str) -> io::Result<Zeroizing<String>> {
        self.line(question, true)
    }

    /// Standard input to its end; of one that is longer than any secret, its beginning.
    pub(super) fn rest(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_INPUT));
        loop {
            match self.read(&mut bytes)? {
                InputEnd::Line if bytes.len() < MAX_INPUT => {}
                InputEnd::Line | InputEnd::EndOfInput => return Ok(bytes),
                InputEnd::Signal(number) => emulate_default_handler(number)?,
            }
        }
    }

    fn line(&self, question: &str, is_hidden: bool) -> io::Result<Zeroizing<String>> {
        loop {
            let hidden = is_hidden.then(|| Hidden::on(&self.input)).transpose()?;
            let mut terminal = io::stderr();
            terminal.write_all(question.as_bytes())?;
            terminal.flush()?;
            let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_INPUT));
            match self.read(&mut bytes)? {
                InputEnd::Line => {
                    let line = str::from_utf8(&bytes).map_err(|_| io::ErrorKind::InvalidData)?;
                    return Ok(Zeroizing::new(line.trim().to_owned()));
                }
                InputEnd::EndOfInput => {
                    terminal.write_all(b"\n")?;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                InputEnd::Signal(number) => {
                    drop(hidden);
                    terminal.write_all(b"\n")?;
                    // After a stop it goes on here, and asks again.
                    emulate_default_handler(number)?;
                }
            }
        }
    }

    /// Waits for more, and reads it.
    fn read(&self, bytes: &mut Vec<u8>) -> io::Result<InputEnd> {
        loop {
            let mut ready = [
                PollFd::new(&self.wake, PollFlags::IN),
                PollFd::new(&self.input, PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                polled => drop(polled?),
            }
            if !ready[0].revents().is_empty() {
                let mut woken = [0; 16];
                // One that was stopped meanwhile is told of all at once.
                let _ = rustix::io::read(&self.wake, &mut woken);
                let number = self.signal.swap(0, Ordering::SeqCst);
                if let Ok(number @ 1..) = i32::try_from(number) {
                    return Ok(InputEnd::Signal(number));
                }
                continue;
            }
            return match rustix::io::read(&self.input, spare_capacity(bytes)) {
                Ok(0) => Ok(InputEnd::EndOfInput),
                Ok(_) => Ok(InputEnd::Line),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }
}

/// All is asked: Ctrl-Z may stop the process now, and nothing else what it has begun.
impl Drop for Prompt {
    fn drop(&mut self) {
        self.may_stop.store(true, Ordering::SeqCst);
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn on(terminal: &'a Stdin) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        // Drops the input that was typed before and shown.
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
