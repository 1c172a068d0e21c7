//! Jinja templates of outputs: how an app gets its file in a form that only it knows.
//!
//! A template is compiled once and tried with sample values before any real one meets it, so that its faults are
//! found by `check` and by a reload. Messages never hold a value. The engine works on copies of the values that are
//! freed, but not wiped, when the rendering ends.

use crate::value::ValueName;
use jiff::tz::TimeZone;
use jiff::{Timestamp, fmt::strtime};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;
use zeroize::Zeroizing;

/// The longest template that is read, bytes.
pub(crate) const MAX_SOURCE: u64 = 64 * 1024;
/// The longest `{{ … }}` or `{% … %}`, bytes. A longer expression nests deeper than the engine can follow.
const MAX_TAG: usize = 2000;
/// The stack on which templates are compiled, and rendered where they nest values; more than the fuel can fill.
const DEEP_STACK: usize = 64 << 20;
/// Limit on one rendering, in steps, or in units of 64 bytes.
const FUEL: u64 = 20_000;
/// The engine knows templates by name; there is one in each.
const NAME: &str = "template";

/// A template of an output, compiled. Outputs share it.
pub struct Template {
    path: PathBuf,
    engine: Environment<'static>,
    values: Box<[ValueName]>,
    /// It may put values into values, one `set` after the other, and then needs a deep stack.
    nests: bool,
}

/// The variables of a template.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The local name of the account.
    pub account: &'a str,
    /// Its appid or corpid.
    pub appid: &'a str,
    /// The values that it has: the access token and the tickets that it keeps.
    pub values: &'a [(ValueName, &'a str)],
    /// Expiry of the output's value, Unix seconds.
    pub expire_time: i64,
    /// The moment when the output's value was obtained, Unix seconds.
    pub obtained_time: i64,
    /// Seconds of life that the output's value has left when it is written.
    pub expires_in: u64,
}

