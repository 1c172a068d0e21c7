//! One run of the command.

use crate::follow::{Holding, Subject};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::timeout;

/// The variables of our own environment that the command gets.
const INHERITED: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];
/// Time that a run has to end by itself when we stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// One run of the command, for one value.
#[derive(Debug, Clone)]
pub(super) struct HookRun {
    pub(super) subject: Subject,
    pub(super) appid: Box<str>,
    /// Nothing when there is no valid value.
    pub(super) holding: Option<Holding>,
}

/// Runs the command to its end. Says what went wrong.
pub(super) async fn run(
    command: &[OsString],
    job: &HookRun,
    limit: Duration,
    stopping: &mut watch::Receiver<bool>,
) -> Result<(), String> {
    let mut child = spawn(command, job).map_err(|error| {
        let program = command.first().map(|name| name.display().to_string());
        let reason = crate::fault::reason(&error);
        format!("cannot run `{}`: {reason}", program.unwrap_or_default())
    })?;
    let pid = Pid::from_child(&child);
    let ended = tokio::select! {
        ended = timeout(limit, wait(&mut child)) => ended,
        () = told_to_stop(stopping) => {
            // It may have ended by itself.
            let _ = kill_process_group(pid, Signal::TERM);
            timeout(STOP_GRACE, wait(&mut child)).await
        }
    };
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("COMMAND ended with {status}")),
        Ok(Err(error)) => {
            kill(pid, &mut child);
            Err(format!("cannot wait for COMMAND: {error}"))
        }
        Err(_) => {
            kill(pid, &mut child);
            Err(format!(
                "COMMAND was killed: it did not end within {limit:?}"
            ))
        }
    }
}

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // Without its sender everything stops.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Kills the whole group. The group keeps its number until its leader has been waited for.
fn kill(pid: Pid, child: &mut Child) {
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = child.wait();
}

fn spawn(command: &[OsString], job: &HookRun) -> io::Result<Child> {
    let [program, arguments @ ..] = command else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // A value fits into an empty pipe, so that writing never waits for the command.
    let (input, mut value) = io::pipe()?;
    if let Some(holding) = &job.holding {
        value.write_all(holding.token.expose().as_bytes())?;
    }
    drop(value);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::from(input))
        .process_group(0)
        .env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("WXTOKEND_ACCOUNT", job.subject.account.as_str())
        .env("WXTOKEND_APPID", &*job.appid)
        .env("WXTOKEND_VALUE", job.subject.value.as_str());
    if let Some(holding) = &job.holding {
        command
            .env("WXTOKEND_EXPIRE_TIME", holding.expire_time.to_string())
            .env("WXTOKEND_OBTAINED_TIME", holding.obtained_time.to_string());
    }
    command.spawn()
}

/// Waits for the leader of the group, without a thread and without a signal.
#[expect(
    deprecated,
    reason = "the descriptor is owned and stays open as long as this waits"
)]
async fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let process = AsyncFd::with_interest(process, tokio::io::Interest::READABLE)?;
    let _ended = process.readable().await?;
    child.wait()
}
