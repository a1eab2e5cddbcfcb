//! Where each value of the configuration was written, so that a mistake names its file and line, or its variable.

use picket_shared::policy::Mistake;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::yaml::{Lines, below};

/// who wrote what
#[derive(Clone, Debug, Default)]
pub struct Origins {
    file: Option<(PathBuf, Lines)>,
    /// the variable that sets a field, by the field's path
    variables: BTreeMap<String, String>,
}

/// where a mistake stands, in the order in which they are listed
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    File { path: PathBuf, line: Option<usize> },
    Variable(String),
    Default,
}

/// a mistake with its place
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Located {
    pub place: Place,
    pub mistake: Mistake,
}

impl Origins {
    pub fn with_file(mut self, path: PathBuf, lines: Lines) -> Self {
        self.file = Some((path, lines));
        self
    }

    /// `variable` sets the field at `path`, and everything that its value holds
    pub fn add_variable(&mut self, path: &str, value: &Value, variable: &str) {
        self.variables.insert(path.to_owned(), variable.to_owned());
        if let Value::Object(fields) = value {
            for (key, value) in fields {
                self.add_variable(&below(path, key), value, variable);
            }
        }
    }

    pub fn variable(&self, path: &str) -> Option<&str> {
        self.variables.get(path).map(String::as_str)
    }

    /// whether somebody wrote this field, so that it is not a default
    pub fn names(&self, path: &str) -> bool {
        self.exact(path).is_some()
    }

    /// gives a mistake the place of its field, or of the nearest one around it
    pub fn locate(&self, mistake: Mistake) -> Located {
        let place = around(&mistake.path).find_map(|path| self.exact(path)).unwrap_or(Place::Default);
        Located { place, mistake }
    }

    fn exact(&self, path: &str) -> Option<Place> {
        if let Some(variable) = self.variables.get(path) {
            return Some(Place::Variable(variable.clone()));
        }
        let (file, lines) = self.file.as_ref()?;
        lines.get(path).map(|line| Place::File { path: file.clone(), line: Some(*line) })
    }
}

/// a path, then each path around it, innermost first
pub fn around(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rfind(['.', '[']).map(|end| &path[..end]))
}

/// whether `path` is `outer` or lies in it
pub fn lies_in(path: &str, outer: &str) -> bool {
    outer.is_empty() || path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Place::File { path, line: None } => write!(f, "{}", path.display()),
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::Default => f.write_str("default"),
        }
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Located { place, mistake } = self;
        if mistake.path.is_empty() {
            write!(f, "{place}: {}", mistake.message)
        } else {
            write!(f, "{place}: {mistake}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_stands_where_its_field_or_the_nearest_one_around_it_was_written() {
        let lines = [("node".into(), 3), ("node.routes".into(), 5), ("node.routes[0]".into(), 6)].into();
        let mut origins = Origins::default().with_file("picket.yaml".into(), lines);
        origins.add_variable("node.listen", &"x".into(), "PICKET_NODE__LISTEN");
        let said = |path: &str| origins.locate(Mistake::new(path, "is wrong")).to_string();
        assert_eq!(said("node.routes[0].upstream"), "picket.yaml:6: node.routes[0].upstream: is wrong");
        assert_eq!(said("node.opsListen"), "picket.yaml:3: node.opsListen: is wrong");
        assert_eq!(said("node.listen"), "environment variable PICKET_NODE__LISTEN: node.listen: is wrong");
        assert_eq!(said("coordinator.admin"), "default: coordinator.admin: is wrong");
        assert!(origins.names("node.listen") && !origins.names("node.opsListen"));
    }

    #[test]
    fn only_whole_names_lie_in_a_path() {
        assert!(lies_in("node.routes[0].path", "node.routes") && lies_in("node", "") && lies_in("node", "node"));
        assert!(!lies_in("node.routesX", "node.routes") && !lies_in("node", "node.routes"));
    }
}
