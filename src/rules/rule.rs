// SPDX-License-Identifier: GPL-2.0-only
//! One rule, one application and all of a file, as they are matched and printed.

use super::glob::Glob;
use super::path::CgroupPath;
use anyhow::{Result, bail};
use flexnet::abi::Class;
use std::ffi::CString;
use std::fmt::{self, Display};

/// A user as the operator names one, and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As it was written.
    pub text: String,
    /// In the initial user namespace.
    pub uid: u32,
}

impl User {
    /// By name or by number.
    ///
    /// # Errors
    /// There is no such user.
    pub fn find(text: &str) -> Result<Self> {
        let text = text.to_owned();
        if let Ok(uid) = text.parse() {
            return Ok(Self { text, uid });
        }
        let name = CString::new(text.as_str())?;
        // SAFETY: a zero-terminated name; no other thread asks for users.
        let entry = unsafe { libc::getpwnam(name.as_ptr()) };
        if entry.is_null() {
            bail!("there is no user {text:?}");
        }
        // SAFETY: not null, and valid until the next call.
        let uid = unsafe { (*entry).pw_uid };
        Ok(Self { text, uid })
    }
}

/// One `[[rule]]`: tasks that fit in all it names are of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands in the file.
    pub line: usize,
    /// Of the task, or one above it.
    pub cgroup: Option<CgroupPath>,
    /// The task's name (comm).
    pub command: Option<Glob>,
    /// Its effective user.
    pub user: Option<User>,
    /// Normal, latency or batch.
    pub class: Class,
}

/// One `[[application]]`: what clients that fit in all it names are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Where it stands in the file.
    pub line: usize,
    /// What the client calls itself.
    pub name: Option<Glob>,
    /// Its process's name.
    pub command: Option<Glob>,
    /// Its process's user.
    pub user: Option<User>,
    /// Of its process, or one above it.
    pub cgroup: Option<CgroupPath>,
    /// Cores that are its own, and where that is said.
    pub guarantee: Option<(u32, (usize, usize))>,
    /// Most granted cores at once.
    pub max_cores: Option<u32>,
    /// Its share of granted cores, 1..10000.
    pub weight: Option<u32>,
}

/// All of a file, in its order: the first that fits counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Of tasks.
    pub rules: Vec<Rule>,
    /// Of clients.
    pub applications: Vec<Application>,
}

impl Rules {
    /// What the operator says of a client.
    pub fn application(
        &self,
        name: &str,
        command: &str,
        uid: u32,
        cgroup: &str,
    ) -> Option<&Application> {
        let fits = |glob: &Option<Glob>, text| glob.as_ref().is_none_or(|glob| glob.matches(text));
        self.applications.iter().find(|application| {
            let (user, path) = (application.user.as_ref(), application.cgroup.as_ref());
            fits(&application.name, name)
                && fits(&application.command, command)
                && user.is_none_or(|user| user.uid == uid)
                && path.is_none_or(|path| path.holds(cgroup))
        })
    }
}

/// The name of a class in files.
pub fn class_name(class: Class) -> &'static str {
    match class {
        Class::Latency => "latency",
        Class::Batch => "batch",
        Class::Normal | Class::Executor => "normal",
    }
}

/// Writes one line of a table, if there is something to write.
fn line(out: &mut fmt::Formatter<'_>, key: &str, value: Option<impl Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| writeln!(out, "{key} = {value}"))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cgroup = self.cgroup.as_ref().map(|path| quoted(path.text()));
        line(out, "cgroup", cgroup)?;
        let command = self.command.as_ref().map(|glob| quoted(glob.text()));
        line(out, "command", command)?;
        line(
            out,
            "user",
            self.user.as_ref().map(|user| quoted(&user.text)),
        )?;
        line(out, "class", Some(quoted(class_name(self.class))))
    }
}

impl Display for Application {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_ref().map(|glob| quoted(glob.text()));
        line(out, "name", name)?;
        let command = self.command.as_ref().map(|glob| quoted(glob.text()));
        line(out, "command", command)?;
        line(
            out,
            "user",
            self.user.as_ref().map(|user| quoted(&user.text)),
        )?;
        let cgroup = self.cgroup.as_ref().map(|path| quoted(path.text()));
        line(out, "cgroup", cgroup)?;
        line(out, "guarantee", self.guarantee.map(|(cores, _)| cores))?;
        line(out, "max-cores", self.max_cores)?;
        line(out, "weight", self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_or_numbers() {
        assert_eq!(User::find("root").unwrap().uid, 0);
        assert_eq!(User::find("4711").unwrap().uid, 4711);
        let error = User::find("no-such-user").unwrap_err();
        assert!(error.to_string().contains("no user \"no-such-user\""));
    }

    #[test]
    fn the_first_application_that_fits_counts() {
        let application =
            |name: Option<&str>, command: Option<&str>, user: Option<&str>, weight| {
                let glob = |text: &str| Glob::new(text, 15).unwrap();
                Application {
                    line: 0,
                    name: name.map(glob),
                    command: command.map(glob),
                    user: user.map(|user| User::find(user).unwrap()),
                    cgroup: None,
                    guarantee: None,
                    max_cores: None,
                    weight: Some(weight),
                }
            };
        let mut rules = Rules {
            rules: vec![],
            applications: vec![
                application(Some("kv*"), None, Some("7"), 1),
                application(None, Some("redis"), None, 2),
                application(Some("kv1"), None, None, 3),
            ],
        };
        let weight = |rules: &Rules, name, command, uid| {
            let found = rules.application(name, command, uid, "/a/b");
            found.and_then(|application| application.weight)
        };
        assert_eq!(weight(&rules, "kv1", "redis", 7), Some(1));
        assert_eq!(weight(&rules, "kv1", "redis", 8), Some(2));
        assert_eq!(weight(&rules, "kv1", "sh", 8), Some(3));
        assert_eq!(weight(&rules, "kv2", "sh", 8), None);
        for (path, found) in [("/b", None), ("/a", Some(2)), ("/", Some(2))] {
            rules.applications[1].cgroup = Some(CgroupPath::new(path).unwrap());
            assert_eq!(weight(&rules, "x", "redis", 8), found, "{path}");
        }
    }
}
