//! The answers about a new account, from the command line and from the terminal, and the file made of them.

use super::prompt::Prompt;
use super::{AddArgs, NotAdded};
use crate::account::AccountName;
use crate::cli::Exit;
use crate::cli::client::complain;
use crate::config::{Environment, missing_reader};
use crate::files::read_secret;
use crate::platform::{Platform, Platforms};
use crate::secret::Secret;
use crate::text::decode;
use std::fmt::Write;
use std::io;
use std::path::Path;

/// The formats of an output that need no other key.
const FORMATS: [&str; 5] = ["json", "php", "api", "raw", "env"];

/// A new account.
pub(super) struct Answers {
    platform: &'static Platform,
    id: String,
    agentid: Option<u32>,
    pub(super) secret: Secret,
    pub(super) readers: Vec<String>,
    files: Vec<NewOutput>,
    sockets: Vec<NewOutput>,
}

struct NewOutput {
    format: Option<&'static str>,
    path: String,
}

/// A value, or what is wrong with it.
type Parsed<T> = Result<T, String>;

impl Answers {
    /// Takes what the options say, and asks for the rest where there is a terminal.
    pub(super) fn gather(
        args: &AddArgs,
        name: &AccountName,
        prompt: &Prompt,
        environment: &Environment,
    ) -> Result<Self, NotAdded> {
        let asks = prompt.is_answered();
        let platforms = environment.platforms;
        let (platform, id) = match &args.appid {
            Some(id) => parse_id(id, platforms).map_err(usage)?,
            None if asks => ask(prompt, &id_question(platforms), |id| {
                parse_id(id, platforms)
            })?,
            None => return Err(usage("give the appid with --appid".to_owned())),
        };
        let agentid = match (&args.agentid, platform.ids.app_key) {
            (Some(number), Some(_)) => parse_agentid(number).map_err(usage)?,
            (Some(_), None) => {
                let why = format!("--agentid is not for {}", platform.products);
                return Err(usage(why));
            }
            (None, Some(key)) if asks => {
                let question = format!("{key}, if the corp has several apps []: ");
                ask(prompt, &question, parse_agentid)?
            }
            (None, _) => None,
        };
        let secret = secret(args, prompt)?;
        let readers = readers(args, prompt, environment)?;
        let (files, sockets) = outputs(args, name, prompt, environment)?;
        Ok(Self {
            platform,
            id,
            agentid,
            secret,
            readers,
            files,
            sockets,
        })
    }

    /// The file that describes the account.
    pub(super) fn drop_in(&self, name: &AccountName, secret: &Path) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut text = format!(
            "# wxtokend.toml(5) explains every key. After a change: wxtokend check && systemctl reload wxtokend\n\n\
             [accounts.{name}]\n{} = {}\n",
            self.platform.ids.key,
            quoted(&self.id)
        );
        // Writing to a String cannot fail.
        if let (Some(key), Some(agentid)) = (self.platform.ids.app_key, self.agentid) {
            let _ = writeln!(text, "{key} = {agentid}");
        }
        let _ = writeln!(text, "secret_file = {}", quoted(&secret.to_string_lossy()));
        let readers: Vec<_> = self.readers.iter().map(|reader| quoted(reader)).collect();
        let _ = writeln!(text, "readers = [{}]", readers.join(", "));
        let outputs = [
            ("file", &self.files, None),
            ("socket", &self.sockets, Some("raw")),
        ];
        for (kind, outputs, usual) in outputs {
            for output in outputs {
                let path = quoted(&output.path);
                let _ = write!(text, "\n[[accounts.{name}.{kind}]]\npath = {path}\n");
                if let Some(format) = output.format.or(usual) {
                    let _ = writeln!(text, "format = \"{format}\"");
                }
            }
        }
        text
    }

    /// The paths where its apps find it.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let outputs = self.files.iter().chain(&self.sockets);
        outputs.map(|output| output.path.as_str())
    }
}

fn usage(why: String) -> NotAdded {
    NotAdded::new(Exit::Usage, why)
}

