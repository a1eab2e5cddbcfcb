//! What a process is: a node, a coordinator, or both in one.

/// the role that a command gives its process
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// node and coordinator in one process, with the state in memory
    Standalone,
    Node,
    Coordinator,
}

impl Role {
    pub fn is_node(self) -> bool {
        matches!(self, Role::Standalone | Role::Node)
    }

    pub fn is_coordinator(self) -> bool {
        matches!(self, Role::Standalone | Role::Coordinator)
    }

    pub fn name(self) -> &'static str {
        match self {
            Role::Standalone => "standalone",
            Role::Node => "node",
            Role::Coordinator => "coordinator",
        }
    }
}