/// The reason why a template cannot be used. Displays as `line 3: what is wrong`, without the path; never holds a
/// value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The line of the template, from 1, if it is about one.
    pub line: Option<usize>,
    /// The fault, and what to do about it.
    pub message: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Compiles the source of a template and renders it once with samples of every value there is.
    ///
    /// Whether it suits an account is for [`Template::check`] to say.
    pub fn parse(path: &Path, source: &str) -> Result<Self, TemplateError> {
        if let Some(line) = long_tag(source) {
            return Err(TemplateError {
                line: Some(line),
                message: format!(
                    "a tag is longer than {MAX_TAG} bytes; split the expression with {{% set %}}"
                ),
            });
        }
        let template = deep(|| Self::compile(path, source.to_owned()))??;
        template.check(&ValueName::ALL)?;
        Ok(template)
    }

    fn compile(path: &Path, source: String) -> Result<Self, TemplateError> {
        let mut engine = Environment::new();
        // An error then knows the name of what is undefined.
        engine.set_debug(true);
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_auto_escape_callback(|_| AutoEscape::None);
        engine.set_fuel(Some(FUEL));
        // One that holds itself would be shown without end.
        engine.add_function("namespace", no_namespace);
        engine.add_filter("localtime", localtime);
        engine.add_filter("php_string", php_string);
        engine
            .add_template_owned(NAME, source)
            .map_err(|error| explain(&error, &[]))?;
        let named = engine
            .get_template(NAME)
            .map_err(|error| explain(&error, &[]))?
            .undeclared_variables(false);
        let nests = engine
            .get_template(NAME)
            .is_ok_and(|template| template.source().contains("set"));
        let values = ValueName::ALL
            .into_iter()
            .filter(|value| named.contains(value.as_str()))
            .collect();
        Ok(Self {
            path: path.to_path_buf(),
            engine,
            values,
            nests,
        })
    }

    /// Renders it with samples of `kept`, the values of an account: a ticket that the account does not keep is a
    /// fault.
    pub fn check(&self, kept: &[ValueName]) -> Result<(), TemplateError> {
        let samples: Vec<_> = kept.iter().map(|&name| (name, "1_sample-VALUE")).collect();
        let facts = Facts {
            account: "sample",
            appid: "wx0123456789abcdef",
            values: &samples,
            expire_time: 1_700_007_200,
            obtained_time: 1_700_000_000,
            expires_in: 7200,
        };
        match self.run(facts) {
            Ok(_) => Ok(()),
            Err(error) => {
                let missing: Vec<_> = ValueName::ALL
                    .into_iter()
                    .filter(|name| !kept.contains(name))
                    .collect();
                Err(explain(&error, &missing))
            }
        }
    }

    /// Renders it.
    pub fn render(&self, facts: Facts<'_>) -> Result<Zeroizing<Vec<u8>>, TemplateError> {
        self.run(facts).map_err(|error| TemplateError {
            line: error.line(),
            // Other messages of the engine may quote a value.
            message: error.kind().to_string(),
        })
    }

    fn run(&self, facts: Facts<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
        if self.nests {
            deep(|| self.evaluate(facts))
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.message))?
        } else {
            self.evaluate(facts)
        }
    }

    fn evaluate(&self, facts: Facts<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let template = self.engine.get_template(NAME)?;
        let size = facts.values.iter().map(|(_, value)| value.len());
        let mut output = Zeroizing::new(Vec::with_capacity(
            template.source().len() + size.sum::<usize>() + 64,
        ));
        let mut context = BTreeMap::from([
            ("account", Value::from(facts.account)),
            ("appid", Value::from(facts.appid)),
            ("expire_time", Value::from(facts.expire_time)),
            ("obtained_time", Value::from(facts.obtained_time)),
            ("expires_in", Value::from(facts.expires_in)),
        ]);
        for (name, value) in facts.values {
            context.insert(name.as_str(), Value::from(*value));
        }
        template.render_captured_to(Value::from(context), &mut *output)?;
        // Without what was reserved and not needed, since sockets keep it.
        Ok(Zeroizing::new(output.to_vec()))
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The values that it names: those of them that the account keeps must be there before it can be rendered.
    pub fn values(&self) -> &[ValueName] {
        &self.values
    }

    fn source(&self) -> String {
        self.engine
            .get_template(NAME)
            .map(|template| template.source().to_owned())
            .unwrap_or_default()
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.source() == other.source()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.path).finish()
    }
}