/// Asks until the answer is right.
fn ask<T>(
    prompt: &Prompt,
    question: &str,
    parse: impl Fn(&str) -> Parsed<T>,
) -> Result<T, NotAdded> {
    loop {
        match parse(&prompt.ask(question).map_err(|error| unanswered(&error))?) {
            Ok(answer) => return Ok(answer),
            Err(why) => why.lines().for_each(|line| complain(&format!("  {line}"))),
        }
    }
}

fn unanswered(error: &io::Error) -> NotAdded {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "no answer: nothing was added".to_owned(),
        _ => format!("cannot ask: {error}"),
    };
    NotAdded::new(Exit::Failure, why)
}

/// The AppSecret: from the file that is named, the terminal, or standard input. It is never shown.
fn secret(args: &AddArgs, prompt: &Prompt) -> Result<Secret, NotAdded> {
    let is_input = |path: &Path| path == Path::new("-");
    match &args.secret_from {
        Some(path) if !is_input(path) => read_secret(path).map_err(usage),
        _ if prompt.is_terminal() => loop {
            let line = prompt.ask_hidden("AppSecret (it is not shown): ");
            match Secret::parse(&line.map_err(|error| unanswered(&error))?) {
                Ok(secret) => return Ok(secret),
                Err(why) => complain(&format!("  {why}: copy it from the platform's console")),
            }
        },
        _ => {
            let bytes = prompt.rest().map_err(|error| unanswered(&error))?;
            let text = decode(&bytes).map_err(|why| usage(format!("standard input {why}")))?;
            Secret::parse(text).map_err(|why| usage(format!("standard input: {why}")))
        }
    }
}

fn readers(
    args: &AddArgs,
    prompt: &Prompt,
    environment: &Environment,
) -> Result<Vec<String>, NotAdded> {
    let check = |names: &[String]| -> Parsed<()> {
        let missing = |name: &String| missing_reader(&environment.names, name);
        let missing = names.iter().find_map(missing);
        missing.map_or(Ok(()), |why| Err(format!("a reader {why}")))
    };
    if args.readers.is_empty() && prompt.is_answered() {
        let question = "Readers, users and @groups with spaces between []: ";
        return ask(prompt, question, |line| {
            let names = line.replace(',', " ");
            let names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
            check(&names).map(|()| names)
        });
    }
    check(&args.readers).map_err(usage)?;
    Ok(args.readers.clone())
}

/// The files and the sockets.
fn outputs(
    args: &AddArgs,
    name: &AccountName,
    prompt: &Prompt,
    environment: &Environment,
) -> Result<(Vec<NewOutput>, Vec<NewOutput>), NotAdded> {
    let (asks, runtime) = (prompt.is_answered(), environment.runtime_dir());
    let usual = || NewOutput {
        format: None,
        path: format!("{}/{name}.json", runtime.display()),
    };
    let mut files = parse_outputs(&args.files).map_err(usage)?;
    let mut sockets = parse_outputs(&args.sockets).map_err(usage)?;
    if files.is_empty() && !args.no_file {
        if asks {
            let question = format!("File for its apps, or none [json:{}]: ", usual().path);
            files = ask(prompt, &question, |line| match line {
                "" => Ok(vec![usual()]),
                line => parse_answer(line),
            })?;
        } else if sockets.is_empty() {
            files.push(usual());
        }
    }
    if sockets.is_empty() && asks {
        let example = runtime.join(format!("{name}.sock"));
        let question = format!("Token socket, such as {} [none]: ", example.display());
        sockets = ask(prompt, &question, parse_answer)?;
    }
    Ok((files, sockets))
}

fn id_question(platforms: Platforms) -> String {
    let ids = platforms.0.iter();
    let ids = ids.map(|platform| format!("{} ({})", platform.ids.key, platform.products));
    format!("{}: ", ids.collect::<Vec<_>>().join(" or "))
}

/// The platform is the one that has such ids.
fn parse_id(id: &str, platforms: Platforms) -> Parsed<(&'static Platform, String)> {
    let checked: Vec<_> = (platforms.0.iter())
        .map(|platform| (*platform, (platform.ids.check)(id)))
        .collect();
    let usual = checked.iter().find(|(_, check)| matches!(check, Ok(None)));
    let found = usual.or_else(|| checked.iter().find(|(_, check)| check.is_ok()));
    if let Some((platform, _)) = found {
        return Ok((platform, id.to_owned()));
    }
    let wrong = checked.iter().filter_map(|(platform, check)| {
        let why = check.err()?;
        Some(format!("{} {why}", platform.ids.key))
    });
    Err(wrong.collect::<Vec<_>>().join("\n"))
}

