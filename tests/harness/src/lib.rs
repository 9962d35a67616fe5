//! A cluster in network namespaces of one machine, and container images from local files.
//!
//! `cargo xtask up` and the end-to-end tests share it. It starts programs and reads what they say; it contains none of
//! the cluster's own logic.
//!
//! Where to look: [`layout`] says which names, addresses and folders there are, [`fabric`] makes the network,
//! [`machine`] makes a node's namespaces, [`process`] starts and ends programs, [`image`] writes OCI archives,
//! [`control`] starts control planes, [`etcd`] and [`address`] what several of them share, [`cluster`] puts all together, [`teardown`] removes every trace.

pub mod address;
pub mod cgroups;
pub mod cluster;
pub mod command;
pub mod containerd;
pub mod control;
pub mod etcd;
pub mod fabric;
pub mod image;
pub mod kubectl;
pub mod layout;
pub mod machine;
pub mod process;
pub mod teardown;