fn no_namespace() -> Result<Value, Error> {
    let message = "there is no `namespace` here; write the template without";
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Does something that may nest deeply, on a stack of its own.
fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TemplateError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .stack_size(DEEP_STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| TemplateError {
                line: None,
                message: format!("no thread can be had: {}", error.kind()),
            })?;
        Ok(thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// The line of the first tag that is too long. Text in quotes may hold what looks like the end of a tag.
fn long_tag(source: &str) -> Option<usize> {
    let bytes = source.as_bytes();
    let mut at = 0;
    while at + 1 < bytes.len() {
        let end = match &bytes[at..at + 2] {
            b"{{" => b"}}",
            b"{%" => b"%}",
            _ => {
                at += 1;
                continue;
            }
        };
        let length = tag_length(&bytes[at..], *end);
        // A short tag that does not end is told by the template engine.
        if length.unwrap_or(bytes.len() - at) > MAX_TAG {
            return Some(source[..at].matches('\n').count() + 1);
        }
        at += length?;
    }
    None
}

/// The bytes from the start of a tag to its end, if it ends.
fn tag_length(tag: &[u8], end: [u8; 2]) -> Option<usize> {
    let mut quote = None;
    let mut at = 2;
    while at < tag.len() {
        match (quote, tag[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if tag[at..].starts_with(&end) => return Some(at + 2),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Says what is wrong and what to do. Only for renderings that met no real value: the engine may quote what it met.
fn explain(error: &Error, missing: &[ValueName]) -> TemplateError {
    let kind = error.kind().to_string();
    let detail = error.detail().unwrap_or(&kind);
    let ticket = missing.iter().find(|name| detail.contains(name.as_str()));
    let message = match (error.kind(), ticket) {
        (ErrorKind::UndefinedError, Some(name)) => format!(
            "`{name}` is not kept by the account; add \"{}\" to its `tickets`",
            name.as_str().trim_end_matches("_ticket")
        ),
        (ErrorKind::UndefinedError, None) => format!(
            "{detail}; there are account, appid, access_token, the account's tickets, expire_time, obtained_time and expires_in"
        ),
        (ErrorKind::SyntaxError, _) => format!("syntax error: {detail}"),
        (ErrorKind::OutOfFuel, _) => {
            "it takes too long or becomes too large; make it simpler".into()
        }
        _ => detail.to_owned(),
    };
    TemplateError {
        line: error.line(),
        message,
    }
}

/// `{{ expire_time|localtime("%Y-%m-%d %H:%M:%S", "Asia/Shanghai") }}`: Unix seconds as local time, in the system's
/// zone unless one is named.
fn localtime(unix: i64, format: &str, zone: Option<&str>) -> Result<String, Error> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let zone = match zone {
        None => TimeZone::system(),
        Some(name) => TimeZone::get(name).map_err(|_| {
            invalid(format!(
                "time zone `{name}` is unknown; name it as in /usr/share/zoneinfo (package tzdata), like `Asia/Shanghai`"
            ))
        })?,
    };
    let time = Timestamp::from_second(unix)
        .map_err(|_| invalid("the number is not a time in Unix seconds".into()))?;
    strtime::format(format, &time.to_zoned(zone))
        .map_err(|error| invalid(format!("time format `{format}`: {error}")))
}

/// `{{ access_token|php_string }}`: a string literal of PHP, in single quotes.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a filter's argument, of the type that knows what is undefined"
)]
fn php_string(text: Cow<'_, str>) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> Result<Template, TemplateError> {
        Template::compile(Path::new("x.j2"), source.into())
    }

    fn render(source: &str, values: &[(ValueName, &str)]) -> Result<String, TemplateError> {
        let output = template(source)?.render(Facts {
            account: "shop",
            appid: "wx0123456789abcdef",
            values,
            expire_time: 1_469_175_195,
            obtained_time: 1_469_167_995,
            expires_in: 7199,
        })?;
        Ok(String::from_utf8(output.to_vec()).unwrap())
    }

    #[test]
    fn renders() {
        let values = [
            (ValueName::AccessToken, "tok-1_x"),
            (ValueName::JsapiTicket, "tick"),
        ];
        for (source, expected) in [
            ("{{ access_token }}\n", "tok-1_x"),
            ("{{ account }} {{ appid }}", "shop wx0123456789abcdef"),
            ("{{ expire_time - obtained_time }}", "7200"),
            ("{{ jsapi_ticket|length }}", "4"),
            ("{{ expires_in }}", "7199"),
            (
                "{% if wx_card_ticket is defined %}a{% else %}b{% endif %}",
                "b",
            ),
            (
                "{{ expire_time|localtime('%Y/%-m/%-d %-H:%M:%S', 'Asia/Shanghai') }}",
                "2016/7/22 16:13:15",
            ),
            (
                "{{ expire_time|localtime('%F %T %z', 'UTC') }}",
                "2016-07-22 08:13:15 +0000",
            ),
            ("{{ '<&>' }}", "<&>"),
            (r#"{{ "a'b\\c"|php_string }}"#, r"'a\'b\\c'"),
            ("{{ access_token|php_string }}", "'tok-1_x'"),
        ] {
            assert_eq!(render(source, &values).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn names_line_and_remedy() {
        for (source, line, message) in [
            ("{{ }", 1, "syntax error: unexpected `}`"),
            ("\n{% include 'x' %}", 2, "unknown statement include"),
            (
                "\n\n{{ acces_token }}",
                3,
                "`acces_token` is undefined; there are",
            ),
            ("{% if foo %}{% endif %}", 1, "`foo` is undefined"),
            (
                "a\nb {{ jsapi_ticket }}",
                2,
                "`jsapi_ticket` is not kept by the account; add \"jsapi\" to its `tickets`",
            ),
            (
                "{{ wx_card_ticket|php_string }}",
                1,
                "add \"wx_card\" to its `tickets`",
            ),
            ("{{ access_token|shout }}", 1, "filter shout is unknown"),
            (
                "{{ access_token|localtime('%F') }}",
                1,
                "cannot convert string",
            ),
            ("{{ expire_time|localtime('%!') }}", 1, "time format `%!`"),
            (
                "{{ expire_time|localtime('%F', 'Asia/Beijing') }}",
                1,
                "time zone `Asia/Beijing` is unknown",
            ),
            (
                "{% for i in range(100000) %}{{ i }}{% endfor %}",
                1,
                "it takes too long",
            ),
        ] {
            let error = template(source)
                .and_then(|template| template.check(&[ValueName::AccessToken]))
                .unwrap_err();
            assert_eq!(error.line, Some(line), "{source}: {error}");
            assert!(error.message.contains(message), "{source}: {error}");
        }
    }

    #[test]
    fn deep_template_is_a_fault() {
        let many = |piece: &str, count: usize| piece.repeat(count);
        for (source, message) in [
            (
                format!("{{{{ 1{} }}}}", many("+1", 31_000)),
                "longer than 2000 bytes",
            ),
            (
                format!("{{{{ {}1 }}}}", many("-", 20_000)),
                "longer than 2000 bytes",
            ),
            (
                format!("{{{{ '}}}}' ~ 1{} }}}}", many("+1", 31_000)),
                "longer than 2000 bytes",
            ),
            (
                format!("{{{{ {}1{} }}}}", many("(", 900), many(")", 900)),
                "syntax error",
            ),
            (
                "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".to_owned(),
                "there is no `namespace` here",
            ),
            (
                format!(
                    "{}{{{{ access_token }}}}{}",
                    many("{% if true %}", 2000),
                    many("{% endif %}", 2000)
                ),
                "syntax error",
            ),
        ] {
            let error = Template::parse(Path::new("x.j2"), &source).unwrap_err();
            assert!(error.message.contains(message), "{error}");
        }
        // Deep tags that end are rendered.
        let deep = format!(
            "{{% set a = [1] %}}{}{{{{ a|length }}}}",
            many("{% set a = [a] %}", 3000)
        );
        assert_eq!(render(&deep, &[]).as_deref(), Ok("1"));
        let shown = format!(
            "{{% set a = [1] %}}{}{{{{ a }}}}",
            many("{% set a = [a] %}", 3000)
        );
        assert!(render(&shown, &[]).is_ok());
    }

    #[test]
    fn a_failed_rendering_tells_nothing_of_the_value() {
        for source in ["{{ access_token|int }}", "{{ [1][access_token] + 1 }}"] {
            let error = render(source, &[(ValueName::AccessToken, "s3cret")]).unwrap_err();
            assert_eq!(error.line, Some(1));
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn knows_which_values_it_names() {
        let template = template("{{ jsapi_ticket }}{% set agent_ticket = 1 %}{{ access_token }}");
        assert_eq!(
            template.unwrap().values(),
            [ValueName::AccessToken, ValueName::JsapiTicket]
        );
    }

    #[test]
    fn is_equal_by_file_and_content() {
        assert_eq!(template("a").unwrap(), template("a").unwrap());
        assert_ne!(template("a").unwrap(), template("b").unwrap());
    }
}
