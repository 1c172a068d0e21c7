//! `wxtokend add`

mod answers;
mod prompt;

use super::client::complain;
use super::new_file::{NewFile, group_for, untrusted};
use super::{CommonArgs, Exit};
use crate::account::AccountName;
use crate::config::{self, Environment};
use crate::fault::reason;
use answers::Answers;
use prompt::Prompt;
use rustix::fs::{Access, AtFlags, CWD, accessat, chown};
use rustix::process::Gid;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Add an account
///
/// Asks on a terminal for what no option gives: the appid, the AppSecret (which is not shown), the readers and the
/// outputs. Writes the AppSecret into a file that only root and the daemon can read, describes the account in a file of
/// its own, and has `wxtokend check --online` try it. Overwrites nothing.
///
/// Both files are made beside the configuration: secrets/NAME, and NAME.toml where its `include` finds it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct AddArgs {
    /// The name of the account
    #[arg(value_name = "NAME")]
    name: String,

    /// The appid; for 企业微信 the corpid
    #[arg(long, visible_alias = "corpid", value_name = "ID")]
    appid: Option<String>,

    /// 企业微信: the number of the app, where the corp has several
    #[arg(long, value_name = "NUMBER")]
    agentid: Option<String>,

    /// A file that holds the AppSecret; - is standard input [default: ask on the terminal, else standard input]
    #[arg(long, value_name = "PATH")]
    secret_from: Option<PathBuf>,

    /// A user or @group that may read the values; may be repeated
    #[arg(long = "reader", value_name = "READER")]
    readers: Vec<String>,

    /// A file for its apps; may be repeated [default: json at /run/wxtokend/NAME.json]
    ///
    /// The format is json, php, api, raw or env.
    #[arg(long = "file", value_name = "[FORMAT:]PATH")]
    files: Vec<String>,

    /// Make no file for its apps
    #[arg(long, conflicts_with = "files")]
    no_file: bool,

    /// A token socket for its apps, of format raw unless it says so; may be repeated
    #[arg(long = "token-socket", value_name = "[FORMAT:]PATH")]
    sockets: Vec<String>,

    /// Do not ask the platform
    #[arg(long)]
    offline: bool,
}

const AFTER_HELP: &str = "\
Exit status:
   0  Added.
   1  There is such an account or file already, or a file cannot be made. Nothing is changed.
   2  The command line, or the AppSecret, is wrong. Nothing is changed.
  69  The platform refuses, or could not be asked. The files stay; what was wrong is printed.
  77  You are not allowed to.
  78  The configuration is faulty, or would be. Nothing is changed.

Examples:
  wxtokend add shop
  wxtokend add shop --appid wx0123456789abcdef --secret-from - --reader www-data < secret";

/// The reason why no account was added.
struct NotAdded {
    exit: Exit,
    why: String,
}

impl NotAdded {
    fn new(exit: Exit, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { exit, why }
    }

    fn file(path: &Path, error: &io::Error) -> Self {
        let shown = path.display();
        let (exit, why) = match error.kind() {
            io::ErrorKind::AlreadyExists => (
                Exit::Failure,
                format!(
                    "`{shown}` is there already and is left as it is: choose another name, or remove it first"
                ),
            ),
            io::ErrorKind::PermissionDenied => (
                Exit::NotAllowed,
                format!("`{shown}`: permission denied; run this as root"),
            ),
            _ => (Exit::Failure, format!("`{shown}`: {}", reason(error))),
        };
        Self { exit, why }
    }
}

/// The place of what is added.
struct NewAccountFiles<'a> {
    config: &'a Path,
    drop_in: PathBuf,
    secret: PathBuf,
    environment: &'a Environment,
}

/// Adds an account, and says what to do next.
pub fn run(common: &CommonArgs, args: &AddArgs) -> Exit {
    super::hide_memory();
    add(common, args).unwrap_or_else(|not_added| {
        for line in not_added.why.lines() {
            complain(&format!("wxtokend: {line}"));
        }
        not_added.exit
    })
}

fn add(common: &CommonArgs, args: &AddArgs) -> Result<Exit, NotAdded> {
    let config = std::path::absolute(&common.config)
        .map_err(|error| NotAdded::file(&common.config, &error))?;
    let Some(name) = AccountName::parse(&args.name) else {
        let why = "the name of an account must be 1 to 64 of a-z, 0-9, - and _, and begin with a letter or digit";
        return Err(NotAdded::new(Exit::Usage, why));
    };
    let environment = Environment::from_process();
    let target = target(&config, &name, &environment)?;
    let prompt = Prompt::new()
        .map_err(|error| NotAdded::new(Exit::Failure, format!("cannot ask: {error}")))?;
    let answers = Answers::gather(args, &name, &prompt, &environment)?;
    drop(prompt);
    target.write(&answers, &name)?;
    target.check(args, &answers, &name)
}

