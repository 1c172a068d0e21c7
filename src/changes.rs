//! The result of a reload.

use crate::fault::Fault;

/// The accounts of a reload, by what happened to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Changes {
    /// Accounts that are new.
    pub added: Vec<String>,
    /// Accounts whose configuration differs; they keep their values.
    pub changed: Vec<String>,
    /// Accounts that are gone, with their outputs.
    pub removed: Vec<String>,
    /// Accounts that noticed nothing.
    pub unchanged: Vec<String>,
    /// Sections besides the accounts that differ, such as `platform`.
    #[serde(skip)]
    pub sections: Vec<String>,
    /// Things in the configuration that look like mistakes.
    #[serde(skip)]
    pub warnings: Vec<Fault>,
}

/// The result of a reload: its changes, or every fault that kept the old configuration running.
pub type Reloaded = Result<Changes, Vec<Fault>>;