fn parse_agentid(number: &str) -> Parsed<Option<u32>> {
    match number.parse() {
        Ok(number @ 1..) => Ok(Some(number)),
        _ if number.is_empty() => Ok(None),
        _ => Err("the agentid must be a whole number from 1".to_owned()),
    }
}

fn parse_answer(line: &str) -> Parsed<Vec<NewOutput>> {
    match line {
        "" | "none" => Ok(Vec::new()),
        line => parse_output(line).map(|output| vec![output]),
    }
}

fn parse_outputs(texts: &[String]) -> Parsed<Vec<NewOutput>> {
    texts.iter().map(|text| parse_output(text)).collect()
}

/// `[FORMAT:]PATH`
fn parse_output(text: &str) -> Parsed<NewOutput> {
    let (format, path) = match text.split_once(':') {
        Some((format, path)) if !text.starts_with('/') => {
            let known = FORMATS.iter().find(|known| **known == format);
            let wrong = || format!("the format must be one of {}", FORMATS.join(", "));
            (Some(*known.ok_or_else(wrong)?), path)
        }
        _ => (None, text),
    };
    if !path.starts_with('/') {
        return Err("the path of an output must begin with /".to_owned());
    }
    let path = path.to_owned();
    Ok(NewOutput { format, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_id_tells_its_platform() {
        let check = |id: &str, expected: Result<&str, &str>| {
            let parsed = parse_id(id, Platforms::default());
            match (parsed, expected) {
                (Ok((platform, _)), Ok(key)) => assert_eq!(platform.ids.key, key, "{id}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{id}: {why}"),
                (parsed, _) => panic!("{id}: {:?}", parsed.map(|(platform, _)| platform.kind)),
            }
        };
        check("wx0123456789abcdef", Ok("appid"));
        check("ww0123456789abcdef", Ok("corpid"));
        check("wpAB_-0123456789abcdef0123456789", Ok("corpid"));
        check("gh_0123456789ab", Err("原始ID"));
        check("", Err("must be wx"));
    }

    #[test]
    fn outputs_have_a_path_and_perhaps_a_format() {
        let check = |text: &str, expected: Result<(Option<&str>, &str), &str>| {
            let parsed = parse_output(text).map(|output| (output.format, output.path));
            match (parsed, expected) {
                (Ok((format, path)), Ok(right)) => assert_eq!((format, &*path), right),
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        };
        check("/run/a", Ok((None, "/run/a")));
        check("/run/a:b", Ok((None, "/run/a:b")));
        check("php:/run/a", Ok((Some("php"), "/run/a")));
        check("xml:/run/a", Err("json, php"));
        check("run/a", Err("begin with /"));
        check("php:a", Err("begin with /"));
    }

    #[test]
    fn written_account_is_toml() {
        let answers = Answers {
            platform: Platforms::default().0[1],
            id: "ww0123456789abcdef".to_owned(),
            agentid: Some(7),
            secret: Secret::parse("CANARY").unwrap(),
            readers: vec!["www-data".to_owned(), "@odd\"name".to_owned()],
            files: vec![parse_output("php:/run/a\\b").unwrap()],
            sockets: vec![parse_output("/run/a.sock").unwrap()],
        };
        let name = AccountName::parse("shop").unwrap();
        let text = answers.drop_in(&name, Path::new("/etc/secrets/shop"));
        assert!(!text.contains("CANARY"));
        let parsed: toml::Table = text.parse().unwrap();
        let shop = &parsed["accounts"]["shop"];
        assert_eq!(shop["corpid"].as_str(), Some("ww0123456789abcdef"));
        assert_eq!(shop["agentid"].as_integer(), Some(7));
        assert_eq!(shop["readers"][1].as_str(), Some("@odd\"name"));
        assert_eq!(shop["file"][0]["path"].as_str(), Some("/run/a\\b"));
        assert_eq!(shop["file"][0]["format"].as_str(), Some("php"));
        assert_eq!(shop["socket"][0]["format"].as_str(), Some("raw"));
    }
}