/// Finds the place, and sees that nothing is in the way.
fn target<'a>(
    config: &'a Path,
    name: &AccountName,
    environment: &'a Environment,
) -> Result<NewAccountFiles<'a>, NotAdded> {
    File::open(config).map_err(|error| NotAdded::file(config, &error))?;
    let file = format!("{name}.toml");
    let Some(drop_in) = config::drop_in_path(config, &file) else {
        let why = format!(
            "`include` of `{}` would not find `{file}`: set include = [\"accounts.d/*.toml\"] under [daemon], and create that directory",
            config.display()
        );
        return Err(NotAdded::new(Exit::BadConfiguration, why));
    };
    let parent = config.parent().unwrap_or(Path::new("/"));
    let secrets = parent.join("secrets");
    let accounts = drop_in.parent().unwrap_or(parent);
    for directory in [accounts, &*secrets] {
        // The directory of secrets is made where there is none.
        let directory = if directory.exists() {
            directory
        } else {
            parent
        };
        let flags = AtFlags::EACCESS;
        accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, flags)
            .map_err(|error| NotAdded::file(directory, &error.into()))?;
        let untrusted = untrusted(directory);
        if let Some((at, why)) = untrusted.map_err(|error| NotAdded::file(directory, &error))? {
            let at = at.display();
            let why = format!(
                "`{at}` {why}, who could put another AppSecret in place: run `chown root {at}; chmod go-w {at}`"
            );
            return Err(NotAdded::new(Exit::Failure, why));
        }
    }
    match config::load(config, environment) {
        Ok(loaded) if loaded.config.accounts.contains_key(name) => {
            let why = format!(
                "account `{name}` is there already: choose another name, or edit it where it stands"
            );
            return Err(NotAdded::new(Exit::Failure, why));
        }
        Ok(_) => {}
        Err(faults) => {
            let faults = faults.iter().filter(|fault| !fault.is_warning);
            let mut lines: Vec<_> = faults.map(ToString::to_string).collect();
            lines.push("correct the configuration first; nothing was added".to_owned());
            return Err(NotAdded::new(Exit::BadConfiguration, lines.join("\n")));
        }
    }
    let secret = secrets.join(name.as_str());
    for path in [&drop_in, &secret] {
        if path.symlink_metadata().is_ok() {
            let error = io::ErrorKind::AlreadyExists.into();
            return Err(NotAdded::file(path, &error));
        }
    }
    Ok(NewAccountFiles {
        config,
        drop_in,
        secret,
        environment,
    })
}

impl NewAccountFiles<'_> {
    /// Makes both files, or none of them.
    fn write(&self, answers: &Answers, name: &AccountName) -> Result<(), NotAdded> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |error: io::Error| NotAdded::file(&path, &error)
        };
        let directory = self.secret.parent().unwrap_or(self.config);
        let group = group_for(directory, self.config, self.environment);
        if !directory.exists() {
            make_directory(directory, group).map_err(failed(directory))?;
        }
        let secret = NewFile {
            path: &self.secret,
            mode: if group.is_some() { 0o640 } else { 0o600 },
            group,
        };
        secret
            .make(answers.secret.expose().as_bytes())
            .map_err(failed(&self.secret))?;
        let drop_in = NewFile {
            path: &self.drop_in,
            mode: 0o644,
            group: None,
        };
        let text = answers.drop_in(name, &self.secret);
        drop_in.make(text.as_bytes()).map_err(|error| {
            let _ = fs::remove_file(&self.secret);
            NotAdded::file(&self.drop_in, &error)
        })
    }

    /// Has the files checked as the daemon would read them, and says how to go on.
    #[expect(clippy::print_stdout, reason = "the command's output")]
    fn check(
        &self,
        args: &AddArgs,
        answers: &Answers,
        name: &AccountName,
    ) -> Result<Exit, NotAdded> {
        let (drop_in, secret) = (self.drop_in.display(), self.secret.display());
        println!("made {drop_in} and {secret}");
        let mut check = Command::new("/proc/self/exe");
        check.arg("check").arg("--config").arg(self.config);
        if !args.offline {
            check.args(["--online", "--account", name.as_str()]);
        }
        let status = check.stdin(Stdio::null()).status();
        let code = status.ok().and_then(|status| status.code());
        if code == Some(Exit::BadConfiguration as i32) {
            for path in [&self.drop_in, &self.secret] {
                fs::remove_file(path).map_err(|error| NotAdded::file(path, &error))?;
            }
            let why = format!("the check found faults: removed {drop_in} and {secret} again");
            return Err(NotAdded::new(Exit::BadConfiguration, why));
        }
        let is_usual = self.config == Path::new(super::DEFAULT_CONFIG);
        let (reload, again) = if is_usual {
            let again = "wxtokend check --online".to_owned();
            ("systemctl reload wxtokend".to_owned(), again)
        } else {
            let config = self.config.display();
            let with = |command: &str| format!("wxtokend {command} --config {config}");
            (with("reload"), with("check --online"))
        };
        if code != Some(Exit::Success as i32) {
            let why = match code {
                Some(_) => "the check failed",
                None => "the check did not end",
            };
            let why = format!(
                "{why}; {drop_in} and {secret} stay: do what it says, then run `{again}` and `{reload}`"
            );
            return Err(NotAdded::new(Exit::Unavailable, why));
        }
        println!("\nNext:\n  {reload}\n  wxtokend status {name}");
        for path in answers.paths() {
            println!("Apps then read {path}");
        }
        if answers.readers.is_empty() {
            println!(
                "Only root and the daemon's user may read it: add `readers` in {drop_in} for others"
            );
        }
        Ok(Exit::Success)
    }
}

fn make_directory(directory: &Path, group: Option<u32>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(directory)?;
    if let Some(group) = group {
        chown(directory, None, Some(Gid::from_raw(group)))?;
        fs::set_permissions(directory, Permissions::from_mode(0o750))?;
    }
    Ok(())
}
