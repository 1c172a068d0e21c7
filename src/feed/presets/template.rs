//! Templates of keys and of what stands in them.

use crate::statement::unix_now;
use crate::wish::TargetWish;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use wxtokend::value::ValueName;
use zeroize::Zeroizing;

/// A template of a key or of what stands in it.
#[derive(Clone)]
pub struct KeyTemplate {
    text: Arc<str>,
    value: ValueName,
    engine: Arc<Environment<'static>>,
}

/// The engine knows templates by name; there is one in each.
const NAME: &str = "template";
const FUEL: u64 = 20_000;

impl KeyTemplate {
    /// Compiles a template and tries it. Says what is wrong as the rest of a sentence that its key begins.
    pub fn parse(text: &str, value: ValueName) -> Result<Self, Cow<'static, str>> {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_auto_escape_callback(|_| AutoEscape::None);
        engine.set_fuel(Some(FUEL));
        engine.set_debug(true);
        let explain = |error: &minijinja::Error| match error.detail() {
            Some(detail) => format!(
                "is no template that can be used: {detail}; there are account, appid, {value}, expire_time, obtained_time \
                 and expires_in"
            ),
            None => format!("is no template that can be used: {}", error.kind()),
        };
        engine
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| explain(&error))?;
        let template = Self {
            text: text.into(),
            value,
            engine: Arc::new(engine),
        };
        template
            .run("sample", "wx0123456789abcdef", "sample", 7200, 0)
            .map_err(|error| explain(&error))?;
        Ok(template)
    }

    /// Tells whether its text changes with the value.
    pub fn names_more_than_account(&self) -> bool {
        let names = self
            .engine
            .get_template(NAME)
            .map(|template| template.undeclared_variables(false));
        names.is_ok_and(|names| {
            names
                .iter()
                .any(|name| !matches!(name.as_str(), "account" | "appid"))
        })
    }

    fn run(
        &self,
        account: &str,
        appid: &str,
        token: &str,
        expire_time: i64,
        obtained_time: i64,
    ) -> Result<String, minijinja::Error> {
        let context = BTreeMap::from([
            ("account", Value::from(account)),
            ("appid", Value::from(appid)),
            (self.value.as_str(), Value::from(token)),
            ("expire_time", Value::from(expire_time)),
            ("obtained_time", Value::from(obtained_time)),
            ("expires_in", Value::from((expire_time - unix_now()).max(0))),
        ]);
        self.engine.get_template(NAME)?.render(Value::from(context))
    }

    pub(super) fn render(&self, wish: &TargetWish) -> Result<Zeroizing<String>, String> {
        let holding = wish.holding.as_ref();
        let rendered = self.run(
            wish.account.as_str(),
            &wish.appid,
            holding.map_or("", |holding| holding.token.expose()),
            holding.map_or(0, |holding| holding.expire_time),
            holding.map_or(0, |holding| holding.obtained_time),
        );
        // What else the engine has to say may quote the value.
        rendered
            .map(Zeroizing::new)
            .map_err(|error| error.kind().to_string())
    }
}

impl PartialEq for KeyTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.value == other.value
    }
}

impl std::fmt::Debug for KeyTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeyTemplate").field(&self.text).finish()
    }
}
