//! `wxtokend demo`

use super::client::complain;
use super::{CommonArgs, Exit};
use crate::clock;
use crate::config::{self, Environment, LogLevel};
use crate::daemon::Daemon;
use crate::fault::reason;
use crate::handle::SnapshotCell;
use crate::logging::Log;
use crate::sim::{SimPlatform, World};
use crate::snapshot::Snapshot;
use crate::time::human;
use crate::value::ValueName;
use futures_core::Stream;
use signal_hook::consts::SIGHUP;
use signal_hook_tokio::Signals;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::future::poll_fn;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The simulated platform's AppSecret of both accounts.
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// A token is asked for each second near its end, which is known to the second: less would leave a gap.
const WINDOW: Duration = Duration::from_millis(2500);
/// As the real platform has it.
const LONGEST_WINDOW: Duration = Duration::from_secs(300);
/// Shorter lives leave nothing to read.
const SHORTEST: Duration = Duration::from_secs(4);

/// Show the whole thing with nothing to set up
///
/// Runs a simulated WeChat platform inside the process, on a loopback address, and the daemon with two accounts on it.
/// The tokens live briefly, so that you see them change. Prints what to read and how, then each rotation as it happens.
/// Everything it makes is in a fresh temporary directory and removed on Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct DemoArgs {
    /// Lifetime of a token of the simulated platform
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::duration)]
    pub lifetime: Duration,

    /// The address that the simulated platform listens on, for an app of yours that is to call it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Leave the directory behind on exit
    #[arg(long)]
    pub keep: bool,
}

const AFTER_HELP: &str = "\
Exit status:
   0  Ended by Ctrl-C; everything it made is removed.
   1  Something went wrong.";

/// Runs platform and daemon until Ctrl-C.
pub fn run(_common: &CommonArgs, args: &DemoArgs) -> Exit {
    super::hide_memory();
    match show(args) {
        Ok(()) => Exit::Success,
        Err(error) => {
            complain(&error);
            Exit::Failure
        }
    }
}

const ACCOUNTS: [(&str, &str, &str); 2] = [
    ("shop", "wx00000000000d0001", "stable"),
    ("blog", "wx00000000000d0002", "classic"),
];

fn show(args: &DemoArgs) -> Result<(), String> {
    if args.lifetime < SHORTEST {
        return Err("--lifetime: at least 4s, so that there is something to see".to_owned());
    }
    let said = |what: &'static str| {
        move |error: std::io::Error| format!("cannot {what}: {}", reason(&error))
    };
    let runtime = super::run::runtime().map_err(said("start the runtime"))?;
    let entered = runtime.enter();
    // The daemon takes SIGHUP for a reload; here it says that the terminal was closed.
    let mut closed = Signals::new([SIGHUP]).map_err(said("handle signals"))?;
    drop(entered);
    let audience = Arc::new(Notify::new());
    let mut directory = tempfile::Builder::new()
        .prefix("wxtokend-demo.")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(said("make a temporary directory"))?;
    directory.disable_cleanup(args.keep);
    let dir = directory.path();
    let mut world = World::new();
    for (_, appid, _) in ACCOUNTS {
        let account = world.account(appid, SECRET).lifetime(args.lifetime);
        account.window = Some((args.lifetime / 4).clamp(WINDOW, LONGEST_WINDOW));
    }
    let platform =
        SimPlatform::start(args.listen, world).map_err(said("start the simulated platform"))?;
    let path = dir.join("config.toml");
    std::fs::write(&path, configuration(dir, &platform.base_url()))
        .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o600)))
        .map_err(said("write the configuration"))?;
    let environment = Environment {
        runtime_dir: Some(dir.to_owned()),
        ..Environment::default()
    };
    let loaded = config::load(&path, &environment).map_err(|faults| {
        faults
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    let log = Log::start(LogLevel::Warn);
    runtime.block_on(async {
        let daemon = Daemon::start(loaded, environment, log)
            .await
            .map_err(|error| format!("{error:?}"))?;
        say(&introduction(dir, &platform.base_url(), args), &audience);
        for handle in daemon.directory().borrow().values() {
            tokio::spawn(rotations(handle.snapshot.clone(), audience.clone()));
        }
        let mut hangup = pin!(poll_fn(|context| Pin::new(&mut closed).poll_next(context)));
        tokio::select! {
            () = daemon.run() => {}
            _ = &mut hangup => {}
            () = audience.notified() => {}
        }
        Ok::<_, String>(())
    })?;
    if args.keep {
        say(&format!("\n{} is kept\n", dir.display()), &audience);
    } else {
        directory
            .close()
            .map_err(said("remove the temporary directory"))?;
        say("\nEverything is removed.\n", &audience);
    }
    Ok(())
}

/// The daemon's own configuration format, as an administrator would write it.
fn configuration(dir: &Path, platform: &str) -> String {
    let dir = dir.display();
    // Whoever runs the demo may see all of it.
    let user = rustix::process::getuid().as_raw();
    let mut text = format!(
        "[daemon]\nstate_dir = \"{dir}/state\"\n\n[api]\nsocket = \"{dir}/api.sock\"\nadmins = [\"{user}\"]\n\n\
         [platform]\nhosts = [\"{platform}\"]\nwecom_hosts = [\"{platform}\"]\n"
    );
    for (name, appid, method) in ACCOUNTS {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n[accounts.{name}]\nappid = \"{appid}\"\nmethod = \"{method}\"\nsecret = \"{SECRET}\"\n\n\
             [[accounts.{name}.file]]\npath = \"{dir}/{name}.json\"\n\n\
             [[accounts.{name}.socket]]\npath = \"{dir}/{name}.sock\"\nformat = \"raw\"\n"
        );
    }
    text
}

