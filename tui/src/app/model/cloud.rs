//! Clouds, and the machines that are made there to become hosts.

/// A cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cloud {
    /// Resource name.
    pub name: String,
    /// `EC2`.
    pub kind: String,
    /// Region.
    pub region: String,
    /// Where it is asked.
    pub endpoint: String,
    /// Name of the file with its credentials on each replica; never what is in it.
    pub credentials: String,
    /// Machines of it and how many it may be given.
    pub machines: (u64, u64),
    /// Who may log in to its machines, and who may reach nodes there.
    pub lets_in: Vec<String>,
    /// Account and folder on its machines.
    pub login: String,
    /// When it was added.
    pub at: i64,
    /// What is there and no machine is, one line each.
    pub orphans: Vec<String>,
}

/// A machine of a cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Resource name.
    pub name: String,
    /// Its cloud.
    pub cloud: String,
    /// `READY`, `STARTING`, ...
    pub state: String,
    /// What it waits for or what is wrong.
    pub reason: String,
    /// In this state since when.
    pub since: i64,
    /// Size, by the cloud's name.
    pub machine_type: String,
    /// Image, by the cloud's name.
    pub image: String,
    /// Zone and subnet, empty for any.
    pub place: String,
    /// The cloud's name of it, empty before it has one.
    pub instance: String,
    /// Where it is reached, empty before it answered.
    pub address: String,
    /// The key that it must show, empty before that is known.
    pub fingerprint: String,
    /// What the cloud knows it by.
    pub token: String,
    /// The disk that its nodes live on, in words; empty if it is the root disk.
    pub data_disk: String,
    /// Nodes that fit.
    pub slots: u64,
}