fn introduction(dir: &Path, platform: &str, args: &DemoArgs) -> String {
    let life = human(args.lifetime);
    let dir = dir.display();
    let program = program();
    format!(
        "A simulated WeChat platform is on {platform}; its tokens live {life}.
wxtokend keeps two accounts fresh: shop (stable) and blog (classic). Everything is in {dir}

Read a token, as an app would:

  shell   cat {dir}/shop.json
          curl --silent --unix-socket {dir}/api.sock http://localhost/v1/accounts/shop/token
  PHP     echo json_decode(file_get_contents('{dir}/shop.json'))->access_token;
          echo stream_get_contents(stream_socket_client('unix://{dir}/shop.sock'));
  C#      var token = JsonDocument.Parse(File.ReadAllText(\"{dir}/shop.json\"))
                      .RootElement.GetProperty(\"access_token\").GetString();

Is it alive? (printf 'url = {platform}/probe?access_token='; curl --silent --unix-socket {dir}/shop.sock --http0.9 http://x) |
             curl --silent --config -

Look around:

  {program} status --watch --socket {dir}/api.sock
  cat {dir}/config.toml

Each new token, as it comes (Ctrl-C ends the demo and removes everything):

"
    )
}

/// This program, as a shell finds it: `cargo run` starts one that is not installed.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    match std::env::current_exe() {
        Ok(path) if called.as_encoded_bytes().contains(&b'/') => path.display().to_string(),
        _ => "wxtokend".to_owned(),
    }
}

/// Writes to standard output. When nobody reads there any more, the demo ends.
fn say(text: &str, audience: &Notify) {
    let mut out = std::io::stdout();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        audience.notify_one();
    }
}

/// Prints each new token of an account, by its fingerprint.
async fn rotations(published: Arc<SnapshotCell>, audience: Arc<Notify>) {
    let mut last = None;
    let mut seen: Option<Arc<Snapshot>> = None;
    loop {
        let is_new =
            |latest: &Arc<Snapshot>| seen.as_ref().is_none_or(|old| !Arc::ptr_eq(old, latest));
        let Some(current) = published.when(is_new).await else {
            return;
        };
        let now = clock::now();
        if let Some(grant) = current.valid(ValueName::AccessToken, now.at)
            && last != Some(grant.value.fingerprint())
        {
            let time = jiff::Zoned::now().strftime("%H:%M:%S");
            let (name, token) = (&current.account.name, grant.value.fingerprint());
            let lifetime = human(now.at.until(grant.expires));
            let line = match last {
                None => format!("{time}  {name}  token {token}, lives {lifetime}"),
                Some(old) => {
                    format!("{time}  {name}  token {token} replaces {old}, lives {lifetime}")
                }
            };
            say(&(line + "\n"), &audience);
            last = Some(token);
        }
        seen = Some(current);
    }
}
